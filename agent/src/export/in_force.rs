//! What was last accepted of each kind of change, so that a record can say what was before: over restarts too.
//!
//! Names only: modes, digests, words of the configuration. Kept in the state directory, best effort: without it the
//! first record after a start does not know what was before, and says nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Its name in the state directory.
const FILE: &str = "in-force";
/// A file of ours is far smaller.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The table.
#[derive(Debug, Default)]
pub(super) struct InForce {
    path: Option<PathBuf>,
    names: BTreeMap<String, String>,
}

impl InForce {
    /// With what the last run left in the directory. One line a kind: its name, a tab, what is in force.
    pub fn open(directory: Option<&Path>) -> Self {
        let path = directory.map(|directory| directory.join(FILE));
        let read = |path: &PathBuf| {
            let small = fs::metadata(path).is_ok_and(|found| found.len() <= FILE_BYTES_MAX);
            small.then(|| fs::read_to_string(path).ok()).flatten()
        };
        let text = path.as_ref().and_then(read).unwrap_or_default();
        let names = text
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(what, name)| (what.to_owned(), name.to_owned()))
            .collect();
        InForce { path, names }
    }

    /// Empty if it is not known.
    pub fn get(&self, what: &str) -> String {
        self.names.get(what).cloned().unwrap_or_default()
    }

    pub fn set(&mut self, what: &str, name: &str) {
        let name = name.replace(['\t', '\n'], " ");
        if self.names.get(what) == Some(&name) {
            return;
        }
        self.names.insert(what.to_owned(), name);
        if let Some(path) = &self.path
            && let Err(error) = self.write(path)
        {
            tracing::debug!(path = %path.display(), %error, "what is in force is not remembered over a restart");
        }
    }

    /// In one step: a torn file would tell of what never was.
    fn write(&self, path: &Path) -> std::io::Result<()> {
        let partial = path.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        for (what, name) in &self.names {
            writeln!(file, "{what}\t{name}")?;
        }
        fs::rename(&partial, path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_remembered_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let mut table = InForce::open(Some(dir.path()));
        assert_eq!(table.get("mode"), "");
        table.set("mode", "enforce");
        table.set("scope", "cgroup /a\n\tb");
        let again = InForce::open(Some(dir.path()));
        assert_eq!(
            (again.get("mode").as_str(), again.get("scope").as_str()),
            ("enforce", "cgroup /a  b")
        );
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(dir.path().join(FILE), vec![b'x'; 100_000]).unwrap();
        assert_eq!(InForce::open(Some(dir.path())).get("mode"), "", "not one of ours");
        let mut nowhere = InForce::open(None);
        nowhere.set("mode", "observe");
        assert_eq!(nowhere.get("mode"), "observe");
        InForce::open(Some(Path::new("/nonexistent"))).set("mode", "observe");
    }
}
