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
        r#"{"displayName":"Patients Menu","type":"patient"}"#,
        r#"{"type":"patient","city":"Springfield"}"#,
        r#"{"city":"Springfield","type":"patient"}"#,
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

#[test]
fn what_is_told_of_health_is_looked_into() {
    let body = r#"{"pastMedicalHistory":"Seen by Jane Doe, SSN 219-09-9999","procedures":[{"date":"2024-05-01","name":"Colectomy 1"}]}"#;
    let found = told(body, "");
    assert!(
        found.contains(&"phi ssn $.pastMedicalHistory".to_owned()),
        "{found:?}"
    );
    assert!(
        !found
            .iter()
            .any(|told| told.contains("procedure $.procedures[].date")),
        "{found:?}"
    );
    for (body, at) in [
        (
            r#"{"diagnosis":{"text":"Seen by Jane Doe, SSN 219-09-9999"}}"#,
            "$.diagnosis.text",
        ),
        (
            r#"{"dob":"1980-02-14","dx":"Seen by Jane Doe, SSN 219-09-9999"}"#,
            "$.dx",
        ),
        (
            r#"{"note":"She was diagnosed with COVID SSN 219-09-9999 today"}"#,
            "$.note",
        ),
    ] {
        let found = told(body, "");
        assert!(found.contains(&format!("phi ssn {at}")), "{body}: {found:?}");
        assert!(
            found.contains(&format!("health diagnosis {at}")),
            "{body}: {found:?}"
        );
    }
    let found = told("She was diagnosed with COVID MRN 00482913 today", "text/plain");
    assert_eq!(found, ["health diagnosis $", "phi mrn $"]);
    for body in [
        r#"{"note":"<x SSN 219-09-9999</x>"}"#,
        r#"{"note":"<x>ok<!-- SSN 219-09-9999 --></x>"}"#,
    ] {
        assert_eq!(told(body, ""), ["phi ssn $.note"], "{body}");
    }
}

