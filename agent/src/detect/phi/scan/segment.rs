//! Fields of HL7 v2 and elements of X12, as they come by. What depends on a later component (an identifier's type, a
//! number's equipment, a code's system) waits until its field ends.

use smol_str::format_smolstr;

use super::super::checks::any;
use super::super::segments::{self, Hl7};
use super::place::fits;
use super::*;

/// The segment that is being walked.
#[derive(Default)]
pub(super) struct Segment {
    x12: bool,
    id: SmolStr,
    /// NM1's entity, which holds for what follows it.
    entity: Vec<u8>,
    /// And that it is an organization.
    is_company: bool,
    qualifier: Vec<u8>,
    field: u16,
    repetition: u16,
    /// Of the field: what it holds, the value that waits, and its components 2, 3 and 5, or 9 and 13 of a person.
    holds: Option<Hl7>,
    waiting: Vec<u8>,
    second: Vec<u8>,
    third: Vec<u8>,
    fifth: Vec<u8>,
    authority: Vec<u8>,
    kind: Vec<u8>,
}

impl Walk {
    pub(super) fn segment_begins(&mut self, format: Format, id: &[u8]) {
        self.field_ends();
        let segment = &mut self.segment;
        segment.x12 = format == Format::X12;
        segment.id = SmolStr::new(String::from_utf8_lossy(&id[..id.len().min(3)]));
        segment.qualifier.clear();
        segment.field = 0;
    }

    pub(super) fn segment_field(&mut self, at: Field<'_>, value: &[u8]) {
        if self.segment.x12 {
            self.x12(at, value);
            return;
        }
        if (at.field, at.repetition) != (self.segment.field, self.segment.repetition) {
            self.field_ends();
            (self.segment.field, self.segment.repetition) = (at.field, at.repetition);
            self.segment.holds = segments::hl7(at.segment, at.field);
        }
        let Some(holds) = self.segment.holds else {
            // What no table knows is looked at as text: notes, results, segments of one's own.
            if segments::hl7_is_text(at.segment, at.field) {
                self.segment_text(at.field, value);
            }
            return;
        };
        let short = || value[..value.len().min(32)].to_vec();
        match at.component {
            2 => self.segment.second = short(),
            3 => self.segment.third = short(),
            5 => self.segment.fifth = short(),
            9 if at.subcomponent <= 1 && holds.has_id() => self.segment.authority = short(),
            13 if at.subcomponent <= 1 && holds.has_id() => self.segment.kind = short(),
            1 if at.subcomponent <= 1 && holds.has_id() => {
                self.segment.waiting = short();
                return;
            }
            _ => {}
        }
        if !holds.components.contains(&at.component) || !holds.holds_part(at.component, at.subcomponent) {
            return;
        }
        let found = match holds.class {
            Class::Phone if at.component == 4 => value.contains(&b'@').then_some(Class::Email),
            Class::Mrn
            | Class::Phone
            | Class::Diagnosis
            | Class::Procedure
            | Class::Medication
            | Class::Allergy
            | Class::Observation => {
                if self.segment.waiting.is_empty() {
                    self.segment.waiting = value[..value.len().min(HELD_BYTES_MAX)].to_vec();
                }
                None
            }
            Class::Name | Class::BirthDate | Class::DeathDate | Class::Date | Class::Address => {
                (holds.class.detector().fits)(value).then_some(holds.class)
            }
            Class::Ssn => {
                let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
                (digits >= 4 && any(value)).then_some(Class::Ssn)
            }
            class => any(value).then_some(class),
        };
        if let Some(class) = found {
            self.segment_hit(class, holds.owner, value);
        }
    }

    /// What waited is told.
    pub(super) fn field_ends(&mut self) {
        let value = std::mem::take(&mut self.segment.waiting);
        let (second, third, fifth) = (
            std::mem::take(&mut self.segment.second),
            std::mem::take(&mut self.segment.third),
            std::mem::take(&mut self.segment.fifth),
        );
        let (authority, kind) = (
            std::mem::take(&mut self.segment.authority),
            std::mem::take(&mut self.segment.kind),
        );
        let Some(holds) = self.segment.holds.take().filter(|_| any(&value)) else {
            return;
        };
        if holds.has_id() {
            if let Some(class) = person_id(&value, &authority, &kind) {
                self.segment_hit(class, holds.owner, &value);
            }
            return;
        }
        let table = fhir::code_table(&third);
        if table.is_none() && segments::hl7_by_system(self.segment.id.as_bytes(), self.segment.field) {
            return;
        }
        let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
        let class = match holds.class {
            // Of the United Kingdom's National Health Service where its check digit says so.
            Class::Mrn if fifth == b"NH" && fits(Class::NhsNumber as ClassId, &value) => Class::NhsNumber,
            Class::Mrn => fhir::identifier_type(&fifth).unwrap_or(Class::Mrn),
            Class::Phone => match (second.as_slice(), third.as_slice()) {
                _ if value.contains(&b'@') => Class::Email,
                (_, b"FX") => Class::Fax,
                (b"NET", _) | (_, b"Internet") => Class::Email,
                _ if digits < 5 => return,
                _ => Class::Phone,
            },
            Class::Allergy => Class::Allergy,
            // ICD-9 has procedures, too, and not all tell them apart.
            Class::Procedure if self.segment.id == "PR1" => Class::Procedure,
            class => table.unwrap_or(class),
        };
        self.segment_hit(class, holds.owner, &value);
    }

