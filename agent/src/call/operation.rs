//! What a call does, in the words of the API standard that it speaks.

use smol_str::SmolStr;

/// An API standard that is recognised by content, on top of the protocol that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// HL7 FHIR R4 and R5.
    Fhir,
    /// HL7 version 2 over MLLP.
    Hl7v2,
    DicomWeb,
    Grpc,
    GrpcWeb,
    GraphQl,
    Soap,
    JsonRpc,
    /// ASC X12 transaction sets in a body.
    X12,
}

/// The operation of a call. Only shipped words, counts and keyed hashes: a name that the caller may choose has to pass
/// the redactor like a path segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub api: Api,
    /// `read`, `search`, `$export`, `query getPatient`, `package.Service/Method`, `ADT^A01`.
    pub name: SmolStr,
    /// The kind of thing that it is about, such as FHIR's resource type; empty: none.
    pub resource: SmolStr,
    /// Keyed hash of whose data it is about: the patient's id in the compartment, PID-3 …
    pub subject: Option<SmolStr>,
    /// Entries asked for or returned: of a bundle, a batch, a multipart body. 0: none, or not known.
    pub entries: u32,
    /// More facts by name, in a fixed order: `charset`, `ack`, `depth`, `include` …
    pub details: Vec<(&'static str, SmolStr)>,
}

impl Api {
    /// The name in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Api::Fhir => "fhir",
            Api::Hl7v2 => "hl7v2",
            Api::DicomWeb => "dicomweb",
            Api::Grpc => "grpc",
            Api::GrpcWeb => "grpc-web",
            Api::GraphQl => "graphql",
            Api::Soap => "soap",
            Api::JsonRpc => "json-rpc",
            Api::X12 => "x12",
        }
    }
}
