//! A message of HL7 version 2 → where its facts stand: header, segments, acknowledgement, patient.
//!
//! The separators are the message's own (MSH-1 and MSH-2). Segments end with a carriage return; line feeds are taken as
//! well and named. One pass, nothing copied; of a message that was captured in part it tells what there is. It must not
//! know what a value means: which may be shown is for `call` to say.

use std::borrow::Cow;

use super::mllp::is_delimiter;

/// Different segment names that are told apart; further ones are counted with none.
const NAMES_MAX: usize = 64;

/// Separators as most systems have them: field, component, repetition, escape, subcomponent.
const USUAL: Separators = Separators(*b"|^~\\&");

/// The message's own separators: field, component, repetition, escape, subcomponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Separators([u8; 5]);

/// A message, or the first of a batch. Deliberately without `Debug`: it is captured bytes.
#[derive(Clone)]
pub struct Hl7<'a> {
    pub separators: Separators,
    /// MSH-3 to MSH-6: sending application and facility, receiving application and facility.
    pub parties: [&'a [u8]; 4],
    /// MSH-9: code, trigger event, structure.
    pub kind: [&'a [u8]; 3],
    /// MSH-10
    pub control_id: &'a [u8],
    /// MSH-11, its first component.
    pub processing: &'a [u8],
    /// MSH-12, its first component.
    pub version: &'a [u8],
    /// MSH-15 and MSH-16: which acknowledgements are asked for; both empty: original mode.
    pub acknowledge: [&'a [u8]; 2],
    /// MSH-18, its first repetition.
    pub charset: &'a [u8],
    /// MSA-1 and MSA-2: it answers that message.
    pub answers: Option<(&'a [u8], &'a [u8])>,
    /// PID-3, else PID-2: the first identifier of the first patient.
    pub patient: Option<&'a [u8]>,
    /// PID segments.
    pub patients: u32,
    /// MSH segments.
    pub messages: u32,
    /// It is a batch or a file of them (BHS, FHS).
    pub is_batch: bool,
    /// Different names of segments, in order of their first appearance.
    pub segments: Vec<&'a [u8]>,
    /// Length of the first segment.
    pub head_bytes: usize,
    /// Segments end with line feeds.
    pub line_feeds: bool,
    /// MSH-1 and MSH-2 are none that anybody could go by.
    pub bad_separators: bool,
    /// Lines that are no segments: no name, or not followed by the separator.
    pub bad_segments: u32,
}

impl Separators {
    /// The usual ones.
    pub fn is_usual(self) -> bool {
        self == USUAL
    }

    fn of(header: &[u8]) -> Option<Separators> {
        let field = *header.get(3).filter(|byte| is_delimiter(**byte))?;
        let rest = header.get(4..).unwrap_or_default();
        let end = memchr::memchr(field, rest).unwrap_or(rest.len());
        let mut separators = USUAL;
        separators.0[0] = field;
        // Since 2.7 a fifth one may follow, for truncated values.
        if !(1..=5).contains(&end) || !rest[..end].iter().all(|byte| is_delimiter(*byte)) {
            return None;
        }
        for (slot, byte) in separators.0[1..].iter_mut().zip(&rest[..end.min(4)]) {
            *slot = *byte;
        }
        let distinct = (0..5).all(|at| !separators.0[..at].contains(&separators.0[at]));
        distinct.then_some(separators)
    }

    /// The first of what this separator separates.
    fn first(self, value: &[u8], which: usize) -> &[u8] {
        let end = memchr::memchr(self.0[which], value).unwrap_or(value.len());
        &value[..end]
    }

    /// The first component of the first repetition, without its escapes.
    pub fn plain(self, value: &[u8]) -> Cow<'_, [u8]> {
        self.unescape(self.first(self.first(self.first(value, 2), 1), 4))
    }

    /// Escape sequences for separators and bytes replaced; others (formatting) are left as they are.
    fn unescape(self, value: &[u8]) -> Cow<'_, [u8]> {
        let escape = self.0[3];
        if memchr::memchr(escape, value).is_none() {
            return Cow::Borrowed(value);
        }
        let mut plain = Vec::with_capacity(value.len());
        let mut rest = value;
        while let Some(start) = memchr::memchr(escape, rest) {
            plain.extend_from_slice(&rest[..start]);
            let behind = &rest[start + 1..];
            let Some(length) = memchr::memchr(escape, behind) else {
                plain.push(escape);
                rest = behind;
                continue;
            };
            match &behind[..length] {
                b"F" => plain.push(self.0[0]),
                b"S" => plain.push(self.0[1]),
                b"R" => plain.push(self.0[2]),
                b"E" => plain.push(escape),
                b"T" => plain.push(self.0[4]),
                [b'X', hex @ ..] if !hex.is_empty() && hex.len() % 2 == 0 && digits(hex) => {
                    plain.extend(hex.chunks(2).filter_map(|pair| {
                        let pair = std::str::from_utf8(pair).ok()?;
                        u8::from_str_radix(pair, 16).ok()
                    }));
                }
                other => {
                    plain.push(escape);
                    plain.extend_from_slice(other);
                    plain.push(escape);
                }
            }
            rest = &behind[length + 1..];
        }
        plain.extend_from_slice(rest);
        Cow::Owned(plain)
    }
}

