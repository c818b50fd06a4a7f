//! One run of the node. A restart loses the mail in its mailboxes.

use std::cell::OnceCell;
use std::sync::{Arc, OnceLock};

use fanfare::broker::directory::{Directory, Join, Subscriber};
use fanfare::config::M2;
use fanfare::interface::m2::nouns::{ResourceKind, channel_of};
use fanfare::limits::{RETAINED_BYTES_MAX, RETAINED_OVERHEAD_BYTES};
use fanfare::mailbox::{Capacity, WorkerMailboxes};
use fanfare::message::{
    ConnId, Content, Encoding, FrameBytes, MessageId, Publication, ReplayWish, Transport, WorkerId,
};

use super::Terms;
use crate::node::Node;

/// Bytes that the ballast leaves free in the directory's budget for documents.
const BALLAST_ROOM: usize = 400_000;
const BALLAST: usize = 128;
const BALLAST_BYTES: usize = (RETAINED_BYTES_MAX - BALLAST_ROOM) / BALLAST;
/// The limit of a connection's subscriptions, which is more than there are resources.
const SUBSCRIPTIONS: usize = 1_000;

pub(super) struct Start {
    pub(super) node: Node,
    terms: Terms,
    next: OnceCell<Box<Self>>,
}

impl Start {
    pub(super) fn new(terms: Terms) -> Self {
        let node = Node::new(terms.slots, |config| {
            config.m2.require_project = false;
            config.m2.notify_deletes = terms.notify_deletes;
            config.m2.subscriptions = SUBSCRIPTIONS;
        });
        if terms.has_ballast {
            add_ballast(&node.hub.interfaces.broker.directory);
        }
        Self { node, terms, next: OnceCell::new() }
    }

    /// Returns the next run of the node.
    pub(super) fn next(&self) -> &Self {
        self.next.get_or_init(|| Box::new(Self::new(self.terms)))
    }

    /// Checks that nothing is left in the node after the last subscription has ended.
    pub(super) fn check_empty(&self) {
        let ballast = if self.terms.has_ballast { BALLAST } else { 0 };
        let directory = &self.node.hub.interfaces.broker.directory;
        assert_eq!(directory.channels(), ballast, "nobody is left in the directory");
        assert_eq!(directory.kept(), 0, "nothing is left in the directory");
        let retained = directory.budgets().values.bytes();
        assert_eq!(retained, ballast * BALLAST_BYTES, "no document is left there");
        assert!(self.node.is_idle() && self.node.inboxes.loads.is_empty(), "no mail is left");
    }
}

/// Fills the directory with large documents, which a subscriber outside of the model keeps there.
/// Its mail goes to a mailbox that is dropped.
fn add_ballast(directory: &Directory) {
    static FRAME: OnceLock<FrameBytes> = OnceLock::new();
    let frame = FRAME.get_or_init(|| vec![0; BALLAST_BYTES - RETAINED_OVERHEAD_BYTES].into());
    let capacity = Capacity { publications: BALLAST, control: BALLAST };
    let nowhere = WorkerMailboxes::new(1, capacity);
    let (nowhere, _inboxes) = nowhere.expect("the system gives event descriptors");
    let connection = ConnId { worker: WorkerId(0), slot: u32::MAX, generation: 0 };
    let transport = Transport::WebSocket;
    let subscriber =
        Subscriber { connection, encoding: Encoding::Resource, transport, member: None };
    for number in 0..BALLAST {
        let (kind, id) = (ResourceKind::KvStore, number.to_string());
        let channel = channel_of("ballast/p///", kind, &id);
        let join = Join {
            channel: &channel,
            subscriber: &subscriber,
            already: None,
            options: M2::OPTIONS,
            reply: None,
            comes_back: false,
            replay: ReplayWish::default(),
            announcement: MessageId::nil(),
            now: 0,
            clock: 0,
        };
        assert!(directory.join(&nowhere, &join).is_ok(), "there is a place for each");
        let frame = frame.clone();
        let content = Content::Document { audience: None, version: 1, exists: true, frame };
        let publication = Publication::new(MessageId::nil(), channel, 0, content);
        let publication = Arc::new(publication.under(M2::OPTIONS));
        let published = directory.publish(&nowhere, &publication, |_| ());
        assert_eq!(published.expect("there is a place for each").offset, 1);
    }
}
