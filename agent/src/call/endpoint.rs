//! A path segment → its shape: a word that names something of the API, or a value that a caller has put there.
//!
//! What can be told from one segment alone is told here, at once: numbers, UUIDs, ULIDs, hex, dates, mail addresses,
//! tokens and codes are values; shipped vocabulary and versions are words. What is left (slugs, names, words that are
//! not known) only many calls can tell, and that is `detect::inventory`'s work. It must not know what was seen before.
//!
//! Sources: RFC 9562 (UUID), RFC 4648 §5 (base64url), RFC 3339 (dates), OData 4.01 URL conventions §4.3 (keys in
//! parentheses), RFC 3986 §3.3 (matrix parameters), FHIR R5 §2.24.0.1 (ids).

use smol_str::SmolStr;

use super::learnable::Learnable;
use super::redact::{is_uuid, is_version, is_vocabulary};
use super::words::{Commonness, is_random};

/// A word is at most as long.
const WORD_BYTES_MAX: usize = 48;
/// Several words as one, of which at least half are common, are at most as long.
const WORDS_BYTES_MAX: usize = 96;

/// What one segment, or one parameter's value, looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// Made of shipped vocabulary.
    Known,
    /// `v1`, `v2.1`.
    Version,
    /// Any other word: a name of the API's or of a person's.
    Word,
    Number,
    Boolean,
    Uuid,
    Ulid,
    Hex,
    Date,
    Email,
    /// Letters and digits as in record numbers: `MRN-00123`, `A12B7`.
    Code,
    /// Long and random: base64url and its kin.
    Token,
    /// Free text: escapes, spaces, lists.
    Text,
}

impl Shape {
    /// Of a path segment without matrix parameters.
    pub fn of(segment: &str) -> Shape {
        // With three numbers it is a release of something, not an API's: `/tags/v4.9.4`.
        if is_version(segment) {
            return match segment.bytes().filter(|byte| *byte == b'.').count() {
                0 | 1 => Shape::Version,
                _ => Shape::Code,
            };
        }
        if is_vocabulary(segment) {
            return Shape::Known;
        }
        match Shape::value(segment) {
            Shape::Boolean => Shape::Word,
            shape => shape,
        }
    }

    /// Of a value, whatever it means: never [`Shape::Known`] or [`Shape::Version`].
    pub fn value(text: &str) -> Shape {
        let bytes = text.as_bytes();
        let (mut digits, mut letters, mut others, mut turns, mut cases) = (0, 0, 0, 0, 0);
        let mut before = 0;
        for &byte in bytes {
            let class = match byte {
                b'0'..=b'9' => 1,
                b'a'..=b'z' => 2,
                b'A'..=b'Z' => 3,
                _ => 4,
            };
            match class {
                1 => digits += 1,
                2 | 3 => letters += 1,
                _ => others += 1,
            }
            // Between letters and digits, and from small to capital letters.
            turns += usize::from((class == 1) != (before == 1) && before != 0 && class != 4 && before != 4);
            cases += usize::from(before == 2 && class == 3);
            before = class;
        }
        if text == "true" || text == "false" {
            return Shape::Boolean;
        }
        let sign = usize::from(bytes.first() == Some(&b'-'));
        if digits > 0
            && letters == 0
            && bytes[sign..]
                .iter()
                .all(|byte| byte.is_ascii_digit() || *byte == b'.')
        {
            return Shape::Number;
        }
        let bare = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        if is_uuid(bare.unwrap_or(text)) {
            return Shape::Uuid;
        }
        if is_date(bytes) {
            return Shape::Date;
        }
        if let Some((_, domain)) = text.split_once('@').filter(|(name, _)| !name.is_empty()) {
            return match domain.contains('.') {
                true => Shape::Email,
                false => Shape::Text,
            };
        }
        let alphanumeric = others == 0;
        if alphanumeric
            && bytes.len() == 26
            && digits > 0
            && bytes[0] <= b'7'
            && bytes.iter().all(is_crockford)
        {
            return Shape::Ulid;
        }
        if alphanumeric
            && bytes.iter().all(u8::is_ascii_hexdigit)
            && ((bytes.len() >= 8 && digits > 0) || bytes.len() >= 16)
        {
            return Shape::Hex;
        }
        if bytes
            .iter()
            .any(|byte| !(byte.is_ascii_alphanumeric() || b"-_.~$:@".contains(byte)))
        {
            return Shape::Text;
        }
        let separated = bytes.iter().any(|byte| b"-_.:".contains(byte));
        if is_common_file(text) || Learnable::is_service(text) {
            return Shape::Word;
        }
        if digits > 0 {
            let leads = bytes[0].is_ascii_digit();
            if bytes.len() >= 16 && turns >= 3 && !separated {
                return Shape::Token;
            }
            if digits >= 4
                || turns >= 3
                || (leads && bytes.len() > 4)
                || (separated && ends_with_number(text))
                || digits > letters
            {
                return Shape::Code;
            }
        }
        // Letters that change their case all the time are no camel case.
        if bytes.len() >= 16 && !separated && cases * 4 > bytes.len() {
            return Shape::Token;
        }
        if bytes.is_empty() || bytes.len() > WORDS_BYTES_MAX {
            return Shape::Token;
        }
        // What is put together of common words is no token, however long or odd the rest.
        if (bytes.len() > WORD_BYTES_MAX || is_random(text)) && !Commonness::is_half_known(text) {
            return Shape::Token;
        }
        if is_file_or_host(text) || is_locale(bytes) {
            return Shape::Code;
        }
        Shape::Word
    }

