//! What the sessions and calls of all threads share.

use std::sync::Arc;

use super::encode::encode;
use super::forge;
use crate::broker::directory::Published;
use crate::broker::publish::{Broker, Submission};
use crate::config::{Config, EngineIo, Forge, M2, Recovery};
use crate::message::{Publication, Refused};

/// What the sessions and calls of all threads share.
#[derive(Debug)]
pub struct Shared {
    /// Order, audience and rules of all channels, and the mailboxes.
    pub broker: Broker,
    /// The configuration.
    pub config: Arc<Config>,
    /// Its section on Engine.IO.
    pub timings: EngineIo,
    /// Its section on recovery; `None` if clients may not recover.
    pub recovery: Option<Recovery>,
    /// Its section on Forge.
    pub forge: Forge,
    /// Its section on M2.
    pub m2: M2,
    /// A random number that tells this start of the node from all others.
    pub start: u64,
    /// What all threads share of Forge's events.
    pub events: forge::Events,
}

impl Shared {
    /// Publishes, with frames as the interfaces make them.
    ///
    /// # Errors
    /// [`Refused`], if a worker concerned or history has no room for it.
    pub fn publish(
        &self,
        submission: Submission<'_>,
    ) -> Result<(Arc<Publication>, Published), Refused> {
        self.broker.publish(submission, encode)
    }

    /// Gathers what the sessions and calls of a node with this configuration share.
    pub fn new(broker: Broker, config: Arc<Config>, start: u64) -> Self {
        Self {
            broker,
            timings: config.engine_io,
            recovery: config.recovery.is_on().then_some(config.recovery),
            forge: config.forge,
            m2: config.m2.clone(),
            config,
            start,
            events: forge::Events::default(),
        }
    }
}
