//! Places in messages of segments and tags: what fields of HL7 v2, elements of X12 and tags of DICOM hold.
//!
//! Sources: HL7 v2.5.1 chapters 3, 4, 6, 7; X12N 005010 implementation guides (270/271, 276/278, 834, 835, 837);
//! DICOM PS3.15 annex E and PS3.6.

use super::class::Class;
use super::keys::Owner;

/// What a field of HL7 v2 holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hl7 {
    pub class: Class,
    pub owner: Owner,
    /// Components that hold it; 0: all.
    pub components: &'static [u16],
}

impl Hl7 {
    /// A person (XCN): the first component is an id, of a kind that others say.
    pub fn has_id(&self) -> bool {
        self.components == XCN_NAME
    }

    /// The parts of a component that hold it. Mostly the first is the name, the street, the code; a name with a location
    /// (NDL) has in its first component an id and then the names.
    pub fn holds_part(&self, component: u16, part: u16) -> bool {
        match self.components == NDL_NAME && component == 1 {
            true => matches!(part, 2 | 3),
            false => part <= 1,
        }
    }
}

const NAME: &[u16] = &[1, 2, 3];
/// XCN has an id before the name.
const XCN_NAME: &[u16] = &[2, 3];
/// NDL has both in its first component; some send an XCN instead. The 0 stands for no component: it keeps this apart
/// from [`NAME`].
const NDL_NAME: &[u16] = &[1, 2, 3, 0];
const XAD: &[u16] = &[1, 2, 3, 5];
const FIRST: &[u16] = &[1];
const TIMES: &[u16] = &[4, 5];
const PHONE: &[u16] = &[1, 4, 7, 12];
/// What has no code has a text.
const CODE: &[u16] = &[1, 2];

