//! The PROXY header with which a proxy's connection begins, and who its client is.

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use thiserror::Error;

use super::{End, Excess, HttpConnection};
use crate::codec::http::Request;
use crate::codec::proxy_header::{self, ProxyHeader, ProxyHeaderError};
use crate::interface::caller::{Caller, Unknown, caller};
use crate::limits::PROXY_HEADER_BYTES_MAX;
use crate::message::Peer;
use crate::runtime::http_poller::Want;

/// Whether a connection begins with a PROXY header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Announcement {
    /// It need not be looked at, or was looked at and had none.
    None,
    /// It must, and the header has not come.
    Due,
    /// It must not, and what it begins with is not known.
    Forbidden,
    /// It did, and the header has named the client.
    Named,
    /// It did, and the proxy speaks for itself, or does not know its client.
    Unnamed,
}

/// Why a connection is refused for what it begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(in crate::runtime) enum HeaderFault {
    /// It comes from a trusted proxy and does not begin with a valid header.
    #[error("Bad request: {0}")]
    Wrong(#[from] ProxyHeaderError),
    /// It comes from a trusted proxy, and the header is not complete in time.
    #[error("The PROXY header did not arrive in time")]
    Late,
    /// It comes from a trusted proxy and has ended in the middle of the header.
    #[error("Bad request: the PROXY header ends before it is complete")]
    Cut,
    /// It comes from elsewhere, and begins with a header.
    #[error("Bad request: PROXY headers are taken from trusted proxies only")]
    Forbidden,
}

impl HeaderFault {
    /// Returns the status code of the response.
    pub(in crate::runtime) fn status(self) -> u16 {
        if self == Self::Late { 408 } else { 400 }
    }

    /// Returns the reason for the log.
    pub(in crate::runtime) fn why(self) -> &'static str {
        match self {
            Self::Wrong(ProxyHeaderError::Missing) => {
                "a connection from proxy.trusted does not begin with a PROXY header"
            }
            Self::Wrong(ProxyHeaderError::Malformed(_)) | Self::Cut => {
                "a trusted proxy has sent a malformed PROXY header"
            }
            Self::Wrong(ProxyHeaderError::TooLong) => {
                "a trusted proxy has sent a PROXY header that is too long"
            }
            Self::Late => "a trusted proxy has not sent its PROXY header in time",
            Self::Forbidden => {
                "a PROXY header has come from an address that is not in proxy.trusted"
            }
        }
    }
}

impl HttpConnection {
    /// Lets the connection begin with a PROXY header if its other end is a trusted proxy, and not
    /// otherwise.
    pub(in crate::runtime) fn expect_header(&mut self, is_proxy: bool) {
        self.announcement = if is_proxy { Announcement::Due } else { Announcement::Forbidden };
    }

    /// Returns whether it is open what the connection begins with.
    pub(super) fn is_beginning(&self) -> bool {
        matches!(self.announcement, Announcement::Due | Announcement::Forbidden)
    }

    /// Reads the PROXY header if it has come. Returns false if it is still open what the connection
    /// begins with. The bytes of an incomplete header stay in the socket.
    #[inline(never)] // Reads of connections without a header do not need its buffer on the stack.
    pub(super) fn read_header(&mut self) -> Result<bool, End> {
        let mut bytes = [0; PROXY_HEADER_BYTES_MAX];
        self.terms.poller.begin(self.slot, Want::Read);
        let length = loop {
            let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
            match recv(self.socket(), &mut bytes[..], flags) {
                Ok((0, _)) => return Err(End::HalfClosed),
                Ok((length, _)) => break length,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(_) => return Err(End::Gone),
            }
        };
        self.is_silent = false;
        let is_known = match self.announcement {
            Announcement::Due => match proxy_header::read(&bytes[..length]) {
                Ok(None) => false,
                Ok(Some(header)) => {
                    self.take_header(header, &mut bytes)?;
                    true
                }
                Err(error) => return Err(self.refuse_header(error.into())),
            },
            _ => match proxy_header::is_there(&bytes[..length]) {
                None => false,
                Some(false) => {
                    self.announcement = Announcement::None;
                    true
                }
                Some(true) => return Err(self.refuse_header(HeaderFault::Forbidden)),
            },
        };
        if is_known {
            // From now on the client has the time of a request, which it need not have begun.
            self.head_due = 0;
        } else if self.terms.poller.has_ended(self.slot) {
            return Err(match self.announcement {
                Announcement::Due => self.refuse_header(HeaderFault::Cut),
                _ => End::Gone,
            });
        }
        Ok(is_known)
    }

