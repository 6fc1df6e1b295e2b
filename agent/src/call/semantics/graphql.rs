//! GraphQL over HTTP and WebSocket: type and name of the operation, top-level fields, depth, batch size, persisted queries.
//!
//! Identified by the shape of the request: a `query` that is GraphQL, as JSON, as `application/graphql`, or in the query of a
//! GET; within a message of WebSocket as the `payload` of `graphql-transport-ws` and its predecessor. The lexer is our own
//! because the kept parsers build trees by recursion: this one walks the tokens once, with a counter for the depth. Names are the caller's: shown as words of a schema are, through the redactor.

use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::json::{self, Value};
use super::{Caller, contains, header, is_encoded, query};
use crate::call::redact::Redactor;
use crate::call::{Api, ApiCall, Operation, Phase, Protocol};

/// Tokens of one document that are looked at.
const TOKENS_MAX: usize = 100_000;
/// Top-level fields that are listed.
const FIELDS_MAX: usize = 16;
/// Requests of one batch that are taken apart; the others are counted.
const BATCH_READ_MAX: u32 = 100;
/// Where `"query"` and its kin have to begin.
const FRONT_BYTES: usize = 16 * 1024;

/// A request, as far as it can be told.
#[derive(Default)]
struct Asked {
    document: Document,
    /// `operationName`
    named: String,
    persisted: bool,
    batch: u32,
    /// What kinds of operations a batch mixes.
    kinds: Vec<&'static str>,
    /// A batch has requests, or fields, beyond those that are listed.
    more: bool,
    variables: u32,
}

/// What a document says of the operation that is run.
#[derive(Default)]
struct Document {
    /// `query`, `mutation` or `subscription`; empty: it is no GraphQL.
    kind: &'static str,
    name: String,
    fields: Vec<String>,
    depth: u32,
    operations: u32,
    introspects: bool,
}

/// Fills in what can be told by now.
pub(super) fn tell(phase: Phase, call: &mut ApiCall, redactor: &mut Redactor) {
    match (phase, &call.operation) {
        (Phase::Head, None) if call.request.method == "GET" && !call.raw.query.is_empty() => {
            if let Some(asked) = of_query(call) {
                let caller = Caller::of(call, redactor);
                call.operation = Some(Box::new(operation(&asked, caller, redactor)));
            }
        }
        (Phase::Request, None) if call.request.method == "POST" || call.protocol == Protocol::WebSocket => {
            if let Some(asked) = of_body(call) {
                let caller = Caller::of(call, redactor);
                call.operation = Some(Box::new(operation(&asked, caller, redactor)));
            }
        }
        (Phase::Complete, Some(known)) if known.api == Api::GraphQl => {
            let encoded = is_encoded(call);
            let errors = if encoded {
                0
            } else {
                errors(&call.raw.response_body)
            };
            if let (true, Some(operation)) = (errors > 0, &mut call.operation) {
                operation.details.push(("errors", errors.to_smolstr()));
            }
        }
        _ => {}
    }
}

