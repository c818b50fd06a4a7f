//! Publications that need a listener, and which clients count as one.

use std::cell::{Cell, Ref, RefCell};

use super::*;
use crate::mailbox::{Capacity, Inbox, Mail};
use crate::message::{
    ChannelOptions, ConnId, Content, Encoding, MessageId, Replay, ReplayWish, Sender, Transport,
    WorkerId,
};

/// A worker's mailbox, and what was taken out of it.
struct Boxes {
    mailboxes: WorkerMailboxes,
    inbox: Inbox<Mail>,
    delivered: Cell<usize>,
    activated: RefCell<Vec<Replay>>,
}

impl Boxes {
    fn new() -> Self {
        let capacity = Capacity { publications: 8, control: 8 };
        let (mailboxes, mut inboxes) = WorkerMailboxes::new(1, capacity).unwrap();
        let inbox = inboxes.remove(0);
        Self { mailboxes, inbox, delivered: Cell::default(), activated: RefCell::default() }
    }

    fn take(&self) {
        while let Some(mail) = self.inbox.take(Mail::slot) {
            match mail {
                Mail::Deliver(_) => self.delivered.set(self.delivered.get() + 1),
                Mail::Activate(activation) => self.activated.borrow_mut().push(activation.replay),
                other => panic!("nobody asked for this: {other:?}"),
            }
        }
    }

    /// Returns how many publications were delivered so far.
    fn delivered(&self) -> usize {
        self.take();
        self.delivered.get()
    }

    /// Returns the replay of each join so far, in order.
    fn replays(&self) -> Ref<'_, Vec<Replay>> {
        self.take();
        self.activated.borrow()
    }
}

const OPTIONS: ChannelOptions = ChannelOptions {
    ephemeral: true,
    presence: PresenceMode::Off,
    slow_consumer: crate::message::SlowConsumer::Close,
    retain: Retain::Window { seconds: 60 },
    rate_limit: 0,
    order: crate::message::ChannelOrder::Cluster,
};

fn topic() -> Channel {
    Channel::topic("t")
}

fn subscriber() -> Subscriber {
    let connection = ConnId { worker: WorkerId(0), slot: 0, generation: 0 };
    Subscriber {
        connection,
        encoding: Encoding::Topic,
        transport: Transport::WebSocket,
        member: None,
    }
}

fn join(directory: &Directory, boxes: &Boxes, clock: Millis) {
    let join = Join {
        channel: &topic(),
        subscriber: &subscriber(),
        already: None,
        options: OPTIONS,
        reply: None,
        comes_back: false,
        replay: ReplayWish { seconds: 60, after: None, behind: None },
        announcement: MessageId::nil(),
        now: 0,
        clock,
    };
    directory.join(&boxes.mailboxes, &join).expect("there is room");
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
    directory.leave(&boxes.mailboxes, &leave).expect("there is room");
}

/// Publishes an event at `now`. Returns whether the topic had a listener.
fn is_heard(directory: &Directory, boxes: &Boxes, now: Millis) -> bool {
    let content = Content::Event { payload: "\"x\"".into() };
    let event = Publication::new(MessageId::from_u128(now.into()), topic(), now, content);
    let event = Arc::new(event.accepted(now * 1_000_000).under(OPTIONS));
    directory.publish(&boxes.mailboxes, &event, |_| ()).expect("there is room").offset > 0
}

#[test]
fn an_event_that_nobody_listens_to_is_nowhere() {
    let (directory, boxes) = (Directory::default(), Boxes::new());
    assert!(!is_heard(&directory, &boxes, 1_000));
    assert_eq!(
        (directory.channels(), directory.kept(), directory.budgets().windows.bytes()),
        (0, 0, 0)
    );
    join(&directory, &boxes, 1_000);
    assert!(boxes.replays()[0].publications.is_empty());
    assert!(is_heard(&directory, &boxes, 2_000));
    leave(&directory, &boxes, 0);
    assert!(!is_heard(&directory, &boxes, 3_000), "what the topic keeps is no listener");
    join(&directory, &boxes, 4_000);
    let replay = &boxes.replays()[1];
    assert_eq!((replay.publications.len(), replay.last), (1, Some(MessageId::from_u128(2_000))));
    assert_eq!(boxes.delivered(), 1);
}

