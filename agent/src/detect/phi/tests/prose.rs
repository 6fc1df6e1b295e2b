//! What people write about people, and what they write about everything else.

use super::formats::told;

#[test]
fn people_in_prose() {
    for (text, expected) in [
        ("Dear Marta, thank you.", "phi name"),
        ("Contact Peter Brown on arrival.", "phi name"),
        ("the account owner is Dawn Petersen", "phi name"),
        ("Caller: Hannah Smith", "phi name"),
        ("Bill to: Jacob Luna", "phi name"),
        ("See you soon.\nRegards,\nPaula Rogers", "phi name"),
        ("Mr Okafor was seen.", "phi name"),
        ("gezien door dhr. Jansen", "phi name"),
        ("Frau Schneider hat angerufen", "phi name"),
        ("With best wishes,\n\nPaul Okonkwo", "phi name"),
        ("reach us: 001-425-751-1393", "phi phone"),
        ("or (819)541-2354x534", "phi phone"),
        ("licence plate KSW 506", "phi vehicle"),
        ("NI number JJ 98 70 59 D", "phi passport"),
        ("the MAC address 80:fa:53:12:79:2e", "phi device"),
        ("IMEI 358817181148821", "phi device"),
        ("Login attempt from 166.73.222.13 failed", "phi ip"),
        (
            "166.73.222.13 - - [10/Oct/2000:13:55:36 -0700] \"GET /\"",
            "phi ip",
        ),
        ("change your password G2xtmVnhR now", "credential password"),
        ("PIN 5493 was set.", "credential password"),
        ("Blood type: O-", "health observation"),
        ("Allergies:\nPenicillin\n", "health allergy"),
        (
            "at 866 Jerry Parks Suite 585, Port Johnny, AL 06340",
            "phi address",
        ),
        ("taking metformin 500 mg daily", "health medication"),
        ("prescribed amoxicillin 2 capsules daily", "health medication"),
        (
            "[2024-03-11 10:22:41] INFO mail to m.okafor@mail.example",
            "phi email",
        ),
        ("key sk-0123456789abcdef0123456789abcdef", "credential token"),
    ] {
        assert_eq!(told(text, "text/plain"), [format!("{expected} $")], "{text}");
    }
}

/// Where a text is of somebody, a given name with a name behind it is somebody's.
#[test]
fn given_names_in_texts_about_somebody() {
    for text in [
        "We spoke with Vincent Brown (m@mail.example) about it.",
        "m@mail.example: José Ramírez called.",
        "Billy Watson passed away on 03/04/2021 at home.",
    ] {
        let found = told(text, "text/plain");
        assert!(found.contains(&"phi name $".to_owned()), "{text}: {found:?}");
    }
    for text in [
        "We spoke with Vincent Brown about it.",
        "m@mail.example: Max Retries exceeded, Grant Access in Victoria Harbour, Julia Language, 12 Adrian Lane",
        "m@mail.example: see /Vincent Brown and Vincent brown",
        "Thanks,\nAcme Support Team, m@mail.example",
    ] {
        let found = told(text, "text/plain");
        assert!(!found.contains(&"phi name $".to_owned()), "{text}: {found:?}");
    }
}

/// Beside something of somebody, a word and a number are enough.
#[test]
fn numbers_beside_other_data() {
    for (text, class) in [
        ("MRN 0048291, Accession: 20932812", "account"),
        (
            "mail m.okafor@mail.example, MRN 0048291, account: 42529757",
            "account",
        ),
        ("SSN 536-22-8741, licence Q7078990", "licence"),
    ] {
        let found = told(text, "text/plain");
        assert!(found.iter().any(|one| one.contains(class)), "{text}: {found:?}");
    }
}

