//! What the node could not carry out at once, because a mailbox was full.

use std::collections::BTreeMap;

use crate::cluster::landing::{Earlier, Landing};
use crate::message::{Channel, MarkPlace};

/// Channels with something left to do, each once.
#[derive(Debug, Default)]
pub(super) struct Again {
    channels: BTreeMap<Channel, Left>,
}

/// What is left to do for a channel.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    requests: Option<Requests>,
    gap: bool,
}

/// What becomes of requests that waited for a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Requests {
    /// They are carried out: the node hears all behind this place.
    CarryOut(MarkPlace),
    Refuse,
}

impl Again {
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Lets the node carry out or refuse the requests that wait for a channel, now and as often as
    /// it takes.
    pub(super) fn requests(
        &mut self,
        landing: &mut impl Landing,
        channel: &Channel,
        what: Requests,
    ) {
        let is_left = requests(landing, channel, what);
        self.change(channel, |left| left.requests = is_left.then_some(what));
    }

    /// Gives the node what the stream has of a channel. Requests that are left are carried out
    /// later.
    pub(super) fn earlier(
        &mut self,
        landing: &mut impl Landing,
        channel: &Channel,
        earlier: Option<Earlier>,
    ) {
        let is_left = landing.earlier(channel, earlier);
        // The node hears the channel already, so that the place is not used.
        self.change(channel, |left| {
            left.requests =
                left.requests.or(is_left.then_some(Requests::CarryOut(MarkPlace::default())));
        });
    }

    /// Tells a gap on a channel, now and as often as it takes.
    pub(super) fn gap(&mut self, landing: &mut impl Landing, channel: &Channel) {
        let is_left = landing.gap(channel, None);
        self.change(channel, |left| left.gap = is_left);
    }

    /// Forgets a channel that the node does not hear any more.
    pub(super) fn forget(&mut self, channel: &Channel) {
        self.channels.remove(channel);
    }

    /// Tries everything again.
    pub(super) fn retry(&mut self, landing: &mut impl Landing) {
        self.channels.retain(|channel, left| {
            left.requests = left.requests.filter(|what| requests(landing, channel, *what));
            left.gap = left.gap && landing.gap(channel, None);
            left.requests.is_some() || left.gap
        });
    }

    fn change(&mut self, channel: &Channel, change: impl FnOnce(&mut Left)) {
        let mut left = self.channels.get(channel).copied().unwrap_or_default();
        change(&mut left);
        if left.requests.is_some() || left.gap {
            self.channels.insert(channel.clone(), left);
        } else {
            self.channels.remove(channel);
        }
    }
}

fn requests(landing: &mut impl Landing, channel: &Channel, what: Requests) -> bool {
    match what {
        Requests::CarryOut(from) => landing.attached(channel, from),
        Requests::Refuse => landing.unattachable(channel),
    }
}
