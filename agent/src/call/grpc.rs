//! gRPC and gRPC-Web: messages counted in both bodies as they go by, and the status where it comes.
//!
//! Whatever carries it: gRPC itself comes in HTTP/2, gRPC-Web in either, also in base64 (`-text`), with its trailers in a last
//! frame of the body. Counts go on beyond what is kept of a body. It must not show a name: the path is redacted already, and
//! what a trailer says beyond the status code stays here.

use bytes::Bytes;
use smol_str::{SmolStr, format_smolstr};

use super::{Api, ApiCall, Operation};

/// Trailers of gRPC-Web that are kept.
const TRAILERS_BYTES_MAX: usize = 4_096;
/// Flags, and a length of four bytes.
const PREFIX_BYTES: usize = 5;
const COMPRESSED: u8 = 1;
const TRAILERS: u8 = 0x80;

/// By code (`grpc/status`); the names are the ones everybody writes.
const STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

const ENCODINGS: [&str; 6] = ["identity", "gzip", "deflate", "snappy", "zstd", "br"];

/// The messages of one direction.
#[derive(Default)]
struct Messages {
    /// In base64: bits that make no whole byte yet.
    base64: Option<Base64>,
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    /// Of the message in progress.
    left: u32,
    is_trailers: bool,
    trailers: Vec<u8>,
    count: u64,
    bytes: u64,
    compressed: u64,
    /// What follows cannot be told apart: bytes are missing, or it is no gRPC.
    lost: bool,
}

/// Base64 that comes in pieces.
#[derive(Default)]
pub(super) struct Base64 {
    bits: u32,
    count: u32,
}

impl Base64 {
    /// Padding ends a frame, not the body: the next one begins on a byte of its own.
    pub(super) fn decode(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        for byte in bytes {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                b'=' => {
                    *self = Base64::default();
                    continue;
                }
                b'\r' | b'\n' => continue,
                _ => return None,
            };
            self.bits = (self.bits << 6 | u32::from(value)) & 0xffff;
            self.count += 6;
            if self.count >= 8 {
                self.count -= 8;
                out.push((self.bits >> self.count) as u8);
            }
        }
        Some(())
    }
}

impl Messages {
    fn add(&mut self, bytes: &[u8]) {
        if self.lost {
            return;
        }
        let Some(base64) = &mut self.base64 else {
            return self.frames(bytes);
        };
        let mut decoded = Vec::with_capacity(bytes.len() * 3 / 4 + 1);
        match base64.decode(bytes, &mut decoded) {
            Some(()) => self.frames(&decoded),
            None => self.lost = true,
        }
    }

    fn frames(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.lost {
            if self.left > 0 {
                let count = bytes.len().min(self.left as usize);
                if self.is_trailers {
                    let room = TRAILERS_BYTES_MAX.saturating_sub(self.trailers.len());
                    self.trailers.extend_from_slice(&bytes[..count.min(room)]);
                }
                self.left -= count as u32;
                bytes = &bytes[count..];
                continue;
            }
            let count = (PREFIX_BYTES - self.prefix_bytes).min(bytes.len());
            self.prefix[self.prefix_bytes..self.prefix_bytes + count].copy_from_slice(&bytes[..count]);
            self.prefix_bytes += count;
            bytes = &bytes[count..];
            if self.prefix_bytes == PREFIX_BYTES {
                self.prefix_bytes = 0;
                self.begin();
            }
        }
    }

    fn begin(&mut self) {
        let [flags, length @ ..] = self.prefix;
        self.left = u32::from_be_bytes(length);
        self.is_trailers = flags & TRAILERS != 0;
        if flags & !(TRAILERS | COMPRESSED) != 0 {
            self.lost = true;
        } else if !self.is_trailers {
            self.count += 1;
            self.bytes = self.bytes.saturating_add(u64::from(self.left));
            self.compressed += u64::from(flags & COMPRESSED);
        }
    }

    fn miss(&mut self, bytes: u64) {
        match u32::try_from(bytes) {
            Ok(bytes) if self.base64.is_none() && bytes <= self.left => self.left -= bytes,
            _ => self.lost = true,
        }
    }
}

/// What is gathered for one call.
pub(super) struct Grpc {
    api: Api,
    /// Its head has not said so.
    presumed: bool,
    request: Messages,
    response: Messages,
}

