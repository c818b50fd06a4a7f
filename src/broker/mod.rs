//! The worker's half of the broker: the link of each connection, the outboxes, joins and leaves.

pub mod link;
pub mod outboxes;
pub mod subscriptions;
