//! What a rule is worth here: where it is decided, when, and which guarantee a denial can have.
//!
//! The table is what this build can give on a host, and the running agent claims nothing else: `status`, the heartbeat
//! and `apiward policy explain` all ask here. `prevented` is for calls that the gate decides, before their bytes move;
//! the pipeline decides after. What was reached is measured when a denial is carried out, by `enforce`.

use super::gate::{self, Decided};
use super::{Action, DecidedBy, Guarantee, PolicySet, Rule};
use crate::call::{CallDirection, Phase, Protocol};

/// What the host's kernel can do to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// A program on its way out keeps payload back (`cgroup_skb` on egress).
    pub withholds: bool,
    /// It can be aborted (`SOCK_DESTROY`).
    pub resets: bool,
    /// The gate judges heads: in clear before they move, in TLS as the library takes them or hands them over.
    pub gate: bool,
    /// A TLS library's call can be made to fail: what was read is then never told to the application.
    pub refuses: bool,
}

impl Host {
    /// Everything that enforcement asks for.
    pub const FULL: Host = Host {
        withholds: true,
        resets: true,
        gate: true,
        refuses: true,
    };
}

/// What can be promised of a denial, before it is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The strongest word that the measurement may give; `None`: this host cannot stop such a call at all.
    pub best: Option<Guarantee>,
    /// The weakest, as long as the flow is within reach.
    pub worst: Option<Guarantee>,
    /// Why it is no stronger.
    pub why: &'static str,
}

impl Promise {
    /// `contained or cut`, one word, or `unsupported`.
    pub fn words(&self) -> String {
        match (self.best, self.worst) {
            (None, _) => UNSUPPORTED.into(),
            (Some(best), Some(worst)) if best == worst => best.as_str().into(),
            (Some(best), worst) => {
                let worst = worst.map_or("nothing", Guarantee::as_str);
                format!("{} or {worst}", best.as_str())
            }
        }
    }
}

/// Where nothing can be done.
pub const UNSUPPORTED: &str = "unsupported";

const GATED_IN: &str = "the segment that ends the request's head is dropped before TCP takes it in, and the client is answered \
                        403; on a connection that is older than the gate, or of a process that it does not know yet, the \
                        pipeline decides";
const GATED_OUT: &str = "the segment that ends the request's head does not leave the host; on a connection that is older than \
                         the gate, or of a process that it does not know yet, the pipeline decides";
const GATED_IN_TLS: &str = "the application has read the request, in the same moment the gate withholds whatever it sends, by \
                        the connection's cookie (a TLS object without a socket of its own cannot be stopped); on one \
                        that is older than the agent, the pipeline decides";
const REFUSED_IN_TLS: &str = "the TLS library's read returns nothing, as if the peer had closed, so the application is never \
                        told of the request (a TLS object without a socket of its own cannot be stopped); on one that \
                        is older than the agent, the pipeline decides";
const GATED_OUT_TLS: &str = "the gate reads what the TLS library is given before it is encrypted, and the records do not leave \
                        the host (a TLS object without a socket of its own cannot be stopped); on one that is older \
                        than the agent, the pipeline decides";
const NOT_WITHHELD: &str = "this kernel runs no program on egress (cgroup_skb), so nothing can be withheld, and no \
                            connection is touched without that; see `apiward doctor`";
const NOT_RESET: &str = "this kernel cannot destroy sockets (CONFIG_INET_DIAG_DESTROY): what the connection sends is \
                         withheld, and it stalls; see `apiward doctor`";

