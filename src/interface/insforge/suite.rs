//! The application that the public Socket.IO conformance suite expects: it sends every message
//! back.

use super::socketio::{Event, ack_text, event_text, with_attachments};

/// The namespaces that exist in conformance mode.
pub(super) const NAMESPACES: [&str; 2] = ["/", "/custom"];

/// Returns the event that follows an accepted CONNECT and repeats its payload.
pub(super) fn greeting(namespace: &str, auth: &str) -> String {
    event_text(namespace, "auth", if auth.is_empty() { "{}" } else { auth })
}

/// Returns the packet that answers an event, before `attachments` binary packets; `None` if the
/// suite expects no answer.
pub(super) fn answer(event: &Event<'_>, attachments: usize) -> Option<String> {
    let text = match (&*event.name, event.ack) {
        ("message", _) => event_text(event.namespace, "message-back", event.arguments),
        ("message-with-ack", Some(ack)) => ack_text(event.namespace, ack, event.arguments),
        _ => return None,
    };
    Some(if attachments == 0 { text } else { with_attachments(&text, attachments) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::insforge::socketio::{Packet, decode};

    #[test]
    fn messages_come_back() {
        let Ok(Packet::Event(event)) = decode(r#"2/custom,["message",1,"2",{"3":[true]}]"#) else {
            panic!("an event")
        };
        let back = answer(&event, 0).expect("an answer");
        assert_eq!(back, r#"42/custom,["message-back",1,"2",{"3":[true]}]"#);
        let Ok(Packet::Event(event)) = decode(r#"2456["message-with-ack",1]"#) else {
            panic!("an event")
        };
        assert_eq!(answer(&event, 0).expect("an answer"), "43456[1]");
    }

    #[test]
    fn the_greeting_repeats_the_payload() {
        assert_eq!(greeting("/", ""), r#"42["auth",{}]"#);
        assert_eq!(greeting("/", r#"{"token":"1"}"#), r#"42["auth",{"token":"1"}]"#);
    }
}
