//! Publications that need a listener, and who counts as one.

use std::cell::RefCell;

use super::*;
use crate::message::Sender;

/// Mailboxes that take everything, and remember how much that was.
#[derive(Default)]
struct Boxes {
    delivered: RefCell<usize>,
    activated: RefCell<Vec<Replay>>,
}

impl Mailboxes for Boxes {
    fn reserve_publication(&self, _: WorkerId) -> bool {
        true
    }
    fn release_publication(&self, _: WorkerId) {}
    fn reserve_control(&self, _: WorkerId) -> bool {
        true
    }
    fn release_control(&self, _: WorkerId) {}
    fn deliver(&self, _: WorkerId, _: Delivery) {
        *self.delivered.borrow_mut() += 1;
    }
    fn activate(&self, activation: Activation) {
        self.activated.borrow_mut().push(activation.replay);
    }
    fn deactivate(&self, _: Deactivation) {}
    fn ring(&self, _: WorkerId) {}
}

const OPTIONS: ChannelOptions = ChannelOptions {
    ephemeral: true,
    presence: PresenceMode::Off,
    slow_consumer: crate::message::SlowConsumer::Close,
    replay_seconds: 60,
    rate_limit: 0,
};

fn topic() -> Channel {
    Channel::topic("t")
}

fn subscriber() -> Subscriber {
    let connection = ConnId { worker: WorkerId(0), slot: 0, generation: 0 };
    Subscriber { connection, group: Group::Forge, transport: Transport::WebSocket, member: None }
}

fn join(directory: &Directory, boxes: &Boxes, clock: Millis) {
    let join = Join {
        channel: &topic(),
        subscriber: &subscriber(),
        already: None,
        options: OPTIONS,
        reply: None,
        comes_back: false,
        replay: ReplayWish { seconds: 60, after: None },
        announcement: MessageId::nil(),
        now: 0,
        clock,
    };
    directory.join(boxes, &join).expect("there is room");
}

fn leave(directory: &Directory, boxes: &Boxes, lingers_until: Millis) {
    let leave = Leave {
        channel: &topic(),
        subscriber: &subscriber(),
        lives_on: false,
        presence: Some(PresenceMode::Off),
        lingers_until,
        reply: None,
        announcement: MessageId::nil(),
        now: 0,
    };
    directory.leave(boxes, &leave).expect("there is room");
}

/// Whether anybody listened to an event at that time.
fn is_heard(directory: &Directory, boxes: &Boxes, now: Millis) -> bool {
    let content = Content::Event { payload: "\"x\"".into() };
    let event = Publication::new(MessageId::from_u128(now.into()), topic(), now, content);
    let event = Arc::new(event.accepted(now * 1_000_000).under(OPTIONS));
    directory.publish(boxes, &event, |_| ()).expect("there is room").offset > 0
}

#[test]
fn an_event_that_nobody_listens_to_is_nowhere() {
    let (directory, boxes) = (Directory::default(), Boxes::default());
    assert!(!is_heard(&directory, &boxes, 1_000));
    assert_eq!((directory.channels(), directory.kept(), directory.budget().bytes()), (0, 0, 0));
    join(&directory, &boxes, 1_000);
    assert!(boxes.activated.borrow()[0].publications.is_empty());
    assert!(is_heard(&directory, &boxes, 2_000));
    leave(&directory, &boxes, 0);
    assert!(!is_heard(&directory, &boxes, 3_000), "what the topic keeps is no listener");
    join(&directory, &boxes, 4_000);
    let replay = &boxes.activated.borrow()[1];
    assert_eq!((replay.publications.len(), replay.last), (1, Some(MessageId::from_u128(2_000))));
    assert_eq!(*boxes.delivered.borrow(), 1);
}

#[test]
fn who_was_cut_off_counts_until_its_time_is_over() {
    let (directory, boxes) = (Directory::default(), Boxes::default());
    join(&directory, &boxes, 0);
    leave(&directory, &boxes, 5_000);
    (0..SWEEP_STEPS).for_each(|step| directory.sweep(step, 4_000));
    assert!(is_heard(&directory, &boxes, 4_999));
    assert_eq!(*boxes.delivered.borrow(), 0, "there is nobody to give it to");
    assert!(!is_heard(&directory, &boxes, 5_000));
    join(&directory, &boxes, 6_000);
    assert_eq!(boxes.activated.borrow()[1].publications.len(), 1);
    leave(&directory, &boxes, 0);
    (0..SWEEP_STEPS).for_each(|step| directory.sweep(step, 70_000));
    assert_eq!((directory.channels(), directory.kept(), directory.budget().bytes()), (0, 0, 0));
}

#[test]
fn the_end_of_a_short_wait_does_not_cut_a_longer_one() {
    let (directory, boxes) = (Directory::default(), Boxes::default());
    join(&directory, &boxes, 0);
    join(&directory, &boxes, 0);
    leave(&directory, &boxes, 9_000);
    leave(&directory, &boxes, 0);
    assert!(is_heard(&directory, &boxes, 8_000));
}

#[test]
fn two_interfaces_may_call_a_channel_the_same() {
    let (directory, boxes) = (Directory::default(), Boxes::default());
    join(&directory, &boxes, 0);
    let (event, payload) = ("e".into(), "1".into());
    let content = Content::Message { event, payload, sender: Sender::System };
    let message = Publication::new(MessageId::nil(), Channel::from("t"), 0, content);
    let published = directory.publish(&boxes, &Arc::new(message), |_| ()).expect("there is room");
    assert_eq!((published.audience.total(), *boxes.delivered.borrow()), (0, 0));
}

#[test]
fn a_rate_holds_where_nobody_is_subscribed() {
    let directory = Directory::default();
    let installation = Channel::installation("inst-1");
    let granted = |now| (0..10).filter(|_| directory.admit(&installation, 5, now)).count();
    assert_eq!((granted(1_000), granted(1_000), granted(1_400)), (5, 0, 2));
    assert!(directory.admit(&Channel::installation("inst-2"), 5, 1_400));
    (0..SWEEP_STEPS).for_each(|step| directory.sweep(step, 2_000));
    assert_eq!(directory.kept(), 2, "their buckets are not full again");
    (0..SWEEP_STEPS).for_each(|step| directory.sweep(step, 3_000));
    assert_eq!(directory.kept(), 0);
}

#[test]
fn who_comes_back_is_waited_for_no_longer() {
    let (directory, boxes) = (Directory::default(), Boxes::default());
    join(&directory, &boxes, 0);
    leave(&directory, &boxes, 9_000);
    join(&directory, &boxes, 1_000);
    leave(&directory, &boxes, 0);
    assert!(!is_heard(&directory, &boxes, 2_000));
}

#[test]
fn timestamps_do_not_run_back_within_a_topic() {
    let (directory, boxes) = (Directory::default(), Boxes::default());
    join(&directory, &boxes, 0);
    let publish = |at| {
        let content = Content::Event { payload: "\"x\"".into() };
        let event = Publication::new(MessageId::nil(), topic(), at, content).under(OPTIONS);
        directory.publish(&boxes, &Arc::new(event), |_| ()).map(|published| published.offset)
    };
    assert_eq!((publish(5), publish(5), publish(7)), (Ok(1), Ok(2), Ok(3)));
    assert_eq!((publish(6), publish(8)), (Err(Unplaced::Late), Ok(4)));
    assert_eq!(*boxes.delivered.borrow(), 4);
}
