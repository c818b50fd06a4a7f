//! The frames and blocks that the floor sends: of the same length and shape as a node's.

use anyhow::Result;

use crate::api::Api;
use crate::publisher::Schedule;
use crate::stamp::{Stamp, Template};

/// A frame whose stamp is overwritten for each publication.
pub(super) struct PublicationFrame {
    template: Template,
    frame: Vec<u8>,
    head_bytes: usize,
}

impl PublicationFrame {
    /// Builds the frame for the publications of this schedule.
    pub(super) fn new(api: Api, schedule: &Schedule) -> Result<Self> {
        let mut template = api.delivered(schedule)?;
        let text = template.stamped(Stamp { sequence: 0, due_ns: 0 });
        let frame = [&frame_head(api, text.len()), text].concat();
        let head_bytes = frame.len() - text.len();
        Ok(Self { template, frame, head_bytes })
    }

    /// Writes this stamp into the frame and returns the frame.
    pub(super) fn stamped(&mut self, stamp: Stamp) -> &[u8] {
        self.frame[self.head_bytes..].copy_from_slice(self.template.stamped(stamp));
        &self.frame
    }
}

/// Returns a message as servers send it: a text frame that is neither fragmented nor masked, or the
/// blocks of a stream as they are.
pub(super) fn framed(api: Api, text: &str) -> Vec<u8> {
    [&frame_head(api, text.len()), text.as_bytes()].concat()
}

fn frame_head(api: Api, length: usize) -> Vec<u8> {
    if api.is_stream() {
        return Vec::new();
    }
    let mut frame = vec![0x81];
    match length {
        short @ 0..126 => frame.push(u8::try_from(short).expect("below 126")),
        medium @ 126..=0xFFFF => {
            frame.push(126);
            frame.extend(u16::try_from(medium).expect("at most 0xFFFF").to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Reader;
    use crate::stream::read_block;
    use crate::wire::{Frame, read_frame};

    const STAMP: Stamp = Stamp { sequence: 12, due_ns: 345 };

    fn frame(api: Api, payload_bytes: usize) -> PublicationFrame {
        let (channel, event) = ("load:1".to_owned(), "load".to_owned());
        let (rate, publications) = (1.0, 1);
        let schedule = Schedule { channel, event, payload_bytes, rate, publications };
        PublicationFrame::new(api, &schedule).unwrap()
    }

    #[test]
    fn the_frame_is_one_text_frame_with_the_stamp_in_it() {
        for api in [Api::InsForge, Api::Forge] {
            let mut frame = frame(api, 64);
            let bytes = frame.stamped(STAMP);
            let (Frame::Text(text), whole) = read_frame(bytes).unwrap().unwrap() else {
                panic!("it is one text frame");
            };
            assert_eq!(whole, bytes.len());
            assert_eq!(Reader::new().find(text), Some(STAMP));
        }
    }

    #[test]
    fn a_stream_sends_one_block_with_the_stamp_in_it() {
        let mut frame = frame(Api::Events, 64);
        let bytes = frame.stamped(STAMP);
        let (block, whole) = read_block(bytes).unwrap().unwrap();
        assert_eq!(whole, bytes.len());
        assert_eq!(Reader::new().find(block), Some(STAMP));
    }

    #[test]
    fn frames_of_every_length_form_are_written() {
        for payload_bytes in [48, 1_000, 70_000] {
            let mut frame = frame(Api::InsForge, payload_bytes);
            let bytes = frame.stamped(STAMP);
            let (_, whole) = read_frame(bytes).unwrap().unwrap();
            assert_eq!(whole, bytes.len());
        }
        for length in [0, 125, 126, 65_535, 65_536] {
            let text = "y".repeat(length);
            let frame = framed(Api::InsForge, &text);
            let read = read_frame(&frame).unwrap();
            assert_eq!(read, Some((Frame::Text(text.as_bytes()), frame.len())));
        }
    }
}
