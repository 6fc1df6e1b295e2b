//! Heads that come again → what they were decoded to the first time. Most of what a host says, it says again and again:
//! who polls, checks health or asks for the next page sends the same head, often to the byte.
//!
//! A head that came twice is kept, with its bytes; equal bytes are the same head, not equal hashes. Bounded in number and
//! size. It must not know what a head means: whoever makes more of one may remember that under its number
//! ([`Head::known`]).

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::head;
use crate::decode::{AnswerTo, Head, Limits, Role};

/// Heads that are kept; a power of two.
const HEADS: usize = 256;
/// Longer ones are decoded each time.
const HEAD_BYTES_MAX: usize = 2048;

/// Heads that were decoded before. Has no `Debug`: it holds captured bytes.
#[derive(Default)]
pub struct KnownHeads {
    hasher: DefaultHashBuilder,
    slots: Vec<Slot>,
    /// Heads that were ever kept.
    named: u64,
}

#[derive(Default)]
struct Slot {
    /// Hash of the last one that was not known.
    passed: u64,
    known: Option<Box<Known>>,
}

struct Known {
    /// Since it was last asked.
    used: bool,
    role: Role,
    answer_to: AnswerTo,
    bytes: Box<[u8]>,
    head: Head,
}

impl KnownHeads {
    /// `bytes`, decoded. The same `limits` each time.
    pub(super) fn decode(&mut self, bytes: &[u8], role: Role, answer_to: AnswerTo, limits: &Limits) -> Head {
        if bytes.len() > HEAD_BYTES_MAX {
            return head::parse(bytes, role, answer_to, limits);
        }
        if self.slots.is_empty() {
            self.slots.resize_with(HEADS, Slot::default);
        }
        let hash = self.hasher.hash_one((bytes, role, answer_to));
        let place = hash as usize % HEADS;
        let slot = &mut self.slots[place];
        if let Some(known) = &mut slot.known
            && known.role == role
            && known.answer_to == answer_to
            && *known.bytes == *bytes
        {
            known.used = true;
            return known.head.clone();
        }
        let mut head = head::parse(bytes, role, answer_to, limits);
        if slot.passed != hash {
            slot.passed = hash;
            return head;
        }
        self.named += 1;
        head.known = self.named * HEADS as u64 + place as u64;
        slot.known = Some(Box::new(Known {
            used: true,
            role,
            answer_to,
            bytes: bytes.into(),
            head: head.clone(),
        }));
        head
    }

    /// Forgets heads that nobody has said since this was last called: there may be secrets in them.
    pub fn forget_unused(&mut self) {
        for slot in &mut self.slots {
            let was_used = |known: &mut Box<Known>| std::mem::take(&mut known.used);
            if !slot.known.as_mut().is_some_and(was_used) {
                (slot.known, slot.passed) = (None, 0);
            }
        }
    }
}

/// What somebody makes of heads that are known, by their number. It holds no more of them than [`KnownHeads`] does.
pub struct ByHead<T> {
    slots: Vec<Option<(u64, T)>>,
}

impl<T> Default for ByHead<T> {
    fn default() -> Self {
        ByHead { slots: Vec::new() }
    }
}

impl<T> ByHead<T> {
    /// What was made of it; 0 is no head's number.
    pub fn get(&self, known: u64) -> Option<&T> {
        match self.slots.get(known as usize % HEADS)? {
            Some((number, made)) if *number == known && known != 0 => Some(made),
            _ => None,
        }
    }

    /// The same, to add to it.
    pub fn get_mut(&mut self, known: u64) -> Option<&mut T> {
        match self.slots.get_mut(known as usize % HEADS)? {
            Some((number, made)) if *number == known && known != 0 => Some(made),
            _ => None,
        }
    }

    /// Remembers it in the place of an older one.
    pub fn put(&mut self, known: u64, made: T) {
        if known == 0 {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(HEADS, || None);
        }
        self.slots[known as usize % HEADS] = Some((known, made));
    }

