//! A body → its values, one by one, with the way to each: what detectors look at.
//!
//! Content-Encoding is undone, the character set is made UTF-8, the format is told by the media type or by the first
//! bytes, and then the values are visited in the document's order. No tree is built: what is held is one value and one
//! bit a level. Everything is tolerant: a body that was cut, or is broken, gives what was seen. It must not know what
//! values mean.

mod charset;
mod csv;
mod dicom;
mod encoding;
mod events;
mod form;
mod graphql;
mod hl7v2;
mod json;
mod multipart;
mod nested;
mod protobuf;
mod schema;
mod sniff;
mod typed;
mod x12;
mod xml;

use std::borrow::Cow;

pub use self::schema::{FieldKind, FieldType, Meaning, MessageFields, MessageType, Method, Schema, Width};
use crate::decode::Anomaly;

/// What looking at one body may cost.
#[derive(Clone, Copy, Debug)]
pub struct ContentLimits {
    /// Bytes of a body after its encodings were undone.
    pub bytes_max: usize,
    /// Times that its encodings may make a body longer, where it is longer than [`ContentLimits::small_bytes`].
    pub ratio_max: usize,
    /// A decoded body up to this length is no bomb, whatever its ratio: a few repetitive lines compress very well.
    pub small_bytes: usize,
    /// Encodings on top of each other.
    pub encodings_max: usize,
    /// Levels that are told apart; what is deeper counts to the last one.
    pub depth_max: usize,
    /// Values, keys and elements of one body.
    pub values_max: u64,
}

impl Default for ContentLimits {
    fn default() -> Self {
        ContentLimits {
            bytes_max: 8 << 20,
            ratio_max: 100,
            small_bytes: 512 << 10,
            encodings_max: 4,
            depth_max: 64,
            values_max: 1 << 20,
        }
    }
}

/// The format of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Also several values after each other (NDJSON, JSON sequences).
    Json,
    Xml,
    /// `application/x-www-form-urlencoded`.
    Form,
    Multipart,
    Csv,
    Hl7v2,
    X12,
    Protobuf,
    /// A file of DICOM.
    Dicom,
    /// Server-sent events.
    Events,
    /// A document alone; one within JSON is a string of that.
    GraphQl,
    Text,
    /// None of these: not visited.
    Binary,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    Text,
    Number,
    /// `true`, `false`, `null`: no value that tells anything.
    Word,
    Bytes,
}

/// What values are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// Has named values: a JSON object, a form, a row.
    Object,
    Array,
    /// Of XML: its attributes are named values, its text is a value without a name.
    Element,
}

/// A place in a message of segments.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// `PID`, `NM1`.
    pub segment: &'a [u8],
    /// From 1, as the standards count: MSH-1 is the separator.
    pub field: u16,
    /// From 0.
    pub repetition: u16,
    /// From 1.
    pub component: u16,
    /// From 1.
    pub subcomponent: u16,
}

/// Takes values in the document's order. Names and values are as they mean, with escapes resolved.
pub trait Sink {
    /// What follows, up to `close`, is in this. `name` is empty in arrays and at the root.
    fn open(&mut self, name: &[u8], container: Container);
    /// The container ends.
    fn close(&mut self);
    /// A value. `name` is empty in arrays, at the root, and for the text of an XML element.
    fn value(&mut self, name: &[u8], kind: ValueType, value: &[u8]);
    /// A segment of HL7 v2 or X12 begins.
    fn segment(&mut self, format: Format, id: &[u8]);
    /// A component of the segment's fields that is not empty.
    fn field(&mut self, at: Field<'_>, value: &[u8]);
}

/// A body with what its headers say of it.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    pub bytes: &'a [u8],
    /// `Content-Type`; empty: none.
    pub content_type: &'a [u8],
    /// `Content-Encoding`; empty: none.
    pub content_encoding: &'a [u8],
    /// What its messages are, where it is protobuf and the configuration has their types.
    pub message: Option<MessageType<'a>>,
    /// Its end was not captured: an encoding that breaks off is no oddity.
    pub truncated: bool,
}

