//! Consumers that do not keep up, and what the channels of their publications want then.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::message::{
    Channel, ChannelOptions, Content, MessageId, Publication, Sender, SlowConsumer,
};

/// Every frame's bytes are a part of these.
static BYTES: [u8; 1_000_000] = [7; 1_000_000];
const NOTICE_BYTES: usize = 150;

#[derive(Clone, Debug)]
struct Item {
    length: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// An answer, by its number.
    Own(u64),
    /// A publication, whose id is its number, and whether it may go.
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
    fn notice(channel: &Channel, count: u64) -> Self {
        Self { length: NOTICE_BYTES, what: What::Gap(channel.clone(), count) }
    }
}

impl Item {
    /// Its number, unless it is a notice.
    fn number(&self) -> Option<u64> {
        match &self.what {
            What::Own(number) => Some(*number),
            What::Delivery(publication, _) => u64::try_from(publication.id.as_u128()).ok(),
            What::Gap(..) => None,
        }
    }

    fn verdict(&self) -> SlowConsumer {
        let publication = self.expendable();
        publication.map_or(SlowConsumer::Close, |one| one.options.slow_consumer)
    }

    fn subject(&self) -> Option<(Channel, Box<str>)> {
        let publication = self.expendable().filter(|_| self.verdict() == SlowConsumer::Latest)?;
        let Content::Message { event, .. } = &publication.content else { return None };
        Some((publication.channel.clone(), event.clone()))
    }
}

/// Names say what becomes of slow consumers.
fn delivery(number: u64, channel: &str, event: &str, length: usize) -> Item {
    let verdict = match &channel[..1] {
        "o" => SlowConsumer::DropOldest,
        "l" => SlowConsumer::Latest,
        _ => SlowConsumer::Close,
    };
    let content =
        Content::Message { event: event.into(), payload: "1".into(), sender: Sender::System };
    let options = ChannelOptions { slow_consumer: verdict, ..ChannelOptions::default() };
    let id = MessageId::from_u128(number.into());
    let publication = Publication::new(id, Channel::from(channel), 0, content).under(options);
    let what = What::Delivery(Arc::new(publication), verdict != SlowConsumer::Close);
    Item { length, what }
}

fn own(number: u64, length: usize) -> Item {
    Item { length, what: What::Own(number) }
}

/// An outbox, and an account of what came and went.
#[derive(Default)]
struct Consumer {
    outbox: Outbox<Item>,
    spares: Spares<Item>,
    /// Publications that were put in, that were taken, and that a notice told of, by channel.
    pushed: HashMap<Channel, u64>,
    taken: HashMap<Channel, u64>,
    told: HashMap<Channel, u64>,
    lost: Lost,
    /// The first that was lost, where a notice of it waits.
    first_lost: HashMap<Channel, u64>,
    is_closed: bool,
}

impl Consumer {
    fn waiting(&self) -> Vec<Item> {
        let rest = self.outbox.rest.iter().flat_map(|rest| &rest.frames);
        self.outbox.first.iter().chain(rest).cloned().collect()
    }

    fn push(&mut self, item: Item) {
        if let What::Delivery(publication, _) = &item.what {
            *self.pushed.entry(publication.channel.clone()).or_default() += 1;
        }
        let Err(Full(item)) = self.outbox.push(item, &mut self.spares) else { return };
        let before = self.waiting();
        let Some(lost) = self.outbox.make_room(&item) else {
            assert_eq!(format!("{before:?}"), format!("{:?}", self.waiting()), "unchanged");
            self.is_closed = true;
            return;
        };
        self.check_loss(&before, lost, Some(&item));
        let pushed = self.outbox.push(item, &mut self.spares);
        pushed.expect("there is room for a frame that is no longer than that");
    }

    fn conflate(&mut self) {
        let before = self.waiting();
        let lost = self.outbox.conflate();
        assert_eq!(lost.oldest, 0);
        self.check_loss(&before, lost, None);
    }

    /// The kernel takes so many bytes.
    fn take(&mut self, bytes: usize) {
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
        // A notice of which a part is out is told, whatever follows.
        if self.outbox.is_partly_sent()
            && (gone.frames > 0 || !was_on_its_way)
            && let Some((channel, _)) = self.waiting()[0].gap()
        {
            self.first_lost.remove(channel);
        }
    }

    /// What was taken out, by what waited before.
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
        let gone_by = |verdict| gone.iter().filter(|item| item.verdict() == verdict).count() as u64;
        assert_eq!(gone_by(SlowConsumer::DropOldest), lost.oldest);
        assert_eq!(gone_by(SlowConsumer::Latest), lost.conflated);
        assert_eq!(gone_by(SlowConsumer::Close), 0, "it must not go");
        self.lost.add(lost);

