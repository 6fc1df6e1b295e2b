//! Names before a colon, a `=` or a `#` in text: `Insurance ID: …`, `patient_id=…`; and before a number, `claim number 88…`.
//! What a key of that name would say is said of the value behind, if it has the form.

use super::super::text::{is_persons, is_told, name_in, value_in};
use super::*;

/// Bytes of a label, and of what is looked at behind it.
const LABEL_BYTES_MAX: usize = 40;
const BEHIND_BYTES_MAX: usize = 48;
/// Labels of several words that are looked up in one text: they are seldom the same, and nothing is remembered of them.
const PHRASES_MAX: usize = 64;

impl Walk {
    /// `told`: what was found so far, in no order.
    pub(super) fn labels(
        &mut self,
        text: &[u8],
        name: &[u8],
        key: Key,
        owner: Owner,
        told: &mut [(usize, usize)],
    ) {
        let (mut phrases, mut is_sorted) = (0, false);
        let mut is_personal = !told.is_empty();
        for (at, sign) in signs(text) {
            let before = match sign {
                b' ' => behind_verb(&text[..at]),
                _ => last_word(&text[..at]),
            };
            if !may_begin(&text[at + 1..]) {
                continue;
            }
            // Whatever is looked at is near: a hostile text has a sign at every other byte.
            let behind = &text[at + 1..text.len().min(at + BEHIND_BYTES_MAX)];
            let found = self.said_by(before, sign, behind, is_personal, &mut phrases);
            let label = label(before);
            // `Dx:` says it in a text.
            let Some((id, says)) = found else { continue };
            let is_beside = is_personal && is_number(id);
            if says != Says::It && !is_beside && !label.eq_ignore_ascii_case(b"dx") {
                continue;
            }
            let Some(class) = DETECTORS.get(usize::from(id)).map(|detector| detector.class) else {
                continue;
            };
            let window = &text[at..text.len().min(at + BEHIND_BYTES_MAX)];
            let Some((from, to)) = value_in(window, class) else {
                continue;
            };
            if !is_sorted {
                told.sort_unstable();
                is_sorted = true;
            }
            let value = &window[from..to];
            if !is_told(told, at + from, at + to) && !self.keys.is_label(value, id) {
                is_personal = true;
                self.hit(id, owner, Evidence::Context, 80, name, key, value);
            }
        }
    }

    /// `Caller: Hayden Smith`, `Bill to: Jacob Luna`, and the names of mail: `From: Hayden Smith <h.smith@mail.example>`.
    fn names_somebody(&mut self, label: &[u8], behind: &[u8], is_personal: bool) -> bool {
        const TO: [&[u8]; 4] = [b"bill to", b"ship to", b"sold to", b"attn"];
        const OF_MAIL: [&[u8]; 5] = [b"from", b"to", b"cc", b"reply-to", b"bcc"];
        let is_one_of = |list: &[&[u8]]| list.iter().any(|known| label.eq_ignore_ascii_case(known));
        let is = |from, to| is_persons(&behind[from..to], is_personal);
        let Some((_, to)) = name_in(behind).filter(|(from, to)| is(*from, *to)) else {
            return false;
        };
        let last = label.rsplit(|byte| *byte == b' ').next().unwrap_or(label);
        is_one_of(&TO)
            || is_one_of(&OF_MAIL) && behind[to..].starts_with(b" <")
            || self.keys.get(last, &self.shown).names.is_some()
    }

    /// What the words before a sign say of what is `behind` it. `is_personal`: the text has something else of somebody.
    /// `phrases`: those of several words that were looked up.
    fn said_by(
        &mut self,
        before: &[u8],
        sign: u8,
        behind: &[u8],
        is_personal: bool,
        phrases: &mut usize,
    ) -> Option<(ClassId, Says)> {
        // Most signs are in times and links.
        let may_end = self.keys.may_end(before);
        let first = behind.iter().find(|byte| **byte != b' ').copied().unwrap_or(0);
        let may_be_alone = first.is_ascii_digit() || first.is_ascii_uppercase();
        if before.len() < 2 || !may_end && !may_be_alone && sign != b'#' {
            return None;
        }
        let label = label(before);
        if label.len() < 2 {
            return None;
        }
        match sign {
            // `Chart # 482913`. Any word may stand there, so that nothing is remembered of it.
            b'#' if self.signs < SIGNS_MAX => {
                self.signs += 1;
                let class = self.keys.class_of(label);
                class.or_else(|| self.keys.class_of(&[label, b" number"].concat()))
            }
            b' ' | b':' if let Some(said) = said_alone(label, behind).filter(|_| is_personal) => Some(said),
            b':' if self.names_somebody(label, behind, is_personal) => {
                Some((Class::Name as ClassId, Says::It))
            }
            _ if !may_end => None,
            _ if sign == b' ' || label.contains(&b' ') => {
                *phrases += 1;
                let known = (*phrases <= PHRASES_MAX)
                    .then(|| self.keys.class_of(label))
                    .flatten();
                known.filter(|(id, _)| sign != b' ' || is_number(*id))
            }
            _ => self.keys.get(label, &self.shown).class,
        }
    }
}

