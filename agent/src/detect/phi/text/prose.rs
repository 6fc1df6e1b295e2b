//! What stands in prose: dates, numbers and names behind a word, emails. Each looks at a window of its own, and no
//! further.

use super::super::checks::{date, number};
use super::*;

/// GS1's check digit over 14 digits.
pub(super) fn gtin(digits: &[u8]) -> bool {
    if !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .enumerate()
        .map(|(at, digit)| u32::from(digit - b'0') * if at % 2 == 0 { 3 } else { 1 })
        .sum();
    sum.is_multiple_of(10)
}

pub(super) fn emails(text: &[u8], out: &mut dyn FnMut(Found)) {
    /// Files of screens have names like it.
    const FILES: &[&[u8]] = &[
        b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"css", b"js", b"html", b"ts",
    ];
    for at in memchr::memchr_iter(b'@', text) {
        let local = text[..at]
            .iter()
            .rev()
            .take(64)
            .take_while(|byte| byte.is_ascii_alphanumeric() || b"._%+-'".contains(byte) || **byte >= 0x80)
            .count();
        let domain = text[at + 1..]
            .iter()
            .take(253)
            .take_while(|byte| byte.is_ascii_alphanumeric() || b".-".contains(byte) || **byte >= 0x80)
            .count();
        let (start, mut end) = (at - local, at + 1 + domain);
        while end > at + 1 && matches!(text[end - 1], b'.' | b'-') {
            end -= 1;
        }
        let host = &text[at + 1..end];
        let top = host.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
        // In a URL it is the user of a server, and behind `git@` there is nobody.
        // `EMAIL;TYPE=HOME:m@mail.example` is none.
        let before = &text[start.saturating_sub(64)..start];
        let in_url = match before.last() {
            Some(b':') => {
                let token = before.rsplit(u8::is_ascii_whitespace).next().unwrap_or_default();
                let named = token[..token.len() - 1].to_ascii_lowercase();
                memchr::memmem::find(token, b"//").is_some()
                    || !(token.contains(&b';') || named.ends_with(b"mail"))
            }
            Some(b'/' | b'@') => true,
            _ => false,
        };
        let is = local > 0
            && host.contains(&b'.')
            && top.len() >= 2
            && top.iter().all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80)
            && !FILES.iter().any(|file| top.eq_ignore_ascii_case(file))
            && &text[start..at] != b"git"
            && (!in_url || text[..start].ends_with(b"mailto:"));
        if is {
            out(found(Class::Email, Evidence::Pattern, 95, start, end));
        }
    }
}

/// A date within the next words.
pub(super) fn date_in(window: &[u8]) -> Option<(usize, usize)> {
    let start = window.iter().position(u8::is_ascii_digit)?;
    let end = start
        + window[start..]
            .iter()
            .position(|byte| !(byte.is_ascii_digit() || b"-/.".contains(byte)))
            .unwrap_or(window.len() - start);
    let token = window[start..end].trim_suffix_byte(b'.');
    if token.len() >= 6 && date(token) {
        return Some((start, start + token.len()));
    }
    // `February 14, 1980`, `14 February 1980`
    let from = window[..start]
        .iter()
        .rposition(|byte| !(byte.is_ascii_alphabetic() || *byte == b' ' || *byte == b'.'))
        .map_or(0, |at| at + 1);
    let words = window[from..start].trim_ascii();
    let month = words.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let begin =
        start - (window[from..start].len() - window[from..start].trim_ascii_end().len()) - month.len();
    // `14 de septiembre de 1980`
    let rest = &window[start..window.len().min(start + 26)];
    let year = rest
        .windows(4)
        .position(|four| four.iter().all(u8::is_ascii_digit))?;
    for (from, to) in [(begin, start + year + 4), (start, start + year + 4)] {
        if window
            .get(from..to)
            .is_some_and(|text| text.iter().any(u8::is_ascii_alphabetic) && date(text))
        {
            return Some((from, to));
        }
    }
    None
}

trait TrimSuffixByte {
    fn trim_suffix_byte(&self, byte: u8) -> &Self;
}

impl TrimSuffixByte for [u8] {
    fn trim_suffix_byte(&self, byte: u8) -> &[u8] {
        self.strip_suffix(&[byte]).unwrap_or(self)
    }
}

