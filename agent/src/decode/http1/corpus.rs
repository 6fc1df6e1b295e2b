//! The llhttp corpus (tests/corpus/llhttp): inputs with the events of another parser. Where ours differ, the case
//! is listed in `llhttp-differences.txt` with the reason; an unlisted difference fails, and so does a listed one
//! that no longer differs.
//!
//! The two report different things. llhttp streams spans and stops at the first error; this decoder reports whole
//! heads and goes on, naming the anomaly. So both are brought to one form: messages with head, body and end, and
//! `refused` where llhttp stops with an error and ours names an anomaly or finds no message.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use bytes::Bytes;

use super::*;
use crate::decode::{AnswerTo, Event, KnownHeads, Limits, Role, StartLine};

const DIFFERENCES: &str = include_str!("../../../../tests/corpus/llhttp-differences.txt");

struct Case {
    name: String,
    role: Role,
    skip_body: bool,
    finish: bool,
    input: Vec<u8>,
    log: String,
}

fn corpus() -> Vec<Case> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/llhttp");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "md"))
    {
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        // Targets are `call`'s to take apart: `call/target/corpus.rs`.
        if stem != "url" {
            read(&stem, &std::fs::read_to_string(file).unwrap(), &mut cases);
        }
    }
    cases
}

fn read(file: &str, text: &str, cases: &mut Vec<Case>) {
    let mut title = "";
    let mut meta = "";
    let mut input = None;
    let mut lines = text.lines();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix('#') {
            title = rest.trim_start_matches('#').trim();
        } else if line.starts_with("<!-- meta") {
            meta = line;
        } else if let Some(kind) = line.strip_prefix("```") {
            let block: Vec<&str> = lines
                .by_ref()
                .take_while(|line| !line.starts_with("```"))
                .collect();
            match kind {
                "http" => input = Some(unescape(&block.join("\n"), true)),
                "log" => {
                    let Some(input) = input.take() else { continue };
                    let count = seen.entry(title.to_owned()).or_default();
                    *count += 1;
                    let number = if *count > 1 {
                        format!(" #{count}")
                    } else {
                        String::new()
                    };
                    cases.push(Case {
                        name: format!("{file}: {title}{number}"),
                        role: if meta.contains("\"response") {
                            Role::Responses
                        } else {
                            Role::Requests
                        },
                        skip_body: meta.contains("skipBody"),
                        finish: meta.contains("-finish"),
                        input,
                        log: block.join("\n"),
                    });
                }
                _ => {}
            }
        }
    }
}

/// The corpus writes special bytes as escapes, and a backslash at a line's end joins it to the next.
fn unescape(text: &str, crlf: bool) -> Vec<u8> {
    let text = text.replace("\\\n", "");
    let text = if crlf { text.replace('\n', "\r\n") } else { text };
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (byte, used) = match (bytes[at], bytes.get(at + 1)) {
            (b'\\', Some(b'r')) => (b'\r', 2),
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(b't')) => (b'\t', 2),
            (b'\\', Some(b'f')) => (0x0c, 2),
            (b'\\', Some(b'x')) => {
                match std::str::from_utf8(&bytes[at + 2..at + 4]).map(|hex| u8::from_str_radix(hex, 16)) {
                    Ok(Ok(code)) => {
                        // As the corpus's own runner: a character, written as UTF-8.
                        out.extend_from_slice(char::from(code).to_string().as_bytes());
                        at += 4;
                        continue;
                    }
                    _ => (b'\\', 1),
                }
            }
            (byte, _) => (byte, 1),
        };
        out.push(byte);
        at += used;
    }
    out
}

