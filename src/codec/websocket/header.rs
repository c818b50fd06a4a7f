//! The parser of frame headers (RFC 6455 section 5.2), and the check of a client's.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::{CONTROL_BYTES_MAX, FrameError};

/// Returns a frame's header, the length of the payload and the length of the header, both in bytes;
/// `None` if the header is incomplete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>, FrameError> {
    let mut cursor = Cursor::new(bytes);
    // tungstenite refuses reserved opcodes and nothing else.
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| FrameError::ReservedOpcode)?;
    let Some((header, length)) = parsed else {
        return Ok(None);
    };
    let header_bytes = header.len(length);
    if cursor.position() != header_bytes as u64 {
        return Err(FrameError::LengthEncoding);
    }
    Ok(Some((header, length, header_bytes)))
}

/// Checks a client's header against every rule except the bound on messages. Returns its mask.
/// `may_deflate` says whether the client may compress its messages, and mark them in their first
/// frame with the first reserved bit (RFC 7692 section 6).
pub(super) fn check(
    header: &FrameHeader,
    length: u64,
    in_message: bool,
    may_deflate: bool,
) -> Result<[u8; 4], FrameError> {
    let is_first = || matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
    if header.rsv2 || header.rsv3 || (header.rsv1 && !(may_deflate && is_first())) {
        return Err(FrameError::ReservedBits);
    }
    match header.opcode {
        OpCode::Control(_) if !header.is_final => return Err(FrameError::ControlFragmented),
        OpCode::Control(_) if length > CONTROL_BYTES_MAX as u64 => {
            return Err(FrameError::ControlTooLong);
        }
        OpCode::Data(Data::Continue) if !in_message => return Err(FrameError::StrayContinuation),
        OpCode::Data(Data::Text | Data::Binary) if in_message => {
            return Err(FrameError::InterruptedMessage);
        }
        _ => {}
    }
    header.mask.ok_or(FrameError::Unmasked)
}
