//! Bodies in, values out: each format, each encoding, cut and broken ones, and what hostile ones may cost.

use std::io::Write as _;

use proptest::prelude::*;

use super::*;

/// `path=value` lines.
#[derive(Default)]
struct Seen {
    path: Vec<String>,
    lines: Vec<String>,
    depth_max: usize,
    segment: String,
}

impl Sink for Seen {
    fn open(&mut self, name: &[u8], _: Container) {
        self.path.push(String::from_utf8_lossy(name).into_owned());
        self.depth_max = self.depth_max.max(self.path.len());
    }

    fn close(&mut self) {
        self.path.pop().expect("it was opened");
    }

    fn value(&mut self, name: &[u8], _: ValueType, value: &[u8]) {
        let path = self.path.join(".");
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        self.lines.push(format!("{path}/{name}={value}"));
    }

    fn segment(&mut self, _: Format, id: &[u8]) {
        self.segment = String::from_utf8_lossy(id).into_owned();
    }

    fn field(&mut self, at: Field<'_>, value: &[u8]) {
        let value = String::from_utf8_lossy(value);
        self.lines.push(format!(
            "{}-{}[{}].{}.{}={value}",
            self.segment, at.field, at.repetition, at.component, at.subcomponent
        ));
    }
}

fn see(content_type: &str, bytes: &[u8]) -> (Format, Vec<String>) {
    let content = Content {
        bytes,
        content_type: content_type.as_bytes(),
        content_encoding: b"",
        message: None,
        truncated: false,
    };
    let mut seen = Seen::default();
    let visited = content.visit(&ContentLimits::default(), &mut seen);
    assert!(seen.path.is_empty(), "what was opened is closed");
    (visited.format, seen.lines)
}

fn lines(content_type: &str, bytes: &[u8]) -> Vec<String> {
    see(content_type, bytes).1
}

