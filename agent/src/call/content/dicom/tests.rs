//! Files as archives send them: each way of writing, sequences with and without length, cut and broken ones.

use proptest::prelude::*;

use super::super::{Content, ContentLimits, Format};
use super::*;

#[derive(Default)]
struct Seen {
    path: Vec<String>,
    lines: Vec<String>,
}

impl Sink for Seen {
    fn open(&mut self, name: &[u8], _: Container) {
        self.path.push(String::from_utf8_lossy(name).into_owned());
    }

    fn close(&mut self) {
        self.path.pop().expect("it was opened");
    }

    fn value(&mut self, name: &[u8], _: ValueType, value: &[u8]) {
        let path = self.path.join("/");
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        self.lines.push(format!("{path}/{name}={value}"));
    }

    fn segment(&mut self, _: Format, _: &[u8]) {}

    fn field(&mut self, _: super::super::Field<'_>, _: &[u8]) {}
}

fn see(bytes: &[u8]) -> (Format, Vec<String>) {
    let content = Content {
        bytes,
        content_type: b"application/dicom",
        content_encoding: b"",
        message: None,
        truncated: false,
    };
    let mut seen = Seen::default();
    let visited = content.visit(&ContentLimits::default(), &mut seen);
    assert!(seen.path.is_empty(), "what was opened is closed");
    (visited.format, seen.lines)
}

/// One element.
fn element(
    syntax: Syntax,
    group: u16,
    number: u16,
    vr: &[u8; 2],
    length: Option<usize>,
    value: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let big = syntax == Syntax::ExplicitBig;
    let short = |number: u16| {
        if big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    };
    let long = |number: u32| {
        if big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    };
    let length = length.map_or(UNDEFINED, |length| length as u32);
    bytes.extend(short(group));
    bytes.extend(short(number));
    if group == 0xfffe || syntax == Syntax::ImplicitLittle {
        bytes.extend(long(length));
    } else {
        bytes.extend(vr);
        if is_long(*vr) {
            bytes.extend([0, 0]);
            bytes.extend(long(length));
        } else {
            bytes.extend(short(length as u16));
        }
    }
    bytes.extend(value);
    bytes
}

fn text(syntax: Syntax, group: u16, number: u16, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(b' ');
    }
    element(syntax, group, number, vr, Some(value.len()), &value)
}

fn file(uid: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 128];
    bytes.extend(b"DICM");
    bytes.extend(text(Syntax::ExplicitLittle, 2, 0x10, b"UI", uid));
    bytes.extend(data);
    bytes
}

fn data(syntax: Syntax) -> Vec<u8> {
    let item = |value: &[u8], length| element(syntax, 0xfffe, 0xe000, b"\0\0", length, value);
    let referring = text(syntax, 0x0010, 0x1000, b"LO", b"7712");
    [
        text(syntax, 0x0008, 0x0005, b"CS", b"ISO_IR 100"),
        // A sequence with a length, one without.
        {
            let inner = item(&referring, Some(referring.len()));
            element(syntax, 0x0010, 0x1002, b"SQ", Some(inner.len()), &inner)
        },
        element(
            syntax,
            0x0040,
            0x0275,
            b"SQ",
            None,
            &[
                item(
                    &[
                        text(syntax, 0x0032, 0x1060, b"LO", b"CT chest"),
                        element(syntax, 0xfffe, 0xe00d, b"\0\0", Some(0), b""),
                    ]
                    .concat(),
                    None,
                ),
                element(syntax, 0xfffe, 0xe0dd, b"\0\0", Some(0), b""),
            ]
            .concat(),
        ),
        text(syntax, 0x0010, 0x0010, b"PN", b"M\xfcller^Ada=\xe4="),
        text(syntax, 0x0010, 0x0030, b"DA", b"19700302"),
        element(syntax, 0x7fe0, 0x0010, b"OW", Some(8), b"\0\x01DICM\0\0"),
        text(syntax, 0x7fe1, 0x0010, b"LO", b"after\\it"),
    ]
    .concat()
}

