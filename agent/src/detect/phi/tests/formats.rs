//! What the formats of healthcare and the web hide a value in, and what only looks like one there.

use base64::Engine as _;

use super::*;

/// Classes and locations.
pub(super) fn told(body: &str, content_type: &str) -> Vec<String> {
    let data = scan(&mut scanner(), body.as_bytes(), content_type);
    let mut told: Vec<String> = data
        .iter()
        .map(|data| format!("{} {} {}", data.group, data.class, data.location))
        .collect();
    told.sort();
    told
}

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

const NOTE: &str = "Seen today. DOB: 02/14/1980, MRN: 00482913, SSN 219-09-9999.";

#[test]
fn no_sign_of_another_format_hides_a_body() {
    let inner = r#"{"ssn":"219-09-9999"}"#;
    // Four letters where a file of DICOM has them.
    let padded = format!("{{\"a\":\"{}DICM\",{}", "x".repeat(128 - 6), &inner[1..]);
    assert_eq!(padded.find("DICM"), Some(128));
    for (body, media) in [
        (padded.as_str(), "application/json"),
        (padded.as_str(), "application/dicom"),
        (inner, "text/event-stream"),
        (
            "id: 219-09-9999\ndata: {}\n\n: SSN 219-09-9999\n",
            "text/event-stream",
        ),
    ] {
        assert!(
            told(body, media).iter().any(|told| told.contains("ssn")),
            "{media}: {body}"
        );
    }
}

