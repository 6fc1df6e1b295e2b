//! Names before a colon, a `=` or a `#` in text: `Insurance ID: …`, `patient_id=…`. What a key of that name would say is
//! said of the value behind, if it has the form.

use super::super::text::{is_told, value_in};
use super::*;

/// Bytes of a label, and of what is looked at behind it.
const LABEL_BYTES_MAX: usize = 40;
const BEHIND_BYTES_MAX: usize = 48;
/// Labels of several words that are looked up in one text: they are seldom the same, and nothing is remembered of them.
const PHRASES_MAX: usize = 64;
/// The same of words before a `#`, in one body: any word may stand there.
const SIGNS_MAX: u16 = 1024;

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
        for at in memchr::memchr3_iter(b':', b'=', b'#', text) {
            let before = last_word(&text[..at]);
            let is_sign = text[at] == b'#' && self.signs < SIGNS_MAX;
            let is_known = is_sign || self.keys.may_end(before);
            if !is_known || !may_begin(&text[at + 1..]) {
                continue;
            }
            let label = label(before);
            if label.len() < 2 {
                continue;
            }
            self.signs += u16::from(is_sign);
            let found = match (is_sign, label.contains(&b' ')) {
                // `Chart # 482913`. Any word may stand there, so that nothing is remembered of it.
                (true, _) => {
                    let class = self.keys.class_of(label);
                    class.or_else(|| self.keys.class_of(&[label, b" number"].concat()))
                }
                (_, false) => self.keys.get(label, &self.shown).class,
                (_, true) if phrases < PHRASES_MAX => {
                    phrases += 1;
                    self.keys.class_of(label)
                }
                _ => None,
            };
            // `Dx:` says it in a text.
            let Some((id, says)) = found else { continue };
            if says != Says::It && !label.eq_ignore_ascii_case(b"dx") {
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
                self.hit(id, owner, Evidence::Context, 80, name, key, value);
            }
        }
    }
}

/// Behind the sign there is something that a value may begin with.
fn may_begin(rest: &[u8]) -> bool {
    let first = rest.iter().take(3).find(|byte| !b" \"'".contains(byte));
    first.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"(+".contains(byte))
}

/// What a sign stands behind, if its end is one of a word: `chart no.: …`, `ssn = …`. Most signs are in times and links.
fn last_word(before: &[u8]) -> &[u8] {
    let before = before.strip_suffix(b" ").unwrap_or(before);
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
