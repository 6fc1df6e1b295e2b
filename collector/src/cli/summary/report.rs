//! The figures on paper: first what somebody who is responsible asks first (was anything stopped, was anything
//! missed), then the inventory.
//!
//! The words of the guarantees are explained where they occur, because whoever reads a summary has not read the
//! documentation of enforcement.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use super::{Call, Decided, Summary};
use crate::service::plain;

/// Rows of one table; what is beyond is counted below it.
const ROWS_MAX: usize = 40;
/// Lines of one cell.
const LINES_MAX: usize = 4;
/// Below this a table's columns are too narrow to be read.
const WIDTH_MIN: u16 = 60;

/// What is written on.
#[derive(Clone, Copy, Debug)]
pub struct Paper {
    /// Columns; `None`: as wide as it gets, for whoever reads a pipe or a file.
    pub width: Option<u16>,
    pub is_colored: bool,
}

impl Paper {
    pub fn of_stdout() -> Paper {
        let is_terminal = io::stdout().is_terminal();
        let set = |variable: &str| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
        let size = rustix::termios::tcgetwinsize(io::stdout());
        Paper {
            width: size
                .ok()
                .map(|size| size.ws_col)
                .filter(|&columns| is_terminal && columns > 0),
            // https://no-color.org
            is_colored: is_terminal
                && !set("NO_COLOR")
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        }
    }

