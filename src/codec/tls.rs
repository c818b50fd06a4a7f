//! TLS of a client's connection, the server's side: versions 1.2 and 1.3, by rustls.
//!
//! A [`Tls`] takes the bytes that a client sent and returns what they hold, and makes records of
//! what is to be sent. It has no buffer but for the beginning of a record whose rest has not come,
//! so that an idle connection has none: rustls' own connections keep at least 4 KiB each.

mod certificates;

use std::fmt;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
    WriteTraffic,
};
use thiserror::Error;

pub use certificates::{CertificateError, Terms};

/// The longest content of a record, in bytes (RFC 8446 section 5.1).
pub const RECORD_BYTES_MAX: usize = 16 * 1024;
/// What a record adds to its content at most, in bytes: its header, and what the ciphers of TLS 1.2
/// and 1.3 add.
const RECORD_OVERHEAD_MAX: usize = 64;

/// Why a connection cannot go on. What [`Tls::open`] has made before is still to be sent: an alert
/// that tells the client.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum TlsError {
    /// The client has sent something that is not TLS: its first byte is a letter, as in HTTP.
    #[error("the client does not speak TLS")]
    Plain,
    /// The client has broken the protocol, or shares no version, cipher or certificate.
    #[error(transparent)]
    Broken(#[from] rustls::Error),
    /// The keys have sealed as much as they may.
    #[error("the keys of the connection are used up")]
    Exhausted,
}

impl TlsError {
    /// Returns whether the certificate of the client is at fault.
    pub fn is_of_certificate(&self) -> bool {
        matches!(self, Self::Broken(rustls::Error::InvalidCertificate(_)))
    }
}

/// The state of one connection.
pub struct Tls {
    machine: UnbufferedServerConnection,
    /// The beginning of a record whose rest has not come. It owns no memory if it is empty.
    partial: Vec<u8>,
    has_begun: bool,
    /// Whether the client will send nothing more.
    is_over: bool,
    /// Whether the client was told that nothing more comes.
    is_closed: bool,
    /// Whether the connection cannot go on.
    has_failed: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Creates a connection on which nothing was received yet.
    ///
    /// # Errors
    /// If the terms hold no provider for a version, which their making excludes.
    pub fn new(terms: &Terms) -> Result<Self, TlsError> {
        Ok(Self {
            machine: UnbufferedServerConnection::new(terms.0.clone())?,
            partial: Vec::new(),
            has_begun: false,
            is_over: false,
            is_closed: false,
            has_failed: false,
        })
    }

    /// Returns whether keys are still to be agreed on.
    pub fn is_handshaking(&self) -> bool {
        self.machine.is_handshaking()
    }

    /// Returns whether the client has shown a certificate, which was verified.
    pub fn has_certificate(&self) -> bool {
        !self.machine.is_handshaking() && self.machine.peer_certificates().is_some()
    }

    /// Returns whether the client has said that it will send nothing more.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Returns whether nothing more can be received: the client has said so, or has broken the
    /// protocol.
    pub fn has_ended(&self) -> bool {
        self.is_over || self.has_failed
    }

    /// Returns how many bytes of a record are kept until its rest has come.
    pub fn held_bytes(&self) -> usize {
        self.partial.capacity()
    }

    /// Takes what a client has sent, which is used as working memory. Appends its content to
    /// `content`, and the records that answer it to `replies`.
    ///
    /// # Errors
    /// Why the connection cannot go on. The contents before the fault were appended.
    pub fn open(
        &mut self,
        received: &mut [u8],
        content: &mut Vec<u8>,
        replies: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        if !std::mem::replace(&mut self.has_begun, true)
            && received.first().is_some_and(u8::is_ascii_alphabetic)
        {
            return Err(TlsError::Plain);
        }
        if self.has_failed {
            return Err(rustls::Error::HandshakeNotComplete.into());
        }
        if self.is_over {
            return Ok(());
        }
        if self.partial.is_empty() {
            let used = self.process(received, content, replies)?;
            self.partial.extend_from_slice(&received[used..]);
            return Ok(());
        }
        let mut all = std::mem::take(&mut self.partial);
        all.extend_from_slice(received);
        let used = self.process(&mut all, content, replies)?;
        // A buffer of its own, so that a rest owns no more memory than it needs.
        self.partial = all[used..].to_vec();
        Ok(())
    }

