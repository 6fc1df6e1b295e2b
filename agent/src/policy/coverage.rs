//! How much of a policy's traffic was within reach: its workload's connections that have ended, and what was in the way.
//!
//! Counted since the start, for people; judged over the last hour, so that neither a long good past hides a bad hour,
//! nor the connections that are older than the agent count against it for ever.

use std::collections::VecDeque;

use hashbrown::HashMap;
use smol_str::SmolStr;

use crate::capture::{KernelTime, Process};

/// What is judged at a time, and in how many steps it moves on.
const WINDOW_NS: u64 = 3_600_000_000_000;
const STEPS: usize = 12;
/// Programs told apart, by reason; the connections of those beyond count all the same.
const BLIND_MAX: usize = 64;

/// Connections that have ended, and the bytes they moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub flows: u64,
    pub flows_enforceable: u64,
    pub bytes: u64,
    pub bytes_enforceable: u64,
    pub bytes_unseen: u64,
}

/// Those of one program that were out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blind {
    pub pid: u32,
    pub flows: u64,
    pub bytes: u64,
}

/// One connection that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'p> {
    pub process: &'p Process,
    pub bytes: u64,
    /// Why nothing of it could be enforced; `None`: it could.
    pub out_of_reach: Option<&'static str>,
    /// What it carried could be read.
    pub seen: bool,
}

/// One policy's account.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    total: Moved,
    /// As it was at the beginning of each step of the window, the oldest first.
    marks: VecDeque<(KernelTime, Moved)>,
    blind: HashMap<(SmolStr, &'static str), Blind>,
    falls_short: bool,
}

/// Shares that could be enforced, of connections and of their bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    pub flows: f64,
    pub bytes: f64,
}

impl Reach {
    pub fn ended(&mut self, ended: &Ended<'_>) {
        let Ended {
            process,
            bytes,
            out_of_reach,
            seen,
        } = *ended;
        self.total.flows += 1;
        self.total.bytes = self.total.bytes.saturating_add(bytes);
        if !seen {
            self.total.bytes_unseen = self.total.bytes_unseen.saturating_add(bytes);
        }
        let Some(reason) = out_of_reach else {
            self.total.flows_enforceable += 1;
            self.total.bytes_enforceable = self.total.bytes_enforceable.saturating_add(bytes);
            return;
        };
        let key = (process.exe.clone(), reason);
        if self.blind.len() < BLIND_MAX || self.blind.contains_key(&key) {
            let blind = self.blind.entry(key).or_default();
            blind.pid = process.pid;
            blind.flows += 1;
            blind.bytes = blind.bytes.saturating_add(bytes);
        }
    }

    /// Time has passed.
    pub fn on_tick(&mut self, at: KernelTime) {
        let step = WINDOW_NS / STEPS as u64;
        match self.marks.back() {
            // What has ended by now belongs to the first step.
            None => self.marks.push_back((at, Moved::default())),
            Some((began, _)) if at.since(*began) >= step => self.marks.push_back((at, self.total)),
            Some(_) => {}
        }
        // One mark is kept from before the window, if there is one: the window begins there.
        while self
            .marks
            .get(1)
            .is_some_and(|(began, _)| at.since(*began) >= WINDOW_NS)
        {
            self.marks.pop_front();
        }
    }

    /// Since the start.
    pub fn total(&self) -> Moved {
        self.total
    }

    /// Who was out of reach since the start, and why.
    pub fn blind(&self) -> impl Iterator<Item = (&SmolStr, &'static str, Blind)> {
        self.blind
            .iter()
            .map(|((exe, reason), blind)| (exe, *reason, *blind))
    }

    /// Of the last hour; `None` if no connection has ended in it.
    pub fn recent(&self) -> Option<Shares> {
        // The first mark is of when nothing was counted, or nothing of what came before it counts any more.
        let before = self.marks.front().map(|(_, moved)| *moved).unwrap_or_default();
        let share = |part: u64, whole: u64| match whole {
            // A connection that moved nothing had nothing to enforce.
            0 => 1.0,
            whole => part as f64 / whole as f64,
        };
        let flows = self.total.flows - before.flows;
        (flows > 0).then(|| Shares {
            flows: share(self.total.flows_enforceable - before.flows_enforceable, flows),
            bytes: share(
                self.total.bytes_enforceable - before.bytes_enforceable,
                self.total.bytes - before.bytes,
            ),
        })
    }

    /// As [`Reach::falls_short`] has found it last.
    pub fn is_short(&self) -> bool {
        self.falls_short
    }

    /// Whether it is below what is asked for. With nothing new to judge by, what was last found holds.
    pub fn falls_short(&mut self, min: f64) -> bool {
        if let Some(recent) = self.recent() {
            self.falls_short = recent.flows < min || recent.bytes < min;
        }
        self.falls_short
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::example;

    const MINUTE: u64 = 60_000_000_000;

    fn ends(reach: &mut Reach, times: u64, bytes: u64, out_of_reach: Option<&'static str>) {
        let (call, _) = example();
        for _ in 0..times {
            reach.ended(&Ended {
                process: &call.process,
                bytes,
                out_of_reach,
                seen: out_of_reach != Some("unknown-tls"),
            });
        }
    }

    #[test]
    fn a_bad_hour_is_not_hidden_by_a_good_past_and_is_over_when_it_is_over() {
        let mut reach = Reach::default();
        reach.on_tick(KernelTime(1));
        assert!(!reach.falls_short(0.95) && reach.recent().is_none());
        ends(&mut reach, 10_000, 100, None);
        let mut at = 1;
        let mut pass = |reach: &mut Reach, minutes: u64| {
            for _ in 0..minutes {
                at += MINUTE;
                reach.on_tick(KernelTime(at));
            }
        };
        assert!(!reach.falls_short(0.95));
        pass(&mut reach, 120);
        assert!(reach.recent().is_none() && !reach.falls_short(0.95));
        ends(&mut reach, 10, 100, None);
        ends(&mut reach, 1, 100, Some("http2"));
        assert!(reach.falls_short(0.95) && !reach.falls_short(0.9));
        assert!(reach.falls_short(0.95));
        // Nothing happens: what was found holds.
        pass(&mut reach, 120);
        assert!(reach.falls_short(0.95));
        ends(&mut reach, 1, 100, None);
        assert!(!reach.falls_short(0.95));
        assert_eq!(reach.total().flows, 10_012);
        assert_eq!(reach.total().flows_enforceable, 10_011);
    }

    #[test]
    fn bytes_count_as_well_and_who_it_was_is_told() {
        let mut reach = Reach::default();
        ends(&mut reach, 99, 10, None);
        ends(&mut reach, 1, 1_000_000, Some("unknown-tls"));
        let shares = reach.recent().expect("some have ended");
        assert!(shares.flows > 0.98 && shares.bytes < 0.01);
        // Also where time is looked at for the first time only now.
        reach.on_tick(KernelTime(MINUTE));
        assert_eq!(reach.recent(), Some(shares));
        assert!(reach.falls_short(0.95));
        assert_eq!(reach.total().bytes_unseen, 1_000_000);
        let blind: Vec<_> = reach.blind().collect();
        assert_eq!(blind.len(), 1);
        assert_eq!(
            (blind[0].0.as_str(), blind[0].1, blind[0].2.flows),
            ("/usr/bin/server", "unknown-tls", 1)
        );
    }
}
