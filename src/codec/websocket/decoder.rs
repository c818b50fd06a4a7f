//! The decoder of a client's byte stream.

use std::mem;
use std::ops::Range;

use bytestring::ByteString;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::mask::unmask;
use super::message::{control_message, data_message};
use super::partial::Partial;
use super::{CONTROL_BYTES_MAX, FrameError, Inflater, Message, header};
use crate::limits::TOO_LONG_START_BYTES;

/// Longest header of a client's frame, in bytes: 2, then 8 of length and 4 of mask.
const HEADER_BYTES_MAX: usize = 14;

/// The decoder of one client's byte stream. An idle one is as small as a pointer: it keeps only an
/// incomplete frame or an unfinished message, on the heap, and frees it once it is consumed.
#[derive(Default, Debug)]
pub struct Decoder {
    kept: Option<Box<Kept>>,
}

/// The state between two calls of [`Decoder::next`].
#[derive(Default, Debug)]
struct Kept {
    /// The beginning of an incomplete header, `head_len` bytes.
    head: [u8; HEADER_BYTES_MAX],
    head_len: usize,
    /// The frame whose payload has not arrived completely.
    frame: Option<Frame>,
    /// The part of that frame's payload that has arrived, if it is a control frame.
    control: Vec<u8>,
    /// The message whose last fragment has not arrived completely.
    message: Option<Partial>,
    /// The payload that the last call returned a reference to. The next call frees it.
    handed_out: Vec<u8>,
}

/// A frame whose header is complete and checked.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    /// Whether it begins a compressed message.
    is_deflated: bool,
    mask: [u8; 4],
    length: usize,
    /// Bytes of the payload that earlier input contained.
    taken: usize,
}

/// The kind of a complete message or control frame, and the place of its payload.
struct Complete {
    kind: CompleteKind,
    payload: Payload,
}

#[derive(Clone, Copy)]
enum CompleteKind {
    Data { is_text: bool, is_deflated: bool },
    Control(Control),
}

enum Payload {
    /// This range of the input.
    Input(Range<usize>),
    /// The bytes of [`Kept::handed_out`].
    Kept,
}