    /// Processes records. Returns how many bytes are done with.
    fn process(
        &mut self,
        received: &mut [u8],
        content: &mut Vec<u8>,
        replies: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.machine.process_tls_records(&mut received[used..]);
            used += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        used += record.discard;
                        content.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(replies, |room| data.encode(room).map_err(Short::from))?;
                }
                // The caller sends the replies before anything else.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                // Nothing that follows counts.
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.is_over = true;
                    return Ok(received.len());
                }
                // The node does not take early data, and a rest of a record waits for its end.
                Ok(_) => return Ok(used),
                Err(error) => {
                    self.has_failed = true;
                    let alert = self.machine.process_tls_records(&mut received[used..]).state;
                    if let Ok(ConnectionState::EncodeTlsData(mut alert)) = alert {
                        append(replies, |room| alert.encode(room).map_err(Short::from))?;
                    }
                    return Err(error.into());
                }
            }
        }
    }

    /// Appends the records of `content` to `sealed`.
    ///
    /// # Errors
    /// If the connection cannot send any more.
    pub fn seal(&mut self, content: &[u8], sealed: &mut Vec<u8>) -> Result<(), TlsError> {
        let expected = content.len() + records(content.len()) * RECORD_OVERHEAD_MAX;
        self.write(sealed, |state, sealed| {
            append_expecting(sealed, expected, |room| {
                state.encrypt(content, room).map_err(Short::from)
            })
        })
    }

    /// Appends the record that tells the client that nothing more comes, unless it was told.
    pub fn close(&mut self, sealed: &mut Vec<u8>) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        // If no keys are agreed on yet, there is nothing to tell.
        let _ = self.write(sealed, |state, sealed| {
            append(sealed, |room| state.queue_close_notify(room).map_err(Short::from))
        });
    }

    /// Returns whether the client was told that nothing more comes.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Calls `write` once the connection can send content. Appends what must be sent before.
    fn write(
        &mut self,
        sealed: &mut Vec<u8>,
        write: impl FnOnce(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut Vec<u8>,
        ) -> Result<(), TlsError>,
    ) -> Result<(), TlsError> {
        if self.has_failed {
            return Err(rustls::Error::HandshakeNotComplete.into());
        }
        loop {
            // With the same bytes as the last time: rustls remembers which it has looked at.
            match self.machine.process_tls_records(&mut self.partial).state? {
                ConnectionState::WriteTraffic(mut traffic) => return write(&mut traffic, sealed),
                ConnectionState::EncodeTlsData(mut data) => {
                    append(sealed, |room| data.encode(room).map_err(Short::from))?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.is_over = true,
                _ => return Err(rustls::Error::HandshakeNotComplete.into()),
            }
        }
    }
}

/// Returns how many records hold so many bytes.
fn records(bytes: usize) -> usize {
    bytes.div_ceil(RECORD_BYTES_MAX).max(1)
}

/// Why a record was not written.
enum Short {
    /// It needs so many bytes.
    By(usize),
    Never,
}

impl From<EncodeError> for Short {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => {
                Self::By(required_size)
            }
            EncodeError::AlreadyEncoded => Self::Never,
        }
    }
}

impl From<EncryptError> for Short {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => {
                Self::By(required_size)
            }
            EncryptError::EncryptExhausted => Self::Never,
        }
    }
}

/// Appends what `write` writes into the room that it asks for.
fn append(
    to: &mut Vec<u8>,
    write: impl FnMut(&mut [u8]) -> Result<usize, Short>,
) -> Result<(), TlsError> {
    append_expecting(to, 2 * RECORD_OVERHEAD_MAX, write)
}

/// As [`append`], with the room that is likely to do.
fn append_expecting(
    to: &mut Vec<u8>,
    mut expected: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Short>,
) -> Result<(), TlsError> {
    let start = to.len();
    loop {
        to.resize(start + expected, 0);
        match write(&mut to[start..]) {
            Ok(written) => {
                to.truncate(start + written);
                return Ok(());
            }
            Err(Short::By(needed)) if needed > expected => expected = needed,
            Err(_) => {
                to.truncate(start);
                return Err(TlsError::Exhausted);
            }
        }
    }
}

#[cfg(test)]
mod tests;
