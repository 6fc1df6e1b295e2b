//! A body as it is gathered: up to a limit, counted beyond it.

use bytes::Bytes;

use super::content::{Content, ContentLimits};
use super::{ApiCall, BodyFacts};
use crate::decode::Anomaly;

/// Without memory of its own while the body is empty or in one piece, which is nearly always.
#[derive(Default)]
pub(super) struct Body {
    whole: Bytes,
    parts: Vec<u8>,
    total: u64,
    missed: bool,
}

impl Body {
    /// Adds captured bytes; keeps them as far as `bytes_max` and `budget` (all bodies together) allow. Returns how
    /// many it kept.
    pub(super) fn add(&mut self, bytes: Bytes, bytes_max: usize, budget: usize) -> usize {
        self.total = self.total.saturating_add(bytes.len() as u64);
        let room = bytes_max.saturating_sub(self.captured()).min(budget);
        let keep = bytes.len().min(room);
        self.missed |= keep < bytes.len();
        if keep == 0 {
            return 0;
        }
        if self.captured() == 0 {
            self.whole = bytes.slice(..keep);
        } else {
            if self.parts.is_empty() {
                self.parts.extend_from_slice(&std::mem::take(&mut self.whole));
            }
            self.parts.extend_from_slice(&bytes[..keep]);
        }
        keep
    }

    /// So many bytes went by without being captured.
    pub(super) fn miss(&mut self, bytes: u64) {
        self.total = self.total.saturating_add(bytes);
        self.missed = true;
    }

    /// The end is missing, by an unknown number of bytes.
    pub(super) fn cut(&mut self) {
        self.missed = true;
    }

    /// Bytes that came, seen or not.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn captured(&self) -> usize {
        self.whole.len() + self.parts.len()
    }

    pub(super) fn facts(&self, media_type: smol_str::SmolStr) -> BodyFacts {
        BodyFacts {
            bytes_total: self.total,
            bytes_captured: self.captured() as u64,
            truncated: self.missed,
            media_type,
        }
    }

    pub(super) fn bytes(&mut self) -> Bytes {
        if !self.parts.is_empty() {
            self.whole = Bytes::from(std::mem::take(&mut self.parts));
        }
        self.whole.clone()
    }
}

/// Undoes the encodings of a call's bodies, once for all who read them. Who hands the call on puts back what was
/// captured: what few bytes become is held for no longer than that.
pub(super) fn decode(call: &mut ApiCall) {
    let cut = call.request.body.truncated;
    let raw = &mut call.raw;
    let mut anomalies = [None, None];
    if !raw.request_decoded {
        (raw.request_decoded, anomalies[0]) = decoded(&raw.request_headers, &mut raw.request_body, cut);
    }
    if let Some(response) = &call.response
        && !raw.response_decoded
    {
        let cut = response.body.truncated;
        (raw.response_decoded, anomalies[1]) = decoded(&raw.response_headers, &mut raw.response_body, cut);
    }
    for anomaly in anomalies.into_iter().flatten() {
        if !call.anomalies.contains(&anomaly) {
            call.anomalies.push(anomaly);
        }
    }
}

/// Whether there was something to undo.
fn decoded(headers: &[(Bytes, Bytes)], body: &mut Bytes, truncated: bool) -> (bool, Option<Anomaly>) {
    if body.is_empty() {
        return (false, None);
    }
    // Several fields are one list.
    let mut encodings: Vec<u8> = Vec::new();
    for (_, value) in headers
        .iter()
        .filter(|(name, _)| name.as_ref() == b"content-encoding")
    {
        if !encodings.is_empty() {
            encodings.push(b',');
        }
        encodings.extend_from_slice(value);
    }
    let guessed = encodings.is_empty();
    if guessed {
        // Of a connection of HTTP/2 that was joined late the field may be in a table that nobody here has seen, and then so is
        // the type; and a packed file may be sent with neither. Two of the encodings say themselves what they are.
        let known: &[u8] = match body.as_ref() {
            [0x1f, 0x8b, 8, ..] => b"gzip",
            [0x28, 0xb5, 0x2f, 0xfd, ..] => b"zstd",
            _ => return (false, None),
        };
        if headers.iter().any(|(name, _)| name.as_ref() == b"content-type") {
            return (false, None);
        }
        encodings.extend_from_slice(known);
    }
    let content = Content {
        bytes: body,
        content_type: b"",
        content_encoding: &encodings,
        message: None,
        truncated,
    };
    let (bytes, anomaly) = content.decoded(&ContentLimits::default());
    if guessed && anomaly.is_some() {
        // It only begins like that: it is looked at as it is.
        return (false, None);
    }
    if let std::borrow::Cow::Owned(bytes) = bytes {
        *body = Bytes::from(bytes);
    }
    (true, anomaly)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_up_to_the_limit_and_counts_beyond() {
        let mut body = Body::default();
        assert_eq!(body.add(Bytes::from_static(b"abc"), 5, 100), 3);
        assert_eq!(body.add(Bytes::from_static(b"defg"), 5, 100), 2);
        body.miss(10);
        let facts = body.facts("".into());
        assert_eq!(
            (facts.bytes_total, facts.bytes_captured, facts.truncated),
            (17, 5, true)
        );
        assert_eq!(body.bytes(), "abcde");
    }

    #[test]
    fn an_encoding_that_nobody_told_is_undone_where_its_bytes_say_so() {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"{\"ssn\":1}").unwrap();
        let packed = Bytes::from(encoder.finish().unwrap());
        let mut body = packed.clone();
        assert_eq!(decoded(&[], &mut body, false), (true, None));
        assert_eq!(body, "{\"ssn\":1}");
        // What is said to be a file stays one, and what is none is no oddity.
        let file = [("content-type", "application/gzip")].map(|(name, value)| {
            (
                Bytes::from_static(name.as_bytes()),
                Bytes::from_static(value.as_bytes()),
            )
        });
        let mut body = packed.clone();
        assert_eq!(decoded(&file, &mut body, false), (false, None));
        assert_eq!(body, packed);
        let mut body = Bytes::from_static(b"\x1f\x8b\x08 and no more");
        assert_eq!(decoded(&[], &mut body, false), (false, None));
        assert_eq!(body, &b"\x1f\x8b\x08 and no more"[..]);
    }

    #[test]
    fn one_piece_is_not_copied() {
        let piece = Bytes::from(vec![1, 2, 3]);
        let mut body = Body::default();
        body.add(piece.clone(), 10, 10);
        assert_eq!(body.bytes().as_ptr(), piece.as_ptr());
        assert!(!body.facts("".into()).truncated);
    }

    #[test]
    fn encodings_are_undone_once() {
        use std::io::Write;
        let bundle = br#"{"resourceType":"Bundle","entry":[{},{}]}"#;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bundle).expect("memory");
        let encoded = Bytes::from(encoder.finish().expect("memory"));
        let header = |value: &'static str| {
            vec![(
                Bytes::from_static(b"content-encoding"),
                Bytes::from_static(value.as_bytes()),
            )]
        };
        let mut body = encoded.clone();
        assert_eq!(decoded(&header("gzip"), &mut body, false), (true, None));
        assert_eq!(body, &bundle[..]);
        let mut body = encoded.clone();
        assert_eq!(
            decoded(&header("zorks"), &mut body, false),
            (true, Some(Anomaly::UnknownContentEncoding))
        );
        assert_eq!(body, encoded);
    }
}
