//! The store's file: how it is created, identified and set up.

use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::StoreError;
use super::fault::failed;

/// How long a statement waits for another process, such as a backup, to release the file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Creates the directory and the file if they are missing. The errors of the standard library say
/// more plainly than SQLite's why that is impossible.
fn make(path: &Path) -> Result<(), StoreError> {
    if let Some(directory) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|fault| StoreError::unusable(directory, &fault))?;
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(fault) if fault.kind() != ErrorKind::AlreadyExists => {
            Err(StoreError::unusable(path, &fault))
        }
        // An existing file must not be opened here: closing it would drop the locks that another
        // store of this process holds on it (POSIX locks belong to the process).
        _ => Ok(()),
    }
}

/// Opens a file for one thread, and creates it and its directories if they are missing. Returns
/// whether commits go to a write-ahead log.
pub(super) fn open(path: &Path) -> Result<(Connection, bool), StoreError> {
    make(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|fault| failed(path, fault))?;
    refuse_read_only(&connection, path)?;
    let has_log = configure(&connection).map_err(|fault| failed(path, fault))?;
    Ok((connection, has_log))
}

/// Refuses a file that cannot be written, because SQLite silently opens it for reading.
fn refuse_read_only(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    if connection.is_readonly("main").map_err(|fault| failed(path, fault))? {
        return Err(StoreError::unusable(path, &ErrorKind::PermissionDenied.into()));
    }
    Ok(())
}

/// Sets the connection up. Returns whether commits go to a write-ahead log.
fn configure(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let journal: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    // With a write-ahead log, NORMAL cannot damage the file at a power cut. It may lose the last
    // commits, as if the node had stopped a moment earlier. Some network file systems deny the log,
    // and the rollback journal is safe only with FULL.
    let has_log = journal == "wal";
    connection.pragma_update(None, "synchronous", if has_log { "NORMAL" } else { "FULL" })?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(has_log)
}

/// Returns the device and inode of the file that the path names now; `None` if there is no such
/// file.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|found| (found.dev(), found.ino()))
}
