//! What a key says: the class that its name stands for, whose data it begins, its part in FHIR's data types, and whether
//! it may be shown.
//!
//! A key is taken apart at capitals, `_`, `-`, `.` and spaces; the longest tail that is a known name counts, so that
//! `patientEmailAddress` and `billing_zip` are found. What was told once is remembered, up to a bound.

use std::sync::Arc;

use hashbrown::HashMap;

use super::class::{Class, DETECTORS, Detector, Group};
use super::fhir::Element;
use crate::call::Vocabulary;

mod lists;
mod shown;
mod turned;
mod words;

use lists::{
    COMPANIES, DEFINED, GIVERS, HEALTH_TAILS, INSTITUTIONS, MACHINES, MARKS, NAMED, NAMED_BESIDE,
    OF_COMPANIES, ORGANIZATION, PATIENT, PERSON, PLACES, PREFIXES, QUALIFIERS, SEVERAL, SURE, TAILS,
    TECHNICAL, THINGS, VAGUE,
};
use turned::{by_stem, turned};
use words::{Ends, SHORT, long, of_other_script};
pub(super) use words::{fold, words};

/// Keys that are remembered; beyond, all are forgotten at once.
const KEYS_LEN_MAX: usize = 4096;
/// A longer key is no name that anybody gave.
const KEY_BYTES_MAX: usize = 64;

/// Index of a class: a detector's place, or behind them a class of the configuration.
pub(super) type ClassId = u8;

/// How much a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// Enough by itself.
    It,
    /// Only beside other personal data, or below a word for people.
    Beside,
}

/// Whose data it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Owner {
    #[default]
    Unknown,
    Patient,
    /// Somebody who is not the patient.
    Person,
    /// An organization: its name and address are nobody's.
    Organization,
    /// A definition, an example, a terminology: no data at all.
    Definition,
}

/// What a key is among those of an object that says of something what it is: `{"name": "ssn", "value": "…"}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    #[default]
    Other,
    /// Its value is a name.
    Label,
    /// Its value belongs to a name beside it, or to the object's own.
    Value,
    /// It only says of what kind the object's value is.
    Kind,
    /// Its value may be a content in base64.
    Encoded,
    /// Its values are the names of a table's columns.
    Columns,
    /// Its value is a name, if that is one of a number of somebody: `{"type": "MRN", "value": …}`.
    Type,
    /// Its value belongs to a type beside it: `{"type": "MRN", "id": …}`.
    Number,
}

impl Role {
    fn of(name: &[u8], words: &[String]) -> Role {
        const ENCODED: &[&str] = &[
            "data",
            "content",
            "contents",
            "attachment",
            "file",
            "document",
            "body",
            "payload",
            "base64",
            "bytes",
            "blob",
            "message",
        ];
        match name {
            b"name" | b"key" | b"path" | b"field" | b"fieldName" | b"field_name" | b"label" | b"tabLabel"
            | b"fieldLabel" | b"prompt" | b"attribute" | b"property" | b"parameter" | b"param"
            | b"column" | b"variable" | b"Name" | b"Key" | b"question" => Role::Label,
            b"value" | b"Value" | b"val" | b"rawValue" | b"raw_value" | b"stringValue" | b"string_value"
            | b"valueString" | b"fieldValue" | b"field_value" | b"answer" | b"AttributeValue" | b"#text"
            | b"$t" | b"@value" | b"S" | b"N" => Role::Value,
            b"type" | b"Type" | b"kind" | b"__typename" => Role::Type,
            b"id" | b"ID" | b"Id" | b"identifier" | b"Identifier" | b"alias" | b"Alias" => Role::Number,
            b"number" | b"Number" | b"date" | b"Date" | b"formatted" | b"year" => Role::Kind,
            b"columns" | b"Columns" | b"cols" | b"columnNames" | b"column_names" | b"headers" | b"header"
            | b"fields" | b"fieldNames" | b"field_names" | b"rowType" => Role::Columns,
            _ => match words {
                // `aliasType`, `identityDocumentType`, `IDENTIFIER_TYPE_CODE`: of what names somebody.
                [.., what, kind, code]
                    if NUMBERED.contains(&what.as_str()) && kind == "type" && code == "code" =>
                {
                    Role::Type
                }
                [.., what, last] if NUMBERED.contains(&what.as_str()) => match last.as_str() {
                    "type" => Role::Type,
                    "value" | "number" | "no" => Role::Number,
                    _ => Role::Other,
                },
                [.., last] if ENCODED.contains(&last.as_str()) => Role::Encoded,
                _ => Role::Other,
            },
        }
    }
}