impl<'a> Hl7<'a> {
    /// Reads a message. `None`: it does not begin like one.
    pub fn parse(bytes: &'a [u8]) -> Option<Hl7<'a>> {
        let mut lines = Lines { rest: bytes };
        let header = lines.next()?;
        if !matches!(header.get(..3), Some(b"MSH" | b"BHS" | b"FHS")) {
            return None;
        }
        let separators = Separators::of(header);
        let mut message = Hl7 {
            separators: separators.unwrap_or(USUAL),
            parties: [&[]; 4],
            kind: [&[]; 3],
            control_id: &[],
            processing: &[],
            version: &[],
            acknowledge: [&[]; 2],
            charset: &[],
            answers: None,
            patient: None,
            patients: 0,
            messages: 0,
            is_batch: !header.starts_with(b"MSH"),
            segments: Vec::new(),
            head_bytes: header.len(),
            line_feeds: memchr::memchr2(b'\r', b'\n', bytes).is_some_and(|at| bytes[at] == b'\n'),
            bad_separators: separators.is_none(),
            bad_segments: 0,
        };
        if message.is_batch {
            message.header(header);
        }
        for line in (Lines { rest: bytes }) {
            message.segment(line);
        }
        Some(message)
    }

    fn segment(&mut self, line: &'a [u8]) {
        let named = line.len() >= 3
            && line[0].is_ascii_uppercase()
            && line[1..3]
                .iter()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if !named || line.get(3).is_some_and(|byte| *byte != self.separators.0[0]) {
            self.bad_segments = self.bad_segments.saturating_add(1);
            return;
        }
        let name = &line[..3];
        if self.segments.len() < NAMES_MAX && !self.segments.contains(&name) {
            self.segments.push(name);
        }
        match name {
            b"MSH" => {
                self.messages = self.messages.saturating_add(1);
                if self.messages == 1 {
                    self.header(line);
                }
            }
            b"MSA" if self.answers.is_none() => {
                let mut fields = self.fields(line);
                self.answers = Some((
                    fields.next().unwrap_or_default(),
                    fields.next().unwrap_or_default(),
                ));
            }
            b"PID" => {
                self.patients = self.patients.saturating_add(1);
                if self.patient.is_none() {
                    let mut fields = self.fields(line).skip(1);
                    let (second, third) = (fields.next(), fields.next());
                    let has_id =
                        |value: &&[u8]| !self.separators.plain(value).is_empty() && *value != b"\"\"";
                    self.patient = third.filter(has_id).or(second.filter(has_id));
                }
            }
            _ => {}
        }
    }

    /// MSH, or FHS and BHS as far as they are like it.
    fn header(&mut self, line: &'a [u8]) {
        let separators = self.separators;
        let first = |value: &'a [u8]| separators.first(value, 1);
        // MSH-1 is the separator itself, so what is split off first is MSH-2.
        for (number, value) in (2..=18).zip(self.fields(line)) {
            match number {
                3..=6 => self.parties[number - 3] = value,
                9 if line.starts_with(b"MSH") => {
                    let parts = value.split(|byte| *byte == separators.0[1]);
                    for (slot, part) in self.kind.iter_mut().zip(parts) {
                        *slot = part;
                    }
                }
                10 if line.starts_with(b"MSH") => self.control_id = value,
                11 if self.is_batch && !line.starts_with(b"MSH") => self.control_id = value,
                11 => self.processing = first(value),
                12 => self.version = first(value),
                15 | 16 => self.acknowledge[number - 15] = value,
                18 => self.charset = separators.first(value, 2),
                _ => {}
            }
        }
    }

    /// The fields of a segment, from the first one on.
    fn fields(&self, line: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let field = self.separators.0[0];
        line.get(4..)
            .unwrap_or_default()
            .split(move |byte| *byte == field)
    }
}

/// Lines that are not empty.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = memchr::memchr2(b'\r', b'\n', self.rest).unwrap_or(self.rest.len());
            let line = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !line.is_empty() {
                return Some(line);
            }
        }
        None
    }
}

