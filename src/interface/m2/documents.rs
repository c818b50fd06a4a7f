//! Sends documents from the store to subscribers. The thread that writes documents calls these
//! functions between two commits.

use std::sync::Arc;

use super::wire;
use crate::codec::websocket::{Opcode, frame};
use crate::config::M2;
use crate::interface::shared::Shared;
use crate::mailbox::{Loaded, Mail, Reservation, WorkerMailboxes};
use crate::message::{
    ChannelOptions, ChannelOrder, Content, Document, Found, Load, MessageId, Now, PresenceMode,
    Publication, Retain, Retained, SlowConsumer,
};

impl M2 {
    /// The options of all resources.
    pub const OPTIONS: ChannelOptions = ChannelOptions {
        ephemeral: true,
        presence: PresenceMode::Off,
        slow_consumer: SlowConsumer::Latest,
        retain: Retain::Last,
        rate_limit: 0,
        order: ChannelOrder::Local,
    };
    /// The options of all resources in a cluster. A retained document may be older than one that
    /// another node has written, so that none is retained.
    const SHARED: ChannelOptions = ChannelOptions { retain: Retain::None, ..Self::OPTIONS };
}

/// Fans out a committed document, or a deletion. `places` has a place for it at every worker. If
/// subscribers are not notified of deletions, the directory forgets a deleted shared document.
pub fn publish_document(
    shared: &Shared,
    document: Document,
    mut places: Reservation<'_, WorkerMailboxes>,
    now: Now,
) {
    let (is_deleted, is_shared) = (document.data.is_none(), document.key.audience.is_none());
    let publication = publication(shared, document, now);
    if is_deleted && !shared.m2.notify_deletes {
        if is_shared {
            shared.broker.directory.forget(&publication.channel);
        }
        return;
    }
    // Cannot be refused: all places are reserved, and documents need no order of timestamps.
    let _ = shared.broker.directory.publish_reserved(&mut places, &publication);
}

/// Sends the stored documents to the subscriber's worker; `stored` is `None` if the read failed.
/// Without a cluster, the directory retains the shared document, so that the store is not asked for
/// it again while the resource has subscribers.
pub fn answer_load(shared: &Shared, load: Load, stored: Option<Found<Document>>, now: Now) {
    let is_shared = shared.membership.is_some();
    let found = stored.map(|stored| stored.map(|document| publication(shared, document, now)));
    if let Some(Found { shared: common, .. }) = found.as_ref().filter(|_| load.shared && !is_shared)
    {
        let common = common.as_ref().filter(|one| one.content.exists());
        let retained = common.map_or(Retained::Absent, |one| Retained::Value(one.clone()));
        shared.broker.directory.learn(&load.resource, retained);
    }
    let mailbox = shared.broker.mailboxes.workers.of(load.connection.worker);
    mailbox.answer(Mail::Loaded(Box::new(Loaded { load, found })));
}

/// Returns the publication of a document, with its frame.
fn publication(shared: &Shared, document: Document, now: Now) -> Arc<Publication> {
    let text = wire::document(&document);
    let Document { key, data, version, .. } = document;
    let frame = frame(Opcode::Text, &[text.as_bytes()]).into();
    let (audience, exists) = (key.audience, data.is_some());
    let options = if shared.membership.is_some() { M2::SHARED } else { M2::OPTIONS };
    let content = Content::Document { audience, version, exists, frame };
    // Resource and version identify a document, so its id is never used.
    let publication = Publication::new(MessageId::nil(), key.resource, now.wall, content);
    Arc::new(publication.accepted(now.nanos).under(options))
}
