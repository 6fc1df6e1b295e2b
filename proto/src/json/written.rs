//! Parts of a call's line that were written before, and are copied into it.
//!
//! Whether they say what the message would is for whoever keeps them to know.

use serde::{Serialize, Serializer};

/// Parts of a call that are the same in many, as JSON; empty: as the message has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written<'a> {
    pub process: &'a [u8],
    pub tls: &'a [u8],
}

/// A part of a call.
pub(super) enum OrWritten<'a, T> {
    Shape(Option<T>),
    Written(&'a [u8]),
}

impl<'a, T> OrWritten<'a, T> {
    pub(super) fn of(written: &'a [u8], shape: Option<T>) -> Self {
        match written.is_empty() {
            true => OrWritten::Shape(shape),
            false => OrWritten::Written(written),
        }
    }
}

impl<T: Serialize> Serialize for OrWritten<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            OrWritten::Shape(shape) => shape.serialize(serializer),
            OrWritten::Written(written) => serializer.serialize_bytes(written),
        }
    }
}
