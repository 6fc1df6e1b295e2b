//! The fields of one header block → a [`Head`], or trailers (RFC 9113 §8).
//!
//! What the RFC calls malformed is named as an anomaly and read all the same: a receiver that goes on with it may see
//! something else than one that does not.

use std::sync::Arc;

use bytes::Bytes;

use super::super::scan::{is_tchar, registered_method};
use super::super::{Anomaly, Framing, Head, Limits, StartLine};
use super::hpack::Field;

/// What a field counts beyond its bytes (RFC 9113 §6.5.2, as in HPACK).
const FIELD_OVERHEAD: usize = 32;

/// What a block is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
}

/// Takes the fields of a block one by one.
pub struct Gathered {
    method: Option<Bytes>,
    scheme: Option<Bytes>,
    path: Option<Bytes>,
    authority: Option<Bytes>,
    /// RFC 8441.
    protocol: Option<Bytes>,
    status: Option<Bytes>,
    headers: Vec<(Bytes, Bytes)>,
    anomalies: Vec<Anomaly>,
    unknown: u32,
    /// By §6.5.2.
    size: usize,
    cookies: u32,
}

impl Gathered {
    pub fn new() -> Self {
        Gathered {
            method: None,
            scheme: None,
            path: None,
            authority: None,
            protocol: None,
            status: None,
            headers: Vec::with_capacity(16),
            anomalies: Vec::new(),
            unknown: 0,
            size: 0,
            cookies: 0,
        }
    }

    pub fn note(&mut self, anomaly: Anomaly) {
        if !self.anomalies.contains(&anomaly) {
            self.anomalies.push(anomaly);
        }
    }

    /// The block begins a request, as far as its pseudo-header fields tell.
    pub fn is_request(&self) -> bool {
        self.method.is_some() || self.path.is_some() || self.scheme.is_some() || self.authority.is_some()
    }

    /// The block begins a response.
    pub fn is_response(&self) -> bool {
        self.status.is_some()
    }

    /// Fields that are unknown, or half of which is.
    pub fn unknown(&self) -> u32 {
        self.unknown
    }

