//! What stands beside a value and says what it is: an identifier's type, a record's type, a word for people.

use super::formats::told;

#[test]
fn types_say_what_identifiers_are() {
    for (body, expected) in [
        (
            r#"{"PatientIDs":[{"ID":"E4007","Type":"MRN"}]}"#,
            "phi mrn $.PatientIDs[].ID",
        ),
        (
            r#"{"PatientIDs":[{"Type":"EPI","ID":"Z4007"}]}"#,
            "phi patient-id $.PatientIDs[].ID",
        ),
        (
            r#"{"Identifiers":[{"ID":"E4007","IDType":"MR"}]}"#,
            "phi mrn $.{key}[].ID",
        ),
        (
            r#"{"aliases":[{"alias":"E4007","aliasType":{"display":"MRN"}}]}"#,
            "phi mrn $.{key}[].{key}",
        ),
        (
            r#"{"doc":{"type":"passport","number":"C4829130"}}"#,
            "phi passport $.doc.{key}",
        ),
        (
            r#"{"Provider":{"ID":"1234567893","IDType":"NPI"}}"#,
            "pii npi $.Provider.ID",
        ),
        (
            r#"{"data":{"type":"patients","id":"482913"}}"#,
            "phi patient-id $.data.id",
        ),
        (
            r#"{"id":"482913","type":"patients","attributes":{"ssn":"219-09-9999"}}"#,
            "phi patient-id $.id",
        ),
        (
            r#"{"__typename":"Patient","id":"482913","dob":"1980-02-14"}"#,
            "phi patient-id $.id",
        ),
        (
            "<r><Identifier Type=\"MRN\">E4007</Identifier></r>",
            "phi mrn $.{key}.{key}",
        ),
        ("<r><ID>E4007</ID><Type>MRN</Type></r>", "phi mrn $.{key}.ID"),
        (
            "Identifiers[0][ID]=E4007&Identifiers[0][Type]=MRN",
            "phi mrn $.{key}[].ID",
        ),
    ] {
        let found = told(body, "");
        assert!(found.iter().any(|told| told == expected), "{body}: {found:?}");
    }
    for body in [
        r#"{"type":"MR","id":"482913"}"#,
        r#"{"type":"patients","id":"482913","url":"https://h.example/p","count":7}"#,
        r#"{"type":"order","id":"482913"}"#,
        r#"{"type":"account","id":"48291300"}"#,
        r#"{"type":"phone","id":12}"#,
        r#"[{"type":"patient","name":"Patients Menu"},{"type":"patient","name":"patient-service"}]"#,
        r#"{"phones":[{"id":"2125550142"}]}"#,
    ] {
        assert_eq!(told(body, "application/json"), Vec::<String>::new(), "{body}");
    }
}

#[test]
fn words_for_people_have_names() {
    for (body, expected) in [
        (r#"{"attendingPhysician":"Marta Okafor"}"#, "pii name $.{key}"),
        (
            r#"{"orderedBy":"Okafor, Marta","mrn":"00482913"}"#,
            "phi name $.{key}",
        ),
        (r#"{"huisarts":"Marta Okafor"}"#, "pii name $.{key}"),
        (
            r#"{"emails":[{"value":"m@mail.example"}],"name":{"formatted":"Marta Okafor"}}"#,
            "phi name $.name",
        ),
        (r#"{"patient":"Marta Okafor"}"#, "phi name $.patient"),
        (
            r#"{"patient":"smart-482913","scope":"patient/*.read"}"#,
            "phi patient-id $.patient",
        ),
    ] {
        let found = told(body, "application/json");
        assert!(found.iter().any(|told| told == expected), "{body}: {found:?}");
    }
    for body in [
        r#"{"attendingPhysician":"Not Assigned"}"#,
        r#"{"physician":"see_notes"}"#,
        r#"{"author":"Marta Okafor","title":"On Ships"}"#,
        r#"{"provider":"Blue Cross","plan":"gold"}"#,
        r#"{"patient":"active"}"#,
        r#"{"owner":"Platform Team"}"#,
    ] {
        assert_eq!(told(body, "application/json"), Vec::<String>::new(), "{body}");
    }
}

#[test]
fn objects_of_health_have_names_and_codes() {
    for (body, expected) in [
        (
            r#"{"medications":[{"name":"Aspirin 81 mg","dob":1}],"ssn":"219-09-9999"}"#,
            "health medication $.medications[].name",
        ),
        (
            r#"{"diagnoses":[{"code":"E11.9"}]}"#,
            "health diagnosis $.diagnoses[].code",
        ),
        (
            "<patient><raceCode code=\"2106-3\" displayName=\"White\"/></patient>",
            "pii ethnicity $.patient.raceCode.displayName",
        ),
    ] {
        let found = told(body, "");
        assert!(found.iter().any(|told| told == expected), "{body}: {found:?}");
        assert!(
            !found.iter().any(|told| told.contains(" name ")),
            "{body}: {found:?}"
        );
    }
    let procedure = told(
        r#"{"procedure":{"name":"sp_get_users","language":"plpgsql"}}"#,
        "",
    );
    assert_eq!(procedure, Vec::<String>::new());
}
