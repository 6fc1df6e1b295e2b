//! A resource in a body, in JSON, XML or NDJSON: its type, a bundle's entries, and which patients it is about.
//!
//! It looks no deeper than a reference of a bundle's entry. What was captured in part gives what was seen.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use hashbrown::HashSet;
use memchr::memmem::Finder;
use smol_str::SmolStr;

use super::add_patient;
use super::path::{has_words, known_type};
use crate::call::semantics::{json, xml};

/// `entry[].resource.subject.reference`
const DEPTH_JSON: usize = 5;
/// `Bundle/entry/resource/Observation/subject/reference`
const DEPTH_XML: usize = 6;
/// Elements that say whose data a resource is.
const REFERENCES: &[&str] = &["subject", "patient", "beneficiary", "for", "individual", "person"];
/// Lines of NDJSON that are read; the others are counted.
const LINES_READ_MAX: usize = 1_000;
/// How far in a body's type is looked for.
const FRONT_BYTES: usize = 4_096;
/// Types of one word that are nobody else's `resourceType`.
const OWN: &[&str] = &[
    "Encounter",
    "Immunization",
    "Observation",
    "Patient",
    "Practitioner",
];
/// Types of bundles.
const BUNDLES: &[&str] = &[
    "batch",
    "batch-response",
    "collection",
    "document",
    "history",
    "message",
    "searchset",
    "subscription-notification",
    "transaction",
    "transaction-response",
];

/// What is known of a body.
#[derive(Default)]
pub(super) struct Body {
    /// The resource's type; empty: it is none.
    pub kind: SmolStr,
    /// A bundle's: `searchset`, `transaction` …
    pub bundle: SmolStr,
    pub entries: u32,
    /// Entries that are there because of `_include` and `_revinclude`.
    pub included: u32,
    /// There is a next page.
    pub more: bool,
    /// Lines of NDJSON.
    pub lines: u32,
    pub patients: HashSet<SmolStr>,
    /// It was read to its end.
    pub whole: bool,
    first: Option<SmolStr>,
    /// Methods of a bundle's requests.
    asked: BTreeMap<&'static str, u32>,
    manifest: u8,
    /// It is in FHIR's XML namespace.
    namespace: bool,
}

/// What a resource, a manifest of a bulk export, and XML of FHIR have in them.
static MARKS: LazyLock<[Finder<'static>; 3]> = LazyLock::new(|| {
    [
        &b"\"resourceType\""[..],
        b"\"transactionTime\"",
        b"http://hl7.org/fhir",
    ]
    .map(Finder::new)
});

impl Body {
    pub(super) fn read(bytes: &[u8]) -> Body {
        let start = bytes.trim_ascii_start();
        let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
        let mut body = Body::default();
        match start.first() {
            Some(b'{') => body.json(start),
            Some(b'<') => body.xml(start),
            _ => {}
        }
        body
    }

    /// Cheap: its first bytes have what a resource has there. Some put it last; those take other evidence.
    pub(super) fn looks_like(bytes: &[u8]) -> bool {
        Body::may_be(&bytes[..bytes.len().min(FRONT_BYTES)])
    }

    /// The same of all of it: nothing without one of these is a resource.
    pub(super) fn may_be(bytes: &[u8]) -> bool {
        let [kind, manifest, namespace] = &*MARKS;
        match bytes.trim_ascii_start().first() {
            Some(b'{') => kind.find(bytes).is_some() || manifest.find(bytes).is_some(),
            Some(b'<') => namespace.find(bytes).is_some(),
            _ => false,
        }
    }

    /// It can be nothing but FHIR. `shaped`: its path has FHIR's shape.
    pub(super) fn proves(&self, shaped: bool) -> bool {
        let own = || match self.kind.as_str() {
            "Bundle" => BUNDLES.contains(&self.bundle.as_str()),
            kind => OWN.contains(&kind) || has_words(kind),
        };
        match self.kind.is_empty() {
            true => self.manifest >= 3,
            false => shaped || self.namespace || own(),
        }
    }

