//! What the gate in the kernel kept from its receiver: the head, put together again from the pieces it came in.
//!
//! The gate ships each piece of a head that is not whole yet, because the process may never get to see the rest. They
//! wait here, bounded, for the word that the request was stopped. Most never come to that.

use std::collections::{HashMap, VecDeque};

use apiward_common::record::{self, hook, stopped};
use bytes::Bytes;

/// Heads of which pieces wait.
const HEADS_MAX: usize = 1_024;
/// Bytes of one head that are kept; the gate scans no further.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Where the gate stopped a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Before TCP took the segment in: the process got no whole head.
    Ingress,
    /// Before the segment left the host.
    Egress,
    /// In the TLS library's read.
    TlsRead,
    /// In the TLS library's write.
    TlsWrite,
}

impl Hook {
    pub(super) fn from_number(number: u8) -> Option<Hook> {
        Some(match number {
            hook::INGRESS => Hook::Ingress,
            hook::EGRESS => Hook::Egress,
            hook::TLS_READ => Hook::TlsRead,
            hook::TLS_WRITE => Hook::TlsWrite,
            _ => return None,
        })
    }
}

/// Why it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ground {
    /// The rule matches.
    Rule,
    /// It can be read in two ways, and the rule's policy denies such.
    Ambiguous,
    /// Two different contents came at one sequence number.
    TwoContents,
}

/// A decision of the gate, by the numbers of its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Which tables.
    pub generation: u32,
    /// Which of their rules.
    pub rule: u32,
    pub ground: Ground,
    pub hook: Hook,
    /// In TLS, the library's call was made to fail: the process was never told of what it read.
    pub refused: bool,
    /// Requests before it on the connection, which have passed; from `call` on: that have no whole answer yet.
    pub earlier: u32,
    /// Allowed ones that came in one segment with it and are lost with it.
    pub collateral: u32,
}

/// Pieces of heads, by socket.
#[derive(Default)]
pub(super) struct Heads {
    waiting: HashMap<Whose, Head>,
    order: VecDeque<Whose>,
}

/// Which connection a head came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Whose {
    Socket(u64),
    /// It was not established yet: the remote end, and both ports.
    Handshake([u8; 16], u16, u16),
}

impl Whose {
    fn handshake(record: &record::Stopped) -> Whose {
        Whose::Handshake(record.remote, record.remote_port, record.local_port)
    }

    fn of(record: &record::Stopped) -> Whose {
        match record.cookie & record::NO_SOCKET {
            0 => Whose::Socket(record.cookie),
            _ => Whose::handshake(record),
        }
    }
}

struct Head {
    start: u32,
    bytes: Vec<u8>,
}

impl Heads {
    /// Takes a piece. `None`: the rest is to come.
    pub(super) fn take(&mut self, record: &record::Stopped, piece: &[u8]) -> Option<(Ground, Bytes)> {
        let ground = match record.what {
            stopped::DENIED => Some(Ground::Rule),
            stopped::AMBIGUOUS => Some(Ground::Ambiguous),
            stopped::TWO_CONTENTS => Some(Ground::TwoContents),
            _ => None,
        };
        let whose = Whose::of(record);
        let offset = record.position.wrapping_sub(record.head_start) as usize;
        let known = self.waiting.remove(&whose);
        let is_new = known.is_none();
        // Its beginning may have come with the handshake.
        let known = match known {
            None if offset > 0 => self.waiting.remove(&Whose::handshake(record)),
            known => known,
        };
        let mut head = known
            .filter(|head| head.start == record.head_start)
            .unwrap_or_else(|| Head {
                start: record.head_start,
                bytes: Vec::new(),
            });
        // The same piece again, or a hole before this one: what is not known is left out, never made up.
        head.bytes.truncate(offset);
        if head.bytes.len() == offset {
            let room = HEAD_BYTES_MAX.saturating_sub(offset).min(piece.len());
            head.bytes
                .extend_from_slice(piece.get(..room).unwrap_or_default());
        }
        match ground {
            Some(ground) => Some((ground, head.bytes.into())),
            None => {
                self.keep(whose, head, is_new);
                None
            }
        }
    }

