//! State and decisions: who is subscribed where, in which order things are heard, what waits for
//! whom. No I/O, no clock, no threads of its own: time and ids are arguments, and what must happen
//! elsewhere goes through the [`Mailboxes`] port.
//!
//! [`directory`] and [`invocations`] are shared by all threads; [`index`], [`outbox`],
//! [`awaiting`], [`debts`] and [`log`] belong to one worker each.

pub mod awaiting;
pub mod bucket;
pub mod compaction;
pub mod debts;
pub mod definitions;
pub mod directory;
pub mod index;
pub mod invocations;
pub mod log;
pub mod outbox;
pub mod policies;
pub mod presence;
pub mod replay;
pub mod slots;

use crate::message::{Activation, Deactivation, Delivery, WorkerId};

/// The workers' mailboxes as the directory sees them: a slot is reserved, then used or released.
/// Posting into a reserved slot cannot fail and never waits.
pub trait Mailboxes {
    /// Sets a slot for a publication aside. False when the worker has none left.
    fn reserve_publication(&self, worker: WorkerId) -> bool;
    /// Gives such a slot back.
    fn release_publication(&self, worker: WorkerId);
    /// Sets a slot for control mail aside. False when the worker has none left.
    fn reserve_control(&self, worker: WorkerId) -> bool;
    /// Gives such a slot back.
    fn release_control(&self, worker: WorkerId);
    /// Uses a publication slot.
    fn deliver(&self, worker: WorkerId, delivery: Delivery);
    /// Uses a control slot.
    fn activate(&self, activation: Activation);
    /// Uses a control slot.
    fn deactivate(&self, deactivation: Deactivation);
    /// Wakes a worker that was posted to; called after the lock is released.
    fn ring(&self, worker: WorkerId);
}
