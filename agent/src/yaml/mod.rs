//! YAML with places: a file becomes a tree in which every key and value knows its line and column, and every
//! problem found in it is kept, so that a file's errors are told all at once.
//!
//! Configuration and policy are read through it. serde stops at the first error and forgets places, hence a tree
//! of our own over the parser's events. It must not know what the keys mean.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use crate::errors::{self, ErrorId};

mod documented;
mod fields;
mod scalar;

pub use documented::{Key, key};
pub use fields::Fields;
pub use scalar::{parse_bytes, parse_cidr, parse_duration, show_bytes, show_duration};

/// Longest file that is read.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Most values in a file, aliases counted as often as they are used.
const NODES_MAX: usize = 100_000;
/// Deepest nesting.
const DEPTH_MAX: usize = 32;
/// Most problems told of one file; what is beyond is counted.
const PROBLEMS_MAX: usize = 100;
/// Longest part of a value that is quoted in a message.
const QUOTED_CHARS_MAX: usize = 60;

/// Line and column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub value: Value,
}

/// What YAML can say. Scalars stay text: what they mean is decided by who asks for them.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing written, `~` or `null`.
    Null,
    /// Text; `plain` if it was not quoted.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key of a mapping, its place, and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_place: Place,
    pub value: Node,
}

/// Something in a file that its author has to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub id: ErrorId,
    /// Name of the file as the user gave it.
    pub file: Arc<str>,
    /// `None` where the file as a whole is meant.
    pub place: Option<Place>,
    /// What is wrong.
    pub what: String,
    /// What to write, or do, instead.
    pub instead: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(place) = self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        write!(f, " {} — {} [{}]", self.what, self.instead, self.id)
    }
}

/// All problems of one or more files, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// One file while it is read: its name, and the problems found so far.
pub struct Reader {
    file: Arc<str>,
    problems: RefCell<Vec<Problem>>,
    /// Every key that was asked for, with the keys above it; for the test that holds the reference against the code.
    #[cfg(test)]
    pub(crate) asked: RefCell<std::collections::BTreeSet<String>>,
}

impl Reader {
    /// A reader of the file with this name.
    pub fn new(file: &str) -> Reader {
        Reader {
            file: file.into(),
            problems: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// The file's name.
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// Notes a problem at a place.
    pub fn problem(&self, id: ErrorId, place: Place, what: impl Into<String>, instead: impl Into<String>) {
        self.push(id, Some(place), what.into(), instead.into());
    }

    /// Notes a problem of the file as a whole.
    pub fn file_problem(&self, id: ErrorId, what: impl Into<String>, instead: impl Into<String>) {
        self.push(id, None, what.into(), instead.into());
    }

    fn push(&self, id: ErrorId, place: Option<Place>, what: String, instead: String) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < PROBLEMS_MAX {
            problems.push(Problem {
                id,
                file: self.file.clone(),
                place,
                what,
                instead,
            });
        }
    }

    /// Has anything been noted?
    pub fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// How many problems were noted.
    pub fn problems_len(&self) -> usize {
        self.problems.borrow().len()
    }

    /// The problems, in the order of the file.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.place);
        problems
    }

    /// The file's documents. What is readable before a syntax error is returned, so that its problems are told too.
    pub fn documents(&self, text: &str) -> Vec<Node> {
        if text.len() > FILE_BYTES_MAX {
            self.file_problem(
                errors::TOO_LARGE,
                format!("the file has {} bytes, more than {FILE_BYTES_MAX}", text.len()),
                "split it into several files",
            );
            return Vec::new();
        }
        Builder::new(self).run(text)
    }

