//! What is remembered of a trace, an event or a process; and of a process that serves through others, of those.

use apiward_proto::v1;
use procfs::process::Process;

use super::WHY_EVENTS_MAX;
use crate::export::Exports;

/// Processes of one that are asked about.
const CHILDREN_MAX: usize = 64;

/// What is remembered of `subject`, or why there is nothing.
pub fn answer(exports: &Exports, subject: &str) -> v1::WhyResponse {
    let own = exports.find_recent(&[subject], WHY_EVENTS_MAX);
    if !own.is_empty() {
        return v1::WhyResponse {
            events: own,
            message: String::new(),
        };
    }
    let children: Vec<String> = subject.trim().parse().map(children_of).unwrap_or_default();
    let events = match children.is_empty() {
        true => Vec::new(),
        false => exports.find_recent(&children, WHY_EVENTS_MAX),
    };
    let message = match events.is_empty() {
        true => {
            "it is not among the newest calls that the agent remembers, or was never seen: ask the collector \
                 (`apiward-collector query`), or see `apiward status` for what is not seen"
                .to_owned()
        }
        false => format!(
            "process {} has no call of its own that is remembered; these are of processes that it has started",
            subject.trim()
        ),
    };
    v1::WhyResponse { events, message }
}

/// A server's workers, as many as are asked about: its master has no calls. None where the kernel does not list them.
fn children_of(pid: i32) -> Vec<String> {
    let tasks = Process::new(pid).and_then(|process| process.tasks());
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| task.children().ok())
        .flatten()
        .take(CHILDREN_MAX)
        .map(|child| child.to_string())
        .collect()
}
