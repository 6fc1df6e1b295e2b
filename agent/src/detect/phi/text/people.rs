//! Names of people in prose: behind a title, a greeting, or a word that says who somebody is.

use super::given::{is_given, is_only_given};
use super::is_word;
use super::others::OTHERS;
use super::prose::name_in;
use super::surnames::is_surname;

/// Words that say it where they are written small or begin a sentence, and the row of capitals ends with the name: within a
/// title they are of many things, `Customer Service Desk`.
const SMALL: &[&[u8]] = &[
    b"candidate",
    b"landlord",
    b"customer",
    b"owner",
    b"owner is",
    b"contact",
    b"caller",
    b"employee",
    b"client",
    b"tenant",
    b"driver",
    b"passenger",
    b"recipient",
    b"sender",
    b"donor",
    b"witness",
    b"student",
    b"teacher",
    b"therapist",
    b"provider",
    b"physician",
    b"surgeon",
    b"nurse",
    b"user",
    b"member",
    b"subscriber",
    b"resident",
    b"participant",
    b"belongs to",
    b"held by",
    b"issued to",
    b"signed by",
    b"seen by",
    b"referred by",
    b"parent of",
    b"created for",
    b"letter for",
    b"results for",
    b"appointment for",
    b"prescription for",
];
/// Those that say it anyhow.
const SURE: &[&[u8]] = &[
    b"applicant",
    b"policyholder",
    b"cardholder",
    b"beneficiary",
    b"guarantor",
    b"renter",
    b"spouse",
    b"wife",
    b"husband",
    b"daughter",
    b"mother",
    b"father",
    b"sister",
    b"brother",
    b"caregiver",
    b"taxpayer",
    b"plaintiff",
    b"defendant",
    b"attorney",
    b"signed electronically by",
    b"electronically signed by",
    b"pt",
    b"paciente",
    b"paziente",
    b"pacjent",
    b"pacjentka",
    b"kontoinhaber",
    b"account holder",
    b"visitor",
    b"starter",
    b"widow",
    b"fiancee",
    b"son",
];
/// Bytes of a line's beginning, and of the next one's.
const LETTER_BYTES: usize = 64;
/// Behind them a letter is signed.
const FAREWELLS: &[&[u8]] = &[
    b"regards",
    b"sincerely",
    b"wishes",
    b"thanks",
    b"you",
    b"cheers",
    b"truly",
    b"faithfully",
    b"gruessen",
    b"cordialement",
    b"saludos",
    b"atentamente",
    b"cordiali",
    b"saluti",
];
/// Before them, on the same line.
const FAREWELLS_FIRST: &[&[u8]] = &[
    b"kind",
    b"kindest",
    b"best",
    b"warm",
    b"warmest",
    b"with",
    b"many",
    b"thank",
    b"yours",
    b"and",
    b"cordiali",
    b"distinti",
];
const GREETINGS: &[&[u8]] = &[
    b"dear",
    b"hi",
    b"hello",
    b"hey",
    b"estimado",
    b"estimada",
    b"gentile",
    b"cher",
    b"caro",
    b"cara",
    b"lieber",
    b"liebe",
    b"querido",
    b"querida",
    b"beste",
    b"geachte",
];
const TITLES: &[&[u8]] = &[
    b"mr",
    b"mrs",
    b"ms",
    b"miss",
    b"dr",
    b"prof",
    b"herr",
    b"frau",
    b"monsieur",
    b"madame",
    b"mme",
    b"mlle",
    b"dhr",
    b"mevr",
    b"mevrouw",
    b"signor",
    b"signora",
    b"senhor",
    b"senhora",
];
/// Behind a given name they make it a place or a house.
const PLACES: &[&[u8]] = &[
    b"airport",
    b"arena",
    b"avenue",
    b"bay",
    b"beach",
    b"boulevard",
    b"bridge",
    b"campus",
    b"cathedral",
    b"crescent",
    b"falls",
    b"foundation",
    b"garden",
    b"gardens",
    b"hall",
    b"harbor",
    b"harbour",
    b"heights",
    b"hotel",
    b"house",
    b"institute",
    b"island",
    b"islands",
    b"lake",
    b"library",
    b"mall",
    b"memorial",
    b"museum",
    b"parkway",
    b"plaza",
    b"prize",
    b"river",
    b"society",
    b"springs",
    b"square",
    b"station",
    b"terrace",
    b"tower",
    b"trust",
    b"valley",
];
/// Somebody has such a name: its first word is a given name, or the text `is_personal`, and none of its words is one of
/// other things.
pub(in super::super) fn is_persons(name: &[u8], is_personal: bool) -> bool {
    let mut words = words_of(name);
    let begins = || words.clone().next().is_some_and(is_given);
    (is_personal || begins()) && !words.any(is_other)
}

