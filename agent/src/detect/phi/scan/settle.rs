//! What an object says as a whole, once it has ended: a code with its system, an identifier with its type, a reference
//! with its display, a name beside a date of birth.

use super::super::keys::words;
use super::super::text::{is_persons, is_surely_persons, names_somebody};
use super::place::has_extensions;
use super::*;

impl Walk {
    pub(super) fn settle(&mut self, at: usize) {
        let frame = &self.frames[at];
        if frame.owner == Owner::Definition {
            return;
        }
        let element = frame.key.element;
        let (ordinal, is_catalogue) = (frame.ordinal, is_catalogue(frame));
        let (system, value, code) = (frame.system, frame.value, frame.code);
        let referring = frame.reference.length + frame.display.length > 0;
        if value.length > 0 {
            match element {
                Element::Identifier => self.identifier(at),
                Element::Id if frame.element => self.settle_id(at),
                Element::Telecom => self.telecom(at),
                Element::Contact if frame.resource != Resource::None => self.telecom(at),
                _ => {}
            }
        }
        if code.length > 0 {
            self.coding(at, system, code);
        }
        if self.frames[at].written.length > 0 {
            self.written(at);
        }
        if referring {
            self.reference(at);
        }
        if is_catalogue {
            self.later(ordinal, Late::Place(Owner::Definition, true));
        }
        let is_pair = self.settle_pair(at);
        let is_named = self.names_person(at);
        self.settle_company(at, is_named);
        self.held(at, is_pair);
        let frame = &self.frames[at];
        let late = match frame.owner {
            Owner::Organization => None,
            _ if !(frame.is_person() || is_named) => None,
            Owner::Unknown => Some(Late::Beside),
            owner => Some(Late::Place(owner, true)),
        };
        while let Some((_, place)) = self.unplaced.pop_if(|(around, _)| *around >= at) {
            if let Some(late) = late {
                self.later(place, late);
            }
        }
    }

    /// For when the body is looked at again.
    pub(super) fn later(&mut self, ordinal: u32, late: Late) {
        if self.late.len() < LATE_LEN_MAX {
            self.late.push((ordinal, late));
        }
    }

    /// Whose it is was said by a word for it, and what is in it says something else: a company has an industry, and who is
    /// called by a first and a last name is none, whatever he is to the others.
    fn settle_company(&mut self, at: usize, is_named: bool) {
        let frame = &self.frames[at];
        let (ordinal, owner) = (frame.ordinal, frame.owner);
        if frame.resource != Resource::None
            || self
                .late_known
                .binary_search_by_key(&ordinal, |(known, _)| *known)
                .is_ok()
        {
            return;
        }
        if owner == Owner::Organization && frame.turned_down.count_ones() >= 2 {
            self.later(ordinal, Late::Place(Owner::Person, true));
            return;
        }
        let is_person = is_named || frame.has_somebody || frame.personal == Personal::Yes;
        if owner == Owner::Unknown && frame.is_company && !is_person {
            self.later(ordinal, Late::Place(Owner::Organization, true));
        }
    }

    /// What an organization does not have by its key.
    pub(super) fn turned_down(&mut self, class: ClassId, name: &[u8]) {
        let part = if class == Class::Name as ClassId {
            words(name)
                .iter()
                .fold(0, |parts, word| parts | part_of_name(word.as_bytes()))
        } else {
            0
        };
        if let Some(frame) = self.frames.last_mut() {
            frame.turned_down |= part;
        }
    }

    /// A whole name of somebody, by his given name, is in it.
    fn names_person(&self, at: usize) -> bool {
        let from = self.frames[at].held_from.min(self.held.len());
        self.held[from..].iter().any(|held| {
            let value = self.bytes(held.value);
            held.frame == at
                && held.class == Class::Name as ClassId
                && looks_like_person(value)
                && is_surely_persons(value)
        })
    }

