//! What stands behind a word that says what it is: telephone numbers of any country, plates, postal codes, addresses. Each
//! looks at a window, and at nothing that other text stands before.

use super::super::checks::{any, date, is_machine, is_placeholder, number};
use super::*;

/// What may stand between a word and what it says.
const BETWEEN: &[&[u8]] = &[
    b"number", b"no", b"num", b"nr", b"is", b"was", b"at", b"on", b"code", b"of", b"the", b"home", b"work",
    b"mobile", b"cell", b"private", b"privat", b"me", b"us",
];
/// Digits of a telephone number (ITU-T E.164 has up to 15), and of one that is written with a sign or without.
const DIGITS_MIN: usize = 7;
const DIGITS_MAX: usize = 15;
const DIGITS_SURE: usize = 9;
/// Groups of them.
const GROUPS_MAX: usize = 8;

/// Where what a word says begins, and whether a colon or its kin stands before.
fn begins(window: &[u8]) -> Option<(usize, bool)> {
    let (mut at, mut labelled) = (0, false);
    for _ in 0..4 {
        while let Some(byte) = window.get(at).filter(|byte| b" :.#=\t\r\n\"'".contains(byte)) {
            labelled |= matches!(byte, b':' | b'=' | b'#');
            at += 1;
        }
        // `<td>Phone</td><td>`
        while window.get(at) == Some(&b'<') {
            at += memchr::memchr(b'>', &window[at..])? + 1;
            at += window[at..].iter().position(|byte| !byte.is_ascii_whitespace())?;
            labelled = true;
        }
        let word = window[at..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphabetic())
            .count();
        let known = BETWEEN
            .iter()
            .any(|known| window[at..at + word].eq_ignore_ascii_case(known));
        if !known {
            return (at < window.len()).then_some((at, labelled));
        }
        at += word;
    }
    None
}

/// How many bytes stand between two groups of one telephone number, of which `rest` is what is behind the first.
fn gap(rest: &[u8]) -> Option<usize> {
    let length = rest
        .iter()
        .take(4)
        .take_while(|byte| b" -./()".contains(byte))
        .count();
    let gap = &rest[..length];
    let joins = match gap {
        [one] => *one != b'(',
        b") " | b" (" | b")-" | b")/" | b" / " | b" - " | b") (" => true,
        _ => false,
    };
    (joins && rest.get(length).is_some_and(u8::is_ascii_digit)).then_some(length)
}

