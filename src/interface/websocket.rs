//! The handshake that makes a connection a WebSocket, for all interfaces.

use super::http::{Entrance, Upgrade};
use crate::codec::http::{Request, Response};
use crate::codec::websocket::handshake;
use crate::message::WorkerId;

/// Lets a connection become a WebSocket if its client keeps to the rules of the handshake.
/// `protocol` is the subprotocol that the interface has agreed on with the client.
pub(super) fn upgrade<S, C>(
    request: &Request,
    session: S,
    protocol: Option<String>,
    to: Option<WorkerId>,
) -> Entrance<S, C> {
    match handshake::check(request) {
        Ok(accept) => {
            let mut head = handshake::response(accept);
            if let Some(protocol) = protocol {
                head = head.header("Sec-WebSocket-Protocol", protocol);
            }
            Entrance::Upgrade(Upgrade { head, session, to })
        }
        Err(error) => {
            let mut response = Response::text(error.status(), error.to_string());
            for (name, value) in error.headers() {
                response = response.header(name, *value);
            }
            Entrance::Refuse(response)
        }
    }
}