#[test]
fn objects_and_elements_around_a_value() {
    for (body, expected) in [
        (
            r#"{"dob":{"year":1946,"month":9,"day":3}}"#,
            "phi birth-date $.dob",
        ),
        (r#"{"ssnLast4":"9390"}"#, "phi ssn $.ssnLast4"),
        (
            r#"{"patient":{"photo":{"url":"https://cdn.example/p/8f3.jpg"}}}"#,
            "phi photo $.patient.photo.url",
        ),
        (r#"{"code":"DOB","value":"1946-09-03"}"#, "phi birth-date $.value"),
        (r#"{"tabLabel":"MRN","value":"E4007"}"#, "phi mrn $.value"),
        (r#"{"Policy #":"W12345678"}"#, "phi health-plan $.Policy #"),
        (
            r#"{"dob":"1946-09-03","adresse":{"postnr":"4983"}}"#,
            "phi address $.adresse.postnr",
        ),
        (
            r#"{"mrn":"5554321","visit":{"dx":"E11.9"}}"#,
            "health diagnosis $.visit.dx",
        ),
        (
            "<P><name><value>GREGORY HARRIS</value></name><dob><value>1979-10-11</value></dob></P>",
            "phi name $.{key}.name",
        ),
        (
            "<P><dob>1979-10-11</dob><name value=\"Gregory Harris\"/></P>",
            "phi name $.{key}.name",
        ),
        (
            "<report><dob>1979-10-11</dob><signedOutBy>Jennifer Berry</signedOutBy></report>",
            "phi name $.report.{key}",
        ),
        (
            r#"{"환자":{"주민등록번호":"330529-2904383"}}"#,
            "phi passport $.{key}.주민등록번호",
        ),
        (
            r#"{"имя":"Анна","телефон":"+7 495 123-45-67"}"#,
            "phi phone $.телефон",
        ),
    ] {
        let found = told(body, "");
        assert!(found.iter().any(|told| told == expected), "{body}: {found:?}");
    }
    for body in [
        r#"{"ownerName":"Google"}"#,
        r#"{"accountName":"Economic Affairs"}"#,
        r#"{"lastCell":{"cellId":"41922"}}"#,
        r#"{"storedProcedure":"sp_clean"}"#,
        r#"{"totals":{"patients":100,"allergies":12}}"#,
        r#"{"results":[{"test":"renders the page"}]}"#,
        r#"{"имя":"Новый проект"}"#,
        r#"{"run_number":5621,"weightKg":12.5,"crm":{"id":"hs-123"},"licenseId":"Apache-2.0"}"#,
        r#"{"race":{"name":"Monaco Grand Prix"},"photo":{"url":"https://images.example/1.jpg"}}"#,
        r#"{"zipData":"UEsDBBQAAAAI"}"#,
        r#"{"errors":{"password":["is too weak"]}}"#,
        r#"{"code":"ERR","value":"1946-09-03"}"#,
    ] {
        assert_eq!(told(body, "application/json"), Vec::<String>::new(), "{body}");
    }
}

/// What is in an object says whose it is, before and behind it, where its own name says something else or nothing.
#[test]
fn whose_an_object_is_by_what_is_in_it() {
    const ADDRESS: &str = r#""address":{"city":"Springfield","line1":"PO Box 1204"}"#;
    for (body, expected) in [
        // Somebody pays, and no insurance.
        (
            r#"{"payer":{"email":"m@mail.example","first_name":"Marta","last_name":"Okafor"}}"#.to_owned(),
            "pii email $.payer.email",
        ),
        (
            format!(r#"{{"shipping":{{{ADDRESS},"name":"Maria Santos"}}}}"#),
            "phi name $.{key}.name",
        ),
        (
            format!(r#"{{"shipping":{{{ADDRESS},"name":"Maria Santos"}}}}"#),
            "phi address $.{key}.address.city",
        ),
        // Of somebody in it a company's industry says nothing.
        (
            r#"{"individual":{"first_name":"Marta","last_name":"Okafor"},"mcc":"8011","phone":"212-555-0142"}"#
                .to_owned(),
            "phi phone $.phone",
        ),
        // Each of several places is told.
        (
            format!(r#"{{"name":"Maria Santos","addresses":[{{"city":"Springfield"}}],"billing":{{{ADDRESS}}}}}"#),
            "phi address $.addresses[].city",
        ),
        (
            r#"{"email":"m@mail.example","industry":"Retail","phone":"212-555-0142"}"#.to_owned(),
            "phi phone $.phone",
        ),
        (
            r#"{"name":"OKAFOR, MARTA","diagnosis":"E11.9"}"#.to_owned(),
            "phi name $.name",
        ),
        (
            r#"{"firstName":"Marta","industry":"Retail","phone":"212-555-0142"}"#.to_owned(),
            "phi phone $.phone",
        ),
    ] {
        let found = told(&body, "");
        assert!(found.iter().any(|told| told == expected), "{body}: {found:?}");
    }
    for body in [
        format!(r#"{{"name":"Northwind Traders",{ADDRESS}}}"#),
        format!(r#"{{"name":"Acme","phone":"212-555-0142",{ADDRESS},"industry":"Retail"}}"#),
        r#"{"payer":{"name":"Blue Cross","phone":"212-555-0142","id":"60054"}}"#.to_owned(),
        r#"{"ein":"x1","phone":"212-555-0142","website":"https://acme.example"}"#.to_owned(),
        format!(r#"{{"name":"Madison Square Garden",{ADDRESS}}}"#),
    ] {
        let found = told(&body, "");
        assert!(found.is_empty(), "{body}: {found:?}");
    }
}

/// Names whose first word, or whose last, says what they are.
#[test]
fn names_by_their_first_word() {
    for (body, expected) in [
        (r#"{"nome_do_pai":"Rui Campos"}"#, "phi name $.nome_do_pai"),
        (
            r#"{"patient_rems_id":"4829130"}"#,
            "phi patient-id $.patient_rems_id",
        ),
        (
            r#"{"last_name_english":"Okafor"}"#,
            "phi name $.last_name_english",
        ),
        (
            r#"{"account_holder_name":"Marta Okafor"}"#,
            "pii name $.account_holder_name",
        ),
        (
            r#"{"photoLink":"https://img.example/4829130.jpg"}"#,
            "phi photo $.photoLink",
        ),
        (
            r#"{"performingPhysicianName":"Okafor^Marta"}"#,
            "pii name $.performingPhysicianName",
        ),
    ] {
        assert_eq!(told(body, ""), [expected], "{body}");
    }
    for body in [
        r#"{"issuer_of_patient_id":"R4829130"}"#,
        r#"{"patient_list_id":"4829130"}"#,
        r#"{"pageToken":"6f1c0d0e7a524c1f9d8e","next_token":"6f1c0d0e7a524c1f9d8e"}"#,
        r#"{"accountId":"4829130482","name":"Production"}"#,
        r#"{"nome_do_arquivo":"Rui Campos"}"#,
        r#"{"certificateThumbprint":"A94A8FE5CCB19BA61C4C0873D391E987982FBBD3"}"#,
        r#"{"denomination":"50.00","SubjectAlternativeNames":["www.example.com"]}"#,
        r#"{"jsonrpc":"2.0","method":"getMrn","id":"10442"}"#,
    ] {
        assert_eq!(told(body, ""), Vec::<String>::new(), "{body}");
    }
}

/// What is nobody's business, whatever stands behind the word for it, beside other data of somebody.
#[test]
fn special_categories_by_their_stems() {
    for (body, expected) in [
        (
            r#"{"email":"m@mail.example","religious_background":"Lutheran"}"#,
            " religion ",
        ),
        (
            r#"{"email":"m@mail.example","voterParty":"Whigs"}"#,
            " political-opinion ",
        ),
        (
            r#"{"email":"m@mail.example","allergy_detail":"Peanuts"}"#,
            " allergy ",
        ),
    ] {
        let found = told(body, "");
        assert!(
            found.iter().any(|told| told.contains(expected)),
            "{body}: {found:?}"
        );
    }
    for body in [
        r#"{"religious_background":"Lutheran"}"#,
        r#"{"email":"m@mail.example","dna_center":"Building 4","political_region":"West","vaccine_lot":"EW0182","employer":"Charles Schwab"}"#,
    ] {
        let found = told(body, "");
        assert!(
            found.iter().all(|told| told.contains(" email ")),
            "{body}: {found:?}"
        );
    }
}

/// A name that nothing says it of, by its given name and by what is beside it.
#[test]
fn a_name_under_any_word() {
    for (body, expected) in [
        (
            r#"{"email":"m@mail.example","who":"Marta Okafor"}"#,
            "phi name $.who",
        ),
        (
            r#"{"seenBy":"Marta Okafor","dob":"1980-02-14"}"#,
            "phi name $.{key}",
        ),
    ] {
        let found = told(body, "");
        assert!(found.iter().any(|told| told == expected), "{body}: {found:?}");
    }
    for body in [
        r#"{"who":"Marta Okafor","total":7}"#,
        r#"{"email":"m@mail.example","album":"Adrian Novak Live","venue":"Karl Marx Arena","x":"Northwind Traders"}"#,
        r#"{"email":"m@mail.example","addresses":[{"formatted":"Adrian Novak Road"}]}"#,
    ] {
        let found = told(body, "");
        assert!(
            !found.iter().any(|told| told.contains(" name ")),
            "{body}: {found:?}"
        );
    }
}
