//! What stands below the calls: losses and blind spots, and why nothing is to be seen. From the agent's status alone,
//! so that the same moment gives the same words on a terminal and in a pipe.

use apiward_proto::v1;

use super::super::print::{self, plural};
use super::super::status::losses;

/// What the agent left out for this watcher, among the losses. Nothing is lost by it to anybody else.
const NOT_SHOWN: &str = "this-watch";
/// Blind spots and losses named in the line.
const NAMED_MAX: usize = 3;

/// The line that is always in view: without what changes at every moment, so that it can be printed when it changes.
pub fn standing(status: &v1::Status) -> String {
    let mode = match status.mode.as_str() {
        "" => "mode unknown",
        mode => mode,
    };
    let mut parts = vec![mode.to_owned()];
    let losses: Vec<String> = losses(status)
        .iter()
        .filter(|(name, _)| *name != NOT_SHOWN)
        .map(|(name, count)| format!("{name} {}", print::number(*count)))
        .collect();
    if let Some(count) = status.losses.get(NOT_SHOWN) {
        parts.push(format!(
            "{} not shown here: this terminal is too slow, the exporters have them",
            plural(*count, "event")
        ));
    }
    parts.push(match losses.is_empty() {
        true => "nothing lost".into(),
        false => format!("lost: {}", some(&losses)),
    });
    let mut spots: Vec<String> = status
        .blind_spots
        .iter()
        .map(|spot| format!("{} ({})", file_name(&spot.exe), spot.reason))
        .collect();
    spots.sort();
    spots.dedup();
    let unattached = status.libraries.iter().filter(|library| !library.attached);
    spots.extend(unattached.map(|library| format!("{} (not attached)", file_name(&library.path))));
    parts.push(match spots.is_empty() {
        true => "no blind spot".into(),
        false => format!("blind: {}", some(&spots)),
    });
    if !status.degraded.is_empty() {
        parts.push(format!(
            "degraded: {}",
            status.degraded.first().map(String::as_str).unwrap_or_default()
        ));
    }
    parts.join(" · ")
}

fn some(names: &[String]) -> String {
    let mut text = names[..names.len().min(NAMED_MAX)].join(", ");
    if names.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", names.len() - NAMED_MAX));
    }
    text
}

fn file_name(path: &str) -> &str {
    match path.rsplit('/').next() {
        None | Some("") => "?",
        Some(name) => name,
    }
}

/// What was known when the last call was shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    pub calls: u64,
    pub records: u64,
}

impl Before {
    /// As of this status.
    pub fn of(status: &v1::Status) -> Self {
        Before {
            calls: status.calls,
            records: status.records,
        }
    }
}

/// Why no call is shown.
pub fn quiet(status: &v1::Status, before: Before, is_filtered: bool) -> String {
    if status.mode.is_empty() {
        return "the agent does not say how it is: it is starting, stopping or overloaded".into();
    }
    let calls = status.calls.saturating_sub(before.calls);
    if calls > 0 && is_filtered {
        return format!("{} since, and none that the filters show", plural(calls, "call"));
    }
    let scope = match status.scope.as_str() {
        "" => String::new(),
        scope => format!(" (scope: {scope})"),
    };
    let mut text = match (status.calls, status.flows_open) {
        (0, 0) => format!("no calls yet: nothing in scope has a connection open{scope}"),
        (0, open) => format!(
            "no calls yet: {} open in scope, and no call on them has ended; older ones are read from their next \
             message on{scope}",
            plural(open, "connection")
        ),
        (_, 0) => format!("no calls now: nothing in scope has a connection open{scope}"),
        (_, open) => format!(
            "no calls now: {} open in scope, {}{scope}",
            plural(open, "connection"),
            match status.records > before.records {
                true => "and no call has ended",
                false => "and nothing moves on them",
            }
        ),
    };
    let unattached: Vec<String> = status
        .libraries
        .iter()
        .filter(|library| !library.attached)
        .map(|library| format!("{} ({})", library.path, library.reason))
        .collect();
    if !unattached.is_empty() {
        text.push_str(&format!("; not attached: {}", some(&unattached)));
    }
    let mut unread: Vec<String> = status
        .blind_spots
        .iter()
        .map(|spot| format!("{} ({})", file_name(&spot.exe), spot.reason))
        .collect();
    unread.sort();
    unread.dedup();
    if !unread.is_empty() {
        text.push_str(&format!("; moved and not readable here: {}", some(&unread)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> v1::Status {
        v1::Status {
            mode: "observe".into(),
            scope: "cgroup /x".into(),
            ..Default::default()
        }
    }

    fn spot(exe: &str, reason: &str) -> v1::BlindSpot {
        v1::BlindSpot {
            exe: exe.into(),
            reason: reason.into(),
            bytes: 5,
            ..Default::default()
        }
    }

    #[test]
    fn the_standing_line() {
        let mut one = status();
        assert_eq!(standing(&one), "observe · nothing lost · no blind spot");
        one.losses = [("ring-records".into(), 1_200), ("mptcp".into(), 0)].into();
        one.blind_spots = vec![
            spot("/usr/bin/node", "memory-bio"),
            spot("/opt/node", "memory-bio"),
            spot("/a", "mptcp"),
        ];
        one.degraded = vec!["egress is missing".into()];
        assert_eq!(
            standing(&one),
            "observe · lost: ring-records 1,200 · blind: a (mptcp), node (memory-bio) · degraded: egress is missing"
        );
        // Counts that grow with every byte do not make it another line.
        let same = standing(&one);
        one.blind_spots[0].bytes = 6;
        one.calls = 7;
        assert_eq!(standing(&one), same);
        one.losses = [("this-watch".into(), 3)].into();
        let text = standing(&one);
        assert!(
            text.starts_with("observe · 3 events not shown here: this terminal is too slow"),
            "{text}"
        );
        assert!(text.contains(" · nothing lost · "), "{text}");
    }

    #[test]
    fn quiet_has_a_reason() {
        let before = Before::default();
        let mut one = status();
        let starts = |status: &v1::Status, before: Before, filtered: bool, start: &str| {
            let text = quiet(status, before, filtered);
            assert!(text.starts_with(start), "{text}");
        };
        assert_eq!(
            quiet(&one, before, false),
            "no calls yet: nothing in scope has a connection open (scope: cgroup /x)"
        );
        one.flows_open = 2;
        starts(
            &one,
            before,
            false,
            "no calls yet: 2 connections open in scope, and no call",
        );
        one.calls = 9;
        starts(
            &one,
            before,
            true,
            "9 calls since, and none that the filters show",
        );
        let before = Before::of(&one);
        starts(
            &one,
            before,
            true,
            "no calls now: 2 connections open in scope, and nothing moves",
        );
        one.records = 1;
        starts(
            &one,
            before,
            false,
            "no calls now: 2 connections open in scope, and no call has ended",
        );
        one.libraries = vec![v1::Library {
            path: "/lib/libssl.so.3".into(),
            reason: "no symbols".into(),
            ..Default::default()
        }];
        one.blind_spots = vec![spot("/usr/bin/node", "memory-bio")];
        let text = quiet(&one, before, false);
        assert!(
            text.ends_with("; not attached: /lib/libssl.so.3 (no symbols); moved and not readable here: node (memory-bio)"),
            "{text}"
        );
        one.mode.clear();
        starts(&one, before, false, "the agent does not say how it is");
    }
}
