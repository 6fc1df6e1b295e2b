//! Precision and recall on records that are made up, with labels: identifiers under many names and in sentences, beside
//! numbers and names that are nobody's.

use super::*;

/// A small generator, so that every run measures the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from(b'0' + self.roll(10) as u8))
            .collect()
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len() as u64) as usize]
    }

    /// Tries until a detector says that the check digits are right.
    fn valid(&mut self, class: Class, make: impl Fn(&mut Dice) -> String) -> String {
        loop {
            let value = make(self);
            if (class.detector().fits)(value.as_bytes()) {
                return value;
            }
        }
    }
}

const FIRST: &[&str] = &[
    "Marta", "Jun", "Amara", "Otto", "Zo\u{eb}", "Ibrahim", "Mary", "Luca",
];
const LAST: &[&str] = &[
    "Okafor",
    "Li",
    "O'Brien",
    "van Dijk",
    "M\u{fc}ller",
    "Garcia-Lopez",
    "Haddad",
];

/// Keys, and a value of the class.
fn positive(dice: &mut Dice) -> (&'static str, &'static str, String) {
    match dice.roll(20) {
        0 => (
            "ssn",
            dice.pick(&["ssn", "SSN", "patientSSN", "social_security_number"]),
            dice.valid(Class::Ssn, |dice| {
                format!("{}-{}-{}", dice.digits(3), dice.digits(2), dice.digits(4))
            }),
        ),
        1 => (
            "mrn",
            dice.pick(&["mrn", "MRN", "medicalRecordNumber", "patient_mrn"]),
            format!("MR{}", dice.digits(7)),
        ),
        2 => (
            "email",
            dice.pick(&["email", "emailAddress", "contact_email"]),
            format!("p{}@mail.example", dice.digits(5)),
        ),
        3 => (
            "phone",
            dice.pick(&["phone", "phoneNumber", "home_phone", "mobile"]),
            format!("212-555-{}", dice.digits(4)),
        ),
        4 => (
            "birth-date",
            dice.pick(&["dob", "birthDate", "date_of_birth", "DOB"]),
            format!("19{}-0{}-1{}", 10 + dice.roll(89), 1 + dice.roll(9), dice.roll(9)),
        ),
        5 => (
            "name",
            dice.pick(&["firstName", "first_name", "lastName", "patient_name", "fullName"]),
            dice.pick(LAST).to_owned(),
        ),
        6 => (
            "address",
            dice.pick(&["street", "addressLine1", "street_address"]),
            format!("{} Harbour Road", 1 + dice.roll(900)),
        ),
        7 => (
            "address",
            dice.pick(&["zip", "postalCode", "zip_code"]),
            dice.digits(5),
        ),
        8 => (
            "npi",
            dice.pick(&["npi", "providerNPI"]),
            dice.valid(Class::Npi, |dice| format!("1{}", dice.digits(9))),
        ),
        9 => (
            "card",
            dice.pick(&["cardNumber", "credit_card", "note"]),
            dice.valid(Class::Card, |dice| format!("4{}", dice.digits(15))),
        ),
        10 => (
            "iban",
            dice.pick(&["iban", "note"]),
            dice.valid(Class::Iban, |dice| format!("DE{}", dice.digits(20))),
        ),
        11 => (
            "nhs-number",
            dice.pick(&["nhsNumber", "nhs_no"]),
            dice.valid(Class::NhsNumber, |dice| dice.digits(10)),
        ),
        12 => (
            "bsn",
            dice.pick(&["bsn", "BSN"]),
            dice.valid(Class::Bsn, |dice| dice.digits(9)),
        ),
        13 => (
            "steuer-id",
            "steuerId",
            dice.valid(Class::SteuerId, |dice| dice.digits(11)),
        ),
        14 => (
            "sin",
            dice.pick(&["sin", "sinNumber"]),
            dice.valid(Class::Sin, |dice| dice.digits(9)),
        ),
        15 => (
            "nir",
            dice.pick(&["nir", "numero_securite_sociale"]),
            dice.valid(Class::Nir, |dice| format!("1{}", dice.digits(14))),
        ),
        16 => (
            "health-plan",
            dice.pick(&["memberId", "subscriber_id", "policyNumber"]),
            format!("XQ{}", dice.digits(9)),
        ),
        17 => (
            "diagnosis",
            dice.pick(&["diagnosisCode", "icd10"]),
            format!("E1{}.{}", dice.roll(9), dice.roll(9)),
        ),
        18 => ("passport", "passportNumber", format!("X{}", dice.digits(8))),
        _ => (
            "ip",
            dice.pick(&["clientIp", "ip_address"]),
            format!("203.0.113.{}", dice.roll(255)),
        ),
    }
}

