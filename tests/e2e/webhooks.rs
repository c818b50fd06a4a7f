//! Webhooks of a real node: the calls, their traces in history and metrics, and the effect of a
//! target that does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::ear::{CHANNEL, Ear, TICK};
use crate::support::kept::message_id;
use crate::support::target::{Call, Reaction, Target, unused_port};
use crate::support::{ANON_KEY, Node, wait_until};

const CHANNELS: &str = "/api/realtime/channels";
const SECRET: &str = "whsec_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// The fifth attempt comes at most 22.5 s after the first.
const GIVEN_UP: Duration = Duration::from_secs(60);
const PUBLICATIONS: usize = 30;
/// Simultaneous calls to one target: `WEBHOOK_TARGET_CONCURRENT_MAX`.
const CONCURRENT: u64 = 8;

#[test]
fn history_and_metrics_say_what_each_target_did() {
    let node = node(true);
    let slow = Target::always(Reaction::Late(Duration::from_millis(700)));
    let shaky = Target::start(|before| Reaction::Status(if before < 2 { 500 } else { 200 }));
    let astray = Target::always(Reaction::Elsewhere("http://169.254.169.254/latest/meta-data/"));
    let refusing = format!("http://127.0.0.1:{}/hook?key=hunter2", unused_port());
    define(&node, CHANNEL, &[&slow.url(), &shaky.url(), &refusing, &astray.url()]);

    let payload = json!({ "order": 1, "text": "für alle ☃" });
    let id = message_id(&node.publish(CHANNEL, TICK, &payload)).to_string();
    let calls = [slow.next(), shaky.next(), shaky.next(), shaky.next(), astray.next()];
    for call in &calls {
        assert_eq!(call.header("x-insforge-message-id"), id);
        check_call(call, &payload);
    }
    assert!(!calls[0].is_signed(&SECRET.replace('0', "1")), "another secret signs otherwise");

    let end = Instant::now() + GIVEN_UP;
    while node.metric("fanfare_webhook_waiting") > 0 {
        assert!(Instant::now() < end, "nobody is called for ever");
        std::thread::sleep(Duration::from_millis(50));
    }
    check_outcomes(&node, [2, 2, 0, 0]);
    // The attempts of each target: slow, shaky, refusing, astray.
    assert_eq!(node.metric("fanfare_webhook_attempts_total"), 1 + 3 + 5 + 1);
    assert!(!slow.has_more() && !shaky.has_more() && !astray.has_more());
    wait_until("history says who took it", || delivered(&node) == [(4, 2)]);
    wait_until("the log says what it was", || node.output().contains("it answered 302"));
    let log = node.output();
    assert!(!log.contains("hunter2") && !log.contains("meta-data"), "{log}");
}

#[test]
fn a_target_that_does_not_answer_delays_nobody_else() {
    let node = node(true);
    let (dead, alive) = (Target::always(Reaction::Held), Target::always(Reaction::Status(204)));
    define(&node, CHANNEL, &[&dead.url(), &alive.url()]);
    let mut ear = Ear::over_websocket(node.port(), ANON_KEY);
    for number in 0..PUBLICATIONS {
        node.publish(CHANNEL, TICK, &json!(number));
    }
    ear.hear(PUBLICATIONS);
    for _ in 0..PUBLICATIONS {
        assert!(alive.next().is_signed(SECRET));
    }
    let all = PUBLICATIONS as u64;
    wait_until("only the dead one is waited for", || node.metric("fanfare_webhook_waiting") == all);
    check_outcomes(&node, [all, 0, 0, 0]);
    assert_eq!(node.metric("fanfare_webhook_attempts_total"), all + CONCURRENT);
    wait_until("history says who took it", || delivered(&node) == vec![(2, 1); PUBLICATIONS]);

    // The target answers again, and all its calls are delivered.
    (0..PUBLICATIONS).for_each(|_| dead.allow());
    wait_until("nobody is waited for", || node.metric("fanfare_webhook_waiting") == 0);
    check_outcomes(&node, [2 * all, 0, 0, 0]);
    wait_until("history says who took it", || delivered(&node) == vec![(2, 2); PUBLICATIONS]);
}

