//! DICOMweb (PS3.18): QIDO-RS searches, WADO-RS and WADO-URI retrievals, STOW-RS stores.
//!
//! A path `…/studies/{uid}/series/{uid}/instances/{uid}` is DICOM's by its unique identifiers (numbers and dots), the rest by
//! DICOM's media types. Identifiers are hashed: a study belongs to one patient.

use smol_str::{SmolStr, ToSmolStr};

use super::json::{self, Value};
use super::{contains, header, is_encoded};
use crate::call::redact::Redactor;
use crate::call::{Api, ApiCall, Operation, Phase};

/// Segments of a path that are looked at, from the end.
const TAIL_MAX: usize = 12;
/// Longest unique identifier (PS3.5 §9).
const UID_BYTES_MAX: usize = 64;
/// Parts of a multipart body that are counted.
const PARTS_MAX: usize = 100_000;
const LEVELS: [&str; 3] = ["studies", "series", "instances"];
/// What can be asked for of a level (PS3.18 §10.4).
const VIEWS: &[&str] = &[
    "metadata",
    "rendered",
    "thumbnail",
    "bulkdata",
    "frames",
    "pixeldata",
];

/// What a path says.
#[derive(Default)]
struct Target<'a> {
    uids: [Option<&'a str>; 3],
    /// The last level that is named, with or without an identifier.
    level: Option<usize>,
    view: &'a str,
}

/// Fills in what can be told by now.
pub(super) fn tell(phase: Phase, call: &mut ApiCall, redactor: &Redactor) {
    if call
        .operation
        .as_ref()
        .is_some_and(|operation| operation.api != Api::DicomWeb)
    {
        return;
    }
    if !is_near(call) {
        return;
    }
    let told = operation(phase, call, redactor);
    if let Some(told) = told {
        call.operation = Some(Box::new(told));
    }
}

/// Cheap: nothing of DICOMweb is in a head without one of these.
fn is_near(call: &ApiCall) -> bool {
    let path = call.raw.path.as_deref().unwrap_or_default();
    !call.raw.query.is_empty() || LEVELS.iter().any(|level| contains(path.as_bytes(), level))
}

/// `application/dicom`, and not its JSON or XML.
fn is_file(content_type: &[u8]) -> bool {
    let essence = content_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/dicom")
}

