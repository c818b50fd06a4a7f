//! Sends responses.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use super::{End, HttpConnection};
use crate::codec::http::{Date, Response};
use crate::limits::{CLOSE_LINGER_MS, HTTP_RESPONSES_BYTES_MAX, LOOK_MS, SPARE_IDLE_MS};
use crate::message::Millis;
use crate::runtime::http_poller::Want;
use crate::runtime::transmit::send_slices;

impl HttpConnection {
    /// Appends a response to those that are to be sent, without its body if `head_only`. Sends them
    /// if they are many.
    pub(in crate::runtime) async fn respond(
        &mut self,
        response: &Response,
        date: Date,
        keep_alive: bool,
        head_only: bool,
    ) -> Result<(), End> {
        if self.output.capacity() == 0 {
            self.output = self.terms.outputs.borrow_mut().pop().unwrap_or_default();
        }
        response.write(&mut self.output, date, keep_alive, head_only);
        self.body_bytes = 0;
        if self.output.len() < HTTP_RESPONSES_BYTES_MAX {
            return Ok(());
        }
        self.flush().await
    }

    /// Returns whether all responses were sent.
    pub(in crate::runtime) fn has_answered(&self) -> bool {
        self.output.is_empty()
    }

    /// Returns the socket, and the responses that are still to be sent, which it is about to be
    /// offered. They must be sealed before.
    pub(in crate::runtime) fn offer(&self) -> (&OwnedFd, &[u8]) {
        self.terms.poller.begin(self.slot, Want::Write);
        (self.socket(), &self.output[self.sent..])
    }

    /// Notes how many bytes the socket took of those that it was offered.
    ///
    /// # Errors
    /// [`End::Gone`] if the connection has failed.
    pub(in crate::runtime) fn note_taken(
        &mut self,
        taken: Result<usize, Errno>,
    ) -> Result<(), End> {
        let taken = match taken {
            Ok(taken) => taken,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => return Err(End::Gone),
        };
        self.terms.counters.http_bytes_sent.add(taken as u64);
        self.sent += taken;
        if self.sent == self.output.len() {
            (self.sent, self.sealed) = (0, 0);
            self.terms.spare_output(std::mem::take(&mut self.output));
        }
        Ok(())
    }

    /// Sends the responses that are still to be sent.
    pub(in crate::runtime) async fn flush(&mut self) -> Result<(), End> {
        let mut due = None;
        while !self.has_answered() {
            self.seal()?;
            let (socket, bytes) = self.offer();
            let taken = send_slices(socket, &[IoSlice::new(bytes)]);
            self.note_taken(taken)?;
            if taken != Err(Errno::AGAIN) {
                continue;
            }
            let patience = self.times().write_timeout_ms;
            let now = || self.terms.shared.clock.monotonic();
            let due = *due.get_or_insert_with(|| now() + patience);
            if !self.is_taken(due).await {
                self.terms.counters.http_timeouts.add(1);
                return Err(End::Slow(false));
            }
        }
        Ok(())
    }

    /// Waits until the client takes something of a response. Returns false if it takes nothing
    /// until `due`, or for [`LOOK_MS`] while memory is short.
    async fn is_taken(&self, due: Millis) -> bool {
        loop {
            let look = due.min(self.terms.shared.clock.monotonic() + LOOK_MS);
            if self.is_ready(Want::Write, Some(look)).await {
                return true;
            }
            if look == due || self.terms.shared.interfaces.broker.memory.is_short() {
                return false;
            }
        }
    }

    /// Closes the connection after the last response. Waits [`CLOSE_LINGER_MS`] at most for the
    /// client to close as well, so that a reset does not destroy the response. A descriptor that is
    /// kept back waits less, and not at all for a client that has sent nothing, which no reset
    /// meets.
    pub(in crate::runtime) async fn finish(mut self: Box<Self>) {
        self.say_end();
        let _ = shutdown(self.socket(), Shutdown::Write);
        let linger = match self.is_spare {
            true if self.is_silent => return,
            true => SPARE_IDLE_MS,
            false => CLOSE_LINGER_MS,
        };
        let due = self.terms.shared.clock.monotonic() + linger;
        loop {
            self.at = self.input.len();
            self.spare_input();
            match self.fill() {
                Ok(true) => {}
                Ok(false) => {
                    if self.await_bytes(due).await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }
}
