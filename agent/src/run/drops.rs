//! What the kernel side has given up, noticed before its holes are met.
//!
//! A hole in a flow is told as what made it: a drop of ours, or something that no hook of ours saw. A drop shows only in
//! the kernel's counters. It happens when the ring is nearly full, so all that was in the ring then is still to be taken
//! before the first record behind the hole: whoever asks often enough on that way knows of the drop in time.

use apiward_common::flow::Counters;

/// How often the counters are asked: each time that this part of the ring was taken. Flows are given up when five eighths
/// of it are full, and records later.
const RING_PARTS: u64 = 16;

/// The count so far.
#[derive(Debug)]
pub(super) struct Drops {
    /// Records and operations, by the kernel's count.
    known: u64,
    /// Of all records, without what the ring adds to each.
    taken_bytes: u64,
    due_bytes: u64,
    ring_bytes: u64,
}

impl Drops {
    pub(super) fn new(ring_bytes: u32) -> Self {
        Drops {
            known: 0,
            taken_bytes: 0,
            due_bytes: 0,
            ring_bytes: u64::from(ring_bytes),
        }
    }

    /// A record of this length is about to be looked at. Whether to ask before it is.
    pub(super) fn is_due(&mut self, record_bytes: usize) -> bool {
        self.taken_bytes += record_bytes as u64;
        let due = self.taken_bytes >= self.due_bytes;
        if due {
            self.due_bytes = self.taken_bytes + self.ring_bytes / RING_PARTS;
        }
        due
    }

    /// Bytes that were taken so far.
    pub(super) fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    /// As much was taken since then as the ring holds: nothing is left of what was in it.
    pub(super) fn is_round_since(&self, taken_bytes: u64) -> bool {
        self.taken_bytes - taken_bytes >= self.ring_bytes
    }

    /// How many were given up since it was asked last. A flow that was given up as a whole is a loss too, though nothing
    /// was dropped in the ring.
    pub(super) fn fresh(&mut self, counters: &Counters) -> u64 {
        let all = counters.dropped_records + counters.shed_operations;
        let fresh = all.saturating_sub(self.known);
        self.known = self.known.max(all);
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_before_the_first_record_behind_a_drop() {
        const RING: u32 = 1 << 20;
        let mut drops = Drops::new(RING);
        // The earliest drop: with five eighths of the ring before the record that follows.
        let record = 1 << 10;
        for offset in 0..64 {
            for _ in 0..offset {
                drops.is_due(record);
            }
            let before = RING as usize / 8 * 5 / record;
            assert!((0..before).any(|_| drops.is_due(record)), "{offset}");
        }
    }

    #[test]
    fn a_round_is_as_much_as_the_ring_holds() {
        let mut drops = Drops::new(1 << 12);
        drops.is_due(100);
        let then = drops.taken_bytes();
        for _ in 0..4 {
            assert!(!drops.is_round_since(then));
            drops.is_due(1 << 10);
        }
        assert!(drops.is_round_since(then));
    }

    #[test]
    fn what_is_known_is_not_told_again() {
        let mut drops = Drops::new(1);
        let counters = |dropped_records, shed_operations| Counters {
            dropped_records,
            shed_operations,
            ..Counters::default()
        };
        assert_eq!(drops.fresh(&counters(2, 1)), 3);
        assert_eq!(drops.fresh(&counters(2, 1)), 0);
        assert_eq!(drops.fresh(&counters(2, 5)), 4);
    }
}
