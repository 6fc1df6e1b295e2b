//! Descriptors that protox makes of sources, and files that are none.

use proptest::prelude::*;

use super::*;
use crate::call::{Content, Data, Part};
use crate::detect::PhiSettings;
use crate::detect::phi::Scanner;

const HOSPITAL: &str = r#"
syntax = "proto3";
package hospital.v1;
import "google/protobuf/any.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

message Patient {
  int64 id = 1;
  Name legal_name = 2;
  string ssn = 3;
  google.protobuf.Timestamp birth_date = 4;
  repeated string phone_numbers = 5;
  map<string, string> tags = 6;
  google.protobuf.StringValue email_address = 7;
  google.protobuf.Any record = 8;
  google.protobuf.Struct extra = 9;
  repeated sint32 scores = 10;
  fixed64 mrn = 11;
  double weight = 12;
  bytes blob = 13;
  Ward zorkward = 14;
  Patient next_of_kin = 15;
}
message Name { string family_name = 1; repeated string given_name = 2; }
enum Ward { NONE = 0; ICU = 1; }
message Asked { string zorkquery = 1; }
service Patients { rpc Get(Asked) returns (stream Patient); }
"#;

fn compile(directory: &Path, source: &str, imports: bool) -> PathBuf {
    std::fs::write(directory.join("hospital.proto"), source).expect("written");
    let mut compiler = protox::Compiler::new([directory]).expect("a directory");
    compiler.include_imports(imports);
    compiler.open_file("hospital.proto").expect("it compiles");
    let path = directory.join("hospital.binpb");
    std::fs::write(&path, compiler.encode_file_descriptor_set()).expect("written");
    path
}

fn schema() -> Schema {
    let directory = tempfile::tempdir().expect("a directory");
    let path = compile(directory.path(), HOSPITAL, true);
    read(&[path.clone(), path]).expect("descriptors").expect("types")
}

