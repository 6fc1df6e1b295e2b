//! How the spool's user before this one ended: a file says whether in good order.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::write_private;

/// Said in place of the boot's id once everything is on disk.
const CLEAN: &str = "clean";

/// This user's own file.
#[derive(Debug)]
pub(super) struct Life {
    path: PathBuf,
    boot: String,
}

impl Life {
    /// Begins another life, and says whether the machine went down during the one before it: then what was not synced is
    /// gone. The error is the disk's, and costs only this.
    pub(super) fn begin(dir: &Path) -> (Life, bool, Option<io::Error>) {
        let life = Life {
            path: dir.join("boot"),
            boot: boot_id(),
        };
        let power_failed = fs::read_to_string(&life.path).is_ok_and(|earlier| {
            let earlier = earlier.trim();
            earlier != CLEAN && earlier != life.boot
        });
        let error = life.write().err();
        (life, power_failed, error)
    }

    /// Writes the file anew, as also a disk does that takes small files again.
    pub(super) fn write(&self) -> io::Result<()> {
        write_private(&self.path, &self.boot)
    }

    /// Everything is on disk: nothing can be missing.
    pub(super) fn end(&self) -> io::Result<()> {
        write_private(&self.path, CLEAN)
    }
}

/// The kernel's name for the time since the machine was started.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}
