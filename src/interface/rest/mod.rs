//! Bodies, replies, errors and dates, which the REST calls of all interfaces share.
//!
//! - `fields.rs`: reads the fields of JSON bodies.
//! - `reply.rs`: a reply in JSON and the headers that depend on it.
//! - `error.rs`: the errors of calls.
//! - `dates.rs`: reads dates in queries.
//! - `durability.rs`: reads the query parameter `durability`.

pub(super) mod dates;
mod durability;
mod error;
pub(super) mod fields;
mod reply;

pub(super) use durability::durability;
pub use error::ApiError;
pub use reply::Reply;