/// URLs that were defined while private addresses were allowed stay.
#[test]
fn what_is_not_public_is_not_called_unless_that_is_allowed() {
    let is_allowed = Arc::new(AtomicBool::new(true));
    let allowed = is_allowed.clone();
    let mut node = Node::with(move |command| {
        command.env("FANFARE_WEBHOOKS_SECRET", SECRET);
        let allow_private = allowed.load(Ordering::Relaxed).to_string();
        command.env("FANFARE_WEBHOOKS_ALLOW_PRIVATE", allow_private);
    });
    let target = Target::always(Reaction::Status(200));
    let port = target.port();
    let urls = ["127.0.0.1", "localhost", "0x7f.1", "[::ffff:127.0.0.1]"];
    let urls = urls.map(|host| format!("http://{host}:{port}/hook?key=hunter2"));
    let definition = define(&node, CHANNEL, &urls.each_ref().map(String::as_str));
    assert!(!node.output().contains("is never called"), "{}", node.output());

    is_allowed.store(false, Ordering::Relaxed);
    node.restart();
    let named = || node.output().matches("a webhook is never called").count();
    wait_until("each is named at the start", || named() == urls.len());
    assert!(node.output().contains("webhooks.allow_private"), "{}", node.output());
    node.publish(CHANNEL, TICK, &json!({}));
    wait_until("all are refused", || node.metric("fanfare_webhook_waiting") == 0);
    check_outcomes(&node, [0, 0, 4, 0]);
    assert_eq!(delivered(&node), [(4, 0)]);
    assert_eq!(target.connections(), 0);
    wait_until("the log says why", || node.output().contains("its address is not public"));
    let log = node.output();
    assert!(!log.contains("hunter2"), "{log}");

    // The definition may be sent back as it is, and may lose URLs, but gets no more of them.
    let path = format!("{CHANNELS}/{}", definition["id"].as_str().expect("it has an id"));
    let (status, unchanged) = node.admin("PUT", &path, &definition);
    assert_eq!((status, &unchanged["webhookUrls"]), (200, &definition["webhookUrls"]));
    let change = json!({ "webhookUrls": [urls[1], "http://127.0.0.1/another"] });
    let (status, refused) = node.admin("PUT", &path, &change);
    assert_eq!(status, 400, "{refused}");
    let message = "webhookUrls.1: It would never be called, because its address is not public";
    assert_eq!(refused["message"], message);
    assert_eq!(node.admin("PUT", &path, &json!({ "webhookUrls": [urls[1]] })).0, 200);
}

#[test]
fn what_can_never_be_called_is_not_defined() {
    let scheme = "because it is neither http nor https";
    let address = "because its address is not public";
    for (allow_private, url, why) in [
        (false, "ftp://example.com/hook?key=hunter2", Some(scheme)),
        (true, "ws://example.com/", Some(scheme)),
        (false, "http://10.0.0.1/hook?key=hunter2", Some(address)),
        (false, "http://0x7f.1/", Some(address)),
        (false, "https://[fd00::1]/", Some(address)),
        (false, "http://localhost:3000/", Some(address)),
        (true, "http://localhost:3000/", None),
        (true, "http://10.0.0.1/", None),
        (false, "https://example.com/", None),
    ] {
        let node = node(allow_private);
        let urls = json!(["https://example.com/", url]);
        let definition = json!({ "pattern": "a", "webhookUrls": urls });
        let (status, answer) = node.admin("POST", CHANNELS, &definition);
        let Some(why) = why else {
            assert_eq!((status, &answer["webhookUrls"]), (201, &urls));
            continue;
        };
        let message = format!("webhookUrls.1: It would never be called, {why}");
        assert_eq!((status, &answer["message"]), (400, &json!(message)));
        assert_eq!(answer["error"], "INVALID_INPUT");
        let advice = answer["nextActions"].as_str().expect("there is advice");
        assert_eq!(advice.contains("webhooks.allow_private"), why == address, "{advice}");
        assert_eq!(node.admin("GET", CHANNELS, &Value::Null), (200, json!([])));
    }
}

