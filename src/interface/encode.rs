//! Frames of publications for the subscribers of each encoding.

use super::forge::wire as forge;
use super::insforge::wire as insforge;
use crate::codec::websocket::{Opcode, frame};
use crate::message::{AckId, Channel, Content, Encoding, FrameBytes, Publication};

/// Returns the WebSocket frame of a publication for one encoding. Long-polling sends the same bytes
/// without the frame header.
pub fn encode(publication: &Publication, encoding: Encoding) -> FrameBytes {
    if let Content::Document { frame, .. } = &publication.content {
        return frame.clone();
    }
    frame(Opcode::Text, &[text(publication, encoding).as_bytes()]).into()
}

/// Returns the text that the frame of a publication holds for one encoding.
pub fn text(publication: &Publication, encoding: Encoding) -> String {
    match &publication.content {
        Content::Event { payload } => forge::event(publication, payload, None),
        _ => insforge::publication(publication, encoding),
    }
}

/// Returns the text of a publication that a subscription receives again. `request` is the subscribe
/// that asked for it.
pub fn replayed(publication: &Publication, request: AckId) -> String {
    match &publication.content {
        Content::Event { payload } => forge::event(publication, payload, Some(request)),
        _ => insforge::publication(publication, Encoding::Sdk),
    }
}

/// Returns the frame that tells a subscriber that `count` publications of a channel were lost.
pub fn gap(channel: &Channel, count: u64, encoding: Encoding) -> Vec<u8> {
    let text = match encoding {
        Encoding::Documented | Encoding::Sdk => insforge::gap(channel, count),
        Encoding::Topic => forge::gap(channel, Some(count)),
        Encoding::Resource => unreachable!("a later document makes up for the lost ones"),
    };
    frame(Opcode::Text, &[text.as_bytes()])
}
