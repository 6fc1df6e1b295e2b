//! Which names may be shown: those in which every word is one that ships with the agent. `okaforPhone` says what it holds,
//! and whose it is.

use super::lists::{AHEAD, NAMED, QUALIFIERS};
use super::words::is_short;
use super::{Names, is_organization, owner_of};
use crate::call::Vocabulary;

/// More digits in a name may be somebody's number.
const NUMBER_DIGITS_MAX: usize = 4;

impl Names {
    /// `ahead`: the words before those that say what it is.
    pub(super) fn is_nobodys(&self, raw: &[u8], ahead: &[String]) -> bool {
        // Letters of other scripts are in no word.
        is_of_words(raw) && super::words::fold(raw).is_ascii() && ahead.iter().all(|word| self.is_known(word))
    }

    /// A word that ships with the agent.
    pub(super) fn is_known(&self, word: &str) -> bool {
        let digits = word.bytes().all(|byte| byte.is_ascii_digit());
        digits
            // `x-…`
            || word.len() == 1
            || Vocabulary::has(word)
            || self.context.contains_key(word)
            || owner_of(word).is_some()
            || is_organization(word)
            || QUALIFIERS.contains(&word)
            || AHEAD.contains(&word)
            || NAMED.contains(&word)
            || is_short(word)
    }
}

/// It has no more in it than words and a short number: `mrn_482913` and `jane@mail.example[ssn]` name somebody.
fn is_of_words(raw: &[u8]) -> bool {
    let digits = raw.iter().filter(|byte| byte.is_ascii_digit()).count();
    digits <= NUMBER_DIGITS_MAX && !raw.iter().any(|byte| b"[]@\"'<>{}=&|\\".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_somebody_is_not_shown() {
        let names = Names::new(&[]);
        let shown = |name: &str| names.tell(name.as_bytes(), &|_| false).1;
        for name in [
            "ssn",
            "patient_ssn",
            "Address Line 2",
            "addr1",
            "street-2024",
            "Policy #",
            "homePhone",
            "secondary_email",
            "emergency_contact_phone_number",
            "pat_mrn",
            "checkingaccountnumber",
            "이름",
        ] {
            assert!(shown(name), "{name}");
        }
        for name in [
            "patients[00482913][ssn]",
            "answers[jane.doe@mail.example][ssn]",
            "mrn_482913",
            "482913_ssn",
            "jane=doe.ssn",
            "okafor phone",
            "marta okafor phone",
            "okaforPhone",
            "okafor_dob",
            "x-okafor-phone",
            "home okafor phone",
            "zq marge ssn",
            "patient okafor email",
            "987-65-4321 phone",
            "Петров phone",
            "田中_ssn",
            "okaforphonenumber",
            "martaokafordateofbirth",
            "patientokaforphonenumber",
        ] {
            assert!(!shown(name), "{name}");
        }
    }
}
