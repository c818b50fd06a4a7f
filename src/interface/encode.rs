//! Frames of publications for the subscribers of each encoding.

use super::events::wire as events;
use super::forge::wire as forge;
use super::insforge::wire as insforge;
use crate::broker::cursor::Cursor;
use crate::codec::websocket::{Opcode, frame};
use crate::message::{AckId, Channel, Content, Encoding, FrameBytes, Mark, Publication, Snapshot};

/// Returns the WebSocket frame of a publication for one encoding. Long-polling sends the same bytes
/// without the frame header.
pub fn encode(publication: &Publication, encoding: Encoding) -> FrameBytes {
    if let Content::Document { frame, .. } = &publication.content {
        return frame.clone();
    }
    if encoding == Encoding::EventStream {
        let (event, data) = insforge::documented(publication);
        return events::publication(publication, None, (event, &data)).into();
    }
    frame(Opcode::Text, &[text(publication, encoding).as_bytes()]).into()
}

/// Returns the block of a publication for a stream of several channels.
pub fn placed(publication: &Publication, cursor: &Cursor) -> Vec<u8> {
    let (event, data) = insforge::documented(publication);
    events::publication(publication, Some(cursor), (event, &data))
}

/// Returns the members of a channel as a member of a JSON object, without its braces.
pub fn presence(presence: &Snapshot, present: usize) -> String {
    insforge::presence(presence, present)
}

/// Returns the text that the frame of a publication holds for one encoding.
pub fn text(publication: &Publication, encoding: Encoding) -> String {
    match &publication.content {
        Content::Event { payload } => forge::event(publication, payload, None),
        _ => insforge::publication(publication, encoding, &publication.mark()),
    }
}

/// Returns the text of a message that tells its client to remember this mark.
pub fn marked(publication: &Publication, encoding: Encoding, mark: &Mark) -> String {
    insforge::publication(publication, encoding, mark)
}

/// Returns the text of a publication that a subscription receives again. `request` is the subscribe
/// that asked for it.
pub fn replayed(publication: &Publication, request: AckId) -> String {
    match &publication.content {
        Content::Event { payload } => forge::event(publication, payload, Some(request)),
        _ => insforge::publication(publication, Encoding::Sdk, &publication.mark()),
    }
}

/// Returns the frame that tells a subscriber that publications of a channel were lost: so many, if
/// that is known.
pub fn gap(channel: &Channel, count: Option<u64>, encoding: Encoding) -> Vec<u8> {
    let text = match encoding {
        Encoding::Documented | Encoding::Sdk => insforge::gap(channel, count),
        Encoding::Topic => forge::gap(channel, count),
        Encoding::EventStream => return events::gap(channel, count),
        Encoding::Resource => unreachable!("a later document makes up for the lost ones"),
    };
    frame(Opcode::Text, &[text.as_bytes()])
}
