//! The breaker of a policy: where it denies far more than its author thought, the policy is wrong, or what it protects
//! has changed; then it observes, loudly, until somebody looks.
//!
//! It only counts. Who asks carries it out.

use std::time::Duration;

use super::set::PolicySet;
use super::{Action, Mode, Verdict, canary};
use crate::capture::{KernelTime, Process};

/// Calls in a window below which a share says nothing.
pub const CALLS_MIN: u64 = 10;
/// Parts of a window: the oldest is forgotten as a whole.
const PARTS: usize = 16;

/// `max_denied`: no more than this share of the calls of the policy's workload, in any window of this length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxDenied {
    /// 0 to 1.
    pub ratio: f64,
    pub window: Duration,
}

/// The breakers of a set, by the position of their policy.
#[derive(Default)]
pub struct Breakers {
    windows: Vec<Option<Window>>,
    tripped: Vec<Tripped>,
}

/// A policy that denied too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tripped {
    /// Of the policy in its set.
    pub position: usize,
    pub denied: u64,
    pub judged: u64,
}

struct Window {
    max: MaxDenied,
    parts: [Part; PARTS],
    has_tripped: bool,
}

#[derive(Clone, Copy, Default)]
struct Part {
    /// Which one, counted from the clock's beginning.
    number: u64,
    judged: u64,
    denied: u64,
}

impl Breakers {
    /// For a set, with nothing counted.
    pub fn new(set: &PolicySet) -> Self {
        let window = |max: MaxDenied| Window {
            max,
            parts: [Part::default(); PARTS],
            has_tripped: false,
        };
        let windows: Vec<_> = set
            .policies
            .iter()
            .map(|policy| policy.max_denied.map(window))
            .collect();
        Breakers {
            // Most sets have none, and are not to pay for it.
            windows: match windows.iter().any(Option::is_some) {
                true => windows,
                false => Vec::new(),
            },
            tripped: Vec::new(),
        }
    }

    /// A call of this process has its verdict.
    pub fn count(&mut self, set: &PolicySet, process: &Process, verdict: &Verdict, at: KernelTime) {
        let enforced = verdict.mode == Mode::Enforce && matches!(verdict.action, Action::Deny | Action::Kill);
        if verdict.policy == canary::NAME {
            return;
        }
        // Canaries' own comes before those that the windows are for, while they run.
        let policies = set.policies.iter().filter(|policy| !policy.is_canary);
        for (position, (window, policy)) in self.windows.iter_mut().zip(policies).enumerate() {
            let Some(window) = window.as_mut().filter(|window| !window.has_tripped) else {
                continue;
            };
            let denied = enforced && verdict.policy == policy.name;
            if !denied && !policy.concerns(process) {
                continue;
            }
            let (denied, judged) = window.add(denied, at);
            if judged >= CALLS_MIN && denied as f64 > window.max.ratio * judged as f64 {
                window.has_tripped = true;
                self.tripped.push(Tripped {
                    position,
                    denied,
                    judged,
                });
            }
        }
    }

    /// Those that have tripped since the last time.
    pub fn take_tripped(&mut self) -> Vec<Tripped> {
        std::mem::take(&mut self.tripped)
    }
}

impl Window {
    /// Adds a call; then how many of the window were denied, and how many there were.
    fn add(&mut self, denied: bool, at: KernelTime) -> (u64, u64) {
        let length = (self.max.window.as_nanos() as u64 / PARTS as u64).max(1);
        let number = at.0 / length;
        let part = &mut self.parts[number as usize % PARTS];
        if part.number != number {
            *part = Part {
                number,
                ..Part::default()
            };
        }
        part.judged += 1;
        part.denied += u64::from(denied);
        let oldest = number.saturating_sub(PARTS as u64 - 1);
        let fresh = self.parts.iter().filter(|part| part.number >= oldest);
        fresh.fold((0, 0), |(denied, judged), part| {
            (denied + part.denied, judged + part.judged)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(ratio: f64, seconds: u64) -> Window {
        Window {
            max: MaxDenied {
                ratio,
                window: Duration::from_secs(seconds),
            },
            parts: [Part::default(); PARTS],
            has_tripped: false,
        }
    }

    #[test]
    fn a_window_forgets_what_is_older_than_itself() {
        let mut window = window(0.5, 16);
        let at = |seconds: u64| KernelTime(1_000_000_000_000 + seconds * 1_000_000_000);
        for second in 0..16 {
            window.add(second % 2 == 0, at(second));
        }
        assert_eq!(window.add(true, at(15)), (9, 17));
        // The first second is gone, then all of them.
        assert_eq!(window.add(false, at(16)), (8, 17));
        assert_eq!(window.add(true, at(1_000)), (1, 1));
    }

    #[test]
    fn too_many_denials_trip_once_and_few_calls_say_nothing() {
        let text = "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: { name: p }\nspec:\n  mode: enforce\n  \
                    max_denied: { ratio: 0.2, window: 1m }\n  rules: [{ name: r, action: deny }]\n";
        let set = PolicySet::load(&[("p.yaml", text)]).expect("a policy");
        let mut breakers = Breakers::new(&set);
        let process = Process {
            pid: 1,
            tid: 1,
            uid: 0,
            comm: "a".into(),
            exe: "/a".into(),
            cgroup_id: 1,
            cgroup_path: "/".into(),
            container: None,
        };
        let verdict = |action| Verdict {
            action,
            mode: Mode::Enforce,
            policy: "p".into(),
            ..crate::policy::engine::default_verdict(Mode::Enforce)
        };
        let mut count = |action, calls: u64| {
            for _ in 0..calls {
                breakers.count(&set, &process, &verdict(action), KernelTime(5));
            }
            breakers.take_tripped()
        };
        assert_eq!(count(Action::Deny, 2), []);
        assert_eq!(count(Action::Allow, 8), []);
        let tripped = Tripped {
            position: 0,
            denied: 3,
            judged: 11,
        };
        assert_eq!(count(Action::Deny, 5), [tripped]);
        assert!(set.policies()[0].trip() && !set.policies()[0].trip());
        assert_eq!(set.policies()[0].mode_now(), Mode::Observe);
        set.rearm();
        assert_eq!(set.policies()[0].mode_now(), Mode::Enforce);
    }
}