/// What there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visited {
    pub format: Format,
    /// Of its encodings, if any.
    pub anomaly: Option<Anomaly>,
    /// Bytes after its encodings were undone.
    pub bytes: usize,
    /// A limit ended the visit before the content did.
    pub cut: bool,
}

/// A visit's budget and sink, as the formats see it.
pub(crate) struct Visit<'s, S> {
    sink: &'s mut S,
    limits: ContentLimits,
    message: Option<MessageType<'s>>,
    depth: usize,
    values: u64,
    /// Parts within parts.
    nesting: usize,
}

/// Parts within parts that are looked into.
const NESTING_MAX: usize = 4;

impl<'a> Content<'a> {
    /// The body with its encodings undone: all of it, or as much as came, or as the limits allow.
    pub fn decoded(&self, limits: &ContentLimits) -> (Cow<'a, [u8]>, Option<Anomaly>) {
        encoding::decode(self.bytes, self.content_encoding, self.truncated, limits)
    }

    /// Hands every value to `sink`.
    pub fn visit<S: Sink>(&self, limits: &ContentLimits, sink: &mut S) -> Visited {
        let (bytes, anomaly) = self.decoded(limits);
        let mut visit = Visit {
            sink,
            limits: *limits,
            message: self.message,
            depth: 0,
            values: limits.values_max,
            nesting: 0,
        };
        let format = visit.content(self.content_type, &bytes);
        Visited {
            format,
            anomaly,
            bytes: bytes.len(),
            cut: visit.values == 0,
        }
    }

    /// The format, by the media type, else by the first bytes.
    pub fn format(&self, limits: &ContentLimits) -> Format {
        let (bytes, _) = self.decoded(limits);
        sniff::format(self.content_type, &bytes)
    }
}

impl Format {
    /// Hands the pairs of a query string to `sink`.
    pub fn visit_query<S: Sink>(query: &[u8], limits: &ContentLimits, sink: &mut S) {
        let mut visit = Visit {
            sink,
            limits: *limits,
            message: None,
            depth: 0,
            values: limits.values_max,
            nesting: 0,
        };
        form::visit(query, false, &mut visit);
    }
}

impl<S: Sink> Visit<'_, S> {
    /// A whole content, or a part of one.
    fn content(&mut self, content_type: &[u8], bytes: &[u8]) -> Format {
        let format = sniff::format(content_type, bytes);
        let utf8 = match format {
            Format::Binary | Format::Multipart | Format::Protobuf | Format::Dicom => Cow::Borrowed(bytes),
            _ => charset::to_utf8(content_type, format, bytes),
        };
        match format {
            Format::Json => json::visit(&utf8, self),
            Format::Xml => xml::visit(&utf8, self),
            Format::Form => form::visit(&utf8, true, self),
            Format::Csv => csv::visit(&utf8, self),
            Format::Hl7v2 => hl7v2::visit(&utf8, self),
            Format::X12 => x12::visit(&utf8, self),
            Format::GraphQl => graphql::visit(&utf8, self),
            Format::Text => self.value(b"", ValueType::Text, &utf8),
            Format::Multipart if self.nesting < NESTING_MAX => {
                self.nesting += 1;
                multipart::visit(content_type, bytes, self);
                self.nesting -= 1;
            }
            Format::Protobuf => protobuf::visit(content_type, bytes, self),
            Format::Dicom => dicom::visit(bytes, self),
            Format::Events => events::visit(&utf8, self),
            Format::Multipart | Format::Binary => {}
        }
        format
    }

    fn open(&mut self, name: &[u8], container: Container) {
        self.values = self.values.saturating_sub(1);
        self.depth += 1;
        if self.depth <= self.limits.depth_max {
            self.sink.open(name, container);
        }
    }

    fn close(&mut self) {
        if self.depth == 0 {
            return;
        }
        if self.depth <= self.limits.depth_max {
            self.sink.close();
        }
        self.depth -= 1;
    }

    fn value(&mut self, name: &[u8], kind: ValueType, value: &[u8]) {
        self.values = self.values.saturating_sub(1);
        self.sink.value(name, kind, value);
    }

    /// The budget is used up.
    fn is_over(&self) -> bool {
        self.values == 0
    }
}

#[cfg(test)]
mod tests;
