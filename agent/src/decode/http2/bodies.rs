//! The messages of one direction whose heads have come: how much of each body was seen, and which streams are over.
//!
//! Bounded twice: of streams beyond the first limit no length is checked, and of those that are over the newest are known.
//! It must not know frames.

use hashbrown::HashMap;

use super::super::Role;

/// Streams whose bodies are followed; of those beyond, the framing is known and the length is not checked.
const STREAMS_MAX: usize = 4_096;
/// Streams that are known to be over.
const ENDED_LEN: usize = 32;

/// A message whose head has come, and not its end.
struct Body {
    declared: Option<u64>,
    seen: u64,
}

/// All of a direction.
#[derive(Default)]
pub struct Bodies {
    open: HashMap<u32, Body>,
    /// Ended or reset by this side, which has to be silent on them (§5.1). The oldest makes room.
    ended: [u32; ENDED_LEN],
    ended_next: usize,
}

impl Bodies {
    /// Bytes that are held beyond its own size.
    pub fn held_bytes(&self) -> usize {
        self.open.len() * size_of::<(u32, Body)>()
    }

    /// A message goes on after its head.
    pub fn begin(&mut self, stream: u32, declared: Option<u64>) {
        if self.open.len() < STREAMS_MAX {
            self.open.insert(stream, Body { declared, seen: 0 });
        }
    }

    /// A message of the stream is in progress.
    pub fn has(&self, stream: u32) -> bool {
        self.open.contains_key(&stream)
    }

    /// This side has ended the stream, and may not go on.
    pub fn is_over(&self, stream: u32) -> bool {
        !self.has(stream) && self.ended.contains(&stream)
    }

    pub fn saw(&mut self, stream: u32, bytes: u64) {
        if let Some(body) = self.open.get_mut(&stream) {
            body.seen += bytes;
        }
    }

    /// Bytes are missing: its length says nothing.
    pub fn missed(&mut self, stream: u32) {
        if let Some(body) = self.open.get_mut(&stream) {
            body.declared = None;
        }
    }

    /// The message is whole, or called off by this side. Whether its length was not what it declared.
    pub fn end(&mut self, stream: u32, role: Role) -> bool {
        self.ended[self.ended_next] = stream;
        self.ended_next = (self.ended_next + 1) % ENDED_LEN;
        self.open.remove(&stream).is_some_and(|body| {
            body.declared.is_some_and(|declared| declared != body.seen)
                // The answer to a HEAD declares what it does not send.
                && (role == Role::Requests || body.seen > 0)
        })
    }

    /// The other side has called the stream off; what is under way may still come.
    pub fn forget(&mut self, stream: u32) {
        self.open.remove(&stream);
    }

    /// Everything is forgotten; the streams that were in progress.
    pub fn take(&mut self) -> Vec<u32> {
        let open = std::mem::take(self).open;
        open.into_keys().collect()
    }
}
