//! What the loaded programs take, and how often the kernel did not run one, by its own account.

use std::os::fd::{BorrowedFd, OwnedFd};

use aya::Ebpf;

use super::links;
use super::load::Maps;

/// What the programs cost, by the kernel's own account. Keeping it costs a little itself, so it is kept while
/// [`RunTimes::sample`] says so.
#[derive(Default)]
pub struct RunTimes {
    ids: Vec<(u32, String)>,
    keeping: Option<OwnedFd>,
    /// What first programs told before their seconds were attached; nothing where some have none, and nobody knows what those
    /// tell beside the others.
    alone: Option<u64>,
}

/// Behind a program's name: the one that is attached behind it.
pub(super) const SECOND: &str = "_second";
/// The program at sockets' states, which has a second one on every kernel.
pub(super) const STATES: &str = "apiward_set_state";

/// Time that a program ran while the account was kept.
pub struct RunTime {
    pub program: String,
    pub run_ns: u64,
    pub runs: u64,
}

/// What the first program told and the second never saw: it was skipped, or is to come.
fn told_by_firsts(maps: &Maps) -> u64 {
    let counters = maps.counters();
    counters.firsts_told.saturating_sub(counters.seconds_spared)
}

/// Whether each loaded program that is to have a second one has it: that at sockets' states, or all that can. The names of
/// all, and whether they are loaded.
fn is_whole(programs: &[(&str, bool)], all: bool) -> bool {
    let is_loaded = |name: &str| programs.contains(&(name, true));
    let mut firsts = programs
        .iter()
        .filter_map(|(name, loaded)| Some((name.strip_suffix(SECOND)?, *loaded)))
        .filter(|(first, _)| all || *first == STATES);
    firsts.all(|(first, second_loaded)| second_loaded || !is_loaded(first))
}

/// Of the last programs' skipped runs those of which no first program told. Too high, and never too low, where that is not known.
fn lost(skipped: u64, told: u64, alone: Option<u64>) -> u64 {
    let unneeded = alone.map_or(0, |alone| told.saturating_sub(alone));
    skipped.saturating_sub(unneeded)
}

impl RunTimes {
    /// Of what is attached by now; `probes` are those at libraries. `all`: all programs that can have a second one are to
    /// have it.
    pub(super) fn of<'a>(
        ebpf: &Ebpf,
        probes: impl Iterator<Item = (&'static str, BorrowedFd<'a>)>,
        maps: &Maps,
        all: bool,
    ) -> RunTimes {
        let mut ids: Vec<(u32, String)> = ebpf
            .programs()
            .filter_map(|(name, program)| Some((program.info().ok()?.id(), name.to_owned())))
            .collect();
        for (name, program) in probes {
            match links::id_of(program) {
                Ok(id) if ids.iter().all(|(known, _)| *known != id) => ids.push((id, name.to_owned())),
                _ => {}
            }
        }
        let names: Vec<(&str, bool)> = ebpf
            .programs()
            .map(|(name, program)| (name, program.fd().is_ok()))
            .collect();
        // The least of several: what is between the two programs just now is not meant.
        let alone = (0..4)
            .map(|_| told_by_firsts(maps))
            .min()
            .filter(|_| is_whole(&names, all));
        RunTimes {
            ids,
            keeping: None,
            alone,
        }
    }

    /// How often the kernel has not run a program because it ran already on that CPU: what it would have told is lost.
    ///
    /// Where programs are attached twice, what the first skips is told by the second, and what the second skips is lost
    /// unless the first has told it.
    pub fn skipped(&self, maps: &Maps) -> u64 {
        let is_followed = |name: &str| {
            self.ids
                .iter()
                .any(|(_, other)| other.strip_suffix(SECOND) == Some(name))
        };
        let last = self.ids.iter().filter(|(_, name)| !is_followed(name));
        // By number: whoever holds on to a program keeps it loaded. One that is gone skips nothing.
        let skipped: u64 = last.map(|(id, _)| links::skipped_runs(*id).unwrap_or(0)).sum();
        // Asked behind it, so that what goes on meanwhile makes this too large, and nothing a loss that is none; twice,
        // as one that goes from one CPU to another between its two programs may be counted on the second alone.
        let told = (0..2).map(|_| told_by_firsts(maps)).max().unwrap_or(0);
        lost(skipped, told, self.alone)
    }

    /// Keeps the account from now on, or not.
    pub fn sample(&mut self, on: bool) {
        // Where the kernel refuses, the numbers stay 0.
        self.keeping = if on {
            aya::sys::enable_stats(aya::sys::Stats::RunTime).ok()
        } else {
            None
        };
    }

    /// So far.
    pub fn read(&self) -> Vec<RunTime> {
        aya::programs::loaded_programs()
            .flatten()
            .filter_map(|info| {
                let (_, program) = self.ids.iter().find(|(id, _)| *id == info.id())?;
                Some(RunTime {
                    program: program.clone(),
                    run_ns: u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX),
                    runs: info.run_count(),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_second_is_lost_unless_its_first_told() {
        assert_eq!(lost(5, 103, Some(100)), 2);
        assert_eq!(lost(5, 109, Some(100)), 0, "more are between the two");
        assert_eq!(lost(5, 109, None), 5, "nobody knows");
    }

    #[test]
    fn a_first_without_its_second_makes_the_account_nobodys() {
        let second = |loaded| {
            [
                ("a", true),
                ("a_second", loaded),
                ("b", true),
                ("c", false),
                ("c_second", false),
            ]
        };
        assert!(is_whole(&second(true), true));
        assert!(!is_whole(&second(false), true));
        assert!(is_whole(&second(false), false), "they are not to have one");
        let states = |loaded| [(STATES, true), ("apiward_set_state_second", loaded)];
        assert!(is_whole(&states(true), false));
        assert!(!is_whole(&states(false), false));
    }
}
