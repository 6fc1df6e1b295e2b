//! What was counted: the stage's counters, and losses by process for those who have to be told.

use std::sync::Arc;

use hashbrown::HashMap;

use super::lane::Account;
use crate::capture::{FlowInfo, GapReason, KernelTime, Process};

/// Counters since the start, except where they say *open* or *held*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub segments: u64,
    pub bytes_seen: u64,
    /// Bytes that had been seen before.
    pub bytes_duplicate: u64,
    /// Bytes known to be missing that were to be read.
    pub bytes_missing: u64,
    /// Bytes beyond the configured limit of one operation, and such as never pass through a process's memory.
    pub bytes_passed_over: u64,
    pub gaps: u64,
    /// Holes that were declared early because too much waited behind them.
    pub holes_forced: u64,
    /// Records that the kernel had no room for.
    pub records_lost: u64,
    pub flows_total: u64,
    pub flows_open: u64,
    pub flows_evicted: u64,
    /// Flows whose first record was not their announcement.
    pub flows_unannounced: u64,
    pub held_bytes: u64,
    /// Of flows that have ended: bytes that TCP (or the TLS library) moved, and those of them that were lost.
    pub bytes_moved: u64,
    pub bytes_missed: u64,
    /// Accounts that found no room.
    pub ledgers_dropped: u64,
}

impl Stats {
    pub(super) fn gap(&mut self, reason: GapReason, bytes: u64) {
        self.gaps += 1;
        let sum = match reason.is_loss() {
            true => &mut self.bytes_missing,
            false => &mut self.bytes_passed_over,
        };
        *sum = sum.saturating_add(bytes);
    }
}

/// What became of the bytes of a flow that has ended.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub at: KernelTime,
    pub flow: Arc<FlowInfo>,
    /// Who used it last; `None` where nothing of it was seen.
    pub process: Option<Arc<Process>>,
    pub sent: Account,
    pub received: Account,
    /// Ciphertext went over it: its account is empty, and the TLS object's says what was in it.
    pub carries_tls: bool,
    pub reset: bool,
}

/// Bytes that a process moved and that were not seen.
#[derive(Clone, Debug)]
pub struct Loss {
    /// `None` where nothing of the flow was seen, or where too many processes lose at once.
    pub process: Option<Arc<Process>>,
    pub reason: GapReason,
    pub bytes: u64,
    pub gaps: u64,
}

pub(super) struct Losses {
    by: HashMap<(u32, GapReason), Loss>,
    losses_max: usize,
}

impl Losses {
    pub(super) fn new(losses_max: usize) -> Self {
        Losses {
            by: HashMap::new(),
            losses_max,
        }
    }

    /// Nothing where the configuration says that so much is enough: the call says that it is cut short.
    pub(super) fn add(&mut self, process: Option<&Arc<Process>>, reason: GapReason, bytes: u64) {
        if reason == GapReason::Limit {
            return;
        }
        let mut process = process;
        let mut key = (process.map_or(0, |process| process.pid), reason);
        if self.by.len() >= self.losses_max && !self.by.contains_key(&key) {
            // The bytes still count; only whose they were is given up.
            process = None;
            key = (0, reason);
        }
        let loss = self.by.entry(key).or_insert_with(|| Loss {
            process: process.cloned(),
            reason,
            bytes: 0,
            gaps: 0,
        });
        loss.bytes = loss.bytes.saturating_add(bytes);
        loss.gaps += 1;
    }

    pub(super) fn take(&mut self) -> Vec<Loss> {
        self.by.drain().map(|(_, loss)| loss).collect()
    }
}
