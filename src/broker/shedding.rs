//! What leaves an outbox whose consumer does not keep up, and what the consumer is told instead.
//!
//! Each publication goes by its own channel: of some the oldest may go, of some all but the latest
//! of each event, of most nothing. Where something went a notice says so, once for each channel,
//! in the place of the first that was lost.

use std::collections::{HashMap, HashSet, VecDeque};

use super::outgoing::Outgoing;
use crate::limits::{OUTBOX_BYTES_MAX, OUTBOX_FRAMES_MAX};
use crate::message::{Channel, Content, SlowConsumer};

/// What became of deliveries that a consumer did not take in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lost {
    /// Deliveries that went because they were the oldest.
    pub oldest: u64,
    /// Deliveries that went because later ones say the same.
    pub conflated: u64,
    /// Notices that were put in, not counting those that are said in one with an earlier one.
    pub notices: u64,
}

impl Lost {
    /// Takes another loss in.
    pub fn add(&mut self, other: Self) {
        self.oldest += other.oldest;
        self.conflated += other.conflated;
        self.notices += other.notices;
    }
}

/// Which of an outbox's waiting frames go.
#[derive(Debug)]
pub(super) struct Verdict {
    goes: Vec<bool>,
    lost: Lost,
    /// Frames and bytes that stay.
    frames: usize,
    bytes: usize,
}

impl Verdict {
    /// Nothing goes yet. `first` stays in any case.
    pub(super) fn new<F: Outgoing>(first: Option<&F>, waiting: &VecDeque<F>) -> Self {
        let all = first.into_iter().chain(waiting);
        Self {
            goes: vec![false; waiting.len()],
            lost: Lost::default(),
            frames: all.clone().count(),
            bytes: all.map(|frame| frame.as_ref().len()).sum(),
        }
    }

    /// All that something later makes outdated goes; `incoming` is the latest of all.
    pub(super) fn conflate<F: Outgoing>(&mut self, waiting: &VecDeque<F>, incoming: Option<&F>) {
        let mut said: HashSet<_> = incoming.and_then(subject).into_iter().collect();
        for (place, frame) in waiting.iter().enumerate().rev() {
            if subject(frame).is_some_and(|subject| !said.insert(subject)) {
                self.take_out(place, frame);
                self.lost.conflated += 1;
            }
        }
    }

    /// The oldest go, until half of an outbox is free or none is left that may.
    pub(super) fn drop_oldest<F: Outgoing>(&mut self, waiting: &VecDeque<F>) {
        for (place, frame) in waiting.iter().enumerate() {
            if self.frames <= OUTBOX_FRAMES_MAX / 2 && self.bytes <= OUTBOX_BYTES_MAX / 2 {
                return;
            }
            let publication = frame.expendable();
            if publication.is_some_and(|one| one.options.slow_consumer == SlowConsumer::DropOldest)
            {
                self.take_out(place, frame);
                self.lost.oldest += 1;
            }
        }
    }

    fn take_out<F: Outgoing>(&mut self, place: usize, frame: &F) {
        self.goes[place] = true;
        self.frames -= 1;
        self.bytes -= frame.as_ref().len();
    }

    /// Frames and bytes that stay.
    pub(super) fn stays(&self) -> (usize, usize) {
        (self.frames, self.bytes)
    }

    /// Frames and bytes of the notices that are put in, at most.
    pub(super) fn notices<F: Outgoing>(&self, waiting: &VecDeque<F>) -> (usize, usize) {
        let gone = waiting.iter().zip(&self.goes).filter(|(_, goes)| **goes);
        let told = gone.filter_map(|(frame, _)| frame.expendable());
        let told = told.filter(|publication| !publication.content.is_state());
        let channels: HashSet<&Channel> = told.map(|publication| &publication.channel).collect();
        let bytes = |channel: &&Channel| F::notice(channel, u64::MAX).as_ref().len();
        (channels.len(), channels.iter().map(bytes).sum())
    }

    /// What waits once all this is carried out, notices in their places.
    pub(super) fn carry_out<F: Outgoing>(mut self, waiting: VecDeque<F>) -> (VecDeque<F>, Lost) {
        let mut stays = Vec::with_capacity(waiting.len());
        let mut notices: HashMap<Channel, Notice> = HashMap::new();
        for (frame, goes) in waiting.into_iter().zip(self.goes) {
            let (channel, count, was_said) = match (frame.gap(), frame.expendable()) {
                (Some((channel, count)), _) => (channel.clone(), count, true),
                // The latest document says all that the ones before it did.
                (None, Some(publication)) if goes && publication.content.is_state() => continue,
                (None, Some(publication)) if goes => (publication.channel.clone(), 1, false),
                _ => {
                    stays.push(Some(frame));
                    continue;
                }
            };
            let notice = notices.entry(channel).or_insert_with(|| {
                stays.push(None);
                Notice { place: stays.len() - 1, count: 0, was_said: false }
            });
            notice.count += count;
            notice.was_said |= was_said;
        }
        for (channel, notice) in notices {
            stays[notice.place] = Some(F::notice(&channel, notice.count));
            self.lost.notices += u64::from(!notice.was_said);
        }
        (stays.into_iter().flatten().collect(), self.lost)
    }
}

/// What a channel's consumer is to be told.
struct Notice {
    place: usize,
    count: u64,
    /// Whether a part of it waits as a notice already.
    was_said: bool,
}

/// What a publication is about, where a later one about the same makes it outdated.
fn subject<F: Outgoing>(frame: &F) -> Option<(&str, &str)> {
    let publication = frame.expendable()?;
    if publication.options.slow_consumer != SlowConsumer::Latest {
        return None;
    }
    match &publication.content {
        Content::Message { event, .. } => Some((publication.channel.as_str(), event)),
        Content::Document { audience, .. } => {
            Some((publication.channel.as_str(), audience.as_deref().unwrap_or_default()))
        }
        _ => None,
    }
}