#[test]
fn a_node_that_stops_lets_calls_end() {
    let mut node = node(true);
    let held = Target::always(Reaction::Held);
    // A second attempt normally comes at least half a second later; a node that stops does not wait
    // for that time.
    let shaky = Target::start(|before| Reaction::Status(if before == 0 { 503 } else { 200 }));
    define(&node, CHANNEL, &[&held.url(), &shaky.url()]);
    node.publish(CHANNEL, TICK, &json!({}));
    assert!(held.next().is_signed(SECRET) && shaky.next().is_signed(SECRET));
    node.begin_to_stop(Signal::TERM);
    assert!(shaky.next().is_signed(SECRET));
    assert!(node.runs(), "a call is under way");
    held.allow();
    assert!(node.exit_status(Duration::from_secs(30)).success());
    assert_eq!(delivered(&node), [(2, 2)]);
}

#[test]
fn an_ephemeral_channel_has_no_webhooks() {
    let node = node(true);
    let url = "https://example.com/hook";
    let refused = |(status, body): (u16, Value)| {
        assert_eq!((status, &body["error"]), (400, &json!("INVALID_INPUT")), "{body}");
        let message = body["message"].as_str().expect("a message is text");
        assert!(message.starts_with("webhookUrls: "), "{message}");
    };
    let both = json!({ "pattern": "both", "ephemeral": true, "webhookUrls": [url] });
    refused(node.admin("POST", CHANNELS, &both));
    assert_eq!(node.admin("GET", CHANNELS, &Value::Null), (200, json!([])));

    let calling = define(&node, "calling", &[url]);
    let ephemeral = json!({ "pattern": "ephemeral", "ephemeral": true, "webhookUrls": [] });
    let (status, ephemeral) = node.admin("POST", CHANNELS, &ephemeral);
    assert_eq!(status, 201, "{ephemeral}");
    let path = |definition: &Value| {
        format!("{CHANNELS}/{}", definition["id"].as_str().expect("it has an id"))
    };
    refused(node.admin("PUT", &path(&calling), &json!({ "ephemeral": true })));
    refused(node.admin("PUT", &path(&ephemeral), &json!({ "webhookUrls": [url] })));
    for definition in [&calling, &ephemeral] {
        let found = node.admin("GET", &path(definition), &Value::Null);
        assert_eq!(found, (200, definition.clone()), "it is as it was");
    }
    // A change that removes the one may set the other.
    let change = json!({ "ephemeral": true, "webhookUrls": null });
    let (status, changed) = node.admin("PUT", &path(&calling), &change);
    assert_eq!((status, &changed["ephemeral"]), (200, &json!(true)), "{changed}");
}

fn node(allow_private: bool) -> Node {
    Node::with(move |command| {
        command.env("FANFARE_WEBHOOKS_SECRET", SECRET);
        command.env("FANFARE_WEBHOOKS_ALLOW_PRIVATE", allow_private.to_string());
        command.env("FANFARE_WEBHOOKS_TIMEOUT_MS", "60000");
    })
}

fn define(node: &Node, pattern: &str, urls: &[&str]) -> Value {
    let definition = json!({ "pattern": pattern, "webhookUrls": urls });
    let (status, body) = node.admin("POST", CHANNELS, &definition);
    assert_eq!(status, 201, "{body}");
    body
}

fn check_call(call: &Call, payload: &Value) {
    assert_eq!(call.header("content-type"), "application/json");
    assert_eq!(call.header("x-insforge-channel"), CHANNEL);
    assert_eq!(call.header("x-insforge-event"), TICK);
    assert_eq!(call.body, payload.to_string().as_bytes());
    assert!(call.is_signed(SECRET), "{call:?}");
}

/// Waits until all expected calls have ended, and compares their outcomes: delivered, failed,
/// refused and dropped.
fn check_outcomes(node: &Node, expected: [u64; 4]) {
    let outcomes = || {
        ["delivered", "failed", "refused", "dropped"].map(|outcome| {
            node.metric(&format!("fanfare_webhook_calls_total{{outcome=\"{outcome}\"}}"))
        })
    };
    let ended: u64 = expected.iter().sum();
    wait_until("all calls have ended", || outcomes().iter().sum::<u64>() >= ended);
    assert_eq!(outcomes(), expected, "delivered, failed, refused, dropped");
}

/// Returns, for each message in history, its number of webhooks and of successful calls.
fn delivered(node: &Node) -> Vec<(u32, u32)> {
    let history = node.history();
    history.iter().map(|message| (message.wh_audience, message.wh_delivered)).collect()
}
