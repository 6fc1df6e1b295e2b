//! A name → its words, in the letters of ASCII.

use std::borrow::Cow;

/// Words that are written short, behind others.
pub(super) const SHORT: &[(&str, &str)] = &[("nbr", "number"), ("nm", "name"), ("cd", "code")];

/// Words that are written short in tables and messages; what they stand for is tried where a name is not known as it is.
const ABBREVIATED: &[(&str, &str)] = &[
    ("acct", "account"),
    ("addr", "address"),
    ("appt", "appointment"),
    ("bene", "beneficiary"),
    ("dgns", "diagnosis"),
    ("cust", "customer"),
    ("disch", "discharge"),
    ("dt", "date"),
    ("dte", "date"),
    ("dttm", "datetime"),
    ("emp", "employee"),
    ("grp", "group"),
    ("hosp", "hospital"),
    ("ins", "insurance"),
    ("lic", "license"),
    ("ln", "line"),
    ("mbr", "member"),
    ("no", "number"),
    ("nr", "number"),
    ("num", "number"),
    ("pat", "patient"),
    ("phn", "phone"),
    ("pol", "policy"),
    ("pt", "patient"),
    ("svc", "service"),
    ("tm", "time"),
];

/// A word that is written short.
pub(super) fn is_short(word: &str) -> bool {
    ABBREVIATED.iter().chain(SHORT).any(|(short, _)| *short == word)
}

/// The words that short ones stand for; `None`: there are none.
pub(super) fn long(words: &[String]) -> Option<Vec<String>> {
    let of = |word: &String| {
        let found = ABBREVIATED.iter().find(|(short, _)| word == short);
        found.map_or_else(|| word.clone(), |(_, long)| (*long).to_owned())
    };
    if words.len() < 2 {
        return None;
    }
    let long: Vec<String> = words.iter().map(of).collect();
    (long != words).then_some(long)
}

/// `patientEmail_Address2` → `patient`, `email`, `address`, `2`.
pub(in super::super) fn words(raw: &[u8]) -> Vec<String> {
    // Salesforce's mark of a field of one's own.
    let raw = fold(raw.strip_suffix(b"__c").unwrap_or(raw));
    let mut words: Vec<String> = Vec::new();
    // `memberIDs`: of a word in capitals.
    let is_plural =
        |at: usize| raw.get(at + 1) == Some(&b's') && !raw.get(at + 2).is_some_and(u8::is_ascii_lowercase);
    let mut before = 0u8;
    for (at, &byte) in raw.iter().enumerate() {
        let after = raw.get(at + 1).copied().unwrap_or(0);
        let begins = match byte {
            b'A'..=b'Z' => !before.is_ascii_uppercase() || after.is_ascii_lowercase() && !is_plural(at),
            b'0'..=b'9' => !before.is_ascii_digit() && !before.is_ascii_alphabetic(),
            b'a'..=b'z' | 0x80.. => !before.is_ascii_alphanumeric() && before < 0x80,
            _ => {
                before = byte;
                continue;
            }
        };
        if begins || words.is_empty() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut()
            && byte.is_ascii()
        {
            word.push(char::from(byte.to_ascii_lowercase()));
        }
        before = byte;
    }
    words.retain(|word| !word.is_empty());
    // `Policy #`
    if raw.ends_with(b"#") && !words.is_empty() {
        words.push("number".to_owned());
    }
    for word in words.iter_mut().skip(1) {
        if let Some((_, long)) = SHORT.iter().find(|(short, _)| word == short) {
            (*long).clone_into(word);
        }
    }
    words
}

/// A name in another script than Latin, without what stands between its words; `None`: it is in Latin.
pub(super) fn of_other_script(raw: &[u8]) -> Option<String> {
    if raw.is_ascii() {
        return None;
    }
    let folded = fold(raw);
    let text = std::str::from_utf8(&folded).ok()?;
    let letters = text.chars().filter(|letter| letter.is_alphanumeric());
    let name: String = letters.flat_map(char::to_lowercase).collect();
    (!name.is_ascii()).then_some(name)
}