/// A number with four digits or more, behind nothing but `number`, `is` and their kin.
pub(super) fn number_in(window: &[u8]) -> Option<(usize, usize)> {
    const BETWEEN: &[&[u8]] = &[
        b"number", b"no", b"num", b"nr", b"is", b"id", b"of", b"the", b"was", b"code",
    ];
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-/".contains(&byte);
    let mut at = 0;
    for _ in 0..4 {
        at += window[at..]
            .iter()
            .position(|byte| !b" :#=.-\t\"'(".contains(byte))?;
        // `<td>MRN</td><td>`
        while window[at] == b'<' {
            at += memchr::memchr(b'>', &window[at..])? + 1;
            at += window[at..].iter().position(|byte| !byte.is_ascii_whitespace())?;
        }
        // `756.9342.4200.80`; a dot at its end is a sentence's.
        let belongs = |at: usize| {
            let next = window.get(at + 1).is_some_and(u8::is_ascii_digit);
            is_part(window[at]) || window[at] == b'.' && next
        };
        let end = (at..window.len())
            .find(|at| !belongs(*at))
            .unwrap_or(window.len());
        let token = &window[at..end];
        if token.iter().filter(|byte| byte.is_ascii_digit()).count() >= 4
            && number(token)
            && !is_plain_date(token)
            // An amount has one.
            && token.iter().filter(|byte| **byte == b'.').count() != 1
        {
            return Some((at, end));
        }
        if !BETWEEN.iter().any(|word| token.eq_ignore_ascii_case(word)) {
            return None;
        }
        at = end;
    }
    None
}

fn is_plain_date(token: &[u8]) -> bool {
    token.iter().any(|byte| b"-/.".contains(byte)) && date(token)
}

/// Words up to the end of a sentence, of a line or of an item of a list.
pub(super) fn phrase_in(window: &[u8]) -> Option<(usize, usize)> {
    let start = window.iter().position(|byte| !b" :=\"'".contains(byte))?;
    let rest = &window[start..];
    let ends = |at: usize| {
        let last = matches!(
            rest[at],
            b'\n' | b'\r' | b';' | b',' | b'(' | b')' | b'"' | b'<' | b'{' | b'}' | b'['
        );
        last || rest[at] == b'.' && rest.get(at + 1).is_none_or(|next| next.is_ascii_whitespace())
    };
    let length = (0..rest.len()).find(|at| ends(*at)).unwrap_or(rest.len());
    let length = rest[..length].trim_ascii_end().len();
    (length >= 3 && rest[0].is_ascii_alphanumeric()).then_some((start, start + length))
}

/// Two or three words with capitals. Behind a colon also `Okafor, Marta`.
pub(in super::super) fn name_in(window: &[u8]) -> Option<(usize, usize)> {
    const TITLES: &[&[u8]] = &[b"Name", b"Mr", b"Mrs", b"Ms", b"Miss", b"Dr", b"Patient", b"Is"];
    const PARTICLES: &[&[u8]] = &[
        b"van", b"von", b"de", b"der", b"den", b"da", b"dos", b"di", b"del", b"della", b"la", b"le", b"bin",
        b"al", b"el", b"ter", b"ten", b"zu",
    ];
    let mut at = window.iter().position(|byte| !b" :.,#-=".contains(byte))?;
    let labelled = window[..at].contains(&b':');
    // `patient is`, `patient name:`
    for word in [b"name".as_slice(), b"is", b"was", b"named", b"ist", b"est", b"es"] {
        let rest = &window[at..];
        let is = rest
            .get(..word.len())
            .is_some_and(|text| text.eq_ignore_ascii_case(word))
            && !rest
                .get(word.len())
                .is_some_and(|next| next.is_ascii_alphabetic());
        if is {
            let next = at + word.len();
            at = next + window[next..].iter().position(|byte| !b" :.,=".contains(byte))?;
        }
    }
    let start = at;
    let (mut words, mut end) = (0, at);
    while words < 3 {
        let rest = &window[at..];
        let length = rest
            .iter()
            .position(|byte| !(byte.is_ascii_alphabetic() || b"'-".contains(byte) || *byte >= 0x80))
            .unwrap_or(rest.len());
        let word = &rest[..length];
        let capital = word
            .first()
            .is_some_and(|byte| byte.is_ascii_uppercase() || *byte >= 0xc3);
        let lower = word
            .iter()
            .skip(1)
            .any(|byte| byte.is_ascii_lowercase() || *byte >= 0x80);
        if !(capital && lower && length >= 2) {
            // `Marta van der Berg`
            if words > 0 && PARTICLES.contains(&word) && rest.get(length) == Some(&b' ') {
                at += length + 1;
                continue;
            }
            break;
        }
        if TITLES.contains(&word) {
            at += length;
            at += window[at..]
                .iter()
                .position(|byte| !b" .:".contains(byte))
                .unwrap_or(0);
            if words == 0 {
                continue;
            }
            break;
        }
        words += 1;
        end = at + length;
        match window.get(end) {
            Some(b' ') => at = end + 1,
            Some(b',') if labelled && words == 1 && window.get(end + 1) == Some(&b' ') => at = end + 2,
            _ => break,
        }
    }
    (words >= 2).then_some((start, end))
}