    pub fn field(&mut self, field: Field, limits: &Limits) {
        let (Some(name), Some(value)) = (field.name, field.value) else {
            self.unknown += 1;
            return;
        };
        if name.first() == Some(&b':') {
            self.pseudo(&name, value);
            return;
        }
        self.size += name.len() + value.len() + FIELD_OVERHEAD;
        if self.headers.len() >= limits.headers_max {
            self.note(Anomaly::TooManyHeaders);
            return;
        }
        if self.size > limits.head_bytes_max {
            self.note(Anomaly::HeadTooLong);
            return;
        }
        let name = self.checked_name(name);
        if has_invalid_bytes(&value) {
            self.note(Anomaly::InvalidHeaderValue);
        }
        match name.as_ref() {
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
                self.note(Anomaly::ConnectionField);
            }
            b"te" if !value.eq_ignore_ascii_case(b"trailers") => self.note(Anomaly::ConnectionField),
            b"cookie" => self.cookies += 1,
            _ => {}
        }
        self.headers.push((name, value));
    }

    fn checked_name(&mut self, name: Bytes) -> Bytes {
        if !name.is_empty()
            && name
                .iter()
                .all(|byte| is_tchar(*byte) && !byte.is_ascii_uppercase())
        {
            return name;
        }
        self.note(Anomaly::InvalidHeaderName);
        Bytes::from(name.to_ascii_lowercase())
    }

    fn pseudo(&mut self, name: &[u8], value: Bytes) {
        // They come first (§8.3).
        if !self.headers.is_empty() {
            self.note(Anomaly::InvalidPseudoHeader);
        }
        if has_invalid_bytes(&value) {
            self.note(Anomaly::InvalidHeaderValue);
        }
        let slot = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":path" => &mut self.path,
            b":authority" => &mut self.authority,
            b":protocol" => &mut self.protocol,
            b":status" => &mut self.status,
            _ => return self.note(Anomaly::InvalidPseudoHeader),
        };
        match slot {
            Some(_) => self.note(Anomaly::InvalidPseudoHeader),
            None => *slot = Some(value),
        }
    }

    pub fn trailers(mut self) -> (Vec<(Bytes, Bytes)>, Vec<Anomaly>) {
        if self.is_request() || self.is_response() || self.protocol.is_some() {
            self.note(Anomaly::InvalidPseudoHeader);
        }
        if self.unknown > 0 {
            self.note(Anomaly::UnknownFields);
        }
        (self.headers, self.anomalies)
    }

    /// `ended`: nothing follows the block. `bytes`: its frames.
    pub fn head(mut self, kind: Kind, ended: bool, bytes: u32) -> Head {
        if self.unknown > 0 {
            self.note(Anomaly::UnknownFields);
        }
        self.join_cookies();
        let line = match kind {
            Kind::Response => self.status_line(),
            Kind::Request => self.request_line(),
        };
        let length = self.content_length();
        let expect_continue = self
            .headers
            .iter()
            .any(|(name, value)| name.as_ref() == b"expect" && value.eq_ignore_ascii_case(b"100-continue"));
        let framing = match (ended, length) {
            (true, Some(length)) if length > 0 && kind == Kind::Request => {
                self.note(Anomaly::ContentLengthMismatch);
                Framing::None
            }
            (true, _) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::Close,
        };
        Head {
            line,
            headers: Arc::new(self.headers),
            framing,
            anomalies: self.anomalies,
            bytes,
            unknown_fields: self.unknown,
            http10: false,
            close: false,
            upgrade: false,
            expect_continue,
            known: 0,
        }
    }

    fn request_line(&mut self) -> StartLine {
        if self.status.is_some() {
            self.note(Anomaly::InvalidPseudoHeader);
        }
        let connect = self.method.as_deref() == Some(b"CONNECT") && self.protocol.is_none();
        let complete = match connect {
            true => self.authority.is_some() && self.path.is_none() && self.scheme.is_none(),
            false => self.method.is_some() && self.path.is_some() && self.scheme.is_some(),
        };
        // What is missing may be among what is unknown.
        if !complete && self.unknown == 0 {
            self.note(Anomaly::InvalidPseudoHeader);
        }
        let unknown = self.unknown > 0;
        let method = self.method.take().unwrap_or_default();
        if !(method.is_empty() && unknown)
            && (method.is_empty() || !method.iter().all(|byte| is_tchar(*byte)))
        {
            self.note(Anomaly::InvalidMethod);
        }
        let target = match connect {
            true => self.authority.clone(),
            false => self.path.take(),
        };
        let target = target.unwrap_or_default();
        let valid = !target.is_empty()
            && target.iter().all(u8::is_ascii_graphic)
            && (connect || matches!(target[0], b'/' | b'*'));
        if !(valid || target.is_empty() && unknown) {
            self.note(Anomaly::InvalidTarget);
        }
        if let Some(authority) = self.authority.take() {
            let hosts: Vec<Bytes> = self
                .headers
                .iter()
                .filter(|(name, _)| name.as_ref() == b"host")
                .map(|(_, value)| value.clone())
                .collect();
            if hosts.iter().any(|host| !host.eq_ignore_ascii_case(&authority)) || hosts.len() > 1 {
                self.note(Anomaly::DuplicateHost);
            }
            if authority.is_empty() || memchr::memchr(b'@', &authority).is_some() {
                self.note(Anomaly::InvalidPseudoHeader);
            }
            // What the connection is for, so it comes before a `Host` that says otherwise (§8.3.1).
            self.headers.retain(|(name, _)| name.as_ref() != b"host");
            self.headers.insert(0, (Bytes::from_static(b"host"), authority));
        } else if self
            .headers
            .iter()
            .filter(|(name, _)| name.as_ref() == b"host")
            .count()
            > 1
        {
            self.note(Anomaly::DuplicateHost);
        }
        StartLine::Request {
            registered: registered_method(&method),
            method,
            target,
        }
    }

    fn status_line(&mut self) -> StartLine {
        if self.is_request() || self.protocol.is_some() {
            self.note(Anomaly::InvalidPseudoHeader);
        }
        let unknown = self.unknown > 0;
        let status = match self.status.as_deref() {
            Some([first @ b'1'..=b'9', second, third])
                if second.is_ascii_digit() && third.is_ascii_digit() =>
            {
                [first, second, third]
                    .iter()
                    .fold(0, |status, digit| status * 10 + u16::from(**digit - b'0'))
            }
            None if unknown => 0,
            // There is no 101 in HTTP/2 (§8.6), but it is a number.
            _ => {
                self.note(Anomaly::InvalidStatus);
                0
            }
        };
        StartLine::Response { status }
    }

    /// A cookie may come in crumbs, for the table's sake (§8.2.3).
    fn join_cookies(&mut self) {
        if self.cookies < 2 {
            return;
        }
        let is_cookie = |name: &Bytes| name.as_ref() == b"cookie";
        let mut joined = Vec::new();
        for (_, value) in self.headers.iter().filter(|(name, _)| is_cookie(name)) {
            if !joined.is_empty() {
                joined.extend_from_slice(b"; ");
            }
            joined.extend_from_slice(value);
        }
        let mut joined = Some(Bytes::from(joined));
        self.headers.retain_mut(|(name, value)| {
            if !is_cookie(name) {
                return true;
            }
            match joined.take() {
                Some(whole) => {
                    *value = whole;
                    true
                }
                None => false,
            }
        });
    }

    fn content_length(&mut self) -> Option<u64> {
        let mut length: Option<u64> = None;
        let mut noted = None;
        for (name, value) in &self.headers {
            if name.as_ref() != b"content-length" {
                continue;
            }
            let number = std::str::from_utf8(value)
                .ok()
                .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse().ok());
            match (number, length) {
                (None, _) => noted = Some(Anomaly::InvalidContentLength),
                (Some(new), Some(old)) if new != old => noted = Some(Anomaly::ConflictingContentLength),
                (Some(_), Some(_)) => noted = noted.or(Some(Anomaly::DuplicateContentLength)),
                (Some(new), None) => length = Some(new),
            }
        }
        if let Some(anomaly) = noted {
            self.note(anomaly);
        }
        length
    }
}

/// §8.2.1: no NUL, CR or LF, and no white space around it. Other controls are left to RFC 9110, which forbids them too.
fn has_invalid_bytes(value: &[u8]) -> bool {
    let odd = value
        .iter()
        .fold(false, |odd, byte| odd | (*byte < b' ') | (*byte == 0x7f));
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    blank(value.first())
        || blank(value.last())
        || odd
            && value
                .iter()
                .any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
}
