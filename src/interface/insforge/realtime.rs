//! Socket.IO under InsForge Realtime: the one namespace that there is, entering and leaving it, and
//! events.

use std::sync::Arc;

use rand::rngs::StdRng;

use super::client::{self, Client};
use super::detached::Resuming;
use super::resume::{self, Resumed};
use super::socketio::{self, Event, Packet};
use super::violation::Violation;
use super::{recovery, wire as insforge};
use crate::interface::context::Context;
use crate::interface::heartbeat::Timings;
use crate::interface::next::{Next, Reason};
use crate::message::{Credential, Millis, Now, Refusal};

/// The namespace of InsForge Realtime.
const NAMESPACE: &str = "/";

/// The Socket.IO side of a session.
#[derive(Debug)]
pub(super) struct Realtime {
    /// Its client.
    pub(super) client: Client,
    /// Until when the client must have entered, while it has not.
    connect_by: Millis,
}

impl Realtime {
    /// Creates the side of a client that is to enter.
    pub(super) fn new(now: Millis, timings: &Timings, random: &mut StdRng) -> Self {
        Self { client: Client::new(random), connect_by: now + timings.connect_timeout_ms }
    }

    /// Acts on a packet.
    ///
    /// # Errors
    /// If the client broke the protocol.
    pub(super) fn on_packet(
        &mut self,
        ctx: &mut Context<'_>,
        data: &str,
    ) -> Result<Next, Violation> {
        if self.client.unfinished.is_pending() {
            return Err(Violation("text where an attachment was due"));
        }
        match socketio::decode(data)? {
            Packet::Connect { namespace, auth } => return self.connect(ctx, namespace, auth),
            Packet::Disconnect { namespace } => return Ok(self.disconnect(ctx, namespace)),
            Packet::Event(event) => self.on_event(ctx, &event)?,
            Packet::Incomplete(pending) => self.client.unfinished.keep_pending(pending),
            Packet::Ack { namespace } if self.is_in(namespace) => {}
            Packet::Ack { .. } => return Err(Violation("an acknowledgement before CONNECT")),
        }
        Ok(Next::Stay)
    }

    /// Takes an attachment of a binary packet, and acts on the packet if that completes it.
    ///
    /// # Errors
    /// If the client broke the protocol.
    pub(super) fn on_attachment(
        &mut self,
        ctx: &mut Context<'_>,
        data: &[u8],
    ) -> Result<(), Violation> {
        let pending = self.client.unfinished.take_pending();
        let mut pending = pending.ok_or(Violation("binary that no packet announced"))?;
        if pending.attach(data)? {
            return self.on_event(ctx, &pending.inlined()?.event()?);
        }
        self.client.unfinished.keep_pending(pending);
        Ok(())
    }

    /// Closes the connection if its client did not enter in time or its token has expired.
    pub(super) fn on_deadline(&mut self, ctx: &mut Context<'_>) -> Next {
        let now = ctx.now;
        if !self.client.has_entered && now.monotonic() >= self.connect_by {
            return Next::close(Reason::ConnectTimeout);
        }
        if ctx.shared.config.auth.close_expired
            && self.expires(now).is_some_and(|at| at <= now.monotonic())
        {
            client::refuse(ctx, None, Refusal::Expired, None);
            return Next::close(Reason::Expired);
        }
        Next::Stay
    }

    /// When [`Realtime::on_deadline`] must be called, in milliseconds since the node started.
    pub(super) fn deadline(&self, now: Now, close_expired: bool) -> Option<Millis> {
        let connect_by = (!self.client.has_entered).then_some(self.connect_by);
        let expires = self.expires(now).filter(|_| close_expired);
        connect_by.into_iter().chain(expires).min()
    }

    fn expires(&self, now: Now) -> Option<Millis> {
        let expires_s = self.client.credential.as_ref()?.expires_at?;
        Some(now.until_wall(expires_s.saturating_mul(1_000)))
    }

    fn is_in(&self, namespace: &str) -> bool {
        namespace == NAMESPACE && self.client.has_entered
    }