/// By segment and field.
pub(super) fn hl7(segment: &[u8], field: u16) -> Option<Hl7> {
    use Class::*;
    let patient = |class, components| {
        Some(Hl7 {
            class,
            owner: Owner::Patient,
            components,
        })
    };
    let person = |class, components| {
        Some(Hl7 {
            class,
            owner: Owner::Person,
            components,
        })
    };
    match (segment, field) {
        (b"PID", 2..=4) | (b"PD1", 10) => patient(Mrn, FIRST),
        (b"PID", 5 | 6 | 9) | (b"MRG", 7) => patient(Name, NAME),
        (b"PID", 7) => patient(BirthDate, FIRST),
        (b"PID", 10 | 22) => patient(Ethnicity, FIRST),
        (b"PID", 11) => patient(Address, XAD),
        (b"PID", 13 | 14 | 40) => patient(Phone, PHONE),
        (b"PID", 17) => patient(Religion, FIRST),
        (b"PID", 18) | (b"MRG", 3 | 5 | 6) | (b"PV1", 5 | 19 | 50) => patient(Account, FIRST),
        (b"PID", 19) => patient(Ssn, FIRST),
        (b"PID", 20) => patient(Licence, FIRST),
        (b"PID", 21) => patient(PatientId, FIRST),
        (b"PID", 23) => patient(Address, FIRST),
        (b"PID", 29) => patient(DeathDate, FIRST),
        (b"MRG", 1 | 2 | 4) => patient(Mrn, FIRST),
        (b"NK1", 2 | 26 | 30) | (b"GT1", 3 | 4 | 42 | 45) | (b"IN1", 16) => patient(Name, NAME),
        // An employer's are the patient's, too (45 CFR 164.514(b)(2)(i)).
        (b"NK1", 4 | 32) | (b"GT1", 5 | 17) | (b"IN1", 19 | 44) => patient(Address, XAD),
        (b"NK1", 5 | 6 | 31) | (b"GT1", 6 | 7 | 18 | 46) => patient(Phone, PHONE),
        (b"NK1", 16) | (b"GT1", 8) | (b"IN1", 18) => patient(BirthDate, FIRST),
        (b"NK1", 12 | 33) | (b"GT1", 2 | 19) | (b"IN2", 1) | (b"DB1", 3) => patient(PatientId, FIRST),
        (b"NK1", 37) | (b"GT1", 12) | (b"IN2", 2) => patient(Ssn, FIRST),
        (b"IN1", 8 | 36 | 49) | (b"IN2", 6 | 8 | 10 | 26 | 61) => patient(HealthPlan, FIRST),
        (b"IN2", 7 | 9 | 40 | 22 | 52) => patient(Name, NAME),
        (b"IN2", 53 | 63 | 64) => patient(Phone, PHONE),
        (b"QRD", 8) | (b"URD", 3) => patient(Name, XCN_NAME),
        (b"PV1", 44 | 45) | (b"PV2", 8 | 9) | (b"PR1", 5) | (b"OBR", 7 | 8 | 22) | (b"RXA", 3) => {
            patient(Date, FIRST)
        }
        (b"OBX", 14 | 19)
        | (b"DG1", 5)
        | (b"ACC", 1)
        | (b"TXA" | b"FT1" | b"AIS", 4)
        | (b"SPM", 17)
        | (b"AL1", 6)
        | (b"RXD", 3)
        | (b"OBR", 14) => patient(Date, FIRST),
        // From and to, of the time that was set (TQ).
        (b"SCH", 11) => patient(Date, TIMES),
        (b"PV1", 7..=9 | 17 | 52) | (b"ORC", 10..=12) | (b"OBR", 10 | 16 | 28) => person(Name, XCN_NAME),
        (b"ROL" | b"PRT", 4 | 5) | (b"PD1", 4) | (b"EVN", 5) | (b"OBX", 16 | 25) => person(Name, XCN_NAME),
        (b"TXA", 5 | 9..=11 | 22 | 23) | (b"FT1", 20 | 21 | 24) | (b"PV2", 13) => person(Name, XCN_NAME),
        // A number of the Drug Enforcement Administration, as a person has it.
        (b"RXE", 13 | 14) | (b"RXO", 14 | 15) | (b"RXD", 10) | (b"ORC", 19) => person(Name, XCN_NAME),
        (b"ACC", 7) | (b"ABS", 1 | 5 | 8) | (b"IAM", 18) | (b"IN3", 3 | 8 | 14 | 25) | (b"IN1", 30) => {
            person(Name, XCN_NAME)
        }
        (b"ARQ", 15 | 19) | (b"BPX", 20 | 21) | (b"BTX", 14 | 15) | (b"OVR", 4 | 5) | (b"PDA", 5 | 8) => {
            person(Name, XCN_NAME)
        }
        (b"PES", 2) | (b"VAR", 4) | (b"OM7", 20) | (b"CM0", 5 | 9) | (b"CSR", 7 | 8) | (b"FAC", 5 | 9) => {
            person(Name, XCN_NAME)
        }
        (b"RXA", 10) | (b"DG1", 16) | (b"PR1", 8 | 11 | 12) | (b"AIP", 3) | (b"SCH", 12 | 16 | 20) => {
            person(Name, XCN_NAME)
        }
        (b"OBR", 32..=35) => person(Name, NDL_NAME),
        (b"STF", 6) => person(BirthDate, FIRST),
        (b"CTD", 2) | (b"STF", 3) | (b"PRD", 2) | (b"PEO", 19) => person(Name, NAME),
        (b"IN1", 6) | (b"IN2", 49) | (b"IAM", 14) => person(Name, NAME),
        (b"ORC", 14) | (b"OBR", 17) | (b"CTD" | b"PRD", 5) | (b"STF", 10) => person(Phone, PHONE),
        (b"SCH", 13 | 17 | 21) | (b"ARQ", 16 | 20) | (b"ROL", 12) | (b"PEO", 21) => person(Phone, PHONE),
        (b"PRD" | b"CTD", 3) | (b"ORC", 24) | (b"STF" | b"ROL", 11) | (b"PEO", 20) => person(Address, XAD),
        (b"SCH", 14 | 18) | (b"ARQ", 17) => person(Address, XAD),
        (b"DG1", 3 | 4) | (b"PRB", 3) | (b"PV2", 3) | (b"OBR", 31) | (b"FT1", 19) => patient(Diagnosis, CODE),
        (b"PR1", 3) | (b"FT1", 7 | 25) => patient(Procedure, CODE),
        (b"RXA", 5) | (b"RXE", 2) | (b"RXO", 1) | (b"RXD", 2) | (b"RXG", 4) | (b"RXC", 2) => {
            patient(Medication, CODE)
        }
        (b"AL1" | b"IAM", 3) => patient(Allergy, CODE),
        (b"OBX", 3) | (b"OBR", 4) => patient(Observation, CODE),
        _ => None,
    }
}

