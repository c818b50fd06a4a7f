//! Tables whose changes are heard.

use std::thread;

use serde_json::{Value, json};

use super::{fanfare, hear, installed, listen, node_of, succeed, wait_until_capturing};

const TABLE: &str =
    "CREATE TABLE orders (id int PRIMARY KEY, customer int, status text, note text)";

#[test]
fn changes_of_a_watched_table_are_heard_with_their_rows() {
    let postgres = installed();
    postgres.sql(TABLE);
    postgres.sql("SELECT realtime.watch('orders')");
    let node = node_of(postgres.url(), &["orders"]);
    let mut stream = listen(&node, &["orders"]);
    postgres.sql(
        "INSERT INTO orders VALUES (7, 1, 'new'); UPDATE orders SET id = 8, status = 'sent'; \
         DELETE FROM orders",
    );
    let row =
        |id: u32, status: &str| json!({ "id": id, "customer": 1, "status": status, "note": null });
    let with_old = |mut row: Value, old: u32| {
        row["_old"] = json!({ "id": old });
        row
    };
    for (name, payload) in [
        ("INSERT", row(7, "new")),
        ("UPDATE", with_old(row(8, "sent"), 7)),
        ("DELETE", with_old(row(8, "sent"), 8)),
    ] {
        let heard = hear(&mut stream);
        assert_eq!((heard.name.as_str(), &heard.data["payload"]), (name, &payload));
        assert_eq!(heard.data["senderType"], "system");
    }
    assert_eq!(postgres.sql("SELECT realtime.unwatch('orders')"), "1");
    postgres.sql("INSERT INTO orders VALUES (9)");
    assert_eq!(postgres.sql("SELECT count(*) FROM realtime.messages"), "3");
}

#[test]
fn a_channel_may_contain_columns_so_that_not_everybody_hears_every_row() {
    let postgres = installed();
    postgres.sql(TABLE);
    postgres.sql("SELECT realtime.watch('orders', 'customer:{customer}', ARRAY['status'])");
    // A second time replaces the first.
    postgres.sql("SELECT realtime.watch('orders', 'customer:{customer}', ARRAY['status'])");
    let node = node_of(postgres.url(), &["customer:*"]);
    let mut one = listen(&node, &["customer:1"]);
    let mut two = listen(&node, &["customer:2"]);
    postgres.sql(
        "INSERT INTO orders VALUES (7, 1, '{note}', 'secret'), (8, NULL, 'new', NULL); \
         UPDATE orders SET customer = 2 WHERE id = 7",
    );
    let heard = hear(&mut one);
    assert_eq!(
        (heard.name.as_str(), &heard.data["payload"]),
        ("INSERT", &json!({ "id": 7, "status": "{note}" }))
    );
    let heard = hear(&mut one);
    let key = json!({ "id": 7, "_old": { "id": 7 }, "_keysOnly": true });
    assert_eq!((heard.name.as_str(), &heard.data["payload"]), ("DELETE", &key), "it went away");
    let heard = hear(&mut two);
    let row = json!({ "id": 7, "status": "{note}", "_old": { "id": 7 } });
    assert_eq!((heard.name.as_str(), &heard.data["payload"]), ("UPDATE", &row));
    assert_eq!(postgres.sql("SELECT count(*) FROM realtime.messages"), "3");
}

#[test]
fn rows_that_are_too_long_come_as_keys() {
    let postgres = installed();
    postgres.sql(TABLE);
    postgres.sql("SELECT realtime.watch('orders')");
    let node = node_of(postgres.url(), &["orders"]);
    let mut stream = listen(&node, &["orders"]);
    postgres.sql("INSERT INTO orders VALUES (1, 1, 'x', repeat('x', 899000)), (2, 1, 'x', repeat('x', 900000))");
    assert_eq!(hear(&mut stream).data["payload"]["note"].as_str().map(str::len), Some(899_000));
    assert_eq!(hear(&mut stream).data["payload"], json!({ "id": 2, "_keysOnly": true }));
}

#[test]
fn tables_with_row_security_are_refused_and_one_that_has_it_later_falls_silent() {
    let postgres = installed();
    postgres.sql(TABLE);
    postgres.sql(
        "CREATE TABLE secured (id int PRIMARY KEY); ALTER TABLE secured ENABLE ROW LEVEL SECURITY",
    );
    let error = postgres.try_sql("SELECT realtime.watch('secured')").unwrap_err();
    assert!(error.contains("row security") && error.contains("ignore_rls => true"), "{error}");
    postgres.sql(
        "SELECT realtime.watch('secured', ignore_rls => true); SELECT realtime.watch('orders')",
    );
    let node = node_of(postgres.url(), &["orders", "secured"]);
    wait_until_capturing(&node);
    let mut stream = listen(&node, &["orders", "secured"]);
    let said = postgres.sql(
        "ALTER TABLE orders ENABLE ROW LEVEL SECURITY; INSERT INTO orders VALUES (1); \
         INSERT INTO secured VALUES (2)",
    );
    assert!(said.contains("WARNING") && said.contains("has row security now"), "{said}");
    assert_eq!(hear(&mut stream).data["channel"], "secured");
    assert_eq!(postgres.sql("SELECT count(*) FROM realtime.messages"), "1");
}

