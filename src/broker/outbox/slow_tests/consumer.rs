//! A consumer of an outbox, with an account of what it was sent and what it lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::broker::outbox::{Full, Outbox, Spares};
use crate::broker::outgoing::Outgoing;
use crate::broker::shedding::Lost;
use crate::limits::OUTBOX_BYTES_MAX;
use crate::message::{
    Channel, ChannelOptions, Content, MessageId, Publication, Sender, SlowConsumer,
};

/// The bytes of every frame are a part of these.
pub(super) static BYTES: [u8; 1_000_000] = [7; 1_000_000];
const NOTICE_BYTES: usize = 150;

#[derive(Clone, Debug)]
pub(super) struct Item {
    length: usize,
    what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// An answer, with its number.
    Own(u64),
    /// A publication, whose id is its number, and whether it may be dropped.
    Delivery(Arc<Publication>, bool),
    Gap(Channel, u64),
}

impl AsRef<[u8]> for Item {
    fn as_ref(&self) -> &[u8] {
        &BYTES[..self.length]
    }
}

impl Outgoing for Item {
    fn is_delivery(&self) -> bool {
        matches!(self.what, What::Delivery(..))
    }
    fn expendable(&self) -> Option<&Publication> {
        match &self.what {
            What::Delivery(publication, true) => Some(publication),
            _ => None,
        }
    }
    fn gap(&self) -> Option<(&Channel, u64)> {
        match &self.what {
            What::Gap(channel, count) => Some((channel, *count)),
            _ => None,
        }
    }
    fn notice(&self, channel: &Channel, count: u64) -> Self {
        Self { length: NOTICE_BYTES, what: What::Gap(channel.clone(), count) }
    }
}

impl Item {
    /// Returns the number of the item; `None` for a gap notice.
    pub(super) fn number(&self) -> Option<u64> {
        match &self.what {
            What::Own(number) => Some(*number),
            What::Delivery(publication, _) => u64::try_from(publication.id.as_u128()).ok(),
            What::Gap(..) => None,
        }
    }

    fn slow_consumer(&self) -> SlowConsumer {
        let publication = self.expendable();
        publication.map_or(SlowConsumer::Close, |one| one.options.slow_consumer)
    }

    fn subject(&self) -> Option<(Channel, Box<str>)> {
        let publication =
            self.expendable().filter(|_| self.slow_consumer() == SlowConsumer::Latest)?;
        let Content::Message { event, .. } = &publication.content else { return None };
        Some((publication.channel.clone(), event.clone()))
    }
}

/// Creates a publication. The first letter of the channel's name selects the option for slow
/// consumers.
pub(super) fn delivery(number: u64, channel: &str, event: &str, length: usize) -> Item {
    let slow_consumer = match &channel[..1] {
        "o" => SlowConsumer::DropOldest,
        "l" => SlowConsumer::Latest,
        _ => SlowConsumer::Close,
    };
    let content =
        Content::Message { event: event.into(), payload: "1".into(), sender: Sender::System };
    let options = ChannelOptions { slow_consumer, ..ChannelOptions::default() };
    let id = MessageId::from_u128(number.into());
    let publication = Publication::new(id, Channel::from(channel), 0, content).under(options);
    let what = What::Delivery(Arc::new(publication), slow_consumer != SlowConsumer::Close);
    Item { length, what }
}

pub(super) fn own(number: u64, length: usize) -> Item {
    Item { length, what: What::Own(number) }
}

/// An outbox, and an account of the frames that were added and removed.
#[derive(Default)]
pub(super) struct Consumer {
    pub(super) outbox: Outbox<Item>,
    pub(super) spares: Spares<Item>,
    /// Publications by channel: added to the outbox, taken by the kernel, and counted in sent
    /// notices.
    pushed: HashMap<Channel, u64>,
    taken: HashMap<Channel, u64>,
    told: HashMap<Channel, u64>,
    pub(super) lost: Lost,
    /// The first lost publication of each channel that has a notice in the outbox.
    first_lost: HashMap<Channel, u64>,
    pub(super) is_closed: bool,
}

impl Consumer {
    pub(super) fn waiting(&self) -> Vec<Item> {
        let rest = self.outbox.rest.iter().flat_map(|rest| &rest.frames);
        self.outbox.first.iter().chain(rest).cloned().collect()
    }

    pub(super) fn push(&mut self, item: Item) {
        if let What::Delivery(publication, _) = &item.what {
            *self.pushed.entry(publication.channel.clone()).or_default() += 1;
        }
        let Err(Full(item)) = self.outbox.push(item, OUTBOX_BYTES_MAX, &mut self.spares) else {
            return;
        };
        let before = self.waiting();
        let Some(lost) = self.outbox.shed(&item, OUTBOX_BYTES_MAX) else {
            assert_eq!(format!("{before:?}"), format!("{:?}", self.waiting()), "unchanged");
            self.is_closed = true;
            return;
        };
        self.check_loss(&before, lost, Some(&item));
        let pushed = self.outbox.push(item, OUTBOX_BYTES_MAX, &mut self.spares);
        pushed.expect("there is room for a frame that is no longer than that");
    }

    pub(super) fn conflate(&mut self) {
        let before = self.waiting();
        let lost = self.outbox.conflate();
        assert_eq!(lost.oldest, 0);
        self.check_loss(&before, lost, None);
    }

