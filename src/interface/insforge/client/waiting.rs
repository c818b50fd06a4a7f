//! Commands that run at once, and commands that wait for a verdict.

use super::{Client, refuse};
use crate::broker::sharing::MayChange;
use crate::interface::authorize::Standing;
use crate::interface::context::Context;
use crate::interface::insforge::backlog::{Waiting, changes_subscriptions};
use crate::interface::insforge::sharing;
use crate::interface::insforge::wire::Request;
use crate::message::{AckId, Action, Refusal};

/// When a command is carried out.
enum Turn {
    Now,
    /// Once the answer has come that it waits for.
    Later,
    Refused(Refusal),
}

impl Client {
    /// Runs a command if the policies' verdict on it is known, the other nodes of a cluster need
    /// not know of it first, and no earlier command waits. Otherwise the command waits, or is
    /// refused if a backlog or the queue of questions is full.
    pub(in crate::interface::insforge) fn execute(
        &mut self,
        ctx: &mut Context<'_>,
        request: Request,
        ack: Option<AckId>,
    ) {
        ctx.local.authorizer.refresh();
        let may_wait = changes_subscriptions(&request) && !sharing::is_free(ctx);
        if ctx.local.authorizer.is_idle() && !may_wait {
            return self.carry_out(ctx, request, ack);
        }
        let waiting = Waiting { request, ack };
        let turn = match self.unfinished.is_any_waiting() {
            true => Turn::Later,
            false => self.judge(ctx, &waiting),
        };
        match turn {
            Turn::Now => self.carry_out(ctx, waiting.request, waiting.ack),
            Turn::Later => self.wait(ctx, waiting),
            Turn::Refused(refusal) => Self::refuse_waiting(ctx, &waiting, refusal),
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
                Turn::Now => self.carry_out(ctx, waiting.request, waiting.ack),
                Turn::Later => {
                    Self::count_waiting(ctx, &waiting);
                    self.unfinished.push_front(waiting);
                    return true;
                }
                Turn::Refused(refusal) => Self::refuse_waiting(ctx, &waiting, refusal),
            }
        }
        true
    }

    fn judge(&self, ctx: &mut Context<'_>, waiting: &Waiting) -> Turn {
        match self.judge_by_policies(ctx, waiting) {
            Standing::Settled if !waiting.changes_subscriptions() => Turn::Now,
            Standing::Settled => match sharing::may_change(ctx) {
                MayChange::Now => Turn::Now,
                MayChange::Told | MayChange::Answered => Turn::Later,
                MayChange::Not => Turn::Refused(Refusal::Unavailable),
            },
            Standing::Asked => Turn::Later,
            Standing::Overloaded => Turn::Refused(Refusal::Overloaded),
        }
    }

    fn judge_by_policies(&self, ctx: &mut Context<'_>, waiting: &Waiting) -> Standing {
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
            return Self::refuse_waiting(ctx, &waiting, Refusal::Overloaded);
        }
        Self::count_waiting(ctx, &waiting);
        self.unfinished.push_back(waiting);
    }

    fn count_waiting(ctx: &mut Context<'_>, waiting: &Waiting) {
        ctx.local.authorizer.came(1, waiting.bytes());
        ctx.local.counters.commands_waiting.add(1);
    }

    fn refuse_waiting(ctx: &mut Context<'_>, waiting: &Waiting, refusal: Refusal) {
        refuse(ctx, waiting.channel().cloned(), refusal, waiting.ack);
    }
}
