//! WebSocket frames (RFC 6455 section 5) as a client reads and writes them.

use anyhow::{Result, bail, ensure};

/// Longest frame that a server may send. A longer one is an error.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;
const PONG: u8 = 0xA;
const MASKED: u8 = 0x80;

/// One frame from the server.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Frame<'a> {
    /// A message of the API.
    Text(&'a [u8]),
    /// A ping, which must be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// The server's close frame, with its code if it contains one.
    Close(Option<u16>),
    /// A binary message or a pong, which the client ignores.
    Other,
}

/// Returns the frame at the start of `bytes` and its length, or `None` if it is incomplete. An
/// error if the server breaks the protocol or fragments a message, which these servers never do.
pub(crate) fn read_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    ensure!(second & MASKED == 0, "the server masked a frame");
    ensure!(first & FIN != 0, "the server fragmented a message");
    ensure!(first & 0x70 == 0, "the server set a reserved bit");
    let Some((length, head_bytes)) = read_length(bytes, second) else {
        return Ok(None);
    };
    ensure!(length <= FRAME_BYTES_MAX as u64, "the server sent a frame of {length} bytes");
    let frame_bytes = head_bytes + usize::try_from(length)?;
    let Some(payload) = bytes.get(head_bytes..frame_bytes) else {
        return Ok(None);
    };
    let frame = match first & 0xF {
        TEXT => Frame::Text(payload),
        0x8 => Frame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        0x9 => Frame::Ping(payload),
        0x2 | PONG => Frame::Other,
        opcode => bail!("the server sent opcode {opcode}"),
    };
    Ok(Some((frame, frame_bytes)))
}

/// Appends a masked text frame.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &[u8], mask: [u8; 4]) {
    write_frame(out, TEXT, text, mask);
}

/// Appends a masked pong frame.
pub(crate) fn write_pong(out: &mut Vec<u8>, payload: &[u8], mask: [u8; 4]) {
    write_frame(out, PONG, payload, mask);
}

fn read_length(bytes: &[u8], second: u8) -> Option<(u64, usize)> {
    match second {
        126 => bytes[2..].first_chunk().map(|raw| (u64::from(u16::from_be_bytes(*raw)), 4)),
        127 => bytes[2..].first_chunk().map(|raw| (u64::from_be_bytes(*raw), 10)),
        short => Some((u64::from(short), 2)),
    }
}

fn write_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    out.push(FIN | opcode);
    match payload.len() {
        length @ 0..126 => out.push(MASKED | u8::try_from(length).expect("below 126")),
        length @ 126..=0xFFFF => {
            out.push(MASKED | 126);
            out.extend(u16::try_from(length).expect("at most 0xFFFF").to_be_bytes());
        }
        length => {
            out.push(MASKED | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![FIN | opcode];
        match payload.len() {
            length @ 0..126 => frame.push(length as u8),
            length @ 126..=0xFFFF => {
                frame.push(126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    #[test]
    fn frames_of_every_length_form_are_read() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'y'; length];
            let mut bytes = server_frame(TEXT, &payload);
            let whole = bytes.len();
            bytes.extend(b"next");
            assert_eq!(read_frame(&bytes).unwrap(), Some((Frame::Text(&payload), whole)));
        }
    }

    #[test]
    fn a_frame_cut_anywhere_waits_for_the_rest() {
        for length in [5, 126, 65_536] {
            let bytes = server_frame(TEXT, &vec![b'y'; length]);
            for cut in (0..bytes.len().min(12)).chain([bytes.len() - 1]) {
                assert_eq!(read_frame(&bytes[..cut]).unwrap(), None, "cut at {cut}");
            }
        }
    }

    #[test]
    fn control_frames_are_told_apart() {
        let close = server_frame(0x8, &1001_u16.to_be_bytes());
        assert_eq!(read_frame(&close).unwrap(), Some((Frame::Close(Some(1001)), 4)));
        assert_eq!(read_frame(&[0x88, 0]).unwrap(), Some((Frame::Close(None), 2)));
        assert_eq!(read_frame(&[0x89, 2, 7, 8]).unwrap(), Some((Frame::Ping(&[7, 8]), 4)));
        assert_eq!(read_frame(&[0x8A, 0]).unwrap(), Some((Frame::Other, 2)));
    }

    #[test]
    fn breaches_of_the_protocol_are_errors() {
        let breaches: [&[u8]; 5] = [
            &[0x81, 0x81, 1, 2, 3, 4, 5],
            &[0x01, 0x01, b'a'],
            &[0xC1, 0x01, b'a'],
            &[0x83, 0x00],
            &[0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0],
        ];
        for breach in breaches {
            assert!(read_frame(breach).is_err(), "{breach:?}");
        }
    }

    #[test]
    fn written_frames_carry_the_masked_text() {
        for length in [0, 5, 125, 126, 65_535, 65_536] {
            let text: Vec<u8> = (0..length).map(|at| b'a' + (at % 26) as u8).collect();
            let mask = [1, 2, 3, 4];
            let mut frame = Vec::new();
            write_text(&mut frame, &text, mask);
            assert_eq!(frame[0], 0x81);
            let (stated, head_bytes) = read_length(&frame, frame[1] & !MASKED).unwrap();
            assert!(frame[1] & MASKED != 0 && stated == length);
            assert_eq!(frame[head_bytes..head_bytes + 4], mask);
            let body: Vec<u8> = frame[head_bytes + 4..]
                .iter()
                .enumerate()
                .map(|(at, byte)| byte ^ mask[at % 4])
                .collect();
            assert_eq!(body, text);
        }
    }
}
