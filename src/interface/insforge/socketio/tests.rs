//! Tests of reading and writing Socket.IO packets.

use proptest::prelude::*;

use super::*;
use crate::limits::MESSAGE_BYTES_MAX;

fn parsed(text: &str) -> Event<'_> {
    match decode(text) {
        Ok(Packet::Event(event)) => event,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn events_with_everything() {
    let event = parsed(r#"2/custom,17["na\u006de", {"a":1} , [2],"x"] "#);
    assert_eq!((event.namespace, event.ack), ("/custom", Some(17)));
    assert_eq!(event.name, "name");
    assert_eq!(event.first, Some(r#"{"a":1}"#));
    assert_eq!(event.arguments, r#"{"a":1} , [2],"x""#);
    let bare = parsed(r#"2["e"]"#);
    assert_eq!((bare.namespace, bare.ack, bare.first, bare.arguments), ("/", None, None, ""));
    assert_eq!(parsed("2[5,1]").name, "5");
}

#[test]
fn connects_and_disconnects() {
    assert_eq!(decode("0"), Ok(Packet::Connect { namespace: "/", auth: "" }));
    let auth = r#"{"token":"x"}"#;
    assert_eq!(decode(r#"0/a,{"token":"x"}"#), Ok(Packet::Connect { namespace: "/a", auth }));
    assert_eq!(decode("1/a,"), Ok(Packet::Disconnect { namespace: "/a" }));
    assert_eq!(decode("1"), Ok(Packet::Disconnect { namespace: "/" }));
}

#[test]
fn violations() {
    for bad in [
        "",
        "x",
        "9",
        "2",
        "2{}",
        "2[",
        "2[]",
        "2[{}]",
        "2[null]",
        r#"2["a"]x"#,
        r#"2["connect"]"#,
        r#"2["disconnecting",1]"#,
        "0[]",
        "0\"x\"",
        "0{",
        "1{}",
        "3[]",
        "31{}",
        "4{}",
        r#"511-["a"]"#,
        r#"5-["a"]"#,
        r#"5+1-["a"]"#,
        r#"5["a"]"#,
        "61-1[]",
        r#"299999999999999999999["a"]"#,
    ] {
        assert!(decode(bad).is_err(), "{bad}");
    }
}

#[test]
fn attachments_are_collected_and_can_be_inlined() {
    let text = r#"52-3["bin",{"a":{"_placeholder":true,"num":1}},{"_placeholder":true,"num":0}]"#;
    let Ok(Packet::Incomplete(mut pending)) = decode(text) else { panic!("incomplete") };
    assert!(!pending.attach(&[1]));
    assert!(pending.attach(&[2, 3]));
    assert_eq!(pending.event().expect("valid").ack, Some(3));
    let inlined = pending.inlined().expect("both are there");
    let event = inlined.event().expect("valid");
    assert_eq!(event.first, Some(r#"{"a":{"type":"Buffer","data":[2,3]}}"#));
}

#[test]
fn attachments_are_bounded_together() {
    let Ok(Packet::Incomplete(mut pending)) = decode(r#"52-["b"]"#) else { panic!("text") };
    assert!(!pending.attach(&vec![0; MESSAGE_BYTES_MAX - 5]));
    assert!(!pending.is_too_large());
    assert!(pending.attach(&[0; 9]), "the others are still waited for");
    assert!(pending.is_too_large() && pending.attachments().is_empty());
    assert!(matches!(pending.inlined(), Err(InlineError::TooLarge)));
}

#[test]
fn a_placeholder_must_name_an_attachment() {
    let Ok(Packet::Incomplete(mut pending)) = decode(r#"51-["b",{"_placeholder":true,"num":7}]"#)
    else {
        panic!("text")
    };
    assert!(pending.attach(&[0]));
    assert!(pending.inlined().is_err());
}

#[test]
fn texts() {
    assert_eq!(connected("/", "abc"), r#"40{"sid":"abc"}"#);
    assert_eq!(connect_error("/x", "no\"pe", None), r#"44/x,{"message":"no\"pe"}"#);
    assert_eq!(
        connect_error("/", "no", Some(("A_B", "why"))),
        r#"44{"message":"no","data":{"code":"A_B","message":"why"}}"#
    );
    assert_eq!(event_text("/", "e", "1,2"), r#"42["e",1,2]"#);
    assert_eq!(ack_text("/x", 7, "1"), "43/x,7[1]");
    assert_eq!(with_attachments(r#"42["e"]"#, 1), r#"451-["e"]"#);
    assert_eq!(with_attachments("437[1]", 2), "462-7[1]");
}

proptest! {
    #[test]
    fn no_text_is_a_surprise(text: String, kind in "[0-9]{1,2}-?/?[a-z]?,?[0-9]?") {
        let _ = decode(&text);
        let _ = decode(&format!("{kind}{text}"));
    }
}