    /// Removes bytes as if the kernel had taken them.
    pub(super) fn take(&mut self, bytes: usize) {
        let (before, was_on_its_way) = (self.waiting(), self.outbox.is_partly_sent());
        let all = before.iter().map(|item| item.length).sum::<usize>();
        let all = all - self.outbox.sent_of_first as usize;
        let gone = self.outbox.advance(bytes.min(all), &mut self.spares);
        let frames = usize::try_from(gone.frames).expect("few");
        for (place, item) in before.iter().enumerate().take(frames) {
            match &item.what {
                What::Own(_) => {}
                What::Delivery(publication, _) => {
                    *self.taken.entry(publication.channel.clone()).or_default() += 1;
                }
                What::Gap(channel, count) => {
                    *self.told.entry(channel.clone()).or_default() += count;
                    if place > 0 || !was_on_its_way {
                        self.first_lost.remove(channel);
                    }
                }
            }
        }
        // A notice that was sent in part cannot be changed any more.
        if self.outbox.is_partly_sent()
            && (gone.frames > 0 || !was_on_its_way)
            && let Some((channel, _)) = self.waiting()[0].gap()
        {
            self.first_lost.remove(channel);
        }
    }

    /// Checks what was dropped, given what was in the outbox before.
    fn check_loss(&mut self, before: &[Item], lost: Lost, incoming: Option<&Item>) {
        let after = self.waiting();
        let fixed = usize::from(self.outbox.is_partly_sent());
        if fixed == 1 {
            assert_eq!(format!("{:?}", before[0]), format!("{:?}", after[0]), "it is on its way");
        }
        let stays: HashSet<u64> = after.iter().filter_map(Item::number).collect();
        let gone: Vec<&Item> = before
            .iter()
            .filter(|item| item.number().is_some_and(|number| !stays.contains(&number)))
            .collect();
        let gone_by =
            |choice| gone.iter().filter(|item| item.slow_consumer() == choice).count() as u64;
        assert_eq!(gone_by(SlowConsumer::DropOldest), lost.oldest);
        assert_eq!(gone_by(SlowConsumer::Latest), lost.conflated);
        assert_eq!(gone_by(SlowConsumer::Close), 0, "it must not go");
        self.lost.add(lost);

        // The oldest are dropped first, and of a subject only the latest stays.
        let oldest_left =
            after[fixed..].iter().find(|one| one.slow_consumer() == SlowConsumer::DropOldest);
        for item in &gone {
            if item.slow_consumer() == SlowConsumer::DropOldest {
                assert!(oldest_left.is_none_or(|left| item.number() < left.number()));
            }
        }
        let subjects = || after[fixed..].iter().chain(incoming).filter_map(Item::subject);
        for subject in subjects() {
            assert_eq!(subjects().filter(|other| *other == subject).count(), 1, "{subject:?}");
        }
        for item in gone.iter().filter(|item| item.slow_consumer() == SlowConsumer::Latest) {
            let mut later = after[fixed..].iter().chain(incoming);
            let is_said_later =
                later.any(|one| one.subject() == item.subject() && one.number() > item.number());
            assert!(is_said_later, "{item:?}");
        }
        let told_before = told(&before[fixed..]);
        for item in gone {
            let channel = &item.expendable().expect("it went").channel;
            let number = item.number().expect("it is no notice");
            let first = self.first_lost.entry(channel.clone()).or_insert(number);
            *first = number.min(*first);
        }
        let told_after = told(&after[fixed..]);
        let new = told_after.len() - told_before.len();
        assert_eq!(new as u64, lost.notices);
        self.check_places(&after[fixed..]);
    }

    /// Checks that each channel has one notice at most, in the place of its first lost publication.
    fn check_places(&self, waiting: &[Item]) {
        for (place, item) in waiting.iter().enumerate() {
            let Some((channel, _)) = item.gap() else { continue };
            let first = self.first_lost[channel];
            let numbers =
                |items: &[Item]| items.iter().filter_map(Item::number).collect::<Vec<_>>();
            assert!(numbers(&waiting[..place]).iter().all(|number| *number < first));
            assert!(numbers(&waiting[place..]).iter().all(|number| *number > first));
        }
    }

    /// Checks that nothing is lost without a notice, and that the order and the counts are right.
    pub(super) fn check(&self) {
        let waiting = self.waiting();
        let numbers: Vec<u64> = waiting.iter().filter_map(Item::number).collect();
        assert!(numbers.is_sorted(), "the order is kept: {numbers:?}");
        let bytes: usize = waiting.iter().map(|item| item.length).sum();
        assert_eq!(self.outbox.bytes as usize, bytes);
        assert_eq!(self.outbox.len(), waiting.len());
        if self.is_closed {
            return;
        }
        let mut accounted = self.taken.clone();
        for (channel, count) in &self.told {
            *accounted.entry(channel.clone()).or_default() += count;
        }
        for item in &waiting {
            match &item.what {
                What::Own(_) => {}
                What::Delivery(publication, _) => {
                    *accounted.entry(publication.channel.clone()).or_default() += 1;
                }
                What::Gap(channel, count) => {
                    *accounted.entry(channel.clone()).or_default() += count;
                }
            }
        }
        assert_eq!(accounted, self.pushed, "each was taken, waits, or is told of");
    }
}

/// Returns the counts of the notices by channel, each of which has one notice at most.
fn told(waiting: &[Item]) -> HashMap<Channel, u64> {
    let mut told = HashMap::new();
    for (channel, count) in waiting.iter().filter_map(Item::gap) {
        assert_eq!(told.insert(channel.clone(), count), None, "told once: {channel:?}");
    }
    told
}