/// What has a type and a value, and is somebody's.
const NUMBERED: &[&str] = &["id", "identifier", "identification", "alias", "document", "doc"];

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Key {
    /// 0: a name that is not shown. Otherwise it stands for the name.
    pub id: u32,
    pub class: Option<(ClassId, Says)>,
    pub owner: Owner,
    /// The word for its owner is one that things have, too: a subject, a child, a member.
    pub vague: bool,
    /// It is `patient` alone: what is in it is one.
    pub patient: bool,
    /// It is of identifiers, whatever they are: `patientIdentifiers`, `aliases`.
    pub ids: bool,
    pub element: Element,
    /// Companies have it, and people do not.
    pub of_company: bool,
    /// A name behind a word for those who may be no people.
    pub whole: bool,
    /// It ends in a word for people: a text there that looks like one is somebody's name.
    pub names: Option<Says>,
    /// Classes whose context words are in the name.
    pub context: u64,
    /// What it is beside others.
    pub role: Role,
    /// It ends in a word for things that are called as people are: albums, streets, products.
    pub of_thing: bool,
    /// It names something that only looks like a number of somebody: versions, times, digests.
    pub technical: bool,
}

/// Names → what they say.
pub(super) struct Keys {
    names: Arc<Names>,
    known: HashMap<Box<[u8]>, Key>,
    next: u32,
}

/// The tables, built once.
pub(super) struct Names {
    exact: HashMap<Box<str>, (ClassId, How)>,
    ends: Ends,
    context: HashMap<Box<str>, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Anywhere,
    Alone,
    Beside,
}

/// Names that are told at the end of a word that is written together have so many letters.
const TOGETHER_MIN: usize = 9;

/// What every message of SOAP is in.
const ENVELOPE: [&[u8]; 4] = [b"Envelope", b"Header", b"Body", b"Fault"];

impl Names {
    /// `own`: names of the configuration, which win.
    pub fn new(own: &[(String, ClassId)]) -> Names {
        let mut exact: HashMap<Box<str>, (ClassId, How)> = HashMap::new();
        let mut context: HashMap<Box<str>, u64> = HashMap::new();
        for (id, detector) in DETECTORS.iter().enumerate() {
            let id = id as ClassId;
            let lists = [
                (detector.keys, How::Anywhere),
                (detector.keys_alone, How::Alone),
                (detector.keys_beside, How::Beside),
            ];
            for (names, how) in lists {
                for name in names {
                    exact.entry((*name).into()).or_insert((id, how));
                }
            }
            for word in detector.words {
                *context.entry((*word).into()).or_default() |= 1 << id;
            }
        }
        for (name, id) in own {
            let latin = || words(name.as_bytes()).concat();
            let name = of_other_script(name.as_bytes()).unwrap_or_else(latin);
            exact.insert(name.into(), (*id, How::Anywhere));
        }
        let mut ends = Ends::default();
        exact.keys().for_each(|name| ends.add(name.as_bytes()));
        let tails = TAILS.iter().chain(HEALTH_TAILS);
        tails.for_each(|tail| ends.add(tail.as_bytes()));
        SHORT.iter().for_each(|(short, _)| ends.add(short.as_bytes()));
        Names { exact, ends, context }
    }

