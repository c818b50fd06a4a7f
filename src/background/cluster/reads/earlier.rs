//! Reads what the stream has of one channel.

use tokio::time::Instant;

use super::{Source, decode, pause, sequence};
use crate::cluster::landing::Earlier;
use crate::cluster::name::{ChannelHash, Seq, Stream};
use crate::cluster::wire::Body;
use crate::limits::{CLUSTER_EARLIER_MESSAGES_MAX, CLUSTER_READ_BYTES_MAX};
use crate::message::Channel;

/// Reads a channel behind a place and up to its latest message, which the leader of the stream
/// knows: the copy that answers the read may be behind. Returns `None` if the channel has too much,
/// or without an answer in time.
pub(super) async fn read(
    source: &Source,
    channel: &Channel,
    behind: Seq,
    end: Instant,
) -> Option<Earlier> {
    let hash = ChannelHash::of(channel);
    let latest = loop {
        match latest(source, hash, end).await {
            Some(latest) => break latest,
            None => pause(end).await?,
        }
    };
    let (_, oldest) = source.stored(&source.first(end).await?)?;
    let (mut publications, mut count, mut bytes, mut last) = (Vec::new(), 0, 0, behind);
    while last < latest {
        let batch = source.next(hash, last, end).await;
        let before = last;
        for message in batch.iter().flat_map(|batch| &batch.0) {
            last = sequence(message)?;
            (count, bytes) = (count + 1, bytes + message.payload().len());
            let body = decode(message, Some(hash)).map(|message| message.body);
            if let Some(Ok(Body::Publication(published))) = body {
                publications.push((last, published));
            }
        }
        if count > CLUSTER_EARLIER_MESSAGES_MAX || bytes > CLUSTER_READ_BYTES_MAX {
            return None;
        }
        if last == before {
            // The latest message may have expired meanwhile.
            if source.oldest(end).await? > latest {
                break;
            }
            pause(end).await?;
        }
    }
    let is_all = behind == 0;
    let since = oldest.stamp.at;
    // What has expired meanwhile may be missing.
    let behind = behind.max(source.oldest(end).await?.saturating_sub(1));
    Some(Earlier { epoch: 0, behind, is_all, publications, since })
}

/// Asks the leader for the sequence of the channel's latest message; 0 if it has none.
async fn latest(source: &Source, hash: ChannelHash, end: Instant) -> Option<Seq> {
    let (stream, subject) = (source.name(Stream::Order), source.subjects.input(hash));
    let latest = source.client.last(&stream, &subject, end).await?;
    Some(latest.map_or(0, |latest| latest.seq))
}
