//! Whether the pipeline's thread has time.

use std::time::{Duration, Instant};

use super::DRAIN_RECORDS_MAX;
use crate::kernel::turns;
use crate::policy::Mode;

/// A pause of a millisecond that lasts longer: others have the processors, and what comes in is not looked at meanwhile.
const LATE: Duration = Duration::from_millis(20);
/// Looks into the ring, one after the other, that did not come to its end: a twentieth of it, in small records.
const FULL_DRAINS: u32 = 4;
/// How long the thread takes its full share before it tries a small one again.
const FULL_SHARE: Duration = Duration::from_secs(1);

/// How the thread runs now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    Small,
    Full,
    /// Denials wait for it.
    AtOnce,
}

/// Decides it, and says so to the kernel where it changes.
#[derive(Debug)]
pub struct Turn {
    share: Share,
    full_drains: u32,
    /// When it was behind last.
    behind_at: Option<Instant>,
}

impl Default for Turn {
    /// As every thread of the agent starts.
    fn default() -> Self {
        Turn {
            share: Share::Full,
            full_drains: 0,
            behind_at: None,
        }
    }
}

impl Turn {
    /// `records` were taken in one go, `late` after the thread began to wait for them.
    pub fn take(&mut self, mode: Mode, records: usize, late: Duration) {
        let share = self.next(mode, records, late, Instant::now());
        if share != std::mem::replace(&mut self.share, share) {
            match share {
                Share::Small => turns::with_time(true),
                Share::Full => turns::with_time(false),
                Share::AtOnce => turns::go_at_once(),
            }
        }
    }

    fn next(&mut self, mode: Mode, records: usize, late: Duration, now: Instant) -> Share {
        if mode == Mode::Enforce {
            return Share::AtOnce;
        }
        self.full_drains = match records >= DRAIN_RECORDS_MAX {
            true => self.full_drains + 1,
            false => 0,
        };
        if self.full_drains >= FULL_DRAINS || late >= LATE {
            self.behind_at = Some(now);
        }
        let behind = self
            .behind_at
            .is_some_and(|at| now.duration_since(at) < FULL_SHARE);
        if behind { Share::Full } else { Share::Small }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_share_while_it_keeps_up() {
        let mut turn = Turn::default();
        let start = Instant::now();
        let mut next = |mode, records, late_ms, after_ms| {
            let late = Duration::from_millis(late_ms);
            turn.next(mode, records, late, start + Duration::from_millis(after_ms))
        };
        assert_eq!(next(Mode::Observe, 10, 1, 0), Share::Small);
        for _ in 1..FULL_DRAINS {
            assert_eq!(next(Mode::Observe, DRAIN_RECORDS_MAX, 1, 10), Share::Small);
        }
        assert_eq!(next(Mode::Observe, DRAIN_RECORDS_MAX, 1, 10), Share::Full);
        assert_eq!(next(Mode::Observe, 10, 1, 500), Share::Full);
        assert_eq!(next(Mode::Observe, 10, 1, 1_011), Share::Small);
        assert_eq!(next(Mode::Observe, 0, 20, 2_000), Share::Full);
        assert_eq!(next(Mode::Enforce, 0, 20, 2_001), Share::AtOnce);
        assert_eq!(next(Mode::Observe, 0, 1, 4_000), Share::Small);
    }
}
