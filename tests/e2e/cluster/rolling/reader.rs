//! A reader of Server-Sent Events that goes on at another node when its stream ends, and checks
//! what it hears.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::stage::Stage;
use super::{REST, channel};
use crate::events::stream::{Event, Stream};
use crate::support::ANON_KEY;

/// How long a reader waits before it tries another node.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Reader {
    /// The number that was heard last on each channel; `None` if the next one may have any.
    heard: BTreeMap<usize, Option<u64>>,
    last_id: String,
    pub(super) events: usize,
    /// Streams that went on behind an earlier one.
    pub(super) resumed: usize,
    /// Gaps that it was told.
    pub(super) gaps: usize,
    /// What is lost, doubled or out of order, in words.
    pub(super) faults: Vec<String>,
}

impl Reader {
    pub(super) fn new(channels: impl Iterator<Item = usize>) -> Self {
        let heard = channels.map(|channel| (channel, None)).collect();
        let (last_id, events, resumed, gaps, faults) = Default::default();
        Self { heard, last_id, events, resumed, gaps, faults }
    }

    /// Reads from the nodes in turn, beginning with this one, until the last publications have come.
    pub(super) fn run(mut self, stage: &Stage, first: usize) -> Self {
        let ports = stage.ports.iter().cycle().skip(first);
        let mut end = None;
        for port in ports {
            self.read(stage, *port);
            if let Some(last) = stage.last() {
                if self.has_all(last) {
                    return self;
                }
                if *end.get_or_insert_with(|| Instant::now() + REST) < Instant::now() {
                    self.faults.push(format!("heard {:?} of {last:?}", self.heard));
                    return self;
                }
            }
            if stage.is_over() {
                return self;
            }
            thread::sleep(PAUSE);
        }
        unreachable!("the ports never end")
    }

    /// Reads until the stream of one node ends, or the last publications have come.
    fn read(&mut self, stage: &Stage, port: u16) {
        let names: Vec<_> = self.heard.keys().map(|number| channel(*number)).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let stream = Stream::try_resume(port, &names, ANON_KEY, &self.last_id);
        // A node that starts or ends lets nobody in.
        let Some(mut stream) = stream.filter(|stream| stream.status == 200) else { return };
        self.resumed += usize::from(!self.last_id.is_empty());
        while let Some(event) = stream.next() {
            self.note(&event);
            if stage.last().is_some_and(|last| self.has_all(last)) {
                break;
            }
        }
        self.last_id = stream.cut();
    }

    fn note(&mut self, event: &Event) {
        let name = event.data["channel"].as_str().unwrap_or_default();
        let Some((number, heard)) =
            self.heard.iter_mut().find(|(number, _)| channel(**number) == name)
        else {
            return;
        };
        if event.name == "gap" {
            self.gaps += 1;
            *heard = None;
            return;
        }
        let Some(n) = event.data["payload"]["n"].as_u64() else { return };
        self.events += 1;
        if heard.is_some_and(|before| n != before + 1) {
            self.faults.push(format!("a reader heard {n} behind {heard:?} on {number}"));
        }
        *heard = Some(n);
    }

    fn has_all(&self, last: &[u64]) -> bool {
        self.heard.iter().all(|(channel, heard)| *heard == Some(last[*channel]))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_lost_or_doubled_is_a_fault_unless_it_is_told() {
        let cases = [
            (&[Some(1), Some(2), Some(3)][..], 0),
            (&[Some(5), Some(7)], 1),
            (&[Some(5), Some(5)], 1),
            (&[Some(5), None, Some(9)], 0),
        ];
        for (numbers, faults) in cases {
            let mut reader = Reader::new([0].into_iter());
            for number in numbers {
                let name = number.map_or("gap", |_| "tick").to_owned();
                let data = json!({ "channel": channel(0), "payload": { "n": number } });
                reader.note(&Event { name, data, id: String::new() });
            }
            assert_eq!(reader.faults.len(), faults, "{numbers:?}");
        }
    }
}
