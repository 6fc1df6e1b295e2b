//! Up to when everything that was seen is written down: so that the next start can say what was not.
//!
//! The pipeline gives the moment before which it has taken every record, the export thread notes it once the events
//! are written. A run that does not end in good order leaves that moment behind, and whoever starts next reports all
//! the time from it until it sees again. The report is due only then, and the old moment stands until it is made: two
//! deaths in a row are one silence.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::spool;

/// Its name in the state directory.
const FILE: &str = "seen";
/// Said once nothing can be missing.
const CLEAN: &str = "clean";
/// What a power failure may take although it was written: longer than between two `fdatasync`s of the spool.
const UNSYNCED: Duration = Duration::from_secs(10);

/// The note.
#[derive(Debug)]
pub(super) struct Seen {
    path: Option<PathBuf>,
    file: Option<File>,
    boot: String,
    /// Unix nanoseconds until which the run before this one saw, if it did not end well and that is not reported yet.
    before: Option<u64>,
}

impl Seen {
    /// Reads what the run before has left. Changes nothing.
    pub fn open(directory: Option<&Path>) -> Self {
        let path = directory.map(|directory| directory.join(FILE));
        let text = path.as_ref().and_then(|path| fs::read_to_string(path).ok());
        let boot = spool::boot_id();
        Seen {
            before: text.as_deref().and_then(|text| until(text, &boot)),
            path,
            file: None,
            boot,
        }
    }

    /// How long nobody saw before this moment; `None` if there was no such time, or it was asked for already.
    pub fn silence(&mut self, now_ns: u64) -> Option<Duration> {
        let before = self.before.take()?;
        Some(Duration::from_nanos(now_ns.saturating_sub(before)))
    }

    /// Everything up to this moment is written, the report of a silence too.
    pub fn until(&mut self, now_ns: u64) {
        // A disk that refuses makes the silence longer than it was, and no more.
        if let Err(error) = self.write(now_ns) {
            tracing::debug!(%error, "how far the agent has seen is not written down");
            self.file = None;
        }
    }

    /// Nothing can be missing.
    pub fn end(&mut self) {
        let Some(path) = self.path.as_ref().filter(|_| self.before.is_none()) else {
            return;
        };
        if let Err(error) = spool::write_private(path, CLEAN) {
            tracing::debug!(%error, "the next start will report a silence that was none");
        }
    }

    /// In place, and always of one length: no reader finds half of it.
    fn write(&mut self, now_ns: u64) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let text = format!("{} {now_ns:020}", self.boot);
        match &self.file {
            Some(file) => file.write_all_at(text.as_bytes(), 0),
            None => {
                if let Some(directory) = path.parent() {
                    spool::make_private(directory)?;
                }
                spool::write_private(path, &text)?;
                self.file = Some(spool::private_file(path)?);
                Ok(())
            }
        }
    }
}

/// When a run that did not end well was last known to see.
fn until(text: &str, boot: &str) -> Option<u64> {
    let (of, until) = text.trim().split_once(' ')?;
    let until: u64 = until.parse().ok()?;
    // The machine went down: what was written may be gone again.
    let unsynced = if of == boot { Duration::ZERO } else { UNSYNCED };
    Some(until.saturating_sub(u64::try_from(unsynced.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// As at a start: how long was it silent, then the note.
    fn sees(seen: &mut Seen, at: u64) -> Option<u64> {
        let silent = seen.silence(at * SECOND);
        seen.until(at * SECOND);
        silent.map(|silent| silent.as_secs())
    }

    #[test]
    fn a_silence_lasts_from_the_last_word_until_somebody_sees_again() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Seen::open(Some(dir.path()));
        let mut seen = open();
        assert_eq!(sees(&mut seen, 100), None, "nobody was here before");
        seen.until(103 * SECOND);
        // Killed; and the next one before it sees anything.
        drop(seen);
        drop(open());
        let mut seen = open();
        assert_eq!(sees(&mut seen, 110), Some(7));
        assert_eq!(sees(&mut seen, 111), None, "reported once");
        seen.end();
        assert_eq!(sees(&mut open(), 150), None, "it ended in good order");
    }

    #[test]
    fn who_ends_before_it_sees_leaves_the_report_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Seen::open(Some(dir.path()));
        open().until(5 * SECOND);
        open().end();
        assert_eq!(sees(&mut open(), 9), Some(4));
    }

    #[test]
    fn a_power_failure_may_have_taken_more() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = Seen::open(Some(dir.path()));
        seen.boot = "another".to_owned();
        seen.until(50 * SECOND);
        assert_eq!(sees(&mut Seen::open(Some(dir.path())), 60), Some(20));
    }

    #[test]
    fn without_a_directory_nothing_is_known_and_nothing_fails() {
        let mut seen = Seen::open(None);
        assert_eq!(sees(&mut seen, 1), None);
        seen.end();
    }
}
