//! Documents whose names are places of another standard: HL7 v3 and CDA (`id` with root and extension), HL7 v2 in XML and
//! JSON (`PID.5`, `PID.5.1`), DICOM in XML (`tag="00100010"`), and the search parameters of FHIR.

use super::super::segments::{self, Hl7};
use super::*;

/// A value that may stand where the class is said to be.
fn is_in_place(class: Class, value: &[u8]) -> bool {
    let formed = matches!(
        class,
        Class::Name | Class::Address | Class::BirthDate | Class::DeathDate | Class::Date
    );
    super::super::checks::any(value) && (!formed || (class.detector().fits)(value))
}

/// What is written where telephones are (XTN) may be an email.
fn of_kind(class: Class, value: &[u8]) -> Class {
    match class {
        Class::Phone if value.contains(&b'@') => Class::Email,
        class => class,
    }
}

impl Walk {
    /// Of what opens: the field that it is, or what it holds as a component of one.
    pub(super) fn numbered(name: &[u8], field: Option<Hl7>) -> (Option<Hl7>, Option<(Class, Owner)>) {
        let Some((id, number, part)) = segments::numbered(name) else {
            return (None, None);
        };
        let (field, part) = match (segments::hl7(id, number), part) {
            (Some(holds), None) => return (Some(holds), None),
            (Some(holds), Some(part)) => (Some(holds), part),
            (None, _) => (field, number),
        };
        let held = field.filter(|field| field.components.contains(&part));
        (None, held.map(|field| (field.class, field.owner)))
    }

    /// A value whose name is such a place: `{"PID.7": "19590705", "PID.5.1": "OKAFOR"}`; whether it was one.
    pub(super) fn at_number(&mut self, frame: usize, key: Key, name: &[u8], value: &[u8]) -> bool {
        let (field, part) = Walk::numbered(name, self.frames[frame].hl7);
        let first = field.filter(|field| field.components.contains(&1));
        let Some((class, owner)) = part.or(first.map(|field| (field.class, field.owner))) else {
            return false;
        };
        let class = of_kind(class, value);
        if is_in_place(class, value) {
            self.hit(class as ClassId, owner, Evidence::Structure, 95, name, key, value);
        }
        true
    }

    /// The text of an element, by the place that the element is; whether that is known.
    pub(super) fn element_text(&mut self, top: usize, key: Key, value: &[u8]) -> bool {
        let frame = &self.frames[top];
        let alone = frame.hl7.filter(|field| field.components.contains(&1));
        let Some((class, owner)) = frame.tag.or(alone.map(|field| (field.class, field.owner))) else {
            return false;
        };
        let class = of_kind(class, value);
        if is_in_place(class, value) {
            self.hit(class as ClassId, owner, Evidence::Structure, 98, b"", key, value);
        }
        true
    }

    /// Root and extension of an `id`; whether it was one of them.
    pub(super) fn id_part(&mut self, at: usize, name: &[u8], value: &[u8]) -> bool {
        let frame = &self.frames[at];
        if !frame.element || frame.key.element != Element::Id || frame.resource != Resource::None {
            return false;
        }
        match name {
            b"root" => self.frames[at].system = keep(&mut self.arena, value),
            b"extension" => self.frames[at].value = keep(&mut self.arena, value),
            _ => return false,
        }
        true
    }

    /// An `id` is whole: a patient's number, or what its root says.
    pub(super) fn settle_id(&mut self, at: usize) {
        let frame = &self.frames[at];
        let owner = frame.owner;
        let (root, value) = (self.slot(frame.system), self.slot(frame.value));
        let class = match (fhir::identifier_system(&root), owner) {
            (Some(class), _) => class,
            (None, Owner::Patient) => Class::Mrn,
            _ => return,
        };
        if super::super::checks::any(&value) {
            let key = self.keys.get(b"extension", &self.shown);
            self.hit(
                class as ClassId,
                owner,
                Evidence::Structure,
                90,
                b"extension",
                key,
                &value,
            );
        }
    }

    /// A search parameter of FHIR whose value is more than a value; whether it was one.
    pub(super) fn search(&mut self, name: &[u8], value: &[u8]) -> bool {
        // `patient.identifier`, `family:exact`, `subject:Patient.birthdate`
        let last = name.rsplit(|byte| *byte == b'.').next().unwrap_or(name);
        let base = last.split(|byte| *byte == b':').next().unwrap_or(last);
        let chained = last.len() < name.len();
        let (resource, owner) = (self.frames[0].resource, self.frames[0].owner);
        let (system, code) = match value.iter().position(|byte| *byte == b'|') {
            Some(at) => (&value[..at], &value[at + 1..]),
            None => (&value[..0], value),
        };
        let patient = chained || resource == Resource::Patient;
        let element = Element::of(base);
        let class = match (base, element) {
            (_, Element::Identifier) => match fhir::identifier_system(system) {
                Some(class) => class,
                None if patient => Class::Mrn,
                None => return false,
            },
            (_, Element::Name) if patient && (Class::Name.detector().fits)(value) => Class::Name,
            (b"_id", _) if patient => Class::PatientId,
            (_, Element::Subject) => Class::PatientId,
            (_, Element::Code) if !system.is_empty() => match fhir::code_system(system, resource) {
                Some(class) => class,
                None => return false,
            },
            (_, Element::Telecom) => match code.contains(&b'@') {
                true => Class::Email,
                false => Class::Phone,
            },
            _ if base.len() < name.len() => {
                let key = self.keys.get(base, &self.shown);
                self.place(key, base, Some(0), ValueType::Text, value);
                return true;
            }
            _ => return false,
        };
        let value = code.rsplit(|byte| *byte == b'/').next().unwrap_or(code);
        if super::super::checks::any(value) {
            let key = self.keys.get(base, &self.shown);
            self.hit(class as ClassId, owner, Evidence::Structure, 95, base, key, value);
        }
        true
    }
}