    fn identifier(&mut self, at: usize) {
        let frame = &self.frames[at];
        let (owner, resource, typed) = (frame.owner, frame.resource, frame.typed);
        let (system, value) = (self.slot(frame.system), self.slot(frame.value));
        let known = typed.or_else(|| fhir::identifier_system(&system));
        let (class, confidence) = match (known, resource) {
            (Some(class), _) => (class, 98),
            (None, Resource::Patient) => (Class::Mrn, 80),
            (None, Resource::RelatedPerson) => (Class::PatientId, 70),
            (None, Resource::Coverage) => (Class::HealthPlan, 80),
            (None, Resource::Account) => (Class::Account, 80),
            (None, Resource::Device) => (Class::Device, 80),
            _ => return,
        };
        if super::super::checks::any(&value) {
            let key = self.value_key();
            self.hit(
                class as ClassId,
                owner,
                Evidence::Structure,
                confidence,
                b"value",
                key,
                &value,
            );
        }
    }

    fn telecom(&mut self, at: usize) {
        let frame = &self.frames[at];
        let owner = match frame.resource {
            Resource::Organization if !self.has_named_contact(at) => Owner::Organization,
            _ => frame.owner,
        };
        let (system, value) = (self.slot(frame.system), self.slot(frame.value));
        let class = match system.as_slice() {
            b"phone" | b"pager" | b"sms" => Class::Phone,
            b"fax" => Class::Fax,
            b"email" => Class::Email,
            b"url" => Class::Url,
            _ if value.contains(&b'@') => Class::Email,
            _ if value.iter().filter(|byte| byte.is_ascii_digit()).count() >= 7 => Class::Phone,
            _ => return,
        };
        if super::super::checks::any(&value) {
            let key = self.value_key();
            self.hit(
                class as ClassId,
                owner,
                Evidence::Structure,
                98,
                b"value",
                key,
                &value,
            );
        }
    }

    /// Of an organization: the contact that this is in has a person's name. Without one it is a desk.
    fn has_named_contact(&self, at: usize) -> bool {
        self.frames[..at]
            .iter()
            .rev()
            .find(|frame| !frame.array && frame.key.element == Element::Contact)
            .is_some_and(|contact| contact.personal > Personal::No)
    }

    /// `value` is one of FHIR's names: shown, and the same everywhere.
    fn value_key(&mut self) -> Key {
        self.keys.get(b"value", &self.shown)
    }

    fn coding(&mut self, at: usize, system: Slot, code: Slot) {
        let (system, code) = (self.slot(system), self.slot(code));
        let parent = self.holder_of(at);
        let around = parent.map_or(Element::Other, |parent| self.frames[parent].key.element);
        let frame = &self.frames[at];
        let (owner, resource) = (frame.owner, frame.resource);
        // The type of an identifier: `identifier.type.coding.code`.
        if around == Element::Type || frame.key.element == Element::Type {
            let identifier = parent.and_then(|parent| match self.frames[parent].key.element {
                Element::Identifier => Some(parent),
                _ => self.holder_of(parent),
            });
            if let Some(identifier) = identifier
                && self.frames[identifier].key.element == Element::Identifier
                && let Some(class) = fhir::identifier_type(&code)
            {
                self.frames[identifier].typed = Some(class);
            }
            return;
        }
        if let Some(class) = frame.extension.filter(|_| has_extensions(resource)) {
            let key = self.keys.get(b"code", &self.shown);
            self.hit(class, owner, Evidence::Structure, 95, b"code", key, &code);
            return;
        }
        // Categories, body sites, methods and their kin are of the same systems.
        let inner = frame.key.element;
        let wanted = |element| {
            matches!(
                element,
                Element::Code | Element::Clinical | Element::Done | Element::Reason
            )
        };
        let clinical = resource == Resource::None || wanted(around) || wanted(inner);
        // LOINC says of which kind a text is, too.
        let of_text = resource == Resource::None
            && at
                .checked_sub(1)
                .is_some_and(|parent| self.frames[parent].key.element == Element::Section);
        let about = owner == Owner::Patient || resource == Resource::None;
        if about
            && clinical
            && let Some(class) = fhir::code_system(&system, resource)
                .or_else(|| {
                    // What CDA observes is a problem, where its value is a concept.
                    let is_value = resource == Resource::None && inner == Element::Value;
                    let is_snomed = system.ends_with(b"2.16.840.1.113883.6.96");
                    let is_done = resource == Resource::None
                        && parent.is_some_and(|parent| self.frames[parent].named_as(Class::Procedure));
                    match is_snomed {
                        true if is_value => Some(Class::Diagnosis),
                        true if is_done && inner == Element::Code => Some(Class::Procedure),
                        _ => None,
                    }
                })
                .or_else(|| {
                    // Whatever the system is: a reason for having none is no data.
                    const REASONS: [&[u8]; 3] =
                        [b"data-absent-reason", b"NullFlavor", b"2.16.840.1.113883.5.1008"];
                    let says_why = REASONS
                        .iter()
                        .any(|reason| memchr::memmem::find(&system, reason).is_some());
                    let concept = fhir::concept(resource, around).or_else(|| fhir::concept(resource, inner));
                    concept.filter(|_| !says_why && !system.is_empty())
                })
            && !(of_text && class == Class::Observation)
        {
            let key = self.keys.get(b"code", &self.shown);
            // Why something is done is a problem, whatever is done.
            let within = |element| around == element || inner == element;
            let class = match class {
                _ if within(Element::Reason) => Class::Diagnosis,
                Class::Diagnosis if within(Element::Done) => Class::Procedure,
                class => class,
            };
            for coded in [Some(at), parent].into_iter().flatten() {
                self.frames[coded].is_coded = true;
            }
            self.hit(
                class as ClassId,
                owner,
                Evidence::Structure,
                95,
                b"code",
                key,
                &code,
            );
        }
    }

