//! Events of a client that resumes an earlier session. Only Engine.IO has them: other sessions
//! ignore them.

use super::Session;
use super::context::Context;
use super::insforge::detached::Resuming;
use super::next::Next;

/// Events of resuming, and of the move to the worker that keeps the earlier session.
impl Session {
    /// Goes on with resuming. The earlier session still had a connection: `is_theirs` says that it
    /// was this client's and is closed now. If it was another client's, this client enters as a new
    /// one.
    pub fn on_displaced(
        &mut self,
        ctx: &mut Context<'_>,
        resuming: &Resuming,
        is_theirs: bool,
    ) -> Next {
        match self.engineio() {
            Some(session) => session.on_displaced(ctx, resuming, is_theirs),
            None => Next::Stay,
        }
    }

    /// Completes resuming: sends the client what it missed and activates its subscriptions. The
    /// worker has taken the activations of all its channels out of the mailbox.
    pub fn on_resumed(&mut self, ctx: &mut Context<'_>) {
        if let Some(session) = self.engineio() {
            session.on_resumed(ctx);
        }
    }

    /// Answers the client's CONNECT packet, whose data is `auth`, at the worker that this session
    /// has just moved to.
    pub fn on_arrived(&mut self, ctx: &mut Context<'_>, auth: &str) -> Next {
        match self.engineio() {
            Some(session) => session.on_arrived(ctx, auth),
            None => Next::Stay,
        }
    }

    /// Lets the client enter here as a new one although its session was to move, because it has
    /// sent more packets behind its CONNECT.
    pub fn enter_anew(&mut self, ctx: &mut Context<'_>, auth: &str) -> Next {
        match self.engineio() {
            Some(session) => session.enter_anew(ctx, auth),
            None => Next::Stay,
        }
    }

    /// Lets the client enter here as a new one, because the session could not move to the other
    /// worker.
    pub fn on_stayed(&mut self, ctx: &mut Context<'_>, auth: &str) -> Next {
        match self.engineio() {
            Some(session) => session.on_stayed(ctx, auth),
            None => Next::Stay,
        }
    }
}
