//! The store: one SQLite database, written by one thread, read by whoever may read its directory.
//!
//! Events lie in it as they came, in protobuf, under (agent, sequence): that pair is what makes a second delivery the
//! same event. Beside it are only the columns that questions start from; everything else is asked of the event itself,
//! so that a new field needs no new column.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

pub mod event;
pub mod query;
pub mod writer;

#[cfg(test)]
mod tests;

/// Layout of the tables; a store of another one is refused.
const LAYOUT: i64 = 1;
const DATABASE: &str = "events.db";
const LOCK: &str = "lock";
/// Waiting for a lock of the database, ms: readers hold none that writers wait for in WAL mode, checkpoints excepted.
const BUSY_MS: u64 = 5_000;

const SCHEMA: &str = "
CREATE TABLE agents (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    hello BLOB,
    heartbeat BLOB,
    last_seen_ns INTEGER NOT NULL DEFAULT 0,
    events INTEGER NOT NULL DEFAULT 0,
    acknowledged INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE events (
    agent INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (agent, sequence)
) WITHOUT ROWID;
CREATE INDEX events_by_time ON events (time_ns);
";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path} cannot be used ({source}): check that it is a directory that this user may write")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("another collector writes to {0}: stop it, or give this one a directory of its own with --data")]
    Locked(PathBuf),
    #[error("{0} holds no store: give the directory that `run --data` was given")]
    Missing(PathBuf),
    #[error("{path} has layout {found}, and this program knows {LAYOUT}: use the version that made it")]
    Layout { path: PathBuf, found: i64 },
    #[error("the store: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// The directory, held by this process alone as long as it lives.
#[derive(Debug)]
pub struct Directory {
    pub path: PathBuf,
    _lock: fs::File,
}

impl Directory {
    /// Makes the directory (0700) if need be, and takes it.
    pub fn take(path: &Path) -> Result<Directory, StoreError> {
        let failed = |source| StoreError::Directory {
            path: path.to_owned(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let lock = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(failed)?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(StoreError::Locked(path.to_owned()));
        }
        Ok(Directory {
            path: path.to_owned(),
            _lock: lock,
        })
    }
}

/// Opens the database for writing; makes it (0600) if it is not there.
pub fn open(directory: &Directory) -> Result<Connection, StoreError> {
    let path = directory.path.join(DATABASE);
    // SQLite gives the files beside it the mode of the database.
    fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| StoreError::Directory {
            path: path.clone(),
            source,
        })?;
    let connection = Connection::open(&path)?;
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_MS))?;
    // Before the first table: freed pages can be given back later. An acknowledged event must survive the host's
    // crash too, hence FULL: one fsync per commit, and commits are grouped.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    match layout(&connection)? {
        0 => {
            connection.execute_batch(&format!(
                "BEGIN; {SCHEMA} PRAGMA user_version = {LAYOUT}; COMMIT;"
            ))?;
        }
        LAYOUT => {}
        found => return Err(StoreError::Layout { path, found }),
    }
    Ok(connection)
}

/// Opens the database of `directory` for reading, also while a collector writes to it.
pub fn open_read_only(directory: &Path) -> Result<Connection, StoreError> {
    let path = directory.join(DATABASE);
    if !path.exists() {
        return Err(StoreError::Missing(directory.to_owned()));
    }
    let connection = Connection::open_with_flags(
        &path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_MS))?;
    connection.pragma_update(None, "query_only", true)?;
    match layout(&connection)? {
        LAYOUT => Ok(connection),
        found => Err(StoreError::Layout { path, found }),
    }
}

fn layout(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Bytes of the database that are in use.
pub fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok((pages * pragma("page_size")?).max(0) as u64)
}

/// Now, Unix nanoseconds.
pub fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
