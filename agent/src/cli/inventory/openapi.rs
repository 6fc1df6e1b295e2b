//! The endpoints that a workload serves as an OpenAPI 3.1 document.
//!
//! Everything in it was fit to leave the agent: templates, types of parameters, status classes, keys of bodies and what is at
//! them. It has no examples, because an example would be a captured value. Words that may not be shown are
//! written `~word-…`: in braces they would be parameters.
//!
//! Source: OpenAPI Specification 3.1.1.

use std::collections::BTreeMap;

use apiward_proto::v1;
use serde_json::{Map, Value, json};

/// Methods that a path item may have.
const METHODS: [&str; 8] = [
    "GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE",
];

/// The document.
pub(super) fn document(endpoints: &[v1::Endpoint]) -> Value {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut titles: Vec<&str> = Vec::new();
    let mut schemes = BTreeMap::new();
    // Messages of HL7 v2 have neither path nor method: they stand beside the paths, by workload.
    let mut messages: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let served = endpoints.iter().filter(|one| {
        one.direction == v1::Direction::Inbound as i32 && !one.unmatched && one.path.starts_with('/')
    });
    for endpoint in served {
        let name = endpoint
            .workload
            .as_ref()
            .map_or("", |workload| workload.name.as_str());
        if !titles.contains(&name) {
            titles.push(name);
        }
        if endpoint.protocol == "mllp" {
            let known = messages.entry(name).or_default();
            if !known.contains(&endpoint.operation.as_str()) {
                known.push(&endpoint.operation);
            }
            continue;
        }
        let (path, parameters) = path(endpoint);
        let item = paths.entry(path).or_default();
        let method = endpoint.method.to_ascii_lowercase();
        if !METHODS.contains(&endpoint.method.as_str()) {
            let others = item.entry("x-apiward-methods").or_insert_with(|| json!([]));
            if let Some(others) = others
                .as_array_mut()
                .filter(|others| !others.contains(&json!(endpoint.method)))
            {
                others.push(json!(endpoint.method));
            }
            continue;
        }
        let fresh = operation(endpoint, parameters, &mut schemes);
        match item.get_mut(&method) {
            Some(known) => join(known, fresh, &endpoint.operation),
            None => {
                let mut fresh = fresh;
                if !endpoint.operation.is_empty() {
                    fresh["x-apiward-operations"] = json!([endpoint.operation]);
                }
                item.insert(method, fresh);
            }
        }
    }
    let mut ids: BTreeMap<String, u32> = BTreeMap::new();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": if titles.is_empty() { "nothing was seen".to_owned() } else { titles.join(", ") },
            "version": "observed",
            "description": "What was observed; no more is known of it than calls have shown.",
        },
        "paths": {},
    });
    for (path, item) in &mut paths {
        for (method, operation) in item.iter_mut().filter(|(key, _)| !key.starts_with("x-")) {
            let id = operation_id(method, path);
            let count = ids.entry(id.clone()).or_default();
            *count += 1;
            operation["operationId"] = match *count {
                1 => json!(id),
                count => json!(format!("{id}_{count}")),
            };
        }
    }
    document["paths"] = json!(paths);
    if !messages.is_empty() {
        document["x-apiward-messages"] = json!(messages);
    }
    if !schemes.is_empty() {
        document["components"] = json!({ "securitySchemes": schemes });
    }
    document
}