impl Decoder {
    /// Returns the next message or control frame from the kept state and `input[at..]`, and moves
    /// `at` after it. Returns `None` when the input is used up, and keeps the beginning of an
    /// incomplete frame. A message of one frame that `input` holds whole is unmasked in place and
    /// not copied.
    ///
    /// `message_bytes_max` bounds a message over all its fragments. After a data message no stream
    /// state is kept: the caller can continue with `input[at..]` in another decoder.
    ///
    /// # Errors
    ///
    /// The first breach of RFC 6455 or of `message_bytes_max`, after all messages before it. The
    /// decoder then forgets its place in the stream, so the caller must close the connection with
    /// [`FrameError::close_code`].
    pub fn next<'m>(
        &'m mut self,
        input: &'m mut [u8],
        at: &mut usize,
        message_bytes_max: usize,
    ) -> Result<Option<Message<'m>>, FrameError> {
        self.free_handed_out();
        let parsed = self.parse::<false>(input, at, message_bytes_max);
        self.finish(parsed, input)
    }

    /// Does the same for a client that may compress its messages, if there is an inflater. A
    /// message that arrives in parts is kept compressed until its end, because that takes less
    /// memory than an inflater of its own.
    ///
    /// # Errors
    ///
    /// Those of [`Decoder::next`]. A compressed message is too long as soon as more than
    /// `message_bytes_max` of it was inflated.
    pub fn next_inflated<'m>(
        &'m mut self,
        input: &'m mut [u8],
        at: &mut usize,
        message_bytes_max: usize,
        inflater: Option<&mut Inflater>,
    ) -> Result<Option<Message<'m>>, FrameError> {
        let Some(inflater) = inflater else { return self.next(input, at, message_bytes_max) };
        self.free_handed_out();
        let mut parsed = self.parse::<true>(input, at, message_bytes_max);
        if let Ok(Some(complete)) = &mut parsed
            && let Err(error) = self.inflate(complete, input, message_bytes_max, inflater)
        {
            parsed = Err(error);
        }
        self.finish(parsed, input)
    }

    /// Frees the payload that the last call returned a reference to.
    #[inline(always)]
    fn free_handed_out(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.handed_out = Vec::new();
        }
    }

    /// Makes a message of what was parsed, and forgets what is not needed any more.
    #[inline(always)]
    fn finish<'m>(
        &'m mut self,
        parsed: Result<Option<Complete>, FrameError>,
        input: &'m [u8],
    ) -> Result<Option<Message<'m>>, FrameError> {
        let is_spent = match &parsed {
            Ok(Some(Complete { payload: Payload::Kept, .. })) => false,
            Ok(_) => self.kept.as_ref().is_some_and(|kept| kept.is_spent()),
            Err(FrameError::MessageTooLong) => false,
            Err(_) => true,
        };
        if is_spent {
            self.kept = None;
        }
        let Some(Complete { kind, payload }) = parsed? else { return Ok(None) };
        if let (CompleteKind::Data { is_text: true, .. }, Payload::Kept) = (kind, &payload) {
            let kept = self.kept.as_mut().map(|kept| mem::take(&mut kept.handed_out));
            // The buffer holds nothing but the message, so that its length says how much a slice of
            // it keeps alive.
            let joined = kept.unwrap_or_default().into_boxed_slice().into_vec();
            let joined = ByteString::try_from(joined).map_err(|_| FrameError::InvalidUtf8);
            return joined.map(|joined| Some(Message::Joined(joined)));
        }
        let payload: &[u8] = match payload {
            Payload::Input(range) => &input[range],
            Payload::Kept => self.kept.as_ref().map_or(&[], |kept| &kept.handed_out),
        };
        let message = match kind {
            CompleteKind::Data { is_text, .. } => data_message(is_text, payload),
            CompleteKind::Control(control) => control_message(control, payload),
        };
        message.map(Some)
    }

    /// Returns the bytes of the incomplete message that the decoder keeps.
    pub fn held_bytes(&self) -> usize {
        let partial = self.kept.as_ref().and_then(|kept| kept.message.as_ref());
        partial.map_or(0, |partial| partial.data.capacity())
    }

    /// Returns the first bytes of the text message that was too long, after [`Decoder::next`] has
    /// returned [`FrameError::MessageTooLong`]; at most [`TOO_LONG_START_BYTES`], and none if they
    /// had not arrived with the frame's header.
    pub fn start_of_too_long(&self) -> &[u8] {
        self.kept.as_ref().map_or(&[], |kept| &kept.handed_out)
    }

    /// Forgets everything but the beginning of a message that is too long. `payload` is what has
    /// arrived of the frame that makes it too long.
    fn keep_start(&mut self, opcode: OpCode, mask: [u8; 4], payload: &[u8]) {
        let begun = self.kept.take().and_then(|kept| kept.message);
        let mut start = match begun {
            Some(message) if message.is_text && !message.is_deflated => message.data,
            None if opcode == OpCode::Data(Data::Text) => {
                let mut start = payload[..payload.len().min(TOO_LONG_START_BYTES)].to_vec();
                unmask(&mut start, mask, 0);
                start
            }
            _ => return,
        };
        start.truncate(TOO_LONG_START_BYTES);
        start.shrink_to_fit();
        self.keep().handed_out = start;
    }

    /// Inflates a complete message in place if it is compressed.
    #[cold]
    fn inflate(
        &mut self,
        complete: &mut Complete,
        input: &[u8],
        message_bytes_max: usize,
        inflater: &mut Inflater,
    ) -> Result<(), FrameError> {
        let CompleteKind::Data { is_text, is_deflated: true } = complete.kind else {
            return Ok(());
        };
        let payload = match &complete.payload {
            Payload::Input(range) => &input[range.clone()],
            Payload::Kept => self.kept.as_ref().map_or(&[][..], |kept| &kept.handed_out),
        };
        let handed_out = match inflater.inflate(payload, message_bytes_max) {
            Ok(message) => message.to_vec(),
            Err(FrameError::MessageTooLong) if is_text => {
                self.kept = None;
                let start = inflater.start();
                self.keep().handed_out = start[..start.len().min(TOO_LONG_START_BYTES)].to_vec();
                return Err(FrameError::MessageTooLong);
            }
            Err(error) => return Err(error),
        };
        self.keep().handed_out = handed_out;
        complete.payload = Payload::Kept;
        Ok(())
    }

    /// Compiled apart for clients that may compress, so that others do not pay for them.
    fn parse<const MAY_DEFLATE: bool>(
        &mut self,
        input: &mut [u8],
        at: &mut usize,
        message_bytes_max: usize,
    ) -> Result<Option<Complete>, FrameError> {
        while let Some(mut frame) = self.next_frame::<MAY_DEFLATE>(input, at, message_bytes_max)? {
            let here = (input.len() - *at).min(frame.length - frame.taken);
            // None of the payload has arrived, so it may still arrive in one piece.
            if here == 0 && frame.length > 0 {
                self.keep().frame = Some(frame);
                return Ok(None);
            }
            let place = *at..*at + here;
            unmask(&mut input[place.clone()], frame.mask, frame.taken);
            *at += here;
            let complete = match frame.opcode {
                OpCode::Control(control) => self.control(control, frame, input, place),
                OpCode::Data(data) => self.data(data, frame, input, place)?,
            };
            frame.taken += here;
            if frame.taken < frame.length {
                self.keep().frame = Some(frame);
                return Ok(None);
            }
            if complete.is_some() {
                return Ok(complete);
            }
        }
        Ok(None)
    }

    /// Returns the kept frame or the next one, and moves `at` after its header; `None` while the
    /// header is incomplete.
    fn next_frame<const MAY_DEFLATE: bool>(
        &mut self,
        input: &[u8],
        at: &mut usize,
        message_bytes_max: usize,
    ) -> Result<Option<Frame>, FrameError> {
        if let Some(frame) = self.kept.as_mut().and_then(|kept| kept.frame.take()) {
            return Ok(Some(frame));
        }
        let Some((header, length)) = self.next_header(input, at)? else {
            return Ok(None);
        };
        let message = self.kept.as_ref().and_then(|kept| kept.message.as_ref());
        let mask = header::check(&header, length, message.is_some(), MAY_DEFLATE)?;
        let is_deflated =
            MAY_DEFLATE && (header.rsv1 || message.is_some_and(|message| message.is_deflated));
        let bytes_max = match header.opcode {
            OpCode::Control(_) => CONTROL_BYTES_MAX,
            OpCode::Data(_) => {
                let most =
                    if is_deflated { deflated_max(message_bytes_max) } else { message_bytes_max };
                most.saturating_sub(message.map_or(0, |message| message.data.len()))
            }
        };
        let (opcode, is_final) = (header.opcode, header.is_final);
        let length = usize::try_from(length).ok().filter(|length| *length <= bytes_max);
        let Some(length) = length else {
            let payload = if is_deflated { &[] } else { &input[*at..] };
            self.keep_start(opcode, mask, payload);
            return Err(FrameError::MessageTooLong);
        };
        Ok(Some(Frame { opcode, is_final, is_deflated, mask, length, taken: 0 }))
    }

    fn next_header(
        &mut self,
        input: &[u8],
        at: &mut usize,
    ) -> Result<Option<(FrameHeader, u64)>, FrameError> {
        let rest = &input[*at..];
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.head_len > 0) {
            let had = kept.head_len;
            let more = rest.len().min(HEADER_BYTES_MAX - had);
            kept.head[had..had + more].copy_from_slice(&rest[..more]);
            kept.head_len = had + more;
            let header = header::parse(&kept.head[..kept.head_len])?;
            return Ok(if let Some((header, length, bytes)) = header {
                kept.head_len = 0;
                // The kept bytes were not a complete header, so it ends in the new bytes.
                *at += bytes - had;
                Some((header, length))
            } else {
                *at += more;
                None
            });
        }
        if let Some((header, length, bytes)) = header::parse(rest)? {
            *at += bytes;
            return Ok(Some((header, length)));
        }
        if !rest.is_empty() {
            let kept = self.keep();
            kept.head[..rest.len()].copy_from_slice(rest);
            kept.head_len = rest.len();
            *at = input.len();
        }
        Ok(None)
    }

    fn control(
        &mut self,
        control: Control,
        frame: Frame,
        input: &[u8],
        place: Range<usize>,
    ) -> Option<Complete> {
        let kind = CompleteKind::Control(control);
        if place.len() == frame.length {
            return Some(Complete { kind, payload: Payload::Input(place) });
        }
        let kept = self.keep();
        kept.control.extend_from_slice(&input[place]);
        if kept.control.len() < frame.length {
            return None;
        }
        kept.handed_out = mem::take(&mut kept.control);
        Some(Complete { kind, payload: Payload::Kept })
    }

    fn data(
        &mut self,
        data: Data,
        frame: Frame,
        input: &[u8],
        place: Range<usize>,
    ) -> Result<Option<Complete>, FrameError> {
        let is_text = data == Data::Text;
        if frame.is_final && data != Data::Continue && place.len() == frame.length {
            let kind = CompleteKind::Data { is_text, is_deflated: frame.is_deflated };
            return Ok(Some(Complete { kind, payload: Payload::Input(place) }));
        }
        let kept = self.keep();
        let slot = &mut kept.message;
        let message = slot.get_or_insert(Partial::new(is_text, frame.is_deflated));
        let remaining = frame.length - frame.taken;
        let is_last = frame.is_final && place.len() == remaining;
        message.append(&input[place], frame.is_final.then_some(remaining))?;
        if !is_last {
            return Ok(None);
        }
        let Some(message) = slot.take() else { return Ok(None) };
        let Partial { is_text, is_deflated, data, .. } = message;
        kept.handed_out = data;
        let kind = CompleteKind::Data { is_text, is_deflated };
        Ok(Some(Complete { kind, payload: Payload::Kept }))
    }

    fn keep(&mut self) -> &mut Kept {
        self.kept.get_or_insert_default()
    }
}

/// Returns how many bytes a compressed message may have if the message itself may have `bytes_max`:
/// a little more, because what cannot be compressed becomes longer.
fn deflated_max(bytes_max: usize) -> usize {
    bytes_max.saturating_add(bytes_max / 1_024 + 64)
}

impl Kept {
    fn is_spent(&self) -> bool {
        self.head_len == 0 && self.frame.is_none() && self.message.is_none()
    }
}

#[cfg(test)]
mod tests;
