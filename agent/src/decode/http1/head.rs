//! A head's bytes → [`Head`]: lenient in what it reads, because real servers are, and naming every leniency.
//!
//! RFC 9112 §2 to §6; which framing follows from the fields is decided here, in one place.

use std::sync::Arc;

use bytes::Bytes;

use crate::decode::scan::{is_blank, is_tchar, registered_method};
use crate::decode::{Anomaly, AnswerTo, Framing, Head, Limits, Role, StartLine};

/// Ranges into the head.
#[derive(Clone, Copy)]
struct Field {
    name: (u32, u32),
    value: (u32, u32),
}

/// The fields so far.
struct Fields {
    list: Vec<Field>,
    /// Values that were folded over several lines stand apart, with their fields' places, in order.
    folded: Vec<(usize, Vec<u8>)>,
}

/// Parses `head`, which ends with its empty line unless it was cut off at the limit.
pub(super) fn parse(head: &[u8], role: Role, answer_to: AnswerTo, limits: &Limits) -> Head {
    // One copy, in which the names become lower case; method, target and fields are slices of it.
    let mut copy = head.to_vec();
    let mut anomalies = Vec::new();
    let mut fields = Fields {
        list: Vec::with_capacity(16),
        folded: Vec::new(),
    };
    let mut line_end = None;
    let mut at = 0;
    while at < copy.len() {
        let (end, next) = match memchr::memchr(b'\n', &copy[at..]) {
            Some(offset) => (at + offset, at + offset + 1),
            // Cut off at the limit: the rest of a line tells nothing.
            None if line_end.is_some() => break,
            None => (copy.len(), copy.len()),
        };
        let mut stop = end;
        if stop > at && copy[stop - 1] == b'\r' {
            stop -= 1;
        } else if end < copy.len() {
            note(&mut anomalies, Anomaly::BareLineFeed);
        }
        if line_end.is_none() {
            line_end = Some(stop);
        } else if stop > at {
            field(&mut copy, at, stop, &mut fields, &mut anomalies, limits);
        }
        at = next;
    }
    let copy = Bytes::from(copy);
    let slice = |range: (u32, u32)| copy.slice(range.0 as usize..range.1 as usize);
    let mut headers: Vec<(Bytes, Bytes)> = Vec::with_capacity(fields.list.len());
    for field in &fields.list {
        headers.push((slice(field.name), slice(field.value)));
    }
    for (place, value) in fields.folded {
        headers[place].1 = Bytes::from(value);
    }
    let first = copy.slice(..line_end.unwrap_or(0));
    let (line, http10) = match role {
        Role::Requests => request_line(&first, &mut anomalies),
        Role::Responses => status_line(&first, &mut anomalies),
    };
    let mut head = Head {
        line,
        headers: Arc::new(headers),
        framing: Framing::None,
        anomalies,
        bytes: u32::try_from(head.len()).unwrap_or(u32::MAX),
        unknown_fields: 0,
        http10,
        close: false,
        upgrade: false,
        expect_continue: false,
        known: 0,
    };
    fields_that_matter(&mut head, answer_to);
    head
}

fn note(anomalies: &mut Vec<Anomaly>, anomaly: Anomaly) {
    if !anomalies.contains(&anomaly) {
        anomalies.push(anomaly);
    }
}

fn field(
    copy: &mut [u8],
    start: usize,
    stop: usize,
    fields: &mut Fields,
    anomalies: &mut Vec<Anomaly>,
    limits: &Limits,
) {
    if matches!(copy[start], b' ' | b'\t') {
        fold(copy, start, stop, fields, anomalies);
        return;
    }
    if fields.list.len() >= limits.headers_max {
        note(anomalies, Anomaly::TooManyHeaders);
        return;
    }
    let Some(colon) = memchr::memchr(b':', &copy[start..stop]) else {
        note(anomalies, Anomaly::InvalidHeaderName);
        return;
    };
    let mut name_end = start + colon;
    while name_end > start && matches!(copy[name_end - 1], b' ' | b'\t') {
        name_end -= 1;
        note(anomalies, Anomaly::SpaceBeforeColon);
    }
    let name = &mut copy[start..name_end];
    // Without a way out in the middle, so that it is one pass.
    let mut odd = name.is_empty();
    for byte in name {
        odd |= !is_tchar(*byte);
        *byte = byte.to_ascii_lowercase();
    }
    if odd {
        note(anomalies, Anomaly::InvalidHeaderName);
    }
    let (from, to) = trim(copy, start + colon + 1, stop);
    check_value(&copy[from..to], anomalies);
    fields.list.push(Field {
        name: (start as u32, name_end as u32),
        value: (from as u32, to as u32),
    });
}