/// The promise for a call of this direction, in TLS or in clear, that is decided at this phase.
pub fn guarantee(direction: CallDirection, tls: bool, decided: Phase, host: Host) -> Promise {
    let promise = |best, worst, why| Promise { best, worst, why };
    let cut = Some(Guarantee::Cut);
    if !host.withholds {
        return promise(None, None, NOT_WITHHELD);
    }
    if host.gate && decided == Phase::Head {
        let worst = host.resets.then_some(Guarantee::Cut);
        let (best, why) = match (direction, tls) {
            (CallDirection::Inbound, false) => (Guarantee::Prevented, GATED_IN),
            (CallDirection::Outbound, false) => (Guarantee::Prevented, GATED_OUT),
            (CallDirection::Inbound, true) if host.refuses => (Guarantee::Prevented, REFUSED_IN_TLS),
            (CallDirection::Inbound, true) => (Guarantee::Contained, GATED_IN_TLS),
            (CallDirection::Outbound, true) => (Guarantee::Prevented, GATED_OUT_TLS),
        };
        return promise(Some(best), worst, why);
    }
    match (direction, decided) {
        (CallDirection::Inbound, Phase::Head | Phase::Request) => {
            let contained = Some(Guarantee::Contained);
            if !host.resets {
                return promise(contained, None, NOT_RESET);
            }
            promise(
                contained,
                cut,
                if tls {
                    "the application has read the request; the response is withheld if nothing of it has left yet, by \
                     the connection's cookie (a TLS object without a socket of its own cannot be stopped)"
                } else {
                    "the application has read the request; the response is withheld if nothing of it has left yet"
                },
            )
        }
        _ if !host.resets => promise(None, None, NOT_RESET),
        (CallDirection::Inbound, Phase::Complete) => promise(
            cut,
            cut,
            "the rule reads the response, so the response has begun to leave when it is decided",
        ),
        (CallDirection::Outbound, _) => promise(
            cut,
            cut,
            if tls {
                "the request is seen as the TLS library takes it, and leaves at once; the connection is reset (a TLS \
                 object without a socket of its own cannot be stopped)"
            } else {
                "the request is seen as it is written, and leaves at once; the connection is reset"
            },
        ),
    }
}

/// What a canary in a quadrant is held against: it is neither older than the gate nor unknown to it, so where the gate
/// decides, it has to show the gate's own word. Where the pipeline decides, the weakest that it promises.
pub fn canary(direction: CallDirection, tls: bool, host: Host) -> (Promise, Option<Guarantee>) {
    let promise = guarantee(direction, tls, Phase::Head, host);
    let least = if host.gate { promise.best } else { promise.worst };
    (promise, least)
}

/// One rule's worth.
pub struct Explained<'s> {
    pub rule: &'s Rule,
    pub decided_by: DecidedBy,
    /// Why it is not the gate that decides; empty if it is.
    pub why_not_gate: &'static str,
    /// When it is decided, at the earliest.
    pub decided_at: Phase,
    /// For each direction that it matches, in clear and in TLS; empty for rules that do not deny.
    pub promises: Vec<(CallDirection, bool, Promise)>,
}

impl Explained<'_> {
    /// Protocols that it matches, and that only the pipeline judges although the gate decides the rest. Empty where that
    /// is so of all of them, and for rules that deny nothing.
    pub fn beside_the_gate(&self) -> Vec<Protocol> {
        let protocols = &self.rule.matches.protocols;
        [Protocol::Http2, Protocol::WebSocket]
            .into_iter()
            .filter(|_| self.decided_by == DecidedBy::Gate && !self.promises.is_empty())
            .filter(|protocol| protocols.is_empty() || protocols.contains(protocol))
            .collect()
    }

    /// The directions in which `require` asks for more than can be given.
    pub fn unmet(&self) -> Vec<(CallDirection, bool, Promise)> {
        let Some(require) = self.rule.require else {
            return Vec::new();
        };
        self.promises
            .iter()
            .copied()
            .filter(|(_, _, promise)| promise.best < Some(require))
            .collect()
    }
}

/// Every rule, in the order in which they apply.
pub fn explain(set: &PolicySet, host: Host) -> Vec<Explained<'_>> {
    set.rules()
        .iter()
        .zip(gate::decided(set))
        .map(|(rule, decided)| explain_rule(rule, decided, host))
        .collect()
}

const NO_GATE: &str = "no gate runs on this host: the agent decides, when the bytes have moved";

/// One rule, and where the compiler of the gate's tables puts it.
pub fn explain_rule(rule: &Rule, decided: Decided, host: Host) -> Explained<'_> {
    let decided_at = rule.needs();
    let (decided_by, why_not_gate) = if host.gate {
        (decided.by, decided.why)
    } else {
        (DecidedBy::Pipeline, NO_GATE)
    };
    let host = Host {
        gate: decided_by == DecidedBy::Gate,
        ..host
    };
    let mut promises = Vec::new();
    if matches!(rule.action, Action::Deny | Action::Kill) {
        for direction in rule.directions() {
            for tls in [false, true] {
                promises.push((*direction, tls, guarantee(*direction, tls, decided_at, host)));
            }
        }
    }
    Explained {
        rule,
        decided_by,
        why_not_gate,
        decided_at,
        promises,
    }
}

