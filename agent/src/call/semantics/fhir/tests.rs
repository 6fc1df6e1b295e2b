//! Heads, bodies and answers → the operation.

use std::sync::Arc;

use bytes::Bytes;

use crate::call::Phase;
use crate::call::semantics::given::call;

#[test]
fn heads() {
    for (line, expected) in [
        ("GET /fhir/Patient/1", "read Patient +subject evidence=path"),
        (
            "GET /fhir/Patient/1/_history/2",
            "vread Patient +subject evidence=path",
        ),
        (
            "GET /Patient/1/_history",
            "history Patient +subject evidence=path",
        ),
        ("GET /base/Patient/_history", "history-type Patient evidence=path"),
        ("GET /fhir/_history", "history-system  evidence=path"),
        (
            "GET /x/y/MedicationRequest?patient=1",
            "search MedicationRequest +subject evidence=path",
        ),
        (
            "GET /fhir/Observation?subject=Patient/1&_count=50",
            "search Observation +subject evidence=path count=50",
        ),
        (
            "GET /fhir/Observation?subject=Group/1",
            "search Observation evidence=path",
        ),
        ("GET /fhir/Patient?_id=1", "search Patient +subject evidence=path"),
        (
            "GET /fhir/Encounter?_include=Encounter:subject&_revinclude=Observation:encounter&_revinclude:iterate=X:y",
            "search Encounter evidence=path include=1 revinclude=2",
        ),
        ("POST /fhir/Patient/_search", "search Patient evidence=path"),
        (
            "GET /Patient/1/Observation",
            "search Observation +subject evidence=path compartment=Patient",
        ),
        (
            "GET /r4/Patient/1/*",
            "search  +subject evidence=path compartment=Patient",
        ),
        ("POST /fhir/Patient", "create Patient evidence=path"),
        ("PUT /fhir/Patient/1", "update Patient +subject evidence=path"),
        ("PATCH /fhir/Patient/1", "patch Patient +subject evidence=path"),
        ("DELETE /fhir/Observation/1", "delete Observation evidence=path"),
        ("GET /fhir/metadata", "capabilities  evidence=path"),
        (
            "GET /Patient/1/$everything",
            "$everything Patient +subject evidence=path",
        ),
        ("POST /a/ValueSet/$expand", "$expand ValueSet evidence=path"),
        (
            "GET /tenant/7/Group/5/$export",
            "$export Group evidence=path bulk=requested",
        ),
        (
            "GET /fhir/Patient/$smiths-own",
            "$operation Patient evidence=path",
        ),
        ("GET /fhir", ""),
        ("GET /Account/1", ""),
        ("GET /Person", ""),
        ("GET /metadata", ""),
        ("GET /api/Task/List", ""),
        ("POST /graphql", ""),
        ("GET /users/MedicationRequest.pdf", ""),
        ("GET /Patient/1/Smith", ""),
    ] {
        assert_eq!(call(line).at(Phase::Head), expected, "{line}");
    }
    // The same, in a place of its own, if something says so.
    let accept = |line| {
        call(line)
            .header("accept", "application/fhir+json")
            .at(Phase::Head)
    };
    assert_eq!(accept("GET /Account/1"), "read Account evidence=media-type");
    assert_eq!(accept("GET /metadata"), "capabilities  evidence=media-type");
    assert_eq!(accept("POST /"), "batch  evidence=media-type");
    assert_eq!(
        call("GET /Group/5/$export")
            .header("prefer", "respond-async")
            .at(Phase::Head),
        "$export Group evidence=path bulk=kick-off"
    );
    assert_eq!(
        call("GET /Account?_lastUpdated=ge2026").at(Phase::Head),
        "search Account evidence=path"
    );
}

#[test]
fn bodies() {
    let transaction = r#"{"resourceType":"Bundle","type":"transaction","entry":[
        {"fullUrl":"urn:1","resource":{"resourceType":"Patient","id":"p"},"request":{"method":"POST","url":"Patient"}},
        {"resource":{"resourceType":"Observation","subject":{"reference":"Patient/p"}},"request":{"method":"PUT","url":"x"}},
        {"request":{"method":"DELETE","url":"Patient/2"}}]}"#;
    let part = transaction.replace("transaction", "batch")[..150].to_owned();
    let json = |line: &str, body: &str| call(line).header("content-type", "application/json").body(body);
    assert_eq!(
        json("POST /anything", transaction).at(Phase::Request),
        "transaction Bundle +subject 3 evidence=body requests=DELETE:1,POST:1,PUT:1"
    );
    assert_eq!(
        json("POST /anything", &part).at(Phase::Request),
        "batch Bundle +subject 1 evidence=body requests=POST:1"
    );
    let account = r#"{"resourceType":"Account","subject":[{"reference":"Patient/1"}]}"#;
    assert_eq!(
        json("POST /Account", account).at(Phase::Request),
        "create Account evidence=body"
    );
    // A word of its own in somebody else's API.
    assert_eq!(json("POST /lookup", account).at(Phase::Request), "");
    assert_eq!(
        json("POST /api/orders", r#"{"items":[1]}"#).at(Phase::Request),
        ""
    );
    let xml = r#"<?xml version="1.0"?><Observation xmlns="http://hl7.org/fhir"><id value="o"/><subject><reference value="http://a/Patient/9"/></subject></Observation>"#;
    assert_eq!(
        call("POST /x/Observation")
            .header("content-type", "application/xml")
            .body(xml)
            .at(Phase::Request),
        "create Observation +subject evidence=body"
    );
    assert_eq!(
        call("POST /Patient/_search")
            .header("content-type", "application/x-www-form-urlencoded")
            .body("_id=5&_include=x")
            .at(Phase::Request),
        "search Patient +subject evidence=path include=1"
    );
}

