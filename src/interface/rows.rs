//! Rows of a database as publications: what `POST /api/realtime/messages` does for a back end, for
//! a row.

use std::sync::Arc;

use super::shared::Shared;
use crate::broker::publish::{Submission, ToKeep};
use crate::limits::{CHANNEL_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::mailbox::{Pending, Publisher, Tickets};
use crate::message::{
    Captured, CapturedRow, Channel, ChannelDefinition, Content, Credential, Durability, Now,
    Ordered, Refused, RepeatKey, Skipped, event_name_problem, payload_problem,
};

/// A row on its way.
#[derive(Debug)]
pub enum Sent<'t> {
    /// Nothing is under way.
    Settled(Captured),
    /// Its subscribers were posted to; history answers.
    Delivered(u32, Option<Pending<'t, Durability>>),
    /// The cluster's stream answers, and history after that.
    Submitted(Pending<'t, Ordered>, Option<Pending<'t, Durability>>),
}

impl Sent<'_> {
    /// Waits for the answers.
    pub async fn settled(self) -> Captured {
        let (audience, kept) = match self {
            Self::Settled(captured) => return captured,
            Self::Delivered(audience, kept) => (audience, kept),
            Self::Submitted(ordered, kept) => match ordered.await {
                Ordered::Stored(spread) => {
                    (spread.map_or(0, |spread| spread.audience.total()), kept)
                }
                Ordered::NotHeard => (0, None),
                _ => return Captured::Again,
            },
        };
        // History logs what it cannot keep. To publish again would not help it.
        if let Some(kept) = kept {
            kept.await;
        }
        Captured::Published(audience)
    }
}

/// Publishes a row. `keeps` says whether history keeps it and webhooks are called. Answers come
/// under `tickets`.
///
/// # Errors
/// [`Refused`] if a queue has no room or too little memory is free: then nothing was published.
pub fn publish<'t>(
    shared: &Shared,
    tickets: &'t Tickets,
    (row, keeps): (&CapturedRow, bool),
    now: Now,
) -> Result<Sent<'t>, Refused> {
    if let Some((why, rule)) = problem(row) {
        return Ok(Sent::Settled(Captured::Skipped(why, rule)));
    }
    let definition = shared.broker.definitions.load().find(&row.channel).cloned();
    let Some(definition) = definition else {
        return Ok(Sent::Settled(Captured::Skipped(Skipped::NoChannel, NO_CHANNEL)));
    };
    let keeps = keeps && !definition.options.ephemeral;
    let is_ordered = shared.broker.is_ordered(definition.options);
    let submission = submission(shared, row, (&definition, keeps, is_ordered), now);
    if is_ordered {
        ordered(shared, tickets, submission)
    } else {
        alone(shared, tickets, submission)
    }
}

fn submission<'d>(
    shared: &Shared,
    row: &CapturedRow,
    (definition, keeps, is_ordered): (&'d Arc<ChannelDefinition>, bool, bool),
    now: Now,
) -> Submission<'d> {
    let channel = Channel::from(&*row.channel);
    let level = Durability::Stored;
    Submission {
        repeat: is_ordered.then(|| RepeatKey::of(&Credential::BACK_END, &channel, row.id)),
        channel,
        content: Content::Message {
            event: row.event.as_str().into(),
            payload: row.payload.as_str().into(),
            sender: row.sender.clone(),
        },
        options: definition.options,
        id: row.id,
        now,
        is_recoverable: shared.recovery.is_some(),
        history: keeps.then_some(ToKeep { definition, level, ticket: None }),
    }
}

fn alone<'t>(
    shared: &Shared,
    tickets: &'t Tickets,
    submission: Submission<'_>,
) -> Result<Sent<'t>, Refused> {
    let keeps = submission.history.is_some();
    let submit = |ticket| shared.publish(submission.answered(ticket));
    let ((_, published), kept) = match keeps {
        false => (submit(None)?, None),
        true => {
            let inquiry = tickets.inquiry().ok_or(Refused::Overloaded)?;
            let (done, pending) = inquiry.put(|ticket| submit(Some(ticket)))?;
            (done, Some(pending))
        }
    };
    Ok(Sent::Delivered(published.audience.total(), kept))
}

fn ordered<'t>(
    shared: &Shared,
    tickets: &'t Tickets,
    submission: Submission<'_>,
) -> Result<Sent<'t>, Refused> {
    let keeps = submission.history.is_some();
    let answer = tickets.inquiry::<Ordered>().ok_or(Refused::Overloaded)?;
    let send = |submission| {
        answer.put(|ticket| {
            let publisher = Publisher::Request { ticket, wants_audience: true };
            shared.broker.send(submission, publisher)
        })
    };
    if !keeps {
        return send(submission).map(|(_, pending)| Sent::Submitted(pending, None));
    }
    let kept = tickets.inquiry::<Durability>().ok_or(Refused::Overloaded)?;
    let ((_, pending), kept) = kept.put(|ticket| send(submission.answered(Some(ticket))))?;
    Ok(Sent::Submitted(pending, Some(kept)))
}

/// Returns the rule that a row breaks, if it breaks one.
fn problem(row: &CapturedRow) -> Option<(Skipped, &'static str)> {
    let bytes = row.event.len() + row.payload.len() + row.channel.len();
    if !(1..=CHANNEL_BYTES_MAX).contains(&row.channel.len()) {
        return Some((Skipped::Channel, "Channel must have 1 to 512 bytes"));
    }
    if row.event.is_empty() {
        return Some((Skipped::Event, "Event name is empty"));
    }
    if let Some(rule) = event_name_problem(&row.event) {
        return Some((Skipped::Event, rule));
    }
    if bytes > MESSAGE_BYTES_MAX {
        return Some((Skipped::Length, "Row is longer than 1,000,000 bytes"));
    }
    payload_problem(&row.payload).map(|rule| (Skipped::Payload, rule))
}

const NO_CHANNEL: &str = "No enabled definition matches the channel";
const _: () = assert!(CHANNEL_BYTES_MAX == 512 && MESSAGE_BYTES_MAX == 1_000_000, "as named above");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{MessageId, Sender};

    #[test]
    fn rows_keep_the_rules_of_publications_over_http() {
        let row = |channel: &str, event: &str, payload: &str| CapturedRow {
            id: MessageId::from_u128(1),
            channel: channel.to_owned(),
            event: event.to_owned(),
            payload: payload.to_owned(),
            sender: Sender::System,
        };
        assert_eq!(problem(&row("orders", "INSERT", "{}")), None);
        for (row, why) in [
            (row("", "INSERT", "{}"), Skipped::Channel),
            (row(&"c".repeat(513), "INSERT", "{}"), Skipped::Channel),
            (row("orders", "", "{}"), Skipped::Event),
            (row("orders", "connect", "{}"), Skipped::Event),
            (row("orders", "presence:join", "{}"), Skipped::Event),
            (row("orders", "INSERT", &format!("\"{}\"", "x".repeat(100_000))), Skipped::Payload),
            (
                row("orders", "INSERT", &format!("{{\"x\":\"{}\"}}", "x".repeat(1_000_000))),
                Skipped::Length,
            ),
        ] {
            let found = problem(&row).map(|(why, _)| why);
            assert_eq!(found, Some(why), "{} {}", row.channel, row.event);
        }
    }
}
