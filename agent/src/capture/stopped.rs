//! What the gate in the kernel kept from its receiver: the head, put together again from the pieces it came in.
//!
//! The gate ships each piece of a head that is not whole yet, because the process may never get to see the rest. They
//! wait here, bounded, for the word that the request was stopped. Most never come to that.

use std::collections::{HashMap, VecDeque};

use apiward_common::record::{self, hook, stopped};
use bytes::Bytes;

use super::KernelTime;

/// Heads of which pieces wait.
const HEADS_MAX: usize = 1_024;
/// Bytes of one head that are kept; the gate scans no further.
const HEAD_BYTES_MAX: usize = apiward_common::gate::HEAD_BYTES_MAX as usize;

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

/// Whether the connection is established; else its cookie is the listener's, marked.
pub(super) fn has_socket(record: &record::Stopped) -> bool {
    record.cookie & record::NO_SOCKET == 0
}

/// What the gate says of a request, with the whole of what it had of the head.
#[derive(Clone)]
pub(super) struct Told {
    pub at: KernelTime,
    pub record: record::Stopped,
    pub ground: Ground,
    pub head: Bytes,
}

impl Told {
    fn is_of(&self, other: &record::Stopped) -> bool {
        Whose::handshake(&self.record) == Whose::handshake(other)
            && self.record.head_start == other.head_start
    }
}

/// Requests that were stopped in a handshake.
const EARLY_MAX: usize = 1_024;
/// How long such a request waits for its connection: a server asks again after a second for the segment that was dropped
/// with the request, and a client sends the request again within three.
const EARLY_WAIT_NS: u64 = 4_000_000_000;

/// Requests that were stopped before their connection was established. It mostly is soon, and then they are told as that
/// connection's, which can be answered.
#[derive(Default)]
pub(super) struct Early {
    waiting: VecDeque<Told>,
}

impl Early {
    /// Keeps it; gives the oldest back where there are too many.
    pub(super) fn hold(&mut self, told: Told) -> Option<Told> {
        if self.waiting.iter().any(|known| known.is_of(&told.record)) {
            // The kernel has no room to remember that it said so.
            return None;
        }
        self.waiting.push_back(told);
        (self.waiting.len() > EARLY_MAX).then(|| self.waiting.pop_front())?
    }

    /// The connection of one is established, or of none.
    pub(super) fn established(&mut self, told: Told) -> Told {
        let known = self.waiting.iter().position(|known| known.is_of(&told.record));
        let known = known.and_then(|at| self.waiting.remove(at));
        match known {
            // The segment that has told of it now may hold less of it.
            Some(known) if known.head.len() > told.head.len() => Told {
                head: known.head,
                ground: known.ground,
                ..told
            },
            _ => told,
        }
    }

    /// The oldest whose connection is not waited for any more; with `None`, the oldest.
    pub(super) fn due(&mut self, now: Option<KernelTime>) -> Option<Told> {
        let waits = |told: &Told| now.is_some_and(|now| now.since(told.at) < EARLY_WAIT_NS);
        self.waiting
            .front()
            .is_some_and(|told| !waits(told))
            .then(|| self.waiting.pop_front())?
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

    fn early(remote_port: u16, at: u64, head: &'static [u8]) -> Told {
        Told {
            at: KernelTime(at),
            record: record::Stopped {
                cookie: 3 | record::NO_SOCKET,
                remote_port,
                ..record(stopped::DENIED, 10, 10)
            },
            ground: Ground::Rule,
            head: Bytes::from_static(head),
        }
    }

    #[test]
    fn what_is_stopped_in_a_handshake_is_told_once_as_the_connections() {
        let mut waiting = Early::default();
        assert!(waiting.hold(early(4000, 5, b"GET /b HTTP/1.1\r\n\r\n")).is_none());
        assert!(waiting.hold(early(4000, 6, b"GET /b HTTP/1.1\r\n\r\n")).is_none());
        assert!(waiting.hold(early(4001, 7, b"")).is_none());
        let established = Told {
            at: KernelTime(9),
            record: record(stopped::DENIED, 10, 10),
            ..early(4000, 9, b"")
        };
        let told = waiting.established(established.clone());
        assert_eq!((told.record.cookie, told.at), (7, KernelTime(9)));
        assert_eq!(told.head.as_ref(), b"GET /b HTTP/1.1\r\n\r\n");
        // Of another connection with the same ends.
        let other = Told {
            record: record(stopped::DENIED, 500, 500),
            ..established
        };
        assert_eq!(waiting.established(other).head.as_ref(), b"");
        assert!(waiting.due(Some(KernelTime(6 + EARLY_WAIT_NS))).is_none());
        let due = waiting.due(Some(KernelTime(7 + EARLY_WAIT_NS)));
        assert_eq!(due.map(|told| told.record.remote_port), Some(4001));
        assert!(waiting.due(None).is_none());
    }

    #[test]
    fn what_waits_for_its_connection_is_bounded() {
        let mut waiting = Early::default();
        let told = (0..2_000)
            .filter_map(|port| waiting.hold(early(port, 1, b"")))
            .count();
        assert_eq!(told, 2_000 - EARLY_MAX);
        assert_eq!(std::iter::from_fn(|| waiting.due(None)).count(), EARLY_MAX);
    }
}