    /// A concept that no code tells: `"code": {"text": "Hypertension"}` of a condition.
    fn written(&mut self, at: usize) {
        let frame = &self.frames[at];
        let (owner, written) = (frame.owner, self.slot(frame.written));
        let class = fhir::concept(frame.resource, frame.key.element);
        if let Some(class) = class.filter(|_| !frame.is_coded && owner == Owner::Patient)
            && (class.detector().fits)(&written)
        {
            let key = self.keys.get(b"text", &self.shown);
            self.hit(
                class as ClassId,
                owner,
                Evidence::Structure,
                90,
                b"text",
                key,
                &written,
            );
        }
    }

    fn reference(&mut self, at: usize) {
        let frame = &self.frames[at];
        let element = frame.key.element;
        let (reference, display) = (self.slot(frame.reference), self.slot(frame.display));
        let mut parts = reference.rsplit(|byte| *byte == b'/');
        let (id, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let owner = match kind {
            b"Patient" | b"RelatedPerson" | b"Person" => Owner::Patient,
            b"Practitioner" | b"PractitionerRole" => Owner::Person,
            b"" => match element {
                Element::Subject => Owner::Patient,
                // Of a care team the patient is a member.
                _ if !self.subject.is_empty() && self.subject == reference => Owner::Patient,
                Element::Professional => Owner::Person,
                _ => return,
            },
            _ if reference.contains(&b'?') && memchr::memmem::find(&reference, b"Practitioner").is_some() => {
                Owner::Person
            }
            _ => return,
        };
        if element == Element::Subject && owner == Owner::Patient {
            self.subject.clone_from(&reference);
        }
        if owner == Owner::Patient && !id.is_empty() && !id.starts_with(b"#") {
            let id = id.strip_prefix(b"urn:uuid:").unwrap_or(id);
            let key = self.keys.get(b"reference", &self.shown);
            self.hit(
                Class::PatientId as ClassId,
                owner,
                Evidence::Structure,
                90,
                b"reference",
                key,
                id,
            );
        }
        let fits = (Class::Name.detector().fits)(&display)
            && (owner == Owner::Patient || looks_like_person(&display));
        if fits {
            let key = self.keys.get(b"display", &self.shown);
            self.hit(
                Class::Name as ClassId,
                owner,
                Evidence::Structure,
                90,
                b"display",
                key,
                &display,
            );
        }
    }

    /// Names that say something only beside other personal data.
    fn held(&mut self, at: usize, is_pair: bool) {
        let from = self.frames[at].held_from;
        let frame = &self.frames[at];
        let (mut personal, mut owner) = (frame.personal, frame.owner);
        if from == self.held.len() {
            return;
        }
        // Children and members are people's where there is a person, or where they have what people have.
        if owner == Owner::Patient && !frame.sure {
            owner = Owner::Unknown;
            if self.frames[..at]
                .iter()
                .any(|frame| frame.personal == Personal::Yes)
            {
                personal = Personal::Yes;
            }
        }
        // `{"mrn": …, "visit": {"dx": …}}`: what somebody's record is made of.
        let of_somebody = self.frames[..at]
            .iter()
            .any(|frame| frame.personal == Personal::Yes);
        let is_named = frame.named_as(Class::Name) || self.has_parts(at);
        let is_concept = self.frames[at].system.length > 0 && self.frames[at].code.length > 0;
        for held in self.held.split_off(from.min(self.held.len())) {
            if held.frame != at {
                self.held.push(held);
                continue;
            }
            let (class, key) = (held.class, held.key);
            let (name, value) = (self.slot(held.name), self.slot(held.value));
            let is_name = class == Class::Name as ClassId;
            // The name is the value's; the number is what its type says.
            let is_labelled = key.role == Role::Number && name == self.bytes(self.frames[at].labelled_name);
            if is_pair && (is_name && key.role == Role::Label || is_labelled) {
                continue;
            }
            // A code of a system, and how it is displayed: `<value code="…" codeSystem="…" displayName="Drug allergy"/>`.
            if is_name && is_concept && displays(&name) {
                continue;
            }
            // `provider`, `author`: a word for people, and no name of a name.
            let whole = is_whole(&name) || key.class.is_none() || key.whole;
            let is_ip = class == Class::Ip as ClassId;
            let is = match (owner, personal) {
                // `{"name": {"first": …, "last": …}}`
                _ if is_name && is_named && part_of_name(&name) > 0 && looks_like_name(&value) => true,
                (Owner::Patient, _) => true,
                (Owner::Person, _) | (_, Personal::Contact) if is_name && whole => looks_like_person(&value),
                (Owner::Person, _) => {
                    personal > Personal::No || (is_name && name != b"given" && looks_like_name(&value))
                }
                (_, Personal::Yes) => !whole || looks_like_name(&value),
                (_, Personal::Health) if is_name && whole => {
                    looks_like_person(&value) && is_persons(&value, false)
                }
                (_, Personal::Contact | Personal::Health) => true,
                (Owner::Unknown, Personal::No) => of_somebody && may_be_around(class),
                (_, Personal::No) => false,
            };
            // `{"customer_name": "Marta Okafor"}`: where somebody may be named, he is by his name.
            let is_his = || {
                let is_item =
                    matches!(self.frames[at].owner, Owner::Patient | Owner::Person) && is_whole(&name);
                let may_be_named = key.whole || key.names.is_some() || is_full(&name) || is_item;
                is_name
                    && may_be_named
                    && !has_made(&name)
                    && looks_like_person(&value)
                    && names_somebody(&value)
            };
            if is || is_his() {
                let by_itself = is_name && key.class.is_none() && key.names.is_none();
                let (evidence, confidence) = match by_itself {
                    true => (Evidence::Context, 70),
                    false => (Evidence::Structure, 85),
                };
                self.hit(class, owner, evidence, confidence, &name, key, &value);
                self.look_into(class, key, &name, Some(at), ValueType::Text, &value);
            } else if !is_ip {
                self.frames[at].is_unplaced |= class == Class::Address as ClassId;
                self.look(key, &name, Some(at), ValueType::Text, &value);
            }
        }
    }

    /// It has two parts of a name, which confirm each other.
    fn has_parts(&self, at: usize) -> bool {
        let from = self.frames[at].held_from.min(self.held.len());
        let parts = self.held[from..]
            .iter()
            .filter(|held| held.frame == at && held.class == Class::Name as ClassId)
            .filter(|held| looks_like_name(self.bytes(held.value)))
            .fold(0u8, |parts, held| parts | part_of_name(self.bytes(held.name)));
        parts.count_ones() >= 2
    }

    /// The object around an object.
    fn holder_of(&self, at: usize) -> Option<usize> {
        let mut at = at.checked_sub(1)?;
        while self.frames[at].array || self.frames[at].key.element == Element::Coding {
            at = at.checked_sub(1)?;
        }
        Some(at)
    }
}

/// What is somebody's although only the record around it says whose: where he lives, and what ails him.
fn may_be_around(class: ClassId) -> bool {
    const AROUND: [Class; 5] = [
        Class::Photo,
        Class::Address,
        Class::Diagnosis,
        Class::Medication,
        Class::Observation,
    ];
    AROUND.iter().any(|known| *known as ClassId == class)
}

/// Names that things have as well as people.
fn is_whole(name: &[u8]) -> bool {
    const WHOLE: [&[u8]; 6] = [
        b"name",
        b"contact",
        b"displayname",
        b"display_name",
        b"fullname",
        b"full_name",
    ];
    WHOLE.iter().any(|whole| name.eq_ignore_ascii_case(whole))
}

/// Of those, names of whole names.
fn is_full(name: &[u8]) -> bool {
    [&b"fullname"[..], b"full_name"]
        .iter()
        .any(|full| name.eq_ignore_ascii_case(full))
}

/// How a code is displayed.
fn displays(name: &[u8]) -> bool {
    [&b"displayName"[..], b"display"].contains(&name)
}

/// Whoever has made something, a book or a song, is no secret by that.
fn has_made(name: &[u8]) -> bool {
    let words = words(name);
    let last = words.last().map_or("", String::as_str);
    matches!(last, "author" | "authors" | "performer" | "performers") || words.len() == 1 && last == "by"
}

/// A catalogue of messages: many of its names are sentences, and nothing is within it.
fn is_catalogue(frame: &Frame) -> bool {
    const SENTENCES_MIN: u8 = 8;
    const ONE_IN: u32 = 5;
    frame.sentences >= SENTENCES_MIN
        && u32::from(frame.sentences) * ONE_IN >= frame.values
        && frame.children == 0
        && frame.resource == Resource::None
}

/// Which part of a name a key says, as one bit; 0: none.
fn part_of_name(name: &[u8]) -> u8 {
    const PARTS: [(&[u8], u8); 8] = [
        (b"first", 1),
        (b"given", 1),
        (b"last", 2),
        (b"family", 2),
        (b"middle", 4),
        (b"forename", 1),
        (b"surname", 2),
        (b"prenom", 1),
    ];
    PARTS
        .iter()
        .find(|(part, _)| name.eq_ignore_ascii_case(part))
        .map_or(0, |(_, bit)| *bit)
}

/// Words of organizations and things.
const NO_PERSONS: &[&str] = &[
    "inc",
    "llc",
    "ltd",
    "gmbh",
    "ag",
    "corp",
    "corporation",
    "company",
    "co",
    "hospital",
    "clinic",
    "center",
    "centre",
    "pharmacy",
    "department",
    "services",
    "service",
    "group",
    "university",
    "bank",
    "health",
    "medical",
    "care",
    "store",
    "system",
    "systems",
    "association",
    "foundation",
    "institute",
    "laboratory",
    "lab",
    "ministry",
    "plan",
    "insurance",
    "product",
    "item",
    "test",
    "widget",
    "order",
    "main",
    "default",
    "account",
    "api",
    "server",
    "team",
    "project",
    "hotel",
    "school",
    "restaurant",
    "airport",
    "international",
    "office",
    "database",
    "cloud",
    "engine",
    "platform",
    "software",
    "report",
    "web",
    "app",
    "menu",
    "node",
    "cluster",
];

/// Words within names that begin with no capital.
const PARTICLES: &[&[u8]] = &[
    b"de", b"van", b"von", b"der", b"la", b"di", b"da", b"do", b"dos", b"das", b"del", b"della", b"den",
    b"du", b"le", b"el", b"al", b"bin", b"ter", b"ten", b"zu", b"af",
];

/// Two words or more that begin with capitals, and none that is an organization's.
pub(super) fn looks_like_person(value: &[u8]) -> bool {
    let words: Vec<&[u8]> = value
        .split(|byte| matches!(byte, b' ' | b',' | b'^'))
        .filter(|word| !word.is_empty())
        .collect();
    (2..=6).contains(&words.len()) && looks_like_name(value)
}

/// Words that begin with capitals.
pub(super) fn looks_like_name(value: &[u8]) -> bool {
    value
        .split(|byte| matches!(byte, b' ' | b',' | b'^'))
        .filter(|word| !word.is_empty())
        .all(|word| {
            // `John (Jack) Okafor`
            let first = match word {
                [b'(' | b'"' | b'\'', first, ..] => *first,
                _ => word[0],
            };
            let capital = first.is_ascii_uppercase() || first >= 0x80 || PARTICLES.contains(&word);
            let thing = NO_PERSONS
                .iter()
                .any(|thing| word.eq_ignore_ascii_case(thing.as_bytes()));
            capital && !thing
        })
}