#[test]
fn what_companies_write() {
    for text in [
        "Re: Budget Review Meeting\nSubject: RE: Meeting Notes\nAttention: Breaking Changes",
        "Bill to: Acme Industries\nManager: Platform Core\nAuthor: Quarterly Report",
        "From: GitHub Notifications\nProvider: Google Cloud\nCustomer: Acme Industries",
        "User Login Failed. Customer Order Created. Driver Update Available. Client Connection Closed.",
        "Sender Domain Blocked. Student Loan Payment received. Contact Us Today!",
        "results for San Francisco, created for Acme Corp, signed by Let's Encrypt, issued to Contoso Finance",
        "the owner is Platform Engineering; contact Human Resources; client Apache HttpClient",
        "Dear Client, Dear Partner, Hi Guys, Hello Again, Hello Kubernetes! Hi Res Audio.",
        "Sincerely,\nHuman Resources",
        "Los precios son Muy Buenos. Brother Laser Printer, Mother Earth News, Applicant Tracking Software",
        "reset your password today! password required? password reset_token expired",
        "The API suffers from high latency and packet loss; treated for tax purposes",
        "NATO summit in Vilnius on 11.07.2023; the host was last seen on 2024-03-11",
        "AWS account 123456789012, zone example.org serial 2024061101, Firewall policy 100234",
        "member 100234 joined the channel, device 00011223, License 2024-10023, Claim 10023",
        "hf_xet-1.1.5-cp37-abi3-manylinux_2_17_x86_64.whl npm_config_globalconfig=/usr/local/lib/node_modules20/x",
        "sk-fading-circle-1 sk-cube-grid-2 sk-folding-cube-3-of-the-spinner",
        "See profile https://grafana.example/d/1. Order 618-20-7374, invoice no. 212-555-0142",
        "version 842.15.6157 and 12px 20x30 640x480",
        "[error] no route. [12345] LOG: done",
        "Sig: Take One Tablet Daily. Thank You For Shopping With Us! MME Pool Area",
    ] {
        assert_eq!(told(text, "text/plain"), Vec::<String>::new(), "{text}");
    }
    for body in [
        r#"{"PID_2":"100.5","PID_3":"20.1","IN1_8":"10443","IN1_36":"20442"}"#,
        r#"{"unitNo":"10443","depName":"lodash","assistantName":"Claude","groupNum":"10443"}"#,
        r#"{"measurementDate":"2024-03-11","buildingNumber":"10443","worldview":"Sentinel"}"#,
        r#"{"insuranceProvider":"Blue Cross","employeeResidence":"DE"}"#,
        r#"{"translation":{"firstName":"Given Name Field","diagnosis":"Diagnosis"}}"#,
        r#"{"allergies":"<string>","race":"[RACE]","religion":"{{religion}}"}"#,
        r#"{"errors":{"diagnosis":"Diagnosis: required","allergies":["is required"]}}"#,
    ] {
        assert_eq!(told(body, "application/json"), Vec::<String>::new(), "{body}");
    }
}

/// What is near a form's words is a value all the same.
#[test]
fn values_that_look_like_forms() {
    for (body, expected) in [
        (r#"{"allergies":"mustard"}"#, "health allergy $.allergies"),
        (r#"{"patient_name":"[Marta Okafor]"}"#, "phi name $.patient_name"),
        (
            r#"{"diagnosis":"Respiratory failure, ventilation required"}"#,
            "health diagnosis $.diagnosis",
        ),
        (r#"{"PID.7":"19590705"}"#, "phi birth-date $.PID.7"),
        (
            r#"{"PID":{"PID.5":{"PID.5.1":"OKAFOR"}}}"#,
            "phi name $.{key}.PID.5.PID.5.1",
        ),
    ] {
        assert_eq!(told(body, "application/json"), [expected], "{body}");
    }
}

#[test]
fn keys_that_hold_numbers_or_names_are_not_shown() {
    for body in [
        r#"{"patients/Jane_Doe:12/birthdate":"1980-02-14"}"#,
        r#"{"mrn:483920/ssn":"536-22-8741"}"#,
        r#"{"482-91377":{"ssn":"536-22-8741"}}"#,
        r#"{"555-0142":{"dob":"1980-02-14"}}"#,
        r#"{"AB1-23456":{"email":"m.okafor@mail.example"}}"#,
        r#"{"PID-482913":{"email":"m.okafor@mail.example"}}"#,
    ] {
        let found = told(body, "application/json");
        assert_eq!(found.len(), 1, "{body}: {found:?}");
        assert!(
            found[0].contains("{key}") && !found[0].contains(char::is_numeric),
            "{found:?}"
        );
    }
}
