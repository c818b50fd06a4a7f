//! WebSocket frames (RFC 6455 section 5): taking a client's apart, building the server's.

mod decoder;
mod encode;
pub mod handshake;
mod header;
mod mask;
mod message;
mod partial;

pub use decoder::Decoder;
pub use encode::{Opcode, close, frame, is_binary, payload};
pub use message::Message;

use thiserror::Error;
use tungstenite::protocol::frame::coding::CloseCode;

/// Longest payload of a close, ping or pong frame, in bytes (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// Bytes that a close frame's code takes from its payload.
const CLOSE_CODE_BYTES: usize = 2;

/// Why a client's bytes are refused. All of them are the client's fault and end the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// A client must mask everything (section 5.1).
    #[error("the frame is not masked")]
    Unmasked,
    /// No extension was negotiated, so nobody may use their bits.
    #[error("a reserved bit is set")]
    ReservedBits,
    /// Opcodes 3 to 7 and 11 to 15 mean nothing.
    #[error("the opcode is reserved")]
    ReservedOpcode,
    /// A length must be written as short as it can be (section 5.2).
    #[error("the length is written longer than needed")]
    LengthEncoding,
    /// A close, ping or pong above [`CONTROL_BYTES_MAX`].
    #[error("the control frame is too long")]
    ControlTooLong,
    /// A close, ping or pong in fragments.
    #[error("the control frame is fragmented")]
    ControlFragmented,
    /// There is no message to continue.
    #[error("a continuation without a message")]
    StrayContinuation,
    /// Messages cannot be interleaved (section 5.4).
    #[error("a new message before the last one ended")]
    InterruptedMessage,
    /// A close frame of one byte, or with a code that may not be sent (section 7.4).
    #[error("the close frame is malformed")]
    MalformedClose,
    /// In a text message or a close reason.
    #[error("the text is not UTF-8")]
    InvalidUtf8,
    /// The message would exceed the maximum; found from the header, before its bytes arrive.
    #[error("the message is too long")]
    MessageTooLong,
}

impl FrameError {
    /// The code to close with (RFC 6455 section 7.4.1).
    pub fn close_code(self) -> u16 {
        let code = match self {
            Self::InvalidUtf8 => CloseCode::Invalid,
            Self::MessageTooLong => CloseCode::Size,
            _ => CloseCode::Protocol,
        };
        code.into()
    }
}

/// Whether a close code may stand in a frame (RFC 6455 section 7.4 and the IANA registry, where
/// 1014, "bad gateway", came later than the codec's list).
fn may_be_sent(code: u16) -> bool {
    code == 1014 || CloseCode::from(code).is_allowed()
}
