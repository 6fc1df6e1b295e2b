//! FHIR R4 and R5 over HTTP: the interaction, the type, the patient, and how much came back.
//!
//! Three kinds of evidence, of which one is enough: FHIR's own media types, a path of FHIR's shape with something in it
//! that is nobody else's (a marker such as `/fhir/`, a type of several words, an operation, a parameter of the
//! specification), and a body that names its `resourceType`. A path such as `/Account/1` alone proves nothing: it waits
//! for a body. The base path may be anything. Types, operations and parameters shown are shipped words; ids are hashed.

mod body;
mod path;

use hashbrown::HashSet;
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use self::body::Body;
use self::path::{Shape, Target};
use super::{contains, header, is_encoded, query};
use crate::call::redact::Redactor;
use crate::call::{Api, ApiCall, Operation, Phase, Protocol};

/// Patients of one answer that are told apart.
pub(super) const PATIENTS_MAX: usize = 4_096;

/// How sure it is: what the recognition rests on, weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Evidence {
    None,
    Path,
    Body,
    MediaType,
}

impl Evidence {
    fn as_str(self) -> &'static str {
        match self {
            Evidence::None => "",
            Evidence::Path => "path",
            Evidence::Body => "body",
            Evidence::MediaType => "media-type",
        }
    }
}

/// Operations of FHIR and of its widespread guides, without their `$`.
const OPERATIONS: &[&str] = &[
    "add",
    "apply",
    "apply-codesystem-supplement",
    "batch-validate",
    "bulk-publish",
    "bulk-submit",
    "care-gaps",
    "check-sync-status",
    "closure",
    "collect-data",
    "conforms",
    "convert",
    "cqfm-package",
    "cql",
    "current-canonical",
    "data-requirements",
    "davinci-data-export",
    "deduplicate",
    "diff",
    "docref",
    "document",
    "erase",
    "evaluate",
    "evaluate-measure",
    "events",
    "everything",
    "expand",
    "expunge",
    "export",
    "export-poll-status",
    "fetch",
    "filter",
    "find",
    "find-matches",
    "get-resource-counts",
    "get-ws-binding-token",
    "graph",
    "graphql",
    "group-export",
    "hfql-execute",
    "hl7.fhir.uv.ips",
    "implements",
    "import",
    "import-poll-status",
    "initiate-bulk-data-export",
    "lastn",
    "lookup",
    "mark-all-resources-for-reindexing",
    "match",
    "member-add",
    "member-match",
    "member-remove",
    "merge",
    "meta",
    "meta-add",
    "meta-delete",
    "next-order",
    "next-question",
    "operation-definition",
    "package",
    "perform-reindexing-pass",
    "populate",
    "populatehtml",
    "populatelink",
    "preferred-id",
    "process-message",
    "purge-history",
    "questionnaire",
    "questionnaire-package",
    "reindex",
    "reject",
    "remove",
    "remove-history",
    "replaces",
    "resend",
    "resource-counts",
    "search",
    "snapshot",
    "sqlquery-run",
    "stats",
    "status",
    "submit",
    "submit-attachment",
    "submit-data",
    "subset",
    "subsumes",
    "summary",
    "translate",
    "translate-id",
    "trigger-subscription",
    "undo-merge",
    "unmerge",
    "upload-external-code-system",
    "validate",
    "validate-code",
    "versions",
    "viewdefinition-run",
    "invalidate-expansion",
    "hapi.fhir.replace-references",
    "bulkdata-status",
    "binary-access-read",
    "binary-access-write",
    "ips",
    "patient-everything",
    "transform",
    "inquire",
    "extract",
];

/// Parameters that are FHIR's alone.
const OWN_PARAMETERS: &[&str] = &[
    "_include",
    "_revinclude",
    "_has",
    "_lastUpdated",
    "_profile",
    "_security",
    "_elements",
    "_summary",
    "_contained",
    "_containedType",
    "_total",
    "_typeFilter",
    "_outputFormat",
    "_since",
    "_tag",
    "_maxresults",
    "_graph",
    "_getpages",
    "_getpagesoffset",
    "_filter",
];

/// Fills in what can be told by now.
pub(super) fn tell(phase: Phase, call: &mut ApiCall, redactor: &mut Redactor) {
    // A request without a body says nothing that its head has not said; but for a POST, whose body may be the bundle.
    if phase == Phase::Request
        && call.protocol == Protocol::Http1
        && call.raw.request_body.is_empty()
        && call.request.method != "POST"
    {
        return;
    }
    let worth_it = match &call.operation {
        Some(operation) => operation.api == Api::Fhir && (phase != Phase::Complete || adds_something(call)),
        None => is_near(call) || (phase > Phase::Head && has_resource(call)),
    };
    if !worth_it {
        return;
    }
    let Some(told) = Teller {
        phase,
        call,
        redactor,
    }
    .operation() else {
        return;
    };
    match &mut call.operation {
        Some(operation) => **operation = told,
        None => call.operation = Some(Box::new(told)),
    }
}

