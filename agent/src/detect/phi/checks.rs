//! Check digits and plain forms that several detectors share.

use super::class::Fit;

/// ISO/IEC 7812-1 annex B; digits only.
pub(super) fn luhn(digits: &[u8]) -> bool {
    luhn_from(digits, 0)
}

/// Luhn with something already summed up, as of a prefix.
pub(super) fn luhn_from(digits: &[u8], start: u32) -> bool {
    let sum = digits.iter().rev().enumerate().fold(start, |sum, (at, digit)| {
        let digit = u32::from(digit - b'0');
        sum + match at % 2 {
            0 => digit,
            _ if digit > 4 => digit * 2 - 9,
            _ => digit * 2,
        }
    });
    sum % 10 == 0
}

/// `Checked` or `No`.
pub(super) fn checked(is: bool) -> Fit {
    if is { Fit::Checked } else { Fit::No }
}

/// A remainder of a decimal number of any length.
pub(super) fn modulo(digits: &[u8], by: u32) -> u32 {
    digits
        .iter()
        .fold(0, |rest, digit| (rest * 10 + u32::from(digit - b'0')) % by)
}

/// All are digits, and there are so many.
pub(super) fn is_digits(value: &[u8], length: usize) -> bool {
    value.len() == length && value.iter().all(u8::is_ascii_digit)
}

/// One digit again and again, or counted up: nobody's number, but every form's example.
pub(super) fn is_dummy(digits: &[u8]) -> bool {
    digits.windows(2).all(|pair| pair[0] == pair[1])
}

/// Letters and digits of a value, at most 64.
pub(super) fn bare(value: &[u8]) -> ([u8; 64], usize) {
    let mut bare = [0; 64];
    let mut length = 0;
    for byte in value.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        if length == bare.len() {
            break;
        }
        bare[length] = byte.to_ascii_uppercase();
        length += 1;
    }
    (bare, length)
}

/// Digits of a value, with nothing else but what separates them.
pub(super) fn digits_of(value: &[u8]) -> Option<([u8; 64], usize)> {
    let plain = value
        .iter()
        .all(|byte| byte.is_ascii_digit() || b" -./()+".contains(byte));
    if !plain || value.len() > 64 {
        return None;
    }
    let (mut digits, mut length) = ([0; 64], 0);
    for byte in value.iter().filter(|byte| byte.is_ascii_digit()) {
        digits[length] = *byte;
        length += 1;
    }
    Some((digits, length))
}

/// Words that stand where a value would: of schemas, forms and empty records.
pub(super) fn is_placeholder(value: &[u8]) -> bool {
    const NONE: &[&str] = &[
        "string",
        "text",
        "number",
        "integer",
        "boolean",
        "object",
        "array",
        "null",
        "none",
        "undefined",
        "unknown",
        "n/a",
        "na",
        "nil",
        "true",
        "false",
        "required",
        "optional",
        "yes",
        "no",
        "redacted",
        "[redacted]",
        "masked",
        "hidden",
        "date",
        "datetime",
        "format",
        "email",
        "phone",
        "name",
        "-",
        "--",
        "asked-declined",
        "male",
        "female",
        "unk",
        "asku",
        "anonymous",
        "anonymized",
        "default",
        "value",
        "test",
        "example",
        "varchar",
        "uuid",
    ];
    value.len() <= 14
        && NONE
            .iter()
            .any(|none| value.eq_ignore_ascii_case(none.as_bytes()))
}

/// What a form says of a field, where a value of it would stand: `can't be blank`, `Please enter a name`.
pub(super) fn is_message(value: &[u8]) -> bool {
    const SMALL: &[&[u8]] = &[b"is", b"be", b"has", b"are", b"too", b"not", b"your"];
    const ASKING: &[&[u8]] = &[
        b"please",
        b"enter",
        b"must",
        b"should",
        b"cannot",
        b"can't",
        b"required",
        b"invalid",
        b"already",
    ];
    value.contains(&b' ')
        && value.split(|byte| *byte == b' ').any(|word| {
            SMALL.contains(&word) || ASKING.iter().any(|asking| word.eq_ignore_ascii_case(asking))
        })
}

/// An address of machines: private, their own, or of no one.
pub(super) fn is_machine(address: std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(four) => {
            four.is_private()
                || four.is_loopback()
                || four.is_unspecified()
                || four.is_link_local()
                || four.is_broadcast()
                || four.is_multicast()
        }
        std::net::IpAddr::V6(six) => {
            six.is_loopback()
                || six.is_unspecified()
                || six.is_unique_local()
                || six.is_unicast_link_local()
                || six.is_multicast()
        }
    }
}

/// The same of a text.
pub(super) fn is_machine_text(value: &[u8]) -> bool {
    let address = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    address.is_some_and(is_machine)
}

/// Something is there.
pub(super) fn any(value: &[u8]) -> bool {
    !value.is_empty()
        && !is_placeholder(value)
        && !value.iter().all(|byte| b"*xX- .".contains(byte))
        && !is_bracketed(value)
}

/// `<string>`, `[RELIGION]`, `{{name}}`: what a value is to be put in the place of.
fn is_bracketed(value: &[u8]) -> bool {
    let inner = match value {
        [b'<', inner @ .., b'>'] | [b'[', inner @ .., b']'] | [b'{', inner @ .., b'}'] => inner,
        _ => return false,
    };
    let letters = || inner.iter().filter(|byte| byte.is_ascii_alphabetic());
    let one_case = letters().all(u8::is_ascii_lowercase) || letters().all(u8::is_ascii_uppercase);
    let signs = inner.iter().any(|byte| b"_{}".contains(byte));
    let plain = inner
        .iter()
        .all(|byte| byte.is_ascii_alphabetic() || b" _-{}.".contains(byte));
    // `[Marta Okafor]` is somebody.
    plain && (one_case || signs)
}