/// Two endpoints at one method and path: of two hosts, or operations of one.
fn join(known: &mut Value, fresh: Value, operation: &str) {
    if !operation.is_empty() {
        let list = &mut known["x-apiward-operations"];
        match list.as_array_mut() {
            Some(list) if list.contains(&json!(operation)) => {}
            Some(list) => list.push(json!(operation)),
            None => *list = json!([operation]),
        }
    }
    for key in ["responses", "requestBody"] {
        match (&mut known[key], &fresh[key]) {
            (Value::Object(known), Value::Object(fresh)) => {
                for (name, value) in fresh {
                    known.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
            (slot @ Value::Null, Value::Object(fresh)) => *slot = Value::Object(fresh.clone()),
            _ => {}
        }
    }
    if known["requestBody"].is_null()
        && let Some(known) = known.as_object_mut()
    {
        known.remove("requestBody");
    }
    if let (Some(known), Some(fresh)) = (known["parameters"].as_array_mut(), fresh["parameters"].as_array()) {
        for parameter in fresh {
            let same = |one: &Value| one["name"] == parameter["name"] && one["in"] == parameter["in"];
            if !known.iter().any(same) {
                known.push(parameter.clone());
            }
        }
    }
}

/// The template with a name for each value, and its parameters.
fn path(endpoint: &v1::Endpoint) -> (String, Vec<Value>) {
    let template = endpoint
        .path
        .replace("{word-", "~word-")
        .replace("{unmatched}", "~unmatched");
    let mut types = endpoint
        .parameters
        .iter()
        .filter(|parameter| parameter.place == "path");
    let (mut path, mut parameters, mut number) = (String::new(), Vec::new(), 0);
    let mut rest = template.as_str();
    while let Some((before, after)) = rest.split_once("{id}") {
        number += 1;
        let name = if number == 1 {
            "id".to_owned()
        } else {
            format!("id{number}")
        };
        path.push_str(&before.replace(['{', '}'], ""));
        path.push_str(&format!("{{{name}}}"));
        rest = after;
        let schema = types
            .next()
            .map_or_else(|| json!({ "type": "string" }), |one| schema(&one.types));
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    path.push_str(&rest.replace(['{', '}'], ""));
    (path, parameters)
}

fn operation(
    endpoint: &v1::Endpoint,
    mut parameters: Vec<Value>,
    schemes: &mut BTreeMap<String, Value>,
) -> Value {
    let query = endpoint
        .parameters
        .iter()
        .filter(|parameter| parameter.place == "query");
    parameters.extend(query.map(
        |one| json!({ "name": one.name, "in": "query", "required": false, "schema": schema(&one.types) }),
    ));
    let statuses = endpoint.statuses.unwrap_or_default();
    let mut responses = Map::new();
    for (count, class, words) in [
        (statuses.informational, "1XX", "An interim answer."),
        (statuses.success, "2XX", "Success."),
        (statuses.redirection, "3XX", "It is elsewhere."),
        (statuses.client_error, "4XX", "The caller's fault."),
        (statuses.server_error, "5XX", "The server's fault."),
    ] {
        if count > 0 {
            let mut response = json!({ "description": words });
            if class == "2XX" && !endpoint.response_media.is_empty() {
                response["content"] = content(&endpoint.response_media, endpoint, "response.body");
            }
            responses.insert(class.to_owned(), response);
        }
    }
    if responses.is_empty() {
        responses.insert(
            "default".to_owned(),
            json!({ "description": "No answer was seen." }),
        );
    }
    let mut operation = json!({
        "responses": responses,
        "parameters": parameters,
        "x-apiward-calls": endpoint.calls(),
    });
    let media: Vec<v1::Count> = endpoint
        .request_media
        .iter()
        .filter(|one| one.name != "others")
        .cloned()
        .collect();
    if !media.is_empty() && !matches!(endpoint.method.as_str(), "GET" | "HEAD" | "DELETE" | "TRACE") {
        operation["requestBody"] = json!({ "content": content(&media, endpoint, "request.body") });
    }
    let mut classes: Vec<&str> = endpoint.data.iter().map(|data| data.class.as_str()).collect();
    classes.sort_unstable();
    classes.dedup();
    if !classes.is_empty() {
        operation["x-apiward-data"] = json!(classes);
    }
    let security: Vec<Value> = endpoint
        .auth
        .iter()
        .filter_map(|auth| {
            let scheme = match auth.name.as_str() {
                "none" => return Some(json!({})),
                "basic" => json!({ "type": "http", "scheme": "basic" }),
                "bearer" => json!({ "type": "http", "scheme": "bearer" }),
                "digest" => json!({ "type": "http", "scheme": "digest" }),
                "negotiate" => json!({ "type": "http", "scheme": "negotiate" }),
                "sigv4" => json!({ "type": "http", "scheme": "aws4-hmac-sha256" }),
                // Which header or cookie it was is not kept.
                "api-key" => json!({ "type": "apiKey", "in": "header", "name": "X-Api-Key" }),
                "mtls" => json!({ "type": "mutualTLS" }),
                "cookie" => json!({ "type": "apiKey", "in": "cookie", "name": "session" }),
                _ => return None,
            };
            schemes.insert(auth.name.clone(), scheme);
            Some(json!({ auth.name.as_str(): [] }))
        })
        .collect();
    if !security.is_empty() {
        operation["security"] = json!(security);
    }
    operation
}

fn content(media: &[v1::Count], endpoint: &v1::Endpoint, part: &str) -> Value {
    let mut content = Map::new();
    for one in media.iter().filter(|one| one.name != "others") {
        let is_json = one.name.ends_with("json");
        let schema = if is_json {
            body_schema(endpoint, part)
        } else {
            json!({})
        };
        content.insert(one.name.clone(), json!({ "schema": schema }));
    }
    Value::Object(content)
}

/// What is known of a body: keys that may be shown, what was at each, and what of it is personal data.
fn body_schema(endpoint: &v1::Endpoint, part: &str) -> Value {
    let mut schema = json!({});
    for data in endpoint.data.iter().filter(|data| data.part == part) {
        let Some(at) = place(&mut schema, &data.location) else {
            continue;
        };
        let classes = &mut at["x-apiward-data"];
        match classes.as_array_mut() {
            Some(classes) if classes.contains(&json!(data.class)) => {}
            Some(classes) => classes.push(json!(data.class)),
            None => *classes = json!([data.class]),
        }
    }
    for field in endpoint.fields.iter().filter(|field| field.part == part) {
        if let Some(at) = place(&mut schema, &field.location) {
            describe(at, &field.types);
        }
        // The key, and the object that always has it.
        let Some((around, name)) = field.location.rsplit_once('.') else {
            continue;
        };
        if field.always
            && !name.ends_with("[]")
            && let Some(object) = place(&mut schema, around)
        {
            match object["required"].as_array_mut() {
                Some(names) => names.push(json!(name)),
                None => object["required"] = json!([name]),
            }
        }
    }
    schema
}

/// The schema at a location (`$.entry[].id`), made where there is none.
fn place<'s>(schema: &'s mut Value, location: &str) -> Option<&'s mut Value> {
    let way = location.strip_prefix('$')?;
    let mut at = schema;
    for key in way.split('.') {
        let arrays = key.matches("[]").count();
        let name = key.replace("[]", "");
        if !name.is_empty() {
            if at["type"].is_null() {
                at["type"] = json!("object");
            }
            at = &mut at["properties"][name.as_str()];
        }
        if at.is_null() {
            *at = json!({});
        }
        for _ in 0..arrays {
            if at["type"].is_null() {
                at["type"] = json!("array");
            }
            at = &mut at["items"];
            if at.is_null() {
                *at = json!({});
            }
        }
    }
    Some(at)
}

/// Types and formats, as JSON Schema has them.
fn describe(schema: &mut Value, kinds: &[String]) {
    const FORMATS: [&str; 3] = ["uuid", "date", "email"];
    let mut types: Vec<&str> = Vec::new();
    let mut formats: Vec<&str> = Vec::new();
    for kind in kinds.iter().map(String::as_str) {
        let name = match FORMATS.contains(&kind) {
            true => "string",
            // An integer is a number.
            false if kind == "integer" && kinds.iter().any(|other| other == "number") => "number",
            false => kind,
        };
        if name == "string" {
            formats.push(kind);
        }
        if !types.contains(&name) {
            types.push(name);
        }
    }
    match types[..] {
        [] => {}
        [one] => schema["type"] = json!(one),
        _ => schema["type"] = json!(types),
    }
    if let [one] = formats[..]
        && FORMATS.contains(&one)
    {
        schema["format"] = json!(one);
    }
}

fn schema(types: &[String]) -> Value {
    let one = |name: &str| match name {
        "number" => json!({ "type": "number" }),
        "boolean" => json!({ "type": "boolean" }),
        "uuid" => json!({ "type": "string", "format": "uuid" }),
        "date" => json!({ "type": "string", "format": "date" }),
        "email" => json!({ "type": "string", "format": "email" }),
        _ => json!({ "type": "string" }),
    };
    match types {
        [] => json!({ "type": "string" }),
        [name] => one(name),
        many => {
            let mut kinds: Vec<Value> = many.iter().map(|name| one(name)).collect();
            kinds.dedup();
            let string = json!({ "type": "string" });
            match kinds.contains(&string) {
                true => string,
                false => json!({ "anyOf": kinds }),
            }
        }
    }
}

fn operation_id(method: &str, path: &str) -> String {
    let words = path
        .split(|one: char| !one.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(method: &str, path: &str) -> v1::Endpoint {
        let count = |name: &str| v1::Count {
            name: name.into(),
            count: 3,
        };
        v1::Endpoint {
            direction: v1::Direction::Inbound as i32,
            method: method.into(),
            path: path.into(),
            statuses: Some(v1::StatusClasses {
                success: 3,
                ..Default::default()
            }),
            auth: vec![count("bearer"), count("none")],
            request_media: vec![count("application/json")],
            response_media: vec![count("application/json")],
            parameters: vec![
                v1::Parameter {
                    name: "1".into(),
                    place: "path".into(),
                    types: vec!["uuid".into()],
                    calls: 3,
                },
                v1::Parameter {
                    name: "status".into(),
                    place: "query".into(),
                    types: vec!["word".into()],
                    calls: 3,
                },
            ],
            data: vec![v1::EndpointData {
                class: "name".into(),
                part: "response.body".into(),
                location: "$.entry[].resource.name".into(),
                ..Default::default()
            }],
            fields: [
                ("$", "object", true),
                ("$.entry", "array", true),
                ("$.entry[]", "object", true),
                ("$.entry[].resource", "object", true),
                ("$.entry[].resource.id", "uuid", true),
                ("$.entry[].resource.name", "string", false),
                ("$.total", "integer", true),
            ]
            .map(|(location, kind, always)| v1::BodyField {
                part: "response.body".into(),
                location: location.into(),
                types: vec![kind.into(), "null".into()][..if kind == "string" { 2 } else { 1 }].to_vec(),
                calls: 3,
                always,
            })
            .to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn messages_of_hl7_are_no_paths_and_nothing_is_listed_twice() {
        let message = |workload: &str, operation: &str| v1::Endpoint {
            protocol: "mllp".into(),
            operation: operation.into(),
            workload: Some(v1::Workload {
                name: workload.into(),
                ..Default::default()
            }),
            ..endpoint("HL7", "/")
        };
        let query = || v1::Endpoint {
            operation: "query".into(),
            ..endpoint("POST", "/graphql")
        };
        let document = document(&[
            message("engine", "ADT^A01"),
            message("engine", "ORU^R01"),
            message("engine", "ADT^A01"),
            endpoint("PROPFIND", "/dav"),
            endpoint("PROPFIND", "/dav"),
            query(),
            query(),
        ]);
        assert_eq!(
            document["x-apiward-messages"],
            json!({ "engine": ["ADT^A01", "ORU^R01"] })
        );
        assert!(document["paths"]["/"].is_null());
        assert_eq!(
            document["paths"]["/dav"]["x-apiward-methods"],
            json!(["PROPFIND"])
        );
        let query = &document["paths"]["/graphql"]["post"];
        assert_eq!(query["x-apiward-operations"], json!(["query"]));
    }

    #[test]
    fn endpoints_become_operations() {
        let document = document(&[
            endpoint("GET", "/api/orders/{id}/{word-a1b2c3}"),
            endpoint("POST", "/api/orders/{id}"),
            endpoint("PROPFIND", "/dav"),
        ]);
        let get = &document["paths"]["/api/orders/{id}/~word-a1b2c3"]["get"];
        assert_eq!(get["parameters"][0]["schema"]["format"], "uuid");
        assert_eq!(get["parameters"][1]["name"], "status");
        let schema = &get["responses"]["2XX"]["content"]["application/json"]["schema"];
        let name = &schema["properties"]["entry"]["items"]["properties"]["resource"]["properties"]["name"];
        assert_eq!(name["x-apiward-data"][0], "name");
        assert_eq!(name["type"], json!(["string", "null"]));
        assert_eq!(schema["required"], json!(["entry", "total"]));
        let resource = &schema["properties"]["entry"]["items"]["properties"]["resource"];
        assert_eq!(resource["properties"]["id"]["format"], "uuid");
        assert_eq!(resource["required"], json!(["id"]));
        assert!(document["paths"]["/api/orders/{id}"]["post"]["requestBody"].is_object());
        assert_eq!(document["paths"]["/dav"]["x-apiward-methods"][0], "PROPFIND");
        assert_eq!(
            document["components"]["securitySchemes"]["bearer"]["scheme"],
            "bearer"
        );
        assert!(!document.to_string().contains("\"example"));
        // `cargo xtask test` holds it against the specification.
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/inventory/openapi_example.json");
        let rendered = format!("{document:#}\n");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &rendered).expect("written");
        }
        assert_eq!(
            std::fs::read_to_string(&path).unwrap_or_default(),
            rendered,
            "run it with UPDATE_DOCS=1"
        );
    }
}
