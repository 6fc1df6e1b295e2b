//! The links of probes that outlive the agent.
//!
//! One thread attaches probes, whenever a library turns up; another keeps what is in force, or lets go of it. Here they
//! meet: while something is kept, every link has a name in the run's directory, and a link ends with its last name.
//!
//! It must not know what is probed, nor why it is kept.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::links;

/// All of one run; copies are the same shelf.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Arc<Mutex<Shelved>>);

#[derive(Debug, Default)]
struct Shelved {
    /// Where their names are, while they are kept.
    directory: Option<PathBuf>,
    links: BTreeMap<u64, Arc<OwnedFd>>,
    next: u64,
    /// Links that could not be kept as the others are.
    unkept: u64,
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, Shelved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a link there, and says under which number. Where it cannot be kept as the others are, it ends with the agent.
    pub(super) fn put(&self, link: Arc<OwnedFd>) -> u64 {
        let mut shelved = self.lock();
        let number = shelved.next;
        shelved.next += 1;
        if let Some(directory) = &shelved.directory {
            let path = directory.join(name_of(number));
            if let Err(error) = links::pin(link.as_fd(), &path) {
                shelved.unkept += 1;
                tracing::error!(
                    "what is enforced at a TLS library ends with the agent: {}: {error}",
                    path.display()
                );
            }
        }
        shelved.links.insert(number, link);
        number
    }

    /// It is taken off for good, whatever becomes of the agent.
    pub(super) fn take(&self, number: u64) {
        let mut shelved = self.lock();
        shelved.links.remove(&number);
        if let Some(directory) = &shelved.directory {
            // Where it has no name, none was to be had.
            let _ = fs::remove_file(directory.join(name_of(number)));
        }
    }

    /// From now on every link is kept in this directory, those too that are put here later.
    pub(super) fn keep(&self, directory: &Path) -> io::Result<()> {
        let mut shelved = self.lock();
        if shelved.directory.is_some() {
            return Ok(());
        }
        for (number, link) in &shelved.links {
            links::pin(link.as_fd(), &directory.join(name_of(*number)))?;
        }
        shelved.directory = Some(directory.into());
        Ok(())
    }

    /// From now on none is. Their names are whoever's who removes the directory.
    pub(super) fn let_go(&self) {
        let mut shelved = self.lock();
        (shelved.directory, shelved.unkept) = (None, 0);
    }

    /// How many end with the agent although the others are kept.
    pub(super) fn unkept(&self) -> u64 {
        self.lock().unkept
    }

    /// They outlive the agent.
    pub fn is_kept(&self) -> bool {
        self.lock().directory.is_some()
    }
}

fn name_of(number: u64) -> String {
    format!("link-probe-{number}")
}
