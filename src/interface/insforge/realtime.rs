//! The Socket.IO layer of InsForge Realtime: its only namespace, how clients enter and leave it,
//! and their events.

use std::sync::Arc;

use rand::rngs::StdRng;

use super::client::{self, Client};
use super::detached::Resuming;
use super::resume::{self, Resumed};
use super::socketio::{self, Event, InlineError, Packet};
use super::unsupported::Unsupported;
use super::violation::Violation;
use super::{engineio, msgpack, recovery, wire as insforge};
use crate::auth::AuthError;
use crate::codec::websocket::{Opcode, frame};
use crate::interface::context::Context;
use crate::interface::heartbeat::Timings;
use crate::interface::next::{Next, Reason};
use crate::interface::shared::Shared;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::message::{Credential, Mark, Millis, NotTaken, Now, Refusal, Role, TakenSession};

/// The only namespace of InsForge Realtime.
const NAMESPACE: &str = "/";

/// The refusal of an event with long attachments.
const TOO_LARGE: &str = "Event must have at most 1000000 bytes as JSON, its binary parts included";
const _: () = assert!(MESSAGE_BYTES_MAX == 1_000_000, "the message above names the bound");

/// The Socket.IO layer of a session.
#[derive(Debug)]
pub(super) struct Realtime {
    pub(super) client: Client,
    /// The deadline for entering the namespace, in milliseconds since the node started. It applies
    /// while the client has not entered.
    connect_by: Millis,
}

impl Realtime {
    /// Creates the layer for a client that has not sent its CONNECT.
    pub(super) fn new(now: Millis, timings: &Timings, random: &mut StdRng) -> Self {
        Self { client: Client::new(random), connect_by: now + timings.connect_timeout_ms }
    }

    /// Handles the data of a message packet. `lacks_certificate` says whether an administrator's
    /// credential does not count in this session.
    ///
    /// # Errors
    /// If the client broke the protocol.
    pub(super) fn on_packet(
        &mut self,
        ctx: &mut Context<'_>,
        data: &str,
        lacks_certificate: bool,
    ) -> Result<Next, Violation> {
        if self.client.unfinished.is_pending() {
            return Err(Violation("a text packet instead of an attachment"));
        }
        let packet = socketio::decode(data).inspect_err(|_| {
            if !self.is_known() {
                refused(ctx, Unsupported::Parser, "text");
            }
        });
        match packet? {
            Packet::Connect { namespace, auth } => {
                return self.connect(ctx, namespace, auth, lacks_certificate);
            }
            Packet::Disconnect { namespace } => return Ok(self.disconnect(ctx, namespace)),
            Packet::Event(event) => self.on_event(ctx, &event)?,
            Packet::Incomplete(pending) => self.client.unfinished.keep_pending(pending),
            Packet::Ack { namespace } if self.is_in(namespace) => {}
            Packet::Ack { .. } => return Err(Violation("an acknowledgement before CONNECT")),
        }
        Ok(Next::Stay)
    }

    /// Adds an attachment to the incomplete binary packet, and handles the packet once complete.
    ///
    /// # Errors
    /// If the client broke the protocol.
    pub(super) fn on_attachment(
        &mut self,
        ctx: &mut Context<'_>,
        data: &[u8],
    ) -> Result<(), Violation> {
        let pending = self.client.unfinished.take_pending();
        if pending.is_none() && !self.is_known() && msgpack::is_packet(data) {
            refused(ctx, Unsupported::Parser, "msgpack");
            let refusal = msgpack::connect_error(NAMESPACE, Unsupported::Parser.advice());
            ctx.send(frame(Opcode::Binary, &[&refusal]));
            return Ok(());
        }
        let mut pending = pending.ok_or(Violation("a binary packet that no event announced"))?;
        if !pending.attach(data) {
            self.client.unfinished.keep_pending(pending);
            return Ok(());
        }
        match pending.inlined() {
            Ok(inlined) => self.on_event(ctx, &inlined.event()?),
            Err(InlineError::TooLarge) => self.refuse_large(ctx, &pending.event()?),
            Err(InlineError::Placeholder(violation)) => Err(violation),
        }
    }

    /// Refuses a packet that is too long, of which only the `start` was read. The refusal is the
    /// acknowledgement that the client asked for, if the start shows that.
    pub(super) fn refuse_too_long(&mut self, ctx: &mut Context<'_>, start: &[u8]) {
        if self.client.has_entered {
            let ack = engineio::message_start(start).and_then(socketio::ack_of_start);
            client::refuse(ctx, None, Refusal::TooLarge, ack);
        }
    }

