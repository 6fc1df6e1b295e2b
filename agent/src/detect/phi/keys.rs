//! What a key says: the class that its name stands for, whose data it begins, its part in FHIR's data types, and whether
//! it may be shown.
//!
//! A key is taken apart at capitals, `_`, `-`, `.` and spaces; the longest tail that is a known name counts, so that
//! `patientEmailAddress` and `billing_zip` are found. What was told once is remembered, up to a bound.

use std::sync::Arc;

use hashbrown::HashMap;

use super::class::DETECTORS;
use super::fhir::Element;
use crate::call::Vocabulary;

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
            b"name" | b"key" | b"path" | b"field" | b"fieldName" | b"field_name" | b"label"
            | b"attribute" | b"property" | b"parameter" | b"param" | b"column" | b"variable" | b"Name"
            | b"Key" | b"question" => Role::Label,
            b"value" | b"Value" | b"val" | b"rawValue" | b"raw_value" | b"stringValue" | b"string_value"
            | b"valueString" | b"answer" | b"#text" | b"$t" | b"@value" | b"S" | b"N" => Role::Value,
            b"number" | b"Number" | b"date" | b"Date" => Role::Kind,
            b"columns" | b"Columns" | b"cols" | b"columnNames" | b"column_names" | b"headers" | b"header"
            | b"fields" | b"fieldNames" | b"field_names" | b"rowType" => Role::Columns,
            _ => match words.last() {
                Some(last) if ENCODED.contains(&last.as_str()) => Role::Encoded,
                _ => Role::Other,
            },
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Key {
    /// 0: a name that is not shown. Otherwise it stands for the name.
    pub id: u32,
    pub class: Option<(ClassId, Says)>,
    pub owner: Owner,
    pub element: Element,
    /// Classes whose context words are in the name.
    pub context: u64,
    /// What it is beside others.
    pub role: Role,
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
    context: HashMap<Box<str>, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Anywhere,
    Alone,
    Beside,
}

