//! Every detector against its own examples.

mod formats;
mod labelled;
mod neighbours;
mod places;
mod prose;
mod shipped;

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::call::{Content, Data, Part};

pub(super) fn scanner() -> Scanner {
    Scanner::new(&PhiSettings::default(), [7; 32], &[]).expect("the tables build")
}

pub(super) fn scan(scanner: &mut Scanner, body: &[u8], content_type: &str) -> Vec<Data> {
    let content = Content {
        bytes: body,
        content_type: content_type.as_bytes(),
        content_encoding: b"",
        message: None,
        truncated: false,
    };
    scanner.body(Part::RequestBody, &content);
    scanner.take()
}

#[test]
fn the_reference_is_rendered() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/data-classes.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, render()).expect("written");
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == render(),
        "docs/data-classes.md differs: UPDATE_DOCS=1 cargo test -p apiward detect::phi"
    );
}

#[test]
fn detectors_stand_at_their_class() {
    for (at, detector) in DETECTORS.iter().enumerate() {
        assert_eq!(detector.class as usize, at, "{}", detector.name);
        assert!(!detector.examples.is_empty(), "{}", detector.name);
        assert!(!detector.counter_examples.is_empty(), "{}", detector.name);
    }
}

#[test]
fn examples_are_found_and_counter_examples_are_not() {
    let mut scanner = scanner();
    let mut wrong = Vec::new();
    for detector in DETECTORS {
        for example in detector.examples {
            let data = scan(&mut scanner, example.as_bytes(), "");
            if !data.iter().any(|data| data.class == detector.name) {
                wrong.push(format!("{} is not found in {example}: {data:?}", detector.name));
            }
        }
        for example in detector.counter_examples {
            let data = scan(&mut scanner, example.as_bytes(), "");
            if data.iter().any(|data| data.class == detector.name) {
                wrong.push(format!("{} is found in {example}: {data:?}", detector.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn corpus(file: &str) -> Vec<Data> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/corpus")
        .join(file);
    let body = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    scan(&mut scanner(), &body, "")
}

/// `class@location`, of what is the patient's.
fn places(data: &[Data], group: &str) -> Vec<String> {
    let of_group = data.iter().filter(|data| data.group == group);
    of_group
        .map(|data| format!("{}@{}", data.class, data.location))
        .collect()
}

#[test]
fn fhir_tells_whose_data_it_is() {
    let patient = corpus("fhir/patient-example.json");
    let phi = places(&patient, "phi");
    for place in [
        "name@$.name[].family",
        "name@$.contact[].name.given[]",
        "mrn@$.identifier[].value",
        "phone@$.telecom[].value",
        "birth-date@$.birthDate",
        "address@$.address[].postalCode",
    ] {
        assert!(phi.contains(&place.to_owned()), "{place} is not in {phi:?}");
    }
    assert_eq!(phi.len(), patient.len(), "all of it is the patient's");
    let practitioner = corpus("resources/practitioner-example.json");
    assert!(places(&practitioner, "phi").is_empty(), "{practitioner:?}");
    assert!(places(&practitioner, "pii").contains(&"name@$.name[].family".to_owned()));
    for (file, place) in [
        ("condition-example", "diagnosis@$.code.coding[].code"),
        ("observation-example", "observation@$.code.coding[].code"),
        ("allergyintolerance-example", "allergy@$.code.coding[].code"),
    ] {
        let data = corpus(&format!("resources/{file}.json"));
        assert!(places(&data, "health").contains(&place.to_owned()), "{data:?}");
        assert!(data.iter().any(|data| data.class == "patient-id"), "{data:?}");
    }
    for file in [
        "capabilitystatement-example",
        "structuredefinition-example-composition",
        "valueset-example",
        "codesystem-example",
        "organization-example",
    ] {
        let data = corpus(&format!("resources/{file}.json"));
        assert!(data.is_empty(), "{file}: {data:?}");
    }
}

#[test]
fn fhir_in_any_order_and_in_xml() {
    let mut scanner = scanner();
    let late = br#"{"entry":[{"resource":{"name":[{"family":"Okafor"}],"resourceType":"Practitioner"}},
        {"resource":{"birthDate":"1980-02-14","name":[{"family":"Okafor"}],"resourceType":"Patient"}}],"resourceType":"Bundle"}"#;
    let data = scan(&mut scanner, late, "application/fhir+json");
    assert_eq!(places(&data, "pii"), ["name@$.entry[].resource.name[].family"]);
    assert_eq!(
        places(&data, "phi"),
        [
            "birth-date@$.entry[].resource.birthDate",
            "name@$.entry[].resource.name[].family"
        ]
    );
    let xml = br#"<Patient xmlns="http://hl7.org/fhir"><identifier><type><coding><code value="SS"/></coding></type>
        <value value="536228741"/></identifier><name><family value="Okafor"/></name>
        <telecom><system value="email"/><value value="m@x.example"/></telecom><birthDate value="1980-02-14"/></Patient>"#;
    let data = scan(&mut scanner, xml, "application/fhir+xml");
    let classes: Vec<&str> = data.iter().map(|data| data.class.as_str()).collect();
    assert_eq!(classes, ["ssn", "name", "email", "birth-date"], "{data:?}");
}

#[test]
fn fields_of_hl7() {
    for file in ["ADT-A01-01", "ADT-A04-01", "ADT-A08-01"] {
        let data = corpus(&format!("hl7v2/{file}.hl7"));
        let phi = places(&data, "phi");
        for place in ["name@PID-5", "birth-date@PID-7"] {
            assert!(
                phi.contains(&place.to_owned()),
                "{file}: {place} is not in {data:?}"
            );
        }
        assert!(
            phi.iter().any(|place| place.ends_with("@PID-3")),
            "{file}: {data:?}"
        );
    }
}

#[test]
fn own_keys_patterns_and_classes_that_are_off() {
    let settings = PhiSettings {
        enabled: true,
        keys: vec![("chartRef".into(), "mrn".into())],
        patterns: vec![Pattern {
            class: "badge".into(),
            regex: "B-[0-9]{6}".into(),
            words: vec!["badge".into()],
        }],
        off: vec!["email".into()],
    };
    let mut scanner = Scanner::new(&settings, [7; 32], &[]).expect("it builds");
    let body = br#"{"patient_chart_ref":"x942","email":"m@x.example","note":"badge B-482913 and B-482914"}"#;
    let data = scan(&mut scanner, body, "");
    let told: Vec<(&str, u32)> = data
        .iter()
        .map(|data| (data.class.as_str(), data.count))
        .collect();
    assert_eq!(told, [("mrn", 1), ("badge", 2)], "{data:?}");
    assert!(data.iter().all(|data| data.group == "phi"));
    let broken = PhiSettings {
        patterns: vec![Pattern {
            class: "x".into(),
            regex: "(".into(),
            words: Vec::new(),
        }],
        ..PhiSettings::default()
    };
    assert!(Scanner::new(&broken, [7; 32], &[]).is_err());
}

#[test]
fn paths_queries_and_headers() {
    let mut scanner = scanner();
    scanner.path("/fhir/Patient/8812-A");
    scanner.query("/fhir/Patient", b"birthdate=1980-02-14&family=Okafor&_count=10");
    let headers: [(&[u8], &[u8]); 3] = [
        (b"authorization", b"Bearer abcdefgh12345678"),
        (b"x-patient-id", b"8812-A"),
        (b"x-request-id", b"536-22-8741"),
    ];
    scanner.headers(Part::RequestHeaders, headers.into_iter());
    let data = scanner.take();
    let told: Vec<String> = data
        .iter()
        .map(|data| format!("{} {} {}", data.class, data.part.as_str(), data.location))
        .collect();
    assert_eq!(
        told,
        [
            "patient-id request.path /fhir/Patient/{id}",
            "birth-date request.query ?birthdate",
            "name request.query ?family",
            "token request.headers authorization",
            "patient-id request.headers x-patient-id",
        ]
    );
}

#[test]
fn the_same_value_has_the_same_hash_and_another_agent_another() {
    let one = scan(&mut scanner(), br#"{"ssn":"536-22-8741"}"#, "");
    let same = scan(&mut scanner(), br#"{"patient_ssn":536228741}"#, "");
    let mut other = Scanner::new(&PhiSettings::default(), [8; 32], &[]).expect("it builds");
    let foreign = scan(&mut other, br#"{"ssn":"536-22-8741"}"#, "");
    assert_eq!(one[0].hash, same[0].hash);
    assert_ne!(one[0].hash, foreign[0].hash);
    assert_eq!(one[0].hash.as_ref().map(|hash| hash.len()), Some(16));
}

/// Everything that leaves of a finding.
fn leaves(data: &[Data]) -> String {
    data.iter()
        .map(|data| {
            format!(
                "{} {} {} {:?}\n",
                data.class, data.group, data.location, data.hash
            )
        })
        .collect()
}

#[test]
fn no_value_leaves_wherever_it_stands() {
    let mut scanner = scanner();
    let canary = "Zebulonq4711";
    for shape in [
        r#"{"ssn":"@","name":"@ @","@":"536-22-8741","identifier":{"system":"@","value":"@","@":{"email":"@@x.example"}}}"#,
        r#"{"resourceType":"Patient","@":[{"birthDate":"1980-02-14"}],"name":[{"family":"@"}],"identifier":[{"system":"@","value":"@","period":{"start":"@"}}],"telecom":[{"value":"@@x.example","system":"email"}],"contact":[{"name":{"given":["@"]}}]}"#,
        "MSH|^~\\&|@|@\rPID|1||@^^^@^MR||@^@\rZ@1|call (212) 555-0142\r@X1|m@x.example",
        "<Patient><@><birthDate value='1980-02-14'/></@><name><family value='@'/></name><identifier><value value='@'/></identifier></Patient>",
        "@,ssn,email\n1,536-22-8741,@@x.example\n",
        "@=536-22-8741&name=@&ssn=536228741",
    ] {
        let data = scan(&mut scanner, shape.replace('@', canary).as_bytes(), "");
        assert!(!data.is_empty(), "{shape}");
        let told = leaves(&data).to_lowercase();
        assert!(!told.contains("zebulon"), "{told}");
    }
    scanner.path(&format!("/{canary}/patients/{canary}/536-22-8741"));
    scanner.query(
        "/",
        format!("{canary}=536-22-8741&email={canary}@x.example").as_bytes(),
    );
    let name = canary.to_lowercase();
    let headers = [
        (name.as_bytes(), b"536-22-8741".as_slice()),
        (b"cookie", b"session=Zebulonq4711"),
    ];
    scanner.headers(Part::RequestHeaders, headers.into_iter());
    let told = leaves(&scanner.take()).to_lowercase();
    assert!(!told.is_empty() && !told.contains("zebulon"), "{told}");
}

#[test]
fn what_is_told_is_bounded() {
    let mut body = String::from("{");
    for number in 0..5_000 {
        body += &format!("\"email{number}\":\"m{number}@x.example\",");
    }
    body += "\"a\":1}";
    let data = scan(&mut scanner(), body.as_bytes(), "");
    assert!(data.len() <= 512, "{}", data.len());
    assert_eq!(data.iter().map(|data| data.count).sum::<u32>(), 5_000);
}

#[test]
fn hostile_bodies_cost_no_more_than_others() {
    let mut scanner = scanner();
    let bodies = [
        "1 ".repeat(1 << 17),
        "mr ".repeat(1 << 16),
        "1-".repeat(1 << 17),
        "@a.".repeat(1 << 16),
        "A1 ".repeat(1 << 16),
        "GB82 WEST ".repeat(1 << 15),
        "eyJ".repeat(1 << 16),
        "(01)".repeat(1 << 16),
        "phone 0 1-".repeat(1 << 15),
        "phone 0171 1234567 ".repeat(1 << 14),
        "insurance id: 12345 ".repeat(1 << 14),
        "ssn=219-09-9999#".repeat(1 << 14),
        r#"{"location":{"zip":"62704","firstName":"Marta"},"extension":[{"#.repeat(1 << 12),
        r#"{"name":"#.repeat(1 << 15),
        r#"{"system":{"value":"#.repeat(1 << 14),
        "ab#1 ".repeat(1 << 15),
        "Mr:".repeat(1 << 16),
        "Name: Is: Dr: ".repeat(1 << 14),
        "van ".repeat(1 << 16),
        "owner ".repeat(1 << 15),
        format!("owner: {}", " ".repeat(1 << 17)),
        ", AL 06340".repeat(1 << 14),
        "1 A, AL 06340".repeat(1 << 14),
        "account A1".repeat(1 << 15),
        "password is ".repeat(1 << 15),
        r#"{"type":"patients","id":"4829","x":["#.repeat(1 << 12),
        r#"{"idType":{"display":"MRN","id":"#.repeat(1 << 13),
        format!("a=1&{}", "p[0][q][1].r.s=4829&p[0][t]=1&".repeat(1 << 13)),
        format!("a=1&{}=1", "p[0].".repeat(1 << 16)),
        format!("cb({{\"x\":\"{}\"}})", "<a></a>".repeat(1 << 14)),
        format!("[{}", r#"{"a":1,"resourceType":"Patient"},"#.repeat(1 << 13)),
    ];
    // The clock is not asked: a quadratic one would not come to its end.
    for body in bodies {
        scan(&mut scanner, body.as_bytes(), "application/json");
        scan(&mut scanner, body.as_bytes(), "text/plain");
        scan(&mut scanner, body.as_bytes(), "application/x-www-form-urlencoded");
    }
}

proptest! {
    #[test]
    fn nothing_hurts(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        scan(&mut scanner(), &bytes, "text/plain");
    }

    #[test]
    fn nothing_behind_a_word_hurts(text in "((phone|call|fax|zip|ip|plate|address|dob|mrn|SSN|patient_id|Insurance ID)[ :=#.<>()/+A-Fa-f0-9\u{e9}-]{0,50}){1,4}") {
        let mut scanner = scanner();
        scan(&mut scanner, text.as_bytes(), "text/plain");
        scan(&mut scanner, serde_json::json!({ "note": text, "type": text, "name": { "first": text } }).to_string().as_bytes(), "application/json");
    }

    #[test]
    fn nothing_likely_hurts(text in "[\\[\\]{}\":,0-9 @.A-Z()/+-]{0,300}", cut in 0usize..300) {
        let mut scanner = scanner();
        scan(&mut scanner, text.as_bytes(), "application/json");
        scan(&mut scanner, text.as_bytes(), "text/plain");
        let patient = r#"{"resourceType":"Patient","identifier":[{"type":{"coding":[{"code":"MR"}]},"value":"1"}],"name":[{"family":"x"}]}"#;
        scan(&mut scanner, &patient.as_bytes()[..cut.min(patient.len())], "application/json");
    }
}

#[test]
fn a_description_of_an_api_holds_examples() {
    let mut scanner = scanner();
    let document = br#"{"openapi":"3.1.0","info":{"contact":{"name":"Marta Okafor"}},
        "components":{"examples":{"a":{"value":{"patient":{"firstName":"Marta","ssn":"536-22-8741"}}}}}}"#;
    assert!(scan(&mut scanner, document, "application/json").is_empty());
    let schema = br#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object",
        "properties":{"email":{"type":"string","examples":["marta@mail.example"]}}}"#;
    assert!(scan(&mut scanner, schema, "application/json").is_empty());
    // Only at the root, only with a version, and only where a description has them.
    for body in [
        r#"{"openapi":"3.1.0","firstName":"Marta"}"#,
        r#"{"openapi":"3.1.0","info":{"title":"x"},"paths":{},"data":[{"firstName":"Marta"}]}"#,
        r#"{"data":{"openapi":"3.1.0","firstName":"Marta"}}"#,
        r#"{"openapi":"yes","firstName":"Marta"}"#,
        r#"{"$schema":"https://h.example/json-schema.org","properties":{"firstName":"Marta"}}"#,
    ] {
        assert!(
            !scan(&mut scanner, body.as_bytes(), "application/json").is_empty(),
            "{body}"
        );
    }
}

#[test]
fn keys_in_other_languages_and_written_together() {
    let mut scanner = scanner();
    for (key, value, class) in [
        ("emergencycontactname", "Marta Okafor", "name"),
        ("fechaDeNacimiento", "1980-02-14", "birth-date"),
        ("DATA_DI_NASCITA", "14.02.1980", "birth-date"),
        ("handynummer", "0171 5550142", "phone"),
        ("codigo-postal", "28013", "address"),
        ("patientdob", "14.02.1980", "birth-date"),
        ("bank_account_number", "2102094981", "account"),
        ("bankAccount", "DE89370400440532013000", "iban"),
        ("reisepassnummer", "C01X00T47", "passport"),
    ] {
        let body = serde_json::json!({ key: value }).to_string();
        let found = scan(&mut scanner, body.as_bytes(), "application/json");
        assert!(found.iter().any(|data| data.class == class), "{body}: {found:?}");
    }
    let body = br#"{"contributors":[{"name":"Marta Okafor","email":"m@mail.example"}]}"#;
    let found = scan(&mut scanner, body, "application/json");
    assert!(found.iter().all(|data| data.group == "pii"), "{found:?}");
}
