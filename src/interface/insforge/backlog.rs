//! A client's unfinished input: commands that wait for a verdict of the policies or for the other
//! nodes of a cluster, a binary packet whose attachments have not all arrived, and a CONNECT whose
//! session is asked for. Few sessions have any of it, and idle sessions have nothing.

use std::collections::VecDeque;

use super::detached::Resuming;
use super::socketio::Pending;
use super::wire::Request;
use crate::interface::insforge::command::Command;
use crate::limits::{COMMANDS_WAITING_BYTES_MAX, COMMANDS_WAITING_MAX};
use crate::message::{AckId, Action, Channel};

/// All kinds of unfinished input, in one box that is freed when it is empty.
#[derive(Debug, Default)]
pub(super) struct Unfinished(Option<Box<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    pending: Option<Pending>,
    backlog: Backlog,
    resuming: Option<Box<Resuming>>,
}

/// The waiting commands of one session, in the order in which they arrived, with their bytes.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    commands: VecDeque<Waiting>,
    bytes: usize,
}

/// A command that waits for a verdict.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) request: Request,
    /// The id of the acknowledgement that the client requested; `None` if it requested none.
    pub(super) ack: Option<AckId>,
}

impl Unfinished {
    /// Returns whether attachments of a binary packet are missing.
    pub(super) fn is_pending(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| parts.pending.is_some())
    }

    /// Removes the incomplete binary packet and returns it, if there is one.
    pub(super) fn take_pending(&mut self) -> Option<Pending> {
        let pending = self.0.as_mut()?.pending.take();
        self.tidy();
        pending
    }

    /// Stores an incomplete binary packet.
    pub(super) fn keep_pending(&mut self, pending: Pending) {
        self.0.get_or_insert_default().pending = Some(pending);
    }

    /// Stores the request of a client whose session is asked for.
    pub(super) fn keep_resuming(&mut self, resuming: Resuming) {
        self.0.get_or_insert_default().resuming = Some(Box::new(resuming));
    }

    /// Removes that request and returns it, if there is one.
    pub(super) fn take_resuming(&mut self) -> Option<Box<Resuming>> {
        let resuming = self.0.as_mut()?.resuming.take();
        self.tidy();
        resuming
    }

    /// Returns whether the client's session is asked for.
    pub(super) fn is_resuming(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| parts.resuming.is_some())
    }

    /// Returns whether any command waits.
    pub(super) fn is_any_waiting(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| !parts.backlog.commands.is_empty())
    }

    /// Returns whether one more command, of `bytes` bytes, stays within [`COMMANDS_WAITING_MAX`]
    /// and [`COMMANDS_WAITING_BYTES_MAX`].
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.0.as_ref().is_none_or(|parts| parts.backlog.has_room(bytes))
    }

    /// Appends a command. The caller has checked [`Unfinished::has_room`].
    pub(super) fn push_back(&mut self, waiting: Waiting) {
        self.0.get_or_insert_default().backlog.push_back(waiting);
    }

    /// Puts a command that [`Unfinished::pop_front`] returned back to the front.
    pub(super) fn push_front(&mut self, waiting: Waiting) {
        self.0.get_or_insert_default().backlog.push_front(waiting);
    }

    /// Removes the oldest command and returns it.
    pub(super) fn pop_front(&mut self) -> Option<Waiting> {
        let waiting = self.0.as_mut()?.backlog.pop_front();
        self.tidy();
        waiting
    }

    /// Drops all commands. Returns their number and their bytes.
    pub(super) fn drop_backlog(&mut self) -> (usize, usize) {
        let Some(parts) = &mut self.0 else { return (0, 0) };
        let Backlog { commands, bytes } = std::mem::take(&mut parts.backlog);
        self.tidy();
        (commands.len(), bytes)
    }

    /// Returns the bytes of all parts.
    pub(super) fn bytes(&self) -> usize {
        let Some(parts) = &self.0 else { return 0 };
        parts.backlog.bytes + parts.pending.as_ref().map_or(0, Pending::bytes)
    }

    fn tidy(&mut self) {
        let is_empty = |parts: &Parts| {
            let is_idle = parts.pending.is_none() && parts.resuming.is_none();
            is_idle && parts.backlog.commands.is_empty()
        };
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
    /// Returns the channel that the command names; `None` if it has no channel.
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

    /// Returns whether the command changes the subscriptions of its client.
    pub(super) fn changes_subscriptions(&self) -> bool {
        changes_subscriptions(&self.request)
    }

    /// Returns the action and the channel that policies judge; `None` if the command does not
    /// depend on policies.
    pub(super) fn judged(&self) -> Option<(Action, &Channel)> {
        match &self.request {
            Request::Command(Command::Subscribe { channel, .. }) => {
                Some((Action::Subscribe, channel))
            }
            Request::Command(Command::Publish { channel, .. }) => Some((Action::Publish, channel)),
            _ => None,
        }
    }

    /// Returns the memory that the command takes while it waits, in bytes.
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

/// Returns whether a command changes the subscriptions of its client.
pub(super) fn changes_subscriptions(request: &Request) -> bool {
    let command = match request {
        Request::Command(command) => command,
        Request::Invalid(..) | Request::Authenticate(_) | Request::Unknown => return false,
    };
    matches!(command, Command::Subscribe { .. } | Command::Unsubscribe { .. })
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
                id: None,
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