    /// The items of a sequence; a single value is taken as a sequence of one.
    pub fn items<'n>(&self, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::Null => &[],
            Value::Sequence(items) => items,
            _ => std::slice::from_ref(node),
        }
    }

    /// The text of a scalar, or a problem.
    pub fn text<'n>(&self, node: &'n Node, wanted: &str) -> Option<&'n str> {
        match &node.value {
            Value::Scalar { text, .. } => Some(text),
            other => {
                self.problem(
                    errors::WRONG_SHAPE,
                    node.place,
                    format!("{} stands where one value should", other.kind()),
                    format!("write {wanted}"),
                );
                None
            }
        }
    }

    /// A scalar read by `parse`; `wanted` completes the sentence "write …".
    pub fn parse<T>(&self, node: &Node, wanted: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(node, wanted)?;
        let value = parse(text);
        if value.is_none() {
            self.problem(
                errors::BAD_VALUE,
                node.place,
                format!("{} cannot be used here", quote(text)),
                format!("write {wanted}"),
            );
        }
        value
    }

    /// One of a set of words, with a suggestion for a word that is nearly one of them.
    pub fn word<T: Copy>(&self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let wanted = one_of(&names);
        let text = self.text(node, &wanted)?;
        if let Some((_, value)) = words.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let instead = match nearest(text, names.iter().copied()) {
            Some(name) => format!("did you mean `{name}`? Write {wanted}"),
            None => format!("write {wanted}"),
        };
        self.problem(
            errors::BAD_VALUE,
            node.place,
            format!("{} cannot be used here", quote(text)),
            instead,
        );
        None
    }
}

impl Value {
    /// What it is, for messages.
    fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }
}

/// A user's text in a message: in backquotes, bounded, without control characters.
pub fn quote(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(QUOTED_CHARS_MAX)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(QUOTED_CHARS_MAX).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// `a`, `b` or `c`.
pub fn one_of(names: &[&str]) -> String {
    match names {
        [] => String::from("nothing"),
        [only] => format!("`{only}`"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|name| format!("`{name}`")).collect();
            format!("{} or `{last}`", first.join(", "))
        }
    }
}

