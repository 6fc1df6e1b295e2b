//! Warnings: what is valid, and will not do what it seems to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::address::Networks;
use super::explain::{Host, UNSUPPORTED, explain_rule};
use super::expression::Expression;
use super::gate::decided_alone;
use super::host::HostPattern;
use super::path::PathPattern;
use super::rate::By;
use super::set::{OnAmbiguous, OnUnseen, Policy, PolicySet, Rule};
use super::{Action, Guarantee, Mode, words};
use crate::call::{AuthScheme, CallDirection, Phase, Protocol};
use crate::errors::{self, ErrorId};
use crate::yaml::Problem;

/// Methods that change something (RFC 9110 §9.2.1: those that are not safe), and WebDAV's.
const WRITING: &[&str] = &[
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "MOVE",
    "COPY",
    "MKCOL",
    "PROPPATCH",
];

const ALL_NETWORKS: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];

/// All warnings over a set, by file and place. `trusted_proxies` are the agent's.
pub fn warnings(set: &PolicySet, trusted_proxies: &[IpNet]) -> Vec<Problem> {
    let mut found = Vec::new();
    for (position, rule) in set.rules().iter().enumerate() {
        let policy = set.policy_of(rule);
        let earlier = &set.rules()[..position];
        unreachable(set, earlier, rule, &mut found);
        waits(set, earlier, rule, &mut found);
        guarantees(rule, &mut found);
        peers(rule, policy, trusted_proxies, &mut found);
        if rule.rate.is_some() && rule.action == Action::Allow {
            warn(
                &mut found,
                errors::RATE_WITHOUT_EFFECT,
                rule,
                "allows what is beyond its rate, and lets the rest go on to later rules".into(),
                "write `action: deny` or `alert`, or remove `rate`",
            );
        }
        if narrows_nothing(rule) && policy.workload.is_none() && rule.denies() {
            let which = match rule.directions() {
                [one] => format!("{} ", one.as_str()),
                _ => String::new(),
            };
            warn(
                &mut found,
                errors::MATCHES_EVERYTHING,
                rule,
                format!("denies every {which}call of every process"),
                "narrow its `match`, or add a `workload` to the policy",
            );
        }
        kills(rule, policy, &mut found);
        hosts(rule, &mut found);
        never(rule, policy, &mut found);
        bodies(rule, &mut found);
        stalls(rule, &mut found);
    }
    policies(set, trusted_proxies, &mut found);
    found.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
    found
}

fn warn(found: &mut Vec<Problem>, id: ErrorId, rule: &Rule, what: String, instead: &str) {
    let file = rule.source.rsplit_once(':').map_or("", |(file, _)| file);
    found.push(Problem {
        id,
        file: file.into(),
        place: Some(rule.place),
        what: format!("rule `{}` {what}", rule.name),
        instead: instead.into(),
    });
}

fn unreachable(set: &PolicySet, earlier: &[Rule], rule: &Rule, found: &mut Vec<Problem>) {
    let shadow = earlier.iter().find(|first| {
        let (mine, theirs) = (set.policy_of(rule), set.policy_of(first));
        // A policy that observes does not stand before one that enforces.
        let shields = theirs.mode == Mode::Enforce || mine.mode == Mode::Observe;
        // An allowance by path does not match what is ambiguous there, and this rule may.
        let open = theirs.on_ambiguous == OnAmbiguous::Deny && !first.matches.paths.is_empty();
        shields && !open && first.when.is_none() && first.rate.is_none() && covers(first, theirs, rule, mine)
    });
    if let Some(first) = shadow {
        warn(
            found,
            errors::UNREACHABLE_RULE,
            rule,
            format!(
                "can never apply: rule `{}` ({}) matches all that it matches",
                first.name, first.source
            ),
            "move it up, give its policy a higher `priority`, or remove it",
        );
    }
}

/// Every call fits, of one direction at least.
fn narrows_nothing(rule: &Rule) -> bool {
    let every_path = rule
        .matches
        .paths
        .iter()
        .any(|pattern| pattern.rest && pattern.segments.is_empty());
    rule.dimensions()
        .iter()
        .all(|name| *name == "direction" || (*name == "paths" && every_path))
}

