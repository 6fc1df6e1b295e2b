//! Files of protobuf descriptors → the types of gRPC messages. Read once, when the agent starts.
//!
//! A file is what `protoc --include_imports --descriptor_set_out` writes. Everything wrong is told at once. `call` never
//! sees a descriptor: it takes the table that is made here.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet, ServiceDescriptorProto};

use super::unreadable;
use crate::call::{FieldKind, FieldType, Meaning, MessageFields, Method, Schema, Width};
use crate::errors::{self, ErrorId};
use crate::yaml::{Problem, Problems, quote};

/// Bytes of one file.
const DESCRIPTOR_BYTES_MAX: usize = 32 << 20;
/// Messages, and methods, of all files together.
const TYPES_MAX: usize = 100_000;
/// Fields of all messages together.
const FIELDS_MAX: usize = 1_000_000;
/// Types that are told to be missing; one is enough to know what to do.
const MISSING_TOLD_MAX: usize = 20;

/// The files' types; `None` without files.
pub fn read(files: &[PathBuf]) -> Result<Option<Schema>, Problems> {
    let mut problems = Vec::new();
    let mut gathered = Gathered::default();
    for path in files {
        let name = path.display().to_string();
        match set(path, &name) {
            Ok(set) => gathered.add(&name, set),
            Err(found) => problems.extend(found.0),
        }
    }
    if problems.is_empty() && !files.is_empty() {
        match gathered.schema(&mut problems) {
            Some(schema) if problems.is_empty() => return Ok(Some(schema)),
            _ => {}
        }
    }
    match problems.is_empty() {
        true => Ok(None),
        false => Err(Problems(problems)),
    }
}

fn set(path: &Path, name: &str) -> Result<FileDescriptorSet, Problems> {
    let mut bytes = Vec::new();
    let limit = DESCRIPTOR_BYTES_MAX as u64 + 1;
    let read = std::fs::metadata(path).and_then(|metadata| match metadata.is_file() {
        // Opening a pipe waits for its writer.
        false => Err(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "it is no regular file",
        )),
        true => std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes),
    });
    read.map_err(|error| unreadable(name, &error))?;
    if bytes.len() as u64 == limit {
        return Err(Problems(vec![problem(
            name,
            errors::TOO_LARGE,
            format!("the file has more than {DESCRIPTOR_BYTES_MAX} bytes"),
            "write the descriptors of the services that are used here, without source info",
        )]));
    }
    let set = FileDescriptorSet::decode(bytes.as_slice()).ok();
    set.filter(|set| !set.file.is_empty() && set.file.iter().all(is_file))
        .ok_or_else(|| {
            Problems(vec![problem(
                name,
                errors::BAD_VALUE,
                "the file holds no protobuf descriptors (a `FileDescriptorSet`)".into(),
                "write it with `protoc --include_imports --descriptor_set_out=FILE …` or `buf build -o FILE`",
            )])
        })
}

/// Other files decode as well, into nothing that anybody wrote.
fn is_file(file: &prost_types::FileDescriptorProto) -> bool {
    file.name().ends_with(".proto")
}

fn problem(name: &str, id: ErrorId, what: String, instead: &str) -> Problem {
    Problem {
        id,
        file: name.into(),
        place: None,
        what,
        instead: instead.into(),
    }
}

/// Messages and services of all files, by full name.
#[derive(Default)]
struct Gathered {
    /// The name of the file that it came from, and it.
    messages: Vec<(String, String, DescriptorProto)>,
    services: Vec<(String, String, ServiceDescriptorProto)>,
    by_name: HashMap<String, u32>,
}

impl Gathered {
    fn add(&mut self, source: &str, set: FileDescriptorSet) {
        for file in set.file {
            let package = file.package().to_owned();
            for message in file.message_type {
                self.message(source, &package, message);
            }
            for service in file.service {
                let name = join(&package, service.name());
                self.services.push((source.to_owned(), name, service));
            }
        }
    }

    /// The decoder bounds how deep they are in each other.
    fn message(&mut self, source: &str, within: &str, mut message: DescriptorProto) {
        let name = join(within, message.name());
        for nested in std::mem::take(&mut message.nested_type) {
            self.message(source, &name, nested);
        }
        // Two files may hold the same imports.
        if !self.by_name.contains_key(&name) {
            self.by_name.insert(name.clone(), self.messages.len() as u32);
            self.messages.push((source.to_owned(), name, message));
        }
    }