    /// Forgets all of them: what they were made with has changed.
    pub fn clear(&mut self) {
        self.slots = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(heads: &mut KnownHeads, bytes: &str, role: Role, answer_to: AnswerTo) -> Head {
        heads.decode(bytes.as_bytes(), role, answer_to, &Limits::default())
    }

    #[test]
    fn what_is_not_said_again_is_forgotten() {
        let mut heads = KnownHeads::default();
        let text = "GET /a HTTP/1.1\r\nAuthorization: Basic YTpi\r\n\r\n";
        let mut known = || decode(&mut heads, text, Role::Requests, AnswerTo::Ordinary).known != 0;
        assert_eq!([known(), known(), known()], [false, true, true]);
        heads.forget_unused();
        let kept = |heads: &KnownHeads| heads.slots.iter().filter(|slot| slot.known.is_some()).count();
        assert_eq!(kept(&heads), 1);
        heads.forget_unused();
        assert_eq!(kept(&heads), 0);
        let again = decode(&mut heads, text, Role::Requests, AnswerTo::Ordinary);
        assert_eq!(again.known, 0);
    }

    #[test]
    fn a_head_that_comes_again_is_known_and_the_same() {
        let mut heads = KnownHeads::default();
        let text = "GET /a HTTP/1.1\r\nHost: b\r\nX-Id: 1\r\n\r\n";
        let fresh = decode(&mut heads, text, Role::Requests, AnswerTo::Ordinary);
        assert_eq!(fresh.known, 0);
        let second = decode(&mut heads, text, Role::Requests, AnswerTo::Ordinary);
        assert_ne!(second.known, 0);
        let third = decode(&mut heads, text, Role::Requests, AnswerTo::Ordinary);
        assert_eq!(third.known, second.known);
        assert!(third == second && Head { known: 0, ..third } == fresh);
        // A byte makes another one.
        let other = text.replace("X-Id: 1", "X-Id: 2");
        decode(&mut heads, &other, Role::Requests, AnswerTo::Ordinary);
        let other = decode(&mut heads, &other, Role::Requests, AnswerTo::Ordinary);
        assert!(other.known != second.known && other.headers != second.headers);
    }

    #[test]
    fn what_an_answer_answers_makes_another_of_it() {
        let mut heads = KnownHeads::default();
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        for _ in 0..3 {
            let whole = decode(&mut heads, text, Role::Responses, AnswerTo::Ordinary);
            let bare = decode(&mut heads, text, Role::Responses, AnswerTo::Head);
            assert!(whole.framing != bare.framing);
            assert!(whole.known == 0 || whole.known != bare.known);
        }
    }

    #[test]
    fn what_is_made_of_a_head_is_found_by_its_number_alone() {
        let mut made = ByHead::default();
        made.put(0, "none");
        assert_eq!(made.get(0), None);
        made.put(HEADS as u64 + 7, "one");
        assert_eq!(made.get(HEADS as u64 + 7), Some(&"one"));
        made.put(2 * HEADS as u64 + 7, "a later one in its place");
        assert_eq!(made.get(HEADS as u64 + 7), None);
        made.clear();
        assert_eq!(made.get(2 * HEADS as u64 + 7), None);
    }

    #[test]
    fn it_does_not_grow_beyond_its_bounds() {
        let mut heads = KnownHeads::default();
        for number in 0..10_000 {
            let text = format!("GET /{number} HTTP/1.1\r\nHost: b\r\n\r\n");
            for _ in 0..2 {
                decode(&mut heads, &text, Role::Requests, AnswerTo::Ordinary);
            }
        }
        let kept = heads.slots.iter().filter(|slot| slot.known.is_some()).count();
        assert!(
            kept > HEADS / 2 && heads.named >= kept as u64,
            "{kept} of {}",
            heads.named
        );
        let long = format!("GET /{} HTTP/1.1\r\nHost: b\r\n\r\n", "a".repeat(HEAD_BYTES_MAX));
        for _ in 0..3 {
            let head = decode(&mut heads, &long, Role::Requests, AnswerTo::Ordinary);
            assert_eq!(head.known, 0);
        }
    }
}