    /// It names something; the others are values.
    pub fn is_word(self) -> bool {
        matches!(self, Shape::Known | Shape::Version | Shape::Word)
    }

    /// The name in events and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Shape::Known | Shape::Version | Shape::Word => "word",
            Shape::Number => "number",
            Shape::Boolean => "boolean",
            Shape::Uuid => "uuid",
            Shape::Ulid => "ulid",
            Shape::Hex => "hex",
            Shape::Date => "date",
            Shape::Email => "email",
            Shape::Code => "code",
            Shape::Token => "token",
            Shape::Text => "text",
        }
    }

    /// By its name; `word` is [`Shape::Word`].
    pub fn named(name: &str) -> Option<Shape> {
        Shape::ALL.into_iter().find(|shape| shape.as_str() == name)
    }

    /// Every shape of a value, with the words as one.
    pub const ALL: [Shape; 11] = [
        Shape::Word,
        Shape::Number,
        Shape::Boolean,
        Shape::Uuid,
        Shape::Ulid,
        Shape::Hex,
        Shape::Date,
        Shape::Email,
        Shape::Code,
        Shape::Token,
        Shape::Text,
    ];
}

/// One segment as a place in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    pub shape: Shape,
    /// What is compared: the segment without matrix parameters, with keys and values inside of it replaced:
    /// `Patients({id})`, `{id}:cancel`. Of a value, `{id}`.
    pub text: SmolStr,
    /// `;v=1;w` → `v=1;w`; empty if there are none.
    pub matrix: &'a str,
}