/// The kind of gRPC that a content type says, and whether it is in base64.
fn kind(headers: &[(Bytes, Bytes)]) -> Option<(Api, bool)> {
    let value = header(headers, b"content-type")?.to_ascii_lowercase();
    let end = value
        .iter()
        .position(|byte| matches!(byte, b';' | b' '))
        .unwrap_or(value.len());
    let rest = value[..end].strip_prefix(b"application/grpc")?;
    match rest {
        b"" => Some((Api::Grpc, false)),
        [b'+', ..] => Some((Api::Grpc, false)),
        b"-web" => Some((Api::GrpcWeb, false)),
        b"-web-text" => Some((Api::GrpcWeb, true)),
        _ if rest.starts_with(b"-web-text+") => Some((Api::GrpcWeb, true)),
        _ if rest.starts_with(b"-web+") => Some((Api::GrpcWeb, false)),
        _ => None,
    }
}

/// `package.Service/Method`: the last two segments of a path; a proxy may have put something before them.
pub(super) fn service_and_method(path: &str) -> &str {
    let path = path.trim_start_matches('/');
    path.rmatch_indices('/')
        .nth(1)
        .and_then(|(at, _)| path.get(at + 1..))
        .unwrap_or(path)
}

/// `/package.Service/Method`, and nothing else.
fn names_a_method(path: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    path.strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .is_some_and(|(service, method)| {
            service.contains('.') && service.split('.').all(is_name) && is_name(method)
        })
}

/// No content type, or one that is none.
fn says_nothing(headers: &[(Bytes, Bytes)]) -> bool {
    header(headers, b"content-type").is_none_or(|value| matches!(value.as_ref(), b"" | b"*/*"))
}

fn header<'a>(headers: &'a [(Bytes, Bytes)], name: &[u8]) -> Option<&'a Bytes> {
    headers
        .iter()
        .find(|(known, _)| known.as_ref() == name)
        .map(|(_, value)| value)
}

impl Grpc {
    /// Of a request's head. `None`: it is none.
    pub(super) fn of(headers: &[(Bytes, Bytes)]) -> Option<Box<Grpc>> {
        let (api, text) = kind(headers)?;
        let mut grpc = Box::new(Grpc {
            api,
            presumed: false,
            request: Messages::default(),
            response: Messages::default(),
        });
        grpc.request.base64 = text.then(Base64::default);
        Some(grpc)
    }

    /// Of a request's head of which fields are unknown, the type among them, as on a connection that was joined late: clients of
    /// gRPC keep theirs for days. Its path has to be of gRPC's form, and [`Grpc::is_one`] asks its frames.
    pub(super) fn presumed(method: &str, path: &str, headers: &[(Bytes, Bytes)]) -> Option<Box<Grpc>> {
        let is_one = method == "POST" && header(headers, b"content-type").is_none() && names_a_method(path);
        is_one.then(|| {
            Box::new(Grpc {
                api: Api::Grpc,
                presumed: true,
                request: Messages::default(),
                response: Messages::default(),
            })
        })
    }

    /// Its head says so; or its request is whole messages and nothing else.
    pub(super) fn is_one(&self) -> bool {
        let asked = &self.request;
        !self.presumed || (asked.count > 0 && !asked.lost && asked.left == 0 && asked.prefix_bytes == 0)
    }

    /// The answer's head: only now is it known how its body is written.
    pub(super) fn answered(&mut self, headers: &[(Bytes, Bytes)]) {
        match kind(headers) {
            Some((_, text)) => self.response.base64 = text.then(Base64::default),
            // Servers of gRPC-Web that take the type from `Accept`, or leave it out: the frames tell.
            None if self.api == Api::GrpcWeb && says_nothing(headers) => {
                self.response.base64 = self.request.base64.as_ref().map(|_| Base64::default());
            }
            None if self.presumed && says_nothing(headers) => {}
            // An error page of something in between.
            None => self.response.lost = true,
        }
    }

    pub(super) fn request_body(&mut self, bytes: &[u8]) {
        self.request.add(bytes);
    }

    pub(super) fn request_missed(&mut self, bytes: u64) {
        self.request.miss(bytes);
    }

    pub(super) fn response_body(&mut self, bytes: &[u8]) {
        self.response.add(bytes);
    }

    pub(super) fn response_missed(&mut self, bytes: u64) {
        self.response.miss(bytes);
    }

    /// What the call does, as far as it has come.
    pub(super) fn operation(&self, call: &ApiCall) -> Operation {
        let name = service_and_method(&call.request.path);
        let mut details = Vec::new();
        let mut tell = |messages: &Messages, names: [&'static str; 2]| {
            if messages.lost {
                return;
            }
            details.push((names[0], format_smolstr!("{}", messages.count)));
            details.push((names[1], format_smolstr!("{}", messages.bytes)));
        };
        tell(&self.request, ["request-messages", "request-message-bytes"]);
        if call.response.is_some() {
            tell(&self.response, ["response-messages", "response-message-bytes"]);
        }
        for (name, headers, messages) in [
            ("request-compression", &call.raw.request_headers, &self.request),
            ("response-compression", &call.raw.response_headers, &self.response),
        ] {
            if messages.compressed == 0 {
                continue;
            }
            let said = header(headers, b"grpc-encoding")
                .map(Bytes::as_ref)
                .unwrap_or_default();
            let known = ENCODINGS.into_iter().find(|known| known.as_bytes() == said);
            details.push((name, SmolStr::new_static(known.unwrap_or("other"))));
        }
        if let Some(status) = self.status(call) {
            details.push(("status", SmolStr::new_static(status)));
        }
        Operation {
            api: self.api,
            name: SmolStr::new(name),
            resource: SmolStr::default(),
            subject: None,
            entries: 0,
            details,
        }
    }

