//! Replies in JSON and the reading of JSON bodies, as the REST calls of all interfaces have them.

pub(super) mod dates;
mod durability;
mod error;
pub(super) mod fields;
mod reply;

pub(super) use durability::durability;
pub use error::ApiError;
pub use reply::Reply;
