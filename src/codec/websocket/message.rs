//! Messages of clients, and what their payloads must be.

use tungstenite::protocol::frame::coding::Control;

use super::{CLOSE_CODE_BYTES, FrameError, may_be_sent};

/// What a client sent, put together from its fragments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// Text, valid as a whole.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
    /// To be answered by a pong of the same payload, at most
    /// [`CONTROL_BYTES_MAX`](super::CONTROL_BYTES_MAX) bytes.
    Ping(&'a [u8]),
    /// An answer to a ping, or a one-sided sign of life.
    Pong(&'a [u8]),
    /// The client closes: its code, where it gave one, and its reason. The code may be sent back.
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
