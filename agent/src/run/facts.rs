//! How things stand, for `status`, the heartbeats and the metrics.

use std::collections::BTreeMap;

use super::Agent;
use super::prove::{QUADRANTS, quadrant};
use crate::call::Phase;
use crate::export::facts::{BlindSpot, Capability, Coverage, Exemption, Facts, LibraryFacts, PolicyFacts};
use crate::export::wire;
use crate::kernel::load;
use crate::policy::coverage::{Moved, Reach};
use crate::policy::explain::Host;
use crate::policy::{Guarantee, Policy, explain};

impl Agent {
    /// The agent's part of the status.
    pub(super) fn facts(&self) -> Facts {
        let judge = &self.pipeline.judge;
        Facts {
            mode: judge.engine.mode(),
            policy_digest: self.policies.digest().to_owned(),
            scope: self.config.capture.scope.words(),
            policies: self.policy_facts(),
            libraries: self.library_facts(),
            blind_spots: self.blind_spots(),
            exemptions: self
                .executables
                .exempted
                .iter()
                .map(|exe| Exemption {
                    kind: "exe".into(),
                    value: exe.clone(),
                })
                .chain(self.config.exempt.cgroups.iter().map(|path| Exemption {
                    kind: "cgroup".into(),
                    value: path.display().to_string(),
                }))
                .chain(std::iter::once(Exemption {
                    kind: "own".into(),
                    value: "the agent's own connections".into(),
                }))
                .collect(),
            operations_exempt: self.operations_exempt,
            capabilities: self
                .capabilities
                .iter()
                .map(|capability| Capability {
                    name: capability.name.to_owned(),
                    available: capability.available,
                    reason: capability.reason.clone(),
                })
                .collect(),
            guarantees: self.guarantees(),
            calls: judge.ended,
            flows_open: self.pipeline.flows.stats().flows_open,
            records: self.pipeline.intake.stats().records,
            degraded: self.degraded(),
            on_exit: self.life.words(),
            mode_until_ns: self.life.mode_until_ns(),
            canaries: self.proof.canaries().to_vec(),
            proved_ns: self.proof.at_ns(),
        }
    }

    fn policy_facts(&self) -> Vec<PolicyFacts> {
        let global = self.pipeline.judge.engine.mode();
        let host = self.host();
        self.policies
            .policies()
            .iter()
            .enumerate()
            .map(|(position, policy)| {
                let tally = self
                    .pipeline
                    .judge
                    .tally_of(&policy.name)
                    .cloned()
                    .unwrap_or_default();
                PolicyFacts {
                    name: policy.name.to_string(),
                    mode: policy.mode_under(global),
                    source: policy.source.to_string(),
                    rules: policy.rules_len as u32,
                    matched: tally.matched,
                    denied: tally.denied,
                    passed: tally.passed,
                    coverage: self.coverage(position, policy, &tally.reach),
                    unmet: explain::unmet(&self.policies, position, host),
                }
            })
            .collect()
    }

    fn coverage(&self, position: usize, policy: &Policy, reach: &Reach) -> Coverage {
        let Moved {
            flows,
            flows_enforceable,
            bytes,
            bytes_enforceable,
            bytes_unseen,
        } = reach.total();
        Coverage {
            flows,
            flows_enforceable,
            bytes,
            bytes_enforceable,
            bytes_unseen,
            blind: reach
                .blind()
                .map(|(exe, reason, blind)| BlindSpot {
                    exe: exe.to_string(),
                    pid: blind.pid,
                    reason: reason.to_owned(),
                    bytes: blind.bytes,
                    flows: blind.flows,
                })
                .collect(),
            min: policy.coverage_min,
            recent: reach.recent().map(|shares| (shares.flows, shares.bytes)),
            degraded: self
                .degradations(position, policy)
                .into_iter()
                .map(|(_, words)| words)
                .collect(),
        }
    }

    fn library_facts(&self) -> Vec<LibraryFacts> {
        let shared = self.libraries.shared();
        shared
            .libraries()
            .iter()
            .map(|library| LibraryFacts {
                path: library.path.clone(),
                version: library.info.version.to_string(),
                inode: library.inode,
                attached: library.attached,
                sites: library.sites.clone(),
                reason: library.reason.clone(),
            })
            .collect()
    }

    fn blind_spots(&self) -> Vec<BlindSpot> {
        self.pipeline
            .intake
            .blind()
            .map(|((exe, reason), blind)| BlindSpot {
                exe: exe.to_string(),
                pid: blind.pid,
                reason: reason.as_str().to_owned(),
                bytes: blind.bytes,
                flows: blind.flows,
            })
            .collect()
    }

    /// What this host's kernel does for enforcement. Whether sockets can be destroyed was tried at the start.
    pub(super) fn host(&self) -> Host {
        let can = |name: &str| {
            self.capabilities
                .iter()
                .any(|one| one.name == name && one.available)
        };
        Host {
            withholds: can(load::EGRESS_WITHHOLD),
            resets: can(load::SOCKET_DESTROY),
            // Open, it gives nothing.
            gate: can(load::GATE_INGRESS)
                && can(load::GATE_EGRESS)
                && self.gate.as_ref().is_some_and(|gate| gate.missing.is_empty()),
            refuses: can(load::TLS_REFUSE),
        }
    }

