//! A request's target: its form, its path in normal form, and whether two parsers could read it differently.
//!
//! RFC 9112 §3.2 (forms), RFC 3986 §6.2.2 (normalisation). The gate in the kernel never guesses about a target
//! that is not in normal form; this is the same question, answered where there is room to think.

use bytes::Bytes;

/// A path longer than this is ambiguous: the gate scans no further.
pub const PATH_BYTES_MAX: usize = 4096;

/// The parts of a target. Deliberately without `Debug`.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Target {
    /// Normal form: unreserved characters decoded, escapes in upper case, dot segments and empty segments removed.
    /// `None` if the target has no path, or one with invalid escapes.
    pub path: Option<String>,
    pub query: Bytes,
    /// Authority of an absolute or authority form.
    pub authority: Option<Bytes>,
    /// The path was not in normal form as it was sent.
    pub ambiguous: bool,
}

/// The parts of a path between its slashes, as `split` gives them: a byte at a time, which is faster for parts as short as
/// these.
pub struct Segments<'a>(Option<&'a str>);

impl<'a> Segments<'a> {
    /// Of a path.
    pub fn of(path: &'a str) -> Self {
        Segments(Some(path))
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0?;
        match text.bytes().position(|byte| byte == b'/') {
            Some(at) => {
                self.0 = text.get(at + 1..);
                text.get(..at)
            }
            None => self.0.take(),
        }
    }
}

/// Takes a target apart. `connect`: the method is CONNECT, whose target is an authority.
pub(super) fn parse(target: &Bytes, connect: bool) -> Target {
    if connect {
        return Target {
            authority: Some(target.clone()),
            // Of anything else some servers make a path.
            ambiguous: !is_authority(target),
            ..Target::default()
        };
    }
    if target.as_ref() == b"*" {
        return Target::default();
    }
    let mut parsed = Target::default();
    let mut rest = target.clone();
    if target.first() != Some(&b'/') {
        // Absolute form, or nothing that RFC 9112 knows.
        parsed.ambiguous = true;
        let Some(scheme) = memchr::memmem::find(target, b"://") else {
            return parsed;
        };
        let authority = target.slice(scheme + 3..);
        let end = authority
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
            .unwrap_or(authority.len());
        rest = authority.slice(end..);
        let user_end = memchr::memrchr(b'@', &authority[..end]).map_or(0, |at| at + 1);
        parsed.authority = Some(authority.slice(user_end..end));
    }
    let path_end = rest
        .iter()
        .position(|byte| matches!(byte, b'?' | b'#'))
        .unwrap_or(rest.len());
    if rest.get(path_end) == Some(&b'?') {
        parsed.query = rest.slice(path_end + 1..);
    }
    parsed.ambiguous |= memchr::memchr(b'#', &rest).is_some();
    let path = &rest[..path_end];
    if is_normal(path) {
        // Normal paths are ASCII.
        parsed.path = std::str::from_utf8(path).ok().map(str::to_owned);
    } else {
        parsed.ambiguous = true;
        parsed.path = normalise(path);
    }
    parsed
}

/// A host and perhaps a port, as CONNECT takes them (RFC 9112 §3.2.3).
fn is_authority(target: &[u8]) -> bool {
    let (host, port) = match target.first() {
        Some(b'[') => match memchr::memchr(b']', target) {
            Some(end) => (&target[1..end], &target[end + 1..]),
            None => return false,
        },
        _ => target.split_at(memchr::memchr(b':', target).unwrap_or(target.len())),
    };
    let is_host = match target.first() {
        Some(b'[') => host
            .iter()
            .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')),
        _ => {
            let mut labels = host
                .strip_suffix(b".")
                .unwrap_or(host)
                .split(|byte| *byte == b'.');
            labels.all(|label| {
                !label.is_empty()
                    && label
                        .iter()
                        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            })
        }
    };
    let is_port = |digits: &[u8]| {
        let text = std::str::from_utf8(digits).unwrap_or("-");
        digits.is_empty() || (digits.iter().all(u8::is_ascii_digit) && text.parse::<u16>().is_ok())
    };
    is_host && !host.is_empty() && (port.is_empty() || port.strip_prefix(b":").is_some_and(is_port))
}

/// Nothing in it can be read in two ways.
fn is_normal(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') || path.len() > PATH_BYTES_MAX {
        return false;
    }
    let mut segment_start = 1;
    for (at, byte) in path.iter().enumerate().skip(1) {
        match byte {
            b'/' => {
                if !is_normal_segment(&path[segment_start..at]) || at == segment_start {
                    return false;
                }
                segment_start = at + 1;
            }
            b'%' | b';' | b'\\' | 0..=b' ' | 0x7f.. => return false,
            _ => {}
        }
    }
    is_normal_segment(&path[segment_start..])
}

