//! The channels that a node begins or ceases to need from the cluster's stream.

use std::sync::{Mutex, PoisonError};

use super::Doorbell;
use crate::message::Channel;

/// Names of channels for the thread that hears the stream. Only names, because what the node needs
/// may have changed again when that thread looks: then it asks the directory. The directory notes a
/// channel once until it is asked, so that there are never more names than channels.
#[derive(Debug)]
pub struct Interests {
    channels: Mutex<Vec<Channel>>,
    doorbell: Doorbell,
}

impl Interests {
    /// Creates an empty list.
    ///
    /// # Errors
    /// If the system gives no event descriptor.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { channels: Mutex::default(), doorbell: Doorbell::new()? })
    }

    /// Notes a channel. [`Interests::wake`] must follow.
    pub fn note(&self, channel: Channel) {
        self.lock().push(channel);
    }

    /// Wakes the thread that hears the stream, if it sleeps.
    pub fn wake(&self) {
        self.doorbell.wake();
    }

    /// Takes all noted channels.
    pub fn take(&self) -> Vec<Channel> {
        std::mem::take(&mut *self.lock())
    }

    /// Returns whether no channel is noted.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Returns the bell that [`Interests::wake`] rings.
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        // A thread that panics under the lock ends the node.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