/// A telephone number in groups, of any country. Without them it begins with a 0 or stands behind a colon; short ones have
/// signs between. `weak`: the word is one of other things as well, and the number has to begin as one.
fn phone_in(window: &[u8], weak: bool) -> Option<(usize, usize)> {
    let (start, labelled) = begins(window)?;
    let open = usize::from(matches!(window[start], b'(' | b'+'));
    let mut at = start + open;
    let (mut lengths, mut groups, mut total) = ([0usize; GROUPS_MAX], 0, 0);
    let mut signs = [0u8; GROUPS_MAX];
    let mut end = at;
    while groups < GROUPS_MAX {
        let length = window[at..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let over = window
            .get(at + length)
            .is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
        if length == 0 || over || total + length > DIGITS_MAX {
            break;
        }
        lengths[groups] = length;
        (groups, total, end) = (groups + 1, total + length, at + length);
        let Some(gap) = gap(&window[end..]).filter(|_| groups < GROUPS_MAX) else {
            break;
        };
        signs[groups] = window[end];
        at = end + gap;
    }
    let token = &window[start..end];
    let first = window[start + open..].first().copied()?;
    let formal = open > 0 || first == b'0';
    let signed = signs[1..groups.max(1)].iter().any(|sign| *sign != b' ');
    let dots = groups > 1 && signs[1..groups].iter().all(|sign| *sign == b'.');
    let years = groups == 2 && lengths[..2] == [4, 4] && matches!(first, b'1' | b'2');
    let is_date = token.split(|byte| *byte == b' ').next().is_some_and(date) && signed;
    let enough = match groups {
        0 => false,
        1 => first == b'0' && total >= DIGITS_SURE || labelled && !weak && total <= 11,
        _ => total >= DIGITS_SURE || signed && !weak,
    };
    let other =
        years || is_date || (dots && matches!(groups, 2 | 4)) || lengths[groups.saturating_sub(1)] < 2;
    let begun = !weak || formal || token.starts_with(b"1-") || token.starts_with(b"1 ");
    (enough && begun && !other && total >= DIGITS_MIN).then_some((start, end))
}

/// An address of version 6; those of version 4 are found where they stand.
fn ip_in(window: &[u8]) -> Option<(usize, usize)> {
    let (start, _) = begins(window)?;
    let length = window[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit() || **byte == b':')
        .count();
    let token = &window[start..start + length];
    let token = token
        .strip_suffix(b":")
        .filter(|rest| !rest.ends_with(b":"))
        .unwrap_or(token);
    let address: std::net::Ipv6Addr = std::str::from_utf8(token).ok()?.parse().ok()?;
    (!is_machine(address.into())).then_some((start, start + token.len()))
}

/// Capitals and digits in a group or two: `7XYZ482`, `AB95 CDE`, `B-MW 1234`.
fn plate_in(window: &[u8]) -> Option<(usize, usize)> {
    let (start, _) = begins(window)?;
    let group = |from: usize, signs: &[u8]| {
        window[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || signs.contains(byte))
            .count()
    };
    let mut end = start + group(start, b"-");
    if window.get(end) == Some(&b' ') {
        let second = group(end + 1, b"");
        let whole = window
            .get(end + 1 + second)
            .is_none_or(|byte| !byte.is_ascii_alphanumeric());
        if (2..=5).contains(&second) && whole {
            end += 1 + second;
        }
    }
    let plate = &window[start..end];
    let count = |of: fn(&u8) -> bool| plate.iter().filter(|byte| of(byte)).count();
    let (digits, letters) = (count(u8::is_ascii_digit), count(u8::is_ascii_uppercase));
    let whole = window.get(end).is_none_or(|byte| !byte.is_ascii_alphanumeric());
    // `7XYZ482`, `AB95`, `B-MW`; or `1885 BCD`, as in Spain.
    let mixed = plate.split(|byte| *byte == b' ').any(|group| {
        group.contains(&b'-')
            || group.iter().any(u8::is_ascii_digit) && group.iter().any(u8::is_ascii_uppercase)
    });
    let enough = (5..=9).contains(&(digits + letters));
    // `6Q 54681`, `KSW 506`, `155 GSW`.
    let two = plate.contains(&b' ') && (2..=5).contains(&digits) && (1..=3).contains(&letters);
    let usual = digits >= 2 && letters >= 2 && (mixed || (digits, letters) == (4, 3));
    (whole && enough && (usual || two)).then_some((start, end))
}

/// `https://marta.example/me`, `www.marta.example`: up to a space, without what a sentence ends in.
pub(super) fn url_in(window: &[u8]) -> Option<(usize, usize)> {
    let (start, _) = begins(window)?;
    let rest = &window[start..];
    let length = rest
        .iter()
        .position(|byte| byte.is_ascii_whitespace() || b"<>\"',;)".contains(byte))
        .unwrap_or(rest.len());
    let url = &rest[..length];
    let url = url.strip_suffix(b".").unwrap_or(url);
    let is = [b"https://".as_slice(), b"http://", b"www."]
        .iter()
        .any(|scheme| url.starts_with(scheme) && url[scheme.len()..].contains(&b'.'));
    is.then_some((start, start + url.len()))
}

/// Five digits, with four more or not, or letters and digits as in Britain.
fn postal_in(window: &[u8]) -> Option<(usize, usize)> {
    let (start, labelled) = begins(window)?;
    let group = |from: usize| {
        window[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric())
            .count()
    };
    let first = &window[start..start + group(start)];
    let mut end = start + first.len();
    let digits = first.iter().all(u8::is_ascii_digit);
    let ends = |end: usize| window.get(end).is_none_or(|byte| b" ,.;\n\r<\"')".contains(byte));
    if digits {
        if window.get(end) == Some(&b'-') && group(end + 1) == 4 {
            end += 5;
        }
        // `zip 12345 files`
        let counts = !labelled
            && window.get(end) == Some(&b' ')
            && window.get(end + 1).is_some_and(u8::is_ascii_lowercase);
        return (first.len() == 5 && ends(end) && !counts).then_some((start, end));
    }
    let second = window.get(end + 1..end + 4)?;
    let outward = (2..=4).contains(&first.len())
        && first[0].is_ascii_uppercase()
        && first.iter().any(u8::is_ascii_digit)
        && first
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let inward = second[0].is_ascii_digit() && second[1..].iter().all(u8::is_ascii_uppercase);
    (outward && inward && window[end] == b' ' && ends(end + 4)).then_some((start, end + 4))
}

/// `907 Julie Brook Suite 258,`: a number and words with capitals, up to a comma or the end of the line.
fn address_in(window: &[u8]) -> Option<(usize, usize)> {
    let (start, _) = begins(window)?;
    let digits = window[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if !(1..=6).contains(&digits) {
        return None;
    }
    let mut at = start + digits;
    let mut words = 0;
    for _ in 0..7 {
        match window.get(at) {
            Some(b' ') => at += 1,
            Some(b',' | b'\n' | b'\r') if words > 0 => return Some((start, at)),
            _ => return None,
        }
        let length = window[at..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || b"'.-".contains(byte) || **byte >= 0x80)
            .count();
        let first = window.get(at).copied().unwrap_or(b' ');
        if length == 0 || !(first.is_ascii_uppercase() || first.is_ascii_digit() || first >= 0x80) {
            return None;
        }
        words += usize::from(length > 2 && !first.is_ascii_digit());
        at += length;
    }
    None
}

/// Words for telephones that are said of other things, too.
const WEAK: [&[u8]; 5] = [b"call", b"contact", b"cell", b"mobile", b"handy"];

/// Ten digits may be anything: what stands before them says that they are a telephone's, or says it right before.
pub(super) fn is_called(before: &[u8]) -> bool {
    const SURE: [&str; 6] = ["phone", "tel", "t\u{e9}l", "reach", "number", "fax"];
    let from = memchr::memrchr(b'}', before).map_or(0, |at| at + 1);
    let before = before[from..].to_ascii_lowercase();
    let sure = SURE
        .iter()
        .any(|word| memchr::memmem::find(&before, word.as_bytes()).is_some());
    let words = before.split(|byte| !byte.is_ascii_alphabetic());
    let mut words = words.rev().filter(|word| !word.is_empty());
    sure || words
        .find(|word| !BETWEEN.contains(word))
        .is_some_and(|word| WEAK.contains(&word))
}

/// What a word for telephones, machines, vehicles and places says of what is behind it.
pub(super) fn said(mask: u64, word: &[u8], window: &[u8]) -> Option<(Class, usize, usize)> {
    let has = |class| mask & bit(class) != 0;
    let weak = WEAK.iter().any(|weak| word.eq_ignore_ascii_case(weak));
    let as_class = |class| move |(from, to)| (class, from, to);
    if has(Class::Phone) {
        phone_in(window, weak).map(as_class(Class::Phone))
    } else if has(Class::Fax) && window.first() == Some(&b'\n') {
        // `… fax`, and the next line is another.
        None
    } else if has(Class::Fax) {
        phone_in(window, false).map(as_class(Class::Fax))
    } else if has(Class::Ip) {
        ip_in(window).map(as_class(Class::Ip))
    } else if has(Class::Vehicle) {
        plate_in(window).map(as_class(Class::Vehicle))
    } else if word.first().is_some_and(|first| b"zZpP".contains(first)) {
        postal_in(window).map(as_class(Class::Address))
    } else {
        address_in(window).map(as_class(Class::Address))
    }
}

/// Something there was told; `told` is in order.
pub(in super::super) fn is_told(told: &[(usize, usize)], start: usize, end: usize) -> bool {
    let next = told.partition_point(|(_, to)| *to <= start);
    told.get(next).is_some_and(|(from, _)| *from < end)
}

/// `Not Provided`, `None Given`.
pub(in super::super) fn says_none(name: &[u8]) -> bool {
    let first = name.split(|byte| *byte == b' ').next().unwrap_or_default();
    is_placeholder(first) || first.eq_ignore_ascii_case(b"not")
}

/// An address of version 4 right there.
fn four_in(window: &[u8]) -> Option<(usize, usize)> {
    let (start, _) = begins(window)?;
    let is = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
    let length = window[start..].iter().take_while(is).count();
    let token = window[start..start + length].trim_ascii_end();
    let token = token.strip_suffix(b".").unwrap_or(token);
    let address: std::net::Ipv4Addr = std::str::from_utf8(token).ok()?.parse().ok()?;
    (!is_machine(address.into())).then_some((start, start + token.len()))
}

/// A word with a digit in it, up to a space: a password, or a token if it is as long as one.
fn secret_in(window: &[u8], class: Class) -> Option<(usize, usize)> {
    let start = window.iter().position(|byte| !b" :=\"'".contains(byte))?;
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\"',;&<>".contains(byte);
    let length = window[start..]
        .iter()
        .position(ends)
        .unwrap_or(window.len() - start);
    let secret = &window[start..start + length];
    let least = if class == Class::Token { 16 } else { 4 };
    let is = secret.len() >= least
        && (secret[0].is_ascii_alphanumeric()
            || class == Class::Password && b"!@#$%^&*_+?~".contains(&secret[0]))
        && secret.iter().any(u8::is_ascii_digit)
        && !secret.contains(&b'(')
        && any(secret);
    is.then_some((start, start + length))
}

/// What stands behind `password` or `PIN`, and `is`, `was`, `code`, up to a space, without what a sentence ends in.
fn word_behind(window: &[u8]) -> Option<(usize, usize)> {
    const BETWEEN: [&[u8]; 4] = [b"is", b"was", b"code", b"number"];
    let mut start = window
        .iter()
        .position(|byte| *byte != b' ')
        .filter(|start| *start == 1)?;
    let token = |start: usize| {
        let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\"',;<>".contains(byte);
        let rest = &window[start..];
        &rest[..rest.iter().position(ends).unwrap_or(rest.len())]
    };
    if BETWEEN.contains(&token(start)) {
        start += token(start).len() + 1;
        window.get(start)?;
    }
    let end = token(start).iter().rposition(|byte| !b".!?:".contains(byte))? + 1;
    Some((start, start + end))
}

/// A password in prose, where no sign stands before it: letters and digits together.
pub(super) fn secret_behind(window: &[u8]) -> Option<(usize, usize)> {
    let (start, end) = word_behind(window)?;
    let secret = &window[start..end];
    let has = |of: fn(&u8) -> bool| secret.iter().any(of);
    let is_mail = secret.contains(&b'@') && secret.contains(&b'.');
    let is = secret.len() >= 6
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && !is_mail
        && !has(|byte| b"_/".contains(byte));
    (is && any(secret)).then_some((start, end))
}

/// `PIN 5493`
pub(super) fn pin_in(window: &[u8]) -> Option<(usize, usize)> {
    let (start, end) = word_behind(window)?;
    let pin = &window[start..end];
    ((4..=5).contains(&pin.len()) && pin.iter().all(u8::is_ascii_digit)).then_some((start, end))
}

/// Six pairs of digits in base 16 (IEEE 802), behind nothing but a word or two.
pub(super) fn mac_in(window: &[u8]) -> Option<(usize, usize)> {
    let (start, _) = begins(window)?;
    let mac = window.get(start..start + 17)?;
    let sign = mac[2];
    let is = b":-".contains(&sign)
        && mac.iter().enumerate().all(|(at, byte)| match at % 3 {
            2 => *byte == sign,
            _ => byte.is_ascii_hexdigit(),
        });
    let whole = window
        .get(start + 17)
        .is_none_or(|byte| !byte.is_ascii_alphanumeric());
    (is && whole).then_some((start, start + 17))
}

/// `Failed password for root from 203.0.113.77 port 40022`
pub(super) fn comes_from(text: &[u8], start: usize, end: usize) -> bool {
    text[..start].ends_with(b"from ") && text[end..].starts_with(b" port ")
}

/// An address at a line's beginning, and behind it what servers write of a request: `203.0.113.7 - - [`.
pub(super) fn begins_line_of_log(text: &[u8], start: usize, end: usize) -> bool {
    let begins = start.checked_sub(1).is_none_or(|before| text[before] == b'\n');
    let rest = &text[end..text.len().min(end + 48)];
    begins && rest.starts_with(b" - ") && rest.contains(&b'[')
}

/// What stands in the line behind a label, if it is no label itself: `Allergies:\nPenicillin`.
fn line_in(window: &[u8]) -> Option<(usize, usize)> {
    let sign = window.iter().position(|byte| !b": ".contains(byte))?;
    let rest = window[sign..].strip_prefix(b"\n")?;
    let line = rest.split(|byte| *byte == b'\n').next()?;
    let (from, to) = phrase_in(rest).filter(|(from, _)| *from == 0 && !line.contains(&b':'))?;
    Some((sign + 1 + from, sign + 1 + to))
}

/// `AB+`, `O neg`: a blood group.
fn blood_in(window: &[u8]) -> Option<(usize, usize)> {
    let start = window.iter().position(|byte| !b" :=\"'".contains(byte))?;
    let rest = &window[start..];
    let group = rest.iter().take_while(|byte| b"ABO".contains(byte)).count();
    let signs: [&[u8]; 8] = [b"+", b"-", b" +", b" -", b" pos", b" neg", b" Pos", b" Neg"];
    let sign = signs.iter().find(|sign| rest[group..].starts_with(sign))?;
    let is = matches!(&rest[..group], b"A" | b"B" | b"AB" | b"O");
    is.then_some((start, start + group + sign.len()))
}

/// `GG 97 50 26 C`: a number in groups of capitals and digits, each by a space.
pub(super) fn groups_in(window: &[u8]) -> Option<(usize, usize)> {
    let (start, _) = begins(window)?;
    let (mut end, mut groups, mut digits) = (start, 0, 0);
    while groups < 6 {
        let from = if groups == 0 { start } else { end + 1 };
        let group = window.get(from..).unwrap_or_default();
        let length = group
            .iter()
            .take_while(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
            .count();
        let whole = group.get(length).is_none_or(|byte| !byte.is_ascii_alphanumeric());
        if !(1..=4).contains(&length) || !whole {
            break;
        }
        digits += group[..length]
            .iter()
            .filter(|byte| byte.is_ascii_digit())
            .count();
        (end, groups) = (from + length, groups + 1);
        if window.get(end) != Some(&b' ') {
            break;
        }
    }
    (groups >= 3 && digits >= 5).then_some((start, end))
}

/// `First name: Marta`, `first_name=Marta`: a word with a capital, and nothing behind it in its line or its list.
fn one_name_in(window: &[u8]) -> Option<(usize, usize)> {
    let start = window.iter().position(|byte| !b" :=\"'".contains(byte))?;
    let is = |byte: &&u8| byte.is_ascii_alphabetic() || b"'-".contains(byte) || **byte >= 0x80;
    let end = start + window[start..].iter().take_while(is).count();
    let capital = window[start].is_ascii_uppercase() || window[start] >= 0xc3;
    let ends = match window.get(end) {
        None | Some(b'\n' | b'\r' | b',' | b';' | b'"' | b'\'' | b'|') => true,
        Some(b' ') => window.first() == Some(&b'='),
        Some(_) => false,
    };
    (capital && ends && end - start >= 2).then_some((start, end))
}

/// What a label says of what stands behind it, of which the sign between is the first; `class` is the label's.
pub(in super::super) fn value_in(window: &[u8], class: Class) -> Option<(usize, usize)> {
    let first = |found: Option<(usize, usize)>| {
        let at = window.iter().position(|byte| !b" :=#\"'\n".contains(byte))?;
        found.filter(|(start, _)| *start == at)
    };
    match class {
        Class::BirthDate | Class::DeathDate | Class::Date => first(date_in(window)),
        Class::Phone | Class::Fax => first(phone_in(window, false)),
        Class::Ip => first(ip_in(window)).or_else(|| four_in(window)),
        Class::Vehicle => first(plate_in(window)),
        Class::Name => first(name_in(window).or_else(|| one_name_in(window)))
            .filter(|(start, end)| !says_none(&window[*start..*end])),
        Class::Address => first(address_in(window).or_else(|| postal_in(window))),
        Class::Mrn
        | Class::PatientId
        | Class::HealthPlan
        | Class::Licence
        | Class::Passport
        | Class::Account
        | Class::Device => first(number_in(window))
            .filter(|(start, end)| number(&window[*start..*end]))
            .or_else(|| (class == Class::Device).then(|| first(mac_in(window))).flatten())
            .or_else(|| first(groups_in(window))),
        Class::Diagnosis
        | Class::Procedure
        | Class::Medication
        | Class::Allergy
        | Class::Ethnicity
        | Class::Religion => first(phrase_in(window).or_else(|| line_in(window)))
            .filter(|(start, end)| any(&window[*start..*end]) && !says_none(&window[*start..*end]))
            .filter(|(start, end)| !window[*start..*end].contains(&b'_')),
        Class::Observation => first(blood_in(window)),
        Class::Password | Class::Token => secret_in(window, class),
        // By their check digits, or by a form that says as much.
        Class::Ssn
        | Class::Npi
        | Class::Dea
        | Class::Mbi
        | Class::NhsNumber
        | Class::Bsn
        | Class::Nir
        | Class::SteuerId
        | Class::Sin
        | Class::Card
        | Class::Iban => {
            let (start, _) = begins(window)?;
            let is = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'-';
            let end = start + window[start..].iter().take_while(is).count();
            let fits = (class.detector().fits)(&window[start..end]);
            fits.then_some((start, end))
        }
        _ => None,
    }
}
