//! Names that are values: `{"name": "ssn", "value": "…"}`, and `{"ssn": {"value": "…"}}`.
//!
//! Forms, headers in logs and parameters come so. A label says what a key of its name would; FHIR has names of its own for it.

use super::place::fits;
use super::*;

/// A longer one is a question, not a name.
const LABEL_BYTES_MAX: usize = 64;

impl Walk {
    /// Objects of FHIR have their own rules.
    fn has_pairs(&self, at: usize) -> bool {
        let frame = &self.frames[at];
        matches!(frame.resource, Resource::None | Resource::Bundle)
            && frame.owner != Owner::Definition
            && !frame.array
    }

    /// The object's own name says what its value is.
    pub(super) fn stands_for(&self, at: usize) -> bool {
        let frame = &self.frames[at];
        frame.resource == Resource::None && frame.key.class.is_some() && self.has_pairs(at)
    }

    /// What says of which kind its value is says so of what identifies, and of dates: the date of a procedure is a date.
    pub(super) fn is_dated_or_known(&self, at: usize) -> bool {
        let class = self.frames[at].key.class.map(|(class, _)| class);
        let detector = class.and_then(|class| DETECTORS.get(usize::from(class)));
        let dates = [Class::BirthDate, Class::DeathDate, Class::Date];
        detector.is_none_or(|detector| detector.identifies || dates.contains(&detector.class))
    }

    /// Remembers a name or its value until the object ends.
    pub(super) fn pair(&mut self, at: usize, key: Key, name: &[u8], kind: ValueType, value: &[u8]) {
        if value.len() > HELD_BYTES_MAX || !self.has_pairs(at) {
            return;
        }
        let told = self.told;
        let is_name = kind == ValueType::Text && value.len() <= LABEL_BYTES_MAX;
        match key.role {
            Role::Label if is_name => {
                let label = keep(&mut self.arena, value);
                let frame = &mut self.frames[at];
                // `{"name": …, "label": …}`: the first one is it.
                if frame.label.length == 0 || frame.label_is_type {
                    (frame.label, frame.label_is_type) = (label, false);
                }
            }
            Role::Type if is_name => self.type_of(at, value),
            Role::Value | Role::Number | Role::Kind => {
                let is_number = key.role != Role::Value;
                if is_number && self.frames[at].labelled.length > 0 {
                    return;
                }
                let (labelled, name) = (keep(&mut self.arena, value), keep(&mut self.arena, name));
                let frame = &mut self.frames[at];
                (frame.labelled, frame.labelled_class) = (labelled, told);
                (frame.labelled_name, frame.labelled_key) = (name, key);
                frame.labelled_is_number = is_number;
            }
            _ => {}
        }
    }

    /// The same of an element's text: `<ID>…</ID><Type>MRN</Type>`, `<ID Type="MRN">…</ID>`.
    pub(super) fn pair_of_element(&mut self, at: usize, key: Key, kind: ValueType, value: &[u8]) {
        let frame = &self.frames[at];
        if frame.label_is_type {
            let number = Key {
                role: Role::Number,
                ..key
            };
            return self.pair(at, number, b"", kind, value);
        }
        let (from, length) = (frame.name.start as usize, frame.name.length as usize);
        let name = self.names.get(from..from + length).unwrap_or_default().to_vec();
        if let Some(around) = at.checked_sub(1).filter(|_| key.role != Role::Other) {
            self.pair(around, key, &name, kind, value);
        }
    }

    /// What an object says that is the type of the object around it: `{"idType": {"display": "MRN"}, "id": …}`.
    pub(super) fn type_within(&self, at: usize) -> Vec<u8> {
        let frame = &self.frames[at];
        if frame.array || !frame.named || frame.key.role != Role::Type {
            return Vec::new();
        }
        let said = [frame.display, frame.label, frame.code];
        let said = said
            .iter()
            .find(|slot| slot.length > 0 && slot.length as usize <= LABEL_BYTES_MAX);
        said.map_or_else(Vec::new, |slot| self.slot(*slot))
    }

    /// An object's type. A patient's makes it one: `{"type": "patients", "id": …, "attributes": …}`.
    pub(super) fn type_of(&mut self, at: usize, value: &[u8]) {
        if self.frames.get(at).is_none_or(|frame| frame.label.length > 0) || !self.has_pairs(at) {
            return;
        }
        let label = keep(&mut self.arena, value);
        let is_patient = self.keys.get(value, &self.shown).patient;
        let frame = &mut self.frames[at];
        (frame.label, frame.label_is_type) = (label, true);
        if is_patient && frame.owner == Owner::Unknown {
            // Menus and events have the word, too: what is in it has to be personal.
            (frame.owner, frame.sure) = (Owner::Patient, false);
            if frame.values > 1 || frame.children > 0 {
                let ordinal = frame.ordinal;
                self.later(ordinal, Late::Place(Owner::Patient, false));
            }
        }
    }