        // Of what may go the oldest go first, and only the latest of a subject stays.
        let oldest_left =
            after[fixed..].iter().find(|one| one.verdict() == SlowConsumer::DropOldest);
        for item in &gone {
            if item.verdict() == SlowConsumer::DropOldest {
                assert!(oldest_left.is_none_or(|left| item.number() < left.number()));
            }
        }
        let subjects = || after[fixed..].iter().chain(incoming).filter_map(Item::subject);
        for subject in subjects() {
            assert_eq!(subjects().filter(|other| *other == subject).count(), 1, "{subject:?}");
        }
        for item in gone.iter().filter(|item| item.verdict() == SlowConsumer::Latest) {
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

    /// A notice stands where the first of the lost stood, and there is one for a channel.
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

    /// What must hold whenever nothing is under way.
    fn check(&self) {
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

/// Notices by channel; there is one for each.
fn told(waiting: &[Item]) -> HashMap<Channel, u64> {
    let mut told = HashMap::new();
    for (channel, count) in waiting.iter().filter_map(Item::gap) {
        assert_eq!(told.insert(channel.clone(), count), None, "told once: {channel:?}");
    }
    told
}

#[derive(Clone, Debug)]
enum Step {
    Own(usize),
    Publish(&'static str, &'static str, usize),
    Take(usize),
    Conflate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = || prop_oneof![1..2_000_usize, 200_000..1_000_000_usize];
    let channel = prop::sample::select(vec!["o1", "o2", "l1", "l2", "c"]);
    let event = prop::sample::select(vec!["a", "b", "c"]);
    let take = prop_oneof![1..3_000_usize, 1..5_000_000_usize];
    let step = prop_oneof![
        1 => length().prop_map(Step::Own),
        12 => (channel, event, length()).prop_map(|(c, e, l)| Step::Publish(c, e, l)),
        1 => take.prop_map(Step::Take),
        1 => Just(Step::Conflate),
    ];
    prop::collection::vec(step, 1..250)
}

/// What many channels lose is told by as many notices, and they take room as well.
#[test]
fn room_for_a_frame_is_not_taken_by_the_notices_of_what_made_it() {
    const CHANNELS: u64 = 400;
    let (mut outbox, mut spares) = (Outbox::default(), Spares::default());
    let mut push = |item| assert!(outbox.push(item, &mut spares).is_ok());
    for round in 0..2 {
        for channel in 0..CHANNELS {
            push(delivery(round * CHANNELS + channel, &format!("l{channel}"), "e", 1));
        }
    }
    let least = OUTBOX_BYTES_MAX / OUTBOX_ROOM_MIN;
    let mut left = OUTBOX_BYTES_MAX - least - CHANNELS as usize;
    while left > 0 {
        let length = left.min(BYTES.len());
        push(own(0, length));
        left -= length;
    }
    let before = outbox.len();
    // The least that must be free is free once the older half is gone; with its notices it is not.
    assert_eq!(outbox.make_room(&own(1, BYTES.len())), None);
    assert_eq!(outbox.len(), before);
    let lost = outbox.make_room(&own(1, 1)).expect("a short one has room besides");
    assert_eq!((lost.conflated, lost.notices), (CHANNELS, CHANNELS));
    assert!(outbox.push(own(1, 1), &mut spares).is_ok());
}

proptest! {
    #[test]
    fn whatever_is_lost_is_told_of_and_the_rest_keeps_its_order(steps in steps()) {
        let mut consumer = Consumer::default();
        for (number, step) in (1..).zip(steps) {
            match step {
                Step::Own(length) => consumer.push(own(number, length)),
                Step::Publish(channel, event, length) => {
                    consumer.push(delivery(number, channel, event, length));
                }
                Step::Take(bytes) => consumer.take(bytes),
                Step::Conflate => consumer.conflate(),
            }
            consumer.check();
            if consumer.is_closed {
                break;
            }
        }
    }
}

#[test]
fn half_is_free_after_the_oldest_went() {
    let mut consumer = Consumer::default();
    for number in 0..=OUTBOX_FRAMES_MAX as u64 {
        consumer.push(delivery(number, "o", "e", 100));
    }
    let half = OUTBOX_FRAMES_MAX as u64 / 2;
    assert_eq!(consumer.lost, Lost { oldest: half, conflated: 0, notices: 1 });
    let waiting = consumer.waiting();
    assert_eq!(waiting[0].gap(), Some((&Channel::from("o"), half)));
    assert_eq!(waiting[1].number(), Some(half));
    assert_eq!(waiting.last().and_then(Item::number), Some(2 * half));
    consumer.check();
}

#[test]
fn what_comes_makes_the_same_outdated() {
    let mut consumer = Consumer::default();
    for number in 0..16 {
        let event = if number == 0 { "first" } else { "e" };
        consumer.push(delivery(number, "l", event, 1_000_000));
    }
    consumer.push(delivery(16, "l", "first", 1_000_000));
    let waiting = consumer.waiting();
    assert_eq!(waiting[0].gap(), Some((&Channel::from("l"), 15)));
    let numbers: Vec<_> = waiting.iter().filter_map(Item::number).collect();
    assert_eq!(numbers, [15, 16]);
    assert_eq!(consumer.lost, Lost { oldest: 0, conflated: 15, notices: 1 });
}

#[test]
fn an_outbox_full_of_what_must_stay_is_full() {
    let mut consumer = Consumer::default();
    let least = OUTBOX_FRAMES_MAX / OUTBOX_ROOM_MIN;
    for number in 0..OUTBOX_FRAMES_MAX as u64 {
        let channel = if number < least as u64 { "o" } else { "c" };
        consumer.push(delivery(number, channel, "e", 100));
    }
    consumer.push(own(1_000_000, 100));
    assert!(!consumer.is_closed, "a sixteenth may go");
    consumer.check();
    // The notice and the answer have taken two of the places.
    for number in 0..least as u64 - 2 {
        consumer.push(own(2_000_000 + number, 100));
    }
    assert!(!consumer.is_closed);
    consumer.push(delivery(3_000_000, "o", "e", 100));
    assert!(consumer.is_closed);
}

#[test]
fn a_frame_that_is_on_its_way_stays() {
    let mut consumer = Consumer::default();
    consumer.push(delivery(0, "l", "e", 1_000));
    consumer.take(1);
    consumer.push(delivery(1, "l", "e", 1_000));
    consumer.push(delivery(2, "l", "e", 1_000));
    consumer.conflate();
    assert_eq!(consumer.lost, Lost { oldest: 0, conflated: 1, notices: 1 });
    assert_eq!(consumer.waiting()[0].number(), Some(0));
    consumer.check();
    // The notice is on its way too now: the next loss is told of by one more.
    consumer.take(1_000);
    consumer.push(delivery(3, "l", "e", 1_000));
    consumer.push(delivery(4, "l", "e", 1_000));
    consumer.conflate();
    assert_eq!(consumer.lost, Lost { oldest: 0, conflated: 3, notices: 2 });
    let gaps: Vec<_> = consumer.waiting().iter().filter_map(|one| Some(one.gap()?.1)).collect();
    assert_eq!(gaps, [1, 2]);
    consumer.check();
}

#[test]
fn a_blocked_consumer_of_the_latest_holds_few_at_little_cost() {
    const PUBLICATIONS: u64 = 100_000;
    let mut consumer = Consumer::default();
    let events: Vec<String> = (0..50).map(|number| format!("e{number}")).collect();
    let mut looked = 0;
    for number in 0..PUBLICATIONS {
        let item = delivery(number, "l", &events[number as usize % events.len()], 100);
        consumer.outbox.push(item, &mut consumer.spares).expect("far below the bounds");
        if consumer.outbox.is_crowded() {
            looked += consumer.outbox.len();
            consumer.lost.add(consumer.outbox.conflate());
        }
        assert!(consumer.outbox.len() <= 2 * (events.len() + 1) + 1, "{}", consumer.outbox.len());
    }
    assert!(looked as u64 <= 3 * PUBLICATIONS, "{looked} frames were looked at");
    assert_eq!(consumer.lost.notices, 1);
    let gap = consumer.waiting()[0].gap().map(|gap| gap.1);
    assert_eq!(gap, Some(consumer.lost.conflated));
    assert_eq!(consumer.outbox.len() as u64 - 1 + consumer.lost.conflated, PUBLICATIONS);
}

#[test]
fn who_reads_again_is_crowded_early_again() {
    let mut consumer = Consumer::default();
    for number in 0..1_000 {
        consumer.push(delivery(number, "l", &number.to_string(), 100));
    }
    consumer.conflate();
    assert!(!consumer.outbox.is_crowded());
    consumer.take(100 * 990);
    for number in 1_000..1_055 {
        assert!(!consumer.outbox.is_crowded());
        consumer.push(delivery(number, "l", "same", 100));
    }
    assert!(consumer.outbox.is_crowded());
}
