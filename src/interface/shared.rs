//! The state that the sessions and calls of all threads share.

use std::sync::Arc;

use super::capture::Capture;
use super::encode::encode;
use super::forge;
use super::insforge::client_bundle::ClientBundle;
use super::insforge::unsupported;
use super::membership::Membership;
use super::throttle::Throttle;
use crate::broker::directory::Published;
use crate::broker::publish::{Broker, Submission};
use crate::config::{Config, EngineIo, Forge, M2, Recovery};
use crate::message::{Millis, NodeTag, Now, Publication, Refused};

/// The state that the sessions and calls of all threads share.
#[derive(Debug)]
pub struct Shared {
    /// The broker: channels, their subscribers and rules, and the mailboxes of all threads.
    pub broker: Broker,
    /// The whole configuration, as it was at start.
    pub config: Arc<Config>,
    /// The node's part in its cluster; `None` without a cluster.
    pub membership: Option<Arc<Membership>>,
    /// The capture of rows of a database; `None` if no database is configured.
    pub capture: Option<Arc<Capture>>,
    /// What stands for this node in ids of Engine.IO sessions; `None` if the long-polling requests
    /// of these sessions are not passed on to it.
    pub tag: Option<NodeTag>,
    /// The configuration of Engine.IO.
    pub timings: EngineIo,
    /// The configuration of recovery; `None` if recovery is off.
    pub recovery: Option<Recovery>,
    /// The configuration of Forge, within the limits for all interfaces.
    pub forge: Forge,
    /// The configuration of M2, within the limits for all interfaces.
    pub m2: M2,
    /// A random number that identifies this start of the node.
    pub start: u64,
    /// The state of Forge events that all threads share.
    pub events: forge::Events,
    /// The files of the Socket.IO client that pages may load.
    pub client_bundle: ClientBundle,
    /// What clients of Socket.IO asked for in vain, for the log.
    pub unsupported: unsupported::Log,
    /// The rates at which sessions may begin and addresses may send requests.
    pub throttle: Throttle,
}

impl Shared {
    /// Returns when a connection ends because its token expires, in milliseconds since the node
    /// started; `None` if it does not. `expires_at` is the token's `exp`, in seconds since the
    /// epoch.
    pub fn closes_at(&self, expires_at: Option<u64>, now: Now) -> Option<Millis> {
        let expires_s = expires_at.filter(|_| self.config.auth.close_expired)?;
        Some(now.until_wall(expires_s.saturating_mul(1_000)))
    }

    /// Returns whether the nodes of a cluster share the sessions of Socket.IO, so that each of them
    /// can resume them.
    pub fn shares_sessions(&self) -> bool {
        self.recovery.is_some() && self.broker.mailboxes.stream.is_some()
    }

    /// Publishes on a channel. Interfaces make the frames. Returns the publication, and how the
    /// directory accepted it.
    ///
    /// # Errors
    /// [`Refused`] if the history's queue, or the mailbox of a worker with subscribers, has no
    /// room.
    pub fn publish(
        &self,
        submission: Submission<'_>,
    ) -> Result<(Arc<Publication>, Published), Refused> {
        self.broker.publish(submission, encode)
    }

    /// Creates the state that the sessions and calls of a node with this configuration share.
    /// `start` identifies this start of the node.
    pub fn new(broker: Broker, config: Arc<Config>, start: u64) -> Self {
        let Recovery { window_ms, log_bytes } = config.recovery;
        let log_bytes = log_bytes.min(broker.memory.part(usize::MAX) / config.workers);
        let recovery = Recovery { window_ms, log_bytes };
        let (limits, mut forge, mut m2) = (&config.limits, config.forge, config.m2.clone());
        forge.payload_bytes = forge.payload_bytes.min(limits.payload_bytes);
        m2.subscriptions = m2.subscriptions.min(limits.subscriptions_per_connection);
        Self {
            broker,
            membership: None,
            capture: config.postgres.url.is_some().then(Arc::default),
            tag: None,
            timings: config.engine_io.clone(),
            recovery: recovery.is_on().then_some(recovery),
            forge,
            m2,
            throttle: Throttle::new(&config.limits),
            config,
            start,
            events: forge::Events::default(),
            client_bundle: ClientBundle::default(),
            unsupported: unsupported::Log::default(),
        }
    }
}
