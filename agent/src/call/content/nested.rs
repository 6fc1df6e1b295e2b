//! Names of fields that say where in a structure their value stands, as PHP, Rails, qs and Spring write and read them:
//! `patients[0][ssn]`, `tags[]`, `patients[0].ssn`, `address.city`. What they are in is opened and closed as JSON's would be.
//!
//! Names that are written otherwise are names.

use super::{Container, Sink, ValueType, Visit};

/// A deeper name is none of a structure.
const STEPS_MAX: usize = 16;
/// A longer number between brackets is no index in a list, but may be somebody's.
const INDEX_DIGITS_MAX: usize = 4;

/// What the last field stood in, and is still open.
pub(super) struct Nested {
    open: Vec<(Vec<u8>, Container)>,
    dots: bool,
}

impl Nested {
    /// `dots`: they lead into a structure without brackets, too. In a query of FHIR they lead along references.
    pub fn new(dots: bool) -> Nested {
        Nested {
            open: Vec::new(),
            dots,
        }
    }

    /// Hands on a field.
    pub fn value<S: Sink>(&mut self, name: &[u8], value: &[u8], visit: &mut Visit<'_, S>) {
        let name = self.within(name, visit);
        visit.value(name, ValueType::Text, value);
    }

    /// Opens what the field is in; the name that it has there.
    pub fn within<'n, S: Sink>(&mut self, name: &'n [u8], visit: &mut Visit<'_, S>) -> &'n [u8] {
        let steps = steps(name, self.dots).unwrap_or_else(|| vec![name]);
        let (last, around) = steps
            .split_last()
            .map_or((name, &[][..]), |(last, around)| (*last, around));
        let container = |at: usize| match steps.get(at + 1) {
            Some(next) if is_index(next) => Container::Array,
            _ => Container::Object,
        };
        let is_open = |(at, (step, kind)): (usize, &(Vec<u8>, Container))| {
            around.get(at).is_some_and(|around| step == around) && *kind == container(at)
        };
        let shared = self
            .open
            .iter()
            .enumerate()
            .take_while(|one| is_open(*one))
            .count();
        self.close_to(shared, visit);
        for (at, step) in around.iter().enumerate().skip(shared) {
            visit.open(own_name(at, step), container(at));
            self.open.push((step.to_vec(), container(at)));
        }
        own_name(around.len(), last)
    }

    /// After the last field.
    pub fn end<S: Sink>(mut self, visit: &mut Visit<'_, S>) {
        self.close_to(0, visit);
    }

    fn close_to<S: Sink>(&mut self, length: usize, visit: &mut Visit<'_, S>) {
        while self.open.len() > length {
            self.open.pop();
            visit.close();
        }
    }
}

/// Items of lists have none.
fn own_name(at: usize, step: &[u8]) -> &[u8] {
    if at > 0 && is_index(step) { b"" } else { step }
}

fn is_index(step: &[u8]) -> bool {
    step.len() <= INDEX_DIGITS_MAX && step.iter().all(u8::is_ascii_digit)
}

/// `a[b][0].c` → `a`, `b`, `0`, `c`; `None`: it is a name.
fn steps(name: &[u8], dots: bool) -> Option<Vec<&[u8]>> {
    let bracket = memchr::memchr(b'[', name);
    let first = match bracket {
        Some(at) if !dots => at,
        _ if dots => memchr::memchr2(b'[', b'.', name)?,
        _ => return None,
    };
    let (first, mut rest) = name.split_at(first);
    let mut steps = vec![first];
    while !rest.is_empty() {
        let (step, after) = match rest.strip_prefix(b".") {
            Some(named) => named.split_at(memchr::memchr2(b'[', b'.', named).unwrap_or(named.len())),
            None => {
                let inner = rest.strip_prefix(b"[")?;
                let end = memchr::memchr(b']', inner)?;
                (&inner[..end], &inner[end + 1..])
            }
        };
        let named = |step: &[u8]| {
            step.iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(byte))
        };
        if steps.len() == STEPS_MAX || rest.starts_with(b".") && (step.is_empty() || !named(step)) {
            return None;
        }
        steps.push(step);
        rest = after;
    }
    first
        .first()
        .filter(|byte| byte.is_ascii_alphabetic() || **byte == b'_')?;
    Some(steps)
}
