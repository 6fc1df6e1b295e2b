//! Observations and laboratory results, by LOINC or place.
//!
//! Source: GDPR Articles 4(15) and 9(1).

use crate::detect::phi::checks::any;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Observation,
    name: "observation",
    group: Group::Health,
    about: "Observations and laboratory results, by LOINC or place.",
    source: "GDPR Articles 4(15) and 9(1)",
    identifies: false,
    keys: &[
        "loinc",
        "loinccode",
        "labresult",
        "labresults",
        "testresult",
        "bloodpressure",
        "heartrate",
        "bloodtype",
        "bloodgroup",
        "bodyweight",
        "hba1c",
        "bmi",
        "vitals",
        "hivstatus",
        "glucose",
        "cholesterol",
        "spo2",
        "oxygensaturation",
        "respiratoryrate",
        "bodytemperature",
        "systolic",
        "diastolic",
        "systolicbp",
        "diastolicbp",
        "bloodsugar",
        "hemoglobin",
        "haemoglobin",
        "creatinine",
        "labvalue",
        "labtest",
        "vitalsigns",
        "pulserate",
        "tiposanguineo",
        "labresultvalue",
        "glucoselevel",
        "bloodglucose",
        "cholesterollevel",
        "measurementsourcevalue",
        "bodyheight",
        "gruposanguineo",
        "tiposangre",
        "فصيلةالدم",
        "סוגדם",
        "bloedgroep",
        "bloodgrouprh",
        "gruposangre",
        "blutgruppe",
        "groupesanguin",
        "grupposanguigno",
    ],
    keys_alone: &[],
    keys_beside: &[
        "analyte",
        "bp",
        "nibp",
        "resultvalue",
        "valueasnumber",
        "valuenum",
        "observationvalue",
    ],
    words: &["lab result"],
    fits: own_fits,
    shape: None,
    examples: &[
        r#"{"loinc":"4548-4"}"#,
        r#"{"resourceType":"Observation","subject":{"reference":"Patient/1"},"code":{"coding":[{"system":"http://loinc.org","code":"4548-4"}]}}"#,
        r#"{"bloodPressure":"120/80"}"#,
        "MSH|^~\\&|A|B|C|D|2024||ORU^R01|1|P|2.5\nOBX|1|NM|4548-4^A1c^LN||6.1",
    ],
    counter_examples: &[
        r#"{"weight":12}"#,
        r#"{"resourceType":"ValueSet","compose":{"include":[{"system":"http://loinc.org","concept":[{"code":"4548-4"}]}]}}"#,
    ],
};

fn own_fits(value: &[u8]) -> bool {
    any(value)
}