    /// A value that is a name of its own class: a label where a form's value would be, `{"firstName": "First name"}`.
    fn is_label(&self, value: &[u8], class: ClassId) -> bool {
        let mut buffer = [0; KEY_BYTES_MAX];
        let folded = words::fold(value);
        let mut length = 0;
        for byte in folded.trim_ascii().iter() {
            match byte {
                // `First name…`, `First name (optional)`, `First name: required`.
                b':' | b'*' | b'(' | b'.' | 0x80.. if length > 0 => break,
                b' ' | b'-' | b'_' | b':' | b'*' => {}
                _ if byte.is_ascii_alphabetic() && length < buffer.len() => {
                    buffer[length] = byte.to_ascii_lowercase();
                    length += 1;
                }
                _ => return false,
            }
        }
        let name = std::str::from_utf8(&buffer[..length]).unwrap_or_default();
        self.exact.get(name).is_some_and(|(id, _)| *id == class)
    }

    fn tell(&self, raw: &[u8], literal: &dyn Fn(&str) -> bool) -> (Key, bool) {
        let whole = raw;
        let raw = last_part(raw);
        let mut key = Key {
            element: Element::of(raw),
            ..Key::default()
        };
        if raw.len() > KEY_BYTES_MAX {
            return (key, false);
        }
        let words = words(raw);
        key.role = Role::of(raw, &words);
        key.of_thing = words.last().is_some_and(|last| is_one_of(last, THINGS));
        key.of_company = OF_COMPANIES.contains(&words.concat().as_str());
        if let Some((id, how)) = of_other_script(raw).and_then(|name| self.exact.get(name.as_str())) {
            key.class = Some((
                *id,
                if *how == How::Beside {
                    Says::Beside
                } else {
                    Says::It
                },
            ));
            return (key, true);
        }
        if words.is_empty() {
            return (key, false);
        }
        // `doctorname`, `emergencycontactphone`: words for people written together with what is theirs.
        let apart = match words.as_slice() {
            [one] if self.find(&words).is_none() => self.apart(one),
            _ => words.clone(),
        };
        let search = |words: &[String]| {
            self.find(words)
                .or_else(|| self.singular(words))
                .or_else(|| self.without_tail(words, &[]))
                .or_else(|| self.without_tail(words, HEALTH_TAILS))
        };
        let found = search(&apart);
        let together = self.together(&words).filter(|_| found.is_none());
        // What is written together with it: `custdob`.
        let glued = together.and_then(|(.., at)| words.first()?.get(..at));
        let found = found
            .or_else(|| together.map(|(id, says, _)| (id, says, 0)))
            .or_else(|| turned(&words))
            .or_else(|| {
                let (id, says, first) = search(&long(&apart)?)?;
                let sure = apart.iter().any(|word| is_one_of(word, SURE));
                Some((id, if sure { says } else { Says::Beside }, first))
            });
        let stemmed = by_stem(&words).filter(|_| found.is_none());
        let is_stemmed = stemmed.is_some();
        let found = found.or(stemmed);
        let parted = words.len() < apart.len();
        key.patient = matches!(words.as_slice(), [one] if one == "patient" || one == "patients");
        let (found, before) =
            found.map_or((None, apart.len()), |(id, says, first)| (Some((id, says)), first));
        let of_machine = apart[..before.min(apart.len())]
            .iter()
            .any(|word| is_one_of(word, MACHINES));
        let found = found.map(|(id, says)| match id == Class::Ip as ClassId && of_machine {
            true => (id, Says::Beside),
            false => (id, says),
        });
        // A procedure of a database, the cell of a network, a mark in a list, who gives a number out.
        let ahead = |list| {
            apart[..before.min(apart.len())]
                .iter()
                .any(|word| is_one_of(word, list))
        };
        let found = found.filter(
            |(id, _)| match DETECTORS.get(usize::from(*id)).map(|known| known.class) {
                Some(Class::Token) => !ahead(MARKS),
                Some(
                    Class::PatientId | Class::Mrn | Class::Passport | Class::HealthPlan | Class::Account,
                ) => !ahead(GIVERS),
                Some(Class::Procedure) => words.first().is_none_or(|first| first != "stored"),
                Some(Class::Phone) => words.last().is_none_or(|last| last != "id"),
                _ => true,
            },
        );
        // `ownerName`, `accountName`: of a tenant, a company, a ledger as well.
        let is_word_of = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
        let of_several = words.len() > 1 && is_word_of(SEVERAL) && !is_word_of(&["holder"]);
        key.whole = of_several && found.is_some_and(|(id, _)| id == Class::Name as ClassId);
        let found = found.map(|(id, says)| (id, if key.whole { Says::Beside } else { says }));
        key.class = found;
        key.ids = words
            .last()
            .is_some_and(|last| is_one_of(last, &["id", "identifier", "alias"]));
        key.names = match apart.last().filter(|_| found.is_none()).map(String::as_str) {
            Some(last) if NAMED.contains(&last) => Some(Says::It),
            Some("provider") if apart.iter().any(|word| COMPANIES.contains(&word.as_str())) => None,
            Some(last) if NAMED_BESIDE.contains(&last) => Some(Says::Beside),
            _ => None,
        };
        key.technical = found.is_none() && words.iter().any(|word| TECHNICAL.contains(&&**word));
        if found.is_none() && words.iter().any(|word| DEFINED.contains(&word.as_str())) {
            key.owner = Owner::Definition;
        }
        for (at, word) in apart.iter().enumerate() {
            key.context |= self.context.get(word.as_str()).copied().unwrap_or_default();
            let of = |list: &[&str]| is_one_of(word, list);
            let vague = of(VAGUE);
            // `children`: a word that begins so is another.
            if vague && parted && found.is_none() {
                continue;
            }
            // Somebody's number at a bank.
            if word == "bank" && found.is_some_and(|(id, _)| id == Class::Account as ClassId) {
                continue;
            }
            // An `accountName` is a ledger's, or a tenant's.
            if key.whole && word == "account" {
                continue;
            }
            let owner = if let Some(owner) = owner_of(word) {
                owner
            } else if at < before && is_organization(word) && word != "labs"
                || words.len() == 1 && found.is_none() && of(PLACES)
            {
                // Not where it is part of the name itself: a bank account is a person's; and labs are results.
                Owner::Organization
            } else {
                continue;
            };
            if key.owner == Owner::Unknown {
                (key.owner, key.vague) = (owner, vague);
            }
        }
        // `providerOrganization`: what is named last.
        if found.is_none()
            && words.len() > 1
            && apart.last().is_some_and(|word| is_one_of(word, INSTITUTIONS))
        {
            (key.owner, key.vague) = (Owner::Organization, false);
        }
        let text = std::str::from_utf8(whole).unwrap_or_default();
        // What stands before an openEHR name's last part may be anybody's.
        if raw.len() < whole.len() {
            return (key, Vocabulary::has(text));
        }
        let shown = key.element != Element::Other
            || found.is_some()
                && !is_stemmed
                && self.is_nobodys(raw, &apart[..before.min(apart.len())])
                && glued.is_none_or(|glued| glued.is_empty() || self.is_known(glued))
            || super::segments::dicom(raw).is_some()
            || super::segments::hl7_place(raw)
            || ENVELOPE.contains(&raw)
            || Vocabulary::has(text)
            || literal(text);
        (key, shown)
    }

