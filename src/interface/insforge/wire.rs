//! InsForge Realtime over Socket.IO: events to commands; replies,
//! publications and presence to packets. Both event-name dialects and both message shapes.

mod presence;
mod publication;
mod reply;
mod request;
mod spread;

use std::fmt::Write as _;

use crate::message::{MessageId, Millis, iso_millis};
pub use presence::presence_sync;
pub use publication::publication;
pub use reply::{gap, reply};
pub use request::{Request, request};

fn push_meta_end(out: &mut String, id: MessageId, at: Millis) {
    let at = iso_millis(at);
    let _ = write!(out, r#","messageId":"{id}","timestamp":"{at}"}}"#);
}
