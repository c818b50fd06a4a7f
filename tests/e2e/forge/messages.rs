//! Messages on Forge's sockets: each is answered properly, and none harms its own connection or
//! another one.

use serde_json::{Value, json};

use super::app::{OVERRIDES, UNAUTHORIZED, invocation, keys, on_issue, place, publish, soon};
use super::listener::Listener;
use crate::support::{Node, sign};

/// The largest id that is valid.
const ID_MAX: u64 = (1 << 53) - 1;

/// Invalid messages, and the id in the answer, if any.
const NONSENSE: [(&str, Option<u64>); 40] = [
    ("", None),
    (" ", None),
    ("x", None),
    ("connect", None),
    ("null", None),
    ("true", None),
    ("7", None),
    (r#""subscribe""#, None),
    ("[]", None),
    (r#"[{"type":"unsubscribe","id":7,"topic":"x"}]"#, None),
    ("{", None),
    ("{}", None),
    (r#"{"type":"unsubscribe","id":7,"topic":"x"}}"#, None),
    (r#"{"type":"unsubscribe","id":7,"topic":"x"}{}"#, None),
    (r#"{"type":"unsubscribe","id":7,"topic":"x",}"#, None),
    (r#"{"type":"unsubscribe","id":7,"topic":"\x"}"#, None),
    (r#"{'type':'unsubscribe','id':7,'topic':'x'}"#, None),
    (r#"{"type":"unsubscribe","topic":"x"}"#, None),
    (r#"{"type":"unsubscribe","id":null,"topic":"x"}"#, None),
    (r#"{"type":"unsubscribe","id":"7","topic":"x"}"#, None),
    (r#"{"type":"unsubscribe","id":true,"topic":"x"}"#, None),
    (r#"{"type":"unsubscribe","id":[7],"topic":"x"}"#, None),
    (r#"{"type":"unsubscribe","id":{},"topic":"x"}"#, None),
    (r#"{"type":"unsubscribe","id":-1,"topic":"x"}"#, None),
    (r#"{"type":"unsubscribe","id":1.5,"topic":"x"}"#, None),
    (r#"{"type":"unsubscribe","id":0.1,"topic":"x"}"#, None),
    (r#"{"type":"unsubscribe","id":9007199254740992,"topic":"x"}"#, None),
    (r#"{"type":"unsubscribe","id":18446744073709551616,"topic":"x"}"#, None),
    (r#"{"type":"unsubscribe","id":1e300,"topic":"x"}"#, None),
    (r#"{"type":"unsubscribe","id":1e400,"topic":"x"}"#, None),
    (r#"{"id":7}"#, Some(7)),
    (r#"{"type":null,"id":7}"#, Some(7)),
    (r#"{"type":7,"id":7}"#, Some(7)),
    (r#"{"type":["subscribe"],"id":7,"channel":"a"}"#, Some(7)),
    (r#"{"type":"","id":7}"#, Some(7)),
    (r#"{"type":"Subscribe","id":7,"channel":"a"}"#, Some(7)),
    (r#"{"type":"event","id":7,"topic":"x","payload":"p"}"#, Some(7)),
    (r#"{"type":"subscribed","id":0,"topic":"x"}"#, Some(0)),
    (r#"{"type":"ping","id":9007199254740991}"#, Some(ID_MAX)),
    (r#"{"action":"subscribe","id":7,"channel":"a"}"#, Some(7)),
];

/// Members of messages with invalid input. The test adds an id.
const NO_INPUT: [&str; 43] = [
    r#""type":"connect""#,
    r#""type":"connect","contextToken":null"#,
    r#""type":"connect","contextToken":7"#,
    r#""type":"subscribe""#,
    r#""type":"subscribe","name":"a""#,
    r#""type":"subscribe","channel":null"#,
    r#""type":"subscribe","channel":7"#,
    r#""type":"subscribe","channel":["a"]"#,
    r#""type":"subscribe","channel":"""#,
    r#""type":"subscribe","channel":"a\u0000""#,
    r#""type":"subscribe","channel":"\n""#,
    r#""type":"subscribe","channel":"\u007f""#,
    r#""type":"subscribe","channel":"\u0085""#,
    r#""type":"subscribe","channel":"a","global":"true""#,
    r#""type":"subscribe","channel":"a","global":1"#,
    r#""type":"subscribe","channel":"a","options":"x""#,
    r#""type":"subscribe","channel":"a","options":[]"#,
    r#""type":"subscribe","channel":"a","options":7"#,
    r#""type":"subscribe","channel":"a","options":{"token":7}"#,
    r#""type":"subscribe","channel":"a","options":{"token":{}}"#,
    r#""type":"subscribe","channel":"a","options":{"replaySeconds":-1}"#,
    r#""type":"subscribe","channel":"a","options":{"replaySeconds":-0.1}"#,
    r#""type":"subscribe","channel":"a","options":{"replaySeconds":"5"}"#,
    r#""type":"subscribe","channel":"a","options":{"replaySeconds":true}"#,
    r#""type":"subscribe","channel":"a","options":{"replaySeconds":[]}"#,
    r#""type":"subscribe","channel":"a","options":{"after":7}"#,
    r#""type":"subscribe","channel":"a","options":{"after":["x"]}"#,
    r#""type":"publish","payload":"p""#,
    r#""type":"publish","name":"a","payload":"p""#,
    r#""type":"publish","channel":"a""#,
    r#""type":"publish","channel":"","payload":"p""#,
    r#""type":"publish","channel":"a\t","payload":"p""#,
    r#""type":"publish","channel":7,"payload":"p""#,
    r#""type":"publish","channel":"a","payload":null"#,
    r#""type":"publish","channel":"a","payload":7"#,
    r#""type":"publish","channel":"a","payload":{"p":1}"#,
    r#""type":"publish","channel":"a","payload":["p"]"#,
    r#""type":"publish","channel":"a","payload":"p","global":"no""#,
    r#""type":"publish","channel":"a","payload":"p","options":"x""#,
    r#""type":"publish","channel":"a","payload":"p","options":{"token":true}"#,
    r#""type":"unsubscribe""#,
    r#""type":"unsubscribe","topic":null"#,
    r#""type":"unsubscribe","topic":7"#,
];

/// Invalid values of `contextOverrides`.
const NO_OVERRIDES: [&str; 8] = [
    "null",
    "true",
    r#""issue""#,
    r#"{"issue":true}"#,
    r#"["nobody"]"#,
    r#"["issue","Project"]"#,
    "[7]",
    "[null]",
];

fn error(id: Option<u64>, message: &str, code: &str) -> Value {
    let mut error = json!({ "type": "error", "error": { "message": message, "code": code } });
    if let Some(id) = id {
        error["id"] = json!(id);
    }
    error
}

/// Two clients that share only a subscription.
struct Two {
    node: Node,
    speaker: Listener,
    bystander: Listener,
}

impl Two {
    fn new() -> Self {
        let node = Node::start();
        let [speaker, bystander] = [(); 2].map(|()| {
            let mut listener = Listener::connect(&node, &place());
            listener.subscribe("room", &json!({}));
            listener
        });
        Self { node, speaker, bystander }
    }

    /// Sends a text and checks its answer.
    fn check(&mut self, text: &str, expected: &Value) {
        self.speaker.say_text(text);
        assert_eq!(self.speaker.hear(), *expected, "{text}");
    }

    /// Sends a text and checks that it is refused as invalid input, whatever the message.
    fn check_input(&mut self, text: &str) {
        self.speaker.say_text(text);
        let answer = self.speaker.hear();
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(answer, error(Some(7), message, "INVALID_INPUT"), "{text}");
        assert!(!message.is_empty(), "{text}: {answer}");
    }

    /// Checks that the next message to both clients is an event.
    fn still_hear(&mut self) {
        let body = json!({ "name": "room", "payload": "still here" });
        let result = publish(&self.node, "publish", &invocation(&place()), &body);
        for listener in [&mut self.speaker, &mut self.bystander] {
            assert_eq!(listener.hear()["eventId"], result["eventId"]);
        }
    }
}

#[test]
fn nonsense_is_answered_and_harms_nobody() {
    let mut two = Two::new();
    for (text, id) in NONSENSE {
        two.check(text, &error(id, "Invalid message format", "INVALID_MESSAGE"));
        // The connection is unchanged.
        let unsubscribed = json!({ "type": "unsubscribed", "id": 8 });
        two.check(r#"{"type":"unsubscribe","id":8,"topic":"none"}"#, &unsubscribed);
    }
    for bytes in [&b""[..], br#"{"type":"unsubscribe","id":7,"topic":"x"}"#, b"\xff\x00"] {
        two.speaker.say_binary(bytes);
        assert_eq!(two.speaker.hear(), error(None, "Invalid message format", "INVALID_MESSAGE"));
    }
    two.still_hear();
    let mut stranger = Listener::dial(two.node.port());
    stranger.say_text("x");
    assert_eq!(stranger.hear(), error(None, "Invalid message format", "INVALID_MESSAGE"));
    stranger.prove(&sign(&place()));
}

#[test]
fn what_there_is_not_is_answered_and_harms_nobody() {
    let mut two = Two::new();
    let long = format!(r#""type":"subscribe","channel":"{}""#, "é".repeat(128));
    for members in NO_INPUT.into_iter().chain([long.as_str()]) {
        two.check_input(&format!(r#"{{"id":7,{members}}}"#));
    }
    for overrides in NO_OVERRIDES {
        let options = format!(r#""options":{{"contextOverrides":{overrides}}}"#);
        for (kind, done) in [("subscribe", "subscribed"), ("publish", "published")] {
            let said =
                format!(r#"{{"type":"{kind}","id":7,"channel":"a","payload":"p",{options}}}"#);
            two.check(&said, &error(Some(7), OVERRIDES, "INVALID_INPUT"));
            // A global request ignores overrides.
            let global = said.replacen('{', r#"{"global":true,"#, 1);
            two.speaker.say_text(&global);
            let answer = two.speaker.hear();
            assert_eq!(answer["type"], done, "{answer}");
            if let Some(topic) = answer["topic"].as_str() {
                two.speaker.ask(json!({ "type": "unsubscribe", "topic": topic }));
            }
        }
    }
    two.still_hear();
}

#[test]
fn who_has_proved_nothing_can_do_nothing() {
    let node = Node::start();
    let mut stranger = Listener::dial(node.port());
    let said = [
        json!({ "type": "subscribe", "channel": "room" }),
        json!({ "type": "subscribe", "channel": "room", "global": true }),
        json!({ "type": "publish", "channel": "room", "payload": "x" }),
        json!({ "type": "unsubscribe", "topic": "x" }),
        json!({ "type": "connect", "contextToken": "x.y.z" }),
        json!({ "type": "connect", "contextToken": "" }),
    ];
    for message in &said {
        let id = stranger.say(message.clone());
        assert_eq!(stranger.hear(), error(Some(id), UNAUTHORIZED, "UNAUTHORIZED"), "{message}");
    }
    stranger.prove(&sign(&place()));
    for message in &said[4..] {
        let id = stranger.say(message.clone());
        assert_eq!(stranger.hear(), error(Some(id), UNAUTHORIZED, "UNAUTHORIZED"), "{message}");
    }
    stranger.subscribe("room", &json!({}));
}

#[test]
fn what_is_refused_is_told_by_its_code() {
    let mut two = Two::new();
    let lacking = json!({ "contextOverrides": ["issue", "space"] });
    let subscribe = json!({ "type": "subscribe", "id": 7, "channel": "a", "options": lacking });
    two.check(&subscribe.to_string(), &error(Some(7), UNAUTHORIZED, "UNAUTHORIZED"));
    let mut publish =
        json!({ "type": "publish", "id": 7, "channel": "a", "payload": "p", "options": lacking });
    let failed = "Error publishing event to channel";
    two.check(&publish.to_string(), &error(Some(7), failed, "PUBLISH_FAILED"));
    publish["options"] = Value::Null;
    for (length, is_taken) in [(262_144, true), (262_145, false)] {
        publish["payload"] = json!("x".repeat(length));
        two.speaker.say_text(&publish.to_string());
        let answer = two.speaker.hear();
        if is_taken {
            let told =
                json!({ "type": "published", "id": 7, "eventId": null, "eventTimestamp": null });
            assert_eq!(answer, told);
        } else {
            let message = answer["error"]["message"].as_str().unwrap_or_default();
            assert_eq!(answer, error(Some(7), message, "PAYLOAD_TOO_LARGE"));
        }
    }
    for place in [
        on_issue("inst-2", "panel", "10001"),
        on_issue("inst-1", "other", "10001"),
        on_issue("inst-1", "panel", "10002"),
    ] {
        let connect = json!({ "type": "connect", "id": 7, "contextToken": sign(&place) });
        two.check(&connect.to_string(), &error(Some(7), UNAUTHORIZED, "CONTEXT_MISMATCH"));
    }
    two.still_hear();
}

#[test]
fn answers_say_what_they_must_and_members_beyond_are_passed_over() {
    let node = Node::start();
    let mut listener = Listener::dial(node.port());
    let mut ask = |message: Value| {
        listener.say_text(&message.to_string());
        listener.hear()
    };
    let more = json!({ "x": [1, { "id": "y" }, null], "type": 7 });
    let token = sign(&place());
    for id in [0, ID_MAX] {
        let answer =
            ask(json!({ "type": "connect", "id": id, "contextToken": token, "more": more }));
        assert_eq!(
            keys(&answer),
            ["connectionId", "expiresAt", "id", "node", "replaySeconds", "type"],
            "{answer}"
        );
        let is_named = answer["connectionId"].as_str().is_some_and(|name| !name.is_empty());
        assert!(is_named, "{answer}");
        assert!(answer["expiresAt"].as_u64().is_some_and(|at| at.abs_diff(soon()) < 30));
        let options = json!({ "more": more, "replaySeconds": 0, "after": null, "token": null });
        let subscribe = json!({ "type": "subscribe", "id": id, "channel": id.to_string(), "more": more, "options": options });
        let answer = ask(subscribe.clone());
        let topic = &answer["topic"];
        let told = json!({ "type": "subscribed", "id": id, "topic": topic, "last": null });
        assert_eq!(answer, told);
        assert_eq!(ask(subscribe), told, "acknowledged again");
        let leave = json!({ "type": "unsubscribe", "id": id, "topic": topic, "more": more });
        let told = json!({ "type": "unsubscribed", "id": id });
        assert_eq!(ask(leave.clone()), told);
        assert_eq!(ask(leave), told, "left already");
        for topic in ["", "x", "\u{0}é", &"x".repeat(5_000)] {
            assert_eq!(ask(json!({ "type": "unsubscribe", "id": id, "topic": topic })), told);
        }
        let publish = json!({ "type": "publish", "id": id, "channel": id.to_string(), "payload": "", "x": more });
        let told =
            json!({ "type": "published", "id": id, "eventId": null, "eventTimestamp": null });
        node.soon("nobody is subscribed", || ask(publish.clone()) == told);
    }
}

#[test]
fn what_was_left_is_not_heard_any_more() {
    let mut two = Two::new();
    let topic = two.speaker.subscribe("room", &json!({}));
    let global = two.speaker.subscribe("room", &json!({ "global": true }));
    assert_ne!(topic, global);
    two.speaker.ask(json!({ "type": "unsubscribe", "topic": topic }));
    let body = json!({ "name": "room", "payload": "x" });
    publish(&two.node, "publish", &invocation(&place()), &body);
    let result = publish(&two.node, "publish/global", &invocation(&place()), &body);
    assert_eq!(two.speaker.hear()["eventId"], result["eventId"]);
    assert_eq!(two.bystander.hear()["topic"], topic);
    two.bystander.ask(json!({ "type": "unsubscribe", "topic": topic }));
    two.node.soon("nobody is left", || {
        publish(&two.node, "publish", &invocation(&place()), &body)["eventId"].is_null()
    });
}

#[test]
fn a_connection_has_so_many_subscriptions_and_no_more() {
    const MOST: usize = 4_096;
    let node = Node::start();
    let mut listener = Listener::connect(&node, &place());
    let mut topics = Vec::new();
    let subscribe = |channel: usize| json!({ "type": "subscribe", "channel": channel.to_string() });
    for batch in 0..MOST / 256 {
        (0..256).for_each(|at| _ = listener.say(subscribe(batch * 256 + at)));
        // In a cluster, topics do not begin in the order in which they were asked for.
        let mut answers: Vec<_> = (0..256).map(|_| listener.hear()).collect();
        answers.sort_by_key(|answer| answer["id"].as_u64());
        topics.extend(answers.iter().map(|answer| answer["topic"].clone()));
    }
    assert!(topics.iter().all(Value::is_string));
    let answer = listener.ask(subscribe(MOST));
    assert_eq!(answer["error"]["code"], "TOO_MANY_SUBSCRIPTIONS", "{answer}");
    assert!(answer["error"]["message"].is_string(), "{answer}");
    let answer = listener.ask(subscribe(7));
    assert_eq!(answer["topic"], topics[7], "it is none more: {answer}");
    listener.ask(json!({ "type": "unsubscribe", "topic": topics[7] }));
    let answer = listener.ask(subscribe(MOST));
    assert_eq!(answer["type"], "subscribed", "{answer}");
    assert_eq!(node.metric("fanfare_subscriptions"), MOST as u64);
    let body = json!({ "name": "4095", "payload": "x" });
    let result = publish(&node, "publish", &invocation(&place()), &body);
    assert_eq!(listener.hear()["eventId"], result["eventId"]);
}
