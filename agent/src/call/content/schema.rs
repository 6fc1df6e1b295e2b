//! The types of protobuf messages, from the descriptors that the configuration names.
//!
//! A table by number and name, and nothing else: which messages a method takes and gives, which fields a message has, what
//! their bytes are. It is built once, from plain values, and only read then. It must not know how descriptors are written.

use hashbrown::HashMap;
use smol_str::SmolStr;

use crate::call::grpc::service_and_method;

/// What a field's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// `int32`, `int64`: negative ones have their sign.
    Signed,
    /// `uint32`, `uint64`.
    Unsigned,
    /// `sint32`, `sint64`.
    ZigZag,
    /// `bool`, or an enumeration: nothing that tells anything by itself.
    Word,
    /// `fixed32`, `fixed64`.
    Fixed(Width),
    /// `sfixed32`, `sfixed64`.
    SignedFixed(Width),
    /// `float`, `double`.
    Float,
    Text,
    Bytes,
    /// By its place in [`Schema::messages`].
    Message(u32),
}

/// Bytes of a number of fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Four,
    Eight,
}

/// A field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldType {
    pub number: u32,
    pub name: SmolStr,
    pub kind: FieldKind,
    pub repeated: bool,
}

/// What a message stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Fields,
    /// An entry of a map: field 1 is its key, field 2 its value.
    Entry,
    /// Its content stands for it: the wrappers of single values, and what JSON becomes (`google.protobuf.Struct`).
    Content,
    /// `google.protobuf.Any`: another message, with the name of its type.
    Any,
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// `google.type.Date`.
    Date,
}

/// A message and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageFields {
    /// Without the leading dot: `hospital.v1.Patient`.
    pub name: SmolStr,
    pub meaning: Meaning,
    pub fields: Vec<FieldType>,
}

/// A method of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// `hospital.v1.Patients/Get`.
    pub path: SmolStr,
    /// By their place in [`Schema::messages`].
    pub takes: u32,
    pub gives: u32,
}

/// All messages and methods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    messages: Vec<MessageFields>,
    by_name: HashMap<SmolStr, u32>,
    methods: HashMap<SmolStr, (u32, u32)>,
}

/// The type of a message, for who reads one.
#[derive(Clone, Copy)]
pub struct MessageType<'s> {
    schema: &'s Schema,
    message: &'s MessageFields,
}

impl Schema {
    /// Numbers of messages that are in no list stand for nothing: their fields are read as if there was no type.
    pub fn new(mut messages: Vec<MessageFields>, methods: Vec<Method>) -> Schema {
        let mut by_name = HashMap::with_capacity(messages.len());
        for (at, message) in messages.iter_mut().enumerate() {
            message.fields.sort_by_key(|field| field.number);
            by_name.entry(message.name.clone()).or_insert(at as u32);
        }
        Schema {
            messages,
            by_name,
            methods: methods
                .into_iter()
                .map(|method| (method.path, (method.takes, method.gives)))
                .collect(),
        }
    }

    /// Methods that are known.
    pub fn methods_len(&self) -> usize {
        self.methods.len()
    }

    /// Names of all fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.messages
            .iter()
            .flat_map(|message| message.fields.iter().map(|field| field.name.as_str()))
    }

    /// What the method of a path takes and gives.
    pub fn method(&self, path: &str) -> Option<(MessageType<'_>, MessageType<'_>)> {
        let path = path.split(['?', '#']).next()?;
        let name = service_and_method(path);
        let (takes, gives) = *self.methods.get(name)?;
        Some((self.at(takes)?, self.at(gives)?))
    }

    fn at(&self, at: u32) -> Option<MessageType<'_>> {
        Some(MessageType {
            schema: self,
            message: self.messages.get(at as usize)?,
        })
    }
}

impl<'s> MessageType<'s> {
    pub(super) fn meaning(self) -> Meaning {
        self.message.meaning
    }

    pub(super) fn field(self, number: u32) -> Option<&'s FieldType> {
        let fields = &self.message.fields;
        let at = fields.binary_search_by_key(&number, |field| field.number).ok()?;
        fields.get(at)
    }

    pub(super) fn of_field(self, at: u32) -> Option<MessageType<'s>> {
        self.schema.at(at)
    }

    /// By the name in an `Any`: what stands behind the last `/`.
    pub(super) fn named(self, url: &[u8]) -> Option<MessageType<'s>> {
        let name = url.rsplit(|byte| *byte == b'/').next()?;
        let at = self.schema.by_name.get(std::str::from_utf8(name).ok()?)?;
        self.schema.at(*at)
    }
}
