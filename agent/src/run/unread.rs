//! Connections that carry what this build does not decode (HTTP/2): known by their first bytes, and blind from there on.
//!
//! They are reported like those that nothing can read: as blind spots by program, under each policy's `onUnseen`, and
//! never as traffic that could be enforced.

use std::collections::HashMap;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::capture::Process;
use crate::capture::intake::Blind;

/// The reason in events and in the status.
pub const HTTP2: &str = "http2";
/// Bytes are missing, by overload or by a way that no hook sees, where requests may have been.
pub const GAP: &str = "gap";
/// Connections that are remembered until they end; the bytes of those beyond count as seen, and the flows all the same.
const OPEN_MAX: usize = 65_536;
/// Executables told apart.
const EXES_MAX: usize = 1_024;

/// What is open, and what was, by executable.
#[derive(Default)]
pub struct Unread {
    open: HashMap<u64, Arc<Process>>,
    blind: HashMap<SmolStr, Blind>,
}

impl Unread {
    /// A connection turned out to be one. `carrier` is its socket, if that is known. `true` the first time.
    pub fn began(&mut self, carrier: Option<u64>, process: &Arc<Process>) -> bool {
        if let Some(cookie) = carrier {
            if self.open.contains_key(&cookie) {
                return false;
            }
            if self.open.len() < OPEN_MAX {
                self.open.insert(cookie, process.clone());
            }
        }
        if let Some(blind) = self.of(process) {
            blind.flows += 1;
        }
        true
    }

    /// A connection has ended. `true` if it was one of these.
    pub fn ended(&mut self, cookie: u64, bytes: u64) -> bool {
        let Some(process) = self.open.remove(&cookie) else {
            return false;
        };
        if let Some(blind) = self.of(&process) {
            blind.bytes = blind.bytes.saturating_add(bytes);
        }
        true
    }

    /// By executable.
    pub fn blind(&self) -> impl Iterator<Item = (&SmolStr, &Blind)> {
        self.blind.iter()
    }

    fn of(&mut self, process: &Process) -> Option<&mut Blind> {
        if self.blind.len() >= EXES_MAX && !self.blind.contains_key(&process.exe) {
            return None;
        }
        let blind = self.blind.entry(process.exe.clone()).or_default();
        blind.pid = process.pid;
        Some(blind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(exe: &str) -> Arc<Process> {
        Arc::new(Process {
            pid: 7,
            tid: 7,
            uid: 0,
            comm: "a".into(),
            exe: exe.into(),
            cgroup_id: 0,
            cgroup_path: "".into(),
            container: None,
        })
    }

    #[test]
    fn a_connection_counts_once_and_its_bytes_when_it_ends() {
        let mut unread = Unread::default();
        assert!(unread.began(Some(1), &process("/a")));
        assert!(!unread.began(Some(1), &process("/a")), "its other direction");
        assert!(unread.began(None, &process("/a")), "no socket is known");
        assert!(!unread.ended(2, 50));
        assert!(unread.ended(1, 100) && !unread.ended(1, 100));
        let told: Vec<_> = unread
            .blind()
            .map(|(exe, blind)| (exe.as_str(), blind.flows, blind.bytes))
            .collect();
        assert_eq!(told, [("/a", 2, 100)]);
    }
}