/// `Patient Discharge Summary`
fn is_heading(name: &[u8]) -> bool {
    words_of(name).all(is_other)
}

/// `Georgetown University`
pub(super) fn ends_in_institution(name: &[u8]) -> bool {
    const INSTITUTIONS: [&[u8]; 17] = [
        b"department",
        b"room",
        b"team",
        b"university",
        b"college",
        b"hospital",
        b"clinic",
        b"inc",
        b"llc",
        b"ltd",
        b"gmbh",
        b"school",
        b"institute",
        b"foundation",
        b"corporation",
        b"company",
        b"association",
    ];
    words_of(name)
        .last()
        .is_some_and(|last| INSTITUTIONS.iter().any(|known| last.eq_ignore_ascii_case(known)))
}

fn words_of(name: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    name.split(|byte| !(byte.is_ascii_alphabetic() || *byte >= 0x80 || b"'-".contains(byte)))
        .filter(|word| !word.is_empty())
}

fn is_other(word: &[u8]) -> bool {
    let folded = |known: &&[u8]| known.iter().copied().cmp(word.iter().map(u8::to_ascii_lowercase));
    OTHERS.binary_search_by(folded).is_ok()
}

/// The same by the name alone: it begins with a given name that is hardly anything else.
pub(in super::super) fn is_surely_persons(name: &[u8]) -> bool {
    let first = name.split(|byte| *byte == b' ').next().unwrap_or_default();
    let is_place = name
        .split(|byte| *byte == b' ')
        .any(|word| PLACES.iter().any(|place| word.eq_ignore_ascii_case(place)));
    is_only_given(first) && is_persons(name, false) && !is_place
}

/// The same where a key says that somebody is named: `Okafor, Marta`, `Dr. Marta N. Okafor`, `Jingtao Wang`.
pub(in super::super) fn names_somebody(name: &[u8]) -> bool {
    let name = untitled(name);
    let (last, first) = match name.iter().position(|byte| *byte == b',') {
        Some(comma) => (&name[..comma], name[comma + 1..].trim_ascii_start()),
        None => (name, name),
    };
    let family = || match last.len() == name.len() {
        true => words_of(last).filter(|word| !is_suffix(word)).last(),
        false => words_of(last).find(|word| !is_suffix(word)),
    };
    // `JP Morgan`, `MD Anderson`
    let is_abbreviated = || {
        let begin = words_of(name).next().unwrap_or_default();
        begin.len() == 2 && begin.iter().all(u8::is_ascii_uppercase)
    };
    if is_house(name) || last.len() < name.len() && is_of_map(first) {
        return false;
    }
    is_surely_persons(first)
        || family().is_some_and(is_surname)
            && words_of(name).count() <= 4
            && is_persons(name, true)
            && !is_abbreviated()
            && !words_of(name).next().is_some_and(is_of_place)
}