fn tidy(value: &[u8]) -> String {
    String::from_utf8_lossy(value)
        .split_ascii_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn head_line(text: &mut String, first: &str, headers: &[(String, String)]) {
    let _ = writeln!(text, "message {first}");
    for (name, value) in headers {
        let _ = writeln!(text, "  {name}: {value}");
    }
}

/// What llhttp says, in the common form.
fn expected(case: &Case) -> String {
    let mut text = String::new();
    let mut spans: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let mut headers = Vec::new();
    let mut body = Vec::new();
    let mut in_trailers = false;
    // Where the last head was written, until something of its body comes.
    let mut head_at = None;
    for line in case.log.lines() {
        let Some((_, what)) = line.split_once(' ') else {
            continue;
        };
        if let Some(span) = what
            .strip_prefix("len=")
            .and_then(|rest| rest.split_once(" span["))
            .map(|(_, span)| span)
        {
            let Some((name, value)) = span.split_once("]=") else {
                continue;
            };
            let value = match value {
                "cr" => b"\r".to_vec(),
                "lf" => b"\n".to_vec(),
                quoted => unescape(
                    quoted
                        .strip_prefix('"')
                        .and_then(|value| value.strip_suffix('"'))
                        .unwrap_or(quoted),
                    false,
                ),
            };
            match name {
                "body" => {
                    head_at = None;
                    body.extend(value);
                }
                _ => spans.entry(name).or_default().extend(value),
            }
        } else if what == "message begin" {
            spans.clear();
            headers.clear();
            in_trailers = false;
        } else if what == "header_value complete" && !in_trailers {
            let name = spans.remove("header_field").unwrap_or_default();
            let value = spans.remove("header_value").unwrap_or_default();
            headers.push((tidy(&name).to_ascii_lowercase(), tidy(&value)));
        } else if what.starts_with("headers complete") {
            in_trailers = true;
            let first = match case.role {
                Role::Requests => {
                    let get = |name: &str| tidy(spans.get(name).map(Vec::as_slice).unwrap_or_default());
                    format!("{} {}", get("method"), get("url"))
                }
                Role::Responses => {
                    let status = what
                        .split("status=")
                        .nth(1)
                        .and_then(|rest| rest.split(' ').next());
                    status.unwrap_or_default().to_owned()
                }
            };
            head_at = Some(text.len());
            head_line(&mut text, &first, &headers);
        } else if what.starts_with("chunk header") {
            head_at = None;
        } else if what == "message complete" {
            head_at = None;
            flush(&mut text, &mut body);
            text.push_str("end\n");
        } else if what.starts_with("error code=22") || what.starts_with("error code=23") {
            break;
        } else if what.starts_with("error") {
            if let (Some(start), true) = (head_at, what.contains("Encoding")) {
                // Refused for its fields; ours says so on the head.
                text.truncate(start);
            }
            flush(&mut text, &mut body);
            text.push_str("refused\n");
            break;
        } else if let Some(code) = what.strip_prefix("finish=") {
            // 1: only the end of the connection ends the message.
            flush(&mut text, &mut body);
            text.push_str(if code == "1" { "end\n" } else { "" });
        }
    }
    flush(&mut text, &mut body);
    text
}

fn flush(text: &mut String, body: &mut Vec<u8>) {
    if !body.is_empty() {
        let _ = writeln!(text, "  body {:?}", String::from_utf8_lossy(body));
        body.clear();
    }
}

/// What this decoder says, in the common form; `refuse`: llhttp stops with an error, so the first anomaly counts
/// as the same.
fn actual(case: &Case, refuse: bool, piece_bytes: usize) -> String {
    let limits = Limits::default();
    let mut decoder = Decoder::new(case.role, true);
    let mut heads = KnownHeads::default();
    let answer_to = if case.skip_body {
        AnswerTo::Head
    } else {
        AnswerTo::Ordinary
    };
    let mut text = String::new();
    let mut body = Vec::new();
    let mut switching = false;
    // llhttp refuses what this decoder still waits to see the end of; so it gets to see one.
    let closing: &[u8] = if refuse { b"\r\n\r\n" } else { b"" };
    let pieces = case
        .input
        .chunks(piece_bytes)
        .map(|piece| (piece, false))
        .chain([(closing, true)]);
    'input: for (piece, last) in pieces {
        if last && (decoder.is_between() || !decoder.is_at_head()) {
            continue;
        }
        let mut input = Bytes::copy_from_slice(piece);
        decoder.chunk(true);
        while let Some(event) = decoder.next(&mut input, answer_to, &limits, &mut heads) {
            match event {
                Event::Head(head) => {
                    let odd = head
                        .anomalies
                        .iter()
                        .any(|anomaly| *anomaly != Anomaly::MissingHost);
                    if refuse && odd {
                        text.push_str("refused\n");
                        return text;
                    }
                    let first = match &head.line {
                        StartLine::Request { method, target, .. } => {
                            format!("{} {}", tidy(method), tidy(target))
                        }
                        StartLine::Response { status } => status.to_string(),
                    };
                    let headers: Vec<(String, String)> = head
                        .headers
                        .iter()
                        .map(|(name, value)| (tidy(name), tidy(value)))
                        .collect();
                    head_line(&mut text, &first, &headers);
                    switching = head.upgrade || first.starts_with("CONNECT ");
                }
                Event::Body(bytes) => body.extend_from_slice(&bytes),
                Event::Anomaly(_) if refuse => {
                    flush(&mut text, &mut body);
                    text.push_str("refused\n");
                    return text;
                }
                Event::Anomaly(_) | Event::Missed(_) => {}
                Event::End => {
                    flush(&mut text, &mut body);
                    text.push_str("end\n");
                    if switching && case.role == Role::Requests {
                        // What follows waits for the answer; see `call`.
                        break 'input;
                    }
                }
                Event::Broken(_) | Event::Skipped(_) => {
                    flush(&mut text, &mut body);
                    text.push_str("refused\n");
                    return text;
                }
            }
        }
    }
    if case.finish
        && let Some(Event::End) = decoder.end()
    {
        text.push_str("end\n");
    }
    flush(&mut text, &mut body);
    text
}

#[test]
fn differences_are_listed() {
    let listed: BTreeMap<&str, &str> = DIFFERENCES
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            line.split_once(" | ")
                .unwrap_or_else(|| panic!("no reason is given: {line}"))
        })
        .collect();
    let mut differing = BTreeSet::new();
    let mut report = String::new();
    let cases = corpus();
    assert!(
        cases.len() > 200,
        "the corpus is not whole: {} cases",
        cases.len()
    );
    for case in &cases {
        let expected = expected(case);
        let actual = actual(case, expected.contains("refused"), usize::MAX);
        if expected != actual {
            differing.insert(case.name.clone());
            if !listed.contains_key(case.name.as_str()) {
                let _ = writeln!(
                    report,
                    "=== {}\n--- llhttp\n{expected}--- ours\n{actual}",
                    case.name
                );
            }
        }
    }
    for name in listed.keys().filter(|name| !differing.contains(**name)) {
        let _ = writeln!(report, "=== {name}\nis listed and does not differ");
    }
    assert!(report.is_empty(), "{report}");
}

#[test]
fn pieces_do_not_matter() {
    for case in corpus() {
        let whole = actual(&case, false, usize::MAX);
        for piece_bytes in [1, 2, 3, 7, 64] {
            let pieces = actual(&case, false, piece_bytes);
            assert_eq!(whole, pieces, "{} in pieces of {piece_bytes}", case.name);
        }
    }
}