fn is_normal_segment(segment: &[u8]) -> bool {
    segment != b"." && segment != b".."
}

fn normalise(path: &[u8]) -> Option<String> {
    let mut decoded = Vec::with_capacity(path.len() + 1);
    let mut at = 0;
    while at < path.len() {
        let byte = path[at];
        match byte {
            b'%' => {
                let hex = |byte: Option<&u8>| (*byte? as char).to_digit(16);
                let (high, low) = (hex(path.get(at + 1))?, hex(path.get(at + 2))?);
                let value = (high * 16 + low) as u8;
                if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~') {
                    decoded.push(value);
                } else {
                    decoded.extend_from_slice(format!("%{value:02X}").as_bytes());
                }
                at += 3;
                continue;
            }
            0..=b' ' | 0x7f.. => decoded.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            _ => decoded.push(byte),
        }
        at += 1;
    }
    let decoded = String::from_utf8(decoded).ok()?;
    let mut segments: Vec<&str> = Vec::new();
    let mut trailing = true;
    for segment in decoded.split('/') {
        trailing = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut normal = String::with_capacity(decoded.len() + 1);
    for segment in &segments {
        normal.push('/');
        normal.push_str(segment);
    }
    if trailing {
        normal.push('/');
    }
    Some(normal)
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_what_split_gives() {
        for path in ["", "/", "/a/b", "a//b/", "//", "/é/ü/x", "abc"] {
            assert!(Segments::of(path).eq(path.split('/')), "{path}");
        }
    }

    #[test]
    fn targets_are_taken_apart() {
        for (target, path, query, authority, ambiguous) in [
            ("/", Some("/"), "", None, false),
            ("/fhir/Patient/1?a=b", Some("/fhir/Patient/1"), "a=b", None, false),
            ("/fhir/Patient/?", Some("/fhir/Patient/"), "", None, false),
            ("*", None, "", None, false),
            ("/a//b", Some("/a/b"), "", None, true),
            ("//a", Some("/a"), "", None, true),
            ("/a/./b", Some("/a/b"), "", None, true),
            ("/a/../b", Some("/b"), "", None, true),
            ("/a/..", Some("/"), "", None, true),
            ("/../../x", Some("/x"), "", None, true),
            ("/%61dmin", Some("/admin"), "", None, true),
            ("/a%2fb", Some("/a%2Fb"), "", None, true),
            ("/a%2e%2e/b", Some("/a../b"), "", None, true),
            ("/a/%2e%2e/b", Some("/b"), "", None, true),
            ("/a%zz", None, "", None, true),
            ("/a%2", None, "", None, true),
            ("/a;x=1/b", Some("/a;x=1/b"), "", None, true),
            ("/a\\b", Some("/a\\b"), "", None, true),
            ("/a\u{1}", Some("/a%01"), "", None, true),
            ("/\u{e9}", Some("/%C3%A9"), "", None, true),
            ("http://h:80/p?q", Some("/p"), "q", Some("h:80"), true),
            ("http://user@h/p", Some("/p"), "", Some("h"), true),
            ("http://h", Some("/"), "", Some("h"), true),
            ("http://h?q", Some("/"), "q", Some("h"), true),
            ("/a#b?c", Some("/a"), "", None, true),
            ("a", None, "", None, true),
        ] {
            let parsed = parse(&Bytes::from_static(target.as_bytes()), false);
            assert_eq!(parsed.path.as_deref(), path, "path of {target}");
            assert_eq!(parsed.query, query, "query of {target}");
            assert_eq!(
                parsed.authority.as_deref(),
                authority.map(str::as_bytes),
                "authority of {target}"
            );
            assert_eq!(parsed.ambiguous, ambiguous, "{target}");
        }
        let long = Bytes::from(format!("/{}", "a".repeat(PATH_BYTES_MAX)));
        assert!(parse(&long, false).ambiguous);
        let connect = parse(&Bytes::from_static(b"vendor:443"), true);
        assert_eq!(connect.authority.as_deref(), Some(&b"vendor:443"[..]));
        assert!(connect.path.is_none() && !connect.ambiguous);
        for (target, ambiguous) in [
            ("[::1]:443", false),
            ("a.b.:80", false),
            ("", true),
            ("x/admin", true),
            ("http://x/admin", true),
            ("x:80/admin", true),
            ("a..b:80", true),
            ("x:65536", true),
            ("u@x:80", true),
        ] {
            let parsed = parse(&Bytes::from_static(target.as_bytes()), true);
            assert_eq!(parsed.ambiguous, ambiguous, "{target}");
        }
    }
}
