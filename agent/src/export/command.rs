//! What somebody asks of the running agent, and the only way to answer: with a record of it.
//!
//! The control socket, a collector or a signal makes a [`Command`]; the pipeline's owner carries it out between
//! two batches, so that a change is never half in force. A request can be answered only by consuming its
//! [`Asked`], which writes the audit event first, and one that is dropped unanswered is recorded as refused:
//! no change of what the agent does, accepted or refused, leaves no trace.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;

use super::facts::{CanaryFacts, Facts, ProveReady};
use super::wire::{self, Change};
use super::{Event, Exports};
use crate::detect::Endpoint;
use crate::policy::Mode;

/// Commands that wait for the pipeline; more are refused, and the caller told to try again.
pub const COMMAND_QUEUE_LEN_MAX: usize = 16;

/// What the audit calls the mode of an agent that has let go of everything.
pub const RELEASED: &str = "released";

/// Something to do between two batches.
#[derive(Debug)]
pub enum Command {
    /// Switch the agent's mode.
    SetMode { mode: Mode, term: Term, asked: Asked },
    /// Take away everything that is attached or kept.
    Release { asked: Asked },
    /// Read the configured policy files again.
    ReloadPolicies { asked: Asked },
    /// Put those back that were in force before the last change.
    UndoPolicies { asked: Asked },
    /// Put these policies in the place of the configured ones.
    PushPolicies { files: Vec<PolicyText>, asked: Asked },
    /// Say how things stand.
    Facts { reply: oneshot::Sender<Facts> },
    /// Something about canaries.
    Prove(Prove),
    /// Say which endpoints there are.
    Inventory { reply: oneshot::Sender<Vec<Endpoint>> },
}

/// What whoever sends canaries asks for. A run is named by its cgroup.
#[derive(Debug)]
pub enum Prove {
    /// Put a policy of theirs in force beside the others. An error says why that cannot be had.
    Begin {
        asked: Asked,
        reply: oneshot::Sender<Result<ProveReady, String>>,
    },
    /// Take in what has happened so far, and say what was told of denied calls since the last time, by word.
    Settle {
        run: String,
        reply: oneshot::Sender<BTreeMap<String, u64>>,
    },
    /// It is over, with these results; `None`: whoever sent them has gone away.
    End {
        run: String,
        canaries: Option<Vec<CanaryFacts>>,
        asked: Asked,
    },
}

/// For how long a mode is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Term {
    #[default]
    ForGood,
    /// Then back to observing, unless somebody has confirmed it.
    For(Duration),
    /// Confirms the term that runs.
    Confirm,
}

/// A policy file that came over the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyText {
    pub name: String,
    pub text: String,
}

/// What was said to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub accepted: bool,
    /// For people: what is in force now, or why not and what to do.
    pub message: String,
    /// The record of it, as it was sent to every exporter.
    pub audit: Event,
}

/// A request to change something: who asks, and why. Consumed by the answer.
#[derive(Debug)]
pub struct Asked {
    what: &'static str,
    who: String,
    reason: String,
    /// A mode, or the digest of policies; empty where it is not known.
    wanted: String,
    /// Present until it is answered.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    exports: Exports,
    reply: Option<oneshot::Sender<Answer>>,
}

impl Asked {
    /// A request that somebody waits for. `what` is `mode`, `policy`, `scope`, `redaction` or `configuration`.
    pub fn new(
        exports: &Exports,
        what: &'static str,
        who: impl Into<String>,
        reason: impl Into<String>,
    ) -> (Self, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        let mut asked = Asked::unattended(exports, what, who, reason);
        if let Some(open) = &mut asked.open {
            open.reply = Some(reply);
        }
        (asked, answer)
    }

    /// A request that nobody waits for: a signal, the start.
    pub fn unattended(
        exports: &Exports,
        what: &'static str,
        who: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        let open = Open {
            exports: exports.clone(),
            reply: None,
        };
        Asked {
            what,
            who: who.into(),
            reason: reason.into(),
            wanted: String::new(),
            open: Some(open),
        }
    }