/// Does the first rule match every call that the second one matches? `false` where that is hard to tell.
fn covers(first: &Rule, first_policy: &Policy, second: &Rule, second_policy: &Policy) -> bool {
    let (a, b) = (&first.matches, &second.matches);
    let within = |inner: &[PathPattern]| {
        !inner.is_empty()
            && inner
                .iter()
                .all(|narrow| a.paths.iter().any(|wide| wide.covers(narrow)))
    };
    let same_proxies = first_policy.trusted_proxies == second_policy.trusted_proxies;
    (a.direction.is_none() || a.direction == b.direction)
        && (a.methods.is_empty()
            || (!b.methods.is_empty() && b.methods.iter().all(|m| a.methods.contains(m))))
        && (a.paths.is_empty() || within(&b.paths))
        && (a.auth.is_empty() || (!b.auth.is_empty() && b.auth.iter().all(|scheme| a.auth.contains(scheme))))
        && a.hosts
            .as_ref()
            .is_none_or(|wide| b.hosts.as_ref().is_some_and(|narrow| wide.covers(narrow)))
        && a.peers
            .as_ref()
            .is_none_or(|wide| b.peers.as_ref().is_some_and(|narrow| wide.covers(narrow)))
        && a.clients
            .as_ref()
            .is_none_or(|wide| same_proxies && b.clients.as_ref().is_some_and(|narrow| wide.covers(narrow)))
        && (a.protocols.is_empty()
            || (!b.protocols.is_empty() && b.protocols.iter().all(|protocol| a.protocols.contains(protocol))))
        && (a.workload.is_none() || a.workload == b.workload)
        && (first_policy.workload.is_none() || first_policy.workload == second_policy.workload)
}

/// The first earlier rule that makes this one wait, for calls that may match both: it needs to know more of them. A
/// policy that observes makes none wait that enforces.
pub fn waits_for<'s>(set: &PolicySet, earlier: &'s [Rule], rule: &Rule) -> Option<&'s Rule> {
    earlier.iter().find(|first| {
        let stands_before =
            set.policy_of(first).mode == Mode::Enforce || set.policy_of(rule).mode == Mode::Observe;
        first.needs() > rule.needs() && stands_before && may_overlap(first, rule)
    })
}

/// A denial that needs only the head, behind a rule that may have to wait for more.
fn waits(set: &PolicySet, earlier: &[Rule], rule: &Rule, found: &mut Vec<Problem>) {
    if !rule.denies() || set.policy_of(rule).mode != Mode::Enforce {
        return;
    }
    if let Some(first) = waits_for(set, earlier, rule) {
        let what = match first.needs() {
            Phase::Complete => "the response",
            Phase::Head | Phase::Request => "the request's body",
        };
        warn(
            found,
            errors::LATE_DECISION,
            rule,
            format!(
                "has to wait for {what}, which the earlier rule `{}` ({}) reads",
                first.name, first.source
            ),
            "put it first if it may decide first",
        );
    }
}

/// May a call match both? `true` where that is hard to tell.
fn may_overlap(first: &Rule, second: &Rule) -> bool {
    let (a, b) = (&first.matches, &second.matches);
    let directions = first
        .directions()
        .iter()
        .any(|direction| second.directions().contains(direction));
    let methods = a.methods.is_empty()
        || b.methods.is_empty()
        || a.methods.iter().any(|method| b.methods.contains(method));
    let paths = a.paths.is_empty()
        || b.paths.is_empty()
        || a.paths
            .iter()
            .any(|one| b.paths.iter().any(|other| one.overlaps(other)));
    directions && methods && paths
}

/// A process that is killed takes everything with it that it is doing.
fn kills(rule: &Rule, policy: &Policy, found: &mut Vec<Problem>) {
    let named = policy
        .workload
        .iter()
        .chain(&rule.matches.workload)
        .any(|workload| {
            !workload.exes.is_empty() || !workload.containers.is_empty() || !workload.cgroups.is_empty()
        });
    if rule.action == Action::Kill && !named {
        let what = match rule.directions() {
            [CallDirection::Outbound] => "kills whichever process makes the call",
            _ => "kills whichever process serves the call, for everybody that it serves",
        };
        warn(
            found,
            errors::KILLS_WHOMEVER,
            rule,
            what.into(),
            "limit it with `workload: { exe: … }`, or write `action: deny`",
        );
    }
}

