//! State and decisions: which subscriber receives which publication in which order, and which
//! frames are queued for it. No I/O and no clock: time, ids and randomness are arguments.
//!
//! [`directory`], [`definitions`], [`policies`], [`memory`] and [`repeats`] are shared by all
//! threads. [`index`], [`outboxes`], [`subscriptions`] and [`resume_log`] belong to one worker
//! each, and [`link`] is the part of each connection that they work on.

pub mod bucket;
pub mod budget;
pub mod channel_log;
pub mod cursor;
pub mod definitions;
pub mod directory;
pub mod index;
pub mod link;
pub mod memory;
pub mod outbox;
pub mod outboxes;
pub mod outgoing;
pub mod policies;
pub mod presence;
pub mod publish;
pub mod received;
pub mod repeats;
pub mod resume_log;
pub mod retain;
pub mod roster;
pub mod sharing;
pub mod shedding;
pub mod slab;
pub mod stale;
pub mod subscriptions;
pub mod takings;
pub mod window;
