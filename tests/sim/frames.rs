//! WebSocket frames as a client makes and reads them (RFC 6455 section 5.2).

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// The key of every frame: there is no proxy here to be misled.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Bytes of a long payload that are kept of its beginning, and as many of its end.
const KEPT: usize = 1_024;

/// Makes a client's frame.
pub(crate) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let mut frame = vec![0x80 | opcode];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => frame.push(0x80 | short),
        (_, Ok(length)) => frame.extend([0x80 | 126].into_iter().chain(length.to_be_bytes())),
        (_, Err(_)) => frame.extend([0x80 | 127].into_iter().chain((length as u64).to_be_bytes())),
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Takes the frames of a server apart, whose bytes come in pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reader {
    header: Vec<u8>,
    /// Bytes of the payload that have come.
    at: usize,
    kept: Vec<u8>,
}

impl Reader {
    /// Takes bytes off the front of `bytes` until a frame is complete. Returns its opcode and its
    /// payload; only both ends of a long one.
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Option<(u8, Vec<u8>)> {
        let length = loop {
            if let Some(length) = self.length() {
                break length;
            }
            self.header.push(*bytes.split_off_first()?);
        };
        let taken = bytes.len().min(length - self.at);
        let piece = bytes.split_off(..taken).expect("it is as long as that");
        let (from, to) = (self.at, self.at + taken);
        let tail = length.saturating_sub(KEPT).max(KEPT);
        for (begin, end) in [(0, KEPT), (tail, length)] {
            let (begin, end) = (begin.clamp(from, to), end.clamp(from, to));
            self.kept.extend_from_slice(&piece[begin - from..end.max(begin) - from]);
        }
        self.at = to;
        if to < length {
            return None;
        }
        let Self { header, kept, .. } = std::mem::take(self);
        Some((header[0] & 0xf, kept))
    }

    /// Whether the last frame is complete.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.header.is_empty()
    }

    /// The length of the payload, once the header is complete.
    fn length(&self) -> Option<usize> {
        match (self.header.get(1)?, self.header.get(2..)?) {
            (127, length) => {
                Some(usize::try_from(u64::from_be_bytes(length.try_into().ok()?)).ok()?)
            }
            (126, length) => Some(u16::from_be_bytes(length.try_into().ok()?).into()),
            (short, _) => Some((*short).into()),
        }
    }
}
