//! Elements of single resources, numbers with check digits, catalogues and paths: what a place says, and what it does not.

use super::formats::told;
use super::*;

/// What FHIR's resources say in elements of their own, and what questionnaires ask.
#[test]
fn elements_of_single_resources() {
    for (body, expected) in [
        (
            r#"{"resourceType":"QuestionnaireResponse","item":[{"linkId":"1","text":"Last name","answer":[{"valueString":"Okafor"}]}]}"#,
            "phi name $.item[].answer[].valueString",
        ),
        (
            r#"{"resourceType":"QuestionnaireResponse","item":[{"text":"What is your date of birth?","answer":[{"valueDate":"1980-02-14"}]}]}"#,
            "phi birth-date $.item[].answer[].valueDate",
        ),
        (
            r#"{"resourceType":"QuestionnaireResponse","authored":"2024-05-02"}"#,
            "phi date $.authored",
        ),
        (
            r#"{"resourceType":"Appointment","start":"2024-05-02T10:00:00Z"}"#,
            "phi date $.start",
        ),
        (
            r#"{"resourceType":"FamilyMemberHistory","name":"Marta Okafor"}"#,
            "phi name $.name",
        ),
        (
            r#"{"resourceType":"AuditEvent","agent":[{"network":{"address":"203.0.113.77"}}]}"#,
            "pii ip $.agent[].network.address",
        ),
        (
            r#"{"resourceType":"ImagingStudy","procedureCode":[{"coding":[{"system":"http://snomed.info/sct","code":"73761001"}]}]}"#,
            "health procedure $.procedureCode[].coding[].code",
        ),
    ] {
        let found = told(body, "application/fhir+json");
        assert!(found.iter().any(|told| told == expected), "{body}: {found:?}");
    }
    for body in [
        r#"{"resourceType":"AuditEvent","agent":[{"network":{"address":"10.1.2.3"}}]}"#,
        r#"{"resourceType":"Slot","start":"2024-05-02T10:00:00Z","end":"2024-05-02T10:30:00Z"}"#,
        r#"{"resourceType":"Questionnaire","item":[{"text":"Last name","answer":[{"valueString":"Okafor"}]}]}"#,
        r#"{"resourceType":"QuestionnaireResponse","item":[{"text":"How do you feel?","answer":[{"valueString":"Fine"}]}]}"#,
    ] {
        assert_eq!(
            told(body, "application/fhir+json"),
            Vec::<String>::new(),
            "{body}"
        );
    }
}

