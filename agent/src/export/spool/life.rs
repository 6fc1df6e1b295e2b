//! How the spool's user before this one ended: a file says whether in good order, and its time is the last sign of life.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::write_private;

/// Said in place of the boot's id once everything is on disk.
const CLEAN: &str = "clean";
/// How often a sign of life is given.
const SIGN_EVERY: Duration = Duration::from_secs(1);

/// What the file said at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nobody was here, or whoever was ended in good order.
    Well,
    /// Killed, so long after its last sign of life was given.
    Killed(Duration),
    /// As above, and the machine went down: what was not synced is gone.
    PowerFailed(Duration),
}

/// This user's own file.
#[derive(Debug)]
pub(super) struct Life {
    path: PathBuf,
    boot: String,
    file: Option<File>,
    signed_at: Instant,
}

impl Life {
    /// Begins another life, and says how the one before it ended. The error is the disk's, and costs only this.
    pub(super) fn begin(dir: &Path) -> (Life, Before, Option<io::Error>) {
        let path = dir.join("boot");
        let boot = boot_id();
        let silent = fs::metadata(&path)
            .and_then(|known| known.modified())
            .ok()
            .and_then(|last| SystemTime::now().duration_since(last).ok())
            .unwrap_or_default();
        let before = match fs::read_to_string(&path) {
            Ok(earlier) if earlier.trim() == CLEAN => Before::Well,
            Ok(earlier) if earlier.trim() == boot => Before::Killed(silent),
            Ok(_) => Before::PowerFailed(silent),
            Err(_) => Before::Well,
        };
        let mut life = Life {
            path,
            boot,
            file: None,
            signed_at: Instant::now(),
        };
        let error = life.write().err();
        (life, before, error)
    }

    /// Writes the file anew, as also a disk does that takes small files again.
    pub(super) fn write(&mut self) -> io::Result<()> {
        write_private(&self.path, &self.boot)?;
        self.file = Some(File::open(&self.path)?);
        Ok(())
    }

    /// To be called now and then.
    pub(super) fn sign(&mut self) {
        if self.signed_at.elapsed() < SIGN_EVERY {
            return;
        }
        self.signed_at = Instant::now();
        if let Some(file) = &self.file {
            // A disk that refuses makes the silence longer than it was, and no more.
            let _ = file.set_modified(SystemTime::now());
        }
    }

    /// Everything is on disk: nothing can be missing.
    pub(super) fn end(&self) -> io::Result<()> {
        write_private(&self.path, CLEAN)
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}