    /// What a denial by the request's head is worth here, in the words of `apiward policy explain`.
    fn guarantees(&self) -> BTreeMap<String, String> {
        let host = self.host();
        QUADRANTS
            .into_iter()
            .map(|(direction, tls)| {
                let promise = explain::guarantee(direction, tls, Phase::Head, host);
                let word = promise.best.map_or(explain::UNSUPPORTED, Guarantee::as_str);
                (quadrant(direction, tls), word.to_owned())
            })
            .collect()
    }

    /// Says it when policies come into force, loudly: who wrote `require` relies on it.
    pub(super) fn tell_unmet(&self) {
        for (position, policy) in self.policies.policies().iter().enumerate() {
            for line in explain::unmet(&self.policies, position, self.host()) {
                tracing::warn!("policy {}: {line}", policy.name);
                let detail = format!("policy {}: {line}", policy.name);
                self.exports
                    .send(vec![wire::agent_state("require-unmet", detail)]);
            }
        }
    }

    fn degraded(&self) -> Vec<String> {
        let mut degraded: Vec<String> = self
            .capabilities
            .iter()
            // Those that only make a denial end better are told by the guarantees.
            .filter(|capability| {
                !capability.available
                    && ![load::TLS_REFUSE, load::SEND_REFUSE, load::PROBE_LINKS].contains(&capability.name)
            })
            .map(|capability| {
                let reason = capability.reason.lines().next().unwrap_or_default();
                format!("{} is missing ({reason}): see `apiward doctor`", capability.name)
            })
            .collect();
        degraded.extend(self.proof.degraded());
        if let Some(gate) = self.gate.as_ref().filter(|gate| !gate.missing.is_empty()) {
            degraded.push(format!(
                "the gate is open, the pipeline decides alone: {}",
                gate.missing
            ));
        }
        degraded.extend(self.life.degraded());
        for policy in self
            .policies
            .policies()
            .iter()
            .filter(|policy| policy.has_tripped())
        {
            degraded.push(format!(
                "policy {} has denied more than its max_denied, and observes: look why, then `apiward mode enforce` or \
                 `apiward policy reload` arms it again",
                policy.name
            ));
        }
        if self.overload.on {
            degraded.push(
                "overload: bodies are counted and not kept; give the agent more CPU, or a scope".into(),
            );
        }
        degraded
    }

    /// Gauges and counters that only the owner of the stages can read.
    pub(super) fn measure(&self) {
        let skipped = self.run_times.skipped(&self.maps);
        let flow = self.pipeline.flows.stats();
        let intake = self.pipeline.intake.stats();
        let calls = self.pipeline.calls.stats();
        let enforced = self.pipeline.judge.enforcement.stats();
        let judged = self.pipeline.judge.engine.counters();
        let inventory = self.pipeline.judge.inventory.stats();
        let (libraries_forgotten, library_reports) = {
            let listed = self.libraries.shared();
            (listed.forgotten(), listed.reports_dropped())
        };
        self.telemetry.set_records(intake.records);
        self.telemetry.set_flows_open(flow.flows_open);
        self.telemetry.set_bytes_passed_over(flow.bytes_passed_over);
        for (name, total) in [
            ("records-invalid", intake.records_invalid),
            ("program-runs-skipped", skipped),
            ("flows-evicted", flow.flows_evicted + intake.flows_evicted),
            ("bytes-missing", flow.bytes_missing),
            ("out-of-step", calls.out_of_step),
            ("calls-given-up", calls.calls_given_up),
            ("flows-given-up", calls.flows_given_up),
            ("streams-unknown", calls.streams_unknown),
            ("anomalies-untold", calls.anomalies_untold),
            ("decoders-given-up", calls.decoders_given_up),
            ("responses-unpaired", calls.responses_unpaired),
            ("body-bytes-given-up", calls.body_bytes_given_up),
            ("waiting-bytes-given-up", calls.waiting_bytes_given_up),
            ("library-requests", self.libraries.requests_dropped()),
            ("mapping-records", self.libraries.mappings_lost()),
            ("libraries-forgotten", libraries_forgotten),
            ("library-reports", library_reports),
            ("outcomes-missed", self.pipeline.judge.outcomes_missed),
            ("outcomes-told-early", enforced.told_early),
            ("denials-not-enforced", enforced.not_enforced),
            ("dead-flows-evicted", enforced.dead_flows_evicted),
            ("expressions-failed", judged.expressions_failed),
            ("rate-calls-unkeyed", judged.rate_unkeyed),
            ("rate-keys-evicted", judged.rate_keys_evicted),
            ("rate-charges-evicted", judged.charged_evicted),
            ("words-not-learnt", calls.words_not_learnt),
            ("inventory-calls-not-learnt", inventory.not_learnt),
            ("inventory-endpoints-evicted", inventory.evicted),
        ] {
            self.telemetry.set_loss_total(name, total);
        }
    }
}
