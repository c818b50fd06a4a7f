//! Effects of time on Forge's clients: contexts and realtime tokens expire, and rates are limited.

use std::thread;
use std::time::{Duration, Instant};

use jsonwebtoken::get_current_timestamp;
use serde_json::{Value, json};

use super::app::{call, invocation, on_issue, place, realtime_token};
use super::listener::Listener;
use crate::support::{Node, sign, wait_until};

fn expiring_in(seconds: u64) -> Value {
    let mut place = place();
    place["exp"] = json!(get_current_timestamp() + seconds);
    place
}

#[test]
fn who_proves_nothing_in_time_is_closed() {
    let node = Node::start();
    let mut silent = Listener::dial(node.port());
    let mut wrong = Listener::dial(node.port());
    let answer = wrong.ask(json!({ "type": "connect", "contextToken": "x" }));
    assert_eq!(
        answer["error"],
        json!({ "message": "Unauthorized request", "code": "UNAUTHORIZED" })
    );
    assert_eq!(silent.hear_text(), Err(Some(4401)));
    assert_eq!(wrong.hear_text(), Err(Some(4401)));
}

#[test]
fn a_context_is_refreshed_or_ends_with_its_connection() {
    let node = Node::start();
    let soon = expiring_in(6);
    let mut kept = Listener::connect(&node, &soon);
    let mut ended = Listener::connect(&node, &soon);
    let topic = ended.subscribe("room", &json!({}));
    for claims in [on_issue("inst-2", "panel", "10001"), on_issue("inst-1", "other", "10001")] {
        let answer = kept.ask(json!({ "type": "connect", "contextToken": sign(&claims) }));
        assert_eq!(answer["error"]["code"], "CONTEXT_MISMATCH", "{answer}");
    }
    let fresh = sign(&expiring_in(600));
    let answer = kept.ask(json!({ "type": "connect", "contextToken": fresh }));
    assert_eq!(answer["type"], "connected", "{answer}");
    kept.subscribe("room", &json!({}));

    let exp = soon["exp"].as_u64().expect("it is a number");
    wait_until("the context has expired", || get_current_timestamp() > exp);
    let answer = ended.ask(json!({ "type": "subscribe", "channel": "other" }));
    assert_eq!(answer["error"]["code"], "UNAUTHORIZED", "it has expired");
    let body = json!({ "name": "room", "payload": "still here" });
    call(&node, "publish", &invocation(&place()), &body);
    assert_eq!(ended.hear()["topic"], topic.as_str(), "in its grace it hears on");
    assert_eq!(ended.hear_text(), Err(Some(4401)));
    assert_eq!(kept.hear()["payload"], "still here");
    kept.subscribe("another", &json!({}));
}

#[test]
fn a_subscription_ends_with_its_token_where_the_node_is_told_so() {
    const LIFETIME: (&str, &str) = ("FANFARE_FORGE_TOKEN_LIFETIME_S", "10");
    let strict = Node::with_env(&[("FANFARE_FORGE_ENFORCE_TOKEN_EXPIRY", "true"), LIFETIME]);
    let lenient = Node::with_env(&[LIFETIME]);
    thread::scope(|scope| {
        scope.spawn(|| outlive_a_token(&strict, true));
        scope.spawn(|| outlive_a_token(&lenient, false));
    });
}

/// Lets two realtime tokens of one topic expire. `ends` says whether the node ends the subscription
/// then. The tokens live for ten seconds, of which rounding takes up to one.
fn outlive_a_token(node: &Node, ends: bool) {
    let mut listener = Listener::connect(node, &place());
    let token = || realtime_token(node, &place(), "room", &json!({ "a": 1 }));
    let with = |token: &str| json!({ "options": { "token": token } });
    let topic = listener.subscribe("room", &with(&token()));
    let plain = listener.subscribe("room", &json!({}));
    let began = Instant::now();
    let after =
        |seconds| thread::sleep(Duration::from_secs(seconds).saturating_sub(began.elapsed()));
    after(5);
    let newer = token();
    let newer_until = get_current_timestamp() + 10;
    assert_eq!(listener.subscribe("room", &with(&newer)), topic, "the same claims");
    after(11);
    listener.hear_nothing();
    wait_until("the newer token has expired", || get_current_timestamp() > newer_until);
    let message = "Realtime token validation failed: TOKEN_EXPIRED";
    let error = json!({ "message": message, "code": "TOKEN_EXPIRED" });
    if ends {
        let told = listener.hear();
        let expected = json!({ "type": "subscription_error", "topic": topic, "error": error });
        assert_eq!(told, expected);
    }
    let mut body = json!({ "name": "room", "payload": "x", "options": { "token": token() } });
    let claimed = call(node, "publish", &invocation(&place()), &body).json();
    assert_eq!(claimed["eventId"].is_null(), ends, "{claimed}");
    body["options"] = json!({});
    call(node, "publish", &invocation(&place()), &body);
    let heard: Vec<_> = (usize::from(ends)..2).map(|_| listener.hear()["topic"].clone()).collect();
    assert_eq!(heard.last(), Some(&json!(plain)), "the others go on");
    let answer = listener.try_subscribe("room", &with(&newer));
    assert_eq!(answer["error"], error, "{answer}");
}

#[test]
fn an_installation_does_so_much_a_second_and_no_more() {
    let node = Node::with_env(&[("FANFARE_FORGE_RATE_LIMIT", "5")]);
    let body = json!({ "name": "room", "payload": "x" });
    let header = invocation(&place());
    let refused = || {
        let response = call(&node, "publish", &header, &body);
        let is_refused = response.status == 429;
        if is_refused {
            assert_eq!(response.header("retry-after"), Some("1"));
            let errors = json!([{ "message": "RATE_LIMIT_EXCEEDED", "status": 429 }]);
            assert_eq!(response.json()["errors"], errors);
        }
        is_refused
    };
    let (mut count, began) = (0, Instant::now());
    let mut accepted = 0;
    wait_until("the rate is too much", || {
        let is_refused = refused();
        (count, accepted) = (count + u32::from(is_refused), accepted + u32::from(!is_refused));
        count > 10
    });
    let most = 5.0 + 5.0 * began.elapsed().as_secs_f64() + 1.0;
    assert!(f64::from(accepted) <= most, "{accepted} in {:?}", began.elapsed());
    let mut listener = Listener::connect(&node, &on_issue("inst-2", "panel", "10001"));
    listener.subscribe("room", &json!({}));
    let mut limited = Listener::connect(&node, &place());
    let error = json!({ "message": "RATE_LIMIT_EXCEEDED", "code": "RATE_LIMIT_EXCEEDED" });
    wait_until("a subscribe is refused", || {
        let answer = limited.try_subscribe("room", &json!({}));
        assert!(answer["error"].is_null() || answer["error"] == error, "{answer}");
        answer["error"] == error
    });
}

#[test]
fn tokens_that_are_no_good_do_not_count_against_the_rate() {
    let node = Node::with_env(&[("FANFARE_FORGE_RATE_LIMIT", "5")]);
    let body = json!({ "name": "room", "payload": "x", "options": { "token": "a.b.c" } });
    for _ in 0..30 {
        assert_eq!(call(&node, "publish", &invocation(&place()), &body).status, 401);
    }
    let body = json!({ "name": "room", "payload": "x" });
    assert_eq!(call(&node, "publish", &invocation(&place()), &body).status, 200);
}