/// The name that was probably meant: at most a third of it differs.
pub fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Long input cannot be a slip of the finger, and the comparison is quadratic.
    if text.len() > 64 {
        return None;
    }
    let plain = |s: &str| s.to_ascii_lowercase().replace(['-', '_'], "");
    let text = plain(text);
    names
        .map(|name| (distance(&text, &plain(name)), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits (insert, delete, replace, swap of neighbours) from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let mut best = (last[j] + 1)
                .min(row[j - 1] + 1)
                .min(last[j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row[j] = best;
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// A collection that is still open.
enum Frame {
    Sequence {
        place: Place,
        anchor: usize,
        items: Vec<Node>,
    },
    Mapping {
        place: Place,
        anchor: usize,
        entries: Vec<Entry>,
        key: Option<(Option<String>, Place)>,
    },
}

/// Events → trees.
struct Builder<'r> {
    reader: &'r Reader,
    frames: Vec<Frame>,
    documents: Vec<Node>,
    /// Anchored values with their size in nodes.
    anchors: Vec<(usize, Node, usize)>,
    nodes: usize,
}

impl<'r> Builder<'r> {
    fn new(reader: &'r Reader) -> Self {
        Builder {
            reader,
            frames: Vec::new(),
            documents: Vec::new(),
            anchors: Vec::new(),
            nodes: 0,
        }
    }

    fn run(mut self, text: &str) -> Vec<Node> {
        let options = granit_parser::options! {
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX
        };
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let marker = error.marker();
                    self.reader.problem(
                        errors::YAML_SYNTAX,
                        Place {
                            line: marker.line() as u32,
                            column: marker.col() as u32 + 1,
                        },
                        format!("this is not YAML: {}", error.info()),
                        "check indentation, quotes and brackets here and just above",
                    );
                    break;
                }
            };
            if self.step(event, span).is_err() {
                self.reader.file_problem(
                    errors::TOO_LARGE,
                    format!("the file has more than {NODES_MAX} values, aliases included"),
                    "split it into several files",
                );
                break;
            }
        }
        self.documents
    }

    /// `Err` where a limit is passed.
    fn step(&mut self, event: Event<'_>, span: Span) -> Result<(), ()> {
        let place = Place {
            line: span.start.line() as u32,
            column: span.start.col() as u32 + 1,
        };
        match event {
            Event::DocumentStart(..) => self.anchors.clear(),
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let null = plain && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                let value = if null {
                    Value::Null
                } else {
                    Value::Scalar {
                        text: text.into_owned(),
                        plain,
                    }
                };
                return self.value(Node { place, value }, anchor, 1);
            }
            Event::Alias(id) => {
                let found = self.anchors.iter().rev().find(|(anchor, _, _)| *anchor == id);
                if let Some((_, node, size)) = found {
                    let (node, size) = (
                        Node {
                            place,
                            value: node.value.clone(),
                        },
                        *size,
                    );
                    return self.value(node, 0, size);
                }
                self.reader.problem(
                    errors::YAML_SYNTAX,
                    place,
                    "an alias refers to the value that it is part of",
                    "write the value out",
                );
                return self.value(
                    Node {
                        place,
                        value: Value::Null,
                    },
                    0,
                    1,
                );
            }
            Event::SequenceStart(_, anchor, _) => {
                self.frames.push(Frame::Sequence {
                    place,
                    anchor,
                    items: Vec::new(),
                });
            }
            Event::MappingStart(_, anchor, _) => {
                self.frames.push(Frame::Mapping {
                    place,
                    anchor,
                    entries: Vec::new(),
                    key: None,
                });
            }
            Event::SequenceEnd | Event::MappingEnd => match self.frames.pop() {
                Some(Frame::Sequence { place, anchor, items }) => {
                    let node = Node {
                        place,
                        value: Value::Sequence(items),
                    };
                    return self.value(node, anchor, 1);
                }
                Some(Frame::Mapping {
                    place,
                    anchor,
                    entries,
                    ..
                }) => {
                    let node = Node {
                        place,
                        value: Value::Mapping(entries),
                    };
                    return self.value(node, anchor, 1);
                }
                None => {}
            },
            _ => {}
        }
        Ok(())
    }

    /// A finished value goes to where it belongs.
    fn value(&mut self, node: Node, anchor: usize, size: usize) -> Result<(), ()> {
        self.nodes += size;
        if self.nodes > NODES_MAX {
            return Err(());
        }
        if anchor != 0 {
            let size = count(&node.value);
            self.anchors.push((anchor, node.clone(), size));
        }
        match self.frames.last_mut() {
            None => self.documents.push(node),
            Some(Frame::Sequence { items, .. }) => items.push(node),
            Some(Frame::Mapping { entries, key, .. }) => match key.take() {
                None => {
                    let place = node.place;
                    let text = match node.value {
                        Value::Scalar { text, .. } => Some(text),
                        _ => {
                            self.reader.problem(
                                errors::WRONG_SHAPE,
                                place,
                                "a key has to be a single word",
                                "write `key: value`",
                            );
                            None
                        }
                    };
                    *key = Some((text, place));
                }
                Some((None, _)) => {}
                Some((Some(name), key_place)) => {
                    if let Some(first) = entries.iter().find(|entry| entry.key == name) {
                        self.reader.problem(
                            errors::DUPLICATE_KEY,
                            key_place,
                            format!(
                                "{} is written twice, first in line {}",
                                quote(&name),
                                first.key_place.line
                            ),
                            "keep one of them",
                        );
                    } else {
                        entries.push(Entry {
                            key: name,
                            key_place,
                            value: node,
                        });
                    }
                }
            },
        }
        Ok(())
    }
}

/// Values in a tree, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Null | Value::Scalar { .. } => 0,
        Value::Sequence(items) => items.iter().map(|item| count(&item.value)).sum(),
        Value::Mapping(entries) => entries.iter().map(|entry| count(&entry.value.value)).sum(),
    }
}

#[cfg(test)]
mod tests;