fn operation(phase: Phase, call: &ApiCall, redactor: &Redactor) -> Option<Operation> {
    let raw = &call.raw;
    let path = raw.path.as_deref().unwrap_or_default();
    let target = target(path);
    let uri = uri_uids(&raw.query);
    let accept = header(&raw.request_headers, "accept").unwrap_or_default();
    let content_type = header(&raw.request_headers, "content-type").unwrap_or_default();
    let answer_type = match phase {
        Phase::Complete => header(&raw.response_headers, "content-type").unwrap_or_default(),
        _ => &[],
    };
    let typed = [accept, content_type, answer_type]
        .iter()
        .any(|value| contains(value, "application/dicom"));
    let has_uid = target.uids.iter().any(Option::is_some);
    if uri.is_none() && (target.level.is_none() || !(typed || has_uid)) {
        return None;
    }
    let uids = uri.unwrap_or(target.uids);
    let method = call.request.method.as_str();
    let (name, level) = match (method, target.level, uri.is_some()) {
        (_, _, true) => ("wado-uri", uids.iter().rposition(Option::is_some)),
        ("POST", level, _) => ("store", level),
        ("DELETE", level, _) => ("delete", level),
        ("GET" | "HEAD", Some(level), _) if uids[level].is_some() => ("retrieve", Some(level)),
        ("GET" | "HEAD", level, _) => ("search", level),
        _ => ("other", target.level),
    };
    let mut details: Vec<(&'static str, SmolStr)> = Vec::new();
    for (name, uid) in ["study", "series", "instance"].into_iter().zip(uids) {
        if let Some(uid) = uid {
            details.push((name, redactor.keyed(b"dicom-uid", uid.as_bytes())));
        }
    }
    if !target.view.is_empty() {
        let shown = VIEWS
            .iter()
            .find(|view| **view == target.view)
            .copied()
            .unwrap_or("other");
        details.push(("view", SmolStr::new_static(shown)));
    }
    let mut entries = 0;
    if phase >= Phase::Request {
        let parts = match contains(content_type, "multipart/") {
            true => parts(content_type, &raw.request_body),
            // A file by itself.
            false => u32::from(name == "store" && is_file(content_type) && !raw.request_body.is_empty()),
        };
        if parts > 0 {
            details.push(("stored", parts.to_smolstr()));
            entries = parts;
        }
    }
    if phase == Phase::Complete {
        let encoded = is_encoded(call);
        let returned = match encoded {
            true => 0,
            false if contains(answer_type, "multipart/") => parts(answer_type, &raw.response_body),
            false if contains(answer_type, "json") && name == "search" => items(&raw.response_body),
            false => 0,
        };
        if returned > 0 {
            details.push(("returned", returned.to_smolstr()));
            entries = entries.max(returned);
        }
    }
    Some(Operation {
        api: Api::DicomWeb,
        name: SmolStr::new_static(name),
        resource: SmolStr::new_static(level.map_or("", |level| LEVELS[level])),
        subject: subject(&raw.query, redactor),
        entries,
        details,
    })
}

fn target(path: &str) -> Target<'_> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let from = segments.len().saturating_sub(TAIL_MAX);
    let segments = &segments[from..];
    let mut found = Target::default();
    let Some(mut at) = segments.iter().position(|segment| LEVELS.contains(segment)) else {
        return found;
    };
    let mut next_level = 0;
    while let Some(level) = segments
        .get(at)
        .and_then(|segment| LEVELS.iter().position(|level| level == segment))
    {
        if level < next_level {
            break;
        }
        found.level = Some(level);
        next_level = level + 1;
        at += 1;
        if let Some(uid) = segments.get(at).filter(|segment| is_uid(segment)) {
            found.uids[level] = Some(uid);
            at += 1;
        }
    }
    found.view = segments.get(at).copied().unwrap_or_default();
    if !found.view.is_empty() && !VIEWS.contains(&found.view) {
        // `/studies/enrolment` is somebody else's.
        if found.uids.iter().all(Option::is_none) {
            found.level = None;
        }
    }
    found
}

/// `?requestType=WADO&studyUID=…&seriesUID=…&objectUID=…`
fn uri_uids(query: &[u8]) -> Option<[Option<&str>; 3]> {
    let query = std::str::from_utf8(query).ok()?;
    let mut uids = [None; 3];
    let mut wado = false;
    for pair in query.split('&').take(64) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let slot = match name {
            "requestType" => {
                wado = value.eq_ignore_ascii_case("WADO");
                continue;
            }
            "studyUID" => 0,
            "seriesUID" => 1,
            "objectUID" => 2,
            _ => continue,
        };
        uids[slot] = is_uid(value).then_some(value);
    }
    wado.then_some(uids)
}

/// `?PatientID=5`, `?00100020=5`
fn subject(query: &[u8], redactor: &Redactor) -> Option<SmolStr> {
    let query = std::str::from_utf8(query).ok()?;
    query.split('&').take(64).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let exact = !value.is_empty() && !value.contains(['*', '?', '%', ',']);
        (matches!(name, "PatientID" | "00100020") && exact).then(|| redactor.subject(value.as_bytes()))
    })
}