fn hosts(rule: &Rule, found: &mut Vec<Problem>) {
    let Some(hosts) = &rule.matches.hosts else {
        return;
    };
    let address = hosts.patterns.iter().find_map(|pattern| match pattern {
        HostPattern::Exact(name) => name.trim_matches(['[', ']']).parse::<IpAddr>().ok(),
        HostPattern::Below(_) => None,
    });
    if let Some(address) = address {
        warn(
            found,
            errors::HOST_IS_ADDRESS,
            rule,
            format!(
                "compares the Host header with {address}; who calls the same machine by name writes that name there"
            ),
            "write `peers` for the connection's other end",
        );
    }
}

fn never(rule: &Rule, policy: &Policy, found: &mut Vec<Problem>) {
    for (what, instead) in rule.when.iter().flat_map(|when| words::never(when.parsed())) {
        let what = format!("asks for what never is: {what}");
        warn(found, errors::NEVER_HOLDS, rule, what, &instead);
    }
    let apart = match (&policy.workload, &rule.matches.workload) {
        (Some(policy), Some(rule)) => policy.excludes(rule),
        _ => false,
    };
    if apart {
        warn(
            found,
            errors::NEVER_HOLDS,
            rule,
            "has a workload that the policy's own excludes: both have to fit".into(),
            "remove one of them",
        );
    }
    let everywhere =
        |networks: &Networks| networks.not && ALL_NETWORKS.iter().all(|all| networks.nets.contains(all));
    if [&rule.matches.peers, &rule.matches.clients]
        .into_iter()
        .flatten()
        .any(everywhere)
    {
        warn(
            found,
            errors::NEVER_HOLDS,
            rule,
            "excludes every address there is".into(),
            "leave out `0.0.0.0/0` and `::/0`",
        );
    }
}

fn bodies(rule: &Rule, found: &mut Vec<Problem>) {
    let Some(when) = &rule.when else { return };
    for side in ["request", "response"] {
        let field = |name: &str| words::reads(when.parsed(), &format!("call.{side}.body.{name}"));
        if field("text") && !field("truncated") {
            warn(
                found,
                errors::BODY_IN_PART,
                rule,
                format!(
                    "looks into the {side}'s body, of which only the first `capture.body_bytes_max` bytes are kept"
                ),
                &format!("say what becomes of longer ones: `call.{side}.body.truncated`"),
            );
        }
    }
}

/// It matches HL7 over MLLP, which has no path and no host, and it is likely to be meant: nothing else is asked for, or
/// the protocol or the operation is.
fn may_be_mllp(rule: &Rule) -> bool {
    let matches = &rule.matches;
    let asks = |when: &Expression| {
        ["protocol", "operation.api", "operation.name", "operation.details"]
            .iter()
            .any(|name| words::reads(when.parsed(), &format!("call.{name}")))
    };
    let meant = matches.protocols.contains(&Protocol::Mllp)
        || matches.methods.iter().any(|method| method == "HL7")
        || rule.when.as_ref().is_none_or(asks);
    meant
        && rule.speaks(Protocol::Mllp)
        && (matches.methods.is_empty() || matches.methods.iter().any(|method| method == "HL7"))
        && matches.paths.is_empty()
        && matches.hosts.is_none()
        && (matches.auth.is_empty() || matches.auth.contains(&AuthScheme::None))
}

/// A denial that meets HL7 over MLLP, where it does not do what it says.
fn stalls(rule: &Rule, found: &mut Vec<Problem>) {
    if rule.denies() && !rule.allow_stall && may_be_mllp(rule) {
        warn(
            found,
            errors::STALLS_INTERFACE,
            rule,
            "only alerts on HL7 messages over MLLP: their senders retry in order, so a denied one would hold up the whole \
             interface"
                .into(),
            "write `allowStall: true` if that is wanted, or `protocols: [http, websocket]` in `match` if it is not about them",
        );
    }
}

