//! WebSocket handshakes with chosen headers, and the messages that follow.

use std::net::TcpStream;
use std::time::Duration;

use tungstenite::client::IntoClientRequest;
use tungstenite::error::ProtocolError;
use tungstenite::http::HeaderValue;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

/// Upgrades a connection to the node; its reads have a time-out. The error is the status and the
/// body of the refusal.
pub(crate) fn dial<'h>(
    stream: TcpStream,
    path: &str,
    headers: impl IntoIterator<Item = (&'static str, &'h str)>,
    patience: Duration,
) -> Result<WebSocket<TcpStream>, String> {
    let port = stream.peer_addr().expect("it is connected").port();
    stream.set_nodelay(true).expect("TCP_NODELAY can be set");
    stream.set_read_timeout(Some(patience)).expect("the timeout is not zero");
    let url = format!("ws://127.0.0.1:{port}{path}");
    let mut request = url.into_client_request().expect("the URL is one");
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).expect("the value is one");
        request.headers_mut().append(name, value);
    }
    match tungstenite::client(request, stream) {
        Ok((websocket, _)) => Ok(websocket),
        Err(HandshakeError::Failure(Error::Http(answer))) => {
            let body = answer.body().clone().unwrap_or_default();
            Err(format!("{} {}", answer.status().as_u16(), String::from_utf8_lossy(&body)))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Returns the next message if it is a text; `None` for others, such as a ping. The error is the
/// code with which the node closed.
pub(crate) fn read_text(
    websocket: &mut WebSocket<TcpStream>,
) -> Result<Option<String>, Option<u16>> {
    match websocket.read() {
        Ok(Message::Text(text)) => Ok(Some(text.to_string())),
        Ok(Message::Close(close)) => Err(close.map(|close| close.code.into())),
        Ok(_) => Ok(None),
        Err(
            Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
        ) => Err(None),
        Err(error) => panic!("nothing comes: {error}"),
    }
}