#[test]
fn who_was_cut_off_counts_until_its_time_is_over() {
    let (directory, boxes) = (Directory::default(), Boxes::new());
    join(&directory, &boxes, 0);
    leave(&directory, &boxes, 5_000);
    (0..SWEEP_STEPS).for_each(|step| directory.sweep(step, 4_000));
    assert!(is_heard(&directory, &boxes, 4_999));
    assert_eq!(boxes.delivered(), 0, "there is nobody to give it to");
    assert!(!is_heard(&directory, &boxes, 5_000));
    join(&directory, &boxes, 6_000);
    assert_eq!(boxes.replays()[1].publications.len(), 1);
    leave(&directory, &boxes, 0);
    (0..SWEEP_STEPS).for_each(|step| directory.sweep(step, 70_000));
    assert_eq!(
        (directory.channels(), directory.kept(), directory.budgets().windows.bytes()),
        (0, 0, 0)
    );
}

#[test]
fn the_end_of_a_short_wait_does_not_cut_a_longer_one() {
    let (directory, boxes) = (Directory::default(), Boxes::new());
    join(&directory, &boxes, 0);
    join(&directory, &boxes, 0);
    leave(&directory, &boxes, 9_000);
    leave(&directory, &boxes, 0);
    assert!(is_heard(&directory, &boxes, 8_000));
}

#[test]
fn two_interfaces_may_call_a_channel_the_same() {
    let (directory, boxes) = (Directory::default(), Boxes::new());
    join(&directory, &boxes, 0);
    let (event, payload) = ("e".into(), "1".into());
    let content = Content::Message { event, payload, sender: Sender::System };
    let message = Publication::new(MessageId::nil(), Channel::from("t"), 0, content);
    let published =
        directory.publish(&boxes.mailboxes, &Arc::new(message), |_| ()).expect("there is room");
    assert_eq!((published.audience.total(), boxes.delivered()), (0, 0));
}

#[test]
fn a_rate_holds_where_nobody_is_subscribed() {
    let directory = Directory::default();
    let installation = Channel::topic("installation:inst-1");
    let granted = |now| (0..10).filter(|_| directory.admit(&installation, 5, now)).count();
    assert_eq!((granted(1_000), granted(1_000), granted(1_400)), (5, 0, 2));
    assert!(directory.admit(&Channel::topic("installation:inst-2"), 5, 1_400));
    (0..SWEEP_STEPS).for_each(|step| directory.sweep(step, 2_000));
    assert_eq!(directory.kept(), 2, "their buckets are not full again");
    (0..SWEEP_STEPS).for_each(|step| directory.sweep(step, 3_000));
    assert_eq!(directory.kept(), 0);
}

#[test]
fn who_comes_back_is_waited_for_no_longer() {
    let (directory, boxes) = (Directory::default(), Boxes::new());
    join(&directory, &boxes, 0);
    leave(&directory, &boxes, 9_000);
    join(&directory, &boxes, 1_000);
    leave(&directory, &boxes, 0);
    assert!(!is_heard(&directory, &boxes, 2_000));
}

#[test]
fn timestamps_do_not_run_back_within_a_topic() {
    let (directory, boxes) = (Directory::default(), Boxes::new());
    join(&directory, &boxes, 0);
    let publish = |at| {
        let content = Content::Event { payload: "\"x\"".into() };
        let event = Publication::new(MessageId::nil(), topic(), at, content).under(OPTIONS);
        directory
            .publish(&boxes.mailboxes, &Arc::new(event), |_| ())
            .map(|published| published.offset)
    };
    assert_eq!((publish(5), publish(5), publish(7)), (Ok(1), Ok(2), Ok(3)));
    assert_eq!((publish(6), publish(8)), (Err(Refused::Late), Ok(4)));
    assert_eq!(boxes.delivered(), 4);
}
