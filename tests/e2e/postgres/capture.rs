//! Which rows are heard, when, and in which order.

use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{
    health, hear, hear_numbers, installed, is_well, listen, node_of, publish, succeed,
    wait_until_capturing,
};
use crate::support::postgres::{Postgres, url};
use crate::support::proxy::Proxy;
use crate::support::{Node, wait_until};

#[test]
fn a_committed_row_is_heard_with_its_id_and_one_that_is_rolled_back_is_not() {
    let postgres = installed();
    let node = node_of(postgres.url(), &["orders"]);
    let mut stream = listen(&node, &["orders"]);
    postgres.sql(&format!("BEGIN; {} ROLLBACK", publish("orders", 1)));
    let insert = "SELECT realtime.publish('orders', 'INSERT', '{\"id\":7,\"status\":\"new\"}')";
    let id = postgres.sql(insert);
    let heard = hear(&mut stream);
    let expected = json!({
        "channel": "orders", "messageId": id, "senderType": "system", "senderId": null,
        "payload": { "id": 7, "status": "new" },
    });
    assert_eq!((heard.name.as_str(), &heard.data), ("INSERT", &expected));
    let (_, history) = node.admin("GET", "/api/realtime/messages", &json!(null));
    assert_eq!((&history[0]["id"], history.as_array().map(Vec::len)), (&json!(id), Some(1)));
    let marked = "SELECT count(*) FROM realtime.messages \
                  WHERE dispatched_at IS NOT NULL AND ws_audience_count = 1";
    wait_until("the row is marked", || postgres.sql(marked) == "1");
}

#[test]
fn rows_are_heard_in_the_order_of_commits() {
    let postgres = installed();
    let node = node_of(postgres.url(), &["orders"]);
    wait_until_capturing(&node);
    let mut stream = listen(&node, &["orders"]);
    let slow = format!(
        "BEGIN; {} SELECT pg_sleep(0.5); {} COMMIT",
        publish("orders", 1),
        publish("orders", 2)
    );
    thread::scope(|scope| {
        scope.spawn(|| postgres.sql(&slow));
        wait_until("the first transaction has begun", || {
            postgres.sql(
                "SELECT count(*) FROM pg_locks WHERE relation = 'realtime.messages'::regclass \
                          AND mode = 'RowExclusiveLock'",
            ) != "0"
        });
        postgres.sql(&publish("orders", 3));
    });
    assert_eq!(hear_numbers(&mut stream, 3), [3, 1, 2]);
    let many: String = (4..204).map(|number| publish("orders", number)).collect();
    postgres.sql(&many);
    assert_eq!(hear_numbers(&mut stream, 200), (4..204).collect::<Vec<_>>());
}

#[test]
fn rows_that_cannot_be_published_are_counted_and_logged_by_reason() {
    let postgres = installed();
    let node = node_of(postgres.url(), &["orders"]);
    wait_until_capturing(&node);
    let mut stream = listen(&node, &["orders"]);
    let insert = |channel: &str, event: &str| {
        format!(
            "INSERT INTO realtime.messages (channel_name, event_name, payload) \
             VALUES ('{channel}', '{event}', '{{}}');"
        )
    };
    postgres.sql(&[publish("nowhere", 1), publish("nowhere", 2), insert("orders", "gap")].concat());
    postgres.sql(&(insert("orders", "connect") + &publish("orders", 2)));
    assert_eq!(hear_numbers(&mut stream, 1), [2]);
    assert_eq!(node.metric("fanfare_postgres_rows_skipped_total"), 4);
    let metrics = node.request("GET", "/metrics", &[], b"").body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    for (why, count) in [("no_channel", 2), ("event", 2), ("channel", 0), ("payload", 0)] {
        let sample = format!("rows_skipped_total{{why=\"{why}\"}} {count}\n");
        assert!(metrics.contains(&sample), "{sample}");
    }
    for rule in ["has no channel", "reserved for the server", "reserved by Socket.IO"] {
        assert!(node.output().contains(rule), "one reason hides another: {rule}");
    }
}