impl<'a> Segment<'a> {
    /// Reads one. `resource`: it stands where a FHIR id stands.
    pub fn read(segment: &'a str, resource: bool) -> Segment<'a> {
        let joined = segment
            .bytes()
            .any(|byte| matches!(byte, b';' | b'(' | b':' | b'.'));
        let (bare, matrix) = match joined {
            true => segment.split_once(';').unwrap_or((segment, "")),
            false => (segment, ""),
        };
        let of = |shape, text| Segment { shape, text, matrix };
        let id = || SmolStr::new_static("{id}");
        // A resource's id may look like a word; operations and history never look like one.
        if resource && !bare.starts_with(['$', '_']) {
            return of(Shape::Code, id());
        }
        if !joined {
            let shape = Shape::of(bare);
            return match shape.is_word() {
                true => of(shape, SmolStr::new(bare)),
                false => of(shape, id()),
            };
        }
        // OData: `Patients(123)`, `Patients(key='a')`; what is called is a word, what is in the parentheses never is.
        if let Some((name, key)) = bare.split_once('(')
            && key.ends_with(')')
        {
            let shape = Shape::of(name);
            if shape.is_word() {
                let key = if key == ")" { "()" } else { "({id})" };
                return of(shape, smol_str::format_smolstr!("{name}{key}"));
            }
        }
        // A verb behind a value: `123:cancel`.
        if let Some((value, verb)) = bare.split_once(':') {
            let shape = Shape::of(verb);
            if shape.is_word() && !Shape::of(value).is_word() {
                return of(shape, smol_str::format_smolstr!("{{id}}:{verb}"));
            }
        }
        // A value with a file's ending: `42.json`, `a1b2c3d4.pdf`.
        if let Some((value, ending)) = bare.rsplit_once('.')
            && !Shape::of(value).is_word()
            && ending.bytes().all(|byte| byte.is_ascii_alphabetic())
            && is_vocabulary(ending)
        {
            return of(Shape::value(value), id());
        }
        // A word with a value behind it: `entries.a1b2c3d4`.
        if let Some((name, value)) = bare.rsplit_once('.')
            && !Shape::of(value).is_word()
            && Commonness::of(name).least > 0
            && !name.contains(|c: char| !c.is_ascii_alphabetic())
        {
            return of(Shape::Word, smol_str::format_smolstr!("{name}.{{id}}"));
        }
        let shape = Shape::of(bare);
        match shape.is_word() {
            true => of(shape, SmolStr::new(bare)),
            false => of(shape, id()),
        }
    }
}

/// FHIR's context in a path.
pub struct Fhir;

impl Fhir {
    /// The name of a resource type; case counts.
    pub fn is_type(segment: &str) -> bool {
        segment.as_bytes().first().is_some_and(u8::is_ascii_uppercase)
            && segment.bytes().all(|byte| byte.is_ascii_alphabetic())
            && is_vocabulary(segment)
    }
}

fn is_crockford(byte: &u8) -> bool {
    byte.is_ascii_digit() || (byte.is_ascii_alphabetic() && !b"iloluILOU".contains(byte))
}

/// `…-7`, `bed_12`: a number behind a separator.
fn ends_with_number(text: &str) -> bool {
    text.rsplit(['-', '_', '.', ':'])
        .next()
        .is_some_and(|last| !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `notes.md`, `scan-a.png`, `clinic.example`: a name with an ending that no part of an API has.
fn is_file_or_host(text: &str) -> bool {
    const ENDINGS: &[&str] = &[
        "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "mjs", "map", "woff", "woff2", "ttf",
        "md", "txt", "pdf", "doc", "docx", "xlsx", "zip", "gz", "tar", "mp3", "mp4", "dcm", "com", "org",
        "net", "io", "dev", "example", "local", "test", "internal",
    ];
    text.rsplit_once('.').is_some_and(|(name, ending)| {
        !name.is_empty() && ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
    })
}

/// `stream.m3u8`, `explorer.js`: what APIs are made of, with a file's ending.
fn is_common_file(text: &str) -> bool {
    const LEAST: u8 = 2;
    text.rsplit_once('.').is_some_and(|(name, ending)| {
        (2..=5).contains(&ending.len())
            && ending.as_bytes()[0].is_ascii_alphabetic()
            && ending.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_'))
            && Commonness::of(name).least >= LEAST
    })
}

/// `de-AT`, `pt_BR`.
fn is_locale(bytes: &[u8]) -> bool {
    bytes.len() == 5
        && bytes[..2].iter().all(u8::is_ascii_lowercase)
        && matches!(bytes[2], b'-' | b'_')
        && bytes[3..].iter().all(u8::is_ascii_uppercase)
}

/// `2024-02-30`, `2024-02`, with or without a time. Whether the day exists is not asked.
fn is_date(bytes: &[u8]) -> bool {
    let digits = |range: std::ops::Range<usize>| {
        bytes
            .get(range)
            .is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    digits(0..4)
        && bytes.get(4) == Some(&b'-')
        && digits(5..7)
        && match bytes.get(7) {
            None => true,
            Some(b'-') => digits(8..10) && matches!(bytes.get(10), None | Some(b'T' | b't' | b' ' | b'%')),
            Some(_) => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_segments() {
        for (segment, shape) in [
            ("42", Shape::Number),
            ("-4.5", Shape::Number),
            ("v1", Shape::Version),
            ("v2.1", Shape::Version),
            ("v4.9.4", Shape::Code),
            ("patients", Shape::Known),
            ("findByStatus", Shape::Known),
            ("$everything", Shape::Known),
            ("8b0a5f62-8a3e-4c6b-9d19-4d43cdb4f4c7", Shape::Uuid),
            ("{8b0a5f62-8a3e-4c6b-9d19-4d43cdb4f4c7}", Shape::Uuid),
            // As long, with a character over the last two bytes.
            ("{8b0a5f62-8a3e-4c6b-9d19-4d43cdb4f4cѨ", Shape::Text),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAV", Shape::Ulid),
            ("deadbeef00", Shape::Hex),
            ("0af7651916cd43dd8448eb211c80319c", Shape::Hex),
            ("2024-02-30", Shape::Date),
            ("2024-02", Shape::Date),
            ("2024-02-28T10:00:00Z", Shape::Date),
            ("jane.doe@example.org", Shape::Email),
            ("MRN-00123", Shape::Code),
            ("MRN123456", Shape::Code),
            ("A12B7C", Shape::Code),
            ("bed-7", Shape::Code),
            ("dQw4w9WgXcQ", Shape::Code),
            ("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", Shape::Token),
            ("aGVsbG9Xb3JsZEZvb0Jhcg", Shape::Token),
            ("Jane%20Doe", Shape::Text),
            ("1,2,3", Shape::Text),
            ("frobs", Shape::Word),
            ("oauth2", Shape::Known),
            ("2fa", Shape::Word),
            ("bed12", Shape::Word),
            ("jane-doe", Shape::Word),
            ("stream.m3u8", Shape::Word),
            ("jane.m3u8", Shape::Code),
            ("frobs.pdf", Shape::Code),
            // Common words, written together with what is none.
            ("sign-gpg", Shape::Word),
            ("send_dtmf", Shape::Word),
            (
                "update-session-forwarding-elasticsearch-analytics-eu",
                Shape::Word,
            ),
            // What services are called.
            ("storage.k8s.io", Shape::Word),
            ("qzorp.frob.v1.Frobs", Shape::Word),
            ("storage.example.io", Shape::Code),
        ] {
            assert_eq!(Shape::of(segment), shape, "{segment}");
        }
    }

    #[test]
    fn segments_as_places() {
        for (segment, resource, text, matrix) in [
            ("patients;v=1;w", false, "patients", "v=1;w"),
            ("Patients(123)", false, "Patients({id})", ""),
            ("frobs(key='a b')", false, "frobs({id})", ""),
            ("count()", false, "count()", ""),
            ("123:cancel", false, "{id}:cancel", ""),
            ("42.json", false, "{id}", ""),
            ("entries.a1b2c3d4e5", false, "entries.{id}", ""),
            ("qzorp.a1b2c3d4e5", false, "{id}", ""),
            ("index.html", false, "index.html", ""),
            ("smith", true, "{id}", ""),
            ("$everything", true, "$everything", ""),
            ("42;a=b", false, "{id}", "a=b"),
        ] {
            let read = Segment::read(segment, resource);
            assert_eq!((read.text.as_str(), read.matrix), (text, matrix), "{segment}");
        }
    }

    #[test]
    fn types_are_told_by_their_case() {
        assert!(Fhir::is_type("Patient") && !Fhir::is_type("patient"));
    }

    proptest::proptest! {
        #[test]
        fn any_segment_has_a_shape(segment in ".{0,80}", resource: bool) {
            let read = Segment::read(&segment, resource);
            proptest::prop_assert!(read.shape.is_word() || !read.text.is_empty());
        }
    }
}
