//! Rates: so many calls in so much time, for each peer, client or workload.
//!
//! One number a key: the time at which its allowance is whole again (the generic cell rate algorithm, ITU-T I.371
//! §4.4). The whole allowance may be used at once, and comes back evenly. Time comes from the calls.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashMap;
use smol_str::SmolStr;

use crate::capture::{KernelTime, Process};

/// Most keys that a rule keeps apart; beyond, the oldest is forgotten, and counted.
pub const KEYS_MAX: usize = 16_384;
/// How many keys that were used lately are passed over before one of them is forgotten all the same.
const SECOND_CHANCES_MAX: usize = 8;

/// What a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub requests: u32,
    pub per: Duration,
    pub by: By,
}

/// Whose calls are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    Peer,
    Client,
    Workload,
}

impl By {
    /// The name in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            By::Peer => "peer",
            By::Client => "client",
            By::Workload => "workload",
        }
    }
}

/// What a call may be beyond a rate before the rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spare {
    Nothing,
    /// The allowance once more: somebody else has counted the call already, at another time, and was to decide.
    Allowance,
}

/// One of those.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Address(IpAddr),
    Container(SmolStr),
    Cgroup(u64),
    Exe(SmolStr),
}

impl Key {
    /// The container, else the cgroup, else the executable.
    pub(super) fn workload(process: &Process) -> Key {
        match &process.container {
            Some(container) => Key::Container(container.clone()),
            None if process.cgroup_id != 0 => Key::Cgroup(process.cgroup_id),
            None => Key::Exe(process.exe.clone()),
        }
    }
}

/// The keys of one rule.
#[derive(Default)]
pub(super) struct Buckets {
    /// Hash of the key → nanoseconds at which its allowance is whole again. Hashes under a random seed: a collision
    /// makes two keys share an allowance, and nobody can aim at it.
    whole_at: HashMap<u64, u64>,
    /// Keys in the order they came.
    order: VecDeque<u64>,
    seed: RandomState,
    /// Keys forgotten to make room.
    pub(super) evicted: u64,
}

impl Buckets {
    /// Counts a call. `true`: it is beyond the rate, and by more than `spare` as well.
    pub(super) fn charge(&mut self, rate: &Rate, spare: Spare, key: &Key, at: KernelTime) -> bool {
        let per = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
        let each = per / u64::from(rate.requests.max(1));
        let key = self.seed.hash_one(key);
        if let Some(whole_at) = self.whole_at.get_mut(&key) {
            let next = (*whole_at).max(at.0).saturating_add(each);
            let spare = if spare == Spare::Allowance { per } else { 0 };
            if next - at.0 > per.saturating_add(spare) {
                return true;
            }
            *whole_at = next;
            return false;
        }
        if self.whole_at.len() >= KEYS_MAX {
            self.forget_one(at);
        }
        self.whole_at.insert(key, at.0.saturating_add(each));
        self.order.push_back(key);
        false
    }

    /// The oldest key whose allowance is whole again loses nothing; if there is none among the next few, the oldest
    /// one gets a fresh allowance by being forgotten.
    fn forget_one(&mut self, at: KernelTime) {
        for _ in 0..SECOND_CHANCES_MAX {
            let Some(key) = self.order.pop_front() else { return };
            if self.whole_at.get(&key).is_none_or(|whole_at| *whole_at <= at.0) {
                self.whole_at.remove(&key);
                return;
            }
            self.order.push_back(key);
        }
        if let Some(key) = self.order.pop_front() {
            self.whole_at.remove(&key);
            self.evicted += 1;
        }
    }

    /// Keys held now.
    pub(super) fn len(&self) -> usize {
        self.whole_at.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn key(n: u32) -> Key {
        Key::Address(IpAddr::from(n.to_be_bytes()))
    }

    #[test]
    fn the_allowance_is_used_at_once_and_comes_back_evenly() {
        let rate = Rate {
            requests: 10,
            per: Duration::from_secs(60),
            by: By::Peer,
        };
        let mut buckets = Buckets::default();
        for _ in 0..10 {
            assert!(!buckets.charge(&rate, Spare::Nothing, &key(1), KernelTime(5 * S)));
        }
        assert!(buckets.charge(&rate, Spare::Nothing, &key(1), KernelTime(5 * S)));
        assert!(buckets.charge(&rate, Spare::Nothing, &key(1), KernelTime(10 * S)));
        assert!(
            !buckets.charge(&rate, Spare::Nothing, &key(2), KernelTime(10 * S)),
            "another key"
        );
        assert!(
            !buckets.charge(&rate, Spare::Nothing, &key(1), KernelTime(11 * S)),
            "one is back after 6 s"
        );
        assert!(buckets.charge(&rate, Spare::Nothing, &key(1), KernelTime(11 * S)));
        for _ in 0..10 {
            assert!(!buckets.charge(&rate, Spare::Nothing, &key(1), KernelTime(200 * S)));
        }
        assert!(buckets.charge(&rate, Spare::Nothing, &key(1), KernelTime(200 * S)));
    }

    #[test]
    fn time_that_goes_back_does_no_harm() {
        let rate = Rate {
            requests: 1,
            per: Duration::from_secs(1),
            by: By::Peer,
        };
        let mut buckets = Buckets::default();
        assert!(!buckets.charge(&rate, Spare::Nothing, &key(1), KernelTime(10 * S)));
        assert!(buckets.charge(&rate, Spare::Nothing, &key(1), KernelTime(2 * S)));
        assert!(!buckets.charge(&rate, Spare::Nothing, &key(1), KernelTime(u64::MAX)));
        assert!(buckets.charge(&rate, Spare::Nothing, &key(1), KernelTime(0)));
    }

    #[test]
    fn keys_are_bounded_and_what_is_forgotten_is_counted() {
        let rate = Rate {
            requests: 1,
            per: Duration::from_secs(60),
            by: By::Peer,
        };
        let mut buckets = Buckets::default();
        for n in 0..KEYS_MAX as u32 + 100 {
            buckets.charge(&rate, Spare::Nothing, &key(n), KernelTime(S));
        }
        assert_eq!(buckets.len(), KEYS_MAX);
        assert_eq!(buckets.evicted, 100);
        buckets.charge(&rate, Spare::Nothing, &key(u32::MAX), KernelTime(100 * S));
        assert_eq!(
            buckets.evicted, 100,
            "whole allowances are given up first, and cost nothing"
        );
    }
}
