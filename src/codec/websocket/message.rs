//! A client's messages, and the checks of their payloads.

use bytestring::ByteString;
use tungstenite::protocol::frame::coding::Control;

use super::{CLOSE_CODE_BYTES, FrameError, may_be_sent};

/// A complete message or control frame of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// A text message that the input holds whole.
    Text(&'a str),
    /// A text message that was joined, with the buffer that it was joined in.
    Joined(ByteString),
    /// A binary message, joined from its fragments.
    Binary(&'a [u8]),
    /// A ping, which the server answers with a pong of the same payload. The payload has at most
    /// [`CONTROL_BYTES_MAX`](super::CONTROL_BYTES_MAX) bytes.
    Ping(&'a [u8]),
    /// The answer to a ping, or an unsolicited heartbeat (RFC 6455 section 5.5.3).
    Pong(&'a [u8]),
    /// A close with its code and reason, or `None` if its payload is empty. The server may send the
    /// same code back.
    Close(Option<(u16, &'a str)>),
}

pub(super) fn data_message(is_text: bool, payload: &[u8]) -> Result<Message<'_>, FrameError> {
    if is_text { Ok(Message::Text(text(payload)?)) } else { Ok(Message::Binary(payload)) }
}

pub(super) fn control_message(control: Control, payload: &[u8]) -> Result<Message<'_>, FrameError> {
    match control {
        Control::Ping => Ok(Message::Ping(payload)),
        Control::Pong => Ok(Message::Pong(payload)),
        Control::Close => Ok(Message::Close(close_payload(payload)?)),
        Control::Reserved(_) => Err(FrameError::ReservedOpcode),
    }
}

fn close_payload(payload: &[u8]) -> Result<Option<(u16, &str)>, FrameError> {
    if payload.is_empty() {
        return Ok(None);
    }
    let (code, reason) =
        payload.split_first_chunk::<CLOSE_CODE_BYTES>().ok_or(FrameError::MalformedClose)?;
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(FrameError::MalformedClose);
    }
    Ok(Some((code, text(reason)?)))
}

fn text(payload: &[u8]) -> Result<&str, FrameError> {
    str::from_utf8(payload).map_err(|_| FrameError::InvalidUtf8)
}
