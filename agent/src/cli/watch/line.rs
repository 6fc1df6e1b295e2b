//! An event → lines for people. Pure: the table in the tests is the format.
//!
//! Narrow things of a known width come first, so that a long path disturbs nothing but the end of its own line.

use apiward_proto::{json, v1};
use jiff::tz::TimeZone;

use super::super::print::{self, Paper, Style, shortened};
use super::filter::is_denial;

/// Columns at which things start (or end, for numbers).
const PROCESS: usize = 15;
const PEER: usize = 38;
const STATUS: usize = 61;
const DURATION_END: usize = 74;
const TLS: usize = 75;
const AUTH: usize = 79;
const METHOD: usize = 87;
const PATH: usize = 94;
/// Characters shown of a path, a host, and of a detail.
const PATH_LENGTH_MAX: usize = 160;
const HOST_LENGTH_MAX: usize = 80;
const DETAIL_LENGTH_MAX: usize = 400;
/// Findings and anomalies shown for a call.
const NOTES_MAX: usize = 8;

/// The heading of the columns.
pub fn heading(paper: &mut Paper) {
    let names = [
        ("time", 0),
        ("process", PROCESS),
        ("peer", PEER),
        ("status", STATUS),
        ("took", DURATION_END - 4),
        ("tls", TLS),
        ("auth", AUTH),
        ("method", METHOD),
        ("host and path", PATH),
    ];
    let mut line = String::new();
    for (name, column) in names {
        line.push_str(&" ".repeat(column.saturating_sub(line.len())));
        line.push_str(name);
    }
    paper.styled(Style::Dim, &line).end();
}

/// Adds an event's lines.
pub fn event(paper: &mut Paper, event: &v1::Event, zone: &TimeZone) {
    let time = print::clock_time(event.time_ns, zone);
    match &event.kind {
        Some(v1::event::Kind::Call(call)) => self::call(paper, call, &time),
        Some(v1::event::Kind::FlowLoss(loss)) => {
            note(paper, &time, "loss", Style::Warn, &loss_words(loss));
        }
        Some(v1::event::Kind::FlowEnd(end)) => {
            if let Some(words) = end_words(end) {
                note(paper, &time, "loss", Style::Warn, &words);
            }
        }
        Some(v1::event::Kind::AgentState(state)) => {
            let words = match state.detail.is_empty() {
                true => state.state.clone(),
                false => format!("{}: {}", state.state, state.detail),
            };
            note(paper, &time, "agent", state_style(&state.state), &words);
        }
        Some(v1::event::Kind::Audit(audit)) => {
            let style = if audit.accepted { Style::Bold } else { Style::Warn };
            note(paper, &time, "audit", style, &audit_words(audit));
        }
        // Its own command shows it.
        Some(v1::event::Kind::Inventory(_)) => {}
        None => note(
            paper,
            &time,
            "agent",
            Style::Warn,
            "an event that this version does not know: the agent is newer",
        ),
    }
}

/// A line that is no call.
fn note(paper: &mut Paper, time: &str, what: &str, style: Style, words: &str) {
    paper.styled(Style::Dim, time).put(" ").styled(style, what);
    paper
        .pad_to(PROCESS + 5)
        .put(&shortened(words, DETAIL_LENGTH_MAX))
        .end();
}

