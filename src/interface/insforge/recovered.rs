//! What clients that resume a session have in common, whichever node had the session.

use std::collections::HashMap;
use std::sync::Arc;

use super::client::Client;
use super::recovery::encode_id;
use super::{socketio, wire as insforge};
use crate::broker::subscriptions::Joining;
use crate::interface::context::Context;
use crate::limits::{RECOVERY_BYTES_MAX, RECOVERY_PUBLICATIONS_MAX};
use crate::message::{Channel, Encoding, PresenceMode, Publication, ReplayWish};

/// An estimate of the bytes of a publication's frame besides its content. It is an upper bound if
/// the channel's name has an ordinary length.
const ENVELOPE_BYTES: usize = 512;

/// Counts the client in a channel again. Returns false if the broker refuses the join, or if no
/// definition governs the channel any more.
pub(super) fn join_again(
    client: &Client,
    ctx: &mut Context<'_>,
    (channel, encoding): (&Channel, Encoding),
    replay: ReplayWish,
) -> bool {
    let definition = ctx.shared.broker.definitions.load().find(channel.as_str()).cloned();
    let Some(definition) = definition else { return false };
    let joining = Joining {
        options: definition.options,
        reply: None,
        replay,
        replays_again: false,
        comes_back: true,
    };
    let subscriber = client.subscriber(ctx.id, encoding, ctx.transport());
    subscriber.is_none_or(|subscriber| ctx.join(subscriber, channel, &joining).is_ok())
}

/// Answers the CONNECT of a client that is recovered, sends what it has missed, and activates its
/// subscriptions.
pub(super) fn welcome_back(
    client: &mut Client,
    ctx: &mut Context<'_>,
    missed: &[Arc<Publication>],
) {
    let (Some(detached), Some(state)) = (&ctx.local.detached, ctx.link.resume()) else { return };
    let private_id = encode_id(&detached.private_id(state, ctx.local.worker));
    let channels = ctx.channels();
    let encodings: HashMap<&Channel, Encoding> =
        channels.iter().map(|(channel, encoding)| (channel, *encoding)).collect();
    client.has_entered = true;
    ctx.send_text(&socketio::connected_for_good(&client.socket_id(), &private_id));
    for publication in missed {
        if let Some(encoding) = encodings.get(&publication.channel) {
            ctx.deliver(publication, *encoding);
        }
    }
    for (channel, encoding) in &channels {
        ctx.local.index.activate(ctx.link.subscriptions, channel, *encoding);
        sync_presence(ctx, channel);
    }
    ctx.local.counters.recovered.add(1);
    ctx.local.counters.recovered_publications.add(missed.len() as u64);
}

/// Returns whether publications of these sizes stay within [`RECOVERY_PUBLICATIONS_MAX`] and
/// [`RECOVERY_BYTES_MAX`], which leave room in the outbox for live publications.
pub(super) fn fits(sizes: impl ExactSizeIterator<Item = usize>) -> bool {
    sizes.len() <= RECOVERY_PUBLICATIONS_MAX && sizes.sum::<usize>() <= RECOVERY_BYTES_MAX
}

/// Returns the bytes of a publication's frame, roughly.
pub(super) fn bytes(publication: &Arc<Publication>) -> usize {
    publication.content.bytes() + ENVELOPE_BYTES
}

/// Sends the present members of a channel, in place of the joins and leaves that the client missed.
/// Does nothing unless the channel's presence mode is `full`.
fn sync_presence(ctx: &mut Context<'_>, channel: &Channel) {
    let definitions = ctx.shared.broker.definitions.load();
    let definition = definitions.find(channel.as_str());
    if !definition.is_some_and(|one| one.options.presence == PresenceMode::Full) {
        return;
    }
    let Some((presence, present)) = ctx.shared.broker.directory.present(channel) else { return };
    let stamp = (ctx.message_id(), ctx.now.wall);
    ctx.send_text(&insforge::presence_sync(channel, &presence, present, stamp));
}