/// `PID.5`, `PID-5`, `PID.5.1`: the name of a field that is known here, or of its component. No more than that is in it.
pub(super) fn hl7_place(name: &[u8]) -> bool {
    numbered(name).is_some_and(|(id, field, _)| hl7(id, field).is_some()) && name.len() <= 9
}

/// A segment or type, a number, and a component's: `PID.5`, `PID_5_1`, `XPN.2`. Two numbers where underscores are between,
/// since `PID_2` is a controller's.
pub(super) fn numbered(name: &[u8]) -> Option<(&[u8], u16, Option<u16>)> {
    if !name.first()?.is_ascii_uppercase() {
        return None;
    }
    let is_sign = |byte: &u8| b".-_".contains(byte);
    let id = name
        .iter()
        .take(4)
        .position(is_sign)
        .filter(|length| *length >= 2)?;
    let of = |digits: &[u8]| match digits.len() {
        1 | 2 => std::str::from_utf8(digits).ok()?.parse::<u16>().ok(),
        _ => None,
    };
    let mut numbers = name.get(id + 1..)?.split(is_sign);
    let field = of(numbers.next()?)?;
    let part = numbers.next();
    let rest = numbers.next();
    let is_plain = part.is_none_or(|part| of(part).is_some()) && rest.is_none_or(|rest| of(rest).is_some());
    (is_plain && (name[id] != b'_' || part.is_some())).then(|| (&name[..id], field, part.and_then(of)))
}

/// A field of many things, which is what its code system says or nothing: a charge may be a night as well.
pub(super) fn hl7_by_system(segment: &[u8], field: u16) -> bool {
    (segment, field) == (b"FT1", 7)
}

/// Fields that hold text that people wrote.
pub(super) fn hl7_is_text(segment: &[u8], field: u16) -> bool {
    matches!(
        (segment, field),
        (b"NTE", 3) | (b"OBX", 5) | (b"PID", 12) | (b"ACC", _) | (b"ZZZ", _) | (b"DG1", 4) | (b"OBR", 13)
    ) || segment.first() == Some(&b'Z')
}