/// For `status` and the heartbeat: a policy's rules whose `require` this host cannot meet, one line each.
pub fn unmet(set: &PolicySet, policy: usize, host: Host) -> Vec<String> {
    let rules = set.rules().iter().filter(|rule| rule.policy == policy);
    rules
        // Who decides a rule does not matter here, so the tables need not be made for it.
        .map(|rule| explain_rule(rule, gate::decided_alone(rule), host))
        .filter_map(|explained| {
            let best = explained
                .unmet()
                .iter()
                .map(|(_, _, promise)| promise.best)
                .min()?;
            let rule = explained.rule;
            let given = best.map_or("not possible", Guarantee::as_str);
            Some(format!(
                "rule {} ({}) requires {}, and a denial here is {given}: it is not counted as enforced",
                rule.name,
                rule.source,
                rule.require.map_or("", Guarantee::as_str),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_and_not_given_is_told() {
        let text = "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: { name: a }\nspec:\n  rules:\n\
                    \x20   - { name: strong, match: { paths: [/a] }, action: deny, require: contained }\n\
                    \x20   - { name: weak, match: { paths: [/b] }, action: deny, require: cut }\n\
                    \x20   - { name: inbound, match: { direction: inbound, paths: [/c] }, action: deny, require: contained }\n\
                    \x20   - { name: late, match: { direction: inbound }, when: call.response.status == 200, action: deny, require: contained }\n";
        let set = PolicySet::load(&[("a.yaml", text)]).map_err(|problems| problems.to_string());
        let set = set.expect("a policy");
        assert_eq!(
            unmet(&set, 0, Host::FULL),
            [
                "rule late (a.yaml:9) requires contained, and a denial here is cut: it is not counted as enforced",
            ]
        );
        let blind = Host {
            withholds: false,
            resets: true,
            gate: false,
            refuses: false,
        };
        let none = unmet(&set, 0, blind);
        assert_eq!(none.len(), 4);
        assert!(none[1].ends_with("a denial here is not possible: it is not counted as enforced"));
        assert_eq!(unmet(&set, 1, Host::FULL), Vec::<String>::new());
    }

    #[test]
    fn the_words_for_every_quadrant_and_host() {
        let mut table = String::new();
        for (withholds, resets) in [(true, true), (true, false), (false, true)] {
            for direction in [CallDirection::Inbound, CallDirection::Outbound] {
                for decided in [Phase::Head, Phase::Request, Phase::Complete] {
                    let words = [false, true].map(|tls| {
                        guarantee(
                            direction,
                            tls,
                            decided,
                            Host {
                                withholds,
                                resets,
                                gate: false,
                                refuses: false,
                            },
                        )
                        .words()
                    });
                    assert_eq!(words[0], words[1], "the kernel cannot tell them apart");
                    table.push_str(&format!(
                        "withholds {withholds}, resets {resets}: {} at {decided:?}: {}\n",
                        direction.as_str(),
                        words[0]
                    ));
                }
            }
        }
        insta::assert_snapshot!(table, @r#"
        withholds true, resets true: inbound at Head: contained or cut
        withholds true, resets true: inbound at Request: contained or cut
        withholds true, resets true: inbound at Complete: cut
        withholds true, resets true: outbound at Head: cut
        withholds true, resets true: outbound at Request: cut
        withholds true, resets true: outbound at Complete: cut
        withholds true, resets false: inbound at Head: contained or nothing
        withholds true, resets false: inbound at Request: contained or nothing
        withholds true, resets false: inbound at Complete: unsupported
        withholds true, resets false: outbound at Head: unsupported
        withholds true, resets false: outbound at Request: unsupported
        withholds true, resets false: outbound at Complete: unsupported
        withholds false, resets true: inbound at Head: unsupported
        withholds false, resets true: inbound at Request: unsupported
        withholds false, resets true: inbound at Complete: unsupported
        withholds false, resets true: outbound at Head: unsupported
        withholds false, resets true: outbound at Request: unsupported
        withholds false, resets true: outbound at Complete: unsupported
        "#);
    }
}