/// Keys and values that are nobody's.
fn negative(dice: &mut Dice) -> (&'static str, String) {
    match dice.roll(12) {
        0 => ("orderNumber", dice.digits(9)),
        1 => ("timestamp", format!("17{}", dice.digits(11))),
        2 => ("traceId", format!("{}-{}", dice.digits(8), dice.digits(4))),
        3 => (
            "version",
            format!(
                "{}.{}.{}.{}",
                dice.roll(20),
                dice.roll(20),
                dice.roll(20),
                dice.roll(20)
            ),
        ),
        4 => (
            "updatedAt",
            format!("2024-0{}-1{}T10:00:00Z", 1 + dice.roll(9), dice.roll(9)),
        ),
        5 => (
            "name",
            dice.pick(&["main branch", "blood-pressure", "Test Server", "queue"])
                .to_owned(),
        ),
        6 => ("uuid", format!("550e8400-e29b-41d4-a716-{}", dice.digits(12))),
        7 => ("amount", format!("{}.{}", dice.digits(6), dice.digits(2))),
        8 => ("hash", format!("{}deadbeef{}", dice.digits(9), dice.digits(15))),
        9 => ("state", dice.pick(&["active", "done", "MA"]).to_owned()),
        10 => ("url", format!("https://api.example/v1/items/{}", dice.digits(9))),
        _ => ("code", format!("AB{}", dice.digits(7))),
    }
}

#[test]
fn precision_and_recall_on_records() {
    let mut dice = Dice(42);
    let mut scanner = scanner();
    let (mut right, mut missed, mut wrong) = (0u32, Vec::new(), Vec::new());
    for _ in 0..4_000 {
        let mut record = serde_json::Map::new();
        let mut labels: Vec<&str> = Vec::new();
        for _ in 0..1 + dice.roll(3) {
            let (class, key, value) = positive(&mut dice);
            if !record.contains_key(key) {
                record.insert(key.to_owned(), value.into());
                labels.push(class);
            }
        }
        for _ in 0..dice.roll(4) {
            let (key, value) = negative(&mut dice);
            record.entry(key).or_insert(value.into());
        }
        let body = serde_json::Value::Object(record).to_string();
        let found: Vec<String> = scan(&mut scanner, body.as_bytes(), "application/json")
            .iter()
            .map(|data| data.class.to_string())
            .collect();
        labels.sort_unstable();
        labels.dedup();
        for label in &labels {
            match found.iter().any(|class| class == label) {
                true => right += 1,
                false => missed.push(format!("{label} in {body}")),
            }
        }
        let extra = found.iter().filter(|class| !labels.contains(&class.as_str()));
        wrong.extend(extra.map(|class| format!("{class} in {body}")));
    }
    let precision = f64::from(right) / (f64::from(right) + wrong.len() as f64);
    let recall = f64::from(right) / (f64::from(right) + missed.len() as f64);
    println!("records: precision {precision:.4}, recall {recall:.4} over {right} identifiers");
    let some = |list: &[String]| list.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(precision >= 0.99, "{precision}\n{}", some(&wrong));
    assert!(recall >= 0.99, "{recall}\n{}", some(&missed));
}

#[test]
fn precision_and_recall_in_sentences() {
    let mut dice = Dice(7);
    let mut scanner = scanner();
    let (mut right, mut missed, mut wrong) = (0u32, Vec::new(), Vec::new());
    for _ in 0..2_000 {
        let name = format!(
            "{} {}",
            dice.pick(FIRST),
            dice.pick(&["Okafor", "Haddad", "O'Brien"])
        );
        let (text, label) = match dice.roll(8) {
            0 => (
                format!(
                    "Her SSN is {}-2{}-{}.",
                    100 + dice.roll(500),
                    1 + dice.roll(9),
                    1000 + dice.roll(8999)
                ),
                "ssn",
            ),
            1 => (
                format!("Reach the family at (212) 555-{} after six.", dice.digits(4)),
                "phone",
            ),
            2 => (
                format!("Write to p{}@mail.example, please.", dice.digits(4)),
                "email",
            ),
            3 => (
                format!(
                    "The patient was born on 19{}-03-1{}.",
                    30 + dice.roll(60),
                    dice.roll(9)
                ),
                "birth-date",
            ),
            4 => (
                format!("Seen in clinic, MRN: {}, follow up.", dice.digits(8)),
                "mrn",
            ),
            5 => (format!("Mrs. {name} was seen by the team."), "name"),
            6 => (
                format!("Patient lives at {} Harbour Road nearby.", 1 + dice.roll(900)),
                "address",
            ),
            _ => (
                format!(
                    "The job took {} ms over {} rows, build {}.",
                    dice.digits(4),
                    dice.digits(9),
                    dice.digits(6)
                ),
                "",
            ),
        };
        let body = serde_json::json!({ "note": text }).to_string();
        let found = scan(&mut scanner, body.as_bytes(), "application/json");
        if !label.is_empty() {
            match found.iter().any(|data| data.class == label) {
                true => right += 1,
                false => missed.push(text.clone()),
            }
        }
        wrong.extend(
            found
                .iter()
                .filter(|data| data.class != label)
                .map(|data| format!("{} in {text}", data.class)),
        );
    }
    let precision = f64::from(right) / (f64::from(right) + wrong.len() as f64);
    let recall = f64::from(right) / (f64::from(right) + missed.len() as f64);
    println!("sentences: precision {precision:.4}, recall {recall:.4} over {right} identifiers");
    let some = |list: &[String]| list.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(precision >= 0.99, "{precision}\n{}", some(&wrong));
    assert!(recall >= 0.99, "{recall}\n{}", some(&missed));
}
