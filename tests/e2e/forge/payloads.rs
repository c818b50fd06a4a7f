//! Events and their payloads: the text between a publisher's quotes arrives byte for byte, in the
//! same frame for all subscribers.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::app::{
    Outcome, PROXY, call, good_body, invocation, keys, outcome, place, publish, raw_call,
};
use super::listener::Listener;
use crate::support::Node;

/// Strings in various notations of JSON.
const PAYLOADS: [&str; 20] = [
    r#""""#,
    r#""x""#,
    r#""   blanks   ""#,
    r#""{\"a\":123456789012345678901234567890,\"b\":1e400,\"c\":-0.0}""#,
    r#""{ \"a\" : [ 1 , 2 ] }""#,
    r#""123456789012345678901234567890.10""#,
    r#""1e400""#,
    r#""\u0000\u0001\u001f""#,
    r#""\"\\\/\b\f\n\r\t""#,
    r#""/""#,
    r#""\/""#,
    r#""é€😀""#,
    r#""\u00e9\u00E9\u20ac\ud83d\ude00\uD83D\uDE00""#,
    r#""\u0041\u0022\u005c""#,
    r#""\\u0041""#,
    r#""<script>&'</script>""#,
    r#"",:]}[{\"payload\":\"""#,
    "\"\u{7f}\u{80}\u{85}\u{a0}\u{2028}\u{2029}\u{feff}\u{fffd}\u{ffff}\u{10ffff}\"",
    r#""\\""#,
    r#""\u007b\"token\":\"a.b.c\"\u007d""#,
];

/// White space and members around a payload. Of members with the same name, the last one counts.
const BODIES: [&str; 4] = [
    r#"{"name":"room","channel":"room","payload":PAYLOAD}"#,
    "{\n\t\"payload\" : \r\n PAYLOAD \t , \"channel\":\"room\", \"name\" : \"room\" }",
    r#"{"payload":"no","x":["payload","y"],"payload":PAYLOAD,"name":"room","channel":"room"}"#,
    r#"{"p\u0061yload":PAYLOAD,"channel":"r\u006fom","name":"r\u006fom","options":{}}"#,
];

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// Returns the next text of both listeners, which must be the same.
fn hear(listeners: &mut [Listener; 2]) -> String {
    let [one, other] = listeners.each_mut().map(Listener::hear_text);
    assert_eq!(one, other, "frames are the same for everybody");
    one.expect("the connections hold")
}

fn check(text: &str, payload: &str, case: &str) {
    let event: Event<'_> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(event.payload.get(), payload, "{case}");
}

#[test]
fn a_payload_is_heard_as_it_was_written() {
    let (node, header) = (Node::start(), invocation(&place()));
    let mut publisher = Listener::connect(&node, &place());
    let mut listeners = [(); 2].map(|()| Listener::connect(&node, &place()));
    for listener in &mut listeners {
        listener.subscribe("room", &json!({}));
    }
    let long = format!("\"{}\"", r#"{\"a\":\"é\\n\",\"b\":1e400},"#.repeat(5_000));
    for payload in PAYLOADS.into_iter().chain([long.as_str()]) {
        for body in BODIES {
            let body = body.replace("PAYLOAD", payload);
            let response = raw_call(&node, "publish", &[(PROXY, &header)], &body);
            assert_eq!(response.status, 200, "{body}: {}", response.text());
            let text = hear(&mut listeners);
            check(&text, payload, &body);
            let event: Value = serde_json::from_str(&text).expect("an event is JSON");
            let names = ["eventId", "eventTimestamp", "payload", "topic", "type"];
            assert_eq!(keys(&event), names, "{event}");
            assert_eq!(event["eventId"], response.json()["eventId"]);

            let message = body.replacen('{', r#"{"type":"publish","id":7,"#, 1);
            publisher.say_text(&message);
            let answer = publisher.hear();
            assert_eq!((&answer["type"], &answer["id"]), (&json!("published"), &json!(7)));
            assert_eq!(keys(&answer), ["eventId", "eventTimestamp", "id", "type"], "{answer}");
            let text = hear(&mut listeners);
            check(&text, payload, &message);
        }
    }
}

#[test]
fn what_is_replayed_is_as_it_was_written() {
    let (node, header) = (Node::start(), invocation(&place()));
    let mut listener = Listener::connect(&node, &place());
    listener.subscribe("room", &json!({}));
    for payload in PAYLOADS {
        let body = BODIES[1].replace("PAYLOAD", payload);
        assert_eq!(raw_call(&node, "publish", &[(PROXY, &header)], &body).status, 200);
    }
    let live: Vec<Value> = PAYLOADS.iter().map(|_| listener.hear()).collect();
    let answer = listener.try_subscribe("room", &json!({ "options": { "replaySeconds": 60 } }));
    assert_eq!(answer["last"], live[live.len() - 1]["eventId"], "{answer}");
    for (payload, live) in PAYLOADS.iter().zip(live) {
        let text = listener.hear_text().expect("the connection holds");
        check(&text, payload, "replayed");
        let mut event: Value = serde_json::from_str(&text).expect("an event is JSON");
        let replay = event.as_object_mut().and_then(|members| members.remove("replay"));
        assert_eq!(replay.as_ref(), Some(&answer["id"]));
        assert_eq!(event, live, "but for that it is the same");
    }
}

#[test]
fn a_publisher_hears_its_own_event() {
    let node = Node::start();
    let mut party = Listener::connect(&node, &place());
    for is_global in [false, true] {
        let topic = party.subscribe("room", &json!({ "global": is_global }));
        let id = party.say(json!({
            "type": "publish", "channel": "room", "global": is_global, "payload": "mine",
        }));
        let (answers, events): (Vec<_>, Vec<_>) =
            (0..2).map(|_| party.hear()).partition(|said| said["type"] == "published");
        assert_eq!(answers.len(), 1, "{answers:?} {events:?}");
        assert_eq!(answers[0]["id"], id);
        let expected = json!({
            "type": "event", "topic": topic, "payload": "mine",
            "eventId": answers[0]["eventId"], "eventTimestamp": answers[0]["eventTimestamp"],
        });
        assert_eq!(events, [expected]);
        party.hear_nothing();
    }
}

#[test]
fn an_event_has_an_id_and_a_time_where_anybody_listens() {
    let (node, header) = (Node::start(), invocation(&place()));
    let body = good_body("publish");
    let nobody = json!({ "eventId": null, "eventTimestamp": null, "errors": null });
    assert_eq!(publish(&node, "publish", &header, &body), nobody);
    let mut listener = Listener::connect(&node, &place());
    listener.subscribe("room", &json!({}));
    let mut told = Vec::new();
    for _ in 0..20 {
        let response = call(&node, "publish", &header, &body);
        assert_eq!(outcome("publish", &response), Outcome::Done);
        let (result, event) = (response.json(), listener.hear());
        for name in ["eventId", "eventTimestamp"] {
            assert!(result[name].is_string(), "{result}");
            assert_eq!(result[name], event[name], "{event}");
        }
        let text = |name: &str| result[name].as_str().map(str::to_owned);
        told.push((text("eventTimestamp"), text("eventId")));
    }
    let is_ordered = |two: &[(_, Option<String>)]| two[0].0 <= two[1].0 && two[0].1 != two[1].1;
    assert!(told.windows(2).all(is_ordered), "{told:?}");
    assert_eq!(publish(&node, "publish/global", &header, &body), nobody, "of another family");
}
