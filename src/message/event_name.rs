//! Event names that are not allowed in a publish.

use crate::limits::EVENT_BYTES_MAX;

/// Defines a list of names, and the function that finds a name in it as fast as `match` does.
macro_rules! names {
    ($list:ident, $finds:ident, $($name:literal),+) => {
        const $list: &[&str] = &[$($name),+];
        fn $finds(name: &str) -> bool {
            matches!(name, $($name)|+)
        }
    };
}

// Names that `socket.io-client` reserves: they would make it close the connection.
names!(
    OF_CLIENTS,
    is_of_clients,
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener"
);
// Names of the node's own events on sockets and streams, which a client could imitate.
names!(
    OF_THE_SERVER,
    is_of_the_server,
    "presence:join",
    "presence:leave",
    "presence:sync",
    "realtime:error",
    "realtime:subscribed",
    "gap"
);

/// Returns what is wrong with an event name, or `None`. The same rules hold for publishes over HTTP
/// and over sockets, and for rows of a database.
pub fn event_name_problem(name: &str) -> Option<&'static str> {
    match name {
        _ if name.len() > EVENT_BYTES_MAX => Some(TOO_LONG),
        _ if is_of_clients(name) => Some("Event name is reserved by Socket.IO"),
        _ if is_of_the_server(name) => Some("Event name is reserved for the server"),
        _ => None,
    }
}

/// Returns the names that no event may have.
pub fn reserved_event_names() -> impl Iterator<Item = &'static str> {
    OF_CLIENTS.iter().chain(OF_THE_SERVER).copied()
}

const TOO_LONG: &str = "Event name must be at most 512 bytes long";
const _: () = assert!(EVENT_BYTES_MAX == 512, "the message above names the bound");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reserved_and_overlong_names_are_refused() {
        for name in reserved_event_names() {
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
