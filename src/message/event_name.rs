//! Event names that are not allowed in a publish.

use crate::limits::EVENT_BYTES_MAX;

/// Returns what is wrong with an event name, or `None`. The same rules hold for publishes over HTTP
/// and over sockets.
///
/// Names that `socket.io-client` reserves would make it close the connection, and with names of the
/// node's own events on sockets and streams a client could imitate these.
pub fn event_name_problem(name: &str) -> Option<&'static str> {
    match name {
        _ if name.len() > EVENT_BYTES_MAX => Some(TOO_LONG),
        "connect" | "connect_error" | "disconnect" | "disconnecting" | "newListener"
        | "removeListener" => Some("Event name is reserved by Socket.IO"),
        "presence:join"
        | "presence:leave"
        | "presence:sync"
        | "realtime:error"
        | "realtime:subscribed"
        | "gap" => Some("Event name is reserved for the server"),
        _ => None,
    }
}

const TOO_LONG: &str = "Event name must be at most 512 bytes long";
const _: () = assert!(EVENT_BYTES_MAX == 512, "the message above names the bound");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reserved_and_overlong_names_are_refused() {
        let reserved = [
            "connect",
            "connect_error",
            "disconnect",
            "disconnecting",
            "newListener",
            "removeListener",
            "presence:join",
            "presence:leave",
            "presence:sync",
            "realtime:subscribed",
            "realtime:error",
            "gap",
        ];
        for name in reserved {
            assert!(event_name_problem(name).is_some(), "{name}");
        }
        for name in [
            "",
            "INSERT",
            "message",
            "Connect",
            "presence:",
            "error",
            "notification",
            "Gap",
            "gap ",
        ] {
            assert_eq!(event_name_problem(name), None, "{name}");
        }
        assert_eq!(event_name_problem(&"e".repeat(EVENT_BYTES_MAX)), None);
        assert_eq!(event_name_problem(&"e".repeat(EVENT_BYTES_MAX + 1)), Some(TOO_LONG));
    }
}