/// Companies, hospitals and schools that are called as people are, in lower case and without an `and`.
fn is_house(name: &[u8]) -> bool {
    #[rustfmt::skip]
    const HOUSES: [&[u8]; 36] = [
        b"baker hughes", b"baker tilly", b"brooks brothers", b"calvin klein", b"captain morgan", b"charles schwab",
        b"crate barrel", b"dow jones", b"eddie bauer", b"edward jones", b"eli lilly", b"ernst young", b"grant thornton",
        b"harley davidson", b"jackson hewitt", b"john deere", b"john hancock", b"johns hopkins", b"johnson johnson",
        b"kirkland ellis", b"marks spencer", b"mary kay", b"merrill lynch", b"michael kors", b"morgan stanley",
        b"parker hannifin", b"prince george", b"procter gamble", b"ralph lauren", b"raymond james", b"sherwin williams",
        b"smith nephew", b"tommy hilfiger", b"warby parker", b"warner bros", b"wells fargo",
    ];
    let lower = || {
        words_of(name)
            .filter(|word| !word.eq_ignore_ascii_case(b"and"))
            .flat_map(|word| word.iter().map(u8::to_ascii_lowercase).chain([b' ']))
    };
    HOUSES
        .iter()
        .any(|house| lower().eq(house.iter().copied().chain([b' '])))
}

/// `Norman, Oklahoma`: a state behind the comma.
fn is_of_map(rest: &[u8]) -> bool {
    #[rustfmt::skip]
    const STATES: [&[u8]; 28] = [
        b"alabama", b"alaska", b"arizona", b"arkansas", b"california", b"carolina", b"colorado", b"connecticut", b"dakota",
        b"delaware", b"florida", b"georgia", b"idaho", b"illinois", b"indiana", b"iowa", b"kansas", b"kentucky", b"louisiana",
        b"maine", b"maryland", b"michigan", b"minnesota", b"ohio", b"oklahoma", b"oregon", b"texas", b"virginia",
    ];
    let is_state = |word: &[u8]| STATES.iter().any(|state| word.eq_ignore_ascii_case(state));
    words_of(rest).next().is_some_and(is_state) || rest.len() == 2 && rest.iter().all(u8::is_ascii_uppercase)
}

/// What stands behind titles.
fn untitled(mut name: &[u8]) -> &[u8] {
    while let Some(end) = name.iter().position(|byte| *byte == b' ') {
        let word = name[..end].strip_suffix(b".").unwrap_or(&name[..end]);
        if !TITLES.iter().any(|title| word.eq_ignore_ascii_case(title)) {
            break;
        }
        name = name[end..].trim_ascii_start();
    }
    name
}

/// `Jr`, `III`, `MD`: behind a name.
fn is_suffix(word: &[u8]) -> bool {
    const SUFFIXES: [&[u8]; 12] = [
        b"jr", b"sr", b"ii", b"iii", b"iv", b"md", b"do", b"phd", b"rn", b"np", b"esq", b"dds",
    ];
    SUFFIXES.iter().any(|suffix| word.eq_ignore_ascii_case(suffix))
}

/// `New Orleans`, `Fort Wayne`
fn is_of_place(word: &[u8]) -> bool {
    const BEFORE: [&[u8]; 22] = [
        b"new", b"north", b"south", b"east", b"west", b"mount", b"saint", b"st", b"fort", b"port", b"lake",
        b"los", b"las", b"san", b"santa", b"the", b"big", b"grand", b"upper", b"lower", b"old", b"great",
    ];
    BEFORE.iter().any(|before| word.eq_ignore_ascii_case(before))
}

/// How a word says that a name is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cue {
    Title,
    Small,
    Sure,
    /// `patient`, `name`, in several languages.
    Other,
}

/// What a detector's word is.
pub(super) fn cue(word: &str) -> Cue {
    let is = |list: &[&[u8]]| list.contains(&word.as_bytes());
    match () {
        () if is(TITLES) => Cue::Title,
        () if is(SMALL) => Cue::Small,
        () if is(SURE) => Cue::Sure,
        () => Cue::Other,
    }
}

