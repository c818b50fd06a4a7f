//! Encrypted connections: opens what is received, and seals what is to be sent.

use std::io::IoSlice;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::{End, Excess, HttpConnection, READ_BYTES};
use crate::codec::http::HttpError;
use crate::codec::tls::TlsError;
use crate::runtime::transmit::send_slices;

/// The fatal alert `internal_error` in the clear (RFC 8446 section 6.2), for a client whose
/// handshake is not begun. No alert says that there are too many.
const ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 80];

impl HttpConnection {
    /// Returns whether keys are still to be agreed on.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Returns whether the encryption has ended, of which the kernel need not report anything.
    pub(super) fn has_ended(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_ended())
    }

    /// Returns how many bytes of an incomplete record the connection holds.
    pub(super) fn sealed_bytes(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.held_bytes())
    }

    /// Appends what was received to `buffer`. Returns how many bytes; 0 if there are none.
    pub(super) fn receive_sealed(&mut self, buffer: &mut Vec<u8>) -> Result<usize, End> {
        if self.excess == Some(Excess::Handshakes) {
            // What follows is not encrypted.
            self.tls = None;
            self.output.extend_from_slice(&ALERT);
            return Err(End::Handshakes);
        }
        let terms = self.terms.clone();
        let mut received = terms.received.take();
        received.resize(READ_BYTES, 0);
        let before = buffer.len();
        let mut is_more = false;
        let ended = loop {
            match &self.tls {
                Some(tls) if !tls.has_ended() => {}
                Some(tls) if !tls.is_over() => break Err(End::Sealed),
                _ => break Err(End::HalfClosed),
            }
            let length = match recv(self.socket(), &mut received[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) if length > 0 => length,
                Err(Errno::AGAIN) => break Ok(()),
                Err(Errno::INTR) => continue,
                Ok(_) => break Err(End::HalfClosed),
                Err(_) => break Err(End::Gone),
            };
            self.is_silent = false;
            self.terms.counters.http_bytes_received.add(length as u64);
            let opened = self.open(&mut received[..length], buffer);
            // A short read has emptied the socket, and later bytes are announced again.
            is_more = length == received.len() || opened.is_err();
            if opened.is_err() || buffer.len() > before {
                break opened;
            }
        };
        terms.received.replace(received);
        if buffer.len() > before {
            if is_more || self.has_ended() {
                self.terms.poller.note_unread(self.slot);
            }
            return Ok(buffer.len() - before);
        }
        ended.map(|()| 0)
    }

    /// Opens records. Appends their content to `buffer`, and what answers them to the output.
    fn open(&mut self, received: &mut [u8], buffer: &mut Vec<u8>) -> Result<(), End> {
        self.seal()?;
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let was_handshaking = tls.is_handshaking();
        let opened = tls.open(received, buffer, &mut self.output);
        self.sealed = self.output.len();
        let counters = &self.terms.counters;
        if was_handshaking && !tls.is_handshaking() {
            counters.tls_handshakes.add(1);
            // From now on the client has the time of a request, which it need not have begun.
            self.head_due = 0;
        }
        match opened {
            Ok(()) => return Ok(()),
            Err(TlsError::Plain) => {
                counters.tls_refused.add(1);
                self.tls = None;
                return Err(End::Broken(HttpError::Plain));
            }
            Err(error) => {
                tracing::debug!(%error, "an encrypted connection cannot go on");
                if was_handshaking {
                    counters.tls_refused.add(1);
                }
                if error.is_of_certificate() {
                    return Err(End::Uncertified);
                }
            }
        }
        Err(End::Sealed)
    }

    /// Makes records of the responses that are still to be sent.
    ///
    /// # Errors
    /// [`End::Gone`] if the connection can send nothing more.
    pub(in crate::runtime) fn seal(&mut self) -> Result<(), End> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let content = self.output.split_off(self.sealed);
        if !content.is_empty() {
            tls.seal(&content, &mut self.output).map_err(|_| End::Gone)?;
            self.sealed = self.output.len();
            self.terms.spare_output(content);
        }
        Ok(())
    }

    /// Tells the client that nothing more comes, if it takes that at once.
    pub(super) fn say_end(&mut self) {
        let Some(tls) = &mut self.tls else { return };
        let mut end = Vec::new();
        tls.close(&mut end);
        let _ = send_slices(self.socket(), &[IoSlice::new(&end)]);
    }
}
