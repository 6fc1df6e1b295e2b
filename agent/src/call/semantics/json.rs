//! A walk over JSON without a tree: what stands where, down to a depth, for as long as it is valid.
//!
//! The tokenizer is serde_json's, which also bounds the nesting. A body that was captured in part gives what was seen of
//! it. It must not know what is looked for.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use smol_str::SmolStr;

/// One step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::call) enum Step {
    Key(SmolStr),
    /// An item of a list.
    Item,
}

impl Step {
    /// The key; an item's is `[]`.
    pub(in crate::call) fn as_str(&self) -> &str {
        match self {
            Step::Key(key) => key,
            Step::Item => "[]",
        }
    }
}

/// What stands there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::call) enum Value<'a> {
    /// Told before what is in it.
    Object,
    /// Told before what is in it.
    List,
    Text(&'a str),
    Number(f64),
    /// A truth value or null.
    Other,
}

/// Tells every value that is not deeper than `depth_max`, in order. `false`: it is no JSON, or not whole.
pub(in crate::call) fn walk(
    bytes: &[u8],
    depth_max: usize,
    tell: &mut dyn FnMut(&[Step], Value<'_>),
) -> bool {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let mut path = Vec::with_capacity(depth_max);
    let walk = Walk {
        path: &mut path,
        depth_max,
        tell,
    };
    walk.deserialize(&mut deserializer).is_ok() && deserializer.end().is_ok()
}

struct Walk<'w, 'f> {
    path: &'w mut Vec<Step>,
    depth_max: usize,
    tell: &'w mut (dyn FnMut(&[Step], Value<'_>) + 'f),
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        (self.tell)(self.path, Value::Object);
        let deeper = self.path.len() < self.depth_max;
        while let Some(key) = map.next_key_seed(KeySeed)? {
            if !deeper {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            self.path.push(Step::Key(key));
            let result = map.next_value_seed(Walk {
                path: self.path,
                depth_max: self.depth_max,
                tell: self.tell,
            });
            self.path.pop();
            result?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        (self.tell)(self.path, Value::List);
        if self.path.len() >= self.depth_max {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        loop {
            self.path.push(Step::Item);
            let result = seq.next_element_seed(Walk {
                path: self.path,
                depth_max: self.depth_max,
                tell: self.tell,
            });
            self.path.pop();
            if result?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        (self.tell)(self.path, Value::Text(text));
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        (self.tell)(self.path, Value::Other);
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        (self.tell)(self.path, Value::Number(number as f64));
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        (self.tell)(self.path, Value::Number(number as f64));
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        (self.tell)(self.path, Value::Number(number));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        (self.tell)(self.path, Value::Other);
        Ok(())
    }
}

/// Keys without allocation where they are short, as nearly all are.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = SmolStr;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<SmolStr, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = SmolStr;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<SmolStr, E> {
        Ok(SmolStr::new(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, depth_max: usize) -> (String, bool) {
        let mut all = String::new();
        let whole = walk(text.as_bytes(), depth_max, &mut |path, value| {
            let path: Vec<&str> = path.iter().map(Step::as_str).collect();
            all.push_str(&format!("{} {value:?}; ", path.join(".")));
        });
        (all, whole)
    }

    #[test]
    fn everything_is_told_as_far_as_it_goes() {
        let (all, whole) = told(r#"{"a":[{"b":"x"},1],"c":{"d":{"e":1}}}"#, 3);
        assert_eq!(
            all,
            " Object; a List; a.[] Object; a.[].b Text(\"x\"); a.[] Number(1.0); c Object; c.d Object; c.d.e Number(1.0); "
        );
        assert!(whole);
        assert_eq!(
            told(r#"{"a":"x","b":["#, 3),
            (" Object; a Text(\"x\"); b List; ".into(), false)
        );
        assert_eq!(told("no", 3), (String::new(), false));
        // Beyond any nesting that somebody means.
        assert!(!told(&"[".repeat(100_000), 3).1);
    }
}
