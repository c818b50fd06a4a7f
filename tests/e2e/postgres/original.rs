//! A database that an InsForge has made: its schema, from the facts of its documents.

use serde_json::json;

use super::{fanfare, hear, listen, node_of, publish, succeed, wait_until_capturing};
use crate::support::Node;
use crate::support::postgres::Postgres;

const SCHEMA: &str = r"
CREATE SCHEMA realtime;
CREATE TABLE realtime.channels (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  pattern text UNIQUE NOT NULL, description text, webhook_urls text[],
  enabled boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE realtime.messages (id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  event_name text NOT NULL, channel_id uuid REFERENCES realtime.channels ON DELETE SET NULL,
  channel_name text NOT NULL, payload jsonb NOT NULL DEFAULT '{}',
  sender_type text NOT NULL DEFAULT 'system', sender_id uuid,
  ws_audience_count integer NOT NULL DEFAULT 0, wh_audience_count integer NOT NULL DEFAULT 0,
  wh_delivered_count integer NOT NULL DEFAULT 0, created_at timestamptz NOT NULL DEFAULT now());
CREATE FUNCTION realtime.publish(p_channel_name text, p_event_name text, p_payload jsonb)
RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE found_id uuid; made uuid;
BEGIN
  SELECT id INTO found_id FROM realtime.channels
    WHERE enabled AND (pattern = p_channel_name OR p_channel_name LIKE pattern) LIMIT 1;
  IF found_id IS NULL THEN RAISE WARNING 'no channel'; RETURN NULL; END IF;
  INSERT INTO realtime.messages (event_name, channel_id, channel_name, payload)
    VALUES (p_event_name, found_id, p_channel_name, p_payload) RETURNING id INTO made;
  RETURN made;
END $$;
CREATE FUNCTION realtime.notify_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_notify('realtime_message', NEW.id::text); RETURN NEW; END $$;
CREATE TRIGGER message_notify AFTER INSERT ON realtime.messages
  FOR EACH ROW EXECUTE FUNCTION realtime.notify_message();
INSERT INTO realtime.channels (pattern) VALUES ('orders');
";

/// What the schema has, but for what install adds.
const OTHERS: &str = "
SELECT string_agg(line, E'\n' ORDER BY line) FROM (
  SELECT 'function ' || proname || md5(prosrc) || proacl::text FROM pg_proc
    WHERE pronamespace = 'realtime'::regnamespace AND proname IN ('publish', 'notify_message')
  UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger
    WHERE tgrelid = 'realtime.messages'::regclass AND NOT tgisinternal
  UNION ALL SELECT 'column ' || attname FROM pg_attribute
    WHERE attrelid = 'realtime.messages'::regclass AND attnum > 0 AND NOT attisdropped
    AND attname <> 'dispatched_at') AS lines (line)";

fn original() -> Postgres {
    let postgres = Postgres::start();
    postgres.sql(SCHEMA);
    postgres
}

#[test]
fn a_schema_that_exists_is_taken_as_it_is_and_given_back_so() {
    let postgres = original();
    postgres.sql(&publish("orders", 1));
    let before = postgres.sql(OTHERS);
    let made = succeed(&postgres.url(), &["install"]);
    assert!(made.contains("kept     table realtime.messages, which others have made"), "{made}");
    assert!(made.contains("`postgres.owner`"), "{made}");
    assert_eq!(postgres.sql(OTHERS), before);
    assert_eq!(
        postgres.sql("SELECT count(*) FROM realtime.messages WHERE dispatched_at IS NULL"),
        "0"
    );

    let node = node_of(postgres.url(), &["orders"]);
    wait_until_capturing(&node);
    let mut stream = listen(&node, &["orders"]);
    let id = postgres.sql(&publish("orders", 2));
    let heard = hear(&mut stream);
    assert_eq!(
        (&heard.data["messageId"], &heard.data["payload"]),
        (&json!(id), &json!({ "n": 2 }))
    );
    assert!(node.output().contains("keeps them once more: set `postgres.owner`"));
    drop(node);

    let kept = succeed(&postgres.url(), &["uninstall", "--drop-data"]);
    assert!(kept.contains("removed  column realtime.messages.dispatched_at"), "{kept}");
    assert_eq!(postgres.sql(OTHERS), before);
    assert_eq!(postgres.sql("SELECT count(*) FROM realtime.messages"), "2");
    assert_eq!(postgres.sql("SELECT count(*) FROM pg_class WHERE relname LIKE 'fanfare%'"), "0");
}

#[test]
fn the_owner_of_the_rows_keeps_them_in_history() {
    let postgres = original();
    succeed(&postgres.url(), &["install"]);
    let url = postgres.url();
    let node = Node::with(move |command| {
        command.env("FANFARE_POSTGRES_URL", &url).env("FANFARE_POSTGRES_OWNER", "insforge");
    });
    node.create_channel("orders");
    wait_until_capturing(&node);
    assert!(!node.output().contains("`postgres.owner`"));
    let mut stream = listen(&node, &["orders"]);
    let sender = "00000000-0000-4000-8000-000000000001";
    postgres.sql(&format!(
        "INSERT INTO realtime.messages (event_name, channel_name, payload, sender_type, sender_id) \
         VALUES ('said', 'orders', '{{}}', 'user', '{sender}')"
    ));
    let heard = hear(&mut stream);
    assert_eq!(
        (&heard.data["senderType"], &heard.data["senderId"]),
        (&json!("user"), &json!(sender))
    );
    let (_, history) = node.admin("GET", "/api/realtime/messages", &json!(null));
    assert_eq!(history, json!([]));
    let counted = "SELECT count(*) FROM realtime.messages WHERE ws_audience_count > 0";
    assert_eq!(postgres.sql(counted), "0");
}

#[test]
fn a_name_that_others_use_is_not_taken_from_them() {
    let postgres = original();
    postgres.sql(
        "CREATE FUNCTION realtime.unwatch(watched regclass, channel text) RETURNS integer \
         LANGUAGE sql AS 'SELECT 1'",
    );
    let output = fanfare(&postgres.url(), &["install"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("realtime.unwatch exists and was not made by"), "{error}");
    assert_eq!(postgres.sql("SELECT to_regclass('realtime.fanfare_installed') IS NULL"), "t");
}
