//! What a call does, in the words of the API standard that it speaks ([`Operation`](super::Operation)).
//!
//! Told at each phase, before it is judged: by the head where that is enough, then with the body, then with the answer.
//! Each standard has a file; what identifies it is content (media type, shape of the path, first words of a body),
//! never a port or a base path. It must not show a name that a caller can choose but through the redactor, and not know
//! what personal data is: that is for `detect`.

mod dicomweb;
mod fhir;
#[cfg(test)]
mod given;
mod graphql;
pub(super) mod hl7v2;
pub(super) mod json;
mod jsonrpc;
pub(super) mod query;
mod soap;
mod x12;
mod xml;

use bytes::Bytes;

use super::redact::Redactor;
use super::{ApiCall, CallDirection, Phase, Protocol};

/// Fills in what can be told by now.
pub(super) fn tell(phase: Phase, call: &mut ApiCall, redactor: &mut Redactor) {
    if call.protocol == Protocol::Mllp {
        return;
    }
    // Those whose heads say what they are come first; a body is looked into by one after the other.
    fhir::tell(phase, call, redactor);
    dicomweb::tell(phase, call, redactor);
    soap::tell(phase, call, redactor);
    graphql::tell(phase, call, redactor);
    jsonrpc::tell(phase, call, redactor);
    x12::tell(phase, call, redactor);
    hl7v2::tell(phase, call, redactor);
}

/// A resource type of FHIR.
pub(super) fn is_fhir_type(name: &str) -> bool {
    fhir::is_type(name)
}

/// Who calls, for names that have to be earned: the peer inbound, the program outbound.
#[derive(Clone, Copy)]
struct Caller(u64);

impl Caller {
    fn of(call: &ApiCall, redactor: &Redactor) -> Caller {
        Caller(match (call.direction, call.flow.remote) {
            (CallDirection::Inbound, Some(remote)) => redactor.witness(remote.ip()),
            (CallDirection::Inbound, None) => 0,
            (CallDirection::Outbound, _) => redactor.witness(call.process.exe.as_str()),
        })
    }
}

/// A header field; the first of that name.
fn header<'a>(headers: &'a [(Bytes, Bytes)], name: &str) -> Option<&'a [u8]> {
    headers
        .iter()
        .find(|(known, _)| known.as_ref() == name.as_bytes())
        .map(|(_, value)| value.as_ref())
}

/// The answer's body is still as it was sent, in an encoding.
fn is_encoded(call: &ApiCall) -> bool {
    let raw = &call.raw;
    !raw.response_decoded
        && header(&raw.response_headers, "content-encoding").is_some_and(|value| {
            !value.eq_ignore_ascii_case(b"identity") && !value.eq_ignore_ascii_case(b"none")
        })
}

/// It has these letters in it, whatever their case. `wanted` is in lower case.
fn contains(bytes: &[u8], wanted: &str) -> bool {
    let wanted = wanted.as_bytes();
    let Some(first) = wanted.first() else {
        return true;
    };
    memchr::memchr2_iter(*first, first.to_ascii_uppercase(), bytes).any(|at| {
        bytes
            .get(at..at + wanted.len())
            .is_some_and(|part| part.eq_ignore_ascii_case(wanted))
    })
}
