//! WebSocket frames (RFC 6455 section 5): the decoder of a client's frames, the encoder of the
//! server's, the opening handshake, and the compression of messages (RFC 7692).

mod decoder;
mod deflate;
mod encode;
pub mod extension;
pub mod handshake;
mod header;
mod mask;
mod message;
mod partial;

pub use decoder::Decoder;
pub use deflate::{Deflater, Inflater, Tally};
pub use encode::{Opcode, close, frame, is_binary, payload};
pub use message::Message;

use thiserror::Error;
use tungstenite::protocol::frame::coding::CloseCode;

/// Longest payload of a close, ping or pong frame, in bytes (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// Length of the code at the beginning of a close frame's payload, in bytes.
const CLOSE_CODE_BYTES: usize = 2;

/// Why a client's bytes are refused. The client is at fault in every case, and the connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// A client must mask every frame (RFC 6455 section 5.1).
    #[error("the frame is not masked")]
    Unmasked,
    /// A bit that is reserved for extensions is set (RFC 6455 section 5.2), and it is not the one
    /// that marks a compressed message on a connection that negotiated compression.
    #[error("a reserved bit is set")]
    ReservedBits,
    /// Opcodes 3 to 7 and 11 to 15 are not defined (RFC 6455 section 5.2).
    #[error("the opcode is reserved")]
    ReservedOpcode,
    /// A length must have the shortest possible encoding (RFC 6455 section 5.2).
    #[error("the length is written longer than needed")]
    LengthEncoding,
    /// The payload of a close, ping or pong exceeds [`CONTROL_BYTES_MAX`].
    #[error("the control frame is too long")]
    ControlTooLong,
    /// A close, ping or pong must not be fragmented (RFC 6455 section 5.5).
    #[error("the control frame is fragmented")]
    ControlFragmented,
    /// A continuation frame came without an unfinished message (RFC 6455 section 5.4).
    #[error("a continuation without a message")]
    StrayContinuation,
    /// A new message began before the previous one ended (RFC 6455 section 5.4).
    #[error("a new message before the last one ended")]
    InterruptedMessage,
    /// The close frame's payload has one byte, or a code that may not be sent (RFC 6455 section
    /// 7.4).
    #[error("the close frame is malformed")]
    MalformedClose,
    /// A text message or the reason of a close frame is not UTF-8.
    #[error("the text is not UTF-8")]
    InvalidUtf8,
    /// A compressed message is not DEFLATE.
    #[error("the compressed message is malformed")]
    Deflate,
    /// A compressed message has far more blocks than a compressor makes: they would cost time.
    #[error("the compressed message has too many blocks")]
    Blocks,
    /// The message would exceed the caller's maximum. The frame's header shows it, before the
    /// payload arrives, or the message is compressed.
    #[error("the message is too long")]
    MessageTooLong,
}

impl FrameError {
    /// Returns the code for the server's close frame: 1007, 1009 or 1002 (RFC 6455 section 7.4.1).
    pub fn close_code(self) -> u16 {
        let code = match self {
            Self::InvalidUtf8 | Self::Deflate | Self::Blocks => CloseCode::Invalid,
            Self::MessageTooLong => CloseCode::Size,
            _ => CloseCode::Protocol,
        };
        code.into()
    }
}

/// Returns whether a close frame may carry this code (RFC 6455 section 7.4 and the IANA registry).
/// tungstenite's list lacks 1014, "bad gateway", which was registered later.
fn may_be_sent(code: u16) -> bool {
    code == 1014 || CloseCode::from(code).is_allowed()
}
