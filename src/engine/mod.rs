//! State and decisions: who is subscribed where, in which order things are heard, what waits for
//! whom. No I/O, no clock, no threads of its own: time and ids are arguments, and what must happen
//! elsewhere is posted into the workers' [mailboxes](crate::mailbox).
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
