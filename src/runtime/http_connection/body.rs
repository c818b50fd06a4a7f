//! Reads the bodies of requests.

use bytes::Bytes;

use super::{End, HttpConnection, READ_BYTES, cut};
use crate::broker::received::Received;
use crate::codec::http::{BodyDecoder, BodyKind, Request, continue_100};
use crate::limits::{HTTP_BODY_BYTES_MAX, SHARED_PAYLOAD_BYTES_MIN};
use crate::message::Millis;
use crate::runtime::http_poller::Want;

/// How many bytes of a body's buffer are taken before as many have arrived.
const BODY_STEP_BYTES: usize = 64 * 1024;

impl HttpConnection {
    /// Returns whether a request's body has arrived with its head. A chunked body counts as one
    /// that has not.
    pub(in crate::runtime) fn has_body(&self, request: &Request) -> bool {
        match request.body {
            BodyKind::None => true,
            BodyKind::Sized(bytes) => self.unread().len() as u64 >= bytes,
            BodyKind::Chunked => false,
        }
    }

    /// Reads a request's body. Short bodies have a buffer that `HttpTerms::take_back` takes back.
    pub(in crate::runtime) async fn body(&mut self, request: &Request) -> Result<Received, End> {
        let decoder = BodyDecoder::new(request.body, HTTP_BODY_BYTES_MAX).map_err(End::Broken)?;
        if !self.has_body(request) {
            self.body_bytes = 0;
            if request.expects_continue && self.unread().is_empty() {
                self.output.extend_from_slice(continue_100());
            }
            // The client may wait for the responses before it sends the rest.
            self.flush().await?;
            let due = self.terms.shared.clock.monotonic() + self.times().body_timeout_ms;
            let body = match request.body {
                BodyKind::Sized(bytes) => self.rest(bytes, due).await,
                BodyKind::Chunked | BodyKind::None => self.chunks(decoder, due).await,
            };
            return Ok(Received::whole(Bytes::from(body?)));
        }
        let length = match request.body {
            // The decoder has checked that it is at most HTTP_BODY_BYTES_MAX.
            BodyKind::Sized(bytes) => usize::try_from(bytes).unwrap_or(0),
            BodyKind::Chunked | BodyKind::None => 0,
        };
        let bytes = &self.input[self.at..self.at + length];
        self.at += length;
        if length >= SHARED_PAYLOAD_BYTES_MIN {
            return Ok(Received::whole(Bytes::copy_from_slice(bytes)));
        }
        let mut body = self.terms.body.take();
        body.clear();
        body.extend_from_slice(bytes);
        Ok(Received::Short(body))
    }

    /// Reads a body of so many bytes of which a part is missing, into a buffer of exactly its size.
    async fn rest(&mut self, bytes: u64, due: Millis) -> Result<Vec<u8>, End> {
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut body = Vec::new();
        body.reserve_exact(length.min(self.unread().len().max(BODY_STEP_BYTES)));
        body.extend_from_slice(self.unread());
        self.at = self.input.len();
        self.spare_input();
        while body.len() < length {
            if body.len() == body.capacity() {
                let more = body.len().max(BODY_STEP_BYTES).min(length - body.len());
                body.reserve_exact(more);
            }
            self.body_bytes = body.capacity();
            if !self.hold(self.input.capacity() + READ_BYTES + self.body_bytes) {
                return Err(End::NoMemory);
            }
            self.terms.poller.begin(self.slot, Want::Read);
            if self.receive(&mut body).map_err(cut)? == 0 {
                self.await_bytes(due).await?;
            }
        }
        // Records may hold more than was asked for.
        self.input.extend(body.drain(length.min(body.len())..));
        // More may be there: the next request.
        self.terms.poller.note_unread(self.slot);
        Ok(body)
    }

    /// Reads a body that comes in chunks.
    async fn chunks(&mut self, mut decoder: BodyDecoder, due: Millis) -> Result<Vec<u8>, End> {
        let mut body = Vec::new();
        loop {
            self.at += decoder.feed(&self.input[self.at..], &mut body).map_err(End::Broken)?;
            if decoder.is_done() {
                body.shrink_to_fit();
                return Ok(body);
            }
            self.body_bytes = body.capacity();
            if !self.fill().map_err(cut)? {
                self.await_bytes(due).await?;
            }
        }
    }

    pub(super) async fn await_bytes(&mut self, due: Millis) -> Result<(), End> {
        match self.is_ready(Want::Read, Some(due)).await {
            true => Ok(()),
            false => Err(End::Slow(true)),
        }
    }
}
