//! Socket.IO, protocol 5, server side: packets, and the collecting of
//! binary attachments. The text handled here is the data of an Engine.IO message packet; the text
//! made here is the whole Engine.IO packet.

mod event;
mod packet;
mod pending;
#[cfg(test)]
mod tests;
mod text;

pub use event::{Event, RESERVED_EVENTS};
pub use packet::{Packet, decode};
pub use pending::{Inlined, Pending};
pub use text::{
    ack_text, connect_error, connected, connected_for_good, event_text, with_attachments,
};