fn operation(asked: &Asked, caller: Caller, redactor: &mut Redactor) -> Operation {
    let document = &asked.document;
    let kind = match document.kind {
        "" => "persisted",
        kind => kind,
    };
    let name = match document.name.is_empty() {
        true => &asked.named,
        false => &document.name,
    };
    let mut details: Vec<(&'static str, SmolStr)> = Vec::new();
    let mut shown = |name: &str, place: &str| match redactor.word(name, place, caller.0) {
        Some(word) => word,
        None => SmolStr::new_static("{name}"),
    };
    let named = match name.is_empty() {
        true => SmolStr::new_static(kind),
        false => format_smolstr!("{kind} {}", shown(name, "graphql:")),
    };
    if !document.fields.is_empty() {
        let fields: Vec<SmolStr> = document
            .fields
            .iter()
            .map(|field| shown(field, "graphql:field:"))
            .collect();
        details.push(("fields", SmolStr::from(fields.join(","))));
        details.push(("depth", document.depth.to_smolstr()));
    }
    if document.operations > 1 {
        details.push(("operations", document.operations.to_smolstr()));
    }
    if asked.kinds.len() > 1 {
        details.push(("kinds", SmolStr::from(asked.kinds.join(","))));
    }
    if asked.more {
        details.push(("more", SmolStr::new_static("true")));
    }
    if asked.variables > 0 {
        details.push(("variables", asked.variables.to_smolstr()));
    }
    for (is, name) in [
        (asked.persisted, "persisted"),
        (document.introspects, "introspection"),
    ] {
        if is {
            details.push((name, SmolStr::new_static("true")));
        }
    }
    if !name.is_empty() {
        details.push(("operation", redactor.keyed(b"operation", name.as_bytes())));
    }
    Operation {
        api: Api::GraphQl,
        name: named,
        resource: SmolStr::default(),
        subject: None,
        entries: asked.batch,
        details,
    }
}

fn of_query(call: &ApiCall) -> Option<Asked> {
    let mut asked = Asked::default();
    let mut text = Vec::new();
    for (name, value) in query::pairs(&call.raw.query) {
        match name.as_ref() {
            b"query" => text = value.into_owned(),
            b"operationName" => asked.named = String::from_utf8_lossy(&value).into_owned(),
            b"extensions" => asked.persisted = contains(&value, "persistedquery"),
            b"variables" => asked.variables = 1,
            _ => {}
        }
    }
    asked.document = Document::read(&text, &asked.named, false);
    let at_graphql = is_graphql_path(call);
    // `?query=…` alone is everybody's search.
    let is_one =
        !asked.document.kind.is_empty() || (asked.persisted && (at_graphql || !asked.named.is_empty()));
    is_one.then_some(asked)
}

fn of_body(call: &ApiCall) -> Option<Asked> {
    let body = &call.raw.request_body;
    let content_type = header(&call.raw.request_headers, "content-type").unwrap_or_default();
    if contains(content_type, "application/graphql") && !contains(content_type, "json") {
        let document = Document::read(body, "", true);
        return (!document.kind.is_empty()).then(|| Asked {
            document,
            ..Asked::default()
        });
    }
    let start = body.trim_ascii_start();
    let front = &body[..body.len().min(FRONT_BYTES)];
    let has = |word: &[u8]| memchr::memmem::find(front, word).is_some();
    // The files of an upload come after the request itself (GraphQL multipart request specification).
    if contains(content_type, "multipart/form-data") && has(b"\"operations\"") {
        let at = memchr::memchr(b'{', body)?;
        return of_json(&body[at..], call);
    }
    let candidate = matches!(start.first(), Some(b'{' | b'['))
        && (has(b"\"query\"") || has(b"persistedQuery") || has(b"\"documentId\""));
    candidate.then(|| of_json(body, call)).flatten()
}

fn of_json(body: &[u8], call: &ApiCall) -> Option<Asked> {
    let is_batch = body.trim_ascii_start().first() == Some(&b'[');
    let is_payload = call.protocol == Protocol::WebSocket;
    let depth = usize::from(is_batch || is_payload);
    let mut asked = Asked::default();
    // Documents, and the names of those of their operations that are run, by the number of the request in the batch.
    let mut texts: Vec<(String, u32)> = Vec::new();
    let mut names: Vec<(String, u32)> = Vec::new();
    let mut odd = 0u32;
    json::walk(body, 3, &mut |path, value| {
        if path.len() == depth && value == Value::Object && is_batch {
            asked.batch = asked.batch.saturating_add(1);
        }
        if is_payload && path.first().is_none_or(|name| name.as_str() != "payload") {
            return;
        }
        if path.len() == depth + 2
            && path[depth].as_str() == "extensions"
            && path[depth + 1].as_str() == "persistedQuery"
        {
            asked.persisted = true;
        }
        if path.len() == depth + 2 && path[depth].as_str() == "variables" {
            asked.variables = asked.variables.saturating_add(1);
        }
        if path.len() != depth + 1 {
            return;
        }
        match (path[depth].as_str(), value) {
            ("query" | "mutation", Value::Text(text)) if asked.batch <= BATCH_READ_MAX => {
                texts.push((text.to_owned(), asked.batch))
            }
            ("operationName", Value::Text(name)) if asked.batch <= BATCH_READ_MAX => {
                if names.last().is_none_or(|(_, of)| *of != asked.batch) {
                    names.push((name.to_owned(), asked.batch));
                }
            }
            ("documentId" | "doc_id", Value::Text(_)) => asked.persisted = true,
            ("query" | "operationName" | "variables" | "extensions" | "documentId" | "doc_id" | "id", _) => {}
            _ => odd = odd.saturating_add(1),
        }
    });
    let name_of = |batch: u32| {
        let index = names.binary_search_by_key(&batch, |(_, of)| *of).ok()?;
        Some(&names[index].0)
    };
    asked.more = asked.batch > BATCH_READ_MAX;
    let first = u32::from(is_batch);
    asked.named = name_of(first).cloned().unwrap_or_default();
    for (text, batch) in &texts {
        let named = name_of(*batch).map_or("", |name| name);
        let document = Document::read(text.as_bytes(), named, false);
        if document.kind.is_empty() {
            continue;
        }
        if !asked.kinds.contains(&document.kind) {
            asked.kinds.push(document.kind);
        }
        if asked.document.adds(document, &mut asked.more) {
            asked.named = named.to_owned();
        }
    }
    let persisted = asked.persisted && (odd == 0 || is_graphql_path(call));
    (!asked.document.kind.is_empty() || persisted).then_some(asked)
}

fn is_graphql_path(call: &ApiCall) -> bool {
    call.raw
        .path
        .as_deref()
        .is_some_and(|path| contains(path.as_bytes(), "graphql"))
}

fn errors(body: &[u8]) -> u32 {
    let mut count = 0u32;
    json::walk(body, 2, &mut |path, value| {
        if path.len() == 2 && path[0].as_str() == "errors" && value == Value::Object {
            count = count.saturating_add(1);
        }
    });
    count
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    Mark(u8),
    /// A string, a number, a variable: nothing that is looked at.
    Value,
}

impl Document {
    /// Takes in another one of the same batch: the batch is called by the first that changes something, so that nothing hides
    /// behind a query, and its fields are those of all, its name-giver's first. Whether it is called by this one; `more` where
    /// some find no room.
    fn adds(&mut self, mut other: Document, more: &mut bool) -> bool {
        let names_it = self.kind.is_empty() || (other.kind == "mutation" && self.kind != "mutation");
        self.depth = self.depth.max(other.depth);
        self.operations = self.operations.max(other.operations);
        self.introspects |= other.introspects;
        if names_it {
            std::mem::swap(&mut self.fields, &mut other.fields);
        }
        for field in other.fields {
            if !self.fields.contains(&field) {
                match self.fields.len() < FIELDS_MAX {
                    true => self.fields.push(field),
                    false => *more = true,
                }
            }
        }
        if names_it {
            self.kind = other.kind;
            self.name = other.name;
        }
        names_it
    }

    /// `wanted`: which of its operations is run, if it has several. `declared`: it is said to be GraphQL, so that no more
    /// proof is needed than a selection.
    fn read(text: &[u8], wanted: &str, declared: bool) -> Document {
        let mut document = Document::default();
        let mut lexer = Lexer { text, at: 0 };
        let (mut depth, mut brackets) = (0u32, 0u32);
        let mut current: Option<(&'static str, String)> = None;
        let mut taken = false;
        let mut relevant = false;
        let mut before = None;
        let mut valid = true;
        let mut closed = false;
        for _ in 0..TOKENS_MAX {
            let Some(token) = lexer.next() else { break };
            match token {
                Token::Name(name) if depth == 0 && brackets == 0 => match (name, &mut current) {
                    ("query" | "mutation" | "subscription" | "fragment", None) => {
                        let kind = match name {
                            "query" => "query",
                            "mutation" => "mutation",
                            "subscription" => "subscription",
                            _ => "fragment",
                        };
                        current = Some((kind, String::new()));
                    }
                    (name, Some((_, own))) if own.is_empty() && before != Some(Token::Mark(b'@')) => {
                        own.push_str(name)
                    }
                    (_, Some(_)) => {}
                    // A sentence that somebody searches for.
                    (_, None) => {
                        valid = false;
                        break;
                    }
                },
                Token::Mark(b'{') if brackets == 0 => {
                    if depth == 0 {
                        let (kind, name) = current.take().unwrap_or(("query", String::new()));
                        if kind != "fragment" {
                            document.operations = document.operations.saturating_add(1);
                            relevant = !taken && (wanted.is_empty() || wanted == name);
                            if relevant || document.kind.is_empty() {
                                taken |= relevant;
                                document.kind = kind;
                                document.name = name;
                                document.fields.clear();
                                relevant = true;
                            }
                        } else {
                            relevant = false;
                        }
                    }
                    depth += 1;
                    document.depth = document.depth.max(depth);
                }
                Token::Mark(b'}') if brackets == 0 => {
                    let Some(less) = depth.checked_sub(1) else {
                        valid = false;
                        break;
                    };
                    depth = less;
                    closed |= depth == 0;
                }
                Token::Mark(b'(' | b'[') => brackets = brackets.saturating_add(1),
                Token::Mark(b')' | b']') => brackets = brackets.saturating_sub(1),
                Token::Mark(b':') if depth == 1 && brackets == 0 && relevant => {
                    // What came before is an alias.
                    document.fields.pop();
                }
                Token::Name(name) if depth == 1 && brackets == 0 && relevant => {
                    let is_field = !matches!(before, Some(Token::Mark(b'@' | b'.')));
                    document.introspects |= is_field && matches!(name, "__schema" | "__type");
                    if is_field && name != "on" && document.fields.len() < FIELDS_MAX {
                        document.fields.push(name.to_owned());
                    }
                }
                Token::Value | Token::Name(_) if depth == 0 && brackets == 0 && current.is_none() => {
                    valid = false;
                    break;
                }
                Token::Value | Token::Name(_) | Token::Mark(_) => {}
            }
            before = Some(token);
        }
        // A document that was cut still has its beginning; one in braces alone has to be whole.
        let plain = document.name.is_empty()
            && document.kind == "query"
            && !text.trim_ascii_start().starts_with(b"query");
        if !valid || document.fields.is_empty() || (plain && !closed && !declared) {
            return Document::default();
        }
        document
    }
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let byte = *self.text.get(self.at)?;
            let rest = &self.text[self.at..];
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b',' | 0xef | 0xbb | 0xbf => self.at += 1,
                b'#' => self.at += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len()),
                b'"' if rest.starts_with(b"\"\"\"") => {
                    let end = memchr::memmem::find(&rest[3..], b"\"\"\"");
                    self.at += end.map_or(rest.len(), |end| end + 6);
                    return Some(Token::Value);
                }
                b'"' => {
                    self.string(rest);
                    return Some(Token::Value);
                }
                b'$' | b'-' | b'0'..=b'9' => {
                    let end = rest[1..]
                        .iter()
                        .position(|byte| !is_name(*byte) && !matches!(byte, b'.' | b'+' | b'-'));
                    self.at += end.map_or(rest.len(), |end| end + 1);
                    return Some(Token::Value);
                }
                b'.' => {
                    self.at += rest.iter().take_while(|byte| **byte == b'.').count();
                    return Some(Token::Mark(b'.'));
                }
                byte if is_name(byte) => {
                    let end = rest.iter().position(|byte| !is_name(*byte)).unwrap_or(rest.len());
                    self.at += end;
                    return Some(Token::Name(std::str::from_utf8(&rest[..end]).unwrap_or_default()));
                }
                byte => {
                    self.at += 1;
                    return Some(Token::Mark(byte));
                }
            }
        }
    }
}