#[test]
fn json() {
    let body = br#"{"a":1,"a":"x\u00e9\ud83d\ude00\n","b":[{"c":-1.5e400},null],"d\"e":true}"#;
    assert_eq!(
        lines("application/json", body),
        [
            "/a=1",
            "/a=x\u{e9}\u{1f600}\n",
            ".b./c=-1.5e400",
            ".b/=null",
            "/d\"e=true"
        ]
    );
    // Cut: what was seen.
    assert_eq!(lines("", br#"{"a":{"b":"hal"#), [".a/b=hal"]);
    assert_eq!(lines("", b"{\"a\":1}\n{\"a\":2}\n"), ["/a=1", "/a=2"]);
    assert_eq!(
        lines("application/fhir+json; charset=utf-8", b"[1, 2]"),
        ["/=1", "/=2"]
    );
}

#[test]
fn deep_json_is_one_bit_a_level() {
    let mut body = vec![b'['; 1 << 20];
    body.extend(b"\"x\"");
    let mut seen = Seen::default();
    let content = Content {
        bytes: &body,
        content_type: b"application/json",
        content_encoding: b"",
        message: None,
        truncated: false,
    };
    let visited = content.visit(&ContentLimits::default(), &mut seen);
    assert!(visited.cut, "the budget of containers ended it");
    assert_eq!(seen.depth_max, ContentLimits::default().depth_max);
}

#[test]
fn xml_has_no_entities_but_its_own() {
    let body = br#"<!DOCTYPE r [<!ENTITY lol "lollol"><!ENTITY f SYSTEM "file:///etc/passwd">]>
<r xmlns="http://hl7.org/fhir"><n v="a&amp;b">x &lt; &lol;&f;&#65;</n><e/></r>"#;
    assert_eq!(lines("application/xml", body), ["r.n/v=a&b", "r.n/=x < A"]);
    assert_eq!(
        lines("application/fhir+xml", b"<a><b>x</b><c>y"),
        ["a.b/=x", "a.c/=y"]
    );
}

#[test]
fn events_of_a_stream_are_contents() {
    let stream = ": hello\n\nevent: update\nid: 7\ndata: {\"ssn\":\ndata: \"536-22-8741\"}\n\n\
                  data: {\"n\":1}\r\n\r\ndata:Ada\rretry: 5\r\rdata\n\ndatabase: x\n\ndata: {\"cut\":\"of";
    let (format, lines) = see("text/event-stream; charset=utf-8", stream.as_bytes());
    assert_eq!(format, Format::Events);
    // Every line is looked at, also what is no data.
    assert_eq!(
        lines,
        [
            "/=: hello",
            "/=event: update",
            "/=id: 7",
            "/ssn=536-22-8741",
            "/n=1",
            "/=retry: 5",
            "/=Ada",
            "/=database: x",
            "/cut=of",
        ]
    );
}

#[test]
fn packets_of_socket_io_are_json() {
    let (format, lines) = see("", br#"42["admitted",{"ssn":"536-22-8741"}]"#);
    assert_eq!(format, Format::Json);
    assert!(lines.contains(&"./ssn=536-22-8741".to_owned()), "{lines:?}");
    assert_eq!(see("", b"42 [of them]").0, Format::Text);
    assert_eq!(see("", b"1234567[\"a\"]").0, Format::Text);
}

#[test]
fn names_of_fields_say_what_they_are_in() {
    let form =
        b"p[0][ssn]=1&p[0][dob]=2&p[1][ssn]=3&p[1][phones][]=4&p[1][phones][]=5&z=6&p[2].a.b=7&q[12345][x]=8&a.b.c=9&a.b.d=10&1.2=11";
    let expected = [
        ".p./ssn=1",
        ".p./dob=2",
        ".p./ssn=3",
        ".p..phones/=4",
        ".p..phones/=5",
        "/z=6",
        ".p..a/b=7",
        ".q.12345/x=8",
        ".a.b/c=9",
        ".a.b/d=10",
        "/1.2=11",
    ];
    assert_eq!(lines("application/x-www-form-urlencoded", form), expected);
    let parts: String = [("p[0][ssn]", "1"), ("p[0][dob]", "2"), ("z", "3")]
        .iter()
        .map(|(name, value)| {
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        })
        .collect();
    assert_eq!(
        lines(
            "multipart/form-data; boundary=x",
            format!("{parts}--x--\r\n").as_bytes()
        ),
        [".p./ssn=1", ".p./dob=2", "/z=3"]
    );
    // None of a structure.
    for name in ["[0]", "a]", "a[b", "a[b]c", "a[b].", "a[0]..b", "a.b@c", "a."] {
        assert_eq!(
            lines(
                "application/x-www-form-urlencoded",
                format!("z=0&{name}=1").as_bytes()
            )[1..],
            [format!("/{name}=1")],
            "{name}"
        );
    }
    let deep = format!("a{}=1", "[b]".repeat(16));
    assert_eq!(
        lines("application/x-www-form-urlencoded", deep.as_bytes()),
        [format!("/{deep}")]
    );
}

#[test]
fn forms_multipart_and_csv() {
    assert_eq!(
        lines("application/x-www-form-urlencoded", b"a=1+2&b%5B%5D=%41%zz&c"),
        ["/a=1 2", ".b/=A%zz", "/c="]
    );
    let body = b"--x\r\nContent-Disposition: form-data; name=\"ssn\"\r\n\r\n536-22-8741\r\n--x\r\n\
        Content-Disposition: form-data; name=\"f\"; filename=\"a.json\"\r\nContent-Type: application/json\r\n\r\n{\"k\":2}\r\n--x--\r\n";
    assert_eq!(
        lines("multipart/form-data; boundary=x", body),
        ["/ssn=536-22-8741", ".f./k=2"]
    );
    assert_eq!(
        lines("text/csv", b"name,dob\r\n\"Okafor, \"\"M\"\"\",1980-02-14\r\nx,"),
        ["./name=Okafor, \"M\"", "./dob=1980-02-14", "./name=x"]
    );
}

#[test]
fn segments() {
    let body = b"\x0bMSH|^~\\&|APP\rPID|1||12^^^H&oid^MR~13||A\\T\\B^C\r\x1c\r";
    assert_eq!(
        lines("", body),
        [
            "MSH-3[0].1.1=APP",
            "PID-1[0].1.1=1",
            "PID-3[0].1.1=12",
            "PID-3[0].4.1=H",
            "PID-3[0].4.2=oid",
            "PID-3[0].5.1=MR",
            "PID-3[1].1.1=13",
            "PID-5[0].1.1=A&B",
            "PID-5[0].2.1=C"
        ]
    );
    // Other separators.
    assert_eq!(
        lines("", b"MSH#*~\\&#APP\rPID#1##9*x")[2..],
        ["PID-3[0].1.1=9", "PID-3[0].2.1=x"]
    );
    let isa = "ISA*00*          *00*          *ZZ*SENDER         *ZZ*RECEIVER       *240101*1200*^*00501*000000001*0*P*:~";
    let body = format!("{isa}NM1*IL*1*OKAFOR*MARTA~HI*ABK:E119~");
    let seen = lines("", body.as_bytes());
    assert!(seen.contains(&"NM1-3[0].1.1=OKAFOR".to_owned()), "{seen:?}");
    assert!(seen.contains(&"HI-1[0].2.1=E119".to_owned()), "{seen:?}");
}

#[test]
fn protobuf_without_a_schema() {
    // 1: "Marta", 2: { 1: 150 }
    let message = b"\x0a\x05Marta\x12\x03\x08\x96\x01";
    assert_eq!(lines("application/x-protobuf", message), ["/1=Marta", ".2/1=150"]);
    let framed = [b"\x00\x00\x00\x00\x0c".as_slice(), message].concat();
    assert_eq!(lines("application/grpc", &framed), ["./1=Marta", "..2/1=150"]);
}

#[test]
fn formats_are_told() {
    for (content_type, bytes, format) in [
        ("", "{}", Format::Json),
        ("text/plain", "[1]", Format::Json),
        ("text/plain", "[ -1.5e3 , 2]", Format::Json),
        ("text/plain", "[\n null]", Format::Json),
        ("text/plain", "[2024-03-11 10:22:41] INFO seen", Format::Text),
        ("text/plain", "[12345] LOG: done", Format::Text),
        ("text/plain", "[error] no route", Format::Text),
        ("application/json", "[error]", Format::Json),
        ("", "<a/>", Format::Xml),
        ("", "plain words", Format::Text),
        ("", "a=1&b=2", Format::Form),
        ("application/octet-stream", "MSH|^~\\&|A", Format::Hl7v2),
        ("x-application/hl7-v2+er7", "MSH|^~\\&|A", Format::Hl7v2),
        ("image/png", "{}", Format::Binary),
        ("", "\0\u{1}\u{2}\u{3}", Format::Binary),
        ("", "a,b,c\n1,2,3\n", Format::Csv),
        ("text/javascript", "cb.done( [1]);", Format::Json),
        ("application/javascript", "export default 1", Format::Binary),
    ] {
        assert_eq!(
            see(content_type, bytes.as_bytes()).0,
            format,
            "{content_type} {bytes}"
        );
    }
}

#[test]
fn character_sets() {
    let utf16: Vec<u8> = "{\"n\":\"M\u{e4}rz\"}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(lines("application/json", &utf16), ["/n=M\u{e4}rz"]);
    assert_eq!(
        lines("text/plain; charset=iso-8859-1", b"M\xe4rz"),
        ["/=M\u{e4}rz"]
    );
    assert_eq!(
        lines("application/json", b"{\"n\":\"M\xe4rz\"}"),
        ["/n=M\u{e4}rz"]
    );
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn decode(bytes: &[u8], encoding: &str, truncated: bool) -> (Vec<u8>, Option<Anomaly>) {
    let content = Content {
        bytes,
        content_type: b"",
        content_encoding: encoding.as_bytes(),
        message: None,
        truncated,
    };
    let (decoded, anomaly) = content.decoded(&ContentLimits::default());
    (decoded.into_owned(), anomaly)
}

#[test]
fn encodings_are_undone_and_bounded() {
    let text = br#"{"ssn":"536-22-8741"}"#.repeat(50);
    let once = gzip(&text);
    assert_eq!(decode(&once, "gzip", false), (text.clone(), None));
    assert_eq!(decode(&gzip(&once), "gzip, GZIP", false), (text.clone(), None));
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(&text).expect("memory");
    assert_eq!(
        decode(&zlib.finish().expect("memory"), "deflate", false),
        (text.clone(), None)
    );
    let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    raw.write_all(&text).expect("memory");
    assert_eq!(
        decode(&raw.finish().expect("memory"), "deflate", false),
        (text.clone(), None)
    );
    let zstd =
        ruzstd::encoding::compress_to_vec(text.as_slice(), ruzstd::encoding::CompressionLevel::Fastest);
    assert_eq!(decode(&zstd, "zstd", false), (text.clone(), None));
    // RFC 7932: a stored block, and the end.
    assert_eq!(
        decode(b"\x0b\x02\x80hello\x03", "br", false),
        (b"hello".to_vec(), None)
    );

    let (part, anomaly) = decode(&once[..once.len() - 12], "gzip", true);
    assert!(
        text.starts_with(&part) && anomaly.is_none(),
        "a cut stream gives what was seen"
    );
    assert_eq!(
        decode(&once[..once.len() - 12], "gzip", false).1,
        Some(Anomaly::InvalidContentEncoding)
    );
    assert_eq!(
        decode(b"no gzip at all", "gzip", false).1,
        Some(Anomaly::InvalidContentEncoding)
    );
    assert_eq!(decode(&text, "none", false), (text.clone(), None));
    assert_eq!(
        decode(b"x", "zip", false).1,
        Some(Anomaly::UnknownContentEncoding)
    );

    let bomb = gzip(&vec![b' '; 64 << 20]);
    let (decoded, anomaly) = decode(&bomb, "gzip", false);
    assert_eq!(anomaly, Some(Anomaly::ContentBomb));
    assert!(decoded.len() <= ContentLimits::default().bytes_max);
    let (_, anomaly) = decode(&gzip(&bomb), "gzip, gzip", false);
    assert_eq!(anomaly, Some(Anomaly::ContentBomb), "also within another");
}

const TYPES: &[&str] = &[
    "application/json",
    "application/xml",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/csv",
    "application/grpc",
    "application/x-protobuf",
    "",
];

proptest! {
    #[test]
    fn anything_is_visited_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0..TYPES.len()) {
        see(TYPES[at], &bytes);
        for encoding in ["gzip", "deflate", "br", "zstd"] {
            decode(&bytes, encoding, at % 2 == 0);
        }
    }

    #[test]
    fn likely_bytes_too(text in "[\\[\\]{}\",:a-c0-9<>/=&;%|^~\\\\\r\n-]{0,400}", at in 0..TYPES.len()) {
        see(TYPES[at], text.as_bytes());
        see("", format!("MSH|^~\\&|{text}").as_bytes());
    }
}