#[test]
fn answers() {
    let bundle = r#"{"resourceType":"Bundle","type":"searchset","total":500,"link":[{"relation":"self","url":"a"},{"relation":"next","url":"b"}],
        "entry":[{"resource":{"resourceType":"Observation","subject":{"reference":"Patient/1"}},"search":{"mode":"match"}},
                 {"resource":{"resourceType":"Patient","id":"2"},"search":{"mode":"include"}}]}"#;
    assert_eq!(
        call("GET /Observation")
            .answer(200, "application/json", bundle)
            .at(Phase::Complete),
        "search Observation 2 evidence=body answer=Bundle returned=2 included=1 more=true patients=2"
    );
    // As much as was captured.
    assert_eq!(
        call("GET /Observation")
            .answer(200, "application/json", &bundle[..300])
            .at(Phase::Complete),
        "search Observation +subject 2 evidence=body answer=Bundle returned=2 returned-at-least=true more=true patients=1"
    );
    let xml = r#"<Bundle xmlns="http://hl7.org/fhir"><type value="searchset"/><link><relation value="next"/></link>
        <entry><resource><Observation><subject><reference value="Patient/1"/></subject></Observation></resource></entry>
        <entry><resource><Patient><id value="1"/></Patient></resource><search><mode value="include"/></search></entry></Bundle>"#;
    assert_eq!(
        call("GET /Observation")
            .answer(200, "application/fhir+xml", xml)
            .at(Phase::Complete),
        "search Observation +subject 2 evidence=media-type answer=Bundle returned=2 included=1 more=true patients=1"
    );
    assert_eq!(
        call("GET /Account/1")
            .answer(
                404,
                "application/fhir+json",
                r#"{"resourceType":"OperationOutcome"}"#
            )
            .at(Phase::Complete),
        "read Account evidence=media-type answer=OperationOutcome"
    );
    assert_eq!(
        call("GET /Account/1")
            .answer(200, "application/json", r#"{"name":"x"}"#)
            .at(Phase::Complete),
        ""
    );
}

#[test]
fn bulk_exports() {
    assert_eq!(
        call("GET /fhir/$export")
            .header("prefer", "respond-async")
            .answer(202, "", "")
            .at(Phase::Complete),
        "$export  evidence=path bulk=accepted"
    );
    let polled = |line: &str| {
        let mut given = call(line).answer(202, "", "");
        Arc::make_mut(&mut given.call.raw.response_headers)
            .push((Bytes::from_static(b"x-progress"), Bytes::from_static(b"30%")));
        given.at(Phase::Complete)
    };
    assert_eq!(
        polled("GET /hapi/fhir/r4/status/8f14e45f"),
        "bulk-status  evidence=path bulk=status"
    );
    assert_eq!(polled("GET /jobs/5"), "");
    let manifest = r#"{"transactionTime":"2026","request":"x","requiresAccessToken":true,"output":[{"type":"Patient","url":"u"}]}"#;
    assert_eq!(
        call("GET /jobs/5")
            .answer(200, "application/json", manifest)
            .at(Phase::Complete),
        "bulk-status  evidence=body bulk=complete"
    );
    let lines = "{\"resourceType\":\"Patient\",\"id\":\"1\"}\n{\"resourceType\":\"Patient\",\"id\":\"2\"}\n";
    assert_eq!(
        call("GET /files/5")
            .answer(200, "application/fhir+ndjson", lines)
            .at(Phase::Complete),
        "bulk-download  2 evidence=media-type answer=Patient patients=2 bulk=download"
    );
}

#[test]
fn real_resources() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/fhir");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let tree: serde_json::Value = serde_json::from_str(&text).unwrap();
        let kind = tree["resourceType"].as_str().unwrap();
        let told = call(&format!("POST /a/{kind}"))
            .header("content-type", "application/json")
            .body(&text)
            .at(Phase::Request);
        assert!(told.starts_with(&format!("create {kind}")), "{told}");
        let about = tree["subject"]["reference"]
            .as_str()
            .is_some_and(|text| text.starts_with("Patient/"));
        assert_eq!(told.contains("+subject"), about || kind == "Patient", "{told}");
        seen += 1;
    }
    assert!(seen >= 5);
}
