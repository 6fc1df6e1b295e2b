//! Names that are values: `{"name": "ssn", "value": "…"}`, and `{"ssn": {"value": "…"}}`.
//!
//! Forms, headers in logs and parameters come so. A label says what a key of its name would; FHIR has names of its own for it.

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
        frame.named && frame.resource == Resource::None && frame.key.class.is_some() && self.has_pairs(at)
    }

    /// Remembers a name or its value until the object ends.
    pub(super) fn pair(&mut self, at: usize, key: Key, kind: ValueType, value: &[u8]) {
        if !self.has_pairs(at) || value.len() > HELD_BYTES_MAX {
            return;
        }
        let told = self.told;
        match key.role {
            Role::Label if kind == ValueType::Text && value.len() <= LABEL_BYTES_MAX => {
                let label = keep(&mut self.arena, value);
                let frame = &mut self.frames[at];
                // `{"name": …, "label": …}`: the first one is it.
                if frame.label.length == 0 || frame.label_is_type {
                    (frame.label, frame.label_is_type) = (label, false);
                }
            }
            Role::Type
                if kind == ValueType::Text
                    && value.len() <= LABEL_BYTES_MAX
                    && self.frames[at].label.length == 0 =>
            {
                let label = keep(&mut self.arena, value);
                let frame = &mut self.frames[at];
                (frame.label, frame.label_is_type) = (label, true);
            }
            Role::Value => {
                let labelled = keep(&mut self.arena, value);
                let frame = &mut self.frames[at];
                (frame.labelled, frame.labelled_class) = (labelled, told);
            }
            _ => {}
        }
    }

    /// The object has both: what its label says of the value. Whether it is such an object.
    pub(super) fn settle_pair(&mut self, at: usize) -> bool {
        let frame = &self.frames[at];
        let (owner, told, is_type) = (frame.owner, frame.labelled_class, frame.label_is_type);
        if frame.label.length == 0 || frame.labelled.length == 0 {
            return false;
        }
        let (label, value) = (self.slot(frame.label), self.slot(frame.labelled));
        let key = self.keys.get(last_name(&label), &self.shown);
        let Some((class, says)) = key.class else {
            return false;
        };
        let fits = DETECTORS
            .get(usize::from(class))
            .is_none_or(|detector| (detector.fits)(&value));
        if is_type && !is_number(class) {
            return false;
        }
        // `first`, `name`: only of what looks like one.
        let is = says == Says::It || class == Class::Name as ClassId && settle::looks_like_name(&value);
        if fits && is && told != Some(class) {
            let owner = if key.owner == Owner::Unknown {
                owner
            } else {
                key.owner
            };
            let key = self.keys.get(b"value", &self.shown);
            self.hit(class, owner, Evidence::Structure, 90, b"value", key, &value);
        }
        true
    }
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
