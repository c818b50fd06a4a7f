//! Commands that run at once, and commands that wait for a verdict.

use super::{Client, refuse};
use crate::interface::authorize::Standing;
use crate::interface::context::Context;
use crate::interface::insforge::backlog::Waiting;
use crate::interface::insforge::wire::Request;
use crate::message::{AckId, Action, Refusal};

impl Client {
    /// Runs a command if the policies' verdict on it is known and no earlier command waits.
    /// Otherwise the command waits, or is refused if a backlog or the queue of questions is full.
    pub(in crate::interface::insforge) fn execute(
        &mut self,
        ctx: &mut Context<'_>,
        request: Request,
        ack: Option<AckId>,
    ) {
        ctx.local.authorizer.refresh();
        if ctx.local.authorizer.is_idle() {
            return self.carry_out(ctx, request, ack);
        }
        let waiting = Waiting { request, ack };
        let standing = match self.unfinished.is_any_waiting() {
            true => Standing::Asked,
            false => self.judge(ctx, &waiting),
        };
        match standing {
            Standing::Settled => self.carry_out(ctx, waiting.request, waiting.ack),
            Standing::Asked => self.wait(ctx, waiting),
            Standing::Overloaded => Self::refuse_waiting(ctx, &waiting),
        }
    }

    /// Runs the waiting commands in order, up to the first whose verdict is not known. Returns
    /// false if the worker's mailbox has no room for the mail that commands may post; the caller
    /// must call again then.
    pub(in crate::interface::insforge) fn on_verdict(&mut self, ctx: &mut Context<'_>) -> bool {
        while self.unfinished.is_any_waiting() {
            if !ctx.has_room_for_commands() {
                return false;
            }
            let Some(waiting) = self.unfinished.pop_front() else { return true };
            ctx.local.authorizer.left(1, waiting.bytes());
            ctx.local.counters.commands_waiting.sub(1);
            ctx.local.authorizer.refresh();
            match self.judge(ctx, &waiting) {
                Standing::Settled => self.carry_out(ctx, waiting.request, waiting.ack),
                Standing::Asked => {
                    Self::count_waiting(ctx, &waiting);
                    self.unfinished.push_front(waiting);
                    return true;
                }
                Standing::Overloaded => Self::refuse_waiting(ctx, &waiting),
            }
        }
        true
    }

    fn judge(&self, ctx: &mut Context<'_>, waiting: &Waiting) -> Standing {
        let (Some((action, channel)), Some(credential)) = (waiting.judged(), &self.credential)
        else {
            return Standing::Settled;
        };
        // A publish without a subscription is refused anyway, so it needs no verdict.
        if action == Action::Publish && !ctx.is_subscribed(channel) {
            return Standing::Settled;
        }
        ctx.judge(action, channel, credential)
    }

    fn wait(&mut self, ctx: &mut Context<'_>, waiting: Waiting) {
        let bytes = waiting.bytes();
        if !ctx.local.authorizer.has_room(bytes) || !self.unfinished.has_room(bytes) {
            return Self::refuse_waiting(ctx, &waiting);
        }
        Self::count_waiting(ctx, &waiting);
        self.unfinished.push_back(waiting);
    }

    fn count_waiting(ctx: &mut Context<'_>, waiting: &Waiting) {
        ctx.local.authorizer.came(1, waiting.bytes());
        ctx.local.counters.commands_waiting.add(1);
    }

    fn refuse_waiting(ctx: &mut Context<'_>, waiting: &Waiting) {
        refuse(ctx, waiting.channel().cloned(), Refusal::Overloaded, waiting.ack);
    }
}
