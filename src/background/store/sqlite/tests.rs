//! The store's file: how it is set up, probed, flushed, refused and migrated.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use uuid::Uuid;

use super::super::Fault;
use super::super::channels::tests::{channel, fresh};
use super::super::schema::SCHEMA;
use super::*;
use crate::message::{ChannelDefinition, ChannelOptions};

#[test]
fn a_store_that_cannot_be_written_says_so_until_it_can() {
    let (_directory, path, store) = fresh();
    store.probe().unwrap();
    store.connection.busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.probe().expect("nothing has failed yet");
    store.insert_channel(&channel(1, "a")).unwrap_err();
    assert!(matches!(store.probe(), Err(StoreError::Busy { .. })));
    other.execute_batch("COMMIT").unwrap();
    store.probe().unwrap();
}

#[test]
fn a_store_whose_file_is_gone_says_so() {
    let (_directory, path, store) = fresh();
    fs::remove_file(&path).unwrap();
    assert!(matches!(store.probe(), Err(StoreError::Unusable { .. })));
}

#[test]
fn a_flush_beside_a_reader_leaves_what_is_new_in_the_log() {
    let (_directory, path, store) = fresh();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN; SELECT count(*) FROM channels").unwrap();
    store.insert_channel(&channel(1, "a")).unwrap();
    store.flush().unwrap();
    drop((store, other));
    assert_eq!(Store::open(&path).unwrap().channels().unwrap().len(), 1);
}

#[test]
fn a_refused_change_is_no_failure_of_the_store() {
    let (_directory, _path, store) = fresh();
    store.insert_channel(&channel(1, "a")).unwrap();
    store.insert_channel(&channel(2, "a")).unwrap_err();
    assert!(!store.is_ailing.get());
}

#[test]
fn a_flush_leaves_nothing_in_the_log() {
    let (_directory, path, store) = fresh();
    store.insert_channel(&channel(1, "a")).unwrap();
    let log = path.with_extension("db-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0);
    store.flush().unwrap();
    assert_eq!(fs::metadata(&log).unwrap().len(), 0);
}

#[test]
fn the_file_is_set_up_as_promised() {
    let (_directory, path, store) = fresh();
    let pragma = |name: &str| -> String {
        let query = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
        store.connection.query_row(&query, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(pragma("journal_mode"), "wal");
    assert_eq!(pragma("synchronous"), "1");
    assert_eq!(pragma("foreign_keys"), "1");
    assert_eq!(pragma("user_version"), SCHEMA_VERSION.to_string());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
}

fn refusal(path: &Path) -> StoreError {
    let refusal = Store::open(path).unwrap_err();
    assert_eq!(refusal.fault(), Fault::Operator);
    assert!(refusal.to_string().contains(path.parent().unwrap().to_str().unwrap()));
    refusal
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let below_a_file = refusal(&file.join("fanfare.db"));
    assert!(matches!(below_a_file, StoreError::Unusable { .. }), "{below_a_file}");
    let a_directory = refusal(directory.path());
    assert!(matches!(a_directory, StoreError::Unusable { .. }), "{a_directory}");
}

#[test]
fn a_read_only_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o500)).unwrap();
    // Permissions do not bind root, so a directory of the kernel's takes the part of a read-only
    // one.
    let bound = fs::write(directory.path().join("probe"), "").is_err();
    let read_only = if bound { directory.path() } else { Path::new("/proc/self") };
    let refused = refusal(&read_only.join("fanfare.db"));
    assert!(matches!(refused, StoreError::Unusable { .. }), "{refused}");
    assert!(!refused.is_temporary());
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fanfare.db");
    let garbage = "not a database, and longer than the header of one ".repeat(100);
    fs::write(&path, &garbage).unwrap();
    let refused = refusal(&path);
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), garbage);
}

#[test]
fn another_programs_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fanfare.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let refused = refusal(&path);
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
}

#[test]
fn damage_inside_the_file_is_found() {
    let (_directory, path, store) = fresh();
    for number in 0..500 {
        store.insert_channel(&channel(number, &format!("p{number}"))).unwrap();
    }
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    assert!(bytes.len() > 16 * 4_096, "the log was folded into the file at close");
    bytes[8 * 4_096..].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let refused = Store::open(&path).and_then(|store| store.channels()).unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
}

#[test]
fn a_later_releases_file_is_refused() {
    let (_directory, path, store) = fresh();
    store.connection.pragma_update(None, "user_version", 700).unwrap();
    drop(store);
    let refused = refusal(&path);
    let StoreError::Newer { found: 700, known: SCHEMA_VERSION, .. } = refused else {
        panic!("{refused}");
    };
}

#[test]
fn a_file_of_the_first_release_is_brought_to_this_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fanfare.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(SCHEMA[0]).unwrap();
    let row = "INSERT INTO channels VALUES
               ('00000000-0000-0000-0000-000000000001', 'a:*', 'd', '[]', 1, 5, 6)";
    old.execute_batch(row).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    let expected = ChannelDefinition {
        id: Uuid::from_u128(1),
        pattern: "a:*".into(),
        description: Some("d".into()),
        webhook_urls: Some(vec![]),
        enabled: true,
        options: ChannelOptions::default(),
        created_at: 5,
        updated_at: 6,
    };
    let store = Store::open(&path).unwrap();
    assert_eq!(store.channels().unwrap(), std::slice::from_ref(&expected));
    drop(store);
    assert_eq!(Store::open(&path).unwrap().channels().unwrap(), [expected]);
}

#[test]
fn a_locked_file_is_reported_as_busy() {
    let (_directory, path, store) = fresh();
    store.connection.busy_timeout(Duration::from_millis(20)).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.insert_channel(&channel(1, "a")).unwrap_err();
    assert!(matches!(refused, StoreError::Busy { .. }) && refused.is_temporary(), "{refused}");
    other.execute_batch("ROLLBACK").unwrap();
    store.insert_channel(&channel(1, "a")).unwrap();
}