fn digits(hex: &[u8]) -> bool {
    hex.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn header_segments_and_patient() {
        let bytes = b"MSH|^~\\&|LAB^1^L|HOSP|EHR|CLINIC|20260101||ORU^R01^ORU_R01|42|P^T|2.5.1^x|||AL|NE||8859/1~UNICODE UTF-8\r\
            PID|1||777^^^MR~888||DOE^J\rOBR|1\rOBX|1\rOBX|2\rZPI|x\r";
        let message = Hl7::parse(bytes).unwrap();
        assert_eq!(message.parties.map(text), ["LAB^1^L", "HOSP", "EHR", "CLINIC"]);
        assert_eq!(message.kind.map(text), ["ORU", "R01", "ORU_R01"]);
        assert_eq!(
            [
                message.control_id,
                message.processing,
                message.version,
                message.acknowledge[0],
                message.acknowledge[1],
                message.charset
            ]
            .map(text),
            ["42", "P", "2.5.1", "AL", "NE", "8859/1"]
        );
        assert_eq!(
            message.segments.iter().map(|name| text(name)).collect::<Vec<_>>(),
            ["MSH", "PID", "OBR", "OBX", "ZPI"]
        );
        assert_eq!(text(&message.separators.plain(message.patient.unwrap())), "777");
        assert_eq!((message.patients, message.messages), (1, 1));
        assert!(message.answers.is_none() && !message.line_feeds && message.separators.is_usual());
        assert_eq!(message.bad_segments, 0);
    }

    #[test]
    fn own_separators_and_escapes() {
        let message =
            Hl7::parse(b"MSH#*@!%#A!S!B*x######ADT*A04#1!F!2!X4142!!H!#P#2.3\nPID###!E!9*y\nbad line")
                .unwrap();
        let separators = message.separators;
        assert_eq!(message.kind.map(text), ["ADT", "A04", ""]);
        assert_eq!(text(&separators.plain(message.parties[0])), "A*B");
        assert_eq!(text(&separators.plain(message.control_id)), "1#2AB!H!");
        assert_eq!(text(&separators.plain(message.patient.unwrap())), "!9");
        assert!(message.line_feeds && !separators.is_usual() && !message.bad_separators);
        assert_eq!(message.bad_segments, 1);
    }

    #[test]
    fn acknowledgements_batches_and_what_is_broken() {
        let ack = Hl7::parse(b"MSH|^~\\&|||||||ACK|9\rMSA|AE|42|text").unwrap();
        assert_eq!(
            ack.answers.map(|(code, id)| (text(code), text(id))),
            Some(("AE", "42"))
        );
        let batch = Hl7::parse(b"FHS|^~\\&|A\rBHS|^~\\&|A\rMSH|^~\\&|A||||||ADT^A01|1\rPID|1|5\rMSH|^~\\&|||||||ADT^A02|2\rPID|1\rBTS|2\rFTS|1\r").unwrap();
        assert!(batch.is_batch && batch.messages == 2 && batch.patients == 2);
        assert_eq!((text(batch.kind[1]), text(batch.control_id)), ("A01", "1"));
        assert_eq!(batch.patient.map(text), Some("5"));
        for bytes in ["MSH|^^^^|A", "MSH|abcd|A", "MSH||A", "MSHX"] {
            assert!(Hl7::parse(bytes.as_bytes()).unwrap().bad_separators, "{bytes}");
        }
        assert!(Hl7::parse(b"PID|1").is_none() && Hl7::parse(b"").is_none());
    }

    proptest! {
        #[test]
        fn anything_is_read_and_nothing_panics(
            bytes in prop::collection::vec(prop_oneof![Just(b'|'), Just(b'^'), Just(b'\\'), Just(b'\r'), any::<u8>()], 0..300),
        ) {
            let mut message = b"MSH|^~\\&|".to_vec();
            message.extend_from_slice(&bytes);
            let read = Hl7::parse(&message).unwrap();
            for party in read.parties {
                let _ = read.separators.plain(party);
            }
            let _ = Hl7::parse(&bytes);
        }
    }
}