    fn strong(self, text: &str) -> String {
        match self.is_colored {
            true => format!("\x1b[1m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    fn table<const N: usize>(self, header: [&str; N], numbers: &[usize]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if let Some(width) = self.width {
            table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width.max(WIDTH_MIN));
        }
        match self.is_colored {
            true => table.enforce_styling(),
            false => table.force_no_tty(),
        };
        table.set_header(header.map(|title| Cell::new(title).add_attribute(Attribute::Dim)));
        for &index in numbers {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

/// The whole report.
pub fn text(summary: &Summary, paper: Paper) -> String {
    let mut text = String::new();
    head(summary, paper, &mut text);
    decided(summary, paper, &mut text);
    if summary.calls > 0 {
        endpoints(summary, paper, &mut text);
        programs(summary, paper, &mut text);
    }
    losses(summary, paper, &mut text);
    let refused: u64 = sum(summary.audits.iter().filter(|((_, accepted), _)| !accepted));
    let changes: u64 = sum(summary.audits.iter());
    if changes > 0 {
        text.push_str(&format!(
            "Mode, policy, scope or configuration was set {}, {} of them refused.\n",
            plural(changes, "time"),
            number(refused)
        ));
    }
    for (count, what) in [
        (summary.beyond, "entries found no room in these tables"),
        (
            summary.unreadable,
            "events could not be read: made by a newer agent, or damaged",
        ),
    ] {
        if count > 0 {
            text.push_str(&format!("{} {what}.\n", number(count)));
        }
    }
    // Tables are filled up with blanks; nobody needs them at the end of a line.
    let lines = text.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

fn sum<'a>(counts: impl Iterator<Item = (&'a (String, bool), &'a u64)>) -> u64 {
    counts.map(|(_, count)| count).sum()
}

fn head(summary: &Summary, paper: Paper, text: &mut String) {
    let time = |ns: u64| jiff::Timestamp::from_nanosecond(i128::from(ns)).ok();
    text.push_str(&paper.strong(&format!("Summary of {}", plural(summary.events, "stored event"))));
    if let (Some(first), Some(last), true) =
        (time(summary.first_ns), time(summary.last_ns), summary.last_ns > 0)
    {
        text.push_str(&format!(", {first:.0} to {last:.0}"));
    }
    text.push_str(&format!(
        "\n{}: {} served and {} made; {} inside TLS, {} without credentials\n",
        plural(summary.calls, "call"),
        number(summary.served),
        number(summary.made),
        number(summary.tls),
        number(summary.without_auth)
    ));
    if summary.served > 0 && summary.made > 0 {
        text.push_str("(between two programs that are both seen, a call counts once on each side)\n");
    }
}

/// What is said over the rows of one kind.
struct Kind {
    title: &'static str,
    how: &'static str,
    holds: fn(mode: &str, action: &str) -> bool,
}

const KINDS: [Kind; 3] = [
    Kind {
        title: "What policy stopped",
        how: "HOW",
        holds: |mode, action| mode == "enforce" && action != "alert",
    },
    Kind {
        title: "What policy would have stopped (observing: nothing was)",
        how: "WOULD BE",
        holds: |mode, action| mode != "enforce" && action != "alert",
    },
    Kind {
        title: "What policy wants to be told",
        how: "HOW",
        holds: |_, action| action == "alert",
    },
];

/// Guarantees, strongest first, in the words of the documentation of enforcement. `observed` is what is left of a
/// denial that could not be carried out.
const GUARANTEES: [(&str, &str); 4] = [
    (
        "prevented",
        "the application never got the complete request, or it never left the host",
    ),
    (
        "contained",
        "the request was delivered, so side effects are possible; no byte of the response got out",
    ),
    (
        "cut",
        "the connection was reset; part of the response may have got out",
    ),
    ("observed", "it was denied, and could not be stopped"),
];

fn decided(summary: &Summary, paper: Paper, text: &mut String) {
    let mut explained: Vec<&(&str, &str)> = Vec::new();
    let is_any = |kind: &Kind| {
        summary
            .decided
            .keys()
            .any(|(mode, action, ..)| (kind.holds)(mode, action))
    };
    for kind in KINDS.iter().filter(|kind| is_any(kind)) {
        let mut rows: Vec<_> = summary
            .decided
            .iter()
            .filter(|((mode, action, ..), _)| (kind.holds)(mode, action))
            .collect();
        rows.sort_by_key(|(_, decided)| std::cmp::Reverse(decided.calls));
        let mut table = paper.table(["CALLS", "RULE", kind.how, "CALL", "WHERE"], &[0]);
        for ((mode, _, policy, rule), decided) in rows.iter().take(ROWS_MAX) {
            let is_failed = mode == "enforce" && decided.guarantees.contains_key("observed");
            let mut how = Cell::new(how(mode, decided));
            if is_failed {
                how = how.fg(Color::Red).add_attribute(Attribute::Bold);
            }
            table.add_row([
                Cell::new(number(decided.calls)).add_attribute(Attribute::Bold),
                Cell::new(plain(&format!("{policy}/{rule}"))),
                how,
                Cell::new(some(&decided.endpoints, endpoint)),
                Cell::new(some(&decided.parties, party)),
            ]);
            let words = GUARANTEES.iter().filter(|(word, _)| {
                // Of what was only observed, nothing has to be explained in observe mode.
                decided.guarantees.contains_key(*word) && (*word != "observed" || mode == "enforce")
            });
            for word in words {
                if !explained.contains(&word) {
                    explained.push(word);
                }
            }
        }
        section(kind.title, paper, &table, rows.len(), text);
    }
    if !explained.is_empty() {
        text.push('\n');
    }
    for (word, meaning) in GUARANTEES.iter().filter(|word| explained.contains(word)) {
        let word = if *word == "observed" { "NOT STOPPED" } else { word };
        text.push_str(&format!("{}: {meaning}.\n", paper.strong(word)));
    }
    if !KINDS[..2].iter().any(is_any) {
        text.push_str(&format!(
            "\n{}: no call matched a rule that denies.\n",
            paper.strong("Nothing to stop")
        ));
    }
}

/// One line for each guarantee, and what else happened.
fn how(mode: &str, decided: &Decided) -> String {
    let mut lines = Vec::new();
    for (word, _) in GUARANTEES {
        let Some(&count) = decided.guarantees.get(word) else {
            continue;
        };
        let word = match (word, mode) {
            ("observed", "enforce") => "NOT STOPPED",
            ("observed", _) => "not enforceable",
            (word, _) => word,
        };
        lines.push(times(word, count, decided.calls));
    }
    // Words that this program does not know are shown as they are.
    let unknown = decided
        .guarantees
        .iter()
        .filter(|(word, _)| GUARANTEES.iter().all(|(known, _)| known != word));
    lines.extend(unknown.map(|(word, &count)| times(&plain(word), count, decided.calls)));
    if decided.killed > 0 {
        lines.push(times("process killed", decided.killed, decided.calls));
    }
    if decided.collateral > 0 {
        lines.push(format!(
            "{} lost with it",
            plural(decided.collateral, "other call")
        ));
    }
    for (why, &count) in decided.shortfalls.iter().take(LINES_MAX) {
        lines.push(times(&format!("because {}", plain(why)), count, decided.calls));
    }
    lines.join("\n")
}

fn times(what: &str, count: u64, of: u64) -> String {
    match count == of {
        true => what.to_owned(),
        false => format!("{what} ×{}", number(count)),
    }
}

fn endpoint((method, host, path): &Call) -> String {
    plain(&format!("{method} {host}{path}"))
}

fn party((direction, comm, peer): &(String, String, String)) -> String {
    let peer = if peer.is_empty() { "somebody unknown" } else { peer };
    plain(&match direction.as_str() {
        "outbound" => format!("{comm} to {peer}"),
        _ => format!("{comm} for {peer}"),
    })
}

/// The most frequent, a line each.
fn some<K: Ord>(counts: &BTreeMap<K, u64>, name: fn(&K) -> String) -> String {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut lines: Vec<String> = sorted
        .iter()
        .take(LINES_MAX)
        .map(|(key, count)| match sorted.len() {
            1 => name(key),
            _ => format!("{} ×{}", name(key), number(**count)),
        })
        .collect();
    if sorted.len() > LINES_MAX {
        lines.push(format!("and {} more", number((sorted.len() - LINES_MAX) as u64)));
    }
    lines.join("\n")
}

fn endpoints(summary: &Summary, paper: Paper, text: &mut String) {
    let mut rows: Vec<_> = summary.endpoints.iter().collect();
    rows.sort_by_key(|(_, endpoint)| std::cmp::Reverse(endpoint.calls));
    let mut table = paper.table(
        [
            "CALLS",
            "ENDPOINT",
            "SERVED BY",
            "CALLED BY",
            "STATUS",
            "TLS",
            "NO CREDENTIALS",
        ],
        &[0, 5, 6],
    );
    for (what, found) in rows.iter().take(ROWS_MAX) {
        let mut statuses: Vec<String> = found
            .statuses
            .iter()
            .map(|(status, count)| times(&status.to_string(), *count, found.calls))
            .collect();
        if found.unanswered > 0 {
            statuses.push(times("no answer", found.unanswered, found.calls));
        }
        table.add_row([
            number(found.calls),
            endpoint(what),
            some(&found.served_by, |comm| plain(comm)),
            some(&found.made_by, |comm| plain(comm)),
            statuses.join("\n"),
            share(found.tls, found.calls),
            share(found.without_auth, found.calls),
        ]);
    }
    section("Endpoints", paper, &table, rows.len(), text);
}

fn programs(summary: &Summary, paper: Paper, text: &mut String) {
    let mut rows: Vec<_> = summary.programs.iter().collect();
    rows.sort_by_key(|(_, program)| std::cmp::Reverse(program.calls));
    let mut table = paper.table(
        ["CALLS", "", "EXECUTABLE", "PROCESSES", "TLS", "MATCHED A RULE"],
        &[0, 3, 4, 5],
    );
    for ((exe, direction), program) in rows.iter().take(ROWS_MAX) {
        table.add_row([
            number(program.calls),
            verb(direction).to_owned(),
            plain(exe),
            number(program.processes.len() as u64),
            share(program.tls, program.calls),
            share(program.decided, program.calls),
        ]);
    }
    section("Calls per process", paper, &table, rows.len(), text);
}

fn losses(summary: &Summary, paper: Paper, text: &mut String) {
    if summary.losses.is_empty() && summary.incomplete == 0 {
        text.push_str(&format!(
            "\n{}: no event of a loss.\n",
            paper.strong("Nothing was lost")
        ));
        return;
    }
    let mut table = paper.table(["REASON", "BYTES", "RECORDS", "EVENTS", "FOR"], &[1, 2, 3, 4]);
    for (reason, loss) in &summary.losses {
        table.add_row([
            plain(reason),
            some_number(loss.bytes),
            some_number(loss.records),
            some_number(loss.events),
            match loss.duration_ns {
                0 => "-".to_owned(),
                ns => format!("{:.1} ms", ns as f64 / 1e6),
            },
        ]);
    }
    if !summary.losses.is_empty() {
        section("Not seen, or lost", paper, &table, summary.losses.len(), text);
    }
    if summary.incomplete > 0 {
        let verb = if summary.incomplete == 1 {
            "overlaps"
        } else {
            "overlap"
        };
        text.push_str(&format!(
            "{} {verb} a loss.\n",
            plural(summary.incomplete, "call")
        ));
    }
}

fn section(title: &str, paper: Paper, table: &Table, rows: usize, text: &mut String) {
    text.push_str(&format!("\n{}\n{table}\n", paper.strong(title)));
    if rows > ROWS_MAX {
        text.push_str(&format!(
            "… and {} more; `--output json` has all\n",
            rows - ROWS_MAX
        ));
    }
}

/// As in `apiward watch`.
fn verb(direction: &str) -> &'static str {
    match direction {
        "inbound" => "← served",
        "outbound" => "→ made",
        _ => "-",
    }
}

/// A part of a whole, in one word where one will do.
fn share(part: u64, whole: u64) -> String {
    match part {
        0 => "-".to_owned(),
        part if part == whole => "all".to_owned(),
        part => number(part),
    }
}

fn some_number(count: u64) -> String {
    match count {
        0 => "-".to_owned(),
        count => number(count),
    }
}

/// `12,345`.
fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn plural(count: u64, one: &str) -> String {
    format!("{} {one}{}", number(count), if count == 1 { "" } else { "s" })
}