/// A resource type.
pub(super) fn is_type(name: &str) -> bool {
    path::known_type(name).is_some()
}

/// Cheap: nothing of FHIR can be in a head without one of these.
fn is_near(call: &ApiCall) -> bool {
    let path = call.raw.path.as_deref().unwrap_or_default();
    path.bytes()
        .any(|byte| byte.is_ascii_uppercase() || byte == b'$' || byte == b'_')
        || contains(path.as_bytes(), "metadata")
        || contains(path.as_bytes(), "fhir")
        || call.raw.request_headers.iter().any(|(name, value)| {
            matches!(name.as_ref(), b"accept" | b"content-type") && contains(value, "fhir")
        })
}

/// There is something in an answer, or in a request's body, that the head has not said.
fn adds_something(call: &ApiCall) -> bool {
    let raw = &call.raw;
    let Some(response) = &call.response else {
        return false;
    };
    // 202: how far a bulk export has come.
    !raw.request_body.is_empty()
        || response.status == 202
        || Body::may_be(&raw.response_body)
        || raw.response_headers.iter().any(|(name, value)| {
            name.as_ref() == b"x-progress"
                || (name.as_ref() == b"content-type" && (is_fhir(value) || contains(value, "ndjson")))
        })
}

/// A body may be a resource, or the answer says that it is FHIR's.
fn has_resource(call: &ApiCall) -> bool {
    Body::looks_like(&call.raw.request_body)
        || Body::looks_like(&call.raw.response_body)
        || header(&call.raw.response_headers, "content-type").is_some_and(is_fhir)
}

struct Teller<'t> {
    phase: Phase,
    call: &'t ApiCall,
    redactor: &'t Redactor,
}

/// What the query, or the form of a `_search`, says.
#[derive(Default)]
struct Parameters {
    patient: Option<Vec<u8>>,
    own: bool,
    include: u32,
    revinclude: u32,
    count: Option<u32>,
    kinds: u32,
}