    fn on_event(&mut self, ctx: &mut Context<'_>, event: &Event<'_>) -> Result<(), Violation> {
        if !self.is_in(event.namespace) {
            return Err(Violation("an event before CONNECT"));
        }
        self.client.execute(ctx, insforge::request(event), event.ack);
        Ok(())
    }
}

/// Entering and leaving.
impl Realtime {
    fn connect(
        &mut self,
        ctx: &mut Context<'_>,
        namespace: &str,
        auth: &str,
    ) -> Result<Next, Violation> {
        if namespace != NAMESPACE {
            ctx.send_text(&socketio::connect_error(namespace, "Invalid namespace"));
            return Ok(Next::Stay);
        }
        // A client that resumes has entered, too, though it is not told yet.
        if self.client.has_entered || self.client.credential.is_some() {
            return Err(Violation("a second CONNECT"));
        }
        Ok(self.enter(ctx, auth))
    }

    /// Lets a client in if its credential is good: back to the session that it wants to resume, or
    /// as a new one. A session of another worker is resumed there.
    pub(super) fn enter(&mut self, ctx: &mut Context<'_>, auth: &str) -> Next {
        let resume = ctx.local.detached.as_ref().and_then(|detached| {
            let resume = recovery::resume(auth)?;
            let workers = ctx.shared.broker.mailboxes.workers.len();
            Some((resume, detached.home(&resume.id, ctx.local.worker, workers)))
        });
        if let Some((_, Some(to))) = resume {
            return Next::Migrate { to, auth: auth.into() };
        }
        let Some(credential) = admit(ctx, auth) else { return Next::Stay };
        let Some((resume, _)) = resume else {
            self.welcome(ctx, credential);
            return Next::Stay;
        };
        let resuming = Resuming { resume, credential };
        match resume::resume(&mut self.client, ctx, &resuming) {
            Resumed::Yes => {}
            Resumed::No => self.welcome(ctx, resuming.credential),
            Resumed::Displaces(old) => {
                return Next::Displace { old, resuming: Box::new(resuming) };
            }
        }
        Next::Stay
    }

    /// Lets a client in as a new one if its credential is good, whatever it wants to resume.
    pub(super) fn enter_anew(&mut self, ctx: &mut Context<'_>, auth: &str) {
        if let Some(credential) = admit(ctx, auth) {
            self.welcome(ctx, credential);
        }
    }

    /// Goes on with a client that resumes, now that its session's older connection is closed, or
    /// was not its own.
    pub(super) fn on_displaced(
        &mut self,
        ctx: &mut Context<'_>,
        resuming: &Resuming,
        is_theirs: bool,
    ) {
        let resumed = resume::resume_displaced(&mut self.client, ctx, resuming, is_theirs);
        if resumed != Resumed::Yes {
            self.welcome(ctx, resuming.credential.clone());
        }
    }

    fn welcome(&mut self, ctx: &mut Context<'_>, credential: Arc<Credential>) {
        self.client.credential = Some(credential);
        resume::welcome(&mut self.client, ctx);
    }

    /// The client leaves the namespace. Its transport stays, if it enters again within the time
    /// that a new session has for it.
    fn disconnect(&mut self, ctx: &mut Context<'_>, namespace: &str) -> Next {
        if !self.is_in(namespace) {
            return Next::Stay;
        }
        self.client.has_entered = false;
        self.connect_by = ctx.now.monotonic() + ctx.shared.timings.connect_timeout_ms;
        resume::forget(ctx);
        self.client.leave_all(ctx);
        self.client.credential = None;
        // Activations of the channels that were just left may still be in the mailbox. They must
        // not meet subscriptions that the client makes when it enters again.
        Next::Renew
    }
}

/// Authenticates a client; on failure sends `CONNECT_ERROR` and returns `None`.
fn admit(ctx: &mut Context<'_>, auth: &str) -> Option<Arc<Credential>> {
    match ctx.local.auth.users.connect(auth, ctx.now.wall_seconds()) {
        Ok(credential) => Some(credential),
        Err(error) => {
            ctx.local.counters.refused_unauthorized.add(1);
            tracing::debug!(%error, "refusing a client's credential");
            ctx.send_text(&socketio::connect_error(NAMESPACE, &error.to_string()));
            None
        }
    }
}
