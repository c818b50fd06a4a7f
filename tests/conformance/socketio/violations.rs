//! Packets for which the node closes the transport, without an error packet of Socket.IO.

use std::time::Duration;

use super::{calm, connected};
use crate::frames::{BINARY, Frame, Peer};
use crate::session::{assert_closes, closes_within};

/// Packets that end a connection to the main namespace.
const PACKETS: [&str; 41] = [
    // No type, or an unknown one.
    "4",
    "4abc",
    "47",
    "48[]",
    "49",
    // A second CONNECT, or CONNECT with a payload that is not an object.
    "40",
    "40{}",
    "40[]",
    r#"40"token""#,
    "40{bad",
    // Events that are not an array, or do not begin with a name.
    "42",
    "42{}",
    r#"42"message""#,
    "42null",
    "42[]",
    "42[{}]",
    "42[null,1]",
    r#"42[["message"]]"#,
    // Not JSON.
    r#"42["message""#,
    r#"42["message",]"#,
    r#"42["message"]]"#,
    "42[message]",
    "42[\"line\nbreak\"]",
    // Names that the library reserves.
    r#"42["connect"]"#,
    r#"42["connect_error"]"#,
    r#"42["disconnect"]"#,
    r#"42["disconnecting"]"#,
    r#"42["newListener"]"#,
    r#"42["removeListener"]"#,
    // Ids that are not numbers.
    r#"42abc["message-with-ack",1,"2",{"3":[false]}]"#,
    r#"42-1["message-with-ack"]"#,
    // Acknowledgements that are not an array.
    "430{}",
    "430",
    // Namespaces without a connection.
    r#"42/custom,["message"]"#,
    r#"42/random,["message"]"#,
    // Attachments: without a count, without a dash, not a number, too many.
    r#"45["message"]"#,
    r#"45-["message"]"#,
    r#"451["message"]"#,
    r#"45x-["message"]"#,
    r#"4511-["message"]"#,
    r#"4599999999999999999999-["message"]"#,
];

/// How long a connection may stay open after a violation.
const PROMPTLY: Duration = Duration::from_secs(5);

/// Tries every packet, and fails with a list of those that did not end the connection.
fn each_closes(packets: &[&str], survives: impl Fn(&str) -> Option<String>) {
    let survived: Vec<_> = packets.iter().filter_map(|packet| survives(packet)).collect();
    assert!(survived.is_empty(), "these did not close it:\n{}", survived.join("\n"));
}

fn survives(mut peer: Peer, packet: &str) -> Option<String> {
    peer.say(packet);
    let heard = closes_within(&mut peer, PROMPTLY).err()?;
    Some(format!("{packet}, heard {heard:?}"))
}

#[test]
fn packets_that_break_the_rules_close_the_connection() {
    each_closes(&PACKETS, |packet| survives(connected(), packet));
}

#[test]
fn packets_that_break_the_rules_close_a_polling_session() {
    each_closes(&PACKETS, |packet| {
        let session = calm().open_polling();
        session.post_ok("40");
        session.packets_to(2);
        // The node may refuse the packet, or accept it and then close the session.
        let answer = session.post_anyhow(packet);
        (!session.ends_within(PROMPTLY)).then(|| format!("{packet}, answered {answer:?}"))
    });
}

#[test]
fn packets_before_connect_close_the_connection() {
    let packets = [r#"42["message"]"#, r#"420["message-with-ack"]"#, "430[]", "4abc"];
    each_closes(&packets, |packet| survives(calm().open_websocket(), packet));
    let mut peer = calm().open_websocket();
    peer.send(&Frame::new(BINARY, [1, 2, 3]));
    assert_closes(&mut peer, "binary before CONNECT");
}

#[test]
fn binary_that_nobody_announced_closes_the_connection() {
    let mut peer = connected();
    peer.send(&Frame::new(BINARY, [1, 2, 3]));
    assert_closes(&mut peer, "binary out of the blue");
    let mut peer = connected();
    peer.say(r#"451-["message",{"_placeholder":true,"num":0}]"#);
    peer.send(&Frame::new(BINARY, [1]));
    peer.hear().text();
    peer.hear();
    peer.send(&Frame::new(BINARY, [2]));
    assert_closes(&mut peer, "one attachment too many");
}

#[test]
fn text_while_attachments_are_due_closes_the_connection() {
    each_closes(&[r#"42["message"]"#, r#"451-["message"]"#, "41"], |packet| {
        let mut peer = connected();
        peer.say(r#"452-["message",{"_placeholder":true,"num":0}]"#);
        peer.send(&Frame::new(BINARY, [1]));
        survives(peer, packet)
    });
}

#[test]
fn placeholders_that_lead_nowhere_close_the_connection() {
    each_closes(&["1", "-1", "99999999999999999999", r#""0""#, "null"], |num| {
        let mut peer = connected();
        peer.say(&format!(r#"451-["message",{{"_placeholder":true,"num":{num}}}]"#));
        peer.send(&Frame::new(BINARY, [1]));
        let heard = closes_within(&mut peer, PROMPTLY).err()?;
        Some(format!("{num}, heard {heard:?}"))
    });
}

#[test]
fn one_bad_connection_leaves_the_others_alone() {
    let mut bystander = connected();
    for packet in PACKETS {
        let mut peer = connected();
        peer.say(packet);
    }
    super::assert_echoes(&mut bystander, "still here");
}
