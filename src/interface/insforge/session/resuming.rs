//! Events of a client that resumes or moves.

use super::{App, Over, Session};
use crate::interface::context::Context;
use crate::interface::heartbeat::Heartbeat;
use crate::interface::insforge::detached::Resuming;
use crate::interface::insforge::resume;
use crate::interface::next::Next;

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
