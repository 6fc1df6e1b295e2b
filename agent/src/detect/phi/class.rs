//! What a detector is: a table of names, words and shapes, with examples that hold it to its word.
//!
//! [`DETECTORS`] is the registry and the reference: the documentation is rendered from it. It must not know how values
//! are visited.

use super::detectors::*;

/// What the classes of a group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Identifies a patient, or a relative, an employer or a household member of one (45 CFR 164.514(b)(2)(i)).
    Phi,
    /// About a person who is not the patient, or of the special categories of GDPR Article 9.
    Pii,
    /// About somebody's health.
    Health,
    Financial,
    Credential,
}

impl Group {
    /// The name in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Group::Phi => "phi",
            Group::Pii => "pii",
            Group::Health => "health",
            Group::Financial => "financial",
            Group::Credential => "credential",
        }
    }
}

/// What a shape says of a text that may be a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    No,
    /// It has the form, and counts where a word says so.
    Named,
    /// It has the form.
    Form,
    /// Its check digits are right as well.
    Checked,
}

/// What values look like in text, and how much that says.
pub struct Shape {
    /// Lengths of runs of digits, such as `[3, 2, 4]`, and what may stand between them; empty: see `word`.
    pub digits: &'static [(&'static [u8], &'static [u8])],
    /// Letters and digits in one word, between so many.
    pub word: Option<(usize, usize)>,
    /// Gets the letters and digits alone.
    pub check: fn(&[u8]) -> Fit,
    /// Confidence where no word is beside it, by whether the digits stand in groups; 0: not reported.
    pub alone: u8,
    pub alone_grouped: u8,
    /// Confidence beside one of the detector's words.
    pub beside: u8,
}

/// One class of personal data.
pub struct Detector {
    pub class: Class,
    /// In policies and events.
    pub name: &'static str,
    pub group: Group,
    pub about: &'static str,
    /// Where it is defined.
    pub source: &'static str,
    /// A value of it names one person or thing: it gets a keyed hash.
    pub identifies: bool,
    /// Names of keys, in lower case without separators; also behind other words (`patient_ssn`).
    pub keys: &'static [&'static str],
    /// Names that say it only alone, or behind words for people (`patientName`).
    pub keys_alone: &'static [&'static str],
    /// Names that say it only beside other personal data, or below a word for people.
    pub keys_beside: &'static [&'static str],
    /// Words before a value in text, or in its key.
    pub words: &'static [&'static str],
    /// Whether a value in such a place is one.
    pub fits: fn(&[u8]) -> bool,
    pub shape: Option<Shape>,
    /// Documents that have one, and that have none.
    pub examples: &'static [&'static str],
    pub counter_examples: &'static [&'static str],
}

/// A detector's place in [`DETECTORS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    Name,
    Address,
    BirthDate,
    DeathDate,
    Date,
    Phone,
    Fax,
    Email,
    Ssn,
    Mrn,
    PatientId,
    HealthPlan,
    Mbi,
    Account,
    Licence,
    Npi,
    Dea,
    Passport,
    Vehicle,
    Device,
    Url,
    Ip,
    Biometric,
    Photo,
    NhsNumber,
    Bsn,
    Nir,
    SteuerId,
    Sin,
    Card,
    Iban,
    Diagnosis,
    Procedure,
    Medication,
    Allergy,
    Observation,
    Ethnicity,
    Religion,
    PoliticalOpinion,
    UnionMembership,
    SexualOrientation,
    Genetic,
    Token,
    Password,
    PrivateKey,
}

/// Every detector, in the order of [`Class`].
pub const DETECTORS: &[&Detector] = &[
    &name::DETECTOR,
    &address::DETECTOR,
    &birth_date::DETECTOR,
    &death_date::DETECTOR,
    &date::DETECTOR,
    &phone::DETECTOR,
    &fax::DETECTOR,
    &email::DETECTOR,
    &ssn::DETECTOR,
    &mrn::DETECTOR,
    &patient_id::DETECTOR,
    &health_plan::DETECTOR,
    &mbi::DETECTOR,
    &account::DETECTOR,
    &licence::DETECTOR,
    &npi::DETECTOR,
    &dea::DETECTOR,
    &passport::DETECTOR,
    &vehicle::DETECTOR,
    &device::DETECTOR,
    &url::DETECTOR,
    &ip::DETECTOR,
    &biometric::DETECTOR,
    &photo::DETECTOR,
    &nhs_number::DETECTOR,
    &bsn::DETECTOR,
    &nir::DETECTOR,
    &steuer_id::DETECTOR,
    &sin::DETECTOR,
    &card::DETECTOR,
    &iban::DETECTOR,
    &diagnosis::DETECTOR,
    &procedure::DETECTOR,
    &medication::DETECTOR,
    &allergy::DETECTOR,
    &observation::DETECTOR,
    &ethnicity::DETECTOR,
    &religion::DETECTOR,
    &political_opinion::DETECTOR,
    &union_membership::DETECTOR,
    &sexual_orientation::DETECTOR,
    &genetic::DETECTOR,
    &token::DETECTOR,
    &password::DETECTOR,
    &private_key::DETECTOR,
];

impl Class {
    pub fn detector(self) -> &'static Detector {
        DETECTORS[self as usize]
    }
}