/// What an element of an X12 segment holds, by the entity that NM1 named last.
pub(super) fn x12(segment: &[u8], element: u16, entity: &[u8], qualifier: &[u8]) -> Option<(Class, Owner)> {
    use Class::*;
    // Insured, patient, subscriber, dependent, guarantor, corrected insured.
    let owner = match entity {
        b"IL" | b"QC" | b"74" | b"03" | b"S3" | b"QD" | b"LR" | b"31" | b"70" => Owner::Patient,
        // Persons who render, refer, order, attend …
        b"82" | b"DN" | b"DK" | b"DQ" | b"71" | b"72" | b"73" | b"P3" | b"1P" | b"SJ" | b"ZZ" => {
            Owner::Person
        }
        _ => Owner::Organization,
    };
    let patient = owner == Owner::Patient;
    Some(match (segment, element) {
        (b"NM1", 3..=5) => (Name, owner),
        (b"NM1", 9) if qualifier == b"XX" => (Npi, Owner::Person),
        (b"NM1", 9) if qualifier == b"34" => (Ssn, owner),
        (b"NM1", 9) if patient => (HealthPlan, owner),
        (b"N3", _) | (b"N4", 1 | 3) => (Address, owner),
        (b"DMG", 2) if qualifier == b"D8" => (BirthDate, Owner::Patient),
        (b"PER", 2) => (Name, owner),
        (b"PER", 4 | 6 | 8) => match qualifier {
            b"TE" | b"HP" | b"WP" | b"CP" => (Phone, owner),
            b"FX" => (Fax, owner),
            b"EM" => (Email, owner),
            _ => return None,
        },
        (b"REF", 2) => match qualifier {
            b"SY" => (Ssn, Owner::Patient),
            b"0F" | b"1W" | b"IG" | b"1L" | b"6P" | b"HJ" => (HealthPlan, Owner::Patient),
            b"EA" => (Mrn, Owner::Patient),
            b"EJ" => (Account, Owner::Patient),
            _ => return None,
        },
        (b"CLM" | b"CLP", 1) => (Account, Owner::Patient),
        // Diagnoses and procedures of several code sets; values, conditions and occurrences are of other qualifiers.
        (b"HI", _) => match qualifier {
            b"ABK" | b"ABF" | b"ABJ" | b"ABN" | b"APR" | b"BK" | b"BF" | b"BJ" | b"BN" | b"PR" | b"DR" => {
                (Diagnosis, Owner::Patient)
            }
            b"BBR" | b"BBQ" | b"BR" | b"BQ" | b"BP" | b"BO" | b"CAH" => (Procedure, Owner::Patient),
            _ => return None,
        },
        (b"SV1" | b"SV3" | b"SVC", 1) | (b"SV2", 2) => (Procedure, Owner::Patient),
        // Of claims and services, as payers write them.
        (b"DTM", 2) => match qualifier {
            b"232" | b"233" | b"472" | b"150" | b"151" => (Date, Owner::Patient),
            _ => return None,
        },
        (b"DTP", 3) => match qualifier {
            b"435" | b"096" | b"472" | b"434" | b"431" | b"439" => (Date, Owner::Patient),
            _ => return None,
        },
        (b"INS", 12) => (DeathDate, Owner::Patient),
        _ => return None,
    })
}

/// A tag of the DICOM JSON model.
pub(super) fn dicom(tag: &[u8]) -> Option<(Class, Owner)> {
    use Class::*;
    Some(match tag {
        b"00100010" | b"00101001" | b"00101005" | b"00101060" | b"00102297" => (Name, Owner::Patient),
        b"00100020" | b"00101000" => (Mrn, Owner::Patient),
        b"00100030" => (BirthDate, Owner::Patient),
        b"00101040" | b"00102152" => (Address, Owner::Patient),
        b"00102154" | b"00102155" => (Phone, Owner::Patient),
        b"00101090" => (Mrn, Owner::Patient),
        b"00100050" => (HealthPlan, Owner::Patient),
        b"00102160" => (Ethnicity, Owner::Patient),
        b"001021F0" => (Religion, Owner::Patient),
        b"00080050" | b"00380010" => (Account, Owner::Patient),
        b"00080090" | b"00081048" | b"00081050" | b"00081060" | b"00081070" | b"00321032" => {
            (Name, Owner::Person)
        }
        b"00080020" | b"00080021" | b"00080022" | b"00080023" | b"0008002A" | b"00380020" | b"00380030"
        | b"00400002" | b"00400004" | b"00400244" | b"00400250" | b"00404005" | b"00404011" | b"0040A030"
        | b"0040A032" => (Date, Owner::Patient),
        b"00181000" | b"00181002" => (Device, Owner::Patient),
        b"00081080" => (Diagnosis, Owner::Patient),
        b"00102110" => (Allergy, Owner::Patient),
        _ => return None,
    })
}
