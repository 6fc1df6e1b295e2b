//! What a call does, in the words of the API standard that it speaks ([`Operation`](super::Operation)).
//!
//! Told at each phase, before it is judged: by the head where that is enough, then with the body, then with the answer.
//! Each standard has a file; what identifies it is content (media type, shape of the path, first words of a body),
//! never a port or a base path. It must not show a name that a caller can choose but through the redactor, and not know
//! what personal data is: that is for `detect`.

pub(super) mod fhir;
#[cfg(test)]
mod given;
pub(super) mod hl7v2;
mod json;
mod xml;

use bytes::Bytes;

use super::redact::Redactor;
use super::{ApiCall, Phase, Protocol};

/// Fills in what can be told by now.
pub(super) fn tell(phase: Phase, call: &mut ApiCall, redactor: &mut Redactor) {
    if call.protocol == Protocol::Mllp {
        return;
    }
    fhir::tell(phase, call, redactor);
}

/// A header field; the first of that name.
fn header<'a>(headers: &'a [(Bytes, Bytes)], name: &str) -> Option<&'a [u8]> {
    headers
        .iter()
        .find(|(known, _)| known.as_ref() == name.as_bytes())
        .map(|(_, value)| value.as_ref())
}

/// It has these letters in it, whatever their case. `wanted` is in lower case.
fn contains(bytes: &[u8], wanted: &str) -> bool {
    bytes
        .windows(wanted.len())
        .any(|window| window.eq_ignore_ascii_case(wanted.as_bytes()))
}