    /// Closes the connection if its client did not enter in time, or if its token has expired and
    /// the configuration closes such connections.
    pub(super) fn on_deadline(&mut self, ctx: &mut Context<'_>) -> Next {
        let now = ctx.now;
        if !self.client.has_entered && now.monotonic() >= self.connect_by {
            return Next::close(Reason::ConnectTimeout);
        }
        if self.closes_at(now, ctx.shared).is_some_and(|at| at <= now.monotonic()) {
            client::refuse(ctx, None, Refusal::Expired, None);
            return Next::close(Reason::Expired);
        }
        Next::Stay
    }

    /// Returns when [`Realtime::on_deadline`] must be called, in milliseconds since the node
    /// started; `None` if the client has entered and no expiry is enforced.
    pub(super) fn deadline(&self, now: Now, shared: &Shared) -> Option<Millis> {
        let connect_by = (!self.client.has_entered).then_some(self.connect_by);
        connect_by.into_iter().chain(self.closes_at(now, shared)).min()
    }

    fn closes_at(&self, now: Now, shared: &Shared) -> Option<Millis> {
        shared.closes_at(self.client.credential.as_ref()?.expires_at, now)
    }

    /// Returns whether the client has sent a CONNECT that was accepted.
    fn is_known(&self) -> bool {
        // A resuming client has a credential, although its CONNECT is not answered yet.
        self.client.has_entered || self.client.credential.is_some()
    }

    fn is_in(&self, namespace: &str) -> bool {
        namespace == NAMESPACE && self.client.has_entered
    }

    /// Refuses an event that is too long with its attachments, behind the commands before it.
    fn refuse_large(&mut self, ctx: &mut Context<'_>, event: &Event<'_>) -> Result<(), Violation> {
        if !self.is_in(event.namespace) {
            return Err(Violation("an event before CONNECT"));
        }
        let request = insforge::Request::Invalid(None, Refusal::Invalid(TOO_LARGE));
        self.client.execute(ctx, request, event.ack);
        Ok(())
    }

    fn on_event(&mut self, ctx: &mut Context<'_>, event: &Event<'_>) -> Result<(), Violation> {
        if !self.is_in(event.namespace) {
            return Err(Violation("an event before CONNECT"));
        }
        let request =
            insforge::request(event, &ctx.shared.config.limits, |payload| ctx.keep(payload));
        self.client.execute(ctx, request, event.ack);
        Ok(())
    }
}

/// Entering and leaving the namespace.
impl Realtime {
    fn connect(
        &mut self,
        ctx: &mut Context<'_>,
        namespace: &str,
        auth: &str,
        lacks_certificate: bool,
    ) -> Result<Next, Violation> {
        if namespace != NAMESPACE {
            // A client of Socket.IO 2 would put a query with credentials behind the name.
            let name = namespace.split('?').next().unwrap_or_default();
            refused(ctx, Unsupported::Namespace, name);
            ctx.send_text(&socketio::connect_error(namespace, "Invalid namespace", None));
            return Ok(Next::Stay);
        }
        if self.is_known() {
            return Err(Violation("a second CONNECT"));
        }
        Ok(self.enter(ctx, auth, lacks_certificate))
    }

    /// Handles a CONNECT. A client with a valid credential resumes the session that it names, or
    /// begins a new one. If another worker holds that session, the connection moves there.
    pub(super) fn enter(
        &mut self,
        ctx: &mut Context<'_>,
        auth: &str,
        lacks_certificate: bool,
    ) -> Next {
        let resume = ctx.local.detached.as_ref().and_then(|detached| {
            let resume = recovery::resume(auth)?;
            let workers = ctx.shared.broker.mailboxes.workers.len();
            let all = (workers, ctx.shared.shares_sessions());
            Some((resume, detached.home(&resume.id, ctx.local.worker, all)))
        });
        if let Some((_, Some(to))) = resume {
            return Next::Migrate { to, auth: auth.into() };
        }
        let Some(credential) = admit(ctx, auth, lacks_certificate) else { return Next::Stay };
        let Some((resume, _)) = resume else {
            self.welcome(ctx, credential, None);
            return Next::Stay;
        };
        let resuming = Resuming { resume, credential };
        match resume::resume(&mut self.client, ctx, &resuming) {
            Resumed::Yes | Resumed::Asked => {}
            Resumed::No => self.welcome(ctx, resuming.credential, resuming.resume.offset),
            Resumed::Displaces(old) => {
                return Next::Displace { old, resuming: Box::new(resuming) };
            }
        }
        Next::Stay
    }

