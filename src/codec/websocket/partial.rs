//! The buffer of a message that has not arrived completely.

use super::FrameError;

/// The part of a message that has arrived, unmasked.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) is_text: bool,
    pub(super) is_deflated: bool,
    pub(super) data: Vec<u8>,
    /// Bytes of a text that are known to be UTF-8. The bytes after them are at most the beginning
    /// of one character.
    checked: usize,
}

impl Partial {
    pub(super) fn new(is_text: bool, is_deflated: bool) -> Self {
        Self { is_text, is_deflated, data: Vec::new(), checked: 0 }
    }

    /// Appends a piece and checks it if the message is a text that is not compressed. `remaining`
    /// is the number of bytes still missing, this piece included; `None` until the message's last
    /// frame.
    pub(super) fn append(
        &mut self,
        piece: &[u8],
        remaining: Option<usize>,
    ) -> Result<(), FrameError> {
        let length = self.data.len() + piece.len();
        if length > self.data.capacity() {
            // Doubling keeps the copying linear, whatever the size of the pieces. If the end is
            // known, the last doubling stops there and does not take twice the message.
            let doubled = length.max(2 * self.data.capacity());
            let end = remaining.map_or(usize::MAX, |remaining| self.data.len() + remaining);
            self.data.reserve_exact(doubled.min(end) - self.data.len());
        }
        self.data.extend_from_slice(piece);
        if self.is_text && !self.is_deflated { self.check_text() } else { Ok(()) }
    }

    /// Fails at the first invalid byte, even if the message has not ended.
    fn check_text(&mut self) -> Result<(), FrameError> {
        match str::from_utf8(&self.data[self.checked..]) {
            Ok(_) => self.checked = self.data.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(FrameError::InvalidUtf8),
        }
        Ok(())
    }
}
