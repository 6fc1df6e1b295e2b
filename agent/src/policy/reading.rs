//! How servers may read a path that is not in normal form.
//!
//! `/admin;x=1`, `/%61dmin`, `/x/..%2fadmin` and `/x\..\admin` are `/admin` to some servers and something else to
//! others. Under `onAmbiguous: agent` such a path is judged in every reading that is usual: a rule that denies or alerts
//! matches if one of them does, a rule that allows only if all of them do. It costs what it finds: only ambiguous targets
//! come here.
//!
//! Patterns and readings are compared in one canonical spelling: escapes only where a byte cannot stand for itself.

use std::collections::BTreeSet;

use crate::call::ApiCall;

/// Every usual reading of the call's path, in canonical spelling. Empty: it has none that anybody could agree on.
pub(super) fn readings(call: &ApiCall) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let sent = match &call.raw.path {
        Some(path) => path.as_bytes(),
        // Invalid escapes, and blanks about it: some servers take them as they are, or pass them over.
        None => match path_of(call.raw.target.trim_ascii()) {
            Some(path) => path,
            None => return found,
        },
    };
    let mut decoded = sent.to_vec();
    // As it is, decoded as all servers do, and decoded again as those behind a careless proxy do.
    for decodings in 0..3 {
        if decodings > 0 {
            let again = decode(&decoded);
            if again == decoded {
                break;
            }
            decoded = again;
        }
        for parameters in [true, false] {
            for backslashes in [true, false] {
                found.insert(read(&decoded, decodings > 0, parameters, backslashes));
            }
        }
    }
    found
}

/// A literal segment of a pattern in canonical spelling; `None` if an escape in it is invalid.
pub(super) fn literal(segment: &str) -> Option<String> {
    let bytes = segment.as_bytes();
    let escapes_are_valid = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| escape(bytes, at).is_some());
    let mut canonical = String::with_capacity(segment.len());
    encode(&decode(bytes), true, &mut canonical);
    escapes_are_valid.then_some(canonical)
}

/// The path of a target in origin form.
fn path_of(target: &[u8]) -> Option<&[u8]> {
    let end = target
        .iter()
        .position(|byte| matches!(byte, b'?' | b'#'))
        .unwrap_or(target.len());
    target.starts_with(b"/").then_some(&target[..end])
}

/// One reading: with or without what follows a semicolon (RFC 3986 §3.3 leaves its meaning to the server), with a
/// backslash as itself or as a slash.
fn read(path: &[u8], decoded: bool, parameters: bool, backslashes: bool) -> String {
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/' || (!backslashes && *byte == b'\\')) {
        let segment = match parameters {
            true => segment,
            false => segment.split(|byte| *byte == b';').next().unwrap_or_default(),
        };
        match segment {
            b"" | b"." => {}
            b".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut text = String::with_capacity(path.len() + 1);
    for segment in &segments {
        text.push('/');
        encode(segment, decoded, &mut text);
    }
    if segments.is_empty() {
        text.push('/');
    }
    text
}

/// The byte that an escape at this place stands for.
fn escape(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    Some((digit(at + 1)? * 16 + digit(at + 2)?) as u8)
}

/// Escapes resolved; what is none stays.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match escape(bytes, at).filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

/// The canonical spelling. `decoded`: a percent sign is itself, and not the start of an escape.
fn encode(segment: &[u8], decoded: bool, text: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in segment {
        let escaped = match byte {
            b'%' => decoded,
            0..=b' ' | 0x7f.. | b'/' | b'?' | b'#' => true,
            _ => false,
        };
        if escaped {
            text.push('%');
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        } else {
            text.push(char::from(byte));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::call;

    fn of(path: &str) -> Vec<String> {
        let mut call = call("GET", "/");
        call.raw.path = Some(path.into());
        readings(&call).into_iter().collect()
    }

    #[test]
    fn a_path_has_every_usual_reading() {
        for (path, expected) in [
            ("/a/b", &["/a/b"][..]),
            ("/a/%24export", &["/a/$export", "/a/%24export"]),
            ("/admin;x=1/y", &["/admin/y", "/admin;x=1/y"]),
            ("/a/..;/b", &["/a/..;/b", "/b"]),
            ("/x%2Fadmin", &["/x%2Fadmin", "/x/admin"]),
            ("/x/..%2Fadmin", &["/admin", "/x/..%2Fadmin"]),
            ("/a\\b", &["/a/b", "/a\\b"]),
            ("/%2561dmin", &["/%2561dmin", "/admin"]),
            ("/a%20b", &["/a%20b"]),
            ("/%C3%A9", &["/%C3%A9"]),
        ] {
            let found = of(path);
            for reading in expected {
                assert!(found.iter().any(|one| one == reading), "{path}: {found:?}");
            }
        }
        assert_eq!(of("/a%20b/%C3%A9"), ["/a%20b/%C3%A9"], "one reading only");
    }

    #[test]
    fn an_invalid_escape_is_read_as_it_is() {
        let mut call = call("GET", "/adm%69n/%zz?q=%");
        call.raw.path = None;
        assert_eq!(
            readings(&call).into_iter().collect::<Vec<_>>(),
            ["/adm%69n/%zz", "/admin/%25zz"]
        );
        call.raw.target = " /adm%69n".into();
        assert!(readings(&call).contains("/admin"));
        call.raw.target = "*".into();
        assert!(readings(&call).is_empty());
    }

    #[test]
    fn literals_of_patterns_have_one_spelling() {
        for (written, expected) in [
            ("$export", Some("$export")),
            ("%24export", Some("$export")),
            ("%61dmin", Some("admin")),
            ("caf\u{e9}", Some("caf%C3%A9")),
            ("caf%c3%a9", Some("caf%C3%A9")),
            ("a%2fb", Some("a%2Fb")),
            ("a%20b", Some("a%20b")),
            ("100%", None),
            ("%4", None),
        ] {
            assert_eq!(literal(written).as_deref(), expected, "{written}");
        }
    }

    proptest::proptest! {
        #[test]
        fn readings_are_few_and_canonical(path in "(/[a%25;.\\\\2fF]{0,6}){1,5}") {
            let found = of(&path);
            proptest::prop_assert!(!found.is_empty() && found.len() <= 12, "{:?}", found);
            for reading in &found {
                proptest::prop_assert!(reading.starts_with('/') && !reading.contains("//"), "{}", reading);
            }
        }
    }
}
