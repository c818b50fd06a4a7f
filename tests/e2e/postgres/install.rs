//! `fanfare postgres install`, `status` and `uninstall`.

use std::net::{Ipv4Addr, TcpListener};

use super::{fanfare, installed, publish, succeed};
use crate::support::postgres::{Postgres, url};

const PARTS: &str = "SELECT count(*) FROM realtime.fanfare_installed";

#[test]
fn install_is_one_transaction_that_can_be_shown_first_and_repeated() {
    let postgres = Postgres::start();
    let shown = succeed(&postgres.url(), &["install", "--dry-run"]);
    assert!(shown.contains("BEGIN;") && shown.ends_with("COMMIT;\n"), "{shown}");
    assert_eq!(postgres.sql("SELECT to_regnamespace('realtime') IS NULL"), "t");
    let missing = fanfare(&postgres.url(), &["status"]);
    assert_eq!(missing.status.code(), Some(1));

    let made = succeed(&postgres.url(), &["install"]);
    assert!(made.contains("made     table realtime.messages"), "{made}");
    let parts = postgres.sql(PARTS);
    assert_eq!(succeed(&postgres.url(), &["install"]), "nothing is missing\n");
    assert_eq!(postgres.sql(PARTS), parts);
    let status = succeed(&postgres.url(), &["status"]);
    assert!(status.contains("waiting  0 rows\ncaptures no node"), "{status}");

    // What is shown is what is done.
    let other = Postgres::start();
    other.sql(&shown);
    assert_eq!(succeed(&other.url(), &["install"]), "nothing is missing\n");
}

#[test]
fn public_may_execute_nothing() {
    let postgres = installed();
    postgres.sql("CREATE ROLE app; GRANT USAGE ON SCHEMA realtime TO app; CREATE TABLE t (id int)");
    for call in
        ["publish('a', 'b', '{}')", "watch('t')", "unwatch('t')", "fanfare_part('{}', '{}')"]
    {
        let error = postgres.try_sql(&format!("SET ROLE app; SELECT realtime.{call}"));
        assert!(
            error.as_ref().is_err_and(|error| error.contains("permission denied")),
            "{error:?}"
        );
    }
    postgres.sql("GRANT EXECUTE ON FUNCTION realtime.publish TO app");
    postgres.sql("SET ROLE app; SELECT realtime.publish('a', 'b', '{}')");
}

#[test]
fn uninstall_keeps_rows_unless_they_are_to_go() {
    let postgres = installed();
    postgres.sql("CREATE TABLE orders (id int PRIMARY KEY); SELECT realtime.watch('orders')");
    postgres.sql(&publish("orders", 1));
    let kept = succeed(&postgres.url(), &["uninstall"]);
    assert!(kept.contains("kept     table realtime.messages, with its rows"), "{kept}");
    assert_eq!(postgres.sql("SELECT count(*) FROM realtime.messages"), "1");
    postgres.sql("INSERT INTO orders VALUES (1)");
    assert_eq!(postgres.sql("SELECT count(*) FROM realtime.messages"), "1", "it is not watched");

    succeed(&postgres.url(), &["install"]);
    succeed(&postgres.url(), &["uninstall", "--drop-data"]);
    assert_eq!(postgres.sql("SELECT to_regnamespace('realtime') IS NULL"), "t");
    let nothing = succeed(&postgres.url(), &["uninstall"]);
    assert!(nothing.contains("nothing here was made"), "{nothing}");
}

#[test]
fn a_database_that_cannot_be_reached_or_is_not_set_says_what_to_do() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    drop(listener);
    let output = fanfare(&url(port), &["status"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("is it running there") && !error.contains("postgres@"), "{error}");
    let output = fanfare("mysql://root:hunter2@localhost/app", &["status"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("postgres.url") || error.contains("FANFARE_POSTGRES_URL"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn uninstall_removes_nothing_of_others_and_says_what_it_is() {
    let postgres = installed();
    postgres.sql(
        "CREATE TYPE realtime.colour AS ENUM ('red'); CREATE DOMAIN realtime.amount AS int; \
         CREATE FUNCTION realtime.publish(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    let kept = succeed(&postgres.url(), &["uninstall"]);
    for other in ["schema realtime, in which others have", "type realtime.colour", "publish(text)"]
    {
        assert!(kept.contains(other), "{other}: {kept}");
    }
    let left = "SELECT to_regtype('realtime.colour') IS NOT NULL \
                AND to_regtype('realtime.amount') IS NOT NULL \
                AND to_regprocedure('realtime.publish(text)') IS NOT NULL \
                AND to_regclass('realtime.messages') IS NULL";
    assert_eq!(postgres.sql(left), "t");
}

#[test]
fn uninstall_says_what_others_have_made_of_the_tables() {
    let postgres = installed();
    postgres.sql("CREATE VIEW seen AS SELECT * FROM realtime.messages");
    let output = fanfare(&postgres.url(), &["uninstall"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("view public.seen depends on"), "{error}");
    assert_eq!(postgres.sql("SELECT count(*) FROM seen"), "0");
}

#[test]
fn a_table_that_cannot_be_used_is_refused_before_anything_is_made() {
    for (columns, said) in [
        ("id text", "realtime.messages.id is not of the type uuid, but text"),
        ("id uuid", "lacks the column channel_name"),
    ] {
        let postgres = Postgres::start();
        postgres
            .sql(&format!("CREATE SCHEMA realtime; CREATE TABLE realtime.messages ({columns})"));
        let output = fanfare(&postgres.url(), &["install"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains(said), "{error}");
        assert_eq!(postgres.sql("SELECT to_regclass('realtime.channels') IS NULL"), "t");
    }
}