    /// Adds to the reason what the caller could not know.
    pub fn add(&mut self, words: &str) {
        if !self.reason.is_empty() {
            self.reason.push_str("; ");
        }
        self.reason.push_str(words);
    }

    /// Names what is asked for: a mode, or the digest of policies. It stands in the record of a refusal.
    pub fn wanting(mut self, wanted: impl Into<String>) -> Self {
        self.wanted = wanted.into();
        self
    }

    /// It was done. `old` and `new` name what was and is in force: modes, or digests of policies.
    pub fn accept(mut self, old: impl Into<String>, new: impl Into<String>, message: impl Into<String>) {
        let reason = std::mem::take(&mut self.reason);
        self.close(true, old.into(), new.into(), reason, message.into());
    }

    /// It was not done; what is in force stays. `why` tells the caller what to do instead; the record has its first
    /// line, beside the caller's own reason.
    pub fn refuse(mut self, why: impl Into<String>) {
        let why = why.into();
        let mut reason = std::mem::take(&mut self.reason);
        if !reason.is_empty() {
            reason.push_str("; ");
        }
        let lines = why.lines().count();
        reason.push_str("refused: ");
        reason.push_str(why.lines().next().unwrap_or_default());
        if lines > 1 {
            reason.push_str(&format!(" (and {} more)", lines - 1));
        }
        let old = self.in_force();
        let wanted = match self.wanted.is_empty() {
            true => old.clone(),
            false => std::mem::take(&mut self.wanted),
        };
        self.close(false, old, wanted, reason, why);
    }

    /// What is in force of the kind that is asked for, as it was last accepted; empty if nothing was.
    pub fn in_force(&self) -> String {
        let in_force = self.open.as_ref().map(|open| open.exports.in_force(self.what));
        in_force.unwrap_or_default()
    }

    fn close(
        &mut self,
        accepted: bool,
        old_digest: String,
        new_digest: String,
        reason: String,
        message: String,
    ) {
        let Some(open) = self.open.take() else { return };
        let who = std::mem::take(&mut self.who);
        let what = self.what;
        tracing::info!(
            what,
            accepted,
            who,
            old_digest,
            new_digest,
            reason,
            "a change was asked for"
        );
        let change = Change {
            what,
            accepted,
            who,
            old_digest,
            new_digest,
            reason,
        };
        if change.accepted {
            open.exports.set_in_force(what, &change.new_digest);
        }
        let audit = wire::audit(change);
        open.exports.send(vec![audit.clone()]);
        if let Some(reply) = open.reply {
            // The caller may have gone away; the record stands.
            let _ = reply.send(Answer {
                accepted,
                message,
                audit,
            });
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.open.is_none() {
            return;
        }
        let dropped = Asked {
            what: self.what,
            who: std::mem::take(&mut self.who),
            reason: std::mem::take(&mut self.reason),
            wanted: std::mem::take(&mut self.wanted),
            open: self.open.take(),
        };
        dropped.refuse("the agent stopped, or was too busy, before it could answer");
    }
}

/// The most that a collector may change on this host. Each includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ceiling {
    #[default]
    None,
    /// The mode, to `observe`.
    Observe,
    /// Also policies.
    Policies,
    /// Also the mode, to `enforce`.
    Enforce,
}

impl Ceiling {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Ceiling::None => "none",
            Ceiling::Observe => "observe",
            Ceiling::Policies => "policies",
            Ceiling::Enforce => "enforce",
        }
    }

    /// Ok if a collector may do what needs `needed`; else what to tell it.
    pub fn permit(self, needed: Ceiling) -> Result<(), String> {
        if self >= needed {
            return Ok(());
        }
        Err(format!(
            "this agent's configuration says `remote: {}`; it would need `remote: {}`",
            self.as_str(),
            needed.as_str()
        ))
    }
}
