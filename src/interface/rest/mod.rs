//! Bodies, replies, errors and dates, which the REST calls of all interfaces share.
//!
//! - `fields.rs`: reads the fields of JSON bodies.
//! - `reply.rs`: a reply in JSON and the headers that depend on it.
//! - `error.rs`: the errors of calls.
//! - `challenge.rs`: what a 401 says about credentials.
//! - `dates.rs`: reads dates in queries.
//! - `durability.rs`: reads the query parameter `durability`.

mod challenge;
pub(super) mod dates;
mod durability;
mod error;
pub(super) mod fields;
mod reply;

pub use challenge::Challenge;
pub(super) use durability::durability;
pub use error::{ApiError, UNAVAILABLE, UNKNOWN};
pub use reply::Reply;
