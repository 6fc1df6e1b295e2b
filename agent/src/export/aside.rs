//! Changes that were made while no agent could tell them: the way out works without one, and is on record all the same.
//!
//! A command that ends enforcement by itself leaves a line in the agent's own directory; the next agent to start makes
//! the audit event of it, with the time at which it happened.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use apiward_proto::v1;
use serde::{Deserialize, Serialize};

use super::clock;
use super::wire::{self, Change};

const NAME: &str = "audit.jsonl";
/// What a file may hold; more is no file of ours.
const BYTES_MAX: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Line {
    time_ns: u64,
    who: String,
    old: String,
    new: String,
    reason: String,
}

/// Notes a change of the mode in `directory`, which the agent has made. Where there is none no agent has ever been, and there is
/// nobody to tell it to.
pub fn note(directory: &Path, old: &str, new: &str, reason: &str) -> io::Result<()> {
    if !directory.is_dir() {
        return Ok(());
    }
    let line = Line {
        time_ns: clock::wall_ns(),
        who: format!(
            "uid={} pid={} (no agent)",
            rustix::process::getuid().as_raw(),
            std::process::id()
        ),
        old: old.to_owned(),
        new: new.to_owned(),
        reason: reason.to_owned(),
    };
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(directory.join(NAME))?;
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    file.write_all(&text)?;
    file.sync_all()
}

/// The events of what was noted since, which is forgotten here: they go on to the spool.
pub fn take(directory: &Path) -> Vec<v1::Event> {
    let path = directory.join(NAME);
    let Ok(found) = fs::metadata(&path) else {
        return Vec::new();
    };
    let text = match found.len() <= BYTES_MAX {
        true => fs::read_to_string(&path),
        false => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
    };
    let text = match text {
        Ok(text) => text,
        // It stays where it is, for whoever looks.
        Err(error) => {
            tracing::error!(%error, path = %path.display(), "what was changed without an agent cannot be read, and no audit event tells of it");
            return Vec::new();
        }
    };
    let read: Vec<Line> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let unreadable = text.lines().count() - read.len();
    if unreadable > 0 {
        tracing::error!(
            unreadable,
            "changes that were made without an agent cannot be read: no audit event tells of them"
        );
    }
    let events = read
        .into_iter()
        .map(|line| {
            let mut event = wire::audit(Change {
                what: "mode",
                accepted: true,
                who: line.who,
                old_digest: line.old,
                new_digest: line.new,
                reason: line.reason,
            });
            event.time_ns = line.time_ns;
            event
        })
        .collect();
    if let Err(error) = fs::remove_file(&path) {
        tracing::warn!(%error, path = %path.display(), "what was changed without an agent is told again at the next start");
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        note(directory.path(), "enforce", "observe", "too much").unwrap();
        note(directory.path(), "kept", "released", "").unwrap();
        fs::OpenOptions::new()
            .append(true)
            .open(directory.path().join(NAME))
            .unwrap()
            .write_all(b"{\"half\n")
            .unwrap();
        let told: Vec<_> = take(directory.path())
            .into_iter()
            .map(|event| match event.kind {
                Some(v1::event::Kind::Audit(audit)) => (
                    event.time_ns > 0,
                    audit.who.contains("no agent"),
                    audit.new_digest,
                    audit.reason,
                ),
                _ => unreachable!(),
            })
            .collect();
        assert_eq!(
            told,
            [
                (true, true, "observe".into(), "too much".into()),
                (true, true, "released".into(), String::new())
            ]
        );
        assert!(take(directory.path()).is_empty());
    }

    #[test]
    fn where_no_agent_was_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = directory.path().join("never");
        note(&nowhere, "enforce", "observe", "").unwrap();
        assert!(!nowhere.exists());
    }
}
