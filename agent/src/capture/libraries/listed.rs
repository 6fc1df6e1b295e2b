//! What the libraries' thread tells the rest of the agent: a list by number, and reports of what was done.
//!
//! Both are bounded. A host that starts containers all day meets a new libssl with each of them; what is still
//! probed is never forgotten for that, what is not is, oldest first.

use apiward_common::scope::FileKey;

use crate::capture::{KernelTime, TlsInfo};

/// Libraries listed: those that are probed, and as many that are not any more or could not be.
const LISTED_MAX: usize = 2 * super::LIBRARIES_MAX;
/// Reports that nobody has taken yet; they are taken every second.
const REPORTS_MAX: usize = 4_096;

/// What was done about a library.
#[derive(Clone, Debug)]
pub struct Report {
    pub path: String,
    pub attached: bool,
    /// Why not; or what is not covered.
    pub detail: String,
    /// When a process mapped it, if that is known.
    pub mapped_at: Option<KernelTime>,
    /// When this was known, by the same clock.
    pub attached_at: Option<KernelTime>,
    pub file: FileKey,
}

/// A library, for the status.
#[derive(Clone, Debug)]
pub struct Library {
    pub path: String,
    pub info: TlsInfo,
    pub inode: u64,
    pub attached: bool,
    /// One line a site, with its reason.
    pub sites: Vec<String>,
    /// Why it is not attached, or which ways to the plaintext are not covered.
    pub reason: String,
}

/// The list and the reports.
#[derive(Default)]
pub struct Listed {
    /// By the number in the probes' cookies: index 0 is number 1.
    libraries: Vec<Library>,
    /// When each of them was listed, in changes.
    listed_at: Vec<u64>,
    changes: u64,
    reports: Vec<Report>,
    forgotten: u64,
    reports_dropped: u64,
}

impl Listed {
    /// Every library, by number.
    pub fn libraries(&self) -> &[Library] {
        &self.libraries
    }

    /// Another number whenever the list has changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// What was done since this was last asked.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// Libraries that are not probed any more and were forgotten for want of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Reports that found no room.
    pub fn reports_dropped(&self) -> u64 {
        self.reports_dropped
    }

    /// The number that the next library will get.
    pub fn next_number(&self) -> usize {
        self.free().unwrap_or(self.libraries.len()) + 1
    }

    /// Lists a library under [`Listed::next_number`].
    pub(super) fn list(&mut self, library: Library) {
        self.changes += 1;
        match self.free() {
            Some(place) => {
                self.forgotten += 1;
                self.libraries[place] = library;
                self.listed_at[place] = self.changes;
            }
            None => {
                self.libraries.push(library);
                self.listed_at.push(self.changes);
            }
        }
    }

    /// Nobody probes this one any more.
    pub(super) fn detached(&mut self, number: usize, reason: &str) {
        if let Some(library) = number.checked_sub(1).and_then(|at| self.libraries.get_mut(at)) {
            self.changes += 1;
            library.attached = false;
            reason.clone_into(&mut library.reason);
        }
    }

    pub(super) fn report(&mut self, report: Report) {
        if self.reports.len() < REPORTS_MAX {
            self.reports.push(report);
        } else {
            self.reports_dropped += 1;
        }
    }

    /// The place to give away, once the list is full: of what is not probed, what was listed first. There is one, for
    /// fewer are probed at once than fit.
    fn free(&self) -> Option<usize> {
        if self.libraries.len() < LISTED_MAX {
            return None;
        }
        (0..self.libraries.len())
            .filter(|&place| !self.libraries[place].attached)
            .min_by_key(|&place| self.listed_at[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(inode: u64, attached: bool) -> Library {
        Library {
            path: format!("/{inode}"),
            info: TlsInfo {
                library: "openssl".into(),
                version: "3".into(),
            },
            inode,
            attached,
            sites: Vec::new(),
            reason: String::new(),
        }
    }

    #[test]
    fn a_full_list_forgets_what_is_not_probed_oldest_first() {
        let mut listed = Listed::default();
        for inode in 0..LISTED_MAX as u64 {
            assert_eq!(listed.next_number() as u64, inode + 1);
            listed.list(library(inode, inode >= 2 || inode == 0));
        }
        let changes = listed.changes();
        listed.detached(1, "deleted");
        assert_ne!(listed.changes(), changes);
        // Number 1 was listed first, and is not probed any more.
        for (inode, number) in [(9001, 1), (9002, 2)] {
            assert_eq!(listed.next_number(), number);
            listed.list(library(inode, true));
            assert_eq!(listed.libraries()[number - 1].inode, inode);
        }
        assert_eq!((listed.libraries().len(), listed.forgotten()), (LISTED_MAX, 2));
    }

    #[test]
    fn reports_beyond_the_bound_are_counted() {
        let mut listed = Listed::default();
        let report = Report {
            path: String::new(),
            attached: false,
            detail: String::new(),
            mapped_at: None,
            attached_at: None,
            file: FileKey {
                inode: 1,
                device: 1,
                reserved: 0,
            },
        };
        for _ in 0..REPORTS_MAX + 3 {
            listed.report(report.clone());
        }
        assert_eq!(listed.reports_dropped(), 3);
        assert_eq!(listed.take_reports().len(), REPORTS_MAX);
        assert!(listed.take_reports().is_empty());
    }
}
