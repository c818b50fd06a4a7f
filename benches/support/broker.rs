//! A node's shared state with subscribers but without threads, a worker's index, and mail.

use std::hint::black_box;
use std::sync::Arc;

use fanfare::broker::definitions::Definitions;
use fanfare::broker::directory::{Directory, Join, Subscriber};
use fanfare::broker::index::{Counted, Index, NONE};
use fanfare::broker::memory::Memory;
use fanfare::broker::policies::Policies;
use fanfare::broker::publish::{Broker, message_id};
use fanfare::interface::encode::encode;
use fanfare::mailbox::{Inboxes, Mail, Mailbox, Mailboxes, Slot};
use fanfare::message::{
    Channel, ChannelOptions, ConnId, Delivery, Encoding, MemberId, ReplayWish, Transport, WorkerId,
};

use super::{AT, CHANNEL};

pub(crate) const WORKERS: usize = 2;
/// Places for publications in a mailbox.
pub(crate) const MAILBOX: usize = 4_096;

const OTHER_CHANNELS: u32 = 10_000;

/// Returns a node's shared state with one subscriber of each encoding on each of this many workers.
pub(crate) fn node(workers: usize, directory: Directory) -> (Broker, Inboxes) {
    let (mailboxes, inboxes) =
        Mailboxes::new(WORKERS, 0, MAILBOX, usize::MAX).expect("event descriptors");
    let broker = Broker::new(
        directory,
        Definitions::default(),
        Policies::default(),
        mailboxes,
        Memory::unbounded(),
    );
    for worker in (0u8..).map(WorkerId).take(workers) {
        for (slot, encoding) in (0..).zip(Channel::from(CHANNEL).encodings()) {
            join(&broker, ConnId { worker, slot, generation: 0 }, *encoding);
        }
    }
    empty(&inboxes);
    (broker, inboxes)
}

fn join(broker: &Broker, connection: ConnId, encoding: Encoding) {
    let mut key = [connection.worker.0; 15];
    key[..4].copy_from_slice(&connection.slot.to_be_bytes());
    let member = Some(MemberId::Connection(key));
    let transport = match encoding {
        Encoding::EventStream => Transport::EventStream,
        _ => Transport::WebSocket,
    };
    let subscriber = Subscriber { connection, encoding, transport, member };
    let join = Join {
        channel: &Channel::from(CHANNEL),
        subscriber: &subscriber,
        already: None,
        options: ChannelOptions::default(),
        reply: None,
        comes_back: false,
        replay: ReplayWish::default(),
        announcement: message_id(AT, &mut rand::rng()),
        now: AT,
        clock: 0,
    };
    broker.directory.join(&broker.mailboxes.workers, &join).expect("the mailboxes are empty");
}

/// Takes all mail of the workers.
pub(crate) fn empty(inboxes: &Inboxes) {
    for inbox in &inboxes.workers {
        while inbox.take(Mail::slot).is_some() {}
    }
}

/// Returns mail about a publication whose frame exists.
pub(crate) fn delivery() -> Delivery {
    let publication = Arc::new(super::publication());
    publication.frame(Encoding::Documented, encode);
    Delivery { publication, offset: 1 }
}

/// Reserves a place in a mailbox, posts mail there and rings the bell.
pub(crate) fn post(mailbox: &Mailbox<Mail>, mail: Mail) {
    let place = mailbox.reserve(Slot::Publication);
    place.expect("one piece is under way at a time").send(mail);
}

/// Looks a channel up and walks over its subscribers.
pub(crate) fn walk(index: &Index, channel: &Channel) {
    for &encoding in channel.encodings() {
        for listener in index.listeners(channel, encoding) {
            black_box(listener.connection);
        }
    }
}

/// Returns an index in which the channel has `subscribers` subscribers, spread over the encodings,
/// among ten thousand other channels.
pub(crate) fn index(subscribers: u32) -> Index {
    let mut index = Index::default();
    for connection in 0..OTHER_CHANNELS {
        let other = Channel::from(format!("order:other:{connection}").as_str());
        subscribe(&mut index, connection, &other);
    }
    for connection in 0..subscribers {
        subscribe(&mut index, connection, &Channel::from(CHANNEL));
    }
    index
}

fn subscribe(index: &mut Index, connection: u32, channel: &Channel) {
    // No subscription ends here, so the head of a connection's subscriptions need not be kept.
    let mut first = NONE;
    let encodings = channel.encodings();
    let encoding = encodings[connection as usize % encodings.len()];
    let counted = Counted { encoding, is_present: true };
    index.joined(connection, &mut first, channel, counted);
    index.activate(first, channel, encoding);
}