    /// The connection has ended.
    pub(super) fn forget(&mut self, cookie: u64) {
        self.waiting.remove(&Whose::Socket(cookie));
    }

    fn keep(&mut self, whose: Whose, head: Head, is_new: bool) {
        while self.waiting.len() >= HEADS_MAX {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.waiting.remove(&oldest);
        }
        if self.order.len() >= 2 * HEADS_MAX {
            let waiting = &self.waiting;
            self.order.retain(|whose| waiting.contains_key(whose));
        }
        if is_new {
            self.order.push_back(whose);
        }
        self.waiting.insert(whose, head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(what: u8, head_start: u32, position: u32) -> record::Stopped {
        record::Stopped {
            cookie: 7,
            object: 0,
            cgroup: 0,
            local: [0; 16],
            remote: [0; 16],
            comm: [0; 16],
            local_port: 80,
            remote_port: 4000,
            netns: 0,
            head_start,
            position,
            generation: 1,
            rule: 0,
            pid: 0,
            uid: 0,
            object_generation: 0,
            heads: 0,
            refused: 0,
            collateral: 0,
            reserved: 0,
            family: 4,
            role: record::role::SERVER,
            hook: hook::INGRESS,
            what,
        }
    }

    #[test]
    fn a_head_in_pieces_is_put_together() {
        let mut heads = Heads::default();
        let start = u32::MAX - 3;
        assert!(
            heads
                .take(&record(stopped::PART, start, start), b"GET /")
                .is_none()
        );
        // Sent again, with more in it.
        assert!(
            heads
                .take(&record(stopped::PART, start, start), b"GET /adm")
                .is_none()
        );
        let whole = heads.take(
            &record(stopped::DENIED, start, start.wrapping_add(8)),
            b"in HTTP/1.1\r\n\r\n",
        );
        assert_eq!(
            whole,
            Some((Ground::Rule, Bytes::from_static(b"GET /admin HTTP/1.1\r\n\r\n")))
        );
        assert!(heads.waiting.is_empty());
    }

    #[test]
    fn a_piece_of_another_head_is_not_mixed_in() {
        let mut heads = Heads::default();
        assert!(heads.take(&record(stopped::PART, 100, 100), b"GET /a").is_none());
        let whole = heads.take(&record(stopped::AMBIGUOUS, 500, 500), b"GET /b\n\n");
        assert_eq!(
            whole,
            Some((Ground::Ambiguous, Bytes::from_static(b"GET /b\n\n")))
        );
        // Its beginning never came.
        let whole = heads.take(&record(stopped::DENIED, 900, 910), b"tail");
        assert_eq!(whole, Some((Ground::Rule, Bytes::new())));
    }

    #[test]
    fn a_head_that_begins_in_the_handshake_goes_on_with_the_connection() {
        let mut heads = Heads::default();
        let early = record::Stopped {
            cookie: 3 | record::NO_SOCKET,
            ..record(stopped::PART, 10, 10)
        };
        assert!(heads.take(&early, b"GET /b ").is_none());
        let whole = heads.take(&record(stopped::DENIED, 10, 17), b"HTTP/1.1\r\n\r\n");
        assert_eq!(
            whole,
            Some((Ground::Rule, Bytes::from_static(b"GET /b HTTP/1.1\r\n\r\n")))
        );
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut heads = Heads::default();
        for cookie in 0..3 * HEADS_MAX as u64 {
            let record = record::Stopped {
                cookie,
                ..record(stopped::PART, 1, 1)
            };
            assert!(heads.take(&record, b"GET").is_none());
        }
        assert!(heads.waiting.len() <= HEADS_MAX && heads.order.len() <= 2 * HEADS_MAX);
    }
}