/// A line that begins with white space continues the field before it (obs-fold, RFC 9112 §5.2).
fn fold(copy: &[u8], start: usize, stop: usize, fields: &mut Fields, anomalies: &mut Vec<Anomaly>) {
    let Some((place, last)) = fields.list.iter().enumerate().next_back() else {
        note(anomalies, Anomaly::SpaceAfterStartLine);
        return;
    };
    note(anomalies, Anomaly::ObsoleteFolding);
    let (from, to) = trim(copy, start, stop);
    check_value(&copy[from..to], anomalies);
    if fields.folded.last().is_none_or(|(folded, _)| *folded != place) {
        let value = copy[last.value.0 as usize..last.value.1 as usize].to_vec();
        fields.folded.push((place, value));
    }
    if let Some((_, value)) = fields.folded.last_mut()
        && from < to
    {
        value.push(b' ');
        value.extend_from_slice(&copy[from..to]);
    }
}

fn trim(bytes: &[u8], mut from: usize, mut to: usize) -> (usize, usize) {
    while from < to && matches!(bytes[from], b' ' | b'\t') {
        from += 1;
    }
    while from < to && matches!(bytes[to - 1], b' ' | b'\t') {
        to -= 1;
    }
    (from, to)
}

fn check_value(value: &[u8], anomalies: &mut Vec<Anomaly>) {
    // Without a way out in the middle, so that the compiler looks at many bytes at once.
    let odd = value
        .iter()
        .fold(false, |odd, byte| odd | (*byte < b' ') | (*byte == 0x7f));
    if !odd {
        return;
    }
    for byte in value {
        match byte {
            b'\t' => {}
            b'\r' => note(anomalies, Anomaly::BareCarriageReturn),
            0..b' ' | 0x7f => note(anomalies, Anomaly::InvalidHeaderValue),
            _ => {}
        }
    }
}

/// `method SP target SP version`; the target may (wrongly) hold spaces, and whatever some server splits the line at may stand
/// in a space's place, or before the method (RFC 9112 §3).
fn request_line(line: &Bytes, anomalies: &mut Vec<Anomaly>) -> (StartLine, bool) {
    let begin = line
        .iter()
        .position(|byte| !is_blank(*byte))
        .unwrap_or(line.len());
    let line = line.slice(begin..);
    let method_end = line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len());
    let method = line.slice(..method_end);
    if begin > 0
        || method.is_empty()
        || !method.iter().all(|byte| is_tchar(*byte))
        || line.get(method_end).is_some_and(|blank| *blank != b' ')
    {
        note(anomalies, Anomaly::InvalidMethod);
    }
    let rest = line.slice((method_end + 1).min(line.len())..);
    let inked = rest
        .iter()
        .rposition(|byte| !is_blank(*byte))
        .map_or(0, |last| last + 1);
    let (target, version) = match rest[..inked].iter().rposition(|byte| is_blank(*byte)) {
        Some(blank)
            if rest[blank + 1..].len() >= 5 && rest[blank + 1..blank + 6].eq_ignore_ascii_case(b"HTTP/") =>
        {
            if rest[blank] != b' ' {
                note(anomalies, Anomaly::InvalidTarget);
            }
            (rest.slice(..blank), Some(rest.slice(blank + 1..)))
        }
        _ => (rest, None),
    };
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        note(anomalies, Anomaly::InvalidTarget);
    }
    let http10 = version_is_10(version.as_deref().unwrap_or_default(), anomalies);
    let registered = registered_method(&method);
    let line = StartLine::Request {
        method,
        registered,
        target,
    };
    (line, http10)
}

/// `version SP status [SP reason]`
fn status_line(line: &Bytes, anomalies: &mut Vec<Anomaly>) -> (StartLine, bool) {
    let version_end = memchr::memchr(b' ', line).unwrap_or(line.len());
    let http10 = version_is_10(&line[..version_end], anomalies);
    let rest = line.get(version_end + 1..).unwrap_or_default();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let status = match digits {
        3 if rest.get(3).is_none_or(|byte| *byte == b' ') && rest[0] != b'0' => rest[..3]
            .iter()
            .fold(0u16, |status, digit| status * 10 + u16::from(digit - b'0')),
        _ => {
            note(anomalies, Anomaly::InvalidStatus);
            0
        }
    };
    if rest
        .iter()
        .any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
    {
        note(
            anomalies,
            if rest.contains(&b'\r') {
                Anomaly::BareCarriageReturn
            } else {
                Anomaly::InvalidStatus
            },
        );
    }
    (StartLine::Response { status }, http10)
}