/// The name behind the word at `start..end`, counted from the word's end.
pub(super) fn name_behind(
    cue: Cue,
    text: &[u8],
    start: usize,
    end: usize,
    window: &[u8],
    is_personal: bool,
) -> Option<(usize, usize)> {
    let found = match cue {
        // `MME Pool Area`
        Cue::Title
            if end - start == 3
                && text[start..end].iter().all(u8::is_ascii_uppercase)
                && &text[start..end] != b"MRS" =>
        {
            return None;
        }
        Cue::Title => {
            let found = name_in(window).or_else(|| titled(text, start, end, window));
            return found.filter(|(from, to)| is_persons(&window[*from..*to], true));
        }
        Cue::Small if is_small(text, start) => name_in(window).filter(|(_, to)| !goes_on(&window[*to..])),
        Cue::Small => None,
        Cue::Sure => name_in(window),
        // `Patient: April West`
        Cue::Other => {
            return name_in(window).filter(|(from, to)| {
                let name = &window[*from..*to];
                (window[..*from].contains(&b':') || !is_heading(name)) && !ends_in_institution(name)
            });
        }
    };
    found.filter(|(from, to)| is_persons(&window[*from..*to], is_personal))
}

/// It is written small, or begins a sentence.
fn is_small(text: &[u8], start: usize) -> bool {
    let before = text[..start].trim_ascii_end().last();
    text[start].is_ascii_lowercase()
        || before.is_none_or(|byte| b".!?:;".contains(byte))
        || text[..start].ends_with(b"\n")
}

/// A row of capitals that goes on is a heading.
fn goes_on(rest: &[u8]) -> bool {
    matches!(rest, [b' ', next, ..] if next.is_ascii_uppercase())
}

/// `Mr. Hughes`, `Mrs Hughes`: one name behind a title, which is written as titles are. `Harbour Dr Suite 5` is a street.
fn titled(text: &[u8], start: usize, end: usize, window: &[u8]) -> Option<(usize, usize)> {
    let word = &text[start..end];
    let dotted = window.first() == Some(&b'.');
    // `il sig. Rossi`
    if !(word[0].is_ascii_uppercase() || dotted) || !word[1..].iter().all(u8::is_ascii_lowercase) {
        return None;
    }
    let before = text[..start].trim_ascii_end();
    let from = before
        .iter()
        .rposition(|byte| !byte.is_ascii_alphabetic())
        .map_or(0, |at| at + 1);
    let of_street = before[from..].first().is_some_and(u8::is_ascii_uppercase) && before.len() + 1 == start;
    if matches!(word, b"Dr") && !dotted && of_street {
        return None;
    }
    let begin = window
        .iter()
        .take(3)
        .position(|byte| !b". ".contains(byte))
        .filter(|begin| *begin > 0)?;
    one_name(window, begin).filter(|(from, to)| to - from >= 3)
}

/// Whom a letter greets, and who signs it: at the beginning of a line. The words are too short and too common to be looked
/// for everywhere.
pub(super) fn of_letters(text: &[u8], is_personal: bool, out: &mut dyn FnMut(usize, usize)) {
    let begins = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text).map(|at| at + 1));
    for line in begins {
        let rest = &text[line..text.len().min(line + LETTER_BYTES)];
        if !rest
            .first()
            .is_some_and(|first| b"abcdefghklmqrstwy".contains(&first.to_ascii_lowercase()))
        {
            continue;
        }
        let word = |from: usize| {
            let letters = rest[from..].iter().take_while(|byte| byte.is_ascii_alphabetic());
            from + letters.count()
        };
        let (mut from, mut end) = (0, word(0));
        let is = |from: usize, end: usize, list: &[&[u8]]| {
            (2..=12).contains(&(end - from))
                && list.iter().any(|word| rest[from..end].eq_ignore_ascii_case(word))
        };
        // `Kind regards`, `With best wishes`
        for _ in 0..3 {
            if rest.get(end) != Some(&b' ') || !is(from, end, FAREWELLS_FIRST) {
                break;
            }
            from = end + 1;
            end = word(from);
        }
        let window = &rest[end..];
        let found = match () {
            () if from == 0 && is(from, end, GREETINGS) => greeted(window),
            // `Thank You For Shopping` is no letter's end.
            () if is(from, end, FAREWELLS) => {
                signed(window).filter(|(begin, _)| window[..*begin].contains(&b'\n'))
            }
            () => None,
        };
        if let Some((from, to)) = found.filter(|(from, to)| is_persons(&window[*from..*to], is_personal)) {
            out(line + end + from, line + end + to);
        }
    }
}

