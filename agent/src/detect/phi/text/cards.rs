//! Electronic business cards and calendars: a line each for what somebody is called, and where he is to be reached.
//!
//! Sources: RFC 6350 (vCard), RFC 5545 (iCalendar); lines as their older versions have them, too.

use super::super::class::Class;
use super::Evidence;
use super::people::{ends_in_institution, is_persons};
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

/// A line of one, taken apart.
struct Line<'a> {
    name: &'a [u8],
    /// From their first `;` on, which is at this place of the text.
    parameters: &'a [u8],
    parameters_at: usize,
    value: &'a [u8],
    value_at: usize,
}

fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut from = 0;
    text.split(|byte| *byte == b'\n').filter_map(move |line| {
        let start = from;
        from += line.len() + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = colon_of(line)?;
        let (property, value) = (&line[..colon], &line[colon + 1..]);
        let end = property
            .iter()
            .position(|byte| *byte == b';')
            .unwrap_or(property.len());
        let (name, parameters) = property.split_at(end);
        Some(Line {
            // `item1.TEL`
            name: name.rsplit(|byte| *byte == b'.').next().unwrap_or(name),
            parameters,
            parameters_at: start + end,
            value,
            value_at: start + colon + 1,
        })
    })
}

/// What is said of somebody, line by line. A card of an organization is nobody's.
pub(super) fn cards(text: &[u8], out: &mut dyn FnMut(Found)) {
    let mut of_nobody = false;
    for line in lines(text) {
        let Line {
            name,
            parameters,
            value,
            ..
        } = line;
        if name.eq_ignore_ascii_case(b"BEGIN") {
            of_nobody = text.get(line.value_at..).is_some_and(is_organizations);
        }
        if of_nobody {
            continue;
        }
        let mut tell = |class, at: usize, bytes: usize| {
            out(found(class, Evidence::Structure, CONFIDENCE, at, at + bytes));
        };
        if let Some(class) = class_of(name, parameters, value) {
            tell(class, line.value_at, value.len());
        } else if (name.eq_ignore_ascii_case(b"ATTENDEE") || name.eq_ignore_ascii_case(b"ORGANIZER"))
            && let Some((at, bytes)) = common_name(parameters)
        {
            tell(Class::Name, line.parameters_at + at, bytes);
        }
    }
}

/// The card says that it is of a company or a place, or gives its name as that of one. Each card of a text is looked through
/// once more for it, up to its end.
fn is_organizations(card: &[u8]) -> bool {
    const LINES_MAX: usize = 64;
    let (mut formatted, mut organization) = (&b""[..], &b""[..]);
    for line in lines(card).take(LINES_MAX) {
        let is = |known: &[u8]| line.name.eq_ignore_ascii_case(known);
        if is(b"END") {
            break;
        }
        if is(b"KIND") {
            return [&b"org"[..], b"organization", b"group", b"location"]
                .iter()
                .any(|kind| line.value.eq_ignore_ascii_case(kind));
        }
        if is(b"FN") {
            formatted = line.value;
        } else if is(b"ORG") {
            organization = line.value.split(|byte| *byte == b';').next().unwrap_or_default();
        }
    }
    !formatted.is_empty() && formatted == organization
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

/// `;CN="Marta Okafor"` of an individual: where it is, and how long.
fn common_name(parameters: &[u8]) -> Option<(usize, usize)> {
    let behind = |name: &[u8]| {
        let at = parameters
            .windows(name.len())
            .position(|window| window.eq_ignore_ascii_case(name))?;
        Some(at + name.len())
    };
    let is_one = |at: usize| {
        let kind = &parameters[at..];
        kind.get(..10)
            .is_some_and(|kind| kind.eq_ignore_ascii_case(b"INDIVIDUAL"))
    };
    if !behind(b";CUTYPE=").is_none_or(is_one) {
        return None;
    }
    let at = behind(b";CN=")?;
    let rest = &parameters[at..];
    let (skip, end) = match rest.first() {
        Some(b'"') => (1, b'"'),
        _ => (0, b';'),
    };
    let rest = &rest[skip..];
    let bytes = rest.iter().position(|byte| *byte == end).unwrap_or(rest.len());
    let name = &rest[..bytes];
    // Of a room, a list, or an address again.
    let is_name = name.contains(&b' ')
        && !name.iter().any(|byte| byte.is_ascii_digit() || *byte == b'@')
        && is_persons(name, true)
        && !ends_in_institution(name);
    is_name.then_some((at + skip, bytes))
}
