//! Socket.IO, protocol 5, server side: packets, and the collection of binary attachments.
//!
//! Functions that read take the data of an Engine.IO message packet. Functions that write return
//! the whole Engine.IO packet.

mod event;
mod inline;
mod packet;
mod pending;
#[cfg(test)]
mod tests;
mod text;

pub use event::{Event, RESERVED_EVENTS, text};
pub use inline::InlineError;
pub use packet::{Packet, ack_of_start, decode};
pub use pending::{Inlined, Pending};
pub use text::{
    ack_text, connect_error, connected, connected_for_good, event_text, with_attachments,
};
