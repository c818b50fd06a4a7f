//! What a node of a cluster decides: state and decisions, without socket, clock and thread.
//!
//! The nodes of a cluster share two streams of NATS JetStream. All publications go through the
//! first one, which gives them one order and republishes each to the nodes that listen: a
//! publication is delivered on every node, the publisher's own included, only when it has come
//! back. The second one holds claims, by which a publisher finds the nodes that have subscribers.
//!
//! # Words
//!
//! - The **line** is a node's own connection to NATS. All that must keep its order goes over it.
//! - A **heartbeat** is a message that a node publishes into the stream on a subject of its own.
//!   Its **echo** is the same message as it comes back live. NATS keeps the order of what one
//!   connection asks, so that all subscriptions that were made before a heartbeat are in force when
//!   it comes back, and everything before it in the stream has come.
//! - A **claim** is a node's note in the second stream that it has subscribers of a channel. The
//!   **mirror** is a node's copy of all nodes' claims. A **barrier** is a message into that stream:
//!   when it comes out of the mirror's consumer, the mirror has every claim that was stored before.
//! - A **chain** is what a node knows of one channel's sequence: each live message names the one
//!   before it on its channel. A **hole** is what did not come live and must be read.
//! - An **anchor** is a message that tells one life of a stream from another. An **epoch** is such
//!   a life. It ends if the stream has lost something that it had acknowledged.
//! - A **flight** is a message that is sent and not answered.

pub mod ack;
pub mod admin;
pub mod attach;
pub mod audience;
pub mod chain;
pub mod claims;
pub mod documents;
pub mod epoch;
pub mod events;
pub mod flight;
pub mod health;
pub mod history;
pub mod hole;
pub mod invocations;
pub mod landing;
pub mod limits;
mod machine;
pub mod name;
pub mod own_claim;
pub mod polls;
pub mod pulse;
pub mod reads;
pub mod sequence;
pub mod sessions;
pub mod vitals;
pub mod wire;
pub mod witness;

pub use machine::Cluster;
