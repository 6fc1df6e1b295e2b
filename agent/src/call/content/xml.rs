//! XML by quick-xml's pull parser. Nothing is fetched, a DTD is stepped over, and no entity is expanded but the five of
//! XML itself and character references: an entity bomb is a few short values.
//!
//! An element is opened under its local name; its attributes are values by name, and its text is a value without one.

use quick_xml::events::Event;
use quick_xml::{Reader, escape};

use super::{Container, Sink, ValueType, Visit};

pub(super) fn visit<S: Sink>(bytes: &[u8], visit: &mut Visit<'_, S>) {
    let mut reader = Reader::from_reader(bytes);
    let config = reader.config_mut();
    config.check_end_names = false;
    config.allow_unmatched_ends = true;
    config.expand_empty_elements = false;
    let mut open = 0usize;
    let mut text: Vec<u8> = Vec::new();
    while !visit.is_over() {
        // An error ends it: what comes after broken XML is anybody's guess.
        let Ok(event) = reader.read_event() else {
            break;
        };
        match event {
            Event::Text(piece) => text.extend_from_slice(piece.as_bytes()),
            Event::CData(piece) => text.extend_from_slice(piece.as_bytes()),
            Event::GeneralRef(name) => reference(name.as_bytes(), &mut text),
            Event::Start(element) => {
                flush(&mut text, visit);
                visit.open(element.local_name().as_ref().as_bytes(), Container::Element);
                open += 1;
                attributes(&element, visit);
            }
            Event::Empty(element) => {
                flush(&mut text, visit);
                visit.open(element.local_name().as_ref().as_bytes(), Container::Element);
                attributes(&element, visit);
                visit.close();
            }
            Event::End(_) => {
                flush(&mut text, visit);
                if open > 0 {
                    open -= 1;
                    visit.close();
                }
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    flush(&mut text, visit);
    for _ in 0..open {
        visit.close();
    }
}

fn flush<S: Sink>(text: &mut Vec<u8>, visit: &mut Visit<'_, S>) {
    let value = text.trim_ascii();
    if !value.is_empty() {
        visit.value(b"", ValueType::Text, value);
    }
    text.clear();
}

fn attributes<S: Sink>(element: &quick_xml::events::BytesStart<'_>, visit: &mut Visit<'_, S>) {
    for attribute in element.attributes().with_checks(false).flatten() {
        // Namespace declarations are no values.
        if attribute.key.as_ref().starts_with("xmlns") {
            continue;
        }
        let name = attribute.key.local_name();
        let (name, value) = (name.as_ref().as_bytes(), &attribute.value);
        let unescaped = match value.contains('&') {
            true => escape::unescape(value).ok(),
            false => None,
        };
        let value = unescaped.as_deref().unwrap_or(value);
        visit.value(name, ValueType::Text, value.as_bytes());
    }
}

/// One of the five, or a character by number; any other entity is nothing.
fn reference(name: &[u8], text: &mut Vec<u8>) {
    let c = match name {
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"amp" => Some('&'),
        b"apos" => Some('\''),
        b"quot" => Some('"'),
        _ => std::str::from_utf8(name).ok().and_then(|name| {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }),
    };
    if let Some(c) = c {
        text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}
