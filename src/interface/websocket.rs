//! The handshake that turns an HTTP connection into a WebSocket, and the messages on it, for all
//! interfaces.

use super::Session;
use super::context::{Context, Local};
use super::http::{Entrance, HttpContext, Upgrade};
use super::next::{Close, Next, Reason};
use crate::broker::received::Received;
use crate::codec::http::{Request, Response};
use crate::codec::websocket::handshake::{self, Accept, HandshakeError};
use crate::codec::websocket::{self as wire, Decoder, FrameError, Message, Opcode, extension};
use crate::config::Compression;
use crate::message::WorkerId;

/// Returns the upgrade to a WebSocket, or a refusal if the request breaks the rules of the
/// handshake. `protocol` is the subprotocol that the interface and the client have agreed on; `to`
/// is the worker that must take the session, `None` if any worker may.
pub(super) fn upgrade<S, C>(
    http: &HttpContext<'_>,
    request: &Request,
    session: S,
    protocol: Option<String>,
    to: Option<WorkerId>,
) -> Entrance<S, C> {
    match check(request, http.shared.config.websocket.compression) {
        Ok((accept, extension)) => {
            let mut head = handshake::response(accept);
            if let Some(protocol) = protocol {
                head = head.header("Sec-WebSocket-Protocol", protocol);
            }
            let deflates = extension.is_some();
            if let Some(extension) = extension {
                head = head.header("Sec-WebSocket-Extensions", extension);
            }
            Entrance::Upgrade(Upgrade { head: Some(head), session, to, deflates })
        }
        Err(error) => {
            let mut response = Response::text(error.status(), error.to_string());
            for (name, value) in error.headers() {
                response = response.header(name, *value);
            }
            Entrance::Respond(response)
        }
    }
}

/// Checks a handshake. Returns what accepts it, and the compression that is agreed on, if any.
fn check(
    request: &Request,
    compression: Compression,
) -> Result<(Accept, Option<String>), HandshakeError> {
    let accept = handshake::check(request)?;
    let extension = match compression {
        Compression::Off => None,
        Compression::On => extension::negotiate(request).map_err(|_| HandshakeError::Extensions)?,
    };
    Ok((accept, extension))
}

impl Session {
    /// Decodes messages from `bytes[*at..]` and handles each. Stops when the bytes are used up, or
    /// after a message that returns anything but [`Next::Stay`]; then `at` is the end of that
    /// message.
    pub fn on_bytes(
        &mut self,
        ctx: &mut Context<'_>,
        decoder: &mut Decoder,
        bytes: &mut [u8],
        at: &mut usize,
    ) -> Next {
        let Some(bytes_max) = self.message_bytes_max() else {
            *at = bytes.len();
            return Next::Stay;
        };
        loop {
            let deflates = ctx.link.deflates();
            let Local { deflating, counters, .. } = &mut *ctx.local;
            let inflater = deflates.then_some(&mut deflating.inflater);
            let message = decoder.next_inflated(bytes, at, bytes_max, inflater);
            if deflates {
                deflating.count_inflated(counters);
            }
            let next = match message {
                Ok(Some(message)) => self.on_message(ctx, message),
                Ok(None) => return Next::Stay,
                Err(FrameError::MessageTooLong) => {
                    return self.on_too_long(ctx, decoder.start_of_too_long());
                }
                Err(error) => {
                    tracing::debug!(%error, "closing a WebSocket because its client broke the protocol");
                    let (code, reason) = (Some(error.close_code()), Reason::Protocol);
                    return Next::Close(Close { code, text: "", reason });
                }
            };
            if !next.is_stay() {
                return next;
            }
        }
    }

    /// Answers a message that is too long, as far as its interface can, and closes the connection.
    /// `start` is the beginning of the message.
    fn on_too_long(&mut self, ctx: &mut Context<'_>, start: &[u8]) -> Next {
        let api = self.refuse_too_long(ctx, start);
        let why = "a message is longer than allowed";
        ctx.local.auth.refusals.note(api, why, ctx.now.monotonic());
        let code = Some(FrameError::MessageTooLong.close_code());
        Next::Close(Close { code, text: why, reason: Reason::TooLong })
    }

    /// Returns the last bytes of a connection that is closed: a WebSocket's close frame. A stream
    /// ends with its connection.
    pub fn farewell(&self, close: &Close) -> Vec<u8> {
        match self.message_bytes_max() {
            Some(_) => wire::close(close.code, close.text),
            None => Vec::new(),
        }
    }

    fn on_message(&mut self, ctx: &mut Context<'_>, message: Message<'_>) -> Next {
        match message {
            Message::Ping(data) => {
                ctx.send(wire::frame(Opcode::Pong, &[data]));
                Next::Stay
            }
            Message::Pong(_) => {
                self.on_pong(ctx);
                Next::Stay
            }
            Message::Close(said) => {
                self.on_peer_close();
                let code = said.map(|(code, _)| code);
                Next::Close(Close { code, text: "", reason: Reason::Client })
            }
            Message::Text(text) => self.on_text(ctx, text),
            Message::Joined(text) => {
                ctx.local.received = Received::whole(text.as_bytes().clone());
                let next = self.on_text(ctx, &text);
                ctx.local.received = Received::default();
                next
            }
            Message::Binary(data) => self.on_binary(ctx, data),
        }
    }
}
