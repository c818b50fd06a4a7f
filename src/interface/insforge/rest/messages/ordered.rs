//! A publication that a cluster's stream orders: the publisher waits until the stream has it, the
//! nodes have counted their subscribers, and history has kept it.

use super::{Receipt, refuse};
use crate::broker::publish::Submission;
use crate::codec::json::{push_json, push_number};
use crate::interface::http::HttpContext;
use crate::interface::rest::{ApiError, Reply};
use crate::mailbox::Publisher;
use crate::message::{Durability, Ordered, Refused, Spread};

/// Stands for nodes that may have subscribers and whose names are not known.
const UNNAMED: &str = "*";

/// Publishes through the stream, and answers after that.
pub(super) async fn publish(
    http: &HttpContext<'_>,
    submission: Submission<'_>,
    level: Durability,
) -> Result<Reply, ApiError> {
    let id = submission.id;
    let at = submission.now.wall;
    let answer = http.inquiry::<Ordered>()?;
    let send = |submission| {
        answer.put(|ticket| {
            let publisher = Publisher::Request { ticket, wants_audience: true };
            http.shared.broker.send(submission, publisher)
        })
    };
    let sent = match level {
        Durability::Memory => send(submission).map(|sent| (sent, None)),
        _ => {
            let kept = http.inquiry::<Durability>()?;
            let put = kept.put(|ticket| send(submission.answered(Some(ticket))));
            put.map(|(sent, pending)| (sent, Some(pending)))
        }
    };
    let ((_, pending), kept) = sent.map_err(|refused: Refused| refuse(http, refused))?;
    let spread = match pending.await {
        Ordered::Stored(spread) => *spread.unwrap_or_default(),
        not_ordered => {
            http.counters.refused_backplane.add(1);
            return Err(ApiError::not_ordered(&not_ordered, id));
        }
    };
    http.counters.publications_http.add(1);
    let level_reached = match kept {
        None => Durability::Memory,
        Some(kept) => kept.await,
    };
    let receipt = Receipt { id, at, spread: &spread, is_ordered: true, level: level_reached };
    Ok(receipt.reply(http, level))
}

/// Appends the members of an audience that only a cluster has.
pub(super) fn push_nodes(body: &mut String, spread: &Spread) {
    body.push_str(r#","nodes":"#);
    push_number(body, spread.nodes as u64);
    let unnamed = (!spread.is_named).then_some(UNNAMED);
    let unknown = spread.unknown.iter().map(|name| &**name).chain(unnamed);
    for (at, name) in unknown.enumerate() {
        body.push_str(if at == 0 { r#","unknown":["# } else { "," });
        push_json(body, name);
    }
    if !spread.unknown.is_empty() || !spread.is_named {
        body.push(']');
    }
}
