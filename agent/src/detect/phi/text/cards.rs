//! Electronic business cards and calendars: a line each for what somebody is called, and where he is to be reached.
//!
//! Sources: RFC 6350 (vCard), RFC 5545 (iCalendar); lines as their older versions have them, too.

use super::super::class::Class;
use super::Evidence;
use super::{Found, found};

const CARD: &[u8] = b"BEGIN:VCARD";
const CALENDAR: &[u8] = b"BEGIN:VCALENDAR";
/// By the place in a line.
const CONFIDENCE: u8 = 90;

/// The text is one of them, or several.
pub(super) fn are(text: &[u8]) -> bool {
    [CARD, CALENDAR].iter().any(|begin| {
        text.get(..begin.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(begin))
    })
}

/// What is said of somebody, line by line.
pub(super) fn cards(text: &[u8], out: &mut dyn FnMut(Found)) {
    let mut from = 0;
    for line in text.split(|byte| *byte == b'\n') {
        let start = from;
        from += line.len() + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = colon_of(line) else { continue };
        let (property, value) = (&line[..colon], &line[colon + 1..]);
        let end = property
            .iter()
            .position(|byte| *byte == b';')
            .unwrap_or(property.len());
        let (name, parameters) = property.split_at(end);
        // `item1.TEL`
        let name = name.rsplit(|byte| *byte == b'.').next().unwrap_or(name);
        let mut tell = |class, at: usize, bytes: usize| {
            out(found(class, Evidence::Structure, CONFIDENCE, at, at + bytes));
        };
        if let Some(class) = class_of(name, parameters, value) {
            tell(class, start + colon + 1, value.len());
        } else if (name.eq_ignore_ascii_case(b"ATTENDEE") || name.eq_ignore_ascii_case(b"ORGANIZER"))
            && let Some((at, bytes)) = common_name(parameters)
        {
            tell(Class::Name, start + end + at, bytes);
        }
    }
}

/// Behind the name and its parameters, of which some are in quotes.
fn colon_of(line: &[u8]) -> Option<usize> {
    let mut quoted = false;
    line.iter().position(|byte| {
        quoted ^= *byte == b'"';
        *byte == b':' && !quoted
    })
}

/// What a property's value is of somebody, if it has one.
fn class_of(name: &[u8], parameters: &[u8], value: &[u8]) -> Option<Class> {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    let letters = || {
        value
            .iter()
            .any(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80)
    };
    let digits = |least: usize| {
        value
            .iter()
            .filter(|byte| byte.is_ascii_digit())
            .take(least)
            .count()
            == least
    };
    let is_fax = || {
        parameters
            .windows(3)
            .any(|three| three.eq_ignore_ascii_case(b"fax"))
    };
    Some(match () {
        () if (is(b"FN") || is(b"N") || is(b"NICKNAME")) && letters() => Class::Name,
        () if is(b"TEL") && digits(5) && is_fax() => Class::Fax,
        () if is(b"TEL") && digits(5) => Class::Phone,
        () if (is(b"ADR") || is(b"LABEL")) && letters() => Class::Address,
        () if is(b"BDAY") && digits(4) => Class::BirthDate,
        () if is(b"DEATHDATE") && digits(4) => Class::DeathDate,
        () if is(b"PHOTO") && value.len() > 8 => Class::Photo,
        () => return None,
    })
}

/// `;CN="Marta Okafor"`: where it is, and how long.
fn common_name(parameters: &[u8]) -> Option<(usize, usize)> {
    let at = parameters
        .windows(4)
        .position(|four| four.eq_ignore_ascii_case(b";CN="))?
        + 4;
    let rest = &parameters[at..];
    let (skip, end) = match rest.first() {
        Some(b'"') => (1, b'"'),
        _ => (0, b';'),
    };
    let rest = &rest[skip..];
    let bytes = rest.iter().position(|byte| *byte == end).unwrap_or(rest.len());
    // Of a room, a list, or an address again.
    let name = &rest[..bytes];
    let is_name = name.contains(&b' ') && !name.iter().any(|byte| byte.is_ascii_digit() || *byte == b'@');
    is_name.then_some((at + skip, bytes))
}