impl Teller<'_> {
    fn operation(&self) -> Option<Operation> {
        let raw = &self.call.raw;
        let path = raw.path.as_deref().unwrap_or_default();
        let target = path::target(path);
        let method = self.call.request.method.as_str();
        let mut evidence = Evidence::None;
        let request_type = self.call.request.body.media_type.as_str();
        let accept = header(&raw.request_headers, "accept").unwrap_or_default();
        let content_type = header(&raw.request_headers, "content-type").unwrap_or_default();
        if is_fhir(accept) || is_fhir(content_type) {
            evidence = Evidence::MediaType;
        }
        let has_request = self.phase >= Phase::Request && !raw.request_body.is_empty();
        let has_response = self.phase == Phase::Complete && self.call.response.is_some();
        let answer_type = match has_response {
            true => header(&raw.response_headers, "content-type").unwrap_or_default(),
            false => &[],
        };
        if is_fhir(answer_type) {
            evidence = Evidence::MediaType;
        }
        let form = request_type == "application/x-www-form-urlencoded";
        let mut parameters = Parameters::default();
        parameters.read(&raw.query, &target);
        if form && has_request {
            parameters.read(&raw.request_body, &target);
        }
        if target.is_unmistakable() || (target.is_shaped() && parameters.own) {
            evidence = evidence.max(Evidence::Path);
        }
        // Who polls asks for nothing that is FHIR's, and is told no more than how far it is.
        if target.is_shaped() && self.has_progress() {
            evidence = evidence.max(Evidence::Path);
        }
        // Bodies are looked into only where something speaks for FHIR already, or they are of a kind that it uses.
        let promising = |evidence: Evidence, bytes: &[u8]| {
            evidence > Evidence::None || target.is_shaped() || Body::looks_like(bytes)
        };
        let request = match has_request && !form && may_be_resource(content_type) {
            true if promising(evidence, &raw.request_body) => Body::read(&raw.request_body),
            _ => Body::default(),
        };
        let encoded = is_encoded(self.call);
        let answer = match has_response && !encoded && may_be_resource(answer_type) {
            true if promising(evidence, &raw.response_body) => Body::read(&raw.response_body),
            _ => Body::default(),
        };
        if [&request, &answer]
            .into_iter()
            .any(|body| body.proves(target.is_shaped()))
        {
            evidence = evidence.max(Evidence::Body);
        }
        if evidence == Evidence::None {
            return None;
        }
        let (name, resource) = self.named(method, &target, &request, &answer, answer_type, &parameters)?;
        let mut details: Vec<(&'static str, SmolStr)> =
            vec![("evidence", SmolStr::new_static(evidence.as_str()))];
        if let Some((of, _)) = target.compartment() {
            details.push(("compartment", SmolStr::new_static(of)));
        }
        for (name, count) in [
            ("include", parameters.include),
            ("revinclude", parameters.revinclude),
        ] {
            if count > 0 {
                details.push((name, count.to_smolstr()));
            }
        }
        if let Some(count) = parameters.count {
            details.push(("count", count.to_smolstr()));
        }
        let mut subject = target
            .patient()
            .map(|id| id.as_bytes().to_vec())
            .or(parameters.patient)
            .or(request.first_patient());
        let mut entries = request.entries;
        if request.entries > 0 {
            details.push(("requests", request.methods()));
        }
        if has_response {
            let whole = answer.whole && !answer_truncated(self.call);
            if !answer.kind.is_empty() {
                details.push(("answer", SmolStr::new(&answer.kind)));
            }
            if answer.is_bundle() {
                details.push(("returned", answer.entries.to_smolstr()));
                if !whole {
                    details.push(("returned-at-least", SmolStr::new_static("true")));
                }
                if answer.included > 0 {
                    details.push(("included", answer.included.to_smolstr()));
                }
                if answer.more {
                    details.push(("more", SmolStr::new_static("true")));
                }
                entries = entries.max(answer.entries);
            } else if answer.lines > 1 {
                entries = entries.max(answer.lines);
            }
            if !answer.patients.is_empty() {
                details.push(("patients", answer.patients.len().to_smolstr()));
                if let (1, None) = (answer.patients.len(), &subject) {
                    subject = answer.first_patient();
                }
            }
        }
        if let Some(flow) = self.bulk(&target, &answer, answer_type) {
            details.push(("bulk", SmolStr::new_static(flow)));
        }
        Some(Operation {
            api: Api::Fhir,
            name,
            resource,
            subject: subject
                .filter(|id| !id.is_empty())
                .map(|id| self.redactor.subject(&id)),
            entries,
            details,
        })
    }

    /// The interaction, and the type that it is about.
    fn named(
        &self,
        method: &str,
        target: &Target<'_>,
        request: &Body,
        answer: &Body,
        answer_type: &[u8],
        parameters: &Parameters,
    ) -> Option<(SmolStr, SmolStr)> {
        let kind = SmolStr::new(target.kind());
        let fixed = |name: &'static str| SmolStr::new_static(name);
        let bundle = || {
            match request.bundle.as_str() {
                "transaction" => fixed("transaction"),
                "batch" => fixed("batch"),
                // Not whole yet, or some other bundle that is posted.
                _ => fixed("batch"),
            }
        };
        let name = match (&target.shape, method) {
            (Shape::Capabilities, _) => fixed("capabilities"),
            (Shape::Operation(name), _) => operation_name(name),
            (Shape::Search, _) => match target.kind() {
                "" => fixed("search-system"),
                _ => fixed("search"),
            },
            (Shape::Compartment(..), _) => fixed("search"),
            (Shape::History, "DELETE") => fixed("delete-history"),
            (Shape::History, _) => match (target.id, target.kind()) {
                (Some(_), _) => fixed("history"),
                (None, "") => fixed("history-system"),
                (None, _) => fixed("history-type"),
            },
            (Shape::Version, "DELETE") => fixed("delete-version"),
            (Shape::Version, _) => fixed("vread"),
            (Shape::Instance, "GET" | "HEAD") => fixed("read"),
            (Shape::Instance | Shape::Type, "PUT") => fixed("update"),
            (Shape::Instance | Shape::Type, "PATCH") => fixed("patch"),
            (Shape::Instance | Shape::Type, "DELETE") => fixed("delete"),
            (Shape::Type, "POST") if is_form(self.call) => fixed("search"),
            (Shape::Type, "POST") if target.kind() == "Bundle" && request.is_batch() => bundle(),
            (Shape::Type, "POST") => fixed("create"),
            (Shape::Type, "GET" | "HEAD") => fixed("search"),
            (Shape::Base, "POST")
                if request.is_bundle() || (request.kind.is_empty() && self.phase == Phase::Head) =>
            {
                bundle()
            }
            (Shape::Base, "POST") if request.kind == "Bundle" => bundle(),
            (Shape::Base, "GET") if contains(answer_type, "ndjson") => fixed("bulk-download"),
            (Shape::Base, "GET") if answer.is_bulk_manifest() || self.has_progress() => fixed("bulk-status"),
            (Shape::Base, "DELETE") if self.has_progress() => fixed("bulk-cancel"),
            (Shape::Base, "GET") if answer.kind == "CapabilityStatement" => fixed("capabilities"),
            (Shape::Base, "GET") if parameters.own || answer.is_bundle() => fixed("search-system"),
            (Shape::Base, "OPTIONS") => return None,
            _ => fixed("other"),
        };
        let resource = match kind.is_empty() {
            false => kind,
            // A resource that was posted or read where the path does not say which.
            true if target.shape == Shape::Base && request.is_bundle() => SmolStr::new_static("Bundle"),
            true => SmolStr::default(),
        };
        Some((name, resource))
    }

    /// Where it stands in a bulk export: kick-off, status, download.
    fn bulk(&self, target: &Target<'_>, answer: &Body, answer_type: &[u8]) -> Option<&'static str> {
        let status = self.call.response.as_ref().map_or(0, |response| response.status);
        let is_async = header(&self.call.raw.request_headers, "prefer")
            .is_some_and(|value| contains(value, "respond-async"));
        match &target.shape {
            Shape::Operation(name) if *name == "export" || name.ends_with("-export") => {
                Some(match (status, is_async) {
                    (202, _) => "accepted",
                    (0, true) => "kick-off",
                    _ => "requested",
                })
            }
            Shape::Operation(name) if name.ends_with("-status") => Some("status"),
            _ if answer.is_bulk_manifest() => Some("complete"),
            _ if self.has_progress() && status == 202 => Some("status"),
            _ if contains(answer_type, "ndjson") => Some("download"),
            _ if is_async && status == 202 => Some("accepted"),
            _ => None,
        }
    }

    fn has_progress(&self) -> bool {
        self.phase == Phase::Complete && header(&self.call.raw.response_headers, "x-progress").is_some()
    }
}

impl Parameters {
    fn read(&mut self, bytes: &[u8], target: &Target<'_>) {
        for (name, value) in query::pairs(bytes) {
            let Ok(name) = std::str::from_utf8(&name) else {
                continue;
            };
            let bare = name.split_once(':').map_or(name, |(bare, _)| bare);
            // All of FHIR's own begin like that.
            self.own |= bare.starts_with('_') && OWN_PARAMETERS.contains(&bare);
            self.kinds = self.kinds.saturating_add(1);
            match bare {
                "_include" => self.include += 1,
                "_revinclude" => self.revinclude += 1,
                "_count" => {
                    self.count = std::str::from_utf8(&value)
                        .ok()
                        .and_then(|text| text.parse().ok())
                }
                "patient" | "subject" if self.patient.is_none() && !name.contains('.') => {
                    let value = value.as_ref();
                    let first = value.split(|byte| *byte == b',').next().unwrap_or_default();
                    // `subject` may be something else than a patient, and says so.
                    let named = body::reference_to_patient(first);
                    let plain = (!first.contains(&b'/')
                        && !first.contains(&b'|')
                        && (bare == "patient" || name == "subject:Patient"))
                        .then_some(first);
                    self.patient = named.or(plain).map(<[u8]>::to_vec);
                }
                "_id" if self.patient.is_none() && target.kind() == "Patient" => {
                    let value = value.as_ref();
                    self.patient = value.split(|byte| *byte == b',').next().map(<[u8]>::to_vec);
                }
                _ => {}
            }
        }
    }
}

/// `$everything`; one that is not known is `$operation`.
fn operation_name(name: &str) -> SmolStr {
    match OPERATIONS.contains(&name) {
        true => format_smolstr!("${name}"),
        false => SmolStr::new_static("$operation"),
    }
}

fn is_fhir(value: &[u8]) -> bool {
    contains(value, "fhir") && (contains(value, "fhir+") || contains(value, "+fhir"))
}

fn is_form(call: &ApiCall) -> bool {
    header(&call.raw.request_headers, "content-type")
        .is_some_and(|value| contains(value, "x-www-form-urlencoded"))
}

/// JSON, XML or NDJSON, or nobody says.
fn may_be_resource(content_type: &[u8]) -> bool {
    content_type.is_empty()
        || ["json", "xml", "text/plain"]
            .iter()
            .any(|part| contains(content_type, part))
}

fn answer_truncated(call: &ApiCall) -> bool {
    call.response
        .as_ref()
        .is_some_and(|response| response.body.truncated)
}

/// Patients by id; a set that does not grow beyond its bound.
fn add_patient(patients: &mut HashSet<SmolStr>, id: &str) {
    if patients.len() < PATIENTS_MAX && !id.is_empty() {
        patients.insert(SmolStr::new(id));
    }
}

#[cfg(test)]
mod tests;
