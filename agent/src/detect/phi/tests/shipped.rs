//! What data that others ship with their programs has shown: forms that are told, and some that only look like it.

use super::formats::told;

fn classes(body: &str, content_type: &str) -> Vec<String> {
    let mut classes: Vec<String> = told(body, content_type)
        .iter()
        .filter_map(|told| told.split(' ').nth(1))
        .map(str::to_owned)
        .collect();
    classes.sort();
    classes
}

#[test]
fn cards_and_calendars() {
    let card = "BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Purple Goose\r\nTEL;TYPE=HOME:+9999999\r\nitem1.TEL;TYPE=FAX:020 666 6666\r\n\
                ADR;TYPE=home:;;Main St;Desert Base;New Mexico;55416;USA\r\nBDAY:19781229\r\nORG:Goose Ltd;\r\nEND:VCARD\r\n";
    assert_eq!(
        classes(card, "text/vcard"),
        ["address", "birth-date", "fax", "name", "phone"]
    );
    let event = "BEGIN:VCALENDAR\nDTSTART:19970714T170000Z\nATTENDEE;CN=\"Purple Goose\";ROLE=CHAIR:mailto:goose@mail.example\n\
                 ATTENDEE;CN=Room 5:mailto:room@mail.example\nEND:VCALENDAR\n";
    assert_eq!(classes(event, "text/calendar"), ["email", "name"]);
}

#[test]
fn names_where_somebody_may_be_named() {
    for body in [
        r#"{"records":[{"id":1,"customer_name":"Monica Lam"}]}"#,
        r#"{"records":[{"id":1,"full_name":"Jingtao Wang"}]}"#,
        r#"{"tickets":[{"id":1,"assignee":"VANCE GARCIA"}]}"#,
        r#"{"parcels":[{"id":1,"owner":"Russell, Herman"}]}"#,
        r#"{"shipments":[{"id":1,"recipient":"Dr. Monica N. Lam"}]}"#,
        r#"{"members":[{"name":"Monica Lam"}]}"#,
        r#"{"firstName":{"en":"Monica"}}"#,
    ] {
        assert_eq!(classes(body, "application/json"), ["name"], "{body}");
    }
    for body in [
        r#"{"customer_name":"Blue Bottle Coffee","owner":"Facilities Team","recipient":"Fort Wayne"}"#,
        r#"{"full_name":"Republic of Korea","assignee":"Jackson Laboratory"}"#,
        r#"{"members":[{"name":"Web Assets"}]}"#,
        r#"{"author":"Monica Lam","title":"On Ships"}"#,
        // Houses that are called as people are, and places on a map.
        r#"{"customer_name":"Johns Hopkins","owner":"JP Morgan","client":"MD Anderson","customer":"Marks and Spencer"}"#,
        r#"{"owner":"Norman, Oklahoma","recipient":"Harrison, AR","customer":"Solomon Islands","client":"Lucas Township"}"#,
        r#"{"firstName":{"en":"First name","de":"Vorname"},"lastName":{"en":"Last name","id":"Okafor"}}"#,
    ] {
        assert!(classes(body, "application/json").is_empty(), "{body}");
    }
}

/// So many sentences, and labels of fields, with their translations.
fn catalogue(sentences: usize) -> String {
    let sentence = |number| format!(r#""Nothing is left of the number {number}.":"Ingenting.","#);
    let sentences: String = (0..sentences).map(sentence).collect();
    format!(r#"{{{sentences}"Current Password":"Kata sandi saat ini","Refresh token":"Fornyelsestoken"}}"#)
}

#[test]
fn what_only_looks_like_it() {
    for (body, content_type) in [
        // A catalogue of messages.
        (catalogue(8).as_str(), "application/json"),
        // The types of FHIR's elements.
        (
            r#"{"Claim.diagnosis.diagnosis":["CodeableConcept","Reference"],"Medication":"DomainResource"}"#,
            "application/json",
        ),
        // A species, a time, a strain, a house of learning.
        (
            r#"{"tax_id":9606,"created_at":"Fri Dec 21 18:24:10 +0000 2012"}"#,
            "application/json",
        ),
        ("Yersinia pestis biovar Microtus str. 91001", "text/plain"),
        ("Account Name Georgetown University", "text/plain"),
        // A hospital's card, a room.
        (
            "BEGIN:VCARD\nFN:General Hospital\nORG:General Hospital;Cardiology\nADR:;;Main St;Desert Base;New Mexico;55416;USA\nEND:VCARD\n",
            "text/vcard",
        ),
        (
            "BEGIN:VCARD\nKIND:org\nFN:Purple Goose\nEND:VCARD\n",
            "text/vcard",
        ),
        (
            "BEGIN:VCALENDAR\nATTENDEE;CUTYPE=ROOM;CN=Purple Goose:x\nORGANIZER;CN=Cardiology Department:y\nEND:VCALENDAR\n",
            "text/calendar",
        ),
        // An organization that provides.
        (
            "ISA*00*~NM1*1P*2*BONE AND JOINT CLINIC*****XX*~",
            "application/edi-x12",
        ),
    ] {
        assert!(
            classes(body, content_type).is_empty(),
            "{body}: {:?}",
            told(body, content_type)
        );
    }
    // Concepts of a document about somebody have names, and he has one.
    let document = "<ClinicalDocument><recordTarget><patientRole><patient><name><given>Marta</given></name>\
                    <birthTime value=\"19800214\"/><maritalStatusCode code=\"M\" codeSystem=\"2.16.840.1.113883.5.2\" displayName=\"Never Married\"/>\
                    </patient></patientRole></recordTarget></ClinicalDocument>";
    assert_eq!(classes(document, "application/xml"), ["birth-date", "name"]);
}

#[test]
fn what_only_looks_like_nobodys() {
    for (body, content_type, expected) in [
        (
            r#"{"patient":{"system":"MRN","code":"12345","name":"Marta Okafor"}}"#,
            "application/json",
            "name",
        ),
        // A form's questions are no catalogue where there is more than them.
        (catalogue(7).as_str(), "application/json", "password"),
        (
            "ISA*00*~NM1*1P*2*BONE CLINIC~PER*IC*JANE DOE*TE*2125550142~",
            "application/edi-x12",
            "name",
        ),
    ] {
        let classes = classes(body, content_type);
        assert!(
            classes.iter().any(|class| class == expected),
            "{body}: {classes:?}"
        );
    }
}

#[test]
fn numbers_and_places_as_others_write_them() {
    for (text, class) in [
        ("Tel: +(968) 2469 0002", "phone"),
        ("Office + 974 4403 4980", "phone"),
        ("PO Box 33349, Isa Town, Kingdom of Bahrain", "address"),
        ("PO Box 123, Springfield, IL 62701", "address"),
    ] {
        assert_eq!(classes(text, "text/plain"), [class], "{text}");
    }
    let race = r#"{"extension":[{"extension":[{"valueCoding":{"code":"2106-3","system":"urn:oid:2.16.840.1.113883.6.238"},"url":"ombCategory"}],"url":"http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"}],"resourceType":"Patient"}"#;
    assert_eq!(classes(race, "application/json"), ["ethnicity"]);
    let done = "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\rPR1|1|I9|88.72^EEG^I9C";
    assert_eq!(classes(done, ""), ["procedure"]);
}