fn call(paper: &mut Paper, call: &v1::Call, time: &str) {
    paper.styled(Style::Dim, time).put(" ");
    paper.put(arrow(call.direction)).pad_to(PROCESS);
    paper.put(&process(call.process.as_ref())).pad_to(PEER);
    paper.put(&peer(call.remote.as_ref())).pad_to(STATUS);
    status(paper, call);
    let took = json::duration_ns(call).map(print::duration).unwrap_or_default();
    paper.right(Style::Dim, &took, DURATION_END).pad_to(TLS);
    if call.tls.is_some() {
        paper.styled(Style::Good, "tls");
    }
    let empty = v1::Request::default();
    let request = call.request.as_ref().unwrap_or(&empty);
    paper.pad_to(AUTH);
    if request.auth.is_empty() || request.auth == "none" {
        paper.styled(Style::Dim, "-");
    } else {
        paper.put(&shortened(&request.auth, METHOD - AUTH - 1));
    }
    paper
        .pad_to(METHOD)
        .styled(Style::Bold, &shortened(&request.method, 16));
    paper.pad_to(PATH).put(&shortened(&request.host, HOST_LENGTH_MAX));
    paper.put(&shortened(&request.path, PATH_LENGTH_MAX));
    if request.query_parameters > 0 {
        paper.styled(Style::Dim, &format!(" ?{}", request.query_parameters));
    }
    if let Some(verdict) = &call.verdict {
        let (style, words) = verdict_words(verdict);
        if !words.is_empty() {
            paper.put("  ").styled(style, &words);
        }
    }
    // The response began and did not end as it should.
    if call.response.is_some() && !matches!(call.state.as_str(), "answered" | "switched" | "") {
        paper.put(" ").styled(Style::Warn, &format!("!{}", call.state));
    }
    for anomaly in call.anomalies.iter().take(NOTES_MAX) {
        paper.put(" ").styled(Style::Warn, &format!("!{anomaly}"));
    }
    if call.loss_overlap {
        paper.put(" ").styled(Style::Warn, "!bytes-lost");
    }
    paper.end();
    for finding in call.findings.iter().take(NOTES_MAX) {
        let style = match finding.severity.as_str() {
            "high" => Style::Bad,
            "medium" => Style::Warn,
            _ => Style::Plain,
        };
        paper
            .pad_to(PROCESS)
            .styled(style, &format!("finding {}", finding.severity));
        paper.put(&format!(" {}", finding.kind));
        if !finding.message.is_empty() {
            paper
                .put(": ")
                .put(&shortened(&finding.message, DETAIL_LENGTH_MAX));
        }
        paper.end();
    }
}

/// `→` a call that the process made, `←` one that it served.
pub fn arrow(direction: i32) -> &'static str {
    match json::direction_name(direction) {
        Some("inbound") => "←",
        Some(_) => "→",
        None => "?",
    }
}

/// `nginx[812]`.
pub fn process(process: Option<&v1::Process>) -> String {
    match process {
        Some(process) if process.comm.is_empty() => format!("[{}]", process.pid),
        Some(process) => format!("{}[{}]", process.comm, process.pid),
        None => "?".into(),
    }
}

/// `10.0.0.5:443`, `[2001:db8::1]:443`. A TLS object without a socket has no peer that is known.
pub fn peer(peer: Option<&v1::Peer>) -> String {
    match peer.filter(|peer| !peer.address.is_empty()) {
        Some(peer) if peer.address.contains(':') => format!("[{}]:{}", peer.address, peer.port),
        Some(peer) => format!("{}:{}", peer.address, peer.port),
        None => "no known peer".into(),
    }
}

fn status(paper: &mut Paper, call: &v1::Call) {
    match &call.response {
        Some(response) => {
            let style = match response.status {
                500.. => Style::Bad,
                400.. => Style::Warn,
                _ => Style::Plain,
            };
            paper.styled(style, &response.status.to_string());
        }
        None => {
            paper.styled(Style::Warn, &call.state);
        }
    }
}

