//! Independent clients run through the public page's examples, byte for byte.

use std::fs;

use super::app::{INVALID, delete, frame, place, put, put_text, service, user, warning};
use super::listener::Listener;
use crate::cases::cases;
use crate::support::{Node, repository};

mod native {
    use super::*;

    cases! { "m2_native.mjs", open, &[], [
        the_printed_messages_are_answered,
        either_spelling_and_either_path_do,
        the_printed_headers_do_in_a_subprotocol,
        a_user_hears_its_own_as_printed,
        what_is_refused_is_told_over_http,
    ] }
}

mod browser {
    use super::*;

    cases! { "m2_browser.mjs", open, &[], [
        the_printed_headers_and_messages_do,
        a_user_hears_its_own_as_printed,
        what_is_refused_is_never_open,
    ] }
}

/// Returns a node that requires no credential, since the page's examples have none.
fn open() -> Node {
    Node::with_env(&[("FANFARE_M2_REQUIRE_AUTH", "false")])
}

fn printed(name: &str) -> String {
    let path = repository(&format!("tests/clients/documents/m2_{name}.txt"));
    fs::read_to_string(path).expect("the example is there")
}

/// Returns an example of JSON without insignificant white space.
fn compact(name: &str) -> String {
    printed(name).lines().collect::<String>().replace("\": ", "\":")
}

#[test]
fn each_printed_message_is_answered_as_printed() {
    let node = Node::start();
    let mut listener = Listener::connect(&node, &service(place()));
    let messages = [
        ("kvstore", ("kvStore", "World:kvstoreClient:testKey")),
        ("collection", ("collection", "public")),
        ("liveconfig", ("liveConfig", "game")),
    ];
    assert_eq!(compact("warning"), warning("kvStore"));
    assert_eq!(compact("error"), INVALID);
    for (name, resource) in messages {
        let message = printed(name);
        listener.say(&message);
        assert_eq!(listener.hear(), warning(resource.0), "{name}");
        let version = put_text(&node, &place(), resource, r#"{"data": {"a" : 1}}"#);
        assert_eq!(listener.hear(), frame(None, resource, r#"{"a" : 1}"#, &version));
        listener.say(&message);
        assert_eq!(listener.hear(), frame(None, resource, r#"{"a" : 1}"#, &version));
        listener.say(&message.replace("subscribe", "unsubscribe"));
        listener.is_answered();
        delete(&node, &place(), resource, "");
        listener.is_answered();
    }
    let mangled = printed("liveconfig_as_printed");
    for text in [mangled.clone(), mangled.replace('\u{e42}', "\u{201c}")] {
        listener.say(&text);
        assert_eq!(listener.hear(), INVALID, "{text}");
    }
    assert_eq!(node.metric("fanfare_subscriptions"), 0);
}

#[test]
fn a_document_looks_as_printed() {
    let node = Node::start();
    let expected = compact("success");
    let mut listener = Listener::connect(&node, &user(place(), "fakeUserId"));
    listener.subscribe_early("collection", "private");
    let (before, after) = expected.split_once(r#","data":"#).expect("it has data");
    let (data, _) = after.split_once(r#","version":"#).expect("it has a version");
    assert!(before.starts_with(r#"{"userId":"fakeUserId","resource":"#), "{before}");
    let body = format!(r#"{{"userId":"fakeUserId","data":{data}}}"#);
    let version = put_text(&node, &place(), ("collection", "private"), &body);
    let told = listener.hear();
    assert_eq!(told, expected.replace("2024-01-30T15:50:35.742Z", &version));
    assert_eq!(listener.subscribe("collection", "private"), told);

    let mut other = Listener::connect(&node, &user(place(), "another"));
    other.subscribe_early("collection", "private");
    let mut nobody = Listener::connect(&node, &service(place()));
    nobody.subscribe_early("collection", "private");
    let body = serde_json::json!({ "userId": "fakeUserId", "data": 1 });
    put(&node, &place(), ("collection", "private"), &body);
    assert!(listener.hear().contains(r#""data":1,"#));
    for stranger in [&mut other, &mut nobody] {
        stranger.is_answered();
        stranger.subscribe_early("collection", "private");
    }
}
