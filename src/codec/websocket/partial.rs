//! A message of which not all came.

use super::FrameError;

/// An unfinished message, unmasked.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) is_text: bool,
    pub(super) data: Vec<u8>,
    /// How far a text is known to be UTF-8; what follows is the beginning of one character at most.
    checked: usize,
}

impl Partial {
    pub(super) fn new(is_text: bool) -> Self {
        Self { is_text, data: Vec::new(), checked: 0 }
    }

    /// Takes in a piece. `remaining` is what the message lacks where its last frame is under way.
    pub(super) fn append(
        &mut self,
        piece: &[u8],
        remaining: Option<usize>,
    ) -> Result<(), FrameError> {
        let length = self.data.len() + piece.len();
        if length > self.data.capacity() {
            // Doubling keeps the copying linear, whatever the size of the pieces; a known end keeps
            // the last doubling from taking twice the message.
            let doubled = length.max(2 * self.data.capacity());
            let end = remaining.map_or(usize::MAX, |remaining| self.data.len() + remaining);
            self.data.reserve_exact(doubled.min(end) - self.data.len());
        }
        self.data.extend_from_slice(piece);
        if self.is_text { self.check_text() } else { Ok(()) }
    }

    /// Fails on the first piece that cannot be part of a text, however far the message's end is.
    fn check_text(&mut self) -> Result<(), FrameError> {
        match str::from_utf8(&self.data[self.checked..]) {
            Ok(_) => self.checked = self.data.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(FrameError::InvalidUtf8),
        }
        Ok(())
    }
}
