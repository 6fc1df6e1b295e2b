//! A GraphQL document: the values that stand in it, by the names of their arguments and input fields.
//!
//! Everything else of it is structure: selections, types, variables. What a document asks for is told elsewhere.

use super::{Container, Sink, ValueType, Visit};

pub(super) fn visit<S: Sink>(bytes: &[u8], visit: &mut Visit<'_, S>) {
    visit.open(b"", Container::Object);
    // Parentheses that are open, and what is open within them: objects, or else lists.
    let (mut arguments, mut open) = (0usize, Vec::new());
    // Name of the value that comes next.
    let mut name: &[u8] = b"";
    let mut at = 0;
    while at < bytes.len() && !visit.is_over() {
        let byte = bytes[at];
        match byte {
            b'#' => at += memchr::memchr2(b'\n', b'\r', &bytes[at..]).unwrap_or(bytes.len() - at),
            b'(' => arguments += 1,
            b')' => {
                arguments = arguments.saturating_sub(1);
                for _ in open.drain(..) {
                    visit.close();
                }
            }
            b'"' => {
                let (value, end) = string(bytes, at);
                if arguments > 0 {
                    visit.value(name, ValueType::Text, &value);
                    name = b"";
                }
                at = end;
                continue;
            }
            _ if arguments == 0 => {}
            b'{' | b'[' => {
                let is_object = byte == b'{';
                visit.open(
                    name,
                    if is_object {
                        Container::Object
                    } else {
                        Container::Array
                    },
                );
                open.push(());
                name = b"";
            }
            b'}' | b']' if open.pop().is_some() => visit.close(),
            // A variable, where it is declared or used.
            b'$' | b'@' => at += word(&bytes[at + 1..]),
            b'-' | b'0'..=b'9' => {
                let end = at + 1 + word_or_number(&bytes[at + 1..]);
                visit.value(name, ValueType::Number, &bytes[at..end]);
                name = b"";
                at = end;
                continue;
            }
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                let end = at + word(&bytes[at..]);
                let next = bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace());
                name = match next {
                    Some(b':') => &bytes[at..end],
                    // `true`, an enumeration's value, a type.
                    _ => b"",
                };
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    for _ in open {
        visit.close();
    }
    visit.close();
}

fn word(bytes: &[u8]) -> usize {
    let other = |byte: &u8| !(byte.is_ascii_alphanumeric() || *byte == b'_');
    bytes.iter().position(other).unwrap_or(bytes.len())
}

fn word_or_number(bytes: &[u8]) -> usize {
    let other = |byte: &u8| !(byte.is_ascii_alphanumeric() || b".+-".contains(byte));
    bytes.iter().position(other).unwrap_or(bytes.len())
}

/// A string that begins at `at`, as it means, and where it ends.
fn string(bytes: &[u8], at: usize) -> (Vec<u8>, usize) {
    if let Some(block) = bytes[at..].strip_prefix(b"\"\"\"") {
        let length = memchr::memmem::find(block, b"\"\"\"").unwrap_or(block.len());
        return (block[..length].to_vec(), (at + 6 + length).min(bytes.len()));
    }
    let mut value = Vec::new();
    let mut rest = bytes[at + 1..].iter().enumerate();
    while let Some((offset, byte)) = rest.next() {
        match byte {
            b'"' => return (value, at + offset + 2),
            b'\\' => match rest.next() {
                Some((_, b'n' | b'r' | b't')) => value.push(b' '),
                Some((_, b'u')) => {
                    let digits: String = rest.by_ref().take(4).map(|(_, byte)| char::from(*byte)).collect();
                    let c = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                    value.extend_from_slice(c.unwrap_or(' ').encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some((_, byte)) => value.push(*byte),
                None => break,
            },
            byte => value.push(*byte),
        }
    }
    (value, bytes.len())
}
