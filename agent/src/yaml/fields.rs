//! The keys of one mapping, taken one by one; what is left over in the end is an unknown key.

use std::cell::RefCell;
use std::time::Duration;

use super::{Entry, Node, Place, Reader, Value, nearest, one_of, parse_bytes, parse_duration, quote};
use super::{show_bytes, show_duration};
use crate::errors;

/// A mapping that is being read.
pub struct Fields<'n> {
    reader: &'n Reader,
    /// Where the mapping stands in the file's tree, for the reference: `capture.scope`.
    path: String,
    place: Place,
    entries: &'n [Entry],
    asked: RefCell<Vec<&'static str>>,
}

impl Reader {
    /// The node as a mapping, or a problem. `path` names it, empty at the top. Call [`Fields::finish`] in the end.
    pub fn fields<'n>(&'n self, node: &'n Node, path: &str) -> Option<Fields<'n>> {
        let entries = match &node.value {
            Value::Mapping(entries) => entries.as_slice(),
            Value::Null => &[],
            other => {
                self.problem(
                    errors::WRONG_SHAPE,
                    node.place,
                    format!("{} stands where keys with values should", other.kind()),
                    "write `key: value` lines",
                );
                return None;
            }
        };
        Some(Fields {
            reader: self,
            path: path.into(),
            place: node.place,
            entries,
            asked: RefCell::default(),
        })
    }
}

impl<'n> Fields<'n> {
    /// The reader it belongs to.
    pub fn reader(&self) -> &'n Reader {
        self.reader
    }

    /// Where the mapping starts.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The value of a key, if it is written. An empty value counts as not written.
    pub fn take(&self, key: &'static str) -> Option<&'n Node> {
        self.take_entry(key)
            .map(|entry| &entry.value)
            .filter(|node| !matches!(node.value, Value::Null))
    }

    /// The key itself, with its value, also if that is empty.
    pub fn take_entry(&self, key: &'static str) -> Option<&'n Entry> {
        self.asked.borrow_mut().push(key);
        #[cfg(test)]
        self.reader.asked.borrow_mut().insert(self.path_of(key));
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// A key that is known, but not for use: it is not suggested for others.
    pub fn take_hidden(&self, key: &'static str) -> Option<&'n Entry> {
        let found = self.entries.iter().find(|entry| entry.key == key);
        if found.is_some() {
            self.asked.borrow_mut().push(key);
        }
        found
    }

    /// The value of a key that has to be there.
    pub fn require(&self, key: &'static str, wanted: &str) -> Option<&'n Node> {
        let found = self.take(key);
        if found.is_none() {
            self.reader.problem(
                errors::MISSING_KEY,
                self.place,
                format!("`{key}` is missing"),
                format!("add `{key}:` with {wanted}"),
            );
        }
        found
    }

    /// A mapping under a key.
    pub fn mapping(&self, key: &'static str) -> Option<Fields<'n>> {
        self.reader.fields(self.take(key)?, &self.path_of(key))
    }

    /// Text under a key, not empty.
    pub fn text(&self, key: &'static str, wanted: &str) -> Option<&'n str> {
        let node = self.take(key)?;
        let text = self.reader.text(node, wanted)?;
        if text.is_empty() {
            self.reader.problem(
                errors::BAD_VALUE,
                node.place,
                format!("`{key}` is empty"),
                format!("write {wanted}"),
            );
            return None;
        }
        Some(text)
    }

    /// A list of text under a key, with places; a single value is a list of one.
    pub fn texts(&self, key: &'static str, wanted: &str) -> Option<Vec<(&'n str, Place)>> {
        let node = self.take(key)?;
        let mut texts = Vec::new();
        for item in self.reader.items(node) {
            match self.reader.text(item, wanted) {
                Some("") => self.reader.problem(
                    errors::BAD_VALUE,
                    item.place,
                    format!("a value of `{key}` is empty"),
                    format!("write {wanted}"),
                ),
                Some(text) => texts.push((text, item.place)),
                None => {}
            }
        }
        Some(texts)
    }

    /// One of a set of words under a key.
    pub fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.reader.word(self.take(key)?, words)
    }

    /// `true` or `false` under a key.
    pub fn bool(&self, key: &'static str) -> Option<bool> {
        self.word(key, &[("true", true), ("false", false)])
    }

    /// A whole number under a key, within bounds.
    pub fn number(&self, key: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let node = self.take(key)?;
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let number = self
            .reader
            .parse(node, &wanted, |text| text.parse::<i64>().ok())?;
        if !range.contains(&number) {
            self.reader.problem(
                errors::OUT_OF_RANGE,
                node.place,
                format!("{number} is out of range"),
                format!("write {wanted}"),
            );
            return None;
        }
        Some(number)
    }

    /// A number of bytes under a key (`65536`, `64KiB`), within bounds.
    pub fn bytes(&self, key: &'static str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let node = self.take(key)?;
        let wanted = format!(
            "a size from {} to {}",
            show_bytes(*range.start()),
            show_bytes(*range.end())
        );
        let bytes = self.reader.parse(node, &wanted, parse_bytes)?;
        if !range.contains(&bytes) {
            self.reader.problem(
                errors::OUT_OF_RANGE,
                node.place,
                format!("{} is out of range", show_bytes(bytes)),
                format!("write {wanted}"),
            );
            return None;
        }
        Some(bytes)
    }

    /// A duration under a key (`500ms`, `30s`, `5m`, `1h`), within bounds.
    pub fn duration(&self, key: &'static str, range: std::ops::RangeInclusive<Duration>) -> Option<Duration> {
        let node = self.take(key)?;
        let wanted = format!(
            "a duration from {} to {}",
            show_duration(*range.start()),
            show_duration(*range.end())
        );
        let duration = self.reader.parse(node, &wanted, parse_duration)?;
        if !range.contains(&duration) {
            self.reader.problem(
                errors::OUT_OF_RANGE,
                node.place,
                format!("{} is out of range", show_duration(duration)),
                format!("write {wanted}"),
            );
            return None;
        }
        Some(duration)
    }

    /// Keys that nobody asked for become problems. `asked` is complete only now.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for entry in self.entries {
            if asked.contains(&entry.key.as_str()) {
                continue;
            }
            let mut names: Vec<&str> = asked.clone();
            names.dedup();
            let instead = match nearest(&entry.key, names.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("remove it, or write {}", one_of(&names)),
            };
            self.reader.problem(
                errors::UNKNOWN_KEY,
                entry.key_place,
                format!("{} is not a key here", quote(&entry.key)),
                instead,
            );
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.into()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}
