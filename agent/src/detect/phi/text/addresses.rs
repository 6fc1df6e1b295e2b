//! Addresses, as they are written where people live: whole ones of the United States, and streets with a number before or
//! behind them, with the town if it follows.

/// Bytes before a number that its street's name may take, and of a town behind a postal code.
const NAME_BYTES_MAX: usize = 48;

/// `866 Jerry Parks Suite 585, Port Johnny, AL 06340`: from its number to its ZIP code (USPS Publication 28).
pub(super) fn addresses(text: &[u8], out: &mut dyn FnMut(usize, usize)) {
    const STATES: &[u8] = b"ALAKAZARCACOCTDEDCFLGAHIIDILINIAKSKYLAMEMDMAMIMNMSMOMTNENVNHNJNMNYNCNDOHOKORPARISCSDTNTXUTVTVAWAWVWIWYPRGUVIASMPFMMHPW";
    /// Bytes before the state.
    const BEFORE: usize = 96;
    let mut over = 0;
    for comma in memchr::memchr_iter(b',', text) {
        let Some([b' ', a, b, b' ', zip @ ..]) = text.get(comma + 1..comma + 10) else {
            continue;
        };
        let is_state = STATES.chunks(2).any(|state| state == [*a, *b]);
        let ends = text
            .get(comma + 10)
            .is_none_or(|next| !next.is_ascii_alphanumeric());
        if !is_state || !zip.iter().all(u8::is_ascii_digit) || !ends || comma < over {
            continue;
        }
        let least = comma.saturating_sub(BEFORE).max(over);
        let belongs = |byte: &u8| byte.is_ascii_alphanumeric() || b" .,'#-/".contains(byte) || *byte >= 0x80;
        let line = |end: usize| {
            let other = text[least..end].iter().rposition(|byte| !belongs(byte));
            other.map_or(least, |at| least + at + 1)
        };
        let town = line(comma);
        // The street may stand on the line before.
        let from = match town.checked_sub(1).filter(|end| *end >= least) {
            Some(end) if text[end] == b'\n' && !text[town..comma].iter().any(u8::is_ascii_digit) => line(end),
            _ => town,
        };
        let begins = (from..comma).find(|at| {
            let apart = *at == from || text[at - 1] == b' ';
            let digits = text[*at..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let street = text
                .get(at + digits + 1)
                .is_some_and(|next| next.is_ascii_uppercase() || next.is_ascii_digit());
            apart && (1..=6).contains(&digits) && text.get(at + digits) == Some(&b' ') && street
        });
        if let Some(begins) = begins {
            over = comma + 9;
            out(begins, over + 1);
        }
    }
}

/// The street that the number at `run` is of: `12 Harbour Road`, `Hauptstraße 12, 10115 Berlin`, `12 rue de la Paix`.
pub(super) fn street(text: &[u8], run: (usize, usize)) -> Option<(usize, usize)> {
    if let Some(end) = english(text, run) {
        return Some((run.0, end));
    }
    // House numbers, and those of boxes.
    if run.1 - run.0 > 5 {
        return None;
    }
    if let Some((start, sure)) = before(text, run.0) {
        let end = town(text, run.1);
        return (sure || end.is_some()).then_some((start, end.unwrap_or(run.1)));
    }
    let (end, sure) = behind(text, run.1)?;
    let with_town = town(text, end);
    (sure || with_town.is_some()).then_some((run.0, with_town.unwrap_or(end)))
}

/// `12 Harbour Road`: where it ends.
fn english(text: &[u8], run: (usize, usize)) -> Option<usize> {
    const KINDS: &[&[u8]] = &[
        b"Street",
        b"St",
        b"Avenue",
        b"Ave",
        b"Road",
        b"Rd",
        b"Boulevard",
        b"Blvd",
        b"Lane",
        b"Ln",
        b"Drive",
        b"Dr",
        b"Court",
        b"Ct",
        b"Way",
        b"Place",
        b"Pl",
        b"Terrace",
        b"Square",
        b"Crescent",
        b"Parkway",
        b"Pkwy",
        b"Circle",
    ];
    /// Those that are said of more than streets (USPS Publication 28, appendix C).
    #[rustfmt::skip]
    const RARE_KINDS: &[&[u8]] = &[
        b"Alley", b"Bend", b"Bluff", b"Branch", b"Bridge", b"Brook", b"Bypass", b"Canyon", b"Causeway", b"Cliff", b"Common",
        b"Corner", b"Corners", b"Course", b"Cove", b"Creek", b"Crest", b"Crossing", b"Curve", b"Dale", b"Dam", b"Divide",
        b"Estate", b"Estates", b"Expressway", b"Extension", b"Falls", b"Ferry", b"Field", b"Fields", b"Flat", b"Flats", b"Ford",
        b"Forest", b"Forge", b"Fork", b"Freeway", b"Garden", b"Gardens", b"Gateway", b"Glen", b"Green", b"Grove", b"Harbor",
        b"Harbors", b"Haven", b"Heights", b"Highway", b"Hill", b"Hills", b"Hollow", b"Inlet", b"Island", b"Isle", b"Junction",
        b"Key", b"Knoll", b"Knolls", b"Lake", b"Lakes", b"Landing", b"Lodge", b"Loop", b"Mall", b"Manor", b"Meadow", b"Meadows",
        b"Mews", b"Mill", b"Mills", b"Mission", b"Motorway", b"Mount", b"Mountain", b"Mountains", b"Neck", b"Orchard", b"Oval",
        b"Overpass", b"Park", b"Pass", b"Passage", b"Path", b"Pike", b"Pine", b"Pines", b"Plain", b"Plains", b"Plaza", b"Point",
        b"Points", b"Port", b"Prairie", b"Radial", b"Ramp", b"Ranch", b"Rapids", b"Ridge", b"River", b"Route", b"Row", b"Rue",
        b"Run", b"Shoal", b"Shore", b"Shores", b"Skyway", b"Spring", b"Springs", b"Spur", b"Station", b"Stream", b"Summit",
        b"Trace", b"Track", b"Trail", b"Tunnel", b"Turnpike", b"Underpass", b"Union", b"Valley", b"Via", b"Viaduct", b"View",
        b"Views", b"Village", b"Vista", b"Walk", b"Wall", b"Well", b"Wells",
    ];
    if run.1 - run.0 > 5 || text.get(run.1) != Some(&b' ') {
        return None;
    }
    let mut at = run.1 + 1;
    for index in 0..4 {
        let rest = &text[at..];
        let length = rest
            .iter()
            .take(24)
            .position(|byte| !byte.is_ascii_alphabetic())
            .unwrap_or(rest.len().min(24));
        let word = &rest[..length];
        if !word.first().is_some_and(u8::is_ascii_uppercase) {
            return None;
        }
        if index > 0 && KINDS.contains(&word) {
            return Some(at + length);
        }
        let behind = rest.get(length..).unwrap_or_default();
        // `823 Cassie Garden, East Virginiafort`
        if index > 0 && run.1 - run.0 >= 2 && RARE_KINDS.contains(&word) && ends_line(behind) {
            return Some(at + length);
        }
        // `898 Gabriel Hollow Suite 218`
        if index > 0
            && let Some(of_suite) = suite(behind)
        {
            return Some(at + length + of_suite);
        }
        if rest.get(length) != Some(&b' ') {
            return None;
        }
        at += length + 1;
    }
    None
}

/// A comma and a town, or the end of a line.
fn ends_line(rest: &[u8]) -> bool {
    match rest {
        [b',', b' ', next, ..] => next.is_ascii_uppercase(),
        [b'\n' | b'\r', ..] => true,
        _ => false,
    }
}

/// ` Suite 218`, ` Apt. 5`: how long it is.
fn suite(rest: &[u8]) -> Option<usize> {
    const SUITES: &[&[u8]] = &[b" Suite ", b" Apt. ", b" Apt ", b" Apartment "];
    let word = SUITES.iter().find(|word| rest.starts_with(word))?;
    let digits = rest[word.len()..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    (1..=5).contains(&digits).then_some(word.len() + digits)
}

/// Where the street's name begins that ends right before a number, and whether nothing else is written so.
fn before(text: &[u8], number: usize) -> Option<(usize, bool)> {
    /// A word's end, in the languages that join them.
    const ENDS: &[&str] = &[
        "stra\u{df}e",
        "strasse",
        "str.",
        "gasse",
        "allee",
        "platz",
        "weg",
        "ring",
        "ufer",
        "damm",
        "straat",
        "laan",
        "gracht",
        "plein",
        "kade",
        "singel",
        "gatan",
        "v\u{e4}gen",
        "gade",
        "vej",
        "veien",
        "katu",
    ];
    /// Those that other words end in, too: a town has to follow.
    const VAGUE_ENDS: &[&str] = &[
        "weg", "ring", "ufer", "damm", "plein", "kade", "singel", "gade", "katu", "platz",
    ];
    /// Words that begin it.
    const KINDS: &[&str] = &[
        "viale", "piazza", "vicolo", "calle", "avenida", "paseo", "carrer", "rua", "travessa", "ulica",
        "ul.", "calle de", "c/", "avda.", "av.", "strada",
    ];
    const VAGUE_KINDS: &[&str] = &[
        "via",
        "corso",
        "largo",
        "plaza",
        "pra\u{e7}a",
        "carrera",
        "av.",
        "strada",
    ];
    // Most numbers have no word right before them.
    let [.., last, b' '] = text.get(..number)? else {
        return None;
    };
    if !(last.is_ascii_alphabetic() || b".,".contains(last) || *last >= 0x80) {
        return None;
    }
    let least = number.saturating_sub(NAME_BYTES_MAX);
    // Not from the middle of a letter.
    let rest = text[least..number]
        .iter()
        .take(3)
        .take_while(|byte| (0x80..0xc0).contains(*byte));
    let window = std::str::from_utf8(text.get(least + rest.count()..number)?).ok()?;
    let name = window.strip_suffix(' ')?;
    let name = name.strip_suffix(',').unwrap_or(name);
    let boxes = [
        "PO Box",
        "P.O. Box",
        "P. O. Box",
        "P.O Box",
        "P.O.Box",
        "PO BOX",
        "P.O. BOX",
        "Postfach",
        "Postbus",
        "Apartado",
        "Casella Postale",
    ];
    // Where what is left of the name ends, all of it: where the word behind it begins.
    let start_behind = |rest: &str| number - window.len() + rest.len();
    if let Some(rest) = boxes.iter().find_map(|of_box| name.strip_suffix(*of_box)) {
        // Without anything around it, it is a company's as well.
        let digits = text[number..].iter().take_while(|byte| byte.is_ascii_digit());
        let behind = &text[number + digits.count()..];
        let goes_on =
            matches!(behind, [b',', b' ', next, ..] | [b'\n', next, ..] if next.is_ascii_uppercase());
        return Some((start_behind(rest), !rest.is_empty() || goes_on));
    }
    // Houses have fewer digits where the number stands behind the street.
    if text[number..].iter().take(5).all(u8::is_ascii_digit) && text.len() >= number + 5 {
        return None;
    }
    let (first, last) = last_word(name);
    let capital = |word: &str| word.chars().next().is_some_and(char::is_uppercase);
    let ends_in = |end: &&&str| {
        let from = last.len().checked_sub(end.len());
        from.is_some_and(|from| last.as_bytes()[from..].eq_ignore_ascii_case(end.as_bytes()))
    };
    if let Some(end) = ENDS.iter().find(ends_in) {
        let sure = !VAGUE_ENDS.contains(end);
        if last.len() > end.len() {
            // `Hauptstraße`; `Rahel-Hirsch-Str.`
            // `Instr. 12`
            let is = capital(last) && !(*end == "str." && ["Instr.", "Constr.", "Regstr."].contains(&last));
            return is.then(|| (start_behind(first), sure));
        }
        // `Berliner Straße`
        let (rest, first) = last_word(first.trim_end());
        return (capital(first) && first.len() > 2).then(|| (start_behind(rest), sure));
    }
    // `via Giuseppe Verdi 12`, `Calle Mayor, 5`: the kind stands first.
    let (mut name, mut capitals) = (name, 0);
    for _ in 0..5 {
        let (rest, word) = last_word(name);
        let (is, vague) = (is_one_of(KINDS, word), is_one_of(VAGUE_KINDS, word));
        if is || vague {
            return (capitals > 0).then(|| (start_behind(rest), is && !vague));
        }
        if word.is_empty() {
            return None;
        }
        // `calle donde vive Ana tiene 20 casas`
        if !(capital(word) || capitals > 0 && word.chars().count() <= 3) {
            return None;
        }
        capitals += usize::from(capital(word));
        name = rest.strip_suffix(' ')?;
    }
    None
}

/// Where the street's name ends that stands right behind a number: `12 rue de la Paix`, `12 bis, avenue Foch`.
fn behind(text: &[u8], number: usize) -> Option<(usize, bool)> {
    const KINDS: &[&str] = &["rue", "chemin", "impasse", "all\u{e9}e", "quai", "bd"];
    const VAGUE_KINDS: &[&str] = &["place", "route", "cours", "square", "avenue", "boulevard"];
    if !matches!(text.get(number), Some(b' ' | b',')) {
        return None;
    }
    let rest = valid(&text[number..], NAME_BYTES_MAX);
    let name = rest
        .strip_prefix(" bis")
        .or_else(|| rest.strip_prefix(" ter"))
        .unwrap_or(rest);
    let name = name.strip_prefix(',').unwrap_or(name).strip_prefix(' ')?;
    let (kind, mut left) = first_word(name);
    let (is, vague) = (is_one_of(KINDS, kind), is_one_of(VAGUE_KINDS, kind));
    if !(is || vague) {
        return None;
    }
    // The last word with a capital ends it.
    let mut end = None;
    for _ in 0..6 {
        let (word, next) = match left.strip_prefix(' ') {
            Some(next) => first_word(next),
            None => break,
        };
        if word.is_empty() {
            break;
        }
        left = next;
        if word.chars().any(char::is_uppercase) {
            end = Some(rest.len() - left.len());
        }
    }
    Some((number + end?, is && !vague))
}

/// Where the town ends that follows with its postal code: `, 10115 Berlin`, `, 1012 AB Amsterdam`.
fn town(text: &[u8], from: usize) -> Option<usize> {
    let rest = valid(text.get(from..)?, NAME_BYTES_MAX);
    let code = rest.trim_start_matches([',', ' ', '\n', '\r', '-']);
    if code.len() == rest.len() || rest.len() - code.len() > 4 {
        return None;
    }
    let after_digits = code.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = code.len() - after_digits.len();
    let mut left = match (digits, after_digits.strip_prefix('-')) {
        // `1100-053`, `00-238`
        (2 | 4, Some(more)) => more.trim_start_matches(|c: char| c.is_ascii_digit()),
        (4 | 5, _) => after_digits,
        _ => return None,
    };
    // Of the Netherlands: two letters more.
    if let [b' ', a, b, b' ', ..] = left.as_bytes()
        && digits == 4
        && a.is_ascii_uppercase()
        && b.is_ascii_uppercase()
    {
        left = left.get(3..)?;
    }
    let mut end = None;
    for _ in 0..3 {
        let (word, next) = match left.strip_prefix(' ') {
            Some(next) => first_word(next),
            None => break,
        };
        left = next;
        match word.chars().next() {
            Some(first) if first.is_uppercase() => end = Some(rest.len() - left.len()),
            // `Frankfurt am Main`
            Some(_) if end.is_some() && word.len() <= 3 => {}
            _ => break,
        }
    }
    Some(from + end?)
}

/// What stands before the last word, and that.
fn last_word(text: &str) -> (&str, &str) {
    let rest = text.trim_end_matches(|c: char| c.is_alphabetic() || ".'-/\u{2019}".contains(c));
    (rest, text.strip_prefix(rest).unwrap_or_default())
}

/// The first word, and what stands behind it.
fn first_word(text: &str) -> (&str, &str) {
    let rest = text.trim_start_matches(|c: char| c.is_alphabetic() || "'-\u{2019}".contains(c));
    (text.strip_suffix(rest).unwrap_or_default(), rest)
}

fn is_one_of(words: &[&str], word: &str) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// As much of the beginning as is text.
fn valid(bytes: &[u8], most: usize) -> &str {
    let bytes = &bytes[..bytes.len().min(most)];
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<&str> {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let digits = bytes[at..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            if digits > 0
                && let Some((start, end)) = street(bytes, (at, at + digits))
            {
                return Some(&text[start..end]);
            }
            at += digits.max(1);
        }
        None
    }

    #[test]
    fn whole_addresses_may_take_two_lines() {
        let of = |text: &str| {
            let mut all = Vec::new();
            addresses(text.as_bytes(), &mut |start, end| {
                all.push(text[start..end].to_owned())
            });
            all
        };
        assert_eq!(
            of("to 19036 Robinson Dam\nSergiobury, AR 98412 now"),
            ["19036 Robinson Dam\nSergiobury, AR 98412"]
        );
        assert_eq!(
            of("Order 5\n866 Jerry Parks, Port Johnny, AL 06340"),
            ["866 Jerry Parks, Port Johnny, AL 06340"]
        );
        assert_eq!(of("Sergiobury, AR 98412"), [""; 0]);
        for length in 90..100 {
            let text = format!("\n{}, AL 06340", "a".repeat(length));
            assert_eq!(of(&text), [""; 0], "{length}");
        }
    }

    #[test]
    fn streets_are_written_before_and_behind_their_number() {
        for (text, expected) in [
            ("at 12 Harbour Road, please", "12 Harbour Road"),
            (
                "898 Gabriel Hollow Suite 218, Bahrain",
                "898 Gabriel Hollow Suite 218",
            ),
            ("823 Cassie Garden, East Virginiafort", "823 Cassie Garden"),
            ("wohnt Hauptstra\u{df}e 12 in Kiel", "Hauptstra\u{df}e 12"),
            (
                "in der Berliner Stra\u{df}e 12, 10115 Berlin, wohnhaft",
                "Berliner Stra\u{df}e 12, 10115 Berlin",
            ),
            (
                "Rahel-Hirsch-Str. 10, 60596 Frankfurt am Main.",
                "Rahel-Hirsch-Str. 10, 60596 Frankfurt am Main",
            ),
            ("Am Waldweg 5, 20095 Hamburg", "Waldweg 5, 20095 Hamburg"),
            (
                "Keizersgracht 123, 1015 CJ Amsterdam",
                "Keizersgracht 123, 1015 CJ Amsterdam",
            ),
            (
                "12 rue de la Paix, 75002 Paris.",
                "12 rue de la Paix, 75002 Paris",
            ),
            (
                "au 7 bis, all\u{e9}e des Tilleuls",
                "7 bis, all\u{e9}e des Tilleuls",
            ),
            ("12 avenue Foch, 69006 Lyon", "12 avenue Foch, 69006 Lyon"),
            (
                "abita in via Giuseppe Verdi 12, 20121 Milano",
                "via Giuseppe Verdi 12, 20121 Milano",
            ),
            ("vive en Calle Mayor, 5", "Calle Mayor, 5"),
            (
                "Rua Augusta 274, 1100-053 Lisboa",
                "Rua Augusta 274, 1100-053 Lisboa",
            ),
            (
                "ul. D\u{142}uga 46, 00-238 Warszawa",
                "ul. D\u{142}uga 46, 00-238 Warszawa",
            ),
            ("to PO Box 1422, please", "PO Box 1422"),
            ("to PO Box, 1422", "PO Box, 1422"),
            (
                "\u{2019}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa Hauptstra\u{df}e 12",
                "Hauptstra\u{df}e 12",
            ),
        ] {
            assert_eq!(of(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_street_is_none() {
        for text in [
            "sent via Twitter 12 times",
            "Via SMS 2",
            "auf dem Weg 5 Minuten",
            "Ring 0 and Ring 3",
            "Singel 5 of them",
            "in 12 place Setting",
            "3 route Handlers",
            "Hauptstra\u{df}e",
            "ended at 12 rue",
            "20 Golden Park visitors",
            "2 Golden Hills, Inc",
            "12 Monkeys Suite",
            "Norweg 7",
            "string 12",
            "Largo 3",
            "La calle donde vive Ana tiene 20 casas",
            "El paseo de Marta dura 45 minutos",
            "See Instr. 12",
            "10 Intensive Care Unit 5",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