/// Letters of Latin as those of ASCII that they come from: `prénom` → `prenom`, `straße` → `strasse`.
pub(in super::super) fn fold(raw: &[u8]) -> Cow<'_, [u8]> {
    if raw.is_ascii() {
        return Cow::Borrowed(raw);
    }
    let Ok(text) = std::str::from_utf8(raw) else {
        return Cow::Borrowed(raw);
    };
    let mut folded = String::with_capacity(text.len());
    for letter in text.chars() {
        let lower = letter.to_lowercase().next().unwrap_or(letter);
        let plain = match lower {
            'à'..='å' | 'ā' | 'ă' | 'ą' => "a",
            'æ' => "ae",
            'ç' | 'ć' | 'č' => "c",
            'ď' | 'đ' | 'ð' => "d",
            'è'..='ë' | 'ē' | 'ė' | 'ę' | 'ě' => "e",
            'ğ' | 'ģ' => "g",
            'ì'..='ï' | 'ī' | 'į' | 'ı' => "i",
            'ķ' => "k",
            'ł' | 'ļ' | 'ľ' => "l",
            'ñ' | 'ń' | 'ň' | 'ņ' => "n",
            'ò'..='ö' | 'ø' | 'ō' | 'ő' => "o",
            'œ' => "oe",
            'ř' => "r",
            'ß' => "ss",
            'ś' | 'š' | 'ş' | 'ș' => "s",
            'ť' | 'ț' => "t",
            'ù'..='ü' | 'ū' | 'ů' | 'ű' | 'ų' => "u",
            'ý' | 'ÿ' => "y",
            'ź' | 'ż' | 'ž' => "z",
            _ => {
                folded.push(letter);
                continue;
            }
        };
        match letter == lower {
            true => folded.push_str(plain),
            false => folded.push_str(&plain.to_ascii_uppercase()),
        }
    }
    Cow::Owned(folded.into_bytes())
}

/// The last three letters of names, as a set: it says quickly that a word is none of them.
pub(super) struct Ends(Box<[u64; ENDS_BITS / 64]>);

const ENDS_BITS: usize = 1 << 15;

impl Default for Ends {
    fn default() -> Ends {
        Ends(Box::new([0; ENDS_BITS / 64]))
    }
}

impl Ends {
    /// Five bits a letter, whatever its case; other bytes have them in common with letters.
    fn bit(first: u8, second: u8, third: u8) -> usize {
        [first, second, third]
            .iter()
            .fold(0, |bit, byte| bit << 5 | usize::from(byte & 31))
    }

    pub fn add(&mut self, name: &[u8]) {
        let mut set = |bit: usize| self.0[bit / 64] |= 1 << (bit % 64);
        match name {
            [.., a, b, c] => set(Ends::bit(*a, *b, *c)),
            // Behind anything.
            [b, c] => (0..32).for_each(|a| set(Ends::bit(a, *b, *c))),
            _ => {}
        }
    }

    pub fn has(&self, name: &[u8]) -> bool {
        let bit = match name {
            [.., a, b, c] => Ends::bit(*a, *b, *c),
            [b, c] => Ends::bit(0, *b, *c),
            _ => return false,
        };
        self.0[bit / 64] & 1 << (bit % 64) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        for (name, expected) in [
            ("patientEmail_Address2", "patient email address2"),
            ("pr\u{e9}nom", "prenom"),
            ("STRASSE", "strasse"),
            ("Stra\u{df}enName", "strassen name"),
            ("N\u{ba}DeTel\u{c9}fono", "n de tel efono"),
            ("\u{c9}tatCivil", "etat civil"),
            ("LastNm", "last name"),
            ("nm", "nm"),
            ("zip-cd", "zip code"),
            ("Policy #", "policy number"),
            ("PatientIDs", "patient ids"),
            ("URLsOfIDs", "urls of ids"),
            ("isDstOn", "is dst on"),
            ("Member_ID__c", "member id"),
        ] {
            assert_eq!(words(name.as_bytes()).join(" "), expected, "{name}");
        }
    }

    #[test]
    fn the_end_of_a_name_is_known() {
        let mut ends = Ends::default();
        ["ssn", "nr", "memberid"]
            .iter()
            .for_each(|name| ends.add(name.as_bytes()));
        for (name, has) in [
            ("SSN", true),
            ("patient_ssn", true),
            ("Mobilnr", true),
            ("nr", true),
            ("member_Id", false),
            ("memberId", true),
            ("status", false),
            ("n", false),
            ("", false),
        ] {
            assert_eq!(ends.has(name.as_bytes()), has, "{name}");
        }
    }
}