#[test]
fn publish_refuses_what_the_node_would_not_publish() {
    let postgres = installed();
    for (wrong, said) in [
        ("'', 'e', '{}'", "1 to 512 bytes"),
        ("repeat('c', 513), 'e', '{}'", "1 to 512 bytes"),
        ("repeat('é', 257), 'e', '{}'", "1 to 512 bytes"),
        ("'c', NULL, '{}'", "1 to 512 bytes"),
        ("'c', repeat('e', 513), '{}'", "1 to 512 bytes"),
        ("'c', 'connect', '{}'", "another name"),
        ("'c', 'presence:join', '{}'", "another name"),
        ("'c', 'e', to_jsonb(repeat('x', 65535))", "part of an object"),
        ("'c', 'e', jsonb_build_array(repeat('x', 65535))", "part of an object"),
        ("'c', 'e', jsonb_build_object('x', repeat('x', 900000))", "HINT"),
    ] {
        let error = postgres.try_sql(&format!("SELECT realtime.publish({wrong})")).unwrap_err();
        assert!(error.contains(said), "{wrong}: {error}");
    }
    let node = node_of(postgres.url(), &["*"]);
    postgres.sql(
        "SELECT realtime.publish(repeat('c', 512), repeat('e', 512), to_jsonb(repeat('x', 65534))), \
         realtime.publish('c', 'Connect', jsonb_build_object('x', repeat('x', 899000)))",
    );
    wait_until("they are published", || node.metric("fanfare_postgres_rows_total") == 2);
    assert_eq!(node.metric("fanfare_postgres_rows_skipped_total"), 0);
}

#[test]
fn long_rows_are_read_once() {
    let postgres = installed();
    // Text that does not become shorter: 40 rows of 640 kB.
    postgres.sql(
        "SELECT realtime.publish('orders', 'tick', jsonb_build_object('n', n, 'x', x)) \
         FROM generate_series(0, 39) AS n, LATERAL (SELECT string_agg(md5(n || '-' || i), '') AS x \
           FROM generate_series(1, 20000) AS i) AS texts",
    );
    let read = || -> u64 {
        let blocks = "SELECT pg_stat_clear_snapshot(); SELECT toast_blks_hit + toast_blks_read \
                      FROM pg_statio_user_tables WHERE relname = 'messages'";
        postgres.sql(blocks).trim().parse().expect("it is a number")
    };
    let written = read();
    let node = node_of(postgres.url(), &["orders"]);
    wait_until("all are published", || node.metric("fanfare_postgres_rows_total") == 40);
    drop(node);
    let blocks: u64 = postgres
        .sql("SELECT sum(pg_column_size(payload)) / 2000 FROM realtime.messages")
        .parse()
        .expect("it is a number");
    wait_until("the server has counted", || read() > written);
    let times = (read() - written) as f64 / blocks as f64;
    assert!(times < 2.0, "each row was read {times:.1} times");
}

#[test]
fn rows_without_a_notification_are_found() {
    let postgres = installed();
    let node = node_of(postgres.url(), &["orders"]);
    wait_until_capturing(&node);
    let mut stream = listen(&node, &["orders"]);
    postgres.sql("ALTER TABLE realtime.messages DISABLE TRIGGER fanfare_bell");
    let many: String = (0..1_200).map(|number| publish("orders", number)).collect();
    postgres.sql(&many);
    assert_eq!(hear_numbers(&mut stream, 1_200), (0..1_200).collect::<Vec<_>>());
    wait_until("the rows are marked", || {
        postgres.sql("SELECT count(*) FROM realtime.messages WHERE dispatched_at IS NULL") == "0"
    });
    assert_eq!(node.metric("fanfare_postgres_rows_total"), 1_200, "each once");
}

#[test]
fn rows_written_while_the_node_was_away_come_first() {
    let postgres = installed();
    let mut node = node_of(postgres.url(), &["orders"]);
    wait_until_capturing(&node);
    node.kill();
    postgres.sql(&(0..20).map(|number| publish("orders", number)).collect::<String>());
    let proxy = Proxy::to(postgres.port());
    drop(proxy);
    node.start_again(node.port());
    let written = "SELECT count(*) FROM realtime.messages WHERE dispatched_at IS NOT NULL";
    wait_until("the rows are published", || postgres.sql(written) == "20");
    let path = "/api/realtime/messages";
    let (_, history) = node.admin("GET", path, &json!(null));
    let numbers = history.as_array().expect("a list").iter().rev();
    let numbers: Vec<_> = numbers.map(|message| message["payload"]["n"].as_u64()).collect();
    assert_eq!(numbers, (0..20).map(Some).collect::<Vec<_>>());
    assert_eq!(node.metric("fanfare_postgres_rows_total"), 20);
}