#[test]
fn tables_have_the_names_of_their_columns() {
    let row = r#"["Ada Quill", "1980-02-14", "219-09-9999", 7]"#;
    let names = r#"["patient_name", "dob", "ssn", "visits"]"#;
    let objects =
        r#"[{"name": "patient_name", "type": "text"}, {"name": "dob"}, {"name": "ssn"}, {"name": "visits"}]"#;
    let expected = |at: &str| {
        ["birth-date", "name", "ssn"]
            .map(|class| {
                let key = match class {
                    "birth-date" => "dob",
                    "name" => "patient_name",
                    other => other,
                };
                format!("phi {class} {at}.{key}")
            })
            .to_vec()
    };
    for (body, at) in [
        (
            format!(r#"{{"columns": {names}, "rows": [{row}, {row}]}}"#),
            "$.{key}[]",
        ),
        (
            format!(r#"{{"data": [{row}, {row}], "fields": {objects}}}"#),
            "$.data[]",
        ),
        (
            format!(r#"{{"meta": {{"columns": {objects}}}, "data": [{row}]}}"#),
            "$.data[]",
        ),
        (
            format!(r#"{{"columns": {names}, "index": [0], "data": [{row}]}}"#),
            "$.data[]",
        ),
        // Values at the end may be missing; a column may have no name.
        (
            format!(r#"{{"columns": {names}, "data": [[], {row}, ["Bo Quill"]]}}"#),
            "$.data[]",
        ),
        (
            format!(r#"{{"columns": ["patient_name", "dob", "ssn", ""], "data": [{row}]}}"#),
            "$.data[]",
        ),
        (format!("[{names}, {row}, {row}]"), "$[]"),
        (format!(r#"{{"result": [{names}, {row}]}}"#), "$.result[]"),
    ] {
        assert_eq!(told(&body, "application/json"), expected(at), "{body}");
    }
    // Lists of lists that are no tables, and names of what is no table's.
    for body in [
        r#"{"polygon": [[7.1, 51.2], [7.2, 51.3]], "columns": 3}"#,
        r#"[["email", "push"], ["sms", "push"]]"#,
        r#"{"columns": ["id", "status"], "rows": [["17", "Ada Quill"]]}"#,
        r#"{"fields": ["ssn"], "matrix": {"rows": [["a", "b"]]}}"#,
        // Not as many as the names, before or behind; and names that are none.
        r#"{"fields": ["patient_name", "dob", "status"], "links": [["Ada Quill", "next"], ["Bo Quill", "next"]]}"#,
        r#"{"links": [["Ada Quill", "next", "x", "y"]], "fields": ["patient_name", "dob", "status"]}"#,
        r#"{"fields": ["patient_name", 7], "links": [["Ada Quill", "next"]]}"#,
    ] {
        assert_eq!(told(body, "application/json"), [""; 0], "{body}");
    }
}

#[test]
fn contents_within_values_are_looked_into() {
    let attachment = format!(
        r#"{{"resourceType":"DocumentReference","content":[{{"attachment":{{"contentType":"text/plain","data":"{}"}}}}]}}"#,
        base64(NOTE)
    );
    assert_eq!(
        told(&attachment, "application/fhir+json"),
        [
            "phi birth-date $.content[].attachment.data",
            "phi mrn $.content[].attachment.data",
            "phi ssn $.content[].attachment.data",
        ]
    );
    let binary = format!(
        r#"<Binary xmlns="http://hl7.org/fhir"><contentType value="text/plain"/><data value="{}"/></Binary>"#,
        base64(NOTE)
    );
    assert_eq!(
        told(&binary, "application/fhir+xml").len(),
        3,
        "{:?}",
        told(&binary, "application/fhir+xml")
    );
    let inner = r#"{"ssn":"219-09-9999","note":"x"}"#;
    for (body, expected) in [
        (serde_json::json!({ "Message": inner }), "phi ssn $.Message.ssn"),
        (
            serde_json::json!({ "payload": base64(inner) }),
            "phi ssn $.payload.ssn",
        ),
        (
            serde_json::json!({ "file": format!("data:application/json;base64,{}", base64(inner)) }),
            "phi ssn $.file.ssn",
        ),
        (
            serde_json::json!({ "message": "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\rPID|1||482913^^^H^MR" }),
            "phi mrn PID-3",
        ),
        (
            serde_json::json!({ "body": "<?xml version=\"1.0\"?><r><ssn>219-09-9999</ssn></r>" }),
            "phi ssn $.{key}.{key}.ssn",
        ),
        (
            serde_json::json!({ "query": "mutation { save(input: {lastName: \"Okafor\", ssn: \"219-09-9999\"}) { id } }" }),
            "phi name $.query.{key}.lastName",
        ),
        (
            serde_json::json!({ "query": "# saves it (or not)\r\n# {\rmutation { save(input: {lastName: \"Okafor\"}) { id } }" }),
            "phi name $.query.{key}.lastName",
        ),
        // Braces around a text that is no value of anything.
        (
            serde_json::json!({ "note": "{\"Patient came in; SSN: 219-09-9999\"}" }),
            "phi ssn $.note",
        ),
    ] {
        let told = told(&body.to_string(), "application/json");
        assert!(
            told.iter().any(|told| told == expected),
            "{expected} in {told:?} of {body}"
        );
    }
    // Bytes are no text, a digest is none, and what is within contents within contents is left.
    let image: Vec<u8> = (0..200u8).collect();
    let image = base64::engine::general_purpose::STANDARD.encode(image);
    let deep = (0..4).fold(inner.to_owned(), |inner, _| {
        serde_json::json!({ "data": base64(&inner) }).to_string()
    });
    for body in [
        serde_json::json!({ "data": image }).to_string(),
        serde_json::json!({ "data": "da39a3ee5e6b4b0d3255bfef95601890afd80709" }).to_string(),
        deep,
    ] {
        assert!(told(&body, "application/json").is_empty(), "{body}");
    }
}

#[test]
fn names_that_are_values() {
    for (body, expected) in [
        (
            r#"{"ssn":{"value":"219099999","valid":true}}"#,
            &["phi ssn $.ssn"][..],
        ),
        (
            r#"{"Item":{"ssn":{"S":"219-09-9999"},"zork":{"S":"active"}}}"#,
            &["phi ssn $.{key}.ssn"],
        ),
        (
            r#"{"fields":[{"name":"mrn","value":"482913"},{"name":"status","value":"active"}]}"#,
            &["phi mrn $.{key}[].value"],
        ),
        (
            r#"{"headers":[{"name":"Authorization","value":"Bearer abcdefghijklmnop"}]}"#,
            &["credential token $.{key}[].value"],
        ),
        (r#"{"items":[{"name":"Blue Widget","value":"12"}]}"#, &[]),
        (r#"{"metrics":[{"name":"phone","value":"12"}]}"#, &[]),
    ] {
        let told = told(body, "application/json");
        let told: Vec<&str> = told.iter().map(|told| told.as_str()).collect();
        assert!(
            told.len() == expected.len()
                && told.iter().zip(expected).all(|(told, expected)| {
                    // Which keys may be shown is another test's.
                    told.split(' ').take(2).eq(expected.split(' ').take(2))
                }),
            "{told:?} of {body}"
        );
    }
}

#[test]
fn organizations_and_desks_are_nobody() {
    let phone =
        r#"[{"system":"phone","value":"(212) 555-0142"},{"system":"email","value":"desk@hospital.example"}]"#;
    for body in [
        format!(r#"{{"resourceType":"Organization","telecom":{phone}}}"#),
        format!(r#"{{"telecom":{phone},"name":"General","resourceType":"Location"}}"#),
        format!(
            r#"{{"resourceType":"Organization","contact":[{{"purpose":{{"text":"billing"}},"telecom":{phone}}}]}}"#
        ),
        format!(r#"{{"resourceType":"Endpoint","contact":{phone}}}"#),
        r#"{"resourceType":"MessageHeader","source":{"contact":{"system":"phone","value":"212-555-0142"}}}"#
            .to_owned(),
        format!(
            r#"{{"resourceType":"Claim","contained":[{{"resourceType":"Organization","telecom":{phone}}}]}}"#
        ),
    ] {
        let told = told(&body, "application/fhir+json");
        assert!(told.is_empty(), "{told:?} of {body}");
    }
    let named = format!(
        r#"{{"resourceType":"Organization","contact":[{{"name":{{"family":"Okafor"}},"telecom":{phone}}}]}}"#
    );
    let told = told(&named, "application/fhir+json");
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.iter().all(|told| told.starts_with("pii")), "{told:?}");
}

#[test]
fn a_patient_in_a_bundle_has_an_id() {
    let body = r#"{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"8812"}}]}"#;
    assert_eq!(
        told(body, "application/fhir+json"),
        ["phi patient-id $.entry[].resource.id"]
    );
}

#[test]
fn documents_within_strings_and_calls() {
    let json = r#"{"patient":{"ssn":"219-09-9999","city":"Springfield"}}"#;
    let expected = ["phi address $.patient.city", "phi ssn $.patient.ssn"];
    assert_eq!(
        told(&format!("/**/app.done({json});"), "application/javascript"),
        expected
    );
    assert_eq!(
        told("export default function () {}", "text/javascript"),
        Vec::<String>::new()
    );
    let xml = "<patient><ssn>219-09-9999</ssn><city>Springfield</city></patient>";
    assert_eq!(
        told(&format!(r#"{{"document":"{xml}"}}"#), ""),
        [
            "phi address $.document.patient.city",
            "phi ssn $.document.patient.ssn"
        ]
    );
    // A text with marks is one text, and a word in it says what another is.
    assert_eq!(
        told(r#"{"note":"<p>MRN <b>00482913</b></p>"}"#, ""),
        ["phi mrn $.note"]
    );
}

#[test]
fn labels_and_dates_in_prose() {
    for (text, expected) in [
        ("First name: Marta\nLast name: Okafor\n", "name"),
        ("level=info first_name=Marta last_name=Okafor", "name"),
        ("Discharge summary for M. Okafor, DOB 02/14/1980", "birth-date"),
        ("Chart # 00482913", "mrn"),
        ("SS# 219099999", "ssn"),
        ("Policy # XQR482913001", "health-plan"),
        ("Please call 2125550142.", "phone"),
        ("Call me at 2125550142.", "phone"),
        ("Her phone is 2125550142.", "phone"),
    ] {
        let found = told(text, "text/plain");
        assert_eq!(found, [format!("phi {expected} $")], "{text}");
    }
    for text in [
        "First name: Required",
        "Issue #482913 and page#482913",
        "call to handler 3456789012 failed",
        "m0{path=\"/patient/phone\"} 4415350992 1743301793853",
        r#"{"vin":12.1,"pan":45}"#,
        r#"{"id":"4111111111111111"}"#,
    ] {
        assert_eq!(told(text, "text/plain"), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn what_prose_says_of_health_and_people() {
    for (text, expected) in [
        ("The patient was diagnosed with hypertension.", "health diagnosis"),
        ("Dx: E11.9", "health diagnosis"),
        ("Diagnosis: Essential hypertension", "health diagnosis"),
        ("She was prescribed metformin 500 mg.", "health medication"),
        ("He is allergic to penicillin.", "health allergy"),
        ("They underwent appendectomy, 2 nights.", "health procedure"),
        ("Dear Mr. Wang, thank you.", "phi name"),
        ("Patient: Nicholson, Pamela  Room 4", "phi name"),
        ("Patient is HIV positive.", "health diagnosis"),
        ("AHV: 756.9342.4200.80", "phi passport"),
        ("password: Summer2026!", "credential password"),
        ("client_ip=203.0.113.77 ok", "phi ip"),
        ("IMEI: 357179427122198", "phi device"),
    ] {
        assert_eq!(told(text, "text/plain"), [format!("{expected} $")], "{text}");
    }
    for text in [
        "Prescribed by law, in the form prescribed for A1, within the prescribed deadline of 30 days.",
        "2024-05-01 job failed, reason: timeout; Problem: disk full; cc: Bob",
        "Oak Dr Suite 4, Ms Word, 12 pt Times New Roman",
        "Account no. 15.10.2024, acct 1234.56",
        "Servers underwent maintenance on Tuesday.",
        "We diagnosed IT with strace. Diagnosis tools: see README",
        "password: required for A",
        "client_ip=10.1.2.3 ok",
        "The MR is Merged",
    ] {
        assert_eq!(told(text, "text/plain"), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn numbers_of_logs_are_no_telephones() {
    for text in [
        "2026-02-01T10:00:00Z INFO processed batch 312-555-0142 in 80 ms",
        "part no 312 555 0142 qty 3",
        "disk 312.555.0142 offset 1234567890",
    ] {
        assert!(
            told(text, "text/plain").is_empty(),
            "{text}: {:?}",
            told(text, "text/plain")
        );
    }
    for text in [
        "Her number is (312) 555-0142.",
        "call 312-555-0142 today",
        "312-555-0142",
    ] {
        assert_eq!(told(text, "text/plain").len(), 1, "{text}");
    }
}

#[test]
fn names_have_particles() {
    for text in [
        "Patient: Bastiaan van Waas was seen",
        "Patient Ada de la Cruz, 40 years",
    ] {
        assert_eq!(told(text, "text/plain"), ["phi name $"], "{text}");
    }
    assert!(told("the patient was van de", "text/plain").is_empty());
}

#[test]
fn segments_of_claims_and_orders() {
    let isa = "ISA*00*          *00*          *ZZ*S              *ZZ*R              *240101*1253*^*00501*000000905*0*P*:~";
    let claim = "CLP*1234567*1*200*80**12*9988*11~NM1*QC*1*OKAFOR*MARTA****MI*XW1234567~SVC*HC:99213*100*80~DTM*472*20240102~HI*ABK:E119*BBR:0DTJ4ZZ~HI*BE:80:::1*BG:09~";
    let data = told(&format!("{isa}{claim}"), "application/edi-x12");
    assert_eq!(
        data,
        [
            "health diagnosis HI-1",
            "health procedure HI-2",
            "health procedure SVC-1",
            "phi account CLP-1",
            "phi date DTM-2",
            "phi health-plan NM1-9",
            "phi name NM1-3",
            "phi name NM1-4",
        ]
    );
    let allergy = "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\rAL1|1|FA|^PEANUT|SV\rAL1|2|DA|70618^Penicillin^RxNorm\rDG1|1||^Chest pain^";
    assert_eq!(
        told(allergy, ""),
        ["health allergy AL1-3", "health diagnosis DG1-3"]
    );
}

#[test]
fn documents_of_other_standards() {
    let cda = "<ClinicalDocument><recordTarget><patientRole>\
               <id root=\"2.16.840.1.113883.19.5\" extension=\"00482913\"/>\
               <id extension=\"219-09-9999\" root=\"2.16.840.1.113883.4.1\"/>\
               <patient><name><given>Marta</given><family>Okafor</family></name><birthTime value=\"19800214\"/></patient>\
               <providerOrganization><id root=\"1.2\" extension=\"77\"/><name>City Hospital</name></providerOrganization>\
               </patientRole></recordTarget><value code=\"E11.9\" codeSystem=\"2.16.840.1.113883.6.90\"/></ClinicalDocument>";
    let classes = |body: &str, content_type: &str| -> Vec<String> {
        let told = told(body, content_type);
        told.iter()
            .filter_map(|told| told.split(' ').nth(1))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(
        classes(cda, "application/xml"),
        ["diagnosis", "birth-date", "mrn", "name", "name", "ssn"]
    );
    let v2 = "<ADT_A01><PID><PID.3><CX.1>482913</CX.1><CX.4><HD.1>MAIN</HD.1></CX.4></PID.3>\
              <PID.5><XPN.1><FN.1>Okafor</FN.1></XPN.1><XPN.7>L</XPN.7></PID.5><PID.8>F</PID.8><PID.19>219099999</PID.19></PID></ADT_A01>";
    assert_eq!(classes(v2, "application/xml"), ["mrn", "name", "ssn"]);
    let dicom = "<NativeDicomModel><DicomAttribute tag=\"00100010\" vr=\"PN\"><PersonName><Alphabetic>\
                 <FamilyName>Okafor</FamilyName></Alphabetic></PersonName></DicomAttribute>\
                 <DicomAttribute tag=\"00080060\" vr=\"CS\"><Value>CT</Value></DicomAttribute></NativeDicomModel>";
    assert_eq!(classes(dicom, "application/dicom+xml"), ["name"]);
    // What its elements say of themselves is nobody's data, and each value counts once.
    let dicom = "<NativeDicomModel><DicomAttribute tag=\"00100020\" vr=\"LO\" keyword=\"PatientID\"><Value number=\"1\">482913</Value>\
                 </DicomAttribute><DicomAttribute tag=\"00100010\" vr=\"PN\" keyword=\"PatientName\"><PersonName number=\"1\"><Alphabetic>\
                 <FamilyName>Okafor</FamilyName></Alphabetic></PersonName></DicomAttribute></NativeDicomModel>";
    let mut found: Vec<String> = scan(&mut scanner(), dicom.as_bytes(), "application/dicom+xml")
        .iter()
        .map(|data| format!("{} {} {}", data.class, data.location, data.count))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "mrn $.NativeDicomModel.DicomAttribute.Value 1",
            "name $.NativeDicomModel.DicomAttribute.PersonName.Alphabetic.FamilyName 1"
        ]
    );
    let other = "<a tag=\"00100020\"><p ssn=\"219-09-9999\"/></a>";
    assert_eq!(classes(other, "application/xml"), ["mrn"]);
    let script = "<NewRx><Patient><Name><LastName>Okafor</LastName></Name><DateOfBirth><Date>1980-02-14</Date></DateOfBirth>\
                  <PrimaryTelephone><Number>2125550142</Number></PrimaryTelephone></Patient></NewRx>";
    assert_eq!(
        classes(script, "application/xml"),
        ["birth-date", "name", "phone"]
    );
    let patch = r#"[{"op":"replace","path":"/name/0/family","value":"Okafor"},{"op":"add","path":"/ssn","value":"219099999"},
                    {"op":"replace","path":"/status","value":"active"}]"#;
    assert_eq!(classes(patch, "application/json-patch+json"), ["name", "ssn"]);
    let page = "<table><tr><td>MRN:</td><td>00482913</td></tr></table>";
    assert_eq!(classes(page, "text/html"), ["mrn"]);
    // Who answers for a server is no patient, also where nothing says that it is a page.
    let error = "<html><body><h1>404 Not Found</h1><address>httpd at port 8080</address></body></html>";
    for content_type in ["text/html", "application/xhtml+xml", ""] {
        assert!(classes(error, content_type).is_empty(), "{content_type}");
        let error = format!("<!DOCTYPE html>\n{error}");
        assert!(classes(&error, content_type).is_empty(), "{content_type}");
    }
}

#[test]
fn searches_of_fhir() {
    let of = |path: &str, query: &str, form: bool| -> Vec<String> {
        let mut scanner = scanner();
        match form {
            true => scanner.search(path, query.as_bytes()),
            false => scanner.query(path, query.as_bytes()),
        }
        let told = |data: &Data| format!("{} {}", data.class, data.location);
        let mut told: Vec<String> = scanner.take().iter().map(told).collect();
        told.sort();
        told
    };
    assert_eq!(
        of(
            "/fhir/Patient",
            "name:exact=Okafor&identifier=http://h.example/mrn%7C482913&_id=8812&active=true&_count=20",
            false
        ),
        ["mrn ?identifier", "name ?name", "patient-id ?_id"]
    );
    assert_eq!(
        of(
            "/fhir/Observation",
            "patient=Patient/8812&code=http://loinc.org%7C8480-6&status=final&subject:Patient.birthdate=1980-02-14",
            false
        ),
        [
            "birth-date ?birthdate",
            "observation ?code",
            "patient-id ?patient"
        ]
    );
    assert_eq!(
        of(
            "/fhir/Patient/_search",
            "family=Okafor&telecom=phone%7C2125550142",
            true
        ),
        ["name $.family", "phone $.telecom"]
    );
    assert!(of("/fhir/Organization", "name=General&identifier=77&_id=3", false).is_empty());
    assert!(of("/api/items", "identifier=77&_id=3&code=a%7Cb", false).is_empty());
}

#[test]
fn parts_in_base64_are_read() {
    let body = format!(
        "--b\r\nContent-Type: application/json\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
        base64(r#"{"ssn":"219-09-9999"}"#)
    );
    assert_eq!(told(&body, "multipart/mixed; boundary=b"), ["phi ssn $.ssn"]);
}

proptest! {
    #[test]
    fn nothing_within_breaks_it(text in ".{0,200}", key in prop::sample::select(vec!["data", "query", "value", "name", "S"])) {
        for value in [text.clone(), base64(&text), format!("mutation {{ a(b: {text}"), format!("{{\"{text}")] {
            let body = serde_json::json!({ key: value, "name": "ssn", "value": text }).to_string();
            scan(&mut scanner(), body.as_bytes(), "application/json");
        }
        scan(&mut scanner(), text.as_bytes(), "application/graphql");
    }
}

#[test]
fn files_of_dicom_are_read_by_their_tags() {
    let mut file = vec![0; 128];
    file.extend(b"DICM");
    for (group, number, vr, value) in [
        (2u16, 0x10u16, b"UI", "1.2.840.10008.1.2.1\0"),
        (8, 0x20, b"DA", "20260101"),
        (8, 0x60, b"CS", "CT"),
        (8, 0x90, b"PN", "House^G "),
        (0x10, 0x10, b"PN", "Okonkwo^Ada "),
        (0x10, 0x20, b"LO", "MRN00412"),
        (0x10, 0x30, b"DA", "19700302"),
        (0x28, 0x10, b"US", "ab"),
    ] {
        file.extend(group.to_le_bytes());
        file.extend(number.to_le_bytes());
        file.extend(vr);
        file.extend((value.len() as u16).to_le_bytes());
        file.extend(value.as_bytes());
    }
    let body = [
        b"--b\r\nContent-Type: application/dicom\r\n\r\n".as_slice(),
        &file,
        b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n",
        &file,
        b"\r\n--b--\r\n",
    ]
    .concat();
    let data = scan(
        &mut scanner(),
        &body,
        "multipart/related; type=\"application/dicom\"; boundary=b",
    );
    let mut told: Vec<String> = data
        .iter()
        .map(|data| format!("{} {} {} {}", data.group, data.class, data.location, data.count))
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            "phi birth-date $.00100030.Value[] 2",
            "phi date $.00080020.Value[] 2",
            "phi mrn $.00100020.Value[] 2",
            "phi name $.00100010.Value[].Alphabetic 2",
            "pii name $.00080090.Value[].Alphabetic 2",
        ]
    );
}

#[test]
fn what_is_told_late_has_its_own_place() {
    let soap = "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><t:getPatientResponse>\
                <t:patient><t:name>Ada Okonkwo</t:name><t:ssn>219-09-9999</t:ssn></t:patient>\
                </t:getPatientResponse></s:Body></s:Envelope>";
    assert_eq!(
        told(soap, "text/xml"),
        [
            "phi name $.Envelope.Body.{key}.patient.name",
            "phi ssn $.Envelope.Body.{key}.patient.ssn"
        ]
    );
}