/// A code or number of somebody: short, no prose, with a digit.
pub(super) fn number(value: &[u8]) -> bool {
    (3..=40).contains(&value.len())
        && value.iter().any(u8::is_ascii_digit)
        && value
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-./_ :#".contains(byte))
        && any(value)
}

/// A code of a terminology: short, without spaces at its ends.
pub(super) fn code_or_text(value: &[u8]) -> bool {
    (2..=200).contains(&value.len()) && any(value) && !is_demand(value) && !is_type(value)
}

/// A type of FHIR, where a description of its types has them: `{"Claim.diagnosis": "CodeableConcept"}`.
fn is_type(value: &[u8]) -> bool {
    const TYPES: [&[u8]; 26] = [
        b"Annotation",
        b"Attachment",
        b"BackboneElement",
        b"Boolean",
        b"Code",
        b"CodeableConcept",
        b"CodeableReference",
        b"Coding",
        b"DateTime",
        b"DomainResource",
        b"Dosage",
        b"Element",
        b"Identifier",
        b"Integer",
        b"Money",
        b"Period",
        b"Quantity",
        b"Range",
        b"Ratio",
        b"Reference",
        b"Resource",
        b"SampledData",
        b"SimpleQuantity",
        b"String",
        b"Time",
        b"Timing",
    ];
    TYPES.contains(&value)
}

/// `is required`, `Diagnosis: required`, `must be a code`: what is said of a field, and no value of it.
fn is_demand(value: &[u8]) -> bool {
    const ENDS: [&[u8]; 5] = [
        b"is required",
        b": required",
        b"is invalid",
        b": invalid",
        b"are required",
    ];
    value.starts_with(b"must be")
        || value.starts_with(b"is too")
        || ENDS.iter().any(|end| value.ends_with(end))
}

/// A calendar date in one of the usual forms, with or without a time.
pub(super) fn date(value: &[u8]) -> bool {
    let mut groups = [0u32; 3];
    let mut lengths = [0usize; 3];
    let mut at = 0;
    for byte in value {
        match byte {
            b'0'..=b'9' => {
                lengths[at] += 1;
                groups[at] = groups[at]
                    .saturating_mul(10)
                    .saturating_add(u32::from(byte - b'0'));
            }
            b'-' | b'/' | b'.' | b' ' if at < 2 && lengths[at] > 0 => at += 1,
            _ => break,
        }
    }
    let [a, b, c] = groups;
    let year = |year: u32| (1850..=2150).contains(&year);
    let month_day = |month: u32, day: u32| (1..=12).contains(&month) && (1..=31).contains(&day);
    match lengths {
        // 19800214, 198002141530, 1980.
        [8 | 10 | 12 | 14, ..] => value.len() >= 8 && compact(value),
        [4, 0, _] => year(a) && value.len() <= 5,
        [4, 2, 0] => year(a) && (1..=12).contains(&b),
        [4, 1 | 2, 1 | 2] => year(a) && month_day(b, c),
        [1 | 2, 1 | 2, 4] => year(c) && (month_day(a, b) || month_day(b, a)),
        [1 | 2, 1 | 2, 2] => month_day(a, b) || month_day(b, a),
        _ => named_month(value),
    }
}

/// `YYYYMMDD…`
fn compact(value: &[u8]) -> bool {
    let number =
        |range: std::ops::Range<usize>| value.get(range).map_or(0, |digits| modulo(digits, 1_000_000));
    value[..8].iter().all(u8::is_ascii_digit)
        && (1850..=2150).contains(&number(0..4))
        && (1..=12).contains(&number(4..6))
        && (1..=31).contains(&number(6..8))
}

/// `14 Feb 1980`, `February 14, 1980`, `14 février 1980`
fn named_month(value: &[u8]) -> bool {
    const MONTHS: [&[u8; 3]; 12] = [
        b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
    ];
    /// As other languages write them, where they begin otherwise.
    #[rustfmt::skip]
    const OTHERS: &[&str] = &[
        "f\u{e9}vrier", "avril", "mai", "juin", "juillet", "ao\u{fb}t", "d\u{e9}cembre", "m\u{e4}rz", "maerz", "oktober", "dezember",
        "maart", "mei", "enero", "abril", "agosto", "diciembre", "gennaio", "maggio", "giugno", "luglio", "settembre", "ottobre",
        "dicembre", "fevereiro", "maio", "setembro", "outubro", "dezembro", "stycznia", "lutego", "kwietnia", "maja", "czerwca",
        "lipca", "sierpnia", "wrze\u{15b}nia", "pa\u{17a}dziernika", "listopada", "grudnia", "maj", "oktobra", "desember", "fevrier", "aout",
    ];
    if value.len() > 32 {
        return false;
    }
    let begins = |word: &[u8]| {
        let three = word.get(..3).unwrap_or_default();
        MONTHS.iter().any(|month| three.eq_ignore_ascii_case(*month))
    };
    let is_other = |word: &[u8]| {
        let is = |month: &&str| word.eq_ignore_ascii_case(month.as_bytes());
        OTHERS.iter().any(is)
    };
    // What is no letter of ASCII may be a blank, too: `14\u{a0}Feb\u{a0}1980`.
    let mut words = value.split(|byte| !byte.is_ascii_alphabetic());
    let mut others = value.split(|byte| !(byte.is_ascii_alphabetic() || *byte >= 0x80));
    let month = words.any(begins) || others.any(is_other);
    month && value.iter().filter(|byte| byte.is_ascii_digit()).count() >= 3
}