/// A unique identifier: numbers with dots between them, as DICOM's all have several.
fn is_uid(segment: &str) -> bool {
    segment.len() <= UID_BYTES_MAX
        && segment.bytes().filter(|byte| *byte == b'.').count() >= 2
        && segment
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Parts of a multipart body, as far as it was captured.
fn parts(content_type: &[u8], body: &[u8]) -> u32 {
    let Some(boundary) = boundary(content_type) else {
        return 0;
    };
    let mut delimiter = b"--".to_vec();
    delimiter.extend_from_slice(boundary);
    let finder = memchr::memmem::Finder::new(&delimiter);
    let begun = finder
        .find_iter(body)
        .take(PARTS_MAX)
        .filter(|at| (*at == 0 || body[at - 1] == b'\n') && !body[at + delimiter.len()..].starts_with(b"--"))
        .count();
    u32::try_from(begun).unwrap_or(u32::MAX)
}

fn boundary(content_type: &[u8]) -> Option<&[u8]> {
    if !contains(content_type, "multipart/") {
        return None;
    }
    let found = content_type
        .split(|byte| *byte == b';')
        .skip(1)
        .find_map(|part| {
            let at = memchr::memchr(b'=', part)?;
            let value = part[at + 1..].trim_ascii();
            let value = value.strip_prefix(b"\"").unwrap_or(value);
            let value = value.strip_suffix(b"\"").unwrap_or(value);
            part[..at]
                .trim_ascii()
                .eq_ignore_ascii_case(b"boundary")
                .then_some(value)
        })?;
    (!found.is_empty() && found.len() <= 70).then_some(found)
}

/// Objects of a list.
fn items(body: &[u8]) -> u32 {
    let mut count = 0u32;
    json::walk(body, 1, &mut |path, value| {
        if path.len() == 1 && value == Value::Object {
            count = count.saturating_add(1);
        }
    });
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::semantics::given::call;

    /// Without the hashes.
    fn told(mut given: super::super::given::Given, phase: Phase) -> String {
        let text = given.at(phase);
        let words: Vec<&str> = text
            .split(' ')
            .map(|word| word.split_once("=h:").map_or(word, |(name, _)| name))
            .collect();
        words.join(" ")
    }

    #[test]
    fn transactions() {
        for (line, expected) in [
            (
                "GET /dicom-web/studies/1.2.840.1/series/1.2.3/instances/1.2.4",
                "retrieve instances study series instance",
            ),
            ("GET /wado/studies/1.2.840.1", "retrieve studies study"),
            (
                "GET /pacs/studies/1.2.840.1/metadata",
                "retrieve studies study view=metadata",
            ),
            (
                "GET /pacs/studies/1.2.840.1/series/1.2.3/instances/1.2.4/frames/1,2",
                "retrieve instances study series instance view=frames",
            ),
            ("GET /pacs/studies/1.2.840.1/series", "search series study"),
            (
                "GET /wado?requestType=WADO&studyUID=1.2.3&seriesUID=1.2.4&objectUID=1.2.5",
                "wado-uri instances study series instance",
            ),
            ("GET /studies", ""),
            ("GET /studies/enrolment", ""),
            ("GET /studies/5", ""),
            ("GET /series/2.1", ""),
        ] {
            assert_eq!(told(call(line), Phase::Head), expected, "{line}");
        }
        let search = call("GET /q/studies?PatientID=5&limit=2").header("accept", "application/dicom+json");
        assert_eq!(told(search, Phase::Head), "search studies +subject");
        let search = call("GET /q/studies").answer(200, "application/dicom+json", r#"[{"0020000D":{}},{}]"#);
        assert_eq!(told(search, Phase::Complete), "search studies 2 returned=2");
    }

    #[test]
    fn parts_are_counted() {
        let body = "--xx\r\nContent-Type: application/dicom\r\n\r\nDICM--xx\r\n--xx\r\n\r\nb\r\n--xx--\r\n";
        let kind = "multipart/related; type=\"application/dicom\"; boundary=\"xx\"";
        let store = call("POST /s/studies").header("content-type", kind).body(body);
        assert_eq!(told(store, Phase::Request), "store studies 2 stored=2");
        let store = call("POST /instances")
            .header("content-type", "application/dicom")
            .body("DICM");
        assert_eq!(told(store, Phase::Request), "store instances 1 stored=1");
        let other = call("POST /instances")
            .header("content-type", "application/dicom+json")
            .body("[]");
        assert_eq!(told(other, Phase::Request), "store instances");
        let retrieve = call("GET /s/studies/1.2.3").answer(200, kind, body);
        assert_eq!(
            told(retrieve, Phase::Complete),
            "retrieve studies 2 study returned=2"
        );
    }
}
