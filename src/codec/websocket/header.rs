//! Headers of frames (RFC 6455 section 5.2): how they are read, and which rules they can break.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::{CONTROL_BYTES_MAX, FrameError};

/// A complete header with the payload's length and its own, both in bytes.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>, FrameError> {
    let mut cursor = Cursor::new(bytes);
    // A reserved opcode is the only thing that the codec itself refuses.
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

/// All rules that a header can break but the bound on messages; answers its mask.
pub(super) fn check(
    header: &FrameHeader,
    length: u64,
    in_message: bool,
) -> Result<[u8; 4], FrameError> {
    if header.rsv1 || header.rsv2 || header.rsv3 {
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
