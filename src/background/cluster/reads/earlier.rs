//! Reads all that the stream has of one channel.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Source, decode, pause, sequence};
use crate::cluster::landing::Earlier;
use crate::cluster::name::{ChannelHash, Seq, Stream};
use crate::cluster::wire::Body;
use crate::limits::{CLUSTER_EARLIER_MESSAGES_MAX, CLUSTER_READ_BYTES_MAX};
use crate::message::Channel;

/// Reads a channel up to its latest message, which the leader of the stream knows: the copy that
/// answers the read may be behind. Returns `None` if the channel has too much, or without an answer
/// in time.
pub(super) async fn read(source: &Source, channel: &Channel, end: Instant) -> Option<Earlier> {
    let hash = ChannelHash::of(channel);
    let latest = loop {
        match latest(source, hash, end).await {
            Some(latest) => break latest,
            None => pause(end).await?,
        }
    };
    let (_, oldest) = source.stored(&source.first(end).await?)?;
    let since = oldest.stamp.at;
    let (mut publications, mut count, mut bytes, mut last) = (Vec::new(), 0, 0, 0);
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
    Some(Earlier { publications, since })
}

/// Asks the leader for the sequence of the channel's latest message; 0 if it has none.
async fn latest(source: &Source, hash: ChannelHash, end: Instant) -> Option<Seq> {
    let subject = format!("$JS.API.STREAM.MSG.GET.{}", source.name(Stream::Order));
    let ask = json!({ "last_by_subj": source.subjects.input(hash) }).to_string();
    let mut answers = source.client.ask(subject, Vec::new(), ask.into_bytes(), end).await?;
    let answer: Value = serde_json::from_slice(&answers.next().await?.payload()).ok()?;
    match (answer["message"]["seq"].as_u64(), answer["error"]["code"].as_u64()) {
        (Some(seq), _) => Some(seq),
        (None, Some(404)) => Some(0),
        (None, _) => None,
    }
}
