//! Shedding: which publications a full outbox leaves out, and the gap notices that it has instead.
//!
//! The option of each publication's channel decides: on some channels the oldest may be left out,
//! on some all but the latest of each event name, on most none. A gap notice for each channel
//! concerned is in the place of the first publication that was left out.

use std::collections::{HashMap, HashSet, VecDeque};

use super::outgoing::Outgoing;
use crate::limits::OUTBOX_FRAMES_MAX;
use crate::message::{Channel, Content, SlowConsumer};

/// Deliveries that were left out because their consumer did not keep up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lost {
    /// Deliveries that were left out because they were the oldest.
    pub oldest: u64,
    /// Deliveries that were left out because later ones replaced them.
    pub conflated: u64,
    /// New gap notices. A notice that takes the place of an earlier one is not counted.
    pub notices: u64,
}

impl Lost {
    /// Adds the counts of another loss.
    pub fn add(&mut self, other: Self) {
        self.oldest += other.oldest;
        self.conflated += other.conflated;
        self.notices += other.notices;
    }
}

/// The decision which frames of an outbox to leave out.
#[derive(Debug)]
pub(super) struct Plan {
    /// By place in the outbox.
    goes: Vec<bool>,
    lost: Lost,
    /// Frames and bytes that stay.
    frames: usize,
    bytes: usize,
}

impl Plan {
    /// Creates a plan that leaves out nothing. `first` is counted, and stays in any case.
    pub(super) fn new<F: Outgoing>(first: Option<&F>, waiting: &VecDeque<F>) -> Self {
        let all = first.into_iter().chain(waiting);
        Self {
            goes: vec![false; waiting.len()],
            lost: Lost::default(),
            frames: all.clone().count(),
            bytes: all.map(|frame| frame.as_ref().len()).sum(),
        }
    }

    /// Leaves out what a later frame makes outdated. `incoming` is later than all of them.
    pub(super) fn conflate<F: Outgoing>(&mut self, waiting: &VecDeque<F>, incoming: Option<&F>) {
        let mut said: HashSet<_> = incoming.and_then(subject).into_iter().collect();
        for (place, frame) in waiting.iter().enumerate().rev() {
            if subject(frame).is_some_and(|subject| !said.insert(subject)) {
                self.take_out(place, frame);
                self.lost.conflated += 1;
            }
        }
    }

    /// Leaves out the oldest frames until half of an outbox of `bytes_max` bytes is free, or no
    /// frame is left that may be left out.
    pub(super) fn drop_oldest<F: Outgoing>(&mut self, waiting: &VecDeque<F>, bytes_max: usize) {
        for (place, frame) in waiting.iter().enumerate() {
            if self.frames <= OUTBOX_FRAMES_MAX / 2 && self.bytes <= bytes_max / 2 {
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

    /// Returns the frames and bytes that stay.
    pub(super) fn stays(&self) -> (usize, usize) {
        (self.frames, self.bytes)
    }

    /// Returns the frames and bytes of the new gap notices, at most.
    pub(super) fn notices<F: Outgoing>(&self, waiting: &VecDeque<F>) -> (usize, usize) {
        let gone = waiting.iter().zip(&self.goes).filter(|(_, goes)| **goes);
        let lost = gone.filter_map(|(frame, _)| Some((&frame.expendable()?.channel, frame)));
        let told: HashMap<&Channel, &F> = lost.filter(|(_, frame)| !frame.is_state()).collect();
        let bytes =
            |(channel, frame): (&&Channel, &&F)| frame.notice(channel, u64::MAX).as_ref().len();
        (told.len(), told.iter().map(bytes).sum())
    }

    /// Returns the frames that stay, with gap notices in their places.
    pub(super) fn carry_out<F: Outgoing>(mut self, waiting: VecDeque<F>) -> (VecDeque<F>, Lost) {
        let mut stays = Vec::with_capacity(waiting.len());
        let mut notices: HashMap<Channel, Notice<F>> = HashMap::new();
        for (frame, goes) in waiting.into_iter().zip(self.goes) {
            let (channel, count, was_said) = match (frame.gap(), frame.expendable()) {
                (Some((channel, count)), _) => (channel.clone(), count, true),
                // A document that is left out needs no notice, because a later version says
                // everything.
                (None, Some(publication)) if goes && publication.content.is_state() => continue,
                (None, Some(publication)) if goes => (publication.channel.clone(), 1, false),
                _ => {
                    stays.push(Some(frame));
                    continue;
                }
            };
            let notice = notices.entry(channel).or_insert_with(|| {
                stays.push(None);
                Notice { place: stays.len() - 1, count: 0, was_said: false, frame }
            });
            notice.count += count;
            notice.was_said |= was_said;
        }
        for (channel, notice) in notices {
            stays[notice.place] = Some(notice.frame.notice(&channel, notice.count));
            self.lost.notices += u64::from(!notice.was_said);
        }
        (stays.into_iter().flatten().collect(), self.lost)
    }
}

/// The gap notice of one channel.
struct Notice<F> {
    /// The first frame that it stands for.
    frame: F,
    place: usize,
    count: u64,
    /// Whether it takes the place of an earlier notice.
    was_said: bool,
}

/// Returns what a publication is about, if a later one about the same makes it outdated.
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
