//! The steps of a turn, beside the events that [`Worker`] takes: the loop calls them, or a
//! simulation in its place. They read no clock, and send nothing themselves.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::arrivals::Newcomer;
use super::worker::Worker;
use super::{drain, sender, upgrade};
use crate::broker::link::Link;
use crate::interface::Session;
use crate::interface::frame::Frame;
use crate::interface::next::Reason;
use crate::message::{ConnId, Now};

impl Worker {
    /// Takes a socket over whose handshake is answered. Returns the id of its connection; `None` if
    /// the system does not let the worker watch it.
    pub fn open(&mut self, socket: OwnedFd, session: Session) -> Option<ConnId> {
        let newcomer = Newcomer { socket, head: Vec::new(), leftover: Vec::new(), session };
        upgrade::adopt(self, newcomer).map(|slot| self.connections.id(slot))
    }

    /// Sets the time of the events that follow.
    pub fn at(&mut self, now: Now) {
        self.now = now;
    }

    /// Goes on with what waited for room or for a verdict: leaves that found a mailbox full, and
    /// commands. Forgets the sessions that can no longer be resumed. Returns true if there is more
    /// to do at once.
    pub fn catch_up(&mut self) -> bool {
        let now = self.now;
        self.local.subscriptions(&self.shared.interfaces, now).retry_leaves();
        if let Some(detached) = &mut self.local.detached {
            detached.expire(now.monotonic(), &self.shared.interfaces.broker.directory, self.id);
        }
        self.resume_judged()
    }

    /// The socket of a connection has ended, or has failed: lets the connection go.
    pub fn ended(&mut self, slot: u32) {
        self.remove(slot, Reason::Client);
    }

    /// A socket that was full takes bytes again.
    pub fn writable(&mut self, slot: u32) {
        sender::unblock(&mut self.connections, &mut self.local, slot);
    }

    /// Ends a turn: tells sessions the time, closes what is due, and sends what waits. `transmit`
    /// offers bytes to the socket of a connection and returns how many it took.
    pub fn end_turn(
        &mut self,
        transmit: impl FnMut(ConnId, &OwnedFd, &[IoSlice<'_>]) -> Result<usize, Errno>,
    ) {
        self.run_timers();
        drain::step(self);
        self.reap();
        sender::drain(self, transmit);
        sender::reload_stale(self);
    }

    /// The ids of all connections, those included that are being closed.
    pub fn ids(&self) -> impl Iterator<Item = ConnId> {
        self.connections.ids()
    }

    /// The broker's part of a connection; `None` if it is gone.
    pub fn link(&mut self, id: ConnId) -> Option<&mut Link<Frame>> {
        Some(&mut self.connections.by_id(id)?.link)
    }

    /// Whether nothing is left of connections that have ended, and nothing waits for the store: no
    /// subscription, no leave to be tried again, no read of a document.
    pub fn is_vacant(&self) -> bool {
        let local = &self.local;
        local.index.is_empty() && local.leaves.is_empty() && local.loads.is_empty()
    }
}
