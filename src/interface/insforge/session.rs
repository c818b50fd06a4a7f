//! Engine.IO sessions: what a packet means, on whichever transport it came, and what time brings.

mod long_polling;
mod resuming;

use std::sync::Arc;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::client::Client;
use super::conformance::SocketIo;
use super::detached::is_same_client;
use super::engineio::{self, Packet};
use super::polling::Polling;
use super::realtime::Realtime;
use super::resume;
use super::violation::Violation;
use crate::broker::directory::Subscriber;
use crate::codec::websocket::{Opcode, frame};
use crate::interface::context::Context;
use crate::interface::heartbeat::{Heartbeat, Timings, beat};
use crate::interface::next::{End, Next, Reason};
use crate::interface::shared::Shared;
use crate::message::{
    AckId, Activation, Channel, ConnId, Credential, Encoding, Millis, Now, SessionId, SessionKey,
    Transport,
};
use crate::metrics::{Counter, Counters};

/// What a session is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum App {
    /// InsForge Realtime over Socket.IO.
    Insforge,
    /// The events that Socket.IO conformance suites expect.
    SocketIoConformance,
    /// Echo of message packets, as Engine.IO conformance suites expect.
    EngineIoConformance,
}

/// An Engine.IO session.
#[derive(Debug)]
pub struct Session {
    /// The secret part of its id.
    key: SessionKey,
    heartbeat: Heartbeat,
    /// The state of long-polling, while that is the transport.
    polling: Option<Box<Polling>>,
    over: Over,
}

/// What runs over a session.
#[derive(Debug)]
enum Over {
    /// InsForge Realtime.
    Realtime(Realtime),
    /// The application of Socket.IO conformance suites.
    SocketIo(Box<SocketIo>),
    /// Echo of messages, as Engine.IO conformance suites expect.
    EngineIo,
}

impl Over {
    fn new(app: App, now: Millis, timings: &Timings, random: &mut StdRng) -> Self {
        match app {
            App::Insforge => Self::Realtime(Realtime::new(now, timings, random)),
            App::SocketIoConformance => Self::SocketIo(Box::new(SocketIo::new(now, timings))),
            App::EngineIoConformance => Self::EngineIo,
        }
    }
}

impl Session {
    /// Creates a session on a WebSocket that opens now.
    pub fn websocket(app: App, now: Now, timings: &Timings, random: &mut StdRng) -> Self {
        let now = now.monotonic();
        Self {
            key: random.random(),
            heartbeat: Heartbeat::new(now, timings),
            polling: None,
            over: Over::new(app, now, timings, random),
        }
    }

    /// Creates a session on long-polling that opens now.
    pub fn polling(app: App, now: Now, timings: &Timings, random: &mut StdRng) -> Self {
        let session = Self::websocket(app, now, timings, random);
        Self { polling: Some(Box::default()), ..session }
    }

    /// Returns the payload that answers the request which opened a session on long-polling.
    pub(in crate::interface) fn opening(&self, ctx: &Context<'_>) -> String {
        let id = SessionId { worker: ctx.local.worker, slot: ctx.id.slot, key: self.key };
        engineio::open(&id, true, &ctx.shared.timings)
    }
}

/// Events.
impl Session {
    /// The session's WebSocket is open: sends the opening packet.
    pub fn on_open(&mut self, ctx: &mut Context<'_>) -> Next {
        let (worker, slot) = (ctx.local.worker, ctx.id.slot);
        let id = SessionId { worker, slot, key: self.key };
        ctx.send_text(&engineio::open(&id, false, &ctx.shared.timings));
        Next::Stay
    }

    /// Acts on a text packet.
    ///
    /// # Errors
    /// If the client broke the protocol.
    pub fn on_text(&mut self, ctx: &mut Context<'_>, text: &str) -> Result<Next, Violation> {
        let (now, timings) = (ctx.now.monotonic(), &ctx.shared.timings);
        let packet = engineio::decode(text)?;
        if packet == Packet::Pong {
            self.heartbeat.pong(now, timings);
            return Ok(Next::Stay);
        }
        self.heartbeat.sign_of_life(now, timings);
        match packet {
            Packet::Message(data) => self.on_message(ctx, data),
            Packet::Close => {
                if let Some(polling) = &mut self.polling {
                    polling.answer_with(ctx, engineio::NOOP);
                }
                Ok(Next::close(Reason::Client))
            }
            Packet::Pong | Packet::Noop => Ok(Next::Stay),
            Packet::Ping(_) => Err(Violation("a client does not ping")),
            Packet::Upgrade => Err(Violation("nothing to upgrade")),
        }
    }

    fn on_message(&mut self, ctx: &mut Context<'_>, data: &str) -> Result<Next, Violation> {
        match &mut self.over {
            Over::Realtime(realtime) => return realtime.on_packet(ctx, data),
            Over::SocketIo(suite) => suite.on_packet(ctx, data)?,
            Over::EngineIo => ctx.send_text(&format!("4{data}")),
        }
        Ok(Next::Stay)
    }