    /// Begins a new session if the client's credential is valid, even if the client wants to resume
    /// an earlier one.
    pub(super) fn enter_anew(
        &mut self,
        ctx: &mut Context<'_>,
        auth: &str,
        lacks_certificate: bool,
    ) {
        if let Some(credential) = admit(ctx, auth, lacks_certificate) {
            let before = recovery::resume(auth).and_then(|resume| resume.offset);
            self.welcome(ctx, credential, before);
        }
    }

    /// Continues to resume a session, after the runtime has checked the session's older connection.
    /// `is_theirs` says that it belonged to the same client and was closed; otherwise the client
    /// begins a new session.
    pub(super) fn on_displaced(
        &mut self,
        ctx: &mut Context<'_>,
        resuming: &Resuming,
        is_theirs: bool,
    ) {
        let resumed = resume::resume_displaced(&mut self.client, ctx, resuming, is_theirs);
        self.enter_unless(ctx, resumed, resuming);
    }

    /// Continues to resume a session that the nodes of the cluster were asked for. Returns it if it
    /// is taken over and the client does not wait for it.
    pub(super) fn on_taken(
        &mut self,
        ctx: &mut Context<'_>,
        taken: Result<TakenSession, NotTaken>,
    ) -> Option<TakenSession> {
        let Some(resuming) = self.client.unfinished.take_resuming() else { return taken.ok() };
        if ctx.link.is_leaving() {
            // The node stops, and the client goes on at another one.
            return taken.ok();
        }
        let resumed = resume::taken(&mut self.client, ctx, &resuming, taken);
        self.enter_unless(ctx, resumed, &resuming);
        None
    }

    fn enter_unless(&mut self, ctx: &mut Context<'_>, resumed: Resumed, resuming: &Resuming) {
        if !matches!(resumed, Resumed::Yes | Resumed::Asked) {
            self.welcome(ctx, resuming.credential.clone(), resuming.resume.offset);
        }
    }

    fn welcome(
        &mut self,
        ctx: &mut Context<'_>,
        credential: Arc<Credential>,
        before: Option<Mark>,
    ) {
        self.client.credential = Some(credential);
        resume::welcome(&mut self.client, ctx, before);
    }

    /// Handles a client that leaves the namespace. Its connection stays open if it enters again
    /// within the time limit that applies to new sessions.
    fn disconnect(&mut self, ctx: &mut Context<'_>, namespace: &str) -> Next {
        if !self.is_in(namespace) {
            return Next::Stay;
        }
        self.client.has_entered = false;
        self.connect_by = ctx.now.monotonic() + ctx.shared.timings.connect_timeout_ms;
        resume::forget(ctx);
        self.client.leave_all(ctx);
        self.client.credential = None;
        // The mailbox may still hold activations of the channels that were just left. They must not
        // activate subscriptions that the client makes after it enters again.
        Next::Renew
    }
}

/// Counts and logs that a client asks for something that is not supported.
fn refused(ctx: &Context<'_>, what: Unsupported, asked: &str) {
    ctx.local.counters.refused_invalid.add(1);
    ctx.shared.unsupported.refused(what, asked, ctx.now.monotonic());
}

/// Authenticates a client; on failure sends `CONNECT_ERROR` and returns `None`.
fn admit(ctx: &mut Context<'_>, auth: &str, lacks_certificate: bool) -> Option<Arc<Credential>> {
    let connected = ctx.local.auth.users.connect(auth, ctx.now.wall_seconds());
    let connected = connected.and_then(|credential| match credential.role {
        Role::ProjectAdmin if lacks_certificate => Err(AuthError::Certificate),
        _ => Ok(credential),
    });
    match connected {
        Ok(credential) => Some(credential),
        Err(error) => {
            ctx.local.counters.refused_unauthorized.add(1);
            let (code, why) = (error.code(), error.why());
            ctx.local.auth.refusals.note("insforge", why, ctx.now.monotonic());
            let told = socketio::connect_error(NAMESPACE, &error.to_string(), Some((code, why)));
            ctx.send_text(&told);
            None
        }
    }
}