    fn segment_hit(&mut self, class: Class, owner: Owner, value: &[u8]) {
        self.segment_found(class as ClassId, owner, Evidence::Structure, 98, value);
    }

    fn segment_found(
        &mut self,
        class: ClassId,
        owner: Owner,
        evidence: Evidence,
        confidence: u8,
        value: &[u8],
    ) {
        let Some(group) = group_of(class, owner) else {
            return;
        };
        let segment = &self.segment;
        let id = segment.id.bytes().fold(0, |id, byte| id << 8 | u64::from(byte));
        let hit = Hit {
            class,
            group,
            evidence,
            confidence,
            part: self.part,
            place: mix(id, u64::from(segment.field)),
            value,
        };
        let known = segment
            .id
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
            && !segment.id.starts_with('Z');
        self.hits.add(&hit, || match known {
            true => format_smolstr!("{}-{}", segment.id, segment.field),
            false => format_smolstr!("{{key}}-{}", segment.field),
        });
    }

    fn segment_text(&mut self, field: u16, value: &[u8]) {
        if value.len() < 5 {
            return;
        }
        self.segment.field = field;
        let value = &value[..value.len().min(TEXT_BYTES_MAX)];
        let mut found = std::mem::take(&mut self.found);
        self.text
            .scan(value, Around::default(), &mut |one| found.push(one));
        for one in found.drain(..) {
            let value = &value[one.start..one.end];
            self.segment_found(one.class, Owner::Patient, one.evidence, one.confidence, value);
        }
        self.found = found;
    }

    fn x12(&mut self, at: Field<'_>, value: &[u8]) {
        let short = || value[..value.len().min(8)].to_vec();
        match (at.segment, at.field, at.component) {
            (b"NM1" | b"N1", 1, 1) => {
                self.segment.entity = short();
                self.segment.is_company = false;
            }
            (b"NM1", 2, 1) => self.segment.is_company = value == b"2",
            (b"NM1", 8, 1)
            | (b"REF" | b"DMG" | b"DTP" | b"DTM", 1, 1)
            | (b"PER", 3 | 5 | 7, 1)
            | (b"HI", _, 1) => self.segment.qualifier = short(),
            _ => {}
        }
        // Composite elements begin with a qualifier, and have the code behind it.
        let composite = matches!(
            (at.segment, at.field),
            (b"HI", _) | (b"SV1" | b"SV3" | b"SVC", 1) | (b"SV2", 2)
        );
        let wanted = if composite { 2 } else { 1 };
        if at.component != wanted {
            return;
        }
        self.segment.field = at.field;
        let found = segments::x12(
            at.segment,
            at.field,
            &self.segment.entity,
            &self.segment.qualifier,
        );
        if let Some((class, owner)) = found
            && !(at.segment == b"NM1" && class == Class::Name && self.segment.is_company)
            && any(value)
            && (class != Class::Name || (class.detector().fits)(value))
        {
            self.segment_hit(class, owner, value);
        } else if matches!(at.segment, b"NTE" | b"MSG" | b"K3") {
            self.segment_text(at.field, value);
        }
    }
}

/// Whether the id of a person is one that everybody knows: by its check digit, whatever its authority or type calls it.
fn person_id(value: &[u8], authority: &[u8], kind: &[u8]) -> Option<Class> {
    let named = |class: &str| {
        [authority, kind]
            .iter()
            .any(|said| said.eq_ignore_ascii_case(class.as_bytes()))
    };
    // Ten digits that happen to be right are an NPI unless it is said that they are something else.
    let said = !authority.is_empty() || !kind.is_empty();
    match value {
        _ if (Class::Dea.detector().fits)(value) => Some(Class::Dea),
        _ if (Class::Npi.detector().fits)(value) && (named("NPI") || !said) => Some(Class::Npi),
        _ if named("NPI") && value.len() >= 5 => Some(Class::Npi),
        _ if named("DEA") && value.len() >= 5 => Some(Class::Dea),
        _ => None,
    }
}