#[test]
fn rows_written_while_the_connection_is_cut_are_heard_once_and_in_order() {
    let postgres = installed();
    let proxy = Proxy::to(postgres.port());
    let node = node_of(url(proxy.port()), &["orders"]);
    wait_until_capturing(&node);
    let mut stream = listen(&node, &["orders"]);
    for round in 0..4 {
        let numbers = (round * 100)..(round * 100 + 100);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(60));
                proxy.cut();
            });
            postgres
                .sql(&numbers.clone().map(|number| publish("orders", number)).collect::<String>());
        });
        assert_eq!(hear_numbers(&mut stream, 100), numbers.collect::<Vec<_>>());
    }
    wait_until("it publishes again", || is_well(&node));
    postgres.sql(&publish("orders", 400));
    assert_eq!(hear_numbers(&mut stream, 1), [400]);
    assert!(node.metric("fanfare_postgres_failures_total") > 0);
}

#[test]
fn a_database_that_is_away_keeps_nothing_else_from_being_served() {
    let mut postgres = installed();
    postgres.kill();
    let node = node_of(postgres.url(), &["orders"]);
    wait_until("health says so", || health(&node).1["status"] == "degraded");
    let (status, body) = health(&node);
    let text = body["degraded"].as_str().unwrap_or_default();
    assert!(status == 200 && text.contains("is it running there"), "{body}");
    assert_eq!(node.metric("fanfare_postgres_failing"), 1);
    let mut stream = listen(&node, &["orders"]);
    node.publish("orders", "tick", &json!({ "n": 1 }));
    postgres.start_again();
    postgres.sql(&publish("orders", 2));
    assert_eq!(hear_numbers(&mut stream, 2), [1, 2]);
    wait_until("all is well", || is_well(&node));

    postgres.kill();
    wait_until("health says so again", || !is_well(&node));
    postgres.start_again();
    postgres.sql(&publish("orders", 3));
    assert_eq!(hear_numbers(&mut stream, 1), [3]);
}

#[test]
fn a_database_without_the_schema_is_named_until_it_is_installed() {
    let postgres = Postgres::start();
    let node: Node = node_of(postgres.url(), &["orders"]);
    wait_until("health says so", || {
        let text = health(&node).1["degraded"].to_string();
        text.contains("fanfare postgres install")
    });
    succeed(&postgres.url(), &["install"]);
    wait_until_capturing(&node);
    wait_until("all is well", || is_well(&node));
}

#[test]
fn a_row_that_is_no_message_harms_no_other() {
    let postgres = installed();
    let node = node_of(postgres.url(), &["orders"]);
    wait_until_capturing(&node);
    let mut stream = listen(&node, &["orders"]);
    postgres.sql(
        "ALTER TABLE realtime.messages ALTER channel_name DROP NOT NULL, \
         ALTER event_name DROP NOT NULL, ALTER payload DROP NOT NULL; \
         INSERT INTO realtime.messages (channel_name, event_name, payload) VALUES \
         (NULL, 'tick', '{}'), ('orders', NULL, '{}'), ('orders', '', '{}'), \
         ('orders', 'connect', '{}'), ('orders', 'none', NULL)",
    );
    postgres.sql(&publish("orders", 1));
    let heard = hear(&mut stream);
    assert_eq!((heard.name.as_str(), &heard.data["payload"]), ("none", &json!(null)));
    assert_eq!(hear_numbers(&mut stream, 1), [1]);
}

#[test]
fn a_table_whose_rows_cannot_be_messages_is_refused_and_the_node_serves_on() {
    let postgres = installed();
    postgres.sql(
        "ALTER TABLE realtime.messages ALTER id DROP DEFAULT, ALTER id TYPE text; \
         INSERT INTO realtime.messages (id, channel_name, event_name, payload) \
         VALUES ('1', 'orders', 'tick', '{}')",
    );
    let node = node_of(postgres.url(), &["orders"]);
    wait_until("it is said", || node.output().contains("realtime.messages.id is not of the type"));
    node.publish("orders", "tick", &json!({}));
}
