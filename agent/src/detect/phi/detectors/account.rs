//! Account numbers, also of visits.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(J).

use crate::detect::phi::checks::number;
use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Account,
    name: "account",
    group: Group::Phi,
    about: "Account numbers, also of visits.",
    source: "45 CFR 164.514(b)(2)(i)(J)",
    identifies: true,
    keys: &[
        "accountnumber",
        "accountno",
        "accountid",
        "bankaccount",
        "bankaccountnumber",
        "acctnumber",
        "acctno",
        "visitnumber",
        "encounternumber",
        "accessionnumber",
        "patientaccount",
        "kontonummer",
        "routingnumber",
        "patientaccountnumber",
        "patientaccountno",
        "accountnum",
        "acctnum",
        "bankaccountno",
        "bankacct",
        "bankaccountnum",
        "kontonr",
        "rekeningnummer",
        "numerocompte",
        "numerocuenta",
        "fallnummer",
        "csn",
        "finnumber",
        "patientcontrolnumber",
        "fallnr",
        "claimnumber",
        "billingaccountnumber",
        "encounterid",
    ],
    keys_alone: &[],
    keys_beside: &["fin", "har"],
    words: &["kontonummer", "account number", "account no", "acct", "account #"],
    fits: number,
    shape: None,
    examples: &[
        "Kontonummer 4829130017",
        r#"{"checkingaccountnumber":"4829130017"}"#,
        r#"{"account_number":"4829130017"}"#,
        "Billed to account number 4829130017.",
        "MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\nPID|1|||||||||||||||||4829130017",
    ],
    counter_examples: &[r#"{"accountType":"savings"}"#, r#"{"account":"admin"}"#],
};
