//! Cold work, off the hot threads: the embedded store, webhooks, and policies' expressions. What is
//! to be done comes through bounded queues that nobody waits on; answers go to whoever asked.

mod changes;
mod chores;
mod history;
pub mod policy;
pub mod reader;
pub mod store;
pub mod webhook;
mod writer;

use crate::message::{ChannelDefinition, Permissions};

pub use writer::{Incoming, Writer};

/// What has changed and holds from now on.
#[derive(Debug)]
pub enum News {
    /// These are all definitions.
    Channels(Vec<ChannelDefinition>),
    /// These are all policies.
    Permissions(Permissions),
}
