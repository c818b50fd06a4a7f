//! Puts publications into the outboxes of a worker's subscribers, and handles the mail that begins
//! and ends subscriptions and the mail that brings documents from the store.

use std::sync::Arc;

use super::connection::{Connection, Connections, State};
use crate::broker::index::Listener;
use crate::interface::Shared;
use crate::interface::context::{Context, Local};
use crate::interface::encode;
use crate::interface::frame::Frame;
use crate::mailbox::Loaded;
use crate::message::{
    Activation, Channel, Content, Deactivation, Encoding, Millis, Now, Publication,
};

/// Puts a publication into the outboxes of this worker's subscribers of its channel. Returns the
/// size of the largest frame, in bytes.
pub(super) fn deliver(
    connections: &mut Connections,
    local: &mut Local,
    publication: &Arc<Publication>,
    now: Millis,
) -> usize {
    if let Content::Document { audience: Some(user), .. } = &publication.content {
        return deliver_to_user(connections, local, publication, user);
    }
    let recoverable = local.detached.as_mut().filter(|_| publication.is_recoverable);
    let mark = recoverable.map(|one| (one.log.heard(publication.clone(), now), publication.mark()));
    let except = publication.except().filter(|id| *id == connections.id(id.slot));
    let except = except.map(|id| id.slot);
    let (mut shares, mut bytes) = (Shares::default(), 0);
    let Local { index, outboxes, deflating, counters, .. } = local;
    for (encoding, listeners) in index.audience(&publication.channel) {
        if listeners.is_empty() {
            continue;
        }
        let frame = Frame::of(publication, encoding);
        bytes = bytes.max(frame.as_ref().len());
        let mut deflated = None;
        // A stream of several channels gets frames of its own, which say how far it has come.
        let is_stream = encoding == Encoding::EventStream
            && matches!(publication.content, Content::Message { .. });
        for &Listener { connection: slot, .. } in listeners {
            if Some(slot) == except {
                continue;
            }
            let Some(connection) = connections.get_mut(slot) else { continue };
            let link = &mut connection.link;
            let frame = if link.deflates() {
                let deflate = || frame.deflated(publication, encoding, (deflating, counters));
                deflated.get_or_insert_with(deflate).clone()
            } else if let Some(cursor) = is_stream.then(|| link.cursor_mut()).flatten() {
                cursor.passed(&publication.channel, publication.id);
                Frame::placed(publication, cursor)
            } else {
                frame.clone()
            };
            shares.count(outboxes.push(slot, link, frame));
            if let Some(mark) = mark {
                link.mark_sent(mark);
            }
        }
    }
    if publication.content.is_published() {
        shares.add_to(local);
        note_published(connections, local, publication);
    } else {
        local.counters.announcements.add(shares.taken);
    }
    bytes
}

/// Puts a document that only one user may receive into the outboxes of that user's subscribed
/// connections. Returns the size of its frame, in bytes.
fn deliver_to_user(
    connections: &mut Connections,
    local: &mut Local,
    publication: &Arc<Publication>,
    user: &str,
) -> usize {
    let frame = Frame::of(publication, Encoding::Resource);
    let mut shares = Shares::default();
    let Local { index, outboxes, deflating, counters, .. } = local;
    for &slot in index.of_user(user) {
        let Some(Connection { link, .. }) = connections.get_mut(slot) else { continue };
        if !index.hears(link.subscriptions, &publication.channel) {
            continue;
        }
        let frame = if link.deflates() {
            frame.deflated(publication, Encoding::Resource, (deflating, counters))
        } else {
            frame.clone()
        };
        shares.count(outboxes.push(slot, link, frame));
    }
    shares.add_to(local);
    note_published(connections, local, publication);
    frame.as_ref().len()
}

fn note_published(connections: &mut Connections, local: &mut Local, publication: &Publication) {
    local.loads.note_published(publication, |id| {
        connections.by_id(id).is_some_and(|connection| connection.link.is_stale_in(publication))
    });
}

