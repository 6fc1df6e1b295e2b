//! Who waits for the pipeline's thread, and whether it has time.

use std::time::{Duration, Instant};

use super::{Agent, DRAIN_RECORDS_MAX, gate};
use crate::kernel::ring::Until;
use crate::kernel::turns;
use crate::policy::Mode;

/// A pause of a millisecond that lasts longer: others have the processors, and what comes in is not looked at meanwhile.
const LATE: Duration = Duration::from_millis(20);
/// Looks into the ring, one after the other, that did not come to its end: a twentieth of it, in small records.
const FULL_DRAINS: u32 = 8;
/// How long the thread takes its full share before it tries a small one again.
const FULL_SHARE: Duration = Duration::from_secs(1);

/// A pause while there is work: long enough for records to come together, short enough for a person who watches.
const PAUSE: Duration = Duration::from_micros(1_000);
/// How long after a denial the next one is waited for.
const DENIED_LATELY: Duration = Duration::from_secs(1);

/// Who waits for what the thread says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// It only observes, or no rule that enforces stops anything.
    Nobody,
    /// Those whom the gate stops, for their answer; and whoever speaks what the gate does not judge.
    Stopped,
    /// Whoever calls: some rule is decided here.
    Everybody,
}

impl Waits {
    /// What ends a wait for records, which is of `limit` at most.
    pub fn until(self, limit: Duration) -> Until {
        match self {
            Waits::Nobody => Until::Later(PAUSE.min(limit)),
            Waits::Stopped => Until::Urgent(PAUSE.min(limit)),
            Waits::Everybody => Until::Any,
        }
    }
}

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
    /// Denials so far, and when the last came.
    denied: u64,
    denied_at: Option<Instant>,
}

impl Default for Turn {
    /// As every thread of the agent starts.
    fn default() -> Self {
        Turn {
            share: Share::Full,
            full_drains: 0,
            behind_at: None,
            denied: 0,
            denied_at: None,
        }
    }
}

impl Turn {
    /// `records` were taken in one go, `late` after the thread began to wait for them; `denied`: denials so far.
    pub fn take(&mut self, waits: Waits, denied: u64, records: usize, late: Duration) {
        let now = Instant::now();
        if std::mem::replace(&mut self.denied, denied) != denied {
            self.denied_at = Some(now);
        }
        let share = self.next(waits, records, late, now);
        if share != std::mem::replace(&mut self.share, share) {
            match share {
                Share::Small => turns::with_time(true),
                Share::Full => turns::with_time(false),
                Share::AtOnce => turns::go_at_once(),
            }
        }
    }

    fn next(&mut self, waits: Waits, records: usize, late: Duration, now: Instant) -> Share {
        let lately = |at: Option<Instant>, within| at.is_some_and(|at| now.duration_since(at) < within);
        if waits == Waits::Everybody || (waits == Waits::Stopped && lately(self.denied_at, DENIED_LATELY)) {
            return Share::AtOnce;
        }
        self.full_drains = match records >= DRAIN_RECORDS_MAX {
            true => self.full_drains + 1,
            false => 0,
        };
        if self.full_drains >= FULL_DRAINS || late >= LATE {
            self.behind_at = Some(now);
        }
        if lately(self.behind_at, FULL_SHARE) {
            Share::Full
        } else {
            Share::Small
        }
    }
}

impl Agent {
    /// Who waits for the pipeline now.
    pub(super) fn waits(&self) -> Waits {
        let engine = &self.pipeline.judge.engine;
        let gate_decides =
            engine.leaves_denials_to_gate() && self.gate.as_ref().is_some_and(gate::Gate::is_in_force);
        match engine.mode() {
            // Canaries are enforced, whatever the mode is.
            _ if self.proof.is_running() => Waits::Everybody,
            Mode::Observe => Waits::Nobody,
            Mode::Enforce if engine.stops_nothing() => Waits::Nobody,
            Mode::Enforce if gate_decides => Waits::Stopped,
            Mode::Enforce => Waits::Everybody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_share_while_it_keeps_up() {
        let mut turn = Turn::default();
        let start = Instant::now();
        let mut next = |waits, records, late_ms, after_ms| {
            let late = Duration::from_millis(late_ms);
            turn.next(waits, records, late, start + Duration::from_millis(after_ms))
        };
        assert_eq!(next(Waits::Nobody, 10, 1, 0), Share::Small);
        for _ in 1..FULL_DRAINS {
            assert_eq!(next(Waits::Nobody, DRAIN_RECORDS_MAX, 1, 10), Share::Small);
        }
        assert_eq!(next(Waits::Nobody, DRAIN_RECORDS_MAX, 1, 10), Share::Full);
        assert_eq!(next(Waits::Nobody, 10, 1, 500), Share::Full);
        assert_eq!(next(Waits::Nobody, 10, 1, 1_011), Share::Small);
        assert_eq!(next(Waits::Nobody, 0, 20, 2_000), Share::Full);
        assert_eq!(next(Waits::Everybody, 0, 20, 2_001), Share::AtOnce);
        assert_eq!(next(Waits::Nobody, 0, 1, 4_000), Share::Small);
    }

    #[test]
    fn at_once_while_the_gate_denies() {
        let start = Instant::now();
        let mut turn = Turn::default();
        let next = |turn: &mut Turn, after_ms| {
            let now = start + Duration::from_millis(after_ms);
            turn.next(Waits::Stopped, 10, Duration::ZERO, now)
        };
        assert_eq!(next(&mut turn, 0), Share::Small);
        turn.denied_at = Some(start);
        assert_eq!(next(&mut turn, 999), Share::AtOnce);
        assert_eq!(next(&mut turn, 1_000), Share::Small);
    }
}