/// Words for people before a name, or above it.
const PATIENT: &[&str] = &[
    "patient",
    "patients",
    "subject",
    "beneficiary",
    "subscriber",
    "insured",
    "member",
    "guarantor",
    "guardian",
    "nextofkin",
    "kin",
    "mother",
    "father",
    "spouse",
    "child",
    "relative",
    "patienten",
    "holder",
    "policyholder",
    "applicant",
    "resident",
    "newborn",
    "decedent",
    "dependent",
    "claimant",
];
const PERSON: &[&str] = &[
    "practitioner",
    "provider",
    "physician",
    "doctor",
    "nurse",
    "clinician",
    "prescriber",
    "staff",
    "employee",
    "user",
    "author",
    "surgeon",
    "attending",
    "referring",
    "performer",
    "operator",
    "admin",
    "manager",
    "owner",
    "assignee",
    "reporter",
    "driver",
    "technician",
    "pharmacist",
    "sender",
    "recipient",
    "customer",
    "contact",
    "person",
    "people",
    "client",
    "student",
    "cardholder",
    "account",
    "buyer",
    "guest",
    "profile",
    "participant",
    "emergency",
    "primary",
    "contributor",
    "maintainer",
    "committer",
    "editor",
    "creator",
    "reviewer",
    "approver",
    "agent",
    "seller",
    "passenger",
    "artist",
];
const ORGANIZATION: &[&str] = &[
    "organization",
    "organisation",
    "company",
    "hospital",
    "clinic",
    "pharmacy",
    "facility",
    "vendor",
    "insurer",
    "payer",
    "payor",
    "merchant",
    "publisher",
    "department",
    "laboratory",
    "lab",
    "branch",
    "store",
    "location",
    "employer",
    "manufacturer",
    "supplier",
    "ward",
    "site",
    "institution",
    "practice",
    "bank",
];
/// Words that qualify a name without changing what it is.
const QUALIFIERS: &[&str] = &[
    "home",
    "work",
    "billing",
    "shipping",
    "primary",
    "secondary",
    "current",
    "previous",
    "new",
    "old",
    "permanent",
    "legal",
    "full",
    "residential",
    "mailing",
    "temp",
    "temporary",
    "main",
    "alternate",
    "my",
    "your",
    "the",
    "raw",
];
/// Words of keys whose numbers are nobody's.
const TECHNICAL: &[&str] = &[
    "version",
    "timestamp",
    "time",
    "hash",
    "checksum",
    "digest",
    "sha",
    "sha256",
    "md5",
    "etag",
    "trace",
    "span",
    "request",
    "correlation",
    "size",
    "bytes",
    "count",
    "total",
    "amount",
    "price",
    "offset",
    "length",
    "build",
    "oid",
    "uuid",
    "guid",
    "commit",
    "revision",
    "sku",
    "isbn",
    "ean",
    "upc",
    "seq",
    "sequence",
    "duration",
    "latitude",
    "longitude",
    "lat",
    "lng",
    "lon",
    "nonce",
    "signature",
    "fullurl",
    "schema",
    "format",
    "pattern",
    "regex",
];
/// Words that may stand behind a name.
const TAILS: &[&str] = &[
    "number", "numbers", "no", "num", "nr", "value", "text", "str", "id", "code", "field", "input", "raw",
];

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
            let name: String = words(name.as_bytes()).concat();
            exact.insert(name.into(), (*id, How::Anywhere));
        }
        Names { exact, context }
    }

    fn tell(&self, raw: &[u8], literal: impl Fn(&str) -> bool) -> (Key, bool) {
        let mut key = Key {
            element: Element::of(raw),
            ..Key::default()
        };
        if raw.len() > KEY_BYTES_MAX {
            return (key, false);
        }
        let words = words(raw);
        key.role = Role::of(raw, &words);
        if words.is_empty() {
            return (key, false);
        }
        // `doctorname`, `emergencycontactphone`: words for people written together with what is theirs.
        let apart = match words.as_slice() {
            [one] if self.find(&words).is_none() => apart(one),
            _ => words.clone(),
        };
        let found = self.find(&apart).or_else(|| {
            let mut less = apart.clone();
            while let [.., _, last] = less.as_slice()
                && (TAILS.contains(&last.as_str()) || last.bytes().all(|byte| byte.is_ascii_digit()))
            {
                less.pop();
            }
            if let Some(last) = less.last_mut() {
                last.truncate(last.trim_end_matches(|c: char| c.is_ascii_digit()).len());
            }
            (less != apart).then(|| self.find(&less)).flatten()
        });
        let (found, before) =
            found.map_or((None, apart.len()), |(id, says, first)| (Some((id, says)), first));
        key.class = found;
        key.technical = found.is_none() && words.iter().any(|word| TECHNICAL.contains(&&**word));
        for (at, word) in apart.iter().enumerate() {
            key.context |= self.context.get(word.as_str()).copied().unwrap_or_default();
            let one = word.strip_suffix('s').unwrap_or(word);
            let of = |people: &[&str]| people.contains(&&**word) || people.contains(&one);
            let owner = if of(PATIENT) {
                Owner::Patient
            } else if of(PERSON) {
                Owner::Person
            } else if at < before && ORGANIZATION.contains(&&**word) {
                // Not where it is part of the name itself: a bank account is a person's.
                Owner::Organization
            } else {
                continue;
            };
            if key.owner == Owner::Unknown {
                key.owner = owner;
            }
        }
        let text = std::str::from_utf8(raw).unwrap_or_default();
        let shown = key.element != Element::Other
            || found.is_some()
            || super::segments::dicom(raw).is_some()
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
                PATIENT.contains(&word) || PERSON.contains(&word) || QUALIFIERS.contains(&word)
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

    /// What a name says; remembered.
    pub fn get(&mut self, raw: &[u8], literals: &hashbrown::HashSet<String>) -> Key {
        if let Some(key) = self.known.get(raw) {
            return *key;
        }
        let (mut key, shown) = self.names.tell(raw, |text| literals.contains(text));
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

/// `emergencycontactname` → `emergency`, `contact`, `name`: words for people at the beginning come off.
fn apart(word: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = word;
    while let Some((first, after)) = [PATIENT, PERSON, QUALIFIERS]
        .into_iter()
        .flatten()
        .chain(&["insurance"])
        .filter(|known| known.len() >= 4)
        .filter_map(|known| Some((*known, rest.strip_prefix(*known)?)))
        .filter(|(_, after)| after.len() > 1)
        .max_by_key(|(known, _)| known.len())
    {
        parts.push(first.to_owned());
        rest = after;
    }
    parts.push(rest.to_owned());
    parts
}

/// `patientEmail_Address2` → `patient`, `email`, `address`, `2`.
pub(super) fn words(raw: &[u8]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = 0u8;
    for (at, &byte) in raw.iter().enumerate() {
        let after = raw.get(at + 1).copied().unwrap_or(0);
        let begins = match byte {
            b'A'..=b'Z' => !before.is_ascii_uppercase() || after.is_ascii_lowercase(),
            b'0'..=b'9' => !before.is_ascii_digit() && !before.is_ascii_alphabetic(),
            b'a'..=b'z' | 0x80.. => !before.is_ascii_alphanumeric() && before < 0x80,
            _ => {
                before = byte;
                continue;
            }
        };
        if begins || words.is_empty() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut()
            && byte.is_ascii()
        {
            word.push(char::from(byte.to_ascii_lowercase()));
        }
        before = byte;
    }
    words.retain(|word| !word.is_empty());
    words
}