/// What is found in the answer of `Get`.
fn found(schema: &Schema, body: &[u8]) -> Vec<String> {
    let mut scanner = Scanner::new(&PhiSettings::default(), [7; 32], &[]).expect("the tables build");
    scanner.set_schema(std::sync::Arc::new(schema.clone()));
    let (_, gives) = schema.method("/hospital.v1.Patients/Get").expect("a method");
    scanner.body(
        Part::ResponseBody,
        &Content {
            bytes: body,
            content_type: b"application/grpc+proto",
            content_encoding: b"",
            message: Some(gives),
            truncated: false,
        },
    );
    let told = |data: &Data| format!("{} {} {}", data.class, data.location, data.evidence.as_str());
    let mut found: Vec<String> = scanner.take().iter().map(told).collect();
    found.sort();
    found
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

#[test]
fn fields_have_their_names() {
    let schema = schema();
    let name = [field(1, b"Okonkwo"), field(2, b"Ada"), field(2, b"Bea")].concat();
    let patient = [
        field(2, &name),
        field(3, b"219-09-9999"),
        // 1980-02-03
        field(4, b"\x08\x80\xc0\x9a\x98\x01"),
        field(5, b"+49 30 901820"),
        field(7, &field(1, b"ada@hospital.example")),
        field(15, &field(2, &name)),
    ]
    .concat();
    assert_eq!(
        found(&schema, &framed(&patient)),
        [
            "birth-date $[].birth_date structure",
            "email $[].email_address structure",
            "name $[].legal_name.family_name structure",
            "name $[].legal_name.given_name[] structure",
            "name $[].next_of_kin.legal_name.family_name structure",
            "name $[].next_of_kin.legal_name.given_name[] structure",
            "phone $[].phone_numbers[] structure",
            "ssn $[].ssn structure",
        ]
    );
}

/// Ways and values of an answer of `Get`.
fn told(schema: &Schema, message: &[u8]) -> String {
    #[derive(Default)]
    struct Told(Vec<String>, Vec<String>);
    impl crate::call::Sink for Told {
        fn open(&mut self, name: &[u8], _: crate::call::Container) {
            self.1.push(String::from_utf8_lossy(name).into_owned());
        }
        fn close(&mut self) {
            self.1.pop();
        }
        fn value(&mut self, name: &[u8], _: crate::call::ValueType, value: &[u8]) {
            let way = [&self.1[1..], &[String::from_utf8_lossy(name).into_owned()]]
                .concat()
                .join(".");
            self.0.push(format!("{way}={}", String::from_utf8_lossy(value)));
        }
        fn segment(&mut self, _: crate::call::Format, _: &[u8]) {}
        fn field(&mut self, _: crate::call::Field<'_>, _: &[u8]) {}
    }
    let mut told = Told::default();
    let (_, gives) = schema
        .method("/a/proxy/hospital.v1.Patients/Get")
        .expect("a method");
    let content = Content {
        bytes: message,
        content_type: b"application/x-protobuf",
        content_encoding: b"",
        message: Some(gives),
        truncated: false,
    };
    content.visit(&crate::call::ContentLimits::default(), &mut told);
    assert!(told.1.is_empty(), "every container is closed");
    told.0.join(" ")
}

#[test]
fn every_kind_of_field() {
    let schema = schema();
    let entry = [field(1, b"shoe"), field(2, b"42")].concat();
    let value = [field(1, b"colour"), field(2, &field(3, b"red"))].concat();
    let any = [
        field(1, b"type.googleapis.com/hospital.v1.Name"),
        field(2, &field(1, b"Abe")),
    ]
    .concat();
    for (message, expected) in [
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".to_vec(), "id=-1"),
        (field(6, &entry), "tags.shoe=42"),
        (field(8, &any), "record.family_name=Abe"),
        (field(9, &field(1, &value)), "extra.colour=red"),
        (field(10, &[1, 2, 3]), "scores.=-1 scores.=1 scores.=-2"),
        (b"\x59\x07\0\0\0\0\0\0\0".to_vec(), "mrn=7"),
        (b"\x61\0\0\0\0\0\0\xf8\x3f".to_vec(), "weight=1.5"),
        (field(13, b"\x0a\x03Ann"), "blob.1=Ann"),
        (b"\x70\x01".to_vec(), "zorkward=1"),
        // Of another version of the type: a number where text should be, and a field that nobody knows.
        (b"\x18\x07\xb8\x01\x08".to_vec(), "3=7 23=8"),
        // Cut within a name.
        (b"\x12\x20\x0a\x07Okon".to_vec(), "legal_name.family_name=Okon"),
    ] {
        assert_eq!(told(&schema, &message), expected, "{message:x?}");
    }
    assert!(schema.method("/hospital.v1.Patients/Put").is_none());
    assert!(schema.method("").is_none());
    assert!(schema.method("hospital.v1.Patients/Get?x").is_some());
}

#[test]
fn bad_files_are_told_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("text"), "syntax = \"proto3\";").expect("written");
    std::fs::write(at("empty"), "").expect("written");
    let problems = read(&[at("missing"), at("text"), at("empty"), directory.path().into()]);
    let text = problems.expect_err("bad files").to_string();
    assert_eq!(text.matches("[AW1008]").count(), 2, "{text}");
    assert_eq!(text.matches("[AW1004]").count(), 2, "{text}");
    let lone = compile(directory.path(), HOSPITAL, false);
    let text = read(&[lone]).expect_err("imports are missing").to_string();
    assert!(
        text.contains("`google.protobuf.Any` is used") && text.contains("--include_imports"),
        "{text}"
    );
    assert_eq!(read(&[]), Ok(None));
}

proptest! {
    #[test]
    fn nothing_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        static SCHEMA: std::sync::LazyLock<Schema> = std::sync::LazyLock::new(schema);
        told(&SCHEMA, &bytes);
    }
}