/// Numbers whose check digits say more than their keys.
#[test]
fn check_digits_beside_what_keys_say() {
    for (body, expected) in [
        (
            r#"{"visa_number":"4111111111111111"}"#,
            "financial card $.visa_number",
        ),
        (r#"{"visa_number":"X4829130"}"#, "phi passport $.visa_number"),
        (
            r#"{"nationalIdNo":"8001015009087"}"#,
            "phi passport $.nationalIdNo",
        ),
        (r#"{"ssn_tin":"536-22-8741"}"#, "phi ssn $.ssn_tin"),
        (
            r#"{"nhs_patient_id":"9434765919"}"#,
            "phi nhs-number $.nhs_patient_id",
        ),
        (
            r#"{"nhs_patient_id":"9434765910"}"#,
            "phi patient-id $.nhs_patient_id",
        ),
        (
            r#"{"accountNumber":"4111111111111111"}"#,
            "pii account $.accountNumber",
        ),
        (
            "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\rPID|1||9434765919^^^NHS^NH",
            "phi nhs-number PID-3",
        ),
        (
            "{\"message\":\"MSH|^~\\\\&#|A|B|C|D|2024||ADT^A01|1|P|2.7\\rPID|1||4829130^^^H^MR\"}",
            "phi mrn PID-3",
        ),
    ] {
        let media = if body.starts_with('M') {
            "x-application/hl7-v2+er7"
        } else {
            "application/json"
        };
        assert_eq!(told(body, media), [expected], "{body}");
    }
}

/// A surname in a key is shown no more than a value is.
#[test]
fn names_in_keys_of_numbers() {
    for body in [
        r#"{"patient_okafor_id":"4829130"}"#,
        r#"{"email":"m@mail.example","allergy_okafor":"Peanuts"}"#,
        r#"{"message":"MSH field 7 missing for patient Marta Okafor, SSN 536-22-8741 and more than that"}"#,
    ] {
        let found = told(body, "application/json");
        assert!(!found.iter().any(|told| told.contains("okafor")), "{found:?}");
        assert!(
            !body.contains("SSN") || found.contains(&"phi ssn $.message".to_owned()),
            "{found:?}"
        );
    }
}

/// Lists of what there is are nobody's record, and a word of a path says what is behind it.
#[test]
fn catalogues_and_paths() {
    let tests =
        r#"{"tests":[{"loinc":"2708-6","name":"Oxygen saturation"},{"loinc":"8867-4","name":"Heart Rate"}]}"#;
    let found = told(tests, "application/json");
    assert!(!found.iter().any(|told| told.contains(" name ")), "{found:?}");
    let mut scanner = scanner();
    scanner.path("/api/mrn/79236186");
    let found: Vec<String> = scanner
        .take()
        .iter()
        .map(|data| format!("{} {}", data.class, data.location))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("mrn "), "{found:?}");
}

/// Concepts without a code, or with one of a system that nobody knows.
#[test]
fn what_an_element_says_needs_no_code_system() {
    for (body, expected) in [
        (
            r#"{"resourceType":"Condition","code":{"text":"Hypertension"}}"#,
            vec!["health diagnosis $.code.text"],
        ),
        (
            r#"{"resourceType":"MedicationRequest","medicationCodeableConcept":{"text":"Ibuprofen 400mg"}}"#,
            vec!["health medication $.medicationCodeableConcept.text"],
        ),
        (
            r#"{"resourceType":"AllergyIntolerance","code":{"text":"Penicillin"}}"#,
            vec!["health allergy $.code.text"],
        ),
        (
            r#"{"resourceType":"Condition","code":{"text":"Hypertension","coding":[{"system":"http://jpfhir.example/ICD10-2013-full","code":"I10"}]}}"#,
            vec!["health diagnosis $.code.coding[].code"],
        ),
        (
            r#"{"resourceType":"Condition","code":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/data-absent-reason","code":"unknown"}]}}"#,
            vec![],
        ),
        (
            r#"{"resourceType":"Condition","code":{"text":"Hypertension","coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-NullFlavor","code":"UNK"}]}}"#,
            vec!["health diagnosis $.code.text"],
        ),
        (
            r#"{"resourceType":"Condition","category":[{"text":"Problem list"}]}"#,
            vec![],
        ),
        (
            r#"{"resourceType":"Patient","address":[{"line":["東京都杉並区美園2丁目14-10"]}]}"#,
            vec!["phi address $.address[].line[]"],
        ),
    ] {
        assert_eq!(told(body, "application/fhir+json"), expected, "{body}");
    }
    let message =
        "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\rPID|1||999911112^^^NLMINBIZA^NNNLD~87076900G^^^MI^NNESP";
    let found = told(message, "application/hl7-v2");
    assert!(!found.iter().any(|told| told.contains("mrn")), "{found:?}");
    for class in ["bsn", "passport"] {
        assert!(
            found.iter().any(|told| told.contains(class)),
            "{class}: {found:?}"
        );
    }
}

#[test]
fn what_looks_like_somebodys_and_is_not() {
    for (body, content_type) in [
        (
            "UNB+UNOC:3+4316642163619:14+4399902158881:14+240502:1011+1'",
            "text/plain",
        ),
        ("Patient Discharge Summary\nKeep it dry.", "text/plain"),
        (
            r#"{"addresses":[{"type":"Hostname","address":"node-1"}]}"#,
            "application/json",
        ),
    ] {
        assert_eq!(told(body, content_type), [""; 0], "{body}");
    }
    let street = r#"{"gender":"male","location":{"street":{"number":8929,"name":"Jasmine Via"}}}"#;
    let found = told(street, "application/json");
    assert!(found.iter().all(|told| !told.contains(" name ")), "{found:?}");
    assert!(found.iter().any(|told| told.contains(" address ")), "{found:?}");
}

#[test]
fn questions_pictures_and_greetings() {
    for (body, content_type, expected) in [
        (
            r#"{"answers":[{"question":"What is your full name?","answer":"Autumn Duke"}]}"#,
            "application/json",
            "phi name $.{key}[].answer",
        ),
        (
            r#"{"gender":"male","picture":{"large":"https://pictures.example/men/75.jpg"}}"#,
            "application/json",
            "phi photo $.picture.{key}",
        ),
        (
            "Estimado Heraclio Campo: su DNI 12345678Z caduca; escriba a m@mail.example.",
            "text/plain",
            "phi name $",
        ),
    ] {
        let found = told(body, content_type);
        assert!(found.iter().any(|told| told == expected), "{body}: {found:?}");
    }
    let found = told(
        r#"{"sku":"A-1","picture":{"large":"https://pictures.example/shoe.jpg"}}"#,
        "application/json",
    );
    assert_eq!(found, [""; 0]);
}

#[test]
fn what_is_told_as_before() {
    for (body, content_type, class) in [
        (
            "{\"dob\":\"14\u{a0}Feb\u{a0}1980\"}",
            "application/json",
            "birth-date",
        ),
        (
            r#"{"firstName":"Marta","zip":"k1a-0b1"}"#,
            "application/json",
            "address",
        ),
        ("Patient: April West", "text/plain", "name"),
        ("Tel+442071838750", "text/plain", "phone"),
        (
            "Failed password for root from 203.0.113.77 port 40022 ssh2",
            "text/plain",
            "ip",
        ),
        (
            "MSH|^~\\&|A|B|C|D|2024||MFN^M02|1|P|2.5\rSTF|1|||||19800214",
            "application/hl7-v2",
            "birth-date",
        ),
    ] {
        let found = told(body, content_type);
        assert!(found.iter().any(|told| told.contains(class)), "{body}: {found:?}");
    }
}
