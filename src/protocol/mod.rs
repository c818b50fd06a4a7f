//! Dialects: text of packets to commands, replies and publications to text. Knows nothing of
//! sockets, frames or threads.
//!
//! [`engineio`] and [`socketio`] are layers of their own; [`insforge`] and [`conformance`] are what
//! can run over them. [`forge`] and [`m2`] run over plain WebSocket messages.

pub mod conformance;
pub mod engineio;
pub mod forge;
pub mod insforge;
pub mod m2;
pub mod recovery;
pub mod socketio;

use crate::message::{AckId, Api, Channel, Content, Group, Publication};

/// The client broke a protocol's rules: its transport is closed (contract section 7.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub &'static str);

/// The text of a publication for one group of subscribers.
pub fn encode(publication: &Publication, group: Group) -> String {
    match &publication.content {
        Content::Event { payload } => forge::event(publication, payload, None),
        _ => insforge::publication(publication, group),
    }
}

/// The text of a publication for a subscription that gets it again and is told by which request.
pub fn replayed(publication: &Publication, request: AckId) -> String {
    match &publication.content {
        Content::Event { payload } => forge::event(publication, payload, Some(request)),
        _ => insforge::publication(publication, Group::InsforgeSdk),
    }
}

/// The text that tells a subscriber that it lost so many publications of a channel.
pub fn gap(channel: &Channel, count: u64) -> String {
    match channel.api() {
        Api::Insforge => insforge::gap(channel, count),
        Api::Forge => forge::gap(channel, Some(count)),
        // Nobody is told of those in between (contract M21).
        Api::M2 => unreachable!("a later document makes up for those before it"),
    }
}