/// Given names with a name behind them, wherever they stand: for texts about somebody.
pub(super) fn by_given(text: &[u8], out: &mut dyn FnMut(usize, usize)) {
    let mut at = 0;
    while let Some(start) = text[at..]
        .iter()
        .position(u8::is_ascii_uppercase)
        .map(|from| at + from)
    {
        let letters = text[start..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphabetic() || **byte >= 0x80);
        let end = start + letters.count();
        at = end;
        let before = &text[..start];
        let apart = before
            .last()
            .is_none_or(|byte| !is_word(*byte) && !b"/@.-".contains(byte));
        // `12 Victoria Lane`
        let is_numbered = before
            .strip_suffix(b" ")
            .and_then(<[u8]>::last)
            .is_some_and(u8::is_ascii_digit);
        if !apart || is_numbered || text.get(end) != Some(&b' ') || !is_given(&text[start..end]) {
            continue;
        }
        let window = &text[start..text.len().min(start + LETTER_BYTES)];
        if let Some((0, to)) = name_in(window)
            && is_surely_persons(&window[..to])
        {
            out(start, start + to);
            at = start + to;
        }
    }
}

/// `Dear Marta,`, `Hi Marta Okafor!`
fn greeted(window: &[u8]) -> Option<(usize, usize)> {
    let begin = window
        .iter()
        .take(2)
        .position(|byte| *byte != b' ')
        .filter(|begin| *begin == 1)?;
    let (from, mut to) = name_in(window)
        .or_else(|| one_name(window, begin))
        .filter(|(from, _)| *from == begin)?;
    while window.get(to) == Some(&b' ') && window.get(to + 1).is_some_and(u8::is_ascii_uppercase) {
        to = one_name(window, to + 1)?.1;
    }
    // `Dear Dr. Okafor` is told by the title.
    let is_title = TITLES
        .iter()
        .any(|title| window[from..to].eq_ignore_ascii_case(title));
    let ends = !is_title && window.get(to).is_none_or(|byte| b",!.:;\n\r-".contains(byte));
    ends.then_some((from, to))
}

/// `Regards,\nMarta Okafor`
fn signed(window: &[u8]) -> Option<(usize, usize)> {
    let begin = window
        .iter()
        .position(|byte| !b", \r\n".contains(byte))
        .filter(|begin| *begin > 0)?;
    let (from, to) = name_in(&window[begin..]).filter(|(from, _)| *from == 0)?;
    Some((begin + from, begin + to))
}

/// A word with a capital, and small letters behind it.
fn one_name(window: &[u8], start: usize) -> Option<(usize, usize)> {
    let name = window.get(start..)?;
    let is = |byte: &&u8| byte.is_ascii_alphabetic() || b"'-".contains(byte) || **byte >= 0x80;
    let length = name.iter().take_while(is).count();
    let mut rest = name[..length].iter().skip(1);
    let lower = rest.any(|byte| byte.is_ascii_lowercase() || *byte >= 0x80);
    let capital = name
        .first()
        .is_some_and(|byte| byte.is_ascii_uppercase() || *byte >= 0xc3);
    (capital && lower && length >= 2).then_some((start, start + length))
}

#[cfg(test)]
mod tests {
    use super::super::super::class::Class;
    use super::*;

    /// What is behind a word of another kind is told whatever it looks like, but for a heading.
    #[test]
    fn a_name_needs_more_than_a_common_word() {
        #[rustfmt::skip]
        const OTHER: &[&str] = &[
            "patient", "name", "next of kin", "patientin", "m'appelle", "mi chiamo", "me llamo", "me chamo", "mi nombre es",
            "ich hei\u{df}e", "ich heisse", "ik heet", "mijn naam is", "nazywam si\u{119}",
        ];
        for word in Class::Name.detector().words {
            assert_eq!(cue(word) == Cue::Other, OTHER.contains(word), "{word}");
        }
    }
}
