//! CSV (RFC 4180), with comma, semicolon or tab: the first row names the columns.

use super::{Container, Sink, ValueType, Visit};

/// Columns whose names are kept; further ones have none.
const COLUMNS_MAX: usize = 512;

pub(super) fn visit<S: Sink>(bytes: &[u8], visit: &mut Visit<'_, S>) {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let separator = separator(bytes);
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut at = 0;
    at = row(bytes, at, separator, &mut |column, cell| {
        if column < COLUMNS_MAX {
            names.push(cell.to_vec());
        }
    });
    visit.open(b"", Container::Array);
    while at < bytes.len() && !visit.is_over() {
        visit.open(b"", Container::Object);
        at = row(bytes, at, separator, &mut |column, cell| {
            if !cell.is_empty() {
                let name = names.get(column).map_or(b"".as_slice(), Vec::as_slice);
                visit.value(name, ValueType::Text, cell);
            }
        });
        visit.close();
    }
    visit.close();
}

/// The most frequent of the usual ones in the first line.
pub(super) fn separator(bytes: &[u8]) -> u8 {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |byte: u8| line.iter().filter(|other| **other == byte).count();
    [b',', b';', b'\t', b'|']
        .into_iter()
        .rev()
        .max_by_key(|byte| count(*byte))
        .unwrap_or(b',')
}

/// One row from `at`; returns where the next begins.
fn row(bytes: &[u8], mut at: usize, separator: u8, out: &mut dyn FnMut(usize, &[u8])) -> usize {
    let mut column = 0;
    loop {
        if bytes.get(at) == Some(&b'"') {
            let mut cell = Vec::new();
            at += 1;
            loop {
                let Some(length) = memchr::memchr(b'"', &bytes[at..]) else {
                    cell.extend_from_slice(&bytes[at..]);
                    at = bytes.len();
                    break;
                };
                cell.extend_from_slice(&bytes[at..at + length]);
                at += length + 1;
                if bytes.get(at) != Some(&b'"') {
                    break;
                }
                cell.push(b'"');
                at += 1;
            }
            out(column, &cell);
            while at < bytes.len() && bytes[at] != separator && bytes[at] != b'\n' {
                at += 1;
            }
        } else {
            let end =
                memchr::memchr2(separator, b'\n', &bytes[at..]).map_or(bytes.len(), |length| at + length);
            out(column, bytes[at..end].trim_ascii());
            at = end;
        }
        column += 1;
        match bytes.get(at) {
            Some(byte) if *byte == separator => at += 1,
            Some(_) => return at + 1,
            None => return at,
        }
    }
}
