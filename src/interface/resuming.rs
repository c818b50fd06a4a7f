//! Events of a client that resumes an earlier session. Only Engine.IO has them: other sessions
//! ignore them.

use super::context::Context;
use super::insforge::detached::Resuming;
pub use super::insforge::returning::give_back_to as give_back;
pub use super::insforge::sharing::{answered_away, expire, is_away_handed_over, share_away};
use super::next::Next;
use super::{Session, insforge};
use crate::message::{Activation, NotShared, NotTaken, Offset, TakenSession};

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

    /// Continues to resume a session that the nodes of the cluster were asked for. Returns it if it
    /// is taken over and the client does not wait for it.
    pub fn on_taken(
        &mut self,
        ctx: &mut Context<'_>,
        taken: Result<TakenSession, NotTaken>,
    ) -> Option<TakenSession> {
        match self.engineio() {
            Some(session) => session.on_taken(ctx, taken),
            None => taken.ok(),
        }
    }

    /// Takes the beginning of a subscription that the session had before its connection was cut.
    pub fn on_joined_again(&mut self, ctx: &mut Context<'_>, activation: Activation) {
        if self.engineio().is_some() {
            insforge::Session::on_joined_again(ctx, activation);
        }
    }

    /// Lets the other nodes of a cluster know what the session is. If `is_again`, they are told
    /// even if they know it.
    pub fn share(&mut self, ctx: &mut Context<'_>, is_again: bool) {
        if let Some(session) = self.engineio() {
            session.share(ctx, is_again);
        }
    }

    /// Lets the other nodes of a cluster know what the session is, because this node is about to
    /// end. Returns false while something of that is to come.
    pub fn is_handed_over(&mut self, ctx: &mut Context<'_>) -> bool {
        self.engineio().is_none_or(|session| session.is_handed_over(ctx))
    }

    /// Takes the answer to that.
    pub fn on_shared(&mut self, ctx: &mut Context<'_>, answer: Result<Offset, NotShared>) -> Next {
        match self.engineio() {
            Some(session) => session.on_shared(ctx, answer),
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