    fn status(&self, call: &ApiCall) -> Option<&'static str> {
        let in_body = || {
            self.response
                .trailers
                .split(|byte| *byte == b'\n')
                .find_map(|line| {
                    let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
                    name.trim_ascii()
                        .eq_ignore_ascii_case(b"grpc-status")
                        .then(|| value[1..].trim_ascii().to_vec())
                })
        };
        // The last one: trailers come behind the head's fields.
        let in_head = call
            .raw
            .response_headers
            .iter()
            .rfind(|(name, _)| name.as_ref() == b"grpc-status")
            .map(|(_, value)| value.to_vec());
        let text = in_head.or_else(in_body)?;
        let code: usize = std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()?;
        Some(STATUS.get(code).copied().unwrap_or("UNKNOWN"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(flags: u8, bytes: &[u8]) -> Vec<u8> {
        [&[flags][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
    }

    fn told(messages: &Messages) -> (u64, u64, u64, bool) {
        (messages.count, messages.bytes, messages.compressed, messages.lost)
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let body = [message(0, b"hello"), message(1, b"xy"), message(0, b"")].concat();
        for size in 1..body.len() {
            let mut messages = Messages::default();
            for piece in body.chunks(size) {
                messages.add(piece);
            }
            assert_eq!(told(&messages), (3, 7, 1, false), "{size}");
        }
        let mut messages = Messages::default();
        messages.add(&body[..7]);
        messages.miss(3);
        messages.add(&body[10..]);
        assert_eq!(told(&messages), (3, 7, 1, false));
        messages.miss(1);
        messages.add(&body);
        assert_eq!(told(&messages), (3, 7, 1, true));
        let mut messages = Messages::default();
        messages.add(b"<html>");
        assert!(messages.lost);
    }

    #[test]
    fn base64_with_padding_in_between() {
        let mut messages = Messages {
            base64: Some(Base64::default()),
            ..Messages::default()
        };
        // A message "hi" and trailers, each encoded by itself.
        for byte in b"AAAAAAJoaQ==gAAAAA9ncnBjLXN0YXR1czo1DQo=" {
            messages.add(&[*byte]);
        }
        assert_eq!(told(&messages), (1, 2, 0, false));
        assert_eq!(messages.trailers, b"grpc-status:5\r\n");
    }

    #[test]
    fn answers_of_grpc_web_without_a_type_are_read_by_their_frames() {
        let headers = |kind: &'static str| {
            let value = Bytes::from_static(kind.as_bytes());
            vec![(Bytes::from_static(b"content-type"), value)]
        };
        let body = [message(0, b"hi"), message(0x80, b"grpc-status: 0\r\n")].concat();
        for (asked, answered, expected) in [
            ("application/grpc-web+proto", headers("*/*"), (1, 2, 0, false)),
            ("application/grpc-web", Vec::new(), (1, 2, 0, false)),
            ("application/grpc-web", headers("text/html"), (0, 0, 0, true)),
            ("application/grpc", headers("*/*"), (0, 0, 0, true)),
        ] {
            let mut grpc = Grpc::of(&headers(asked)).unwrap();
            grpc.answered(&answered);
            grpc.response_body(&body);
            assert_eq!(told(&grpc.response), expected, "{asked}");
        }
    }

    #[test]
    fn content_types_tell() {
        let kind = |value: &'static str| {
            kind(&[(
                Bytes::from_static(b"content-type"),
                Bytes::from_static(value.as_bytes()),
            )])
        };
        assert_eq!(kind("application/grpc"), Some((Api::Grpc, false)));
        assert_eq!(kind("application/grpc+proto"), Some((Api::Grpc, false)));
        assert_eq!(
            kind("Application/GRPC-Web+proto; x=y"),
            Some((Api::GrpcWeb, false))
        );
        assert_eq!(kind("application/grpc-web-text"), Some((Api::GrpcWeb, true)));
        assert_eq!(kind("application/grpcish"), None);
        assert_eq!(kind("application/json"), None);
    }
}
