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
    taken_bytes: u64,
    every_bytes: u64,
}

impl Drops {
    pub(super) fn new(ring_bytes: u32) -> Self {
        Drops {
            known: 0,
            taken_bytes: 0,
            every_bytes: u64::from(ring_bytes) / RING_PARTS,
        }
    }

    /// A record of this length is about to be looked at. Whether to ask before it is.
    pub(super) fn is_due(&mut self, record_bytes: usize) -> bool {
        self.taken_bytes += record_bytes as u64;
        let due = self.taken_bytes >= self.every_bytes;
        if due {
            self.taken_bytes = 0;
        }
        due
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