/// How many outboxes took a publication.
#[derive(Default)]
struct Shares {
    taken: u64,
    dropped: u64,
}

impl Shares {
    fn count(&mut self, was_taken: bool) {
        self.taken += u64::from(was_taken);
        self.dropped += u64::from(!was_taken);
    }

    fn add_to(&self, local: &Local) {
        local.counters.matched.add(self.taken + self.dropped);
        local.counters.dropped_slow_consumer.add(self.dropped);
    }
}

/// Tells this worker's subscribers of a channel that the node may have lost publications of it.
pub(super) fn tell_gap(
    connections: &mut Connections,
    local: &mut Local,
    channel: Channel,
    now: Millis,
) {
    let Local { index, outboxes, counters, .. } = local;
    for (encoding, listeners) in index.audience(&channel) {
        if listeners.is_empty() || encoding == Encoding::Resource {
            continue;
        }
        let frame = Frame::own(encode::gap(&channel, None, encoding));
        for &Listener { connection: slot, .. } in listeners {
            let Some(connection) = connections.get_mut(slot) else { continue };
            if outboxes.push(slot, &mut connection.link, frame.clone()) {
                counters.gaps.add(1);
            }
        }
    }
    if let Some(detached) = &mut local.detached {
        detached.log.lost(channel, now);
    }
}

/// Begins a subscription: the connection receives what is published from now on. Returns the number
/// of bytes that were sent to its client.
pub(super) fn activate(
    connections: &mut Connections,
    (local, shared, now): (&mut Local, &Shared, Now),
    activation: Activation,
) -> usize {
    let id = activation.connection;
    let Some(Connection { link, state: State::Open(session), .. }) = connections.by_id(id) else {
        return 0;
    };
    // A resuming client's subscriptions begin later, once it was sent what it missed.
    if activation.comes_back {
        session.on_joined_again(&mut Context { id, now, link, local, shared }, activation);
        return 0;
    }
    if let (Some(detached), Some(state), false) =
        (&mut local.detached, link.resume(), activation.is_again)
    {
        detached.log.began(state.key, activation.channel.clone(), now.monotonic());
    }
    local.index.activate(link.subscriptions, &activation.channel, activation.encoding);
    session.on_joined(&mut Context { id, now, link, local, shared }, activation)
}

/// Ends a subscription: the connection has received what was published up to now.
pub(super) fn deactivate(
    connections: &mut Connections,
    (local, shared, now): (&mut Local, &Shared, Now),
    deactivation: &Deactivation,
) {
    let Deactivation { connection: id, channel, reply } = deactivation;
    let Some(Connection { link, state, .. }) = connections.by_id(*id) else { return };
    local.index.deactivate(&mut link.subscriptions, channel);
    let State::Open(session) = state else { return };
    if let (Some(detached), Some(state)) = (&mut local.detached, link.resume()) {
        detached.log.ended(state.key, channel.clone(), now.monotonic());
    }
    session.on_left(&mut Context { id: *id, now, link, local, shared }, channel, *reply);
}

/// Hands a read's result to the session that waits for it, and starts the next pending load.
/// Returns the number of bytes that were sent to the client.
pub(super) fn load(
    connections: &mut Connections,
    (local, shared, now): (&mut Local, &Shared, Now),
    Loaded { load, found }: Loaded,
) -> usize {
    let waiter = local.loads.answered(&load);
    let (id, is_known) = (load.connection, found.is_some());
    let mut bytes = 0;
    if let Some(Connection { link, state, .. }) = connections.by_id(id) {
        if let (State::Open(session), Some(waiter)) = (state, waiter) {
            let ctx = &mut Context { id, now, link, local, shared };
            bytes = session.on_loaded(ctx, (&load, &waiter), found);
        }
        if is_known && link.outbox.is_empty() && link.is_stale() {
            // The outbox is empty, so that no drain of it will report the stale documents.
            local.outboxes.stale.push(id);
        }
    }
    local.loads.ask(shared, local.worker);
    bytes
}