fn version_is_10(version: &[u8], anomalies: &mut Vec<Anomaly>) -> bool {
    match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => {
            note(anomalies, Anomaly::InvalidVersion);
            false
        }
    }
}

/// A field's list members, without white space (RFC 9110 §5.6.1).
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

fn fields_that_matter(head: &mut Head, answer_to: AnswerTo) {
    let mut length = None;
    let mut length_invalid = false;
    let mut transfer_encoding = false;
    let mut codings_before = false;
    let mut final_chunked = false;
    let mut hosts = 0;
    let mut keep_alive = false;
    let mut upgrade_option = false;
    let mut upgrade_field = false;
    let anomalies = &mut head.anomalies;
    for (name, value) in head.headers.iter() {
        match name.as_ref() {
            b"content-length" => {
                for member in members(value).chain(value.is_empty().then_some(&[][..])) {
                    match (parse_length(member), length) {
                        (None, _) => {
                            length_invalid = true;
                            note(anomalies, Anomaly::InvalidContentLength);
                        }
                        (Some(new), None) => length = Some(new),
                        (Some(new), Some(old)) if new == old => {
                            note(anomalies, Anomaly::DuplicateContentLength)
                        }
                        (Some(_), Some(_)) => {
                            length_invalid = true;
                            note(anomalies, Anomaly::ConflictingContentLength);
                        }
                    }
                }
            }
            b"transfer-encoding" => {
                transfer_encoding = true;
                for coding in members(value) {
                    codings_before |= final_chunked;
                    final_chunked = coding.eq_ignore_ascii_case(b"chunked");
                    if !final_chunked && !is_known_coding(coding) {
                        note(anomalies, Anomaly::UnknownTransferEncoding);
                    }
                }
            }
            b"connection" | b"proxy-connection" => {
                for option in members(value) {
                    head.close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    upgrade_option |= option.eq_ignore_ascii_case(b"upgrade");
                }
            }
            b"upgrade" => upgrade_field = true,
            b"expect" => head.expect_continue = value.eq_ignore_ascii_case(b"100-continue"),
            b"host" => hosts += 1,
            _ => {}
        }
    }
    head.close |= head.http10 && !keep_alive;
    head.upgrade = upgrade_option && upgrade_field;
    if transfer_encoding {
        if length.is_some() || length_invalid {
            note(anomalies, Anomaly::TransferEncodingWithContentLength);
        }
        if head.http10 {
            note(anomalies, Anomaly::TransferEncodingInHttp10);
        }
        if !final_chunked || codings_before {
            note(anomalies, Anomaly::TransferEncodingNotFinalChunked);
        }
    }
    let body = if transfer_encoding {
        match (final_chunked && !codings_before, &head.line) {
            (true, _) => Framing::Chunked,
            (false, StartLine::Request { .. }) => Framing::Unknown,
            (false, StartLine::Response { .. }) => Framing::Close,
        }
    } else if length_invalid {
        Framing::Unknown
    } else {
        match (length, &head.line) {
            (Some(0), _) => Framing::None,
            (Some(length), _) => Framing::Length(length),
            (None, StartLine::Request { .. }) => Framing::None,
            (None, StartLine::Response { .. }) => Framing::Close,
        }
    };
    head.framing = match &head.line {
        StartLine::Request { method, .. } => {
            if hosts == 0 && !head.http10 {
                note(anomalies, Anomaly::MissingHost);
            }
            if hosts > 1 {
                note(anomalies, Anomaly::DuplicateHost);
            }
            // What follows a CONNECT is the tunnel, or the next request (RFC 9110 §9.3.6).
            if method.as_ref() == b"CONNECT" {
                Framing::None
            } else {
                body
            }
        }
        StartLine::Response { status } => match (*status, answer_to) {
            (101, _) => Framing::Switched,
            (200..=299, AnswerTo::Connect) => Framing::Switched,
            (100..=199 | 204 | 304, _) | (_, AnswerTo::Head) => Framing::None,
            _ => body,
        },
    };
}

/// `1*DIGIT`, within 64 bits.
fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// The transfer codings of the IANA registry other than `chunked`, without their parameters.
fn is_known_coding(coding: &[u8]) -> bool {
    ["gzip", "x-gzip", "deflate", "compress", "x-compress"]
        .iter()
        .any(|known| coding.eq_ignore_ascii_case(known.as_bytes()))
}
