//! The heartbeats of the nodes, listened to for a while by one that is not among them yet.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::control::{Control, ControlError, deepest};
use crate::cluster::limits::NODES_MAX;
use crate::cluster::name::NodeName;
use crate::cluster::wire::{Beat, Body, Message, Origin};

/// The last heartbeat of each node that was heard, with the start of the node that sent it. It is
/// `None` if this release does not read it: the node is alive all the same.
#[derive(Clone, Default, Debug)]
pub struct Heard(BTreeMap<NodeName, (Origin, Option<Beat>)>);

impl Heard {
    /// Returns whether this start of a node was heard.
    pub fn has(&self, origin: &Origin) -> bool {
        self.0.get(&origin.node).is_some_and(|(heard, _)| heard == origin)
    }

    /// Returns the last heartbeat of this start of a node; `None` if none was heard and read.
    pub fn beat(&self, origin: &Origin) -> Option<&Beat> {
        let heard = self.0.get(&origin.node).filter(|(heard, _)| heard == origin);
        heard.and_then(|(_, beat)| beat.as_ref())
    }
}

/// Listens for so long. Nodes beyond [`NODES_MAX`] are not noted.
///
/// # Errors
/// If the connection takes no subscription.
pub async fn listen(control: &Control, within: Duration) -> Result<Heard, ControlError> {
    let end = Instant::now() + within;
    let subject = control.settings().prefix.live_beats();
    let subscribed = control.client().subscribe(subject).await;
    let mut live = subscribed.map_err(|error| ControlError::Refused {
        what: "listen to the other nodes' heartbeats".to_owned(),
        problem: deepest(&error),
        advice: "",
    })?;
    let mut heard = Heard::default();
    while let Ok(Some(message)) = timeout_at(end, live.next()).await {
        let headers = message.headers.iter().flat_map(|headers| headers.iter());
        let headers = headers.flat_map(|(name, values)| {
            let name: &str = name.as_ref();
            values.iter().map(move |value| (name.as_bytes(), value.as_str().as_bytes()))
        });
        let message = Message::decode(headers, &message.payload, None);
        let Some(Message { from: Some(from), body, .. }) = message else { continue };
        let beat = match body {
            Ok(Body::Beat(beat)) => Some(beat),
            _ => None,
        };
        if heard.0.len() < NODES_MAX || heard.0.contains_key(&from.node) {
            heard.0.insert(from.node.clone(), (from, beat));
        }
    }
    Ok(heard)
}
