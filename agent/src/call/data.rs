//! What kinds of personal data a call carries: found by `detect`, a fact of the call from then on.

use smol_str::SmolStr;

/// What a finding of personal data rests on, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// The value's shape alone.
    Pattern,
    /// Its shape, and words beside it.
    Context,
    /// Its own check digits.
    Checksum,
    /// Where it stands: an element of FHIR, a field of HL7, a DICOM tag, a key.
    Structure,
}

/// Which part of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    RequestPath,
    RequestQuery,
    RequestHeaders,
    RequestBody,
    ResponseHeaders,
    ResponseBody,
}

/// Values of one class at one place. Never a value itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Kebab-case, stable: `name`, `ssn`, `mrn`, `phone`, `diagnosis`, `card`, `token` …
    pub class: SmolStr,
    /// The group of classes it belongs to: `phi`, `pii`, `health`, `financial`, `credential`.
    pub group: &'static str,
    pub evidence: Evidence,
    /// 0 to 100.
    pub confidence: u8,
    pub part: Part,
    /// Keys on the way to it with those that are no shipped vocabulary replaced: `$.entry[].resource.name[].family`,
    /// `PID-5`, `?birthdate`.
    pub location: SmolStr,
    pub count: u32,
    /// Keyed hash of the first value, to correlate by: 16 hex digits. `None`: the class is not one that identifies.
    pub hash: Option<SmolStr>,
}

/// What is less certain is told, and counts as no patient's.
const PATIENT_CONFIDENCE_MIN: u8 = 50;

impl Data {
    /// Values that identify a patient or are about a patient's health.
    pub fn is_patient(&self) -> bool {
        matches!(self.group, "phi" | "health") && self.confidence >= PATIENT_CONFIDENCE_MIN
    }
}

impl Evidence {
    /// The name in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Evidence::Pattern => "pattern",
            Evidence::Context => "context",
            Evidence::Checksum => "checksum",
            Evidence::Structure => "structure",
        }
    }
}

impl Part {
    /// The name in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::RequestPath => "request.path",
            Part::RequestQuery => "request.query",
            Part::RequestHeaders => "request.headers",
            Part::RequestBody => "request.body",
            Part::ResponseHeaders => "response.headers",
            Part::ResponseBody => "response.body",
        }
    }

    /// It belongs to the request.
    pub fn is_request(self) -> bool {
        self < Part::ResponseHeaders
    }
}