    /// Takes a header, which is the first that can be received. `bytes` is working memory.
    fn take_header(&mut self, header: ProxyHeader, bytes: &mut [u8]) -> Result<(), End> {
        let received = recv(self.socket(), &mut bytes[..header.length], RecvFlags::DONTWAIT);
        if received.map(|(length, _)| length) != Ok(header.length) {
            return Err(End::Gone);
        }
        self.terms.counters.http_bytes_received.add(header.length as u64);
        (self.announcement, self.peer) = match header.client {
            Some(address) => (Announcement::Named, address.into()),
            None => (Announcement::Unnamed, self.peer),
        };
        self.caller = self.peer.into();
        self.count_at_peer();
        Ok(())
    }

    /// Refuses the connection. What follows on it is not encrypted, and counts for nothing.
    fn refuse_header(&mut self, fault: HeaderFault) -> End {
        self.tls = None;
        self.announcement = Announcement::None;
        End::Header(fault)
    }

    /// Returns why the connection ends if it is late with what it begins with.
    pub(super) fn lateness_of_header(&mut self) -> Option<End> {
        (self.announcement == Announcement::Due).then(|| self.refuse_header(HeaderFault::Late))
    }

    /// Counts the connection at the address of its other end, unless it is that of a proxy whose
    /// connections are for many clients.
    pub(in crate::runtime) fn count_at_peer(&mut self) {
        let counts_here = !self.is_shared() && self.announcement != Announcement::Due;
        let peer = if counts_here { self.peer } else { Peer::Local };
        match self.terms.shared.interfaces.throttle.hold(peer) {
            Err(_) => self.exceed(Excess::Address),
            // It ends after one request.
            Ok(_) if self.excess == Some(Excess::Node) => {}
            Ok(held) => self.count(held),
        }
        self.count_handshake(peer);
    }

    /// Counts the handshake that begins on an encrypted connection of this client.
    fn count_handshake(&mut self, peer: Peer) {
        if self.tls.is_none() {
            return;
        }
        let shared = &self.terms.shared;
        if !shared.interfaces.throttle.admit_tls(peer, shared.clock.monotonic()) {
            self.exceed(Excess::Handshakes);
        }
    }

    /// Returns whether the connection is that of a trusted proxy which names the client of each
    /// request in its headers.
    pub(in crate::runtime) fn is_shared(&self) -> bool {
        let proxies = self.terms.shared.interfaces.config.proxy.trusted.as_ref();
        let is_unnamed = self.announcement == Announcement::Unnamed;
        !is_unnamed && proxies.is_some_and(|proxies| proxies.trusts(self.peer))
    }

    /// Finds out who the client of a request is.
    ///
    /// # Errors
    /// If a trusted proxy has passed it on, and does not say it clearly.
    pub(in crate::runtime) fn find_caller(&mut self, request: &Request) -> Result<Caller, Unknown> {
        let Some(proxies) = &self.terms.shared.interfaces.config.proxy.trusted else {
            return Ok(self.caller);
        };
        self.caller = self.peer.into();
        // A proxy that does not know its client, or only passes bytes on, has checked no headers.
        let heeds_headers = self.announcement != Announcement::Unnamed;
        self.caller = caller(self.peer, request, heeds_headers.then_some(proxies))?;
        self.caller.is_proxied |=
            matches!(self.announcement, Announcement::Named | Announcement::Unnamed);
        Ok(self.caller)
    }
}
