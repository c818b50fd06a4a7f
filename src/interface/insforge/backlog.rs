//! What a client has sent and the node has not carried out: commands that wait for a verdict of the
//! policies, and a binary packet whose attachments are still to come. Few sessions have either, and
//! no idle one.

use std::collections::VecDeque;

use super::socketio::Pending;
use super::wire::Request;
use crate::interface::insforge::command::Command;
use crate::limits::{COMMANDS_WAITING_BYTES_MAX, COMMANDS_WAITING_MAX};
use crate::message::{AckId, Action, Channel};

/// Both in one box, which an idle session does not have.
#[derive(Debug, Default)]
pub(super) struct Unfinished(Option<Box<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    pending: Option<Pending>,
    backlog: Backlog,
}

/// Commands of one session that wait, in their order.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    commands: VecDeque<Waiting>,
    bytes: usize,
}

/// A command that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The command.
    pub(super) request: Request,
    /// The acknowledgement that its client waits for.
    pub(super) ack: Option<AckId>,
}

impl Unfinished {
    /// Whether a binary packet is incomplete.
    pub(super) fn is_pending(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| parts.pending.is_some())
    }

    /// Takes the incomplete binary packet, if there is one.
    pub(super) fn take_pending(&mut self) -> Option<Pending> {
        let pending = self.0.as_mut()?.pending.take();
        self.tidy();
        pending
    }

    /// Keeps a binary packet until it is complete.
    pub(super) fn keep_pending(&mut self, pending: Pending) {
        self.0.get_or_insert_default().pending = Some(pending);
    }

    /// Whether commands wait.
    pub(super) fn is_any_waiting(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| !parts.backlog.commands.is_empty())
    }

    /// Whether one more command of so many bytes may wait.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.0.as_ref().is_none_or(|parts| parts.backlog.has_room(bytes))
    }

    /// Puts a command behind the others.
    pub(super) fn push_back(&mut self, waiting: Waiting) {
        self.0.get_or_insert_default().backlog.push_back(waiting);
    }

    /// Puts the first command back that was taken.
    pub(super) fn push_front(&mut self, waiting: Waiting) {
        self.0.get_or_insert_default().backlog.push_front(waiting);
    }

    /// Takes the first command.
    pub(super) fn pop_front(&mut self) -> Option<Waiting> {
        let waiting = self.0.as_mut()?.backlog.pop_front();
        self.tidy();
        waiting
    }

    /// Drops all commands. Returns how many that were, and their bytes.
    pub(super) fn drop_backlog(&mut self) -> (usize, usize) {
        let Some(parts) = &mut self.0 else { return (0, 0) };
        let Backlog { commands, bytes } = std::mem::take(&mut parts.backlog);
        self.tidy();
        (commands.len(), bytes)
    }

    fn tidy(&mut self) {
        let is_empty = |parts: &Parts| parts.pending.is_none() && parts.backlog.commands.is_empty();
        if self.0.as_deref().is_some_and(is_empty) {
            self.0 = None;
        }
    }
}

impl Backlog {
    fn has_room(&self, bytes: usize) -> bool {
        self.commands.len() < COMMANDS_WAITING_MAX
            && self.bytes + bytes <= COMMANDS_WAITING_BYTES_MAX
    }

    fn push_back(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes();
        self.commands.push_back(waiting);
    }

    fn push_front(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes();
        self.commands.push_front(waiting);
    }

    fn pop_front(&mut self) -> Option<Waiting> {
        let waiting = self.commands.pop_front()?;
        self.bytes -= waiting.bytes();
        Some(waiting)
    }
}

impl Waiting {
    /// The channel that the command names; `None` if it names none.
    pub(super) fn channel(&self) -> Option<&Channel> {
        match &self.request {
            Request::Command(
                Command::Subscribe { channel, .. }
                | Command::Unsubscribe { channel }
                | Command::Publish { channel, .. },
            ) => Some(channel),
            Request::Invalid(channel, _) => channel.as_ref(),
            Request::Authenticate(_) | Request::Unknown => None,
        }
    }

    /// What policies are asked about it; `None` if they have no say.
    pub(super) fn judged(&self) -> Option<(Action, &Channel)> {
        match &self.request {
            Request::Command(Command::Subscribe { channel, .. }) => {
                Some((Action::Subscribe, channel))
            }
            Request::Command(Command::Publish { channel, .. }) => Some((Action::Publish, channel)),
            _ => None,
        }
    }

    /// Bytes that it takes while it waits.
    pub(super) fn bytes(&self) -> usize {
        let said = match &self.request {
            Request::Command(Command::Publish { event, payload, .. }) => {
                event.len() + payload.len()
            }
            Request::Authenticate(auth) => auth.len(),
            _ => 0,
        };
        size_of::<Self>() + self.channel().map_or(0, |channel| channel.as_str().len()) + said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(payload: usize) -> Waiting {
        Waiting {
            request: Request::Command(Command::Publish {
                channel: Channel::from("a"),
                event: "e".into(),
                payload: "x".repeat(payload).into(),
            }),
            ack: None,
        }
    }

    #[test]
    fn a_backlog_is_bounded_by_commands_and_bytes() {
        let mut backlog = Backlog::default();
        for _ in 0..COMMANDS_WAITING_MAX {
            assert!(backlog.has_room(command(1).bytes()));
            backlog.push_back(command(1));
        }
        assert!(!backlog.has_room(command(1).bytes()));
        let mut backlog = Backlog::default();
        backlog.push_back(command(COMMANDS_WAITING_BYTES_MAX / 2));
        assert!(backlog.has_room(command(1_000).bytes()));
        assert!(!backlog.has_room(command(COMMANDS_WAITING_BYTES_MAX / 2).bytes()));
    }

    #[test]
    fn nothing_unfinished_takes_no_memory() {
        let mut unfinished = Unfinished::default();
        unfinished.push_back(command(1));
        unfinished.push_back(command(2));
        let first = unfinished.pop_front().expect("it waits");
        assert!(unfinished.is_any_waiting());
        unfinished.push_front(first);
        assert_eq!(unfinished.drop_backlog(), (2, command(1).bytes() + command(2).bytes()));
        assert!(unfinished.0.is_none());
        assert_eq!(unfinished.drop_backlog(), (0, 0));
        unfinished.push_back(command(1));
        assert!(unfinished.pop_front().is_some());
        assert!(unfinished.0.is_none());
    }
}