/// The verdict with its guarantee and rule; empty where nobody said anything.
pub fn verdict_words(verdict: &v1::Verdict) -> (Style, String) {
    let rule = match (verdict.policy.as_str(), verdict.rule.as_str()) {
        ("", "") => String::new(),
        (policy, "") => format!(" by {policy}"),
        (policy, rule) => format!(" by {policy}/{rule}"),
    };
    let shortfall = match verdict.shortfall.as_str() {
        "" => String::new(),
        shortfall => format!(" — less than required: {shortfall}"),
    };
    match verdict.action.as_str() {
        "" => (Style::Plain, String::new()),
        "allow" if rule.is_empty() => (Style::Plain, String::new()),
        "allow" => (Style::Dim, format!("allowed{rule}")),
        "alert" => (Style::Warn, format!("ALERT{rule}")),
        action if is_denial(verdict) && is_observed(verdict) => {
            if verdict.mode == "enforce" && verdict.would_be.is_empty() {
                // It was to be stopped, and was not: that is no trial.
                let why = match verdict.shortfall.as_str() {
                    "" => String::new(),
                    why => format!(" — {why}"),
                };
                return (Style::Bad, format!("DENIED, not stopped{rule}{why}"));
            }
            let word = if action == "kill" { "killed" } else { "denied" };
            let would = match verdict.would_be.as_str() {
                "" => String::new(),
                guarantee => format!(", {guarantee}"),
            };
            (Style::Warn, format!("WOULD BE {word}{would}{rule}{shortfall}"))
        }
        action => {
            let word = match (action, verdict.killed) {
                (_, true) => "KILLED",
                ("kill", false) => "DENIED, not killed",
                _ => "DENIED",
            };
            let guarantee = match verdict.guarantee.as_str() {
                "" => ", nothing measured".to_owned(),
                guarantee => format!(", {guarantee}"),
            };
            let collateral = match verdict.collateral {
                0 => String::new(),
                count => format!(", {} lost with it", print::plural(count.into(), "other call")),
            };
            (
                Style::Bad,
                format!("{word}{guarantee}{rule}{collateral}{shortfall}"),
            )
        }
    }
}

fn is_observed(verdict: &v1::Verdict) -> bool {
    verdict.guarantee == "observed" || (verdict.guarantee.is_empty() && verdict.mode == "observe")
}

fn loss_words(loss: &v1::FlowLoss) -> String {
    let mut words = loss.reason.clone();
    if let Some(process) = &loss.process {
        words.push(' ');
        words.push_str(&self::process(Some(process)));
    }
    let mut parts: Vec<String> = Vec::new();
    if loss.bytes > 0 {
        parts.push(print::bytes(loss.bytes));
    }
    if loss.records > 0 {
        parts.push(print::plural(loss.records, "piece"));
    }
    if loss.events > 0 {
        parts.push(print::plural(loss.events, "event"));
    }
    if loss.duration_ns > 0 {
        parts.push(format!("for {}", print::duration(loss.duration_ns)));
    }
    if !loss.detail.is_empty() {
        parts.push(loss.detail.clone());
    }
    if !parts.is_empty() {
        words.push_str(": ");
        words.push_str(&parts.join(", "));
    }
    words
}

/// A connection's account, if anything is missing in it.
fn end_words(end: &v1::FlowEnd) -> Option<String> {
    let lost = |account: &Option<v1::Account>| account.as_ref().map_or(0, |account| account.lost);
    let moved = |account: &Option<v1::Account>| account.as_ref().map_or(0, |account| account.moved);
    let (sent, received) = (lost(&end.sent), lost(&end.received));
    (sent + received > 0).then(|| {
        format!(
            "connection {} with {}: {} of {} sent and {} of {} received were not seen",
            process(end.process.as_ref()),
            peer(end.remote.as_ref()),
            print::bytes(sent),
            print::bytes(moved(&end.sent)),
            print::bytes(received),
            print::bytes(moved(&end.received))
        )
    })
}

fn state_style(state: &str) -> Style {
    match state {
        "degraded" | "overload-began" | "library-failed" | "capability-missing" => Style::Warn,
        _ => Style::Bold,
    }
}

/// A change in words.
pub fn audit_words(audit: &v1::Audit) -> String {
    let change = match (audit.old_digest.as_str(), audit.new_digest.as_str()) {
        ("", "") => String::new(),
        ("", new) => format!(" {new}"),
        (old, new) if old == new => format!(" stays {old}"),
        (old, new) => format!(" {old} → {new}"),
    };
    let verb = if audit.accepted { "" } else { " REFUSED" };
    let reason = match audit.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    format!("{}{verb}{change} by {}{reason}", audit.what, audit.who)
}

#[cfg(test)]
mod tests;