    /// What the words say, and how many stand before those that say it.
    fn find(&self, words: &[String]) -> Option<(ClassId, Says, usize)> {
        for first in 0..words.len() {
            let Some((id, how)) = self.exact.get(words[first..].concat().as_str()) else {
                continue;
            };
            let before = &words[..first];
            let people = |word: &String| {
                let word = word.as_str();
                is_one_of(word, PATIENT) || is_one_of(word, PERSON) || QUALIFIERS.contains(&word)
            };
            match how {
                How::Anywhere => return Some((*id, Says::It, first)),
                // `name` alone is said of things as well.
                How::Beside if before.is_empty() => return Some((*id, Says::Beside, first)),
                How::Alone | How::Beside if before.iter().all(people) => return Some((*id, Says::It, first)),
                _ => {}
            }
        }
        None
    }

    /// `mrns`, `memberIds`: of what identifies. Lists of places, of machines and of what parsers make have names like it.
    fn singular(&self, words: &[String]) -> Option<(ClassId, Says, usize)> {
        let last = words.last()?.strip_suffix('s')?;
        let least = if words.len() > 1 { 2 } else { 3 };
        if last.len() < least {
            return None;
        }
        let mut one = words.to_vec();
        *one.last_mut()? = last.to_owned();
        let (id, says, first) = self.find(&one)?;
        let detector = DETECTORS.get(usize::from(id))?;
        let lists = match detector.class {
            Class::Address | Class::Ip | Class::Url => false,
            Class::BirthDate => true,
            // A table's are no telephones.
            Class::Phone => last != "cell",
            _ => detector.identifies && detector.group != Group::Credential,
        };
        (lists && says == Says::It).then_some((id, says, first))
    }

