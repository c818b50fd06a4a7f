//! Engine.IO sessions: what a packet means, on whichever transport it came, and what time brings.

use std::sync::Arc;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::client::Client;
use super::conformance::SocketIo;
use super::detached::{Resuming, is_same_client};
use super::engineio::{self, Packet, Part};
use super::polling::{self, Polling};
use super::realtime::Realtime;
use super::resume;
use super::violation::Violation;
use crate::broker::directory::Subscriber;
use crate::codec::websocket::{Opcode, frame};
use crate::interface::context::Context;
use crate::interface::heartbeat::{Heartbeat, Timings, beat};
use crate::interface::next::{End, Next, OfferStep, Offered, Reason};
use crate::interface::shared::Shared;
use crate::mailbox::{PollTicket, Polled};
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

/// Events of a client that resumes or moves.
impl Session {
    /// The session has come from another worker to this one, which knows the session that its
    /// client wants to resume. It starts afresh, under its old id, with the data of the client's
    /// CONNECT packet.
    pub fn on_arrived(&mut self, ctx: &mut Context<'_>, auth: &str) -> Next {
        let (now, timings) = (ctx.now.monotonic(), &ctx.shared.timings);
        self.heartbeat = Heartbeat::new(now, timings);
        self.over = Over::new(App::Insforge, now, timings, &mut ctx.local.random);
        let next = match self.realtime() {
            Some(realtime) => realtime.enter(ctx, auth),
            None => Next::Stay,
        };
        self.on_output(ctx);
        next
    }

    /// The session cannot go to the worker that knows the session which its client wants to resume:
    /// the client enters here as a new one, and counts as not recovered.
    pub fn on_stayed(&mut self, ctx: &mut Context<'_>, auth: &str) -> Next {
        ctx.local.counters.not_recovered.add(1);
        tracing::debug!("a client is not recovered: it cannot be brought to where its session is");
        self.enter_anew(ctx, auth)
    }

    /// The client of a session that was to go to another worker enters here as a new one, because
    /// it has sent more packets behind its CONNECT.
    pub fn enter_anew(&mut self, ctx: &mut Context<'_>, auth: &str) -> Next {
        if let Some(realtime) = self.realtime() {
            realtime.enter_anew(ctx, auth);
        }
        Next::Stay
    }

    /// The older connection that a resuming client displaces is closed, if `is_theirs`.
    pub fn on_displaced(
        &mut self,
        ctx: &mut Context<'_>,
        resuming: &Resuming,
        is_theirs: bool,
    ) -> Next {
        if let Some(realtime) = self.realtime() {
            realtime.on_displaced(ctx, resuming, is_theirs);
        }
        Next::Stay
    }

    /// A client that resumes hears its channels again from here on.
    pub fn on_resumed(&mut self, ctx: &mut Context<'_>) {
        if let Some(realtime) = self.realtime() {
            resume::recover(&mut realtime.client, ctx);
        }
    }
}

/// Events of long-polling. The caller has looked at the session's deadline before each of them.
impl Session {
    /// A poll came: answers it, or keeps it until there are packets. A second poll while one waits
    /// is refused and ends the session, for both. A poll that comes after an upgrade is refused.
    pub fn on_poll(&mut self, ctx: &mut Context<'_>, waiting: PollTicket) -> Next {
        let Some(polling) = &mut self.polling else {
            polling::refuse(ctx, waiting);
            return Next::Stay;
        };
        if !polling.keep(ctx, waiting) {
            return Next::close(Reason::Protocol);
        }
        polling.release(ctx);
        Next::Stay
    }

    /// Acts on one packet of a POST.
    ///
    /// # Errors
    /// If the client broke the protocol.
    pub fn on_packet(&mut self, ctx: &mut Context<'_>, part: Part<'_>) -> Result<Next, Violation> {
        match part {
            Part::Text(text) => self.on_text(ctx, text),
            Part::Binary(data) => self.on_binary(ctx, &data),
        }
    }

    /// The client of a poll went away. It may have missed packets, so its session ends.
    pub fn on_poll_gone(&mut self) -> Next {
        match self.polling {
            Some(_) => Next::close(Reason::Client),
            None => Next::Stay,
        }
    }

    /// The session may have frames to send: answers the poll that waits.
    pub fn on_output(&mut self, ctx: &mut Context<'_>) {
        if let Some(polling) = &mut self.polling {
            polling.release(ctx);
        }
    }

    /// A WebSocket offers to carry the session, or goes on with that.
    ///
    /// # Errors
    /// If the session takes no offer, or not this step of it: the WebSocket must be closed.
    pub fn on_offer(
        &mut self,
        ctx: &mut Context<'_>,
        probe: ConnId,
        step: OfferStep,
    ) -> Result<Offered, Violation> {
        let polling = self.polling.as_mut().ok_or(Violation("the session has moved already"))?;
        polling.on_offer(ctx, probe, step)
    }

    /// A WebSocket no longer offers to carry the session.
    pub fn on_offer_withdrawn(&mut self, probe: ConnId) {
        if let Some(polling) = &mut self.polling {
            polling.on_offer_withdrawn(probe);
        }
    }

    /// Ends long-polling because the session goes on over a WebSocket. Returns the poll that waits
    /// and its answer.
    pub fn take_over(&mut self) -> Option<(PollTicket, Polled)> {
        let waiting = self.polling.take()?.waiting?;
        Some((waiting, Polled::Payload(engineio::NOOP.into())))
    }

    /// Forgets the WebSocket that offers to carry the session, because the session moves to another
    /// worker, and returns it. What the session has accepted of the offer stands.
    pub fn forget_probe(&mut self) -> Option<ConnId> {
        self.polling.as_mut()?.probe.take()
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