    /// Acts on a binary message.
    ///
    /// # Errors
    /// If the client broke the protocol.
    pub fn on_binary(&mut self, ctx: &mut Context<'_>, data: &[u8]) -> Result<Next, Violation> {
        self.heartbeat.sign_of_life(ctx.now.monotonic(), &ctx.shared.timings);
        match &mut self.over {
            Over::Realtime(realtime) => realtime.on_attachment(ctx, data)?,
            Over::SocketIo(suite) => suite.on_attachment(ctx, data)?,
            Over::EngineIo => ctx.send(frame(Opcode::Binary, &[data])),
        }
        Ok(Next::Stay)
    }

    /// It is time for what [`Session::deadline`] announced: closes the connection, or pings its
    /// client.
    pub fn on_deadline(&mut self, ctx: &mut Context<'_>) -> Next {
        let next = match &mut self.over {
            Over::Realtime(realtime) => realtime.on_deadline(ctx),
            Over::SocketIo(suite) => suite.on_deadline(ctx),
            Over::EngineIo => Next::Stay,
        };
        match next {
            Next::Stay => {
                beat(&mut self.heartbeat, ctx, || frame(Opcode::Text, &[engineio::PING.as_bytes()]))
            }
            next => next,
        }
    }

    /// A subscription begins. Returns how many bytes of what the channel had kept were sent.
    pub fn on_joined(&mut self, ctx: &mut Context<'_>, activation: Activation) -> usize {
        Client::on_joined(ctx, activation)
    }

    /// A subscription has ended.
    pub fn on_left(&mut self, ctx: &mut Context<'_>, _channel: &Channel, reply: Option<AckId>) {
        Client::on_left(ctx, reply);
    }

    /// A verdict of the policies that a command waits for is known. Returns false if it must be
    /// called again, because the worker's mailbox has no room for what commands post.
    pub fn on_verdict(&mut self, ctx: &mut Context<'_>) -> bool {
        self.realtime().is_none_or(|realtime| realtime.client.on_verdict(ctx))
    }

    /// The connection is about to end: keeps what is needed to resume the session, and tells the
    /// client if a poll waits. The session must still be in its channels.
    pub fn on_end(&mut self, ctx: &mut Context<'_>, reason: Reason) -> End {
        if let Over::Realtime(realtime) = &mut self.over {
            resume::keep(&realtime.client, ctx, reason);
            realtime.client.drop_backlog(ctx);
        }
        let close_too = self.polling.as_ref().and_then(|polling| polling.probe);
        if let Some(polling) = &mut self.polling {
            polling.answer_with(ctx, engineio::CLOSE);
        }
        End { lingers_until: 0, withdraw: None, close_too }
    }
}

/// Queries.
impl Session {
    /// When [`Session::on_deadline`] must be called, in milliseconds since the node started.
    pub fn deadline(&self, now: Now, shared: &Shared) -> Millis {
        let over = match &self.over {
            Over::Realtime(realtime) => realtime.deadline(now, shared.config.auth.close_expired),
            Over::SocketIo(suite) => suite.deadline(),
            Over::EngineIo => None,
        };
        let due = self.heartbeat.due();
        over.map_or(due, |over| over.min(due))
    }

    /// The secret part of its id.
    pub fn key(&self) -> &SessionKey {
        &self.key
    }

    /// Whether its transport is long-polling.
    pub fn is_polling(&self) -> bool {
        self.polling.is_some()
    }

    /// As whom it subscribes; `None` before its client has entered. The encoding is any of the
    /// interface.
    pub fn subscriber(&self, connection: ConnId) -> Option<Subscriber> {
        let Over::Realtime(Realtime { client, .. }) = &self.over else { return None };
        client.subscriber(connection, Encoding::Sdk, self.transport())
    }

    /// The gauge of open connections that it counts in.
    pub fn gauge<'c>(&self, counters: &'c Counters) -> &'c Counter {
        match (&self.over, self.transport()) {
            (Over::Realtime(_), Transport::WebSocket) => &counters.websockets,
            (Over::Realtime(_), Transport::Polling) => &counters.pollings,
            (_, Transport::WebSocket) => &counters.conformance_websockets,
            (_, Transport::Polling) => &counters.conformance_pollings,
        }
    }

    /// Whether it speaks for this client.
    pub fn holds(&self, credential: &Credential) -> bool {
        let Over::Realtime(Realtime { client, .. }) = &self.over else { return false };
        let is_same = |held: &Arc<Credential>| is_same_client(held, credential);
        client.credential.as_ref().is_some_and(is_same)
    }

    /// Whether a stopping node may close the connection. On long-polling its client must have
    /// fetched its packets, and a poll must wait for the news.
    pub fn may_end(&self, has_output: bool) -> bool {
        self.polling.as_ref().is_none_or(|polling| !has_output && polling.waiting.is_some())
    }

    fn transport(&self) -> Transport {
        match self.polling {
            Some(_) => Transport::Polling,
            None => Transport::WebSocket,
        }
    }

    fn realtime(&mut self) -> Option<&mut Realtime> {
        match &mut self.over {
            Over::Realtime(realtime) => Some(realtime),
            Over::SocketIo(_) | Over::EngineIo => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_small() {
        // The idle memory per connection stands or falls with this.
        assert_eq!(size_of::<Session>(), 80);
    }
}
