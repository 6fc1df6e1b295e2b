//! The rendered parts of `docs/policy.md`: keys and fields. Tests hold them against the readers, the schema and the
//! model, so that the page cannot drift from the code; the prose around them is the page's own, and its examples are
//! compiled and run.

use std::fmt::Write;

use super::model::FIELDS;
use crate::call::Phase;
use crate::yaml::{Key, key};

/// Every key of a policy.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("apiVersion", "`apiward.io/v1`", "required", ""),
    key("kind", "`ApiPolicy`", "required", ""),
    key("metadata.name", "name", "required", "Unique over all policies of the host. Events carry it. 1 to 63 lower-case letters, digits, `-`, `_`, `.`."),
    key("metadata.labels", "any", "", "Kubernetes' own; read over."),
    key("metadata.annotations", "any", "", "Kubernetes' own; read over."),
    key("metadata.namespace", "any", "", "Kubernetes' own; read over. It limits nothing: `spec.workload` does."),
    key("spec.description", "text", "", "For people."),
    key("spec.mode", "`observe`, `enforce`", "`observe`", "Denials are carried out only where this and the agent's mode both say `enforce`."),
    key("spec.priority", "-1000000 to 1000000", "0", "Policies with higher ones apply first."),
    key("spec.workload", "workload", "every process", "The processes that the policy is about."),
    key("spec.trustedProxies", "networks", "none", "Proxies that are believed about the client, for this policy's rules, besides the agent's `trusted_proxies`."),
    key("spec.onAmbiguous", "`agent`, `deny`", "`agent`", "What becomes of a target that two servers may read differently."),
    key("spec.onUnseen", "`allow`, `alert`, `cut`", "`allow`", "What becomes of what cannot be read, or cannot be told."),
    key("spec.max_denied", "mapping", "none", "The policy's breaker: where it denies more, it observes until somebody looks."),
    key("spec.max_denied.ratio", "0 to 1", "required", "The largest share that may be denied of the calls of the policy's workload. Fewer than 10 calls say nothing."),
    key("spec.max_denied.window", "duration, 1s to 1d", "required", "In which time."),
    key("spec.coverage", "mapping", "none", "What has to be within reach for the policy's word to hold; see *Coverage*."),
    key("spec.coverage.min", "above 0, up to 1", "required", "The share of its workload's connections, and of their bytes, in the last hour that has to be enforceable. Below it the policy is `degraded`."),
    key("spec.rules", "list of rules", "required", "The first that matches decides. May be empty."),
    key("spec.rules[].name", "name", "required", "Unique within the policy. Events carry it."),
    key("spec.rules[].description", "text", "", "For people."),
    key("spec.rules[].match", "mapping", "every call", "Conditions on the head and the connection; all of them have to hold."),
    key("spec.rules[].match.direction", "`inbound`, `outbound`", "both", "Inbound: a process of this host serves the call. Outbound: it makes it. A call between two of them is seen on both sides."),
    key("spec.rules[].match.methods", "methods", "any", "Compared without regard to case."),
    key("spec.rules[].match.paths", "path patterns", "any", "See *Paths*. A target without a path (`*`, CONNECT) matches none."),
    key("spec.rules[].match.hosts", "host patterns, or `{ not: […] }`", "any", "The name that the request says it is for, without port. A request without one is to none of those listed."),
    key("spec.rules[].match.hosts.not", "host patterns", "", "All but these."),
    key("spec.rules[].match.peers", "networks, or `{ not: […] }`", "any", "The connection's other end."),
    key("spec.rules[].match.peers.not", "networks", "", "All but these."),
    key("spec.rules[].match.clients", "networks, or `{ not: […] }`", "any", "Who called, also through trusted proxies; see *Clients*. Inbound only."),
    key("spec.rules[].match.clients.not", "networks", "", "All but these."),
    key("spec.rules[].match.workload", "workload", "the policy's", "Narrows the policy's own: both have to fit."),
    key("spec.rules[].match.auth", "list of `none`, `basic`, `bearer`, `digest`, `negotiate`, `sigv4`, `api-key`, `cookie`, `other`", "any", "What credentials the head carries. `none`: no Authorization, no API key, no cookie. Whether they are valid is the application's to say."),
    key("spec.rules[].match.protocols", "list of `http`, `http/1`, `http/2`, `websocket`, `mllp`", "any", "What carries the call; `http` is every version. `mllp`: HL7 version 2 messages; see *HL7 over MLLP*."),
    key("spec.rules[].when", "CEL", "true", "A condition on more than the head; see *Expressions*."),
    key("spec.rules[].rate", "mapping", "", "The rule applies only to calls beyond this rate; see *Rates*."),
    key("spec.rules[].rate.requests", "1 to 1000000", "required", "So many calls …"),
    key("spec.rules[].rate.per", "1s to 1d", "required", "… in so much time …"),
    key("spec.rules[].rate.by", "`peer`, `client`, `workload`", "required", "… for each of these."),
    key("spec.rules[].action", "`allow`, `alert`, `deny`, `kill`", "required", "See *Actions*."),
    key("spec.rules[].require", "`prevented`, `contained`, `cut`", "none", "The guarantee without which the rule does not count as enforced. Only with `deny` and `kill`."),
    key("spec.rules[].allowStall", "`true`, `false`", "`false`", "It may stop HL7 messages over MLLP too, whose senders then hold back all that come after. Without it such a call only raises an alert. Only with `deny` and `kill`."),
    key("WORKLOAD.exe", "globs", "any", "Executables by path, as `/proc/PID/exe` shows them. `*` and `?` stay within a component, `**` does not."),
    key("WORKLOAD.uid", "numbers", "any", "User ids, as the host sees them."),
    key("WORKLOAD.container", "ids", "any", "Container ids, or their first 8 or more hex digits."),
    key("WORKLOAD.cgroup", "globs", "any", "cgroup2 paths, from the root of the tree: `/kubepods.slice/**`."),
];

