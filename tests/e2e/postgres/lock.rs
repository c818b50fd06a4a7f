//! Who may keep a node from publishing the rows.

use std::thread;
use std::time::{Duration, Instant};

use super::{
    health, hear_numbers, installed, is_well, listen, node_of, publish, succeed,
    wait_until_capturing,
};
use crate::support::wait_until;

/// The rights that a node needs.
const SERVING: &str = "CREATE ROLE serving LOGIN; GRANT USAGE ON SCHEMA realtime TO serving; \
    GRANT SELECT, UPDATE ON realtime.messages TO serving; \
    GRANT UPDATE ON realtime.fanfare_capture TO serving";
const LOCK: &str = "BEGIN; LOCK TABLE realtime.fanfare_capture IN ACCESS EXCLUSIVE MODE NOWAIT";
const HELD: &str = "SELECT count(*) FROM pg_locks \
    WHERE relation = 'realtime.fanfare_capture'::regclass AND mode = 'AccessExclusiveLock'";

#[test]
fn roles_without_the_right_to_it_cannot_take_the_lock() {
    let postgres = installed();
    postgres.sql(SERVING);
    postgres.sql(
        "CREATE ROLE app; GRANT USAGE ON SCHEMA realtime TO app; \
         GRANT SELECT ON realtime.fanfare_capture TO app; \
         GRANT EXECUTE ON FUNCTION realtime.publish TO app",
    );
    let error = postgres.try_sql(&format!("SET ROLE app; {LOCK}")).unwrap_err();
    assert!(error.contains("permission denied for view fanfare_capture"), "{error}");
    let node = node_of(postgres.url_of("serving"), &["orders"]);
    wait_until_capturing(&node);
    // VACUUM of everything does not wait for the node.
    postgres.sql("SET statement_timeout = '20s'; VACUUM");
    let error = postgres.try_sql(LOCK).unwrap_err();
    assert!(error.contains("could not obtain lock"), "{error}");
}

#[test]
fn a_session_of_another_role_that_holds_the_lock_is_named_until_it_lets_go() {
    let postgres = installed();
    postgres.sql(SERVING);
    thread::scope(|scope| {
        let holding = scope.spawn(|| postgres.sql(&format!("{LOCK}; SELECT pg_sleep(6)")));
        wait_until("the lock is held", || postgres.sql(HELD) == "1");
        let node = node_of(postgres.url_of("serving"), &["orders"]);
        wait_until("health says so", || health(&node).1["status"] == "degraded");
        let text = health(&node).1["degraded"].to_string();
        for part in ["postgres, process ", "serving cannot see", "pg_terminate_backend"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(node.metric("fanfare_postgres_failing"), 1);
        assert!(node.output().contains("holds the lock of the node that publishes rows"));
        holding.join().expect("it lets go");
        wait_until_capturing(&node);
        assert!(is_well(&node));
        let mut stream = listen(&node, &["orders"]);
        postgres.sql(&publish("orders", 1));
        assert_eq!(hear_numbers(&mut stream, 1), [1]);
    });
}

#[test]
fn a_session_of_the_nodes_own_role_that_is_silent_is_ended() {
    let postgres = installed();
    let began = Instant::now();
    thread::scope(|scope| {
        // Silent for 3 s in a transaction: a client that thinks.
        scope.spawn(|| postgres.try_sql(&format!("{LOCK};\n\\! sleep 8\nSELECT 1")));
        wait_until("the lock is held", || postgres.sql(HELD) == "1");
        let node = node_of(postgres.url(), &["orders"]);
        wait_until_capturing(&node);
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    });
}

#[test]
fn the_user_of_a_node_can_see_the_state_and_is_told_what_it_lacks() {
    let postgres = installed();
    postgres.sql("CREATE ROLE serving LOGIN");
    let lacks = |right: &str| {
        let output = super::fanfare(&postgres.url_of("serving"), &["status"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(right) && error.contains("42501"), "{error}");
    };
    lacks("USAGE on the schema realtime");
    let node = node_of(postgres.url_of("serving"), &["orders"]);
    wait_until("health says so", || {
        health(&node).1["degraded"].to_string().contains("USAGE on the schema realtime")
    });
    postgres.sql("GRANT USAGE ON SCHEMA realtime TO serving");
    lacks("SELECT and UPDATE on realtime.messages");
    postgres.sql("GRANT SELECT, UPDATE ON realtime.messages TO serving");
    wait_until("health says so", || {
        let text = health(&node).1["degraded"].to_string();
        text.contains("GRANT UPDATE ON realtime.fanfare_capture TO serving")
    });
    postgres.sql("GRANT UPDATE ON realtime.fanfare_capture TO serving");
    wait_until_capturing(&node);
    let status = succeed(&postgres.url_of("serving"), &["status"]);
    assert!(status.contains("made by `fanfare postgres install`"), "{status}");
    assert!(status.contains("captures fanfare, as serving, from 127.0.0.1, since 2"), "{status}");
    postgres.sql("REVOKE SELECT ON realtime.fanfare_installed FROM PUBLIC");
    let status = succeed(&postgres.url_of("serving"), &["status"]);
    assert!(status.contains("may not read realtime.fanfare_installed"), "{status}");
}

#[test]
fn what_the_node_sends_to_itself_cannot_be_guessed() {
    let postgres = installed();
    let node = node_of(postgres.url(), &["orders"]);
    wait_until_capturing(&node);
    let heard = postgres.sql("LISTEN fanfare_echo; SELECT pg_sleep(3.5); SELECT 1");
    let numbers: Vec<u64> = heard
        .split("with payload \"")
        .skip(1)
        .filter_map(|text| text.split_once('"')?.0.parse().ok())
        .collect();
    assert!(numbers.len() >= 2, "{heard}");
    assert!(numbers.iter().all(|number| *number > 1_000_000), "{numbers:?}");
    assert!(numbers[0].abs_diff(numbers[1]) > 1_000_000, "{numbers:?}");
}
