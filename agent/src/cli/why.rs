//! `apiward why`: why a call was judged as it was: the rule and where it stands, what of the call matched it, what
//! was promised and held, and what to write to allow it.

use std::process::ExitCode;

use anyhow::Result;
use apiward_proto::{json, v1};
use jiff::tz::TimeZone;

use super::client::{self, Agent};
use super::print::{self, Paper, Style, shortened};
use super::watch::filter::is_denial;
use super::watch::line::{arrow, peer, process, verdict_words};
use super::{AgentArgs, Output};

/// Calls told of unless more are asked for.
const CALLS_SHOWN: usize = 3;
/// Characters of a value.
const VALUE_LENGTH_MAX: usize = 200;

/// Why a call was judged as it was.
#[derive(clap::Args)]
#[command(after_help = "\
The agent remembers the newest few thousand calls, those that a rule spoke about apart from the others; the collector \
remembers all (`apiward-collector query`). Exit codes: 0 found · 1 not found, or no agent answers · 2 the command line \
or the configuration is wrong.")]
pub struct Args {
    /// A trace id, an event id (its first 8 digits will do) or a pid; of a master process, its workers' calls.
    subject: String,
    /// All that is remembered of it (up to 20 calls), not only the newest three.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    agent: AgentArgs,
}

pub fn run(args: Args) -> Result<ExitCode> {
    client::block_on(async {
        let mut agent = Agent::connect(&args.agent).await?;
        let mut found = agent.why(&args.subject).await?;
        if found.events.is_empty() {
            eprintln!("apiward: {}", found.message);
            return Ok(ExitCode::FAILURE);
        }
        if !found.message.is_empty() {
            eprintln!("apiward: {}", found.message);
        }
        let total = found.events.len();
        if !args.all {
            found.events.truncate(CALLS_SHOWN);
        }
        match args.agent.output {
            Output::Json => {
                let mut lines = Vec::new();
                for event in &found.events {
                    json::line(event, &mut lines);
                }
                print::out(&String::from_utf8_lossy(&lines))?;
            }
            Output::Table => {
                let mut paper = Paper::new(print::Color::Auto.is_on());
                for event in &found.events {
                    explain(&mut paper, event, &TimeZone::system());
                }
                if total > found.events.len() {
                    let more = total - found.events.len();
                    paper.line(&format!(
                        "{} older: --all shows them",
                        print::plural(more as u64, "call")
                    ));
                }
                print::out(paper.as_str())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn explain(paper: &mut Paper, event: &v1::Event, zone: &TimeZone) {
    let Some(v1::event::Kind::Call(call)) = &event.kind else {
        return;
    };
    let empty = v1::Request::default();
    let request = call.request.as_ref().unwrap_or(&empty);
    paper.styled(Style::Bold, &format!("{} ", shortened(&request.method, 16)));
    paper.styled(Style::Bold, &shortened(&request.host, VALUE_LENGTH_MAX));
    paper.styled(Style::Bold, &shortened(&request.path, VALUE_LENGTH_MAX));
    match &call.response {
        Some(response) => paper.put(&format!(" → {}", response.status)),
        None => paper.put(" → no response: ").put(&call.state),
    };
    paper.end();
    field(
        paper,
        "when",
        &format!(
            "{} · event {}",
            print::date_time(event.time_ns, zone),
            json::id_text(&event.id)
        ),
    );
    let exe = call.process.as_ref().map_or("", |process| process.exe.as_str());
    field(
        paper,
        "who",
        &format!(
            "{} {} {} · {exe}",
            process(call.process.as_ref()),
            arrow(call.direction),
            peer(call.remote.as_ref())
        ),
    );
    if !request.trace_id.is_empty() {
        field(paper, "trace", &request.trace_id);
    }
    let Some(verdict) = &call.verdict else {
        field(paper, "verdict", "none: it was not judged");
        paper.end();
        return;
    };
    let (style, words) = verdict_words(verdict);
    if verdict.policy.is_empty() {
        field(
            paper,
            "verdict",
            "allowed: no rule of any policy in force then matches it",
        );
    } else {
        paper
            .put("  ")
            .styled(Style::Dim, "verdict")
            .pad_to(13)
            .styled(style, &words)
            .end();
        rule(paper, call, request, verdict);
    }
    if is_denial(verdict) {
        field(paper, "guarantee", &guarantee_words(verdict));
        if !verdict.require.is_empty() {
            field(paper, "required", &verdict.require);
        }
        if !verdict.shortfall.is_empty() {
            field(paper, "shortfall", &verdict.shortfall);
        }
    }
    for anomaly in &call.anomalies {
        field(paper, "anomaly", anomaly);
    }
    for finding in &call.findings {
        field(
            paper,
            "finding",
            &format!("{} {}: {}", finding.severity, finding.kind, finding.message),
        );
    }
    if call.loss_overlap {
        field(
            paper,
            "note",
            "bytes of it were lost: what was judged may be less than what was sent",
        );
    }
    if is_denial(verdict) || verdict.action == "alert" {
        allowing(paper, call, request, verdict);
    }
    paper.end();
}

fn field(paper: &mut Paper, name: &str, value: &str) {
    paper.put("  ").styled(Style::Dim, name).pad_to(13).line(value);
}

fn rule(paper: &mut Paper, call: &v1::Call, request: &v1::Request, verdict: &v1::Verdict) {
    field(
        paper,
        "rule",
        &format!("{}/{} at {}", verdict.policy, verdict.rule, verdict.source),
    );
    let by = match verdict.decided_by.as_str() {
        "gate" => "in the kernel, before the bytes moved",
        _ => "by the agent, when the bytes had moved",
    };
    field(paper, "decided", &format!("{by}; mode {}", verdict.mode));
    if verdict.matched.is_empty() {
        let words = match verdict.rule.as_str() {
            "onAmbiguous" => "the request can be read in two ways, see the anomalies",
            "onUnseen" => "its bytes cannot be read",
            _ => "every call: the rule has no conditions",
        };
        field(paper, "matched", words);
    }
    for name in &verdict.matched {
        let value = value_of(name, call, request);
        let value = shortened(&value, VALUE_LENGTH_MAX);
        field(paper, "matched", &format!("{name}: {value}"));
    }
}

/// What of the call met a condition, as far as it may be shown.
fn value_of(condition: &str, call: &v1::Call, request: &v1::Request) -> String {
    let empty = v1::Process::default();
    let process = call.process.as_ref().unwrap_or(&empty);
    match condition {
        "direction" => json::direction_name(call.direction).unwrap_or("?").to_owned(),
        "methods" => request.method.clone(),
        "paths" => request.path.clone(),
        "hosts" => request.host.clone(),
        "peers" => peer(call.remote.as_ref()),
        "auth" => request.auth.clone(),
        "workload" => {
            let mut text = format!("exe {}, uid {}", process.exe, process.uid);
            if !process.cgroup_path.is_empty() {
                text.push_str(&format!(", cgroup {}", process.cgroup_path));
            }
            if !process.container_id.is_empty() {
                text.push_str(&format!(", container {}", process.container_id));
            }
            text
        }
        "clients" => "the client's address, from the headers of trusted proxies".into(),
        "when" => "its expression was true of this call".into(),
        "rate" => "more calls than it permits".into(),
        _ => "as the rule says".into(),
    }
}

fn guarantee_words(verdict: &v1::Verdict) -> String {
    let meaning = |word: &str| match word {
        "prevented" => "the receiver never had the complete request",
        "contained" => {
            "the request was delivered, side effects are possible; no byte of the response got out"
        }
        "cut" => "the connection was reset; part of a response may have got out",
        "killed" => "the process was killed",
        _ => "nothing was measured, so nothing is claimed",
    };
    match (verdict.guarantee.as_str(), verdict.would_be.as_str()) {
        ("observed", "") => "observed: nothing was stopped".into(),
        ("observed", would) => format!(
            "observed: nothing was stopped. Enforce mode would have had {would}: {}",
            meaning(would)
        ),
        ("", _) => "none: nothing was measured, so nothing is claimed".into(),
        (word, _) => format!("{word}: {}", meaning(word)),
    }
}

/// A rule that lets this kind of call pass, to be put before the one that stopped it.
fn allowing(paper: &mut Paper, call: &v1::Call, request: &v1::Request, verdict: &v1::Verdict) {
    match verdict.rule.as_str() {
        "onAmbiguous" => {
            field(
                paper,
                "to allow",
                "let the client send the request in normal form, or write `onAmbiguous: agent`",
            );
            return;
        }
        "onUnseen" => {
            field(
                paper,
                "to allow",
                "write `onUnseen: allow`, or exempt the executable",
            );
            return;
        }
        _ => {}
    }
    field(
        paper,
        "to allow",
        &format!(
            "put this rule before {} in {}, the first that matches wins:",
            verdict.rule,
            file_of(&verdict.source)
        ),
    );
    for line in snippet(call, request) {
        paper.put("    ").styled(Style::Good, &line).end();
    }
    field(
        paper,
        "",
        &format!(
            "then `apiward policy check {}` and `apiward policy reload`",
            file_of(&verdict.source)
        ),
    );
}

fn file_of(source: &str) -> &str {
    match source.rsplit_once(':') {
        Some((file, line)) if line.bytes().all(|byte| byte.is_ascii_digit()) => file,
        _ => source,
    }
}

/// The lines of the rule. JSON's strings are YAML's, so nothing captured can end a string and write a rule itself.
fn snippet(call: &v1::Call, request: &v1::Request) -> Vec<String> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut matches = Vec::new();
    if let Some(direction) = json::direction_name(call.direction) {
        matches.push(format!("direction: {direction}"));
    }
    matches.push(format!("methods: [{}]", quoted(&request.method)));
    matches.push(format!("paths: [{}]", quoted(&encoded(&request.path))));
    // A name with a pattern's characters would allow more than this one.
    let exe = call.process.as_ref().map_or("", |process| process.exe.as_str());
    if exe.starts_with('/') && !exe.contains(['*', '?', '[', ']', '{', '}', '\\']) {
        matches.push(format!("workload: {{ exe: [{}] }}", quoted(exe)));
    }
    vec![
        "- name: allowed-exception".into(),
        format!("  match: {{ {} }}", matches.join(", ")),
        "  action: allow".into(),
    ]
}

/// A path as policies write it: characters that mean something in a pattern, or nothing in a path (RFC 3986 §3.3),
/// are percent-encoded. Braces are a template's own.
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/{}-._~%!$&'()+,;=:@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PolicySet;

    fn event(verdict: v1::Verdict) -> v1::Event {
        v1::Event {
            id: vec![0xab; 16],
            time_ns: 1_500_000_000_000_000_000,
            kind: Some(v1::event::Kind::Call(v1::Call {
                direction: v1::Direction::Inbound as i32,
                process: Some(v1::Process {
                    pid: 812,
                    uid: 33,
                    comm: "nginx".into(),
                    exe: "/usr/sbin/nginx".into(),
                    ..Default::default()
                }),
                remote: Some(v1::Peer {
                    address: "10.0.0.5".into(),
                    port: 5_123,
                }),
                request: Some(v1::Request {
                    method: "GET".into(),
                    path: "/patients/{id}".into(),
                    host: "app.local".into(),
                    trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
                    ..Default::default()
                }),
                response: Some(v1::Response {
                    status: 200,
                    ..Default::default()
                }),
                verdict: Some(verdict),
                ..Default::default()
            })),
        }
    }

    fn told(verdict: v1::Verdict) -> String {
        let mut paper = Paper::new(false);
        explain(&mut paper, &event(verdict), &TimeZone::UTC);
        paper.as_str().to_owned()
    }

    #[test]
    fn a_denial_is_explained() {
        let text = told(v1::Verdict {
            action: "deny".into(),
            guarantee: "observed".into(),
            would_be: "contained".into(),
            policy: "records".into(),
            rule: "no-bulk".into(),
            decided_by: "pipeline".into(),
            mode: "observe".into(),
            matched: vec!["methods".into(), "workload".into()],
            source: "/etc/apiward/policies/records.yaml:12".into(),
            ..Default::default()
        });
        assert_eq!(
            text,
            "GET app.local/patients/{id} → 200\n\
             \u{20} when       2017-07-14 02:40:00 +00:00 · event abababababababababababababababab\n\
             \u{20} who        nginx[812] ← 10.0.0.5:5123 · /usr/sbin/nginx\n\
             \u{20} trace      4bf92f3577b34da6a3ce929d0e0e4736\n\
             \u{20} verdict    WOULD BE denied, contained by records/no-bulk\n\
             \u{20} rule       records/no-bulk at /etc/apiward/policies/records.yaml:12\n\
             \u{20} decided    by the agent, when the bytes had moved; mode observe\n\
             \u{20} matched    methods: GET\n\
             \u{20} matched    workload: exe /usr/sbin/nginx, uid 33\n\
             \u{20} guarantee  observed: nothing was stopped. Enforce mode would have had contained: the request was \
             delivered, side effects are possible; no byte of the response got out\n\
             \u{20} to allow   put this rule before no-bulk in /etc/apiward/policies/records.yaml, the first that \
             matches wins:\n\
             \u{20}   - name: allowed-exception\n\
             \u{20}     match: { direction: inbound, methods: [\"GET\"], paths: [\"/patients/{id}\"], workload: { exe: \
             [\"/usr/sbin/nginx\"] } }\n\
             \u{20}     action: allow\n\
             \u{20}            then `apiward policy check /etc/apiward/policies/records.yaml` and `apiward policy reload`\n\n"
        );
    }

    #[test]
    fn what_no_rule_spoke_about_was_allowed() {
        let text = told(v1::Verdict {
            action: "allow".into(),
            ..Default::default()
        });
        assert!(
            text.contains("verdict    allowed: no rule of any policy"),
            "{text}"
        );
        assert!(!text.contains("to allow"), "{text}");
    }

    #[test]
    fn the_rule_that_is_proposed_is_a_rule_whatever_was_captured() {
        for hostile in ["GET", "G\"]\n- evil", "\u{1b}", "\\"] {
            let Some(v1::event::Kind::Call(mut call)) = event(v1::Verdict::default()).kind else {
                unreachable!("made so")
            };
            let mut request = call.request.take().expect("made so");
            call.process.get_or_insert_default().exe = format!("/x {hostile}");
            request.path = format!("/a{hostile}");
            let rule: String = snippet(&call, &request)
                .iter()
                .map(|line| format!("    {line}\n"))
                .collect();
            let text = format!(
                "apiVersion: apiward.io/v1\nkind: ApiPolicy\nmetadata: {{ name: a }}\nspec:\n  rules:\n{rule}"
            );
            let set = PolicySet::load(&[("a.yaml", text.as_str())]);
            assert_eq!(
                set.map(|set| set.rules().len()).map_err(|e| e.to_string()),
                Ok(1),
                "{text}"
            );
        }
    }
}