/// What is said of policies as a whole, at their first line or at the first rule that it is about.
fn policies(set: &PolicySet, trusted_proxies: &[IpNet], found: &mut Vec<Problem>) {
    for (position, policy) in set.policies().iter().enumerate() {
        let rules = || {
            set.rules()
                .iter()
                .filter(move |rule| rule.policy == position && rule.denies())
        };
        if let (false, Some(rule)) = (policy.mode_written, rules().next()) {
            warn(
                found,
                errors::ONLY_OBSERVES,
                rule,
                format!(
                    "denies, and its policy `{}` says no `mode`, so it only observes",
                    policy.name
                ),
                "write `mode: enforce` or `mode: observe` under `spec`",
            );
        }
        let has_proxies = !trusted_proxies.is_empty() || !policy.trusted_proxies.is_empty();
        let mut inbound = rules().filter(|rule| rule.directions().contains(&CallDirection::Inbound));
        if let (true, Mode::Enforce, Some(rule)) = (has_proxies, policy.mode, inbound.next()) {
            warn(
                found,
                errors::RESETS_PROXY,
                rule,
                "resets the proxy's connection, which the proxy may take for a failing server; so do other denials of \
                 this policy"
                    .into(),
                "enforce it on the edge proxy's own host, or have the proxy neither retry nor count failures",
            );
        }
        if policy.on_unseen == OnUnseen::Cut && policy.workload.is_none() {
            let file = policy.source.rsplit_once(':').map_or("", |(file, _)| file);
            found.push(Problem {
                id: errors::CUTS_WHATEVER_UNSEEN,
                file: file.into(),
                place: Some(policy.place),
                what: format!(
                    "policy `{}` has `onUnseen: cut` for every process: SSH and databases as well",
                    policy.name
                ),
                instead: "add a `workload` to the policy".into(),
            });
        }
    }
}

fn guarantees(rule: &Rule, found: &mut Vec<Problem>) {
    // The most that this build can give anywhere: files are checked for other hosts too.
    let explained = explain_rule(rule, decided_alone(rule), Host::FULL);
    if let Some((direction, tls, promise)) = explained.unmet().first() {
        let require = rule.require.map_or("", Guarantee::as_str);
        warn(
            found,
            errors::REQUIRE_UNMET,
            rule,
            format!(
                "requires {require}, and this build gives {} at best ({}{}): {}",
                promise.best.map_or(UNSUPPORTED, Guarantee::as_str),
                direction.as_str(),
                if *tls { ", TLS" } else { "" },
                promise.why
            ),
            "write the weaker word if that is enough; until then the rule does not count as enforced",
        );
        return;
    }
    if let (None, true, Phase::Complete) = (rule.require, rule.denies(), rule.needs()) {
        warn(
            found,
            errors::LATE_DECISION,
            rule,
            "reads the response, so the response has begun to leave when it is decided: its denials are cut at best".into(),
            "decide by the request if that can be done, or write `require: cut`",
        );
        return;
    }
    let writes = rule
        .matches
        .methods
        .iter()
        .find(|method| WRITING.contains(&method.as_str()));
    if let (Some(method), None, Some((_, _, promise))) = (writes, rule.require, explained.promises.first()) {
        warn(
            found,
            errors::WEAK_GUARANTEE,
            rule,
            format!(
                "denies {method}, which may have taken effect by then: its denials are {}",
                promise.words()
            ),
            "write `require: contained` or `require: cut` if that is enough",
        );
    }
}

fn peers(rule: &Rule, policy: &Policy, trusted_proxies: &[IpNet], found: &mut Vec<Problem>) {
    let has_proxies = !trusted_proxies.is_empty() || !policy.trusted_proxies.is_empty();
    let inbound = rule.directions().contains(&CallDirection::Inbound);
    let by = rule.rate.map(|rate| rate.by);
    if has_proxies && inbound && (rule.matches.peers.is_some() || by == Some(By::Peer)) {
        warn(
            found,
            errors::PEERS_BEHIND_PROXY,
            rule,
            "goes by the peer, and behind a trusted proxy every peer is the proxy".into(),
            "write `clients` instead of `peers`, and `by: client` instead of `by: peer`",
        );
    }
    if !has_proxies && (rule.matches.clients.is_some() || by == Some(By::Client)) {
        warn(
            found,
            errors::CLIENTS_WITHOUT_PROXY,
            rule,
            "goes by the client, and without trusted proxies the client is always the peer".into(),
            "name the proxies in `trusted_proxies` (configuration) or `trustedProxies` (policy)",
        );
    }
}
