//! A walk over XML: elements and attributes, down to a depth, for as long as it is well-formed.
//!
//! The tokenizer is quick-xml's, which resolves no external entities and expands none. A body that was captured in part
//! gives what was seen of it. It must not know what is looked for.

use quick_xml::Reader;
use quick_xml::events::Event;
use smol_str::SmolStr;

/// Elements of one document that are looked at.
const ELEMENTS_MAX: usize = 200_000;

/// What stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Told before what is in it.
    Element,
    /// The name of an attribute, with its prefix, and its value, entities not replaced.
    Attribute(&'a str, &'a str),
    Text(&'a str),
}

/// Tells what is not deeper than `depth_max`, in order; names of elements without their prefixes. `tell` says whether to
/// go on. `false`: it is not well-formed, or not whole.
pub(super) fn walk(
    bytes: &[u8],
    depth_max: usize,
    tell: &mut dyn FnMut(&[SmolStr], Value<'_>) -> bool,
) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut reader = Reader::from_str(&text);
    let mut path: Vec<SmolStr> = Vec::new();
    let mut depth = 0usize;
    for _ in 0..ELEMENTS_MAX {
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(_) => return false,
        };
        let (element, is_empty) = match &event {
            Event::Start(element) => (Some(element), false),
            Event::Empty(element) => (Some(element), true),
            _ => (None, false),
        };
        if let Some(element) = element {
            if depth < depth_max {
                path.push(SmolStr::new(element.local_name().as_ref()));
                let mut go_on = tell(&path, Value::Element);
                for attribute in element.attributes().with_checks(false).flatten() {
                    let key = attribute.key.as_ref();
                    let value = attribute.value.as_ref();
                    go_on = go_on && tell(&path, Value::Attribute(key, value));
                }
                if !go_on {
                    return true;
                }
                if is_empty {
                    path.pop();
                }
            }
            depth += usize::from(!is_empty);
        }
        match event {
            Event::Text(text) if depth == path.len() && depth > 0 => {
                let text = text.trim();
                if !text.is_empty() && !tell(&path, Value::Text(text)) {
                    return true;
                }
            }
            Event::End(_) => {
                if depth == path.len() {
                    path.pop();
                }
                depth = depth.saturating_sub(1);
            }
            Event::Eof => return depth == 0,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, depth_max: usize) -> (String, bool) {
        let mut all = String::new();
        let whole = walk(text.as_bytes(), depth_max, &mut |path, value| {
            all.push_str(&format!("{} {value:?}; ", path.join(".")));
            true
        });
        (all, whole)
    }

    #[test]
    fn everything_is_told_as_far_as_it_goes() {
        let (all, whole) = told(
            "<?xml version='1.0'?><s:a xmlns='u'><b value='1'/><c>t<d><e/></d></c></s:a>",
            3,
        );
        assert_eq!(
            all,
            "a Element; a Attribute(\"xmlns\", \"u\"); a.b Element; a.b Attribute(\"value\", \"1\"); a.c Element; \
             a.c Text(\"t\"); a.c.d Element; "
        );
        assert!(whole);
        let (all, whole) = told("<a><b><c><d x='1'/><e><f/></e></c></b><g/></a>", 2);
        assert_eq!(all, "a Element; a.b Element; a.g Element; ");
        assert!(whole);
        assert!(!told("<a><b>", 3).1 && !told("<a></b>", 3).1);
    }

    #[test]
    fn entities_are_not_expanded() {
        let bomb =
            "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'><!ENTITY y '&x;&x;'>]><a b='&y;'>&x;&y;</a>";
        let (all, _) = told(bomb, 3);
        assert!(
            all.contains("a Attribute(\"b\", \"&y;\")") && !all.contains("root"),
            "{all}"
        );
    }
}