    pub(super) fn is_bundle(&self) -> bool {
        self.kind == "Bundle"
    }

    /// A bundle that asks for things to be done.
    pub(super) fn is_batch(&self) -> bool {
        self.is_bundle() && matches!(self.bundle.as_str(), "batch" | "transaction")
    }

    /// The answer that ends a bulk export.
    pub(super) fn is_bulk_manifest(&self) -> bool {
        self.kind.is_empty() && self.manifest >= 2
    }

    pub(super) fn first_patient(&self) -> Option<Vec<u8>> {
        self.first.as_ref().map(|id| id.as_bytes().to_vec())
    }

    /// `GET:2,POST:1`
    pub(super) fn methods(&self) -> SmolStr {
        let all: Vec<String> = self
            .asked
            .iter()
            .map(|(method, count)| format!("{method}:{count}"))
            .collect();
        SmolStr::from(all.join(","))
    }

    fn patient(&mut self, id: &str) {
        if !id.is_empty() {
            self.first.get_or_insert_with(|| SmolStr::new(id));
            add_patient(&mut self.patients, id);
        }
    }

    fn json(&mut self, bytes: &[u8]) {
        // One object, or one in each line.
        let mut rest = bytes;
        let end = memchr::memchr(b'\n', bytes);
        let in_lines = end.is_some_and(|end| {
            let (line, next) = (bytes[..end].trim_ascii_end(), bytes[end + 1..].trim_ascii_start());
            line.ends_with(b"}") && next.first().is_none_or(|byte| *byte == b'{') && !next.is_empty()
        });
        if !in_lines {
            self.whole = self.object(bytes);
            return;
        }
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = rest[..end].trim_ascii();
            rest = rest.get(end + 1..).unwrap_or_default();
            if line.is_empty() {
                continue;
            }
            self.lines = self.lines.saturating_add(1);
            if self.lines as usize <= LINES_READ_MAX {
                self.whole = self.object(line);
            }
        }
        self.bundle = SmolStr::default();
    }

    fn object(&mut self, bytes: &[u8]) -> bool {
        let mut kind = String::new();
        let mut id: Option<SmolStr> = None;
        let mut inner_kind = String::new();
        let mut inner_id: Option<SmolStr> = None;
        let whole = json::walk(bytes, DEPTH_JSON, &mut |path, value| {
            let text = match value {
                json::Value::Text(text) => text,
                _ => "",
            };
            let names = |at: usize| path.get(at).map_or("", json::Step::as_str);
            match (path.len(), names(0), value) {
                (1, "resourceType", json::Value::Text(_)) => kind = text.to_owned(),
                (1, "id", json::Value::Text(_)) => id = Some(SmolStr::new(text)),
                (1, "type", json::Value::Text(_)) => self.bundle = SmolStr::new(text),
                (1, "transactionTime" | "output" | "requiresAccessToken", _) => self.manifest += 1,
                (2, "entry", json::Value::Object) => {
                    self.entries = self.entries.saturating_add(1);
                    inner_kind.clear();
                    inner_id = None;
                }
                (2, reference, json::Value::Text(_))
                    if REFERENCES.contains(&reference) && names(1) == "reference" =>
                {
                    if let Some(id) = patient_of(text) {
                        self.patient(id);
                    }
                }
                (3, "link", json::Value::Text("next")) if names(2) == "relation" => self.more = true,
                (4, "entry", json::Value::Text(_)) => match (names(2), names(3)) {
                    ("resource", "resourceType") => {
                        inner_kind = text.to_owned();
                        if let (true, Some(id)) = (inner_kind == "Patient", inner_id.take()) {
                            self.patient(&id);
                        }
                    }
                    ("resource", "id") => match inner_kind.as_str() {
                        "Patient" => self.patient(text),
                        "" => inner_id = Some(SmolStr::new(text)),
                        _ => {}
                    },
                    ("request", "method") => self.ask(text),
                    ("search", "mode") if text == "include" => {
                        self.included = self.included.saturating_add(1)
                    }
                    _ => {}
                },
                (5, "entry", json::Value::Text(_))
                    if names(2) == "resource"
                        && REFERENCES.contains(&names(3))
                        && names(4) == "reference" =>
                {
                    if let Some(id) = patient_of(text) {
                        self.patient(id);
                    }
                }
                _ => {}
            }
        });
        self.is(&kind);
        if let (true, Some(id)) = (kind == "Patient", id) {
            self.patient(&id);
        }
        whole
    }

    fn xml(&mut self, bytes: &[u8]) {
        let mut kind = String::new();
        let mut is_fhir = false;
        self.whole = xml::walk(bytes, DEPTH_XML, &mut |path, value| {
            let name = |at: usize| path.get(at).map_or("", SmolStr::as_str);
            match (path.len(), value) {
                (1, xml::Value::Element) => kind = name(0).to_owned(),
                (1, xml::Value::Attribute(key, uri)) if key == "xmlns" || key.starts_with("xmlns:") => {
                    is_fhir |= uri == "http://hl7.org/fhir";
                }
                (2, xml::Value::Element) if name(1) == "entry" && kind == "Bundle" => {
                    self.entries = self.entries.saturating_add(1);
                }
                (2, xml::Value::Attribute("value", text)) => match name(1) {
                    "type" if kind == "Bundle" => self.bundle = SmolStr::new(text),
                    "id" if kind == "Patient" => self.patient(text),
                    _ => {}
                },
                (3, xml::Value::Attribute("value", text)) => {
                    if name(1) == "link" && name(2) == "relation" && text == "next" {
                        self.more = true;
                    }
                    if let (true, Some(id)) = (
                        REFERENCES.contains(&name(1)) && name(2) == "reference",
                        patient_of(text),
                    ) {
                        self.patient(id);
                    }
                }
                (4, xml::Value::Attribute("value", text)) if name(1) == "entry" => match (name(2), name(3)) {
                    ("request", "method") => self.ask(text),
                    ("search", "mode") if text == "include" => {
                        self.included = self.included.saturating_add(1)
                    }
                    _ => {}
                },
                (5, xml::Value::Attribute("value", text)) if name(3) == "Patient" && name(4) == "id" => {
                    self.patient(text)
                }
                (6, xml::Value::Attribute("value", text)) if name(2) == "resource" => {
                    if let (true, Some(id)) = (
                        REFERENCES.contains(&name(4)) && name(5) == "reference",
                        patient_of(text),
                    ) {
                        self.patient(id);
                    }
                }
                _ => {}
            }
            true
        });
        self.namespace = is_fhir;
        if is_fhir {
            self.is(&kind);
        }
    }

    fn is(&mut self, kind: &str) {
        match known_type(kind) {
            Some(known) => self.kind = SmolStr::new_static(known),
            None => {
                self.kind = SmolStr::default();
                self.entries = 0;
            }
        }
    }

    fn ask(&mut self, method: &str) {
        let known = ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"]
            .into_iter()
            .find(|known| *known == method)
            .unwrap_or("OTHER");
        *self.asked.entry(known).or_default() += 1;
    }
}

/// `Patient/1`, `https://server/base/Patient/1/_history/2` → `1`
fn patient_of(reference: &str) -> Option<&str> {
    reference_to_patient(reference.as_bytes()).and_then(|id| std::str::from_utf8(id).ok())
}

/// The same, in bytes.
pub(super) fn reference_to_patient(reference: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"Patient/";
    let at = memchr::memmem::rfind(reference, NAME)?;
    if at > 0 && reference[at - 1] != b'/' {
        return None;
    }
    let id = &reference[at + NAME.len()..];
    let end = id
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'|' | b','))
        .unwrap_or(id.len());
    (end > 0).then(|| &id[..end])
}