/// Where a label may end, and by what: a space is one before a number, or before what has its capitals and digits.
fn signs(text: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let is_number = |at: usize| {
        // Most words are none.
        let first = text.get(at + 1).copied().unwrap_or(0);
        if !(first.is_ascii_digit() || first.is_ascii_uppercase()) {
            return false;
        }
        let token = text[at + 1..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase() || b"-/".contains(byte));
        token.filter(|byte| byte.is_ascii_digit()).take(4).count() == 4
    };
    let of_space = memchr::memchr_iter(b' ', text)
        .filter(move |at| is_number(*at))
        .map(|at| (at, b' '));
    let of_sign = memchr::memchr3_iter(b':', b'=', b'#', text).map(|at| (at, text[at]));
    of_sign.chain(of_space)
}

/// Classes of numbers, which are told without a sign between.
fn is_number(class: ClassId) -> bool {
    const NUMBERS: [Class; 7] = [
        Class::Mrn,
        Class::PatientId,
        Class::HealthPlan,
        Class::Licence,
        Class::Passport,
        Class::Account,
        Class::Device,
    ];
    NUMBERS.iter().any(|number| *number as ClassId == class)
}

/// `Chart 482913`: one word that is said so of a number that is as long as those are, and of much else before others.
fn said_alone(label: &[u8], behind: &[u8]) -> Option<(ClassId, Says)> {
    const WORDS: &[(&[u8], Class)] = &[
        (b"account", Class::Account),
        (b"acct", Class::Account),
        (b"routing", Class::Account),
        (b"claim", Class::Account),
        (b"chart", Class::Mrn),
        (b"patient", Class::PatientId),
        (b"member", Class::HealthPlan),
        (b"policy", Class::HealthPlan),
        (b"subscriber", Class::HealthPlan),
        (b"passport", Class::Passport),
        (b"license", Class::Licence),
        (b"licence", Class::Licence),
        (b"serial", Class::Device),
        (b"device", Class::Device),
    ];
    const DIGITS_MIN: usize = 5;
    let word = label.rsplit(|byte| *byte == b' ').next()?;
    let (_, class) = WORDS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known))?;
    let token = behind
        .trim_ascii_start()
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-');
    let digits = token.filter(|byte| byte.is_ascii_digit()).count();
    (digits >= DIGITS_MIN).then_some((*class as ClassId, Says::It))
}

/// `Her member number is 88…`: what the verb says it of.
fn behind_verb(before: &[u8]) -> &[u8] {
    const VERBS: [&[u8]; 5] = [b" is", b" was", b" ist", b" est", b" es"];
    let verb = VERBS.iter().find_map(|verb| before.strip_suffix(*verb));
    last_word(verb.unwrap_or(before))
}

/// Behind the sign there is something that a value may begin with.
fn may_begin(rest: &[u8]) -> bool {
    let first = rest.iter().take(12).find(|byte| !b" \t\"'\n".contains(byte));
    first.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"(+!@#$%^&*_?~".contains(byte))
}

/// What a sign stands behind, if its end is one of a word: `chart no.: …`, `ssn = …`. Most signs are in times and links.
fn last_word(before: &[u8]) -> &[u8] {
    let before = before.strip_suffix(b" ").unwrap_or(before);
    let before = before.strip_suffix(b"\"").unwrap_or(before);
    let before = before.strip_suffix(b".").unwrap_or(before);
    match before.last() {
        Some(last) if last.is_ascii_alphabetic() => before,
        _ => b"",
    }
}

/// The last words before a sign, three at most.
fn label(before: &[u8]) -> &[u8] {
    let end = before.len();
    let from = end.saturating_sub(LABEL_BYTES_MAX);
    let (mut start, mut spaces) = (end, 0);
    while start > from {
        let byte = before[start - 1];
        let is = match byte {
            b' ' => {
                spaces += 1;
                spaces < 3
            }
            _ => byte.is_ascii_alphanumeric() || b"_-.'".contains(&byte) || byte >= 0x80,
        };
        if !is {
            break;
        }
        start -= 1;
    }
    before[start..end].trim_ascii()
}
