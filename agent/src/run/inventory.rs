//! The inventory outlasts a restart and tells what has changed: a file in the state directory, and events.
//!
//! Encoding and writing are done beside the pipeline. A file that cannot be read or written is said, and done without.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Agent;
use crate::detect::Inventory;
use crate::detect::inventory::Kept;
use crate::export::clock;
use crate::export::{inventory, spool};

/// Its name in the state directory.
const FILE: &str = "inventory";
/// A file of ours is smaller: some kilobytes an endpoint.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// How often changes become events, and the file is written.
const EVERY: Duration = Duration::from_secs(60);

/// When it was told last.
#[derive(Debug)]
pub(super) struct Telling {
    path: PathBuf,
    told: Instant,
}

impl Telling {
    /// `directory`: the state directory.
    pub fn new(directory: &Path) -> Self {
        Telling {
            path: directory.join(FILE),
            told: Instant::now(),
        }
    }
}

/// What the last run has left.
pub(super) fn restore(directory: &Path, into: &mut Inventory) {
    let path = directory.join(FILE);
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(&path)?
            .take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => match inventory::decode(&bytes) {
            Some(kept) => into.restore(kept),
            None => {
                tracing::warn!(path = %path.display(), "the inventory cannot be read, and is learnt anew")
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(path = %path.display(), %error, "the inventory is learnt anew"),
    }
}

impl Agent {
    /// Now and then, and at the end (`last`): changes become events, and the file is written.
    pub(super) fn tell_inventory(&mut self, last: bool) {
        if !last && self.telling.told.elapsed() < EVERY {
            return;
        }
        self.telling.told = Instant::now();
        let known = &mut self.pipeline.judge.inventory;
        known.evict(clock::wall_ns());
        let (changed, gone) = known.take_changed();
        if changed.is_empty() && gone.is_empty() {
            return;
        }
        self.exports.send(inventory::events(&changed, &gone));
        let (kept, path) = (known.keep(), self.telling.path.clone());
        if last {
            write(&path, &kept);
        } else {
            self.exports.runtime().spawn_blocking(move || write(&path, &kept));
        }
    }
}

/// In one step: a torn file would be no inventory.
fn write(path: &Path, kept: &Kept) {
    let partial = path.with_extension("new");
    let write = || -> io::Result<()> {
        if let Some(directory) = path.parent() {
            spool::make_private(directory)?;
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(&inventory::encode(kept))?;
        fs::rename(&partial, path)
    };
    if let Err(error) = write() {
        tracing::warn!(path = %path.display(), %error, "the inventory is not kept over a restart");
    }
}
