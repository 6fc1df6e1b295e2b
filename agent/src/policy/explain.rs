//! What a rule is worth here: where it is decided, when, and which guarantee a denial can have.
//!
//! The table is what this build can give. It decides in the pipeline alone, after the bytes have moved, so it never
//! says `prevented`; the gate in the kernel will.

use super::{Action, DecidedBy, Guarantee, PolicySet, Rule};
use crate::call::{CallDirection, Phase};

/// What can be promised of a denial, before it is carried out. What was reached is measured then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The strongest word that the measurement may give.
    pub best: Guarantee,
    /// The weakest, as long as the flow can be enforced at all.
    pub worst: Guarantee,
    /// Why it is no stronger.
    pub why: &'static str,
}

impl Promise {
    /// `contained or cut`, or one word.
    pub fn words(&self) -> String {
        if self.best == self.worst {
            self.best.as_str().into()
        } else {
            format!("{} or {}", self.best.as_str(), self.worst.as_str())
        }
    }
}

/// The promise for a call of this direction, in TLS or in clear, that is decided at this phase.
pub fn guarantee(direction: CallDirection, tls: bool, decided: Phase) -> Promise {
    match (direction, decided) {
        (CallDirection::Outbound, _) => Promise {
            best: Guarantee::Cut,
            worst: Guarantee::Cut,
            why: if tls {
                "the request is seen as the TLS library takes it, and leaves at once; the connection is reset"
            } else {
                "the request is seen as it is written, and leaves at once; the connection is reset"
            },
        },
        (CallDirection::Inbound, Phase::Complete) => Promise {
            best: Guarantee::Cut,
            worst: Guarantee::Cut,
            why: "the rule reads the response, so the response has begun to leave when it is decided",
        },
        (CallDirection::Inbound, Phase::Head | Phase::Request) => Promise {
            best: Guarantee::Contained,
            worst: Guarantee::Cut,
            why: if tls {
                "the application has read the request; the response is withheld if nothing of it has left yet, by the \
                 connection's cookie (a TLS object without a socket of its own cannot be stopped)"
            } else {
                "the application has read the request; the response is withheld if nothing of it has left yet"
            },
        },
    }
}

/// One rule's worth.
pub struct Explained<'s> {
    pub rule: &'s Rule,
    pub decided_by: DecidedBy,
    /// When it is decided, at the earliest.
    pub decided_at: Phase,
    /// For each direction that it matches, in clear and in TLS; empty for rules that do not deny.
    pub promises: Vec<(CallDirection, bool, Promise)>,
}

impl Explained<'_> {
    /// The directions in which `require` asks for more than can be given.
    pub fn unmet(&self) -> Vec<(CallDirection, bool, Promise)> {
        let Some(require) = self.rule.require else {
            return Vec::new();
        };
        self.promises
            .iter()
            .copied()
            .filter(|(_, _, promise)| promise.best < require)
            .collect()
    }
}

/// Every rule, in the order in which they apply.
pub fn explain(set: &PolicySet) -> Vec<Explained<'_>> {
    set.rules().iter().map(explain_rule).collect()
}

/// One rule.
pub fn explain_rule(rule: &Rule) -> Explained<'_> {
    let decided_at = rule.needs();
    let mut promises = Vec::new();
    if matches!(rule.action, Action::Deny | Action::Kill) {
        for direction in rule.directions() {
            for tls in [false, true] {
                promises.push((*direction, tls, guarantee(*direction, tls, decided_at)));
            }
        }
    }
    Explained {
        rule,
        decided_by: DecidedBy::Pipeline,
        decided_at,
        promises,
    }
}

/// For `status` and the heartbeat: policies with rules whose `require` this host cannot meet, one line each.
pub fn unmet(set: &PolicySet, policy: usize) -> Vec<String> {
    let rules = set.rules().iter().filter(|rule| rule.policy == policy);
    rules
        .map(explain_rule)
        .filter(|explained| !explained.unmet().is_empty())
        .map(|explained| {
            let best = explained.unmet().iter().map(|(_, _, promise)| promise.best).min();
            format!(
                "rule {} requires {}, and this host can give {} at best",
                explained.rule.name,
                explained.rule.require.map_or("", Guarantee::as_str),
                best.map_or("", Guarantee::as_str)
            )
        })
        .collect()
}