#[test]
fn what_cannot_be_watched_is_refused_and_names_are_quoted() {
    let postgres = installed();
    postgres.sql(TABLE);
    postgres.sql("CREATE VIEW seen AS SELECT 1 AS id; CREATE TABLE taken (_old int)");
    for wrong in [
        "'seen'",
        "'realtime.messages'",
        "'taken'",
        "'orders', 'a:{nothing}'",
        "'orders', 'a:{id'",
        "'orders', ''",
        "'orders', columns => ARRAY['nothing']",
        "'orders', columns => '{}'",
        "'orders', columns => ARRAY[NULL]",
        "'orders', columns => ARRAY['id', NULL]",
        "'orders', columns => '{{id},{note}}'",
    ] {
        assert!(postgres.try_sql(&format!("SELECT realtime.watch({wrong})")).is_err(), "{wrong}");
    }
    postgres.sql(
        r#"CREATE SCHEMA "a ""b"; CREATE TABLE "a ""b"."c'd" (id int PRIMARY KEY, "e f" text);
           SELECT realtime.watch('"a ""b"."c''d"', 'x''{e f}');
           INSERT INTO "a ""b"."c'd" VALUES (1, '{id}')"#,
    );
    assert_eq!(postgres.sql("SELECT channel_name FROM realtime.messages"), "x'{id}");
}

#[test]
fn types_of_the_tables_owner_run_no_code_with_the_rights_of_the_schemas_owner() {
    let postgres = installed();
    postgres.sql(
        "CREATE ROLE plain; CREATE SCHEMA plain AUTHORIZATION plain; SET ROLE plain; \
         CREATE TABLE plain.orders (id int PRIMARY KEY, many int[]); RESET ROLE; \
         SELECT realtime.watch('plain.orders', 'orders')",
    );
    postgres.sql(
        "SET ROLE plain; SET search_path = plain; \
         CREATE TYPE colour AS ENUM ('red'); CREATE TYPE pair AS (a colour, b text); \
         CREATE DOMAIN amount AS int CHECK (VALUE > 0); \
         CREATE FUNCTION evil(colour) RETURNS json LANGUAGE plpgsql AS \
         $$BEGIN EXECUTE 'ALTER ROLE plain SUPERUSER'; RETURN '1'::json; END$$; \
         CREATE CAST (colour AS json) WITH FUNCTION evil(colour); \
         ALTER TABLE orders ADD c colour, ADD \"a 'b\" pair, ADD d amount, ADD e colour[], ADD n pair; \
         INSERT INTO orders VALUES (1, '{2,3}', 'red', '(red,\"x y\")', 4, '{red}', NULL); \
         UPDATE orders SET id = 5",
    );
    assert_eq!(postgres.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'plain'"), "f");
    let row = |id: u32| {
        json!({
            "id": id, "many": [2, 3], "c": "red", "a 'b": "(red,\"x y\")", "d": 4, "e": "{red}",
            "n": null,
        })
    };
    let payloads = postgres.sql("SELECT payload FROM realtime.messages ORDER BY payload->'id'");
    let payloads: Vec<Value> =
        payloads.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    let mut updated = row(5);
    updated["_old"] = json!({ "id": 1 });
    assert_eq!(payloads, [row(1), updated]);
}

#[test]
fn no_row_of_a_table_is_too_long_to_be_written() {
    let postgres = installed();
    postgres.sql(
        "CREATE TABLE orders (id int PRIMARY KEY, customer int, note text, extra json); \
         SELECT realtime.watch('orders', 'customer:{customer}')",
    );
    let written = postgres.sql(
        "INSERT INTO orders VALUES (1, 5, repeat('x', 268435456)); \
         INSERT INTO orders VALUES (2, 5, NULL, '{\"text\": \"\\u0000\"}'); \
         UPDATE orders SET id = 3 WHERE id = 1; DELETE FROM orders WHERE id = 2",
    );
    assert_eq!(written, "", "no warning");
    let rows = postgres
        .sql("SELECT channel_name, event_name, payload FROM realtime.messages ORDER BY ctid");
    assert_eq!(
        rows.lines().collect::<Vec<_>>(),
        [
            r#"customer:5|INSERT|{"id": 1, "_keysOnly": true}"#,
            r#"customer:5|INSERT|{"id": 2, "_keysOnly": true}"#,
            r#"customer:5|UPDATE|{"id": 3, "_old": {"id": 1}, "_keysOnly": true}"#,
            r#"customer:5|DELETE|{"id": 2, "_old": {"id": 2}, "_keysOnly": true}"#,
        ]
    );
}

#[test]
fn sessions_that_watch_a_table_at_once_do_not_fail() {
    let postgres = installed();
    postgres.sql(TABLE);
    for _ in 0..3 {
        thread::scope(|scope| {
            let watching = || postgres.try_sql("SELECT realtime.watch('orders')");
            let all: Vec<_> = (0..6).map(|_| scope.spawn(watching)).collect();
            for one in all {
                assert_eq!(one.join().expect("it ends"), Ok(String::new()));
            }
        });
        postgres.sql("INSERT INTO orders VALUES (1); DELETE FROM orders");
        assert_eq!(postgres.sql("SELECT realtime.unwatch('orders')"), "1");
    }
    assert_eq!(postgres.sql("SELECT count(*) FROM realtime.messages"), "6");
}

#[test]
fn a_column_that_is_renamed_is_missed_aloud() {
    let postgres = installed();
    postgres.sql(TABLE);
    postgres.sql("SELECT realtime.watch('orders', 'customer:{customer}', ARRAY['status'])");
    succeed(&postgres.url(), &["status"]);
    let said = postgres.sql(
        "ALTER TABLE orders RENAME customer TO client; INSERT INTO orders VALUES (1, 5, 'new')",
    );
    assert!(said.contains("without the column customer") && said.contains("HINT"), "{said}");
    assert_eq!(postgres.sql("SELECT count(*) FROM realtime.messages"), "0");
    let output = fanfare(&postgres.url(), &["status"]);
    let status = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        status.contains("orders on customer:{customer}, but its column customer is gone"),
        "{status}"
    );
}