#[test]
fn each_way_of_writing_tells_the_same() {
    let deflated = {
        use std::io::Write as _;
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&data(Syntax::ExplicitLittle)).unwrap();
        encoder.finish().unwrap()
    };
    for (uid, data) in [
        (&b"1.2.840.10008.1.2.1"[..], data(Syntax::ExplicitLittle)),
        (b"1.2.840.10008.1.2.4.90", data(Syntax::ExplicitLittle)),
        (b"1.2.840.10008.1.2.2", data(Syntax::ExplicitBig)),
        (b"1.2.840.10008.1.2.1.99", deflated),
    ] {
        let (format, lines) = see(&file(uid, &data));
        assert_eq!(format, Format::Dicom);
        assert_eq!(
            lines,
            [
                "/00101002/Value//00101000/Value/=7712",
                "/00400275/Value//00321060/Value/=CT chest",
                "/00100010/Value//Alphabetic=Müller^Ada",
                "/00100010/Value//Ideographic=ä",
                "/00100030/Value/=19700302",
                "/7FE10010/Value/=after",
                "/7FE10010/Value/=it",
            ],
            "{}",
            String::from_utf8_lossy(uid)
        );
    }
    let (_, lines) = see(&file(b"1.2.840.10008.1.2", &data(Syntax::ImplicitLittle)));
    for wanted in [
        "/00101002/Value//00101000/Value/=7712",
        "/00400275/Value//00321060/Value/=CT chest",
        "/00100010/Value/=Müller^Ada=ä=",
        "/00100030/Value/=19700302",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted} of {lines:?}");
    }
}

#[test]
fn pixels_in_fragments_end_it_and_a_cut_file_tells_what_there_is() {
    let syntax = Syntax::ExplicitLittle;
    let fragments = [
        text(syntax, 0x0010, 0x0020, b"LO", b"MRN00412"),
        element(
            syntax,
            0x7fe0,
            0x0010,
            b"OB",
            None,
            b"\xfe\xff\0\xe0\x04\0\0\0abcd\xfe\xff\xdd\xe0\0\0\0\0",
        ),
    ]
    .concat();
    let whole = file(b"1.2.840.10008.1.2.4.50", &fragments);
    assert_eq!(see(&whole).1, ["/00100020/Value/=MRN00412"]);
    let name = text(syntax, 0x0010, 0x0010, b"PN", b"Okonkwo^Ada^Ngozi");
    let mut cut = file(b"1.2.840.10008.1.2.1", &name);
    cut.truncate(cut.len() - 6);
    assert_eq!(see(&cut).1, ["/00100010/Value//Alphabetic=Okonkwo^Ada^"]);
    // Longer than what there is by far.
    let lie = element(syntax, 0x0010, 0x0010, b"UT", Some(0xffff_fff0), b"x");
    assert_eq!(see(&file(b"1.2.840.10008.1.2.1", &lie)).1, ["/00100010/Value/=x"]);
    let bare = [
        element(syntax, 2, 0, b"UL", Some(4), &[18, 0, 0, 0]),
        text(syntax, 2, 0x10, b"UI", b"1.2.840.10008.1.2.1"),
        name,
    ]
    .concat();
    let (format, lines) = see(&bare);
    assert_eq!(format, Format::Dicom);
    assert_eq!(lines, ["/00100010/Value//Alphabetic=Okonkwo^Ada^Ngozi"]);
    let mut no_file = vec![0u8; 200];
    assert_eq!(see(&no_file).0, Format::Binary);
    no_file.truncate(130);
    see(&no_file);
}

proptest! {
    #[test]
    fn nonsense_is_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), syntax in 0..3usize) {
        let uid = [&b"1.2.840.10008.1.2"[..], b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2"][syntax];
        see(&file(uid, &bytes));
    }

    #[test]
    fn items_in_any_order_are_closed(kinds in proptest::collection::vec(0..5usize, 0..200)) {
        let syntax = Syntax::ExplicitLittle;
        let bytes: Vec<u8> = kinds
            .iter()
            .flat_map(|kind| match kind {
                0 => element(syntax, 0x0008, 0x1111, b"SQ", None, b""),
                1 => element(syntax, 0xfffe, 0xe000, b"\0\0", None, b""),
                2 => element(syntax, 0xfffe, 0xe00d, b"\0\0", Some(0), b""),
                3 => element(syntax, 0xfffe, 0xe0dd, b"\0\0", Some(0), b""),
                _ => element(syntax, 0x0008, 0x1111, b"SQ", Some(40), b""),
            })
            .collect();
        see(&file(b"1.2.840.10008.1.2.1", &bytes));
    }
}
