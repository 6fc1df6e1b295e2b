//! The canaries' own policy: put before all others while a canary runs, and about nobody else.
//!
//! It enforces whatever the agent's mode is, so that what enforcement is worth can be measured on a host that only
//! observes: nothing but the canaries can be stopped by it.

use super::gate;
use super::set::Workload;
use super::{Mode, PolicySet, Rule};
use crate::capture::Process;

/// Its name in verdicts. No policy of a file can have it.
pub const NAME: &str = "(canary)";

/// Which processes the canaries are, and what of theirs is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// The last component of their cgroup's path, made up for one run.
    pub cgroup: String,
    /// Ids of the cgroups below it: of those that are protected, and of their other ends. Not names: whoever may make a
    /// cgroup can call it so.
    pub near: u64,
    pub far: u64,
    /// Made up for one run as well.
    pub forbidden_path: String,
}

impl PolicySet {
    /// This set behind a canary's policy. `mode` is the agent's. Refused where the canary would take the place of a rule
    /// in the gate's tables: no rule may become weaker by it.
    pub fn with_canary(&self, canary: &Canary, mode: Mode) -> Result<PolicySet, String> {
        let text = serde_json::json!({
            "apiVersion": "apiward.io/v1",
            "kind": "ApiPolicy",
            "metadata": { "name": "canary" },
            "spec": {
                "mode": "enforce",
                "rules": [
                    {
                        "name": "forbidden",
                        "match": { "paths": [canary.forbidden_path] },
                        "action": "deny",
                    },
                    // Whatever else the canaries do is no other policy's business.
                    { "name": "allowed", "action": "allow" },
                ],
            },
        });
        let own = PolicySet::load(&[("canary", text.to_string())])
            .map_err(|problems| format!("the canary's policy is wrong: {problems}"))?;
        let mut policies = own.policies;
        for policy in &mut policies {
            policy.name = NAME.into();
            policy.is_canary = true;
            policy.workload = Some(only([canary.near, canary.far]));
        }
        let mut rules: Vec<Rule> = own.rules;
        for rule in rules.iter_mut().filter(|rule| rule.denies()) {
            rule.matches.workload = Some(only([canary.near]));
        }
        let (shift, own_len) = (policies.len(), rules.len());
        policies.extend(self.policies.iter().cloned());
        rules.extend(self.rules.iter().cloned().map(|rule| Rule {
            policy: rule.policy + shift,
            ..rule
        }));
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.digest().as_bytes());
        hasher.update(canary.cgroup.as_bytes());
        let set = PolicySet::assemble(policies, rules, hasher);
        let (before, with) = (gate::decided_under(self, mode), gate::decided_under(&set, mode));
        if before != with[own_len..] {
            return Err(
                "the gate's tables are full: a canary would push a rule out of them. Join rules that differ in one list only"
                    .to_owned(),
            );
        }
        Ok(set)
    }

    /// The process is a canary, or a canary's other end.
    pub fn is_canary(&self, process: &Process) -> bool {
        let of_canary = |policy: &&super::Policy| policy.is_canary;
        self.policies.iter().take(1).filter(of_canary).any(|policy| {
            policy
                .workload
                .as_ref()
                .is_some_and(|workload| workload.has(process))
        })
    }
}

/// The processes in these cgroups.
fn only<const COUNT: usize>(cgroup_ids: [u64; COUNT]) -> Workload {
    Workload {
        cgroup_ids: cgroup_ids.into(),
        ..Workload::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::call::{ApiCall, CallDirection, Phase};
    use crate::policy::model::example;
    use crate::policy::{Action, Engine};

    const NEAR: u64 = 11;
    const FAR: u64 = 12;
    /// Called as theirs.
    const OTHER: u64 = 13;

    fn canary() -> Canary {
        Canary {
            cgroup: "apiward-canary-1".into(),
            near: NEAR,
            far: FAR,
            forbidden_path: "/apiward-canary-1/forbidden".into(),
        }
    }

    fn set(rules: usize) -> PolicySet {
        let rules: Vec<serde_json::Value> = (0..rules)
            .map(|number| {
                serde_json::json!({ "name": format!("r{number}"), "match": { "paths": [format!("/p{number}/**")] }, "action": "deny" })
            })
            .collect();
        let text = serde_json::json!({
            "apiVersion": "apiward.io/v1", "kind": "ApiPolicy", "metadata": { "name": "all" },
            "spec": { "mode": "enforce", "rules": rules },
        });
        PolicySet::load(&[("a.yaml", text.to_string())]).unwrap()
    }

    fn call(path: &str, cgroup: u64) -> ApiCall {
        let (mut call, _) = example();
        call.raw.path = Some(path.to_owned());
        call.direction = CallDirection::Inbound;
        let process = Arc::make_mut(&mut call.process);
        process.cgroup_path = "/x/apiward-canary-1/near".into();
        process.cgroup_id = cgroup;
        call
    }

    #[test]
    fn it_stops_canaries_in_any_mode_and_nobody_else() {
        for mode in [Mode::Observe, Mode::Enforce] {
            let set = Arc::new(set(1).with_canary(&canary(), mode).unwrap());
            let mut engine = Engine::new(set.clone(), mode, Vec::new());
            let mut judge = |path: &str, cgroup: u64| {
                let call = call(path, cgroup);
                assert_eq!(set.is_canary(&call.process), cgroup != OTHER);
                let verdict = engine.evaluate(&call, &[], Phase::Complete).unwrap();
                (verdict.policy.to_string(), verdict.action, verdict.mode)
            };
            let forbidden = "/apiward-canary-1/forbidden";
            let of_canary = |action| (NAME.to_owned(), action, Mode::Enforce);
            assert_eq!(judge(forbidden, NEAR), of_canary(Action::Deny));
            assert_eq!(judge("/p0/x", NEAR), of_canary(Action::Allow));
            assert_eq!(judge(forbidden, FAR), of_canary(Action::Allow));
            assert_eq!(judge(forbidden, OTHER), (String::new(), Action::Allow, mode));
            assert_eq!(judge("/p0/x", OTHER), ("all".to_owned(), Action::Deny, mode));
        }
    }

    #[test]
    fn it_takes_no_rule_s_place_in_the_gate() {
        // The last one that fits beside it, and one more.
        assert!(set(254).with_canary(&canary(), Mode::Enforce).is_ok());
        assert!(set(255).with_canary(&canary(), Mode::Enforce).is_err());
        // Observed, they are not in the gate.
        assert!(set(255).with_canary(&canary(), Mode::Observe).is_ok());
    }
}