    fn without_tail(&self, words: &[String], tails: &[&str]) -> Option<(ClassId, Says, usize)> {
        let mut less = words.to_vec();
        let (mut url, mut description, mut list) = (false, false, false);
        let mut about = false;
        let mut of_health = false;
        while let [.., _, last] = less.as_slice()
            && (is_one_of(last, TAILS)
                || is_one_of(last, tails)
                || last.bytes().all(|byte| byte.is_ascii_digit()))
        {
            of_health |= is_one_of(last, tails) && !is_one_of(last, TAILS);
            about |= matches!(last.as_str(), "data" | "info");
            url |= matches!(last.as_str(), "url" | "uri" | "link" | "href");
            description |= matches!(last.as_str(), "description" | "desc");
            list |= last.ends_with('s');
            less.pop();
        }
        if let Some(last) = less.last_mut() {
            last.truncate(last.trim_end_matches(|c: char| c.is_ascii_digit()).len());
        }
        if less == words {
            return None;
        }
        let found = self.find(&less).or_else(|| self.singular(&less));
        found.filter(|(id, ..)| {
            let detector = DETECTORS.get(usize::from(*id));
            let is = |of: fn(&Detector) -> bool| detector.is_some_and(|detector| of(detector));
            // A link to something is not it, nor is what describes it, unless it is about health; a list of codes of places
            // is of places.
            let told_of = is(of_nobody_else);
            (!of_health || told_of)
                && (!about
                    || is(|detector| {
                        matches!(detector.class, Class::Name | Class::Diagnosis | Class::Passport)
                    }))
                && (!url || is(|detector| matches!(detector.class, Class::Photo | Class::Url)))
                && (!description || told_of)
                && (!list || !is(|detector| detector.class == Class::Address))
        })
    }

    /// `checkingaccountnumber`, `bsnnummer`: a known name with something before or behind it, without a sign between; and how
    /// many bytes stand before it that may be anything.
    fn together(&self, words: &[String]) -> Option<(ClassId, Says, usize)> {
        let [word] = words else {
            return None;
        };
        let known = |name: &str| match self.exact.get(name) {
            Some((id, How::Anywhere)) => Some((*id, Says::It, 0)),
            _ => None,
        };
        let behind = ["number", "nummer"]
            .into_iter()
            .find_map(|tail| known(word.strip_suffix(tail)?));
        // What a machine or an organization has is not a person's.
        let is_of = |at: &usize| {
            let before = word.get(..*at).unwrap_or_default();
            !is_organization(before) && !is_one_of(before, MACHINES)
        };
        // `custdob`, `ptmrn`.
        let short = PREFIXES.iter().find_map(|short| known(word.strip_prefix(short)?));
        let from = 1..(word.len() + 1).saturating_sub(TOGETHER_MIN);
        behind.or(short).or_else(|| {
            from.filter(is_of)
                .find_map(|at| known(word.get(at..)?).map(|(id, says, _)| (id, says, at)))
        })
    }

    /// `emergencycontactname` → `emergency`, `contact`, `name`: words for people at the beginning come off, the longest
    /// first, unless a shorter one leaves a known name: `patientssn` is `patient` and `ssn`.
    fn apart(&self, word: &str) -> Vec<String> {
        let mut parts = Vec::new();
        let mut rest = word;
        while let Some((first, after)) = [PATIENT, PERSON, QUALIFIERS]
            .into_iter()
            .flatten()
            .chain(&["insurance", "vehicle", "phone"])
            .filter(|known| known.len() >= 4)
            .filter_map(|known| Some((*known, rest.strip_prefix(*known)?)))
            .filter(|(_, after)| after.len() > 1)
            .max_by_key(|(known, after)| (self.exact.contains_key(*after), known.len()))
        {
            parts.push(first.to_owned());
            rest = after;
        }
        parts.push(rest.to_owned());
        parts
    }
}