impl Lexer<'_> {
    fn string(&mut self, rest: &[u8]) {
        let mut at = 1;
        while let Some(found) = memchr::memchr2(b'"', b'\\', &rest[at.min(rest.len())..]) {
            at += found;
            if rest[at] == b'"' {
                self.at += at + 1;
                return;
            }
            at += 2;
        }
        self.at += rest.len();
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::call::semantics::given::call;

    fn post(body: &str) -> String {
        let text = call("POST /graphql")
            .header("content-type", "application/json")
            .body(body)
            .at(Phase::Request);
        text.split(" operation=").next().unwrap_or_default().to_owned()
    }

    #[test]
    fn operations() {
        for (document, expected) in [
            (
                "query getPatient($id: ID!) { patient(id: $id) { name { family } } }",
                "query getPatient  fields=patient depth=3",
            ),
            ("{ patient { id } users }", "query  fields=patient,users depth=2"),
            (
                "mutation { a: deleteUser(id: 5, in: {x: [1]}) { ok } }",
                "mutation  fields=deleteUser depth=2",
            ),
            (
                "subscription events { event { id } }",
                "subscription events  fields=event depth=2",
            ),
            (
                "query { __schema { types { name } } }",
                "query  fields={name} depth=3 introspection=true",
            ),
            (
                "fragment F on Patient { id } query { patient { ...F } }",
                "query  fields=patient depth=2",
            ),
            (
                "query { ...F patient @include(if: true) { id } } # { { {",
                "query  fields=patient depth=2",
            ),
            (
                "query Zebulon { patient }",
                "query {name}  fields=patient depth=1",
            ),
            (
                "query x { patient(note: \"} { \\\" \") { id } }",
                "query {name}  fields=patient depth=2",
            ),
        ] {
            let body = serde_json::json!({ "query": document, "variables": { "id": 1 } }).to_string();
            let told = post(&body).replace(" variables=1", "");
            assert_eq!(told, expected, "{document}");
        }
        let two = serde_json::json!({ "query": "query a { users } mutation search { create }", "operationName": "search" });
        assert_eq!(
            post(&two.to_string()),
            "mutation search  fields=create depth=1 operations=2"
        );
    }

    #[test]
    fn messages_of_websocket_hold_it_in_their_payload() {
        let message = |body: &str| {
            let mut given = call("GET /graphql").body(body);
            given.call.protocol = Protocol::WebSocket;
            let text = given.at(Phase::Request);
            text.split(" operation=").next().unwrap_or_default().to_owned()
        };
        assert_eq!(
            message(
                r#"{"id":"1","type":"subscribe","payload":{"query":"subscription events { event { id } }","variables":{"n":1}}}"#
            ),
            "subscription events  fields=event depth=2 variables=1"
        );
        assert_eq!(
            message(r#"{"type":"start","id":"1","payload":{"query":"{ patient { id } }"}}"#),
            "query  fields=patient depth=2"
        );
        for other in [
            r#"{"type":"connection_init","payload":{"query":"x"}}"#,
            r#"{"type":"search","query":"{ patient { id } }"}"#,
            r#"{"id":"1","type":"next","payload":{"data":{"patient":{"id":1}}}}"#,
        ] {
            assert_eq!(message(other), "", "{other}");
        }
    }

    #[test]
    fn batches_persisted_queries_and_look_alikes() {
        assert_eq!(
            post(r#"[{"query":"{ users }"},{"query":"{ users { id } }"},{"operationName":"x"}]"#),
            "query  3 fields=users depth=2"
        );
        // A batch is called by what it changes, wherever in it that stands.
        assert_eq!(
            post(
                r#"[{"query":"query getUser { users }","operationName":"getUser"},{"query":"mutation { create { id } }"},
                    {"query":"query a { users } mutation search { update }","operationName":"search"}]"#
            ),
            "mutation  3 fields=create,users,update depth=2 operations=2 kinds=query,mutation"
        );
        assert_eq!(
            post(
                r#"[{"query":"{ users }"},{"operationName":"search","query":"query a { users } mutation search { update }"}]"#
            ),
            "mutation search  2 fields=update,users depth=1 operations=2 kinds=query,mutation"
        );
        // What is not looked at, or finds no room, is said to be there.
        let many = |count: usize| vec![r#"{"query":"{ users }"}"#; count].join(",");
        assert_eq!(
            post(&format!("[{}]", many(100))),
            "query  100 fields=users depth=1"
        );
        assert_eq!(
            post(&format!("[{}]", many(101))),
            "query  101 fields=users depth=1 more=true"
        );
        let fields: Vec<String> = (0..16).map(|number| format!("a{number}")).collect();
        let told = post(&format!(
            r#"[{{"query":"{{ {} }}"}},{{"query":"mutation {{ update }}"}}]"#,
            fields.join(" ")
        ));
        assert!(
            told.contains(" fields=update,") && told.contains(" more=true"),
            "{told}"
        );
        assert_eq!(
            post(
                r#"{"operationName":"getUser","extensions":{"persistedQuery":{"version":1,"sha256Hash":"a"}}}"#
            ),
            "persisted getUser  persisted=true"
        );
        for other in [
            r#"{"query":"SELECT 1"}"#,
            r#"{"query":"what is a query { x"}"#,
            r#"{"query":{"match":{"a":1}}}"#,
            r#"{"query":"mutation of genes"}"#,
            r#"{"a":"{ x }"}"#,
        ] {
            assert_eq!(post(other), "", "{other}");
        }
        let get = |line: &str| call(line).at(Phase::Head);
        assert_eq!(
            get("GET /api?query=%7B%20users%20%7B%20id%20%7D%20%7D"),
            "query  fields=users depth=2"
        );
        assert_eq!(get("GET /search?query=smith"), "");
        let mut given = call("POST /q")
            .header("content-type", "application/graphql")
            .body("{ users }");
        assert_eq!(given.at(Phase::Request), "query  fields=users depth=1");
        let mut given = given.answer(200, "application/json", r#"{"errors":[{"message":"x"}]}"#);
        assert!(given.at(Phase::Complete).ends_with("errors=1"));
        // Depth is counted, not recursed.
        let deep = "{ a ".repeat(40_000);
        assert_eq!(
            Document::read(format!("query q {deep}").as_bytes(), "", false).depth,
            40_000
        );
    }

    proptest! {
        #[test]
        fn anything_is_read(text in "[ {}()\\[\\]:@.$\"#a-z,]{0,200}") {
            let _ = Document::read(text.as_bytes(), "a", true);
            let _ = Document::read(format!("query {{{text}").as_bytes(), "", false);
        }
    }
}
