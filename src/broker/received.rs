//! Payloads as slices of what was received, so that they are not copied on their way to encoders,
//! history, webhooks and what channels keep.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use bytestring::ByteString;

use crate::limits::{SHARED_PAYLOAD_BYTES_MIN, SHARED_PAYLOAD_DIVISOR};

/// What a client sent: the body of a request, or a message that arrived in several reads.
#[derive(Clone, Debug)]
pub enum Received {
    /// Bytes in a buffer that is used again. Payloads are copied out of it.
    Short(Vec<u8>),
    /// Bytes that payloads can be slices of, and how many bytes the whole buffer has.
    Long(Bytes, usize),
}

/// The count of the bytes of received buffers that payloads keep alive.
#[derive(Clone, Default, Debug)]
pub struct Buffers(Arc<AtomicUsize>);

/// A payload that stays a slice of its buffer.
struct Shared {
    bytes: Bytes,
    buffer_bytes: usize,
    buffers: Buffers,
}

impl Received {
    /// Creates the value of bytes that are all of their buffer.
    pub fn whole(bytes: Bytes) -> Self {
        let buffer_bytes = bytes.len();
        Self::Long(bytes, buffer_bytes)
    }

    /// Returns a payload that outlives what was received, and whether it is a slice of it. It is a
    /// copy if it is shorter than [`SHARED_PAYLOAD_BYTES_MIN`] or than one in
    /// [`SHARED_PAYLOAD_DIVISOR`] parts of its buffer, or if it is not a part of these bytes.
    pub fn keep(&self, payload: &str, buffers: &Buffers) -> (ByteString, bool) {
        let Self::Long(bytes, buffer_bytes) = self else { return (payload.into(), false) };
        let is_large = payload.len() >= SHARED_PAYLOAD_BYTES_MIN
            && payload.len() >= buffer_bytes.div_ceil(SHARED_PAYLOAD_DIVISOR);
        let slice = if is_large { slice(bytes, payload) } else { None };
        match slice.and_then(|slice| buffers.share(slice, *buffer_bytes)) {
            Some(shared) => (shared, true),
            None => (payload.into(), false),
        }
    }
}

/// Returns a part of a buffer as a slice of it; `None` if the part is from elsewhere.
fn slice(bytes: &Bytes, part: &str) -> Option<Bytes> {
    let start = part.as_ptr().addr().checked_sub(bytes.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= bytes.len()).then(|| bytes.slice(start..end))
}

impl Default for Received {
    fn default() -> Self {
        Self::Short(Vec::new())
    }
}

/// Returns what was received without the buffer that is used again, if it is in one.
impl From<Received> for Bytes {
    fn from(received: Received) -> Self {
        match received {
            Received::Short(bytes) => bytes.into(),
            Received::Long(bytes, _) => bytes,
        }
    }
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => bytes,
            Self::Long(bytes, _) => bytes,
        }
    }
}

impl Buffers {
    /// Returns the bytes of received buffers that payloads keep alive.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn share(&self, bytes: Bytes, buffer_bytes: usize) -> Option<ByteString> {
        self.0.fetch_add(buffer_bytes, Ordering::Relaxed);
        let shared = Shared { bytes, buffer_bytes, buffers: self.clone() };
        ByteString::try_from(Bytes::from_owner(shared)).ok()
    }
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.buffers.0.fetch_sub(self.buffer_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(received: &Received) -> &str {
        str::from_utf8(received).unwrap()
    }

    #[test]
    fn a_large_payload_is_a_slice_and_its_buffer_is_counted_until_it_is_dropped() {
        let buffers = Buffers::default();
        let received = Received::whole(Bytes::from("x".repeat(2 * SHARED_PAYLOAD_BYTES_MIN)));
        let part = &text(&received)[10..10 + SHARED_PAYLOAD_BYTES_MIN];
        let (payload, is_shared) = received.keep(part, &buffers);
        assert_eq!((payload.as_ptr(), &*payload, is_shared), (part.as_ptr(), part, true));
        let other = payload.clone();
        drop((received, payload));
        assert_eq!(buffers.bytes(), 2 * SHARED_PAYLOAD_BYTES_MIN);
        drop(other);
        assert_eq!(buffers.bytes(), 0);
    }

    #[test]
    fn a_small_payload_keeps_no_large_buffer_alive() {
        let buffers = Buffers::default();
        let bytes = Bytes::from("x".repeat(4 * SHARED_PAYLOAD_BYTES_MIN));
        let whole = Received::whole(bytes.clone());
        let half = 2 * SHARED_PAYLOAD_BYTES_MIN;
        for (received, length, is_shared) in [
            (&whole, half, true),
            (&whole, half - 1, false),
            (&Received::Long(bytes.slice(..half), half), SHARED_PAYLOAD_BYTES_MIN, true),
            (&Received::Long(bytes.slice(..half), half), SHARED_PAYLOAD_BYTES_MIN - 1, false),
            (&Received::Long(bytes.slice(..half), bytes.len()), SHARED_PAYLOAD_BYTES_MIN, false),
        ] {
            let part = &text(received)[..length];
            let (payload, shared) = received.keep(part, &buffers);
            assert_eq!((&*payload, shared), (part, is_shared), "{length}");
            assert_eq!(buffers.bytes() > 0, is_shared, "{length}");
        }
        assert_eq!(buffers.bytes(), 0);
    }

    #[test]
    fn a_payload_from_elsewhere_is_copied() {
        let (buffers, elsewhere) = (Buffers::default(), "y".repeat(3 * SHARED_PAYLOAD_BYTES_MIN));
        let short = Received::Short(vec![b'x'; 4 * SHARED_PAYLOAD_BYTES_MIN]);
        let copied = short.keep(text(&short), &buffers).0;
        assert_eq!(copied.as_bytes(), &*short);
        let empty = Received::default().keep(&elsewhere, &buffers);
        let received = Received::whole(Bytes::from("x".repeat(4 * SHARED_PAYLOAD_BYTES_MIN)));
        for (payload, is_shared) in [empty, received.keep(&elsewhere, &buffers)] {
            assert_eq!((&*payload, is_shared), (&*elsewhere, false));
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_was_sent_and_at_most_twice_as_much_is_alive(
            length in 1..40_000_usize, start in 0..40_000_usize, more in 0..40_000_usize,
        ) {
            let sent: String = ('a'..='z').cycle().take(length).collect();
            let buffers = Buffers::default();
            let received = Received::Long(sent.into(), length + more);
            let part = &text(&received)[start.min(length)..];
            let (payload, _) = received.keep(part, &buffers);
            prop_assert_eq!(&*payload, part);
            prop_assert!(buffers.bytes() <= SHARED_PAYLOAD_DIVISOR * payload.len());
        }
    }
}