/// Of somebody's health, or of the special categories of GDPR Article 9.
fn of_nobody_else(detector: &Detector) -> bool {
    detector.group == Group::Health
        || matches!(
            detector.class,
            Class::Ethnicity
                | Class::Religion
                | Class::PoliticalOpinion
                | Class::UnionMembership
                | Class::SexualOrientation
                | Class::Genetic
                | Class::Biometric
        )
}

/// openEHR's flat names are paths, with an attribute behind them: `demographics/patient:0/name|given`.
fn last_part(raw: &[u8]) -> &[u8] {
    match memchr::memrchr(b'/', raw) {
        Some(at) if raw.iter().any(|byte| b"|:".contains(byte)) => &raw[at + 1..],
        _ => raw,
    }
}

fn is_organization(word: &str) -> bool {
    is_one_of(word, INSTITUTIONS) || is_one_of(word, ORGANIZATION)
}

/// A word for people.
fn owner_of(word: &str) -> Option<Owner> {
    match () {
        () if is_one_of(word, PATIENT) => Some(Owner::Patient),
        () if is_one_of(word, PERSON) => Some(Owner::Person),
        () => None,
    }
}

/// It is in the list, or its plural is.
fn is_one_of(word: &str, list: &[&str]) -> bool {
    let is = |word: &str| list.contains(&word);
    is(word)
        || word.strip_suffix('s').is_some_and(is)
        || word.strip_suffix("es").is_some_and(is)
        || word
            .strip_suffix("ies")
            .is_some_and(|stem| list.iter().any(|known| known.strip_suffix('y') == Some(stem)))
}

impl Keys {
    pub fn new(names: Arc<Names>) -> Keys {
        Keys {
            names,
            known: HashMap::new(),
            next: 1,
        }
    }

    /// What was remembered may be shown no more, or now.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// A name may be known by its last letters. Most are not.
    pub fn may_end(&self, name: &[u8]) -> bool {
        self.names.ends.has(name)
    }

    /// What a name says that is no key; not remembered.
    pub fn class_of(&self, name: &[u8]) -> Option<(ClassId, Says)> {
        self.names.tell(name, &|_| false).0.class
    }

    /// A value that says what would stand in its place. It is not remembered.
    pub fn is_label(&self, value: &[u8], class: ClassId) -> bool {
        self.names.is_label(value, class)
    }

    /// What a name says; remembered.
    pub fn get(&mut self, raw: &[u8], literals: &hashbrown::HashSet<String>) -> Key {
        if let Some(key) = self.known.get(raw) {
            return *key;
        }
        let (mut key, shown) = self.names.tell(raw, &|text| literals.contains(text));
        if shown {
            key.id = self.next;
            self.next = self.next.wrapping_add(1).max(1);
        }
        if raw.len() <= KEY_BYTES_MAX {
            if self.known.len() >= KEYS_LEN_MAX {
                self.known.clear();
            }
            self.known.insert(raw.into(), key);
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_in_one_list() {
        for detector in DETECTORS {
            for name in detector.keys {
                let twice = detector.keys_alone.contains(name) || detector.keys_beside.contains(name);
                assert!(!twice, "{name} of {}", detector.name);
            }
        }
    }

    #[test]
    fn short_words_say_less_than_long_ones() {
        let names = Names::new(&[]);
        for (name, expected) in [
            ("mbr_id", Some(Says::It)),
            ("medicaid_no", Some(Says::It)),
            ("pat_id", Some(Says::Beside)),
            ("grp_num", Some(Says::Beside)),
            ("svc_dt", Some(Says::Beside)),
            ("ln", None),
            ("no_of_members", None),
        ] {
            let (key, _) = names.tell(name.as_bytes(), &|_| false);
            assert_eq!(key.class.map(|(_, says)| says), expected, "{name}");
        }
    }
}
