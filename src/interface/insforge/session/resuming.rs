//! Events of a client that resumes a session or moves to another worker for that.

use super::{App, Over, Session};
use crate::interface::context::Context;
use crate::interface::heartbeat::Heartbeat;
use crate::interface::insforge::detached::Resuming;
use crate::interface::insforge::{resume, returning, sharing};
use crate::interface::next::{Next, Reason};
use crate::message::{Activation, NotShared, NotTaken, Offset, TakenSession};

impl Session {
    /// Handles the arrival of the session from another worker, because this worker holds the
    /// session that the client wants to resume. The session keeps its id, resets its state, and
    /// handles the client's CONNECT, whose data is `auth`.
    pub fn on_arrived(&mut self, ctx: &mut Context<'_>, auth: &str) -> Next {
        let (now, timings) = (ctx.now.monotonic(), &ctx.shared.timings);
        self.heartbeat = Heartbeat::new(now, timings);
        self.over = Over::new(App::Insforge, now, timings, &mut ctx.local.random);
        let lacks_certificate = self.lacks_certificate;
        let next = match self.realtime() {
            Some(realtime) => realtime.enter(ctx, auth, lacks_certificate),
            None => Next::Stay,
        };
        self.on_output(ctx);
        next
    }

    /// Handles a failed move to the worker that holds the session that the client wants to resume:
    /// the client begins a new session here, and is counted as not recovered.
    pub fn on_stayed(&mut self, ctx: &mut Context<'_>, auth: &str) -> Next {
        ctx.local.counters.not_recovered.add(1);
        tracing::debug!("a client is not recovered: it cannot move to the worker of its session");
        self.enter_anew(ctx, auth)
    }

    /// Begins a new session for a client whose CONNECT, with the data `auth`, asks to resume a
    /// session of another worker. The connection does not move if the client has sent more packets
    /// behind its CONNECT.
    pub fn enter_anew(&mut self, ctx: &mut Context<'_>, auth: &str) -> Next {
        let lacks_certificate = self.lacks_certificate;
        if let Some(realtime) = self.realtime() {
            realtime.enter_anew(ctx, auth, lacks_certificate);
        }
        Next::Stay
    }

    /// Continues to resume a session whose older connection was checked. `is_theirs` says that it
    /// belonged to the same client and was closed.
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

    /// Continues to resume a session that the nodes of the cluster were asked for. Returns it if it
    /// is taken over and the client does not wait for it.
    pub fn on_taken(
        &mut self,
        ctx: &mut Context<'_>,
        taken: Result<TakenSession, NotTaken>,
    ) -> Option<TakenSession> {
        match self.realtime() {
            Some(realtime) => realtime.on_taken(ctx, taken),
            None => taken.ok(),
        }
    }

    /// Takes the beginning of a subscription that the session had before.
    pub fn on_joined_again(ctx: &mut Context<'_>, activation: Activation) {
        returning::joined(ctx, activation);
    }

    /// Lets the other nodes of a cluster know what the session is. If `is_again`, they are told
    /// even if they know it.
    pub fn share(&mut self, ctx: &mut Context<'_>, is_again: bool) {
        if let Some(realtime) = self.realtime() {
            sharing::share(realtime.client.who(), ctx, is_again);
        }
    }

    /// Lets the other nodes know what the session is, because this node is about to end. Returns
    /// false while something of that is to come.
    pub fn is_handed_over(&mut self, ctx: &mut Context<'_>) -> bool {
        let Some(realtime) = self.realtime() else { return true };
        let unfinished = &realtime.client.unfinished;
        // The commands may change the session, or it is being taken over.
        let is_open = unfinished.is_any_waiting() || unfinished.is_resuming();
        !is_open && sharing::is_handed_over(realtime.client.who(), ctx)
    }

    /// Takes the answer to that.
    pub fn on_shared(&mut self, ctx: &mut Context<'_>, answer: Result<Offset, NotShared>) -> Next {
        match self.realtime() {
            Some(_) if !sharing::answered(ctx, answer) => {
                resume::forget(ctx);
                Next::close(Reason::Client)
            }
            Some(realtime) => {
                if realtime.client.unfinished.is_any_waiting() {
                    ctx.local.authorizer.not_ready(ctx.id);
                }
                Next::Stay
            }
            None => Next::Stay,
        }
    }

    /// Completes the resuming of a session: sends the missed publications and activates the
    /// subscriptions.
    pub fn on_resumed(&mut self, ctx: &mut Context<'_>) {
        if let Some(realtime) = self.realtime() {
            resume::recover(&mut realtime.client, ctx);
        }
    }
}
