//! Kernel time → wall-clock time, the only place where it happens.
//!
//! Everything before `export` lives on the kernel's monotonic clock, which neither jumps nor knows the date. The
//! difference between the two clocks is measured here, and again now and then (a host's wall clock is stepped
//! when time synchronisation starts, and after a suspend). One event is converted with one difference, so its
//! times keep their order and distance whatever the wall clock does.

use rustix::time::{ClockId, clock_gettime};

use crate::capture::KernelTime;

/// The difference between the wall clock and the kernel's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Unix nanoseconds at monotonic time 0.
    offset_ns: i64,
    refreshed_at: KernelTime,
}

/// Readings taken of both clocks; the closest pair counts.
const READINGS: usize = 5;

/// How long a measured difference is used, in nanoseconds.
const REFRESH_AFTER_NS: u64 = 10_000_000_000;

impl Clock {
    /// Measures the difference.
    pub fn measure() -> Self {
        // A preemption between the two readings shows as a long interval around the wall clock's: the shortest
        // interval of a few is right to well under a microsecond.
        let mut best: Option<(u64, i64)> = None;
        for _ in 0..READINGS {
            let before = monotonic_ns();
            let wall = wall_ns();
            let after = monotonic_ns();
            let width = after.saturating_sub(before);
            if best.is_none_or(|(narrowest, _)| width < narrowest) {
                let middle = before + width / 2;
                best = Some((width, wall.wrapping_sub(middle) as i64));
            }
        }
        Clock {
            offset_ns: best.map_or(0, |(_, offset)| offset),
            refreshed_at: now(),
        }
    }

    /// A clock with a known difference, for tests and replays.
    pub fn with_offset_ns(offset_ns: i64) -> Self {
        Clock {
            offset_ns,
            refreshed_at: KernelTime(0),
        }
    }

    /// Measures again if the last time was long enough before `at`. Cheap enough for every batch.
    pub fn refresh(&mut self, at: KernelTime) {
        if at.since(self.refreshed_at) > REFRESH_AFTER_NS {
            *self = Clock::measure();
        }
    }

    /// Unix nanoseconds of a moment of the kernel's; 0 for 0, which stands for "not known".
    pub fn unix_ns(&self, at: KernelTime) -> u64 {
        match at.0 {
            0 => 0,
            ns => ns.saturating_add_signed(self.offset_ns),
        }
    }
}

/// The kernel's monotonic clock, now.
pub fn now() -> KernelTime {
    KernelTime(monotonic_ns())
}

/// The wall clock, now: Unix nanoseconds.
pub fn wall_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

fn nanoseconds(time: rustix::time::Timespec) -> u64 {
    // Both clocks are far from negative on a machine that booted after 1970.
    (time.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measured_difference_lands_on_the_wall_clock() {
        let clock = Clock::measure();
        let before = wall_ns();
        let converted = clock.unix_ns(now());
        let after = wall_ns();
        // The wall clock may be slewed between the readings, by far less than a millisecond.
        assert!(converted + 1_000_000 >= before && converted <= after + 1_000_000);
    }

    #[test]
    fn order_and_distance_are_kept_and_zero_stays_unknown() {
        let clock = Clock::with_offset_ns(1_000);
        assert_eq!(clock.unix_ns(KernelTime(7)) - clock.unix_ns(KernelTime(5)), 2);
        assert_eq!(clock.unix_ns(KernelTime(0)), 0);
        assert_eq!(Clock::with_offset_ns(-10).unix_ns(KernelTime(5)), 0);
    }

    #[test]
    fn it_is_measured_again_only_after_a_while() {
        let mut clock = Clock {
            offset_ns: 42,
            refreshed_at: now(),
        };
        clock.refresh(now());
        assert_eq!(clock.offset_ns, 42);
        clock.refresh(KernelTime(clock.refreshed_at.0 + REFRESH_AFTER_NS + 1));
        assert_ne!(clock.offset_ns, 42);
    }
}
