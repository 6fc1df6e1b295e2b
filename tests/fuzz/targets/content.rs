//! Bodies as anybody could send them, under any type and encoding: visited, and looked through for personal data.

use apiward::call::{Content, Part};
use apiward::detect::PhiSettings;
use apiward::detect::phi::Scanner;

const TYPES: [&str; 9] = [
    "application/json",
    "application/fhir+xml",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/csv",
    "application/grpc",
    "text/plain",
    "",
    "application/graphql",
];
const ENCODINGS: [&str; 6] = ["", "gzip", "deflate", "br", "zstd", "gzip, br"];

/// One input: type, encoding, body.
pub fn run(data: &[u8]) {
    let [content_type, encoding, bytes @ ..] = data else {
        return;
    };
    let mut scanner = Scanner::new(&PhiSettings::default(), [0; 32], &[]).expect("the tables build");
    let content = Content {
        bytes,
        content_type: TYPES[usize::from(*content_type) % TYPES.len()].as_bytes(),
        content_encoding: ENCODINGS[usize::from(*encoding) % ENCODINGS.len()].as_bytes(),
        message: None,
        truncated: content_type & 64 != 0,
    };
    scanner.body(Part::ResponseBody, &content);
    assert!(scanner.take().len() <= 512, "what is told is bounded");
}
