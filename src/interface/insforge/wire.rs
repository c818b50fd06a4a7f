//! InsForge Realtime over Socket.IO: reads events as commands, and writes replies, publications and
//! presence as packets. It knows both dialects of event names and both message shapes.

mod presence;
mod publication;
mod reply;
mod request;
mod spread;

use std::fmt::Write as _;

use crate::message::{MessageId, Millis, iso_millis};
pub use presence::{presence, presence_sync};
pub use publication::{documented, publication};
pub use reply::{gap, reply};
pub use request::{Request, request};

/// Appends the last two members of a `meta` object, and its closing brace.
fn push_meta_end(out: &mut String, id: MessageId, at: Millis) {
    let at = iso_millis(at);
    let _ = write!(out, r#","messageId":"{id}","timestamp":"{at}"}}"#);
}
