//! Events of sessions that another one resumes.

use super::Session;
use super::context::Context;
use super::insforge::detached::Resuming;
use super::next::Next;

/// Events of a client that resumes a session.
impl Session {
    /// The connection that a client's CONNECT displaces is closed, if `is_theirs`.
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

    /// A client that resumes hears its channels again from here on.
    pub fn on_resumed(&mut self, ctx: &mut Context<'_>) {
        if let Some(session) = self.engineio() {
            session.on_resumed(ctx);
        }
    }

    /// The session has come from another worker, with the data of its client's CONNECT packet.
    pub fn on_arrived(&mut self, ctx: &mut Context<'_>, auth: &str) -> Next {
        match self.engineio() {
            Some(session) => session.on_arrived(ctx, auth),
            None => Next::Stay,
        }
    }

    /// The session was to go to another worker, and its client has sent more packets behind its
    /// CONNECT: the client is let in here, as a new one.
    pub fn enter_anew(&mut self, ctx: &mut Context<'_>, auth: &str) -> Next {
        match self.engineio() {
            Some(session) => session.enter_anew(ctx, auth),
            None => Next::Stay,
        }
    }

    /// The session could not move to another worker: its client is let in here, as a new one.
    pub fn on_stayed(&mut self, ctx: &mut Context<'_>, auth: &str) -> Next {
        match self.engineio() {
            Some(session) => session.on_stayed(ctx, auth),
            None => Next::Stay,
        }
    }
}