    /// The object has both: what its label says of the value. Whether it is such an object.
    pub(super) fn settle_pair(&mut self, at: usize) -> bool {
        let frame = &self.frames[at];
        let (owner, told, is_type) = (frame.owner, frame.labelled_class, frame.label_is_type);
        if frame.labelled.length == 0 {
            return false;
        }
        let value = self.slot(frame.labelled);
        if frame.labelled_is_number {
            return self.settle_number(at, &value);
        }
        // `{"code": "DOB", "value": …}`
        let is_code = frame.label.length == 0;
        let (label, is_type) = match frame.label.length {
            0 if frame.code.length as usize <= LABEL_BYTES_MAX => (frame.code, true),
            _ => (frame.label, is_type),
        };
        if label.length == 0 {
            return false;
        }
        let label = self.slot(label);
        let key = self.keys.get(last_name(asked(&label)), &self.shown);
        let Some((class, says)) = key.class else {
            return false;
        };
        // `{"code": "Patient_Last_Name", …}` is written as names are, `{"code": "address", …}` may be a kind.
        let is_named = is_code && label.iter().any(|byte| b"_ .-".contains(byte));
        if is_type && !is_named && !is_number(class) && class != Class::BirthDate as ClassId {
            return false;
        }
        // `first`, `name`: only of what looks like one.
        let beside = says == Says::Beside
            && self.frames[..at]
                .iter()
                .any(|frame| frame.personal > Personal::No);
        let is = match class == Class::Name as ClassId && says == Says::Beside {
            true => settle::looks_like_name(&value),
            false => says == Says::It || beside,
        };
        if fits(class, &value) && is && told != Some(class) {
            let owner = if key.owner == Owner::Unknown {
                owner
            } else {
                key.owner
            };
            self.pair_hit(at, class, owner, &value);
        }
        true
    }

    /// `{"type": "MRN", "id": …}`, `{"PatientIDs": [{"ID": …}]}`: by its type, or by what the list is of.
    fn settle_number(&mut self, at: usize, value: &[u8]) -> bool {
        let frame = &self.frames[at];
        let (owner, told, personal) = (frame.owner, frame.labelled_class, frame.personal);
        let is_alone = frame.values <= 2 && frame.children == 0;
        let of_list = frame
            .key
            .class
            .filter(|(class, says)| *says == Says::It && names_somebody(*class));
        let of_ids = of_list.is_some() || frame.key.ids;
        let label = match frame.label_is_type {
            true => self.slot(frame.label),
            false => Vec::new(),
        };
        let key = self.keys.get(&label, &self.shown);
        let by_type = key
            .class
            .filter(|(class, says)| *says == Says::It && is_number(*class));
        let by_code = || {
            fhir::identifier_type(&label)
                .filter(|_| of_ids)
                .map(|class| class as ClassId)
        };
        // Its record is a patient's.
        let by_record = || {
            let is = key.patient && (personal > Personal::No || is_alone);
            is.then_some(Class::PatientId as ClassId)
        };
        let class = by_type
            .map(|(class, _)| class)
            .or_else(by_code)
            .or_else(by_record)
            .or_else(|| of_list.map(|(class, _)| class));
        match class {
            Some(class) if told != Some(class) && fits(class, value) => {
                self.pair_hit(at, class, owner, value);
                true
            }
            found => found.is_some(),
        }
    }

    fn pair_hit(&mut self, at: usize, class: ClassId, owner: Owner, value: &[u8]) {
        let key = self.frames[at].labelled_key;
        let name = self.slot(self.frames[at].labelled_name);
        self.hit(class, owner, Evidence::Structure, 90, &name, key, value);
    }
}

/// Numbers of people, without those that they are reached by.
fn names_somebody(class: ClassId) -> bool {
    let contact = [Class::Phone, Class::Fax, Class::Email].map(|class| class as ClassId);
    is_number(class) && !contact.contains(&class)
}

/// What has a type is mostly no person's: of numbers of people the type says so.
fn is_number(class: ClassId) -> bool {
    let detector = DETECTORS.get(usize::from(class));
    detector.is_some_and(|detector| {
        let other = matches!(
            detector.class,
            Class::Name | Class::Address | Class::Ip | Class::Url | Class::Device | Class::Account
        );
        detector.identifies && detector.group != Group::Credential && !other
    })
}

/// Of a JSON pointer (RFC 6901) the last name that is none of an item or of a value: `/name/0/family`, `/telecom/0/value`.
fn last_name(label: &[u8]) -> &[u8] {
    if label.first() != Some(&b'/') {
        return label;
    }
    let is_name = |part: &&[u8]| {
        !part.is_empty()
            && !part.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-')
            && *part != b"value"
    };
    label
        .rsplit(|byte| *byte == b'/')
        .find(is_name)
        .unwrap_or_default()
}

/// `What is your full name?` → `full name`.
pub(super) fn asked(label: &[u8]) -> &[u8] {
    const ASKING: &[&[u8]] = &[
        b"what", b"whats", b"what's", b"is", b"are", b"your", b"the", b"please", b"enter", b"provide",
        b"specify", b"confirm",
    ];
    let mut rest = label.strip_suffix(b"?").unwrap_or(label);
    while let Some(at) = memchr::memchr(b' ', rest) {
        if !ASKING.iter().any(|word| rest[..at].eq_ignore_ascii_case(word)) {
            break;
        }
        rest = &rest[at + 1..];
    }
    rest
}