/// Every key of a file of cases.
#[rustfmt::skip]
pub const CASE_KEYS: &[Key] = &[
    key("policies", "files", "the file beside it", "Relative to this file. `x.test.yaml` is beside `x.yaml`."),
    key("mode", "`observe`, `enforce`", "`enforce`", "The agent's mode."),
    key("trusted_proxies", "networks", "none", "The agent's."),
    key("cases", "list", "required", ""),
    key("cases[].name", "text", "required", "What the case shows."),
    key("cases[].times", "1 to 100000", "1", "The call is made so often; the last verdict counts. Each case starts with fresh rates."),
    key("cases[].every", "duration", "0s", "Time between two of them."),
    key("cases[].call", "mapping", "required", ""),
    key("cases[].call.direction", "`inbound`, `outbound`", "`inbound`", ""),
    key("cases[].call.protocol", "`http/1`, `http/2`, `websocket`, `mllp`", "`http/1`", ""),
    key("cases[].call.method", "method", "`GET`", ""),
    key("cases[].call.path", "path", "`/`", "As sent, with or without a query."),
    key("cases[].call.host", "name", "none", ""),
    key("cases[].call.auth", "as in `match`", "`none`", ""),
    key("cases[].call.ambiguous", "`true`, `false`", "as the path is", "The target is not in normal form."),
    key("cases[].call.peer", "address, or `unknown`", "`192.0.2.1`", "The other end."),
    key("cases[].call.proxied_client", "address", "none", "What a PROXY protocol header said."),
    key("cases[].call.tls", "`true`, `false`", "`false`", ""),
    key("cases[].call.headers", "mapping of text or lists", "none", "The request's."),
    key("cases[].call.body", "text, or mapping", "none", "The request's."),
    key("cases[].call.response", "mapping", "status 200", ""),
    key("cases[].call.response.status", "100 to 999", "200", ""),
    key("cases[].call.response.headers", "mapping of text or lists", "none", ""),
    key("cases[].call.response.body", "text, or mapping", "none", ""),
    key("cases[].call.body.text", "text", "none", "In `body` and `response.body`: what was captured."),
    key("cases[].call.body.bytes_total", "size", "as `text` has", ""),
    key("cases[].call.body.truncated", "`true`, `false`", "if there is more than `text`", ""),
    key("cases[].call.body.media_type", "media type", "none", ""),
    key("cases[].call.process", "mapping", "a server", ""),
    key("cases[].call.process.exe", "path", "`/usr/bin/server`; none within `process`", ""),
    key("cases[].call.process.comm", "name", "`server`; none within `process`", ""),
    key("cases[].call.process.cgroup", "path", "`/system.slice/server.service`; none within `process`", ""),
    key("cases[].call.process.container", "id", "none", ""),
    key("cases[].call.process.uid", "number", "1000", ""),
    key("cases[].call.process.pid", "number", "4242", ""),
    key("cases[].call.findings", "list of kinds or mappings", "none", "What detectors are to have found."),
    key("cases[].call.findings[].kind", "text", "", ""),
    key("cases[].call.findings[].severity", "`info`, `low`, `medium`, `high`", "`medium`", ""),
    key("cases[].expect", "an action, or mapping", "required", "What is not written may be anything."),
    key("cases[].expect.action", "an action", "any", ""),
    key("cases[].expect.policy", "name", "any", "`\"\"`: none, the default."),
    key("cases[].expect.rule", "name", "any", "`\"\"`: none. `onAmbiguous` and `onUnseen` are names as well."),
    key("cases[].expect.decided", "`head`, `request`, `complete`", "any", "When the verdict has to be final."),
];

/// The table of some keys.
pub fn keys(keys: &[Key]) -> String {
    let mut table = String::from("| key | value | default | |\n|---|---|---|---|\n");
    for key in keys {
        let path = key.path.replace("WORKLOAD", "workload");
        // Writing into a string cannot fail.
        let _ = writeln!(
            table,
            "| `{path}` | {} | {} | {} |",
            key.kind, key.default, key.about
        );
    }
    table
}

/// The table of what an expression can read.
pub fn fields() -> String {
    let mut table = String::from("| field | type | known | |\n|---|---|---|---|\n");
    for field in FIELDS {
        let known = match field.phase {
            Phase::Head => "with the head",
            Phase::Request => "with the request",
            Phase::Complete => "at the end",
        };
        let _ = writeln!(
            table,
            "| `{}` | {} | {known} | {} |",
            field.name,
            field.kind.as_str(),
            field.about
        );
    }
    table
}

/// The page with its rendered parts put in anew. What stands between `<!-- rendered: NAME -->` and `<!-- end -->` is
/// replaced; a name that is not known stays empty, and the test fails.
pub fn render(page: &str) -> String {
    const START: &str = "<!-- rendered: ";
    const END: &str = "<!-- end -->";
    let mut rendered = String::with_capacity(page.len());
    let mut rest = page;
    while let Some((before, after)) = rest.split_once(START) {
        let Some((name, after)) = after.split_once(" -->") else {
            break;
        };
        let Some((_, after)) = after.split_once(END) else {
            break;
        };
        let part = match name {
            "keys" => keys(KEYS),
            "cases" => keys(CASE_KEYS),
            "fields" => fields(),
            _ => String::new(),
        };
        let _ = write!(rendered, "{before}{START}{name} -->\n\n{part}\n{END}");
        rest = after;
    }
    rendered + rest
}