    fn schema(self, problems: &mut Vec<Problem>) -> Option<Schema> {
        let fields = self
            .messages
            .iter()
            .map(|(_, _, message)| message.field.len())
            .sum::<usize>();
        let methods = self
            .services
            .iter()
            .map(|(_, _, service)| service.method.len())
            .sum::<usize>();
        if self.messages.len() > TYPES_MAX || methods > TYPES_MAX || fields > FIELDS_MAX {
            let source = self.messages.last().map_or("", |(source, ..)| source.as_str());
            problems.push(problem(
                source,
                errors::TOO_LARGE,
                format!(
                    "up to here there are more than {TYPES_MAX} messages or methods, or {FIELDS_MAX} fields"
                ),
                "write the descriptors of the services that are used here",
            ));
            return None;
        }
        let mut missing = Missing {
            by_name: &self.by_name,
            told: BTreeSet::new(),
        };
        let messages = self
            .messages
            .iter()
            .map(|(source, name, message)| MessageFields {
                name: name.into(),
                meaning: meaning(name, message),
                fields: message
                    .field
                    .iter()
                    .filter_map(|field| {
                        Some(FieldType {
                            number: u32::try_from(field.number()).ok()?,
                            name: field.name().into(),
                            kind: kind(field.r#type(), source, field.type_name(), &mut missing)?,
                            repeated: field.label() == Label::Repeated,
                        })
                    })
                    .collect(),
            })
            .collect();
        let methods = self
            .services
            .iter()
            .flat_map(|(source, name, service)| {
                service.method.iter().map(move |method| (source, name, method))
            })
            .filter_map(|(source, name, method)| {
                let takes = missing.find(source, method.input_type());
                let gives = missing.find(source, method.output_type());
                Some(Method {
                    path: format!("{name}/{}", method.name()).into(),
                    takes: takes?,
                    gives: gives?,
                })
            })
            .collect();
        problems.extend(missing.told.iter().map(|(source, name)| {
            problem(
                source,
                errors::BAD_VALUE,
                format!("the type {} is used, and is in none of the files", quote(name)),
                "write the descriptors with their imports: `protoc --include_imports …`",
            )
        }));
        Some(Schema::new(messages, methods))
    }
}

/// Finds types, and remembers those that are not there.
struct Missing<'g> {
    by_name: &'g HashMap<String, u32>,
    /// File and type.
    told: BTreeSet<(String, String)>,
}

impl Missing<'_> {
    fn find(&mut self, source: &str, name: &str) -> Option<u32> {
        let name = name.trim_start_matches('.');
        let found = self.by_name.get(name);
        if found.is_none() && self.told.len() < MISSING_TOLD_MAX {
            self.told.insert((source.to_owned(), name.to_owned()));
        }
        found.copied()
    }
}

/// `None`: groups, which nobody writes any more.
fn kind(kind: Type, source: &str, name: &str, missing: &mut Missing<'_>) -> Option<FieldKind> {
    Some(match kind {
        Type::Int32 | Type::Int64 => FieldKind::Signed,
        Type::Uint32 | Type::Uint64 => FieldKind::Unsigned,
        Type::Sint32 | Type::Sint64 => FieldKind::ZigZag,
        Type::Bool | Type::Enum => FieldKind::Word,
        Type::Fixed32 => FieldKind::Fixed(Width::Four),
        Type::Fixed64 => FieldKind::Fixed(Width::Eight),
        Type::Sfixed32 => FieldKind::SignedFixed(Width::Four),
        Type::Sfixed64 => FieldKind::SignedFixed(Width::Eight),
        Type::Float | Type::Double => FieldKind::Float,
        Type::String => FieldKind::Text,
        Type::Bytes => FieldKind::Bytes,
        Type::Message => FieldKind::Message(missing.find(source, name)?),
        Type::Group => return None,
    })
}

fn meaning(name: &str, message: &DescriptorProto) -> Meaning {
    if message
        .options
        .as_ref()
        .is_some_and(|options| options.map_entry())
    {
        return Meaning::Entry;
    }
    match name {
        "google.protobuf.Any" => Meaning::Any,
        "google.protobuf.Timestamp" => Meaning::Timestamp,
        "google.type.Date" => Meaning::Date,
        "google.protobuf.DoubleValue"
        | "google.protobuf.FloatValue"
        | "google.protobuf.Int64Value"
        | "google.protobuf.UInt64Value"
        | "google.protobuf.Int32Value"
        | "google.protobuf.UInt32Value"
        | "google.protobuf.BoolValue"
        | "google.protobuf.StringValue"
        | "google.protobuf.BytesValue"
        | "google.protobuf.Struct"
        | "google.protobuf.Value"
        | "google.protobuf.ListValue" => Meaning::Content,
        _ => Meaning::Fields,
    }
}

fn join(package: &str, name: &str) -> String {
    match package {
        "" => name.to_owned(),
        _ => format!("{package}.{name}"),
    }
}

#[cfg(test)]
mod tests;
