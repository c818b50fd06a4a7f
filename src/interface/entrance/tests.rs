//! Calls polled by hand, on a real broker with real mailboxes: there is no runtime, and the test
//! answers for the threads of the store.

mod acceptor;
mod ordered;

use std::task::{Context, Poll, Waker};

use super::Outcome;
use crate::codec::http::Response;
use crate::limits::{DOCUMENT_QUEUE_BYTES_MAX, HISTORY_QUEUE_BYTES_MAX};
use crate::mailbox::{Keep, Mail, Slot, StoreChange, StoreRefusal, Wish, Write, Written};
use crate::message::{Change, ChannelDefinition, Durability, MessageId};
use acceptor::{Acceptor, Call, NOW, definition};

const OVERLOADED: &str = r#"{"error":"OVERLOADED","message":"The node is overloaded and did not process the request","statusCode":503,"nextActions":"Try again after a second"}"#;

fn poll(call: &mut Call<'_>) -> Poll<Response> {
    let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    polled.map(|Outcome { response, is_unfinished }| {
        assert!(!is_unfinished, "its client need not come back");
        response
    })
}

fn json(status: u16, body: impl Into<String>) -> Poll<Response> {
    let mut body: String = body.into();
    body.push('\n');
    Poll::Ready(Response::json(status, body))
}

fn overloaded(body: &str) -> Poll<Response> {
    json(503, body).map(|response| response.header("Retry-After", "1"))
}

/// The answer to a publisher of InsForge, on a channel without subscribers.
fn published(id: MessageId) -> Poll<Response> {
    let audience = r#"{"total":0,"websocket":0,"polling":0,"sse":0}"#;
    let at = "2026-04-25T17:00:00.123Z";
    let body = format!(
        r#"{{"messageId":"{id}","timestamp":"{at}","audience":{audience},"durability":"stored"}}"#
    );
    json(201, body)
}

#[test]
fn a_publisher_is_answered_when_the_writer_has_stored_the_publication() {
    let acceptor = Acceptor::new();
    let mut call = acceptor.publish();
    assert_eq!(acceptor.awaited(), 0, "nothing happens before the call is polled");
    assert_eq!(poll(&mut call), Poll::Pending);
    let Keep { record, level, ticket } = acceptor.kept();
    assert_eq!((level, acceptor.awaited()), (Durability::Stored, 1));
    assert_eq!(poll(&mut call), Poll::Pending);
    assert!(acceptor.inboxes.history.is_empty(), "it is published once");
    acceptor.answer(ticket.expect("the publisher waits"), Durability::Stored);
    assert_eq!(poll(&mut call), published(record.publication.id));
    assert_eq!((acceptor.awaited(), acceptor.counters.publications_http.get()), (0, 1));
}

#[test]
fn a_publisher_is_told_if_the_publication_was_delivered_and_not_stored() {
    let acceptor = Acceptor::new();
    let mut call = acceptor.publish();
    assert_eq!(poll(&mut call), Poll::Pending);
    let ticket = acceptor.kept().ticket.expect("the publisher waits");
    acceptor.answer(ticket, Durability::Memory);
    let Poll::Ready(response) = poll(&mut call) else { panic!("it is answered") };
    assert_eq!(response.status, 500);
}

#[test]
fn a_publisher_is_refused_if_history_is_full() {
    let acceptor = Acceptor::new();
    let all = acceptor.mailboxes().history.reserve(HISTORY_QUEUE_BYTES_MAX);
    assert_eq!(poll(&mut acceptor.publish()), overloaded(OVERLOADED));
    let counters = &acceptor.counters;
    assert_eq!((counters.refused_history_queue.get(), counters.publications_http.get()), (1, 0));
    assert_eq!(acceptor.awaited(), 0, "no answer comes");
    drop(all);
    assert_eq!(poll(&mut acceptor.publish()), Poll::Pending);
}

#[test]
fn a_publisher_that_gives_up_is_not_answered_and_no_other_is_in_its_place() {
    let acceptor = Acceptor::new();
    drop(acceptor.publish());
    assert!(acceptor.inboxes.history.is_empty(), "it was never polled");
    let mut given_up = acceptor.publish();
    assert_eq!(poll(&mut given_up), Poll::Pending);
    drop(given_up);
    assert_eq!(acceptor.awaited(), 1, "the writer answers all the same");
    let late = acceptor.kept().ticket.expect("the publisher waited");
    let mut other = acceptor.publish();
    assert_eq!(poll(&mut other), Poll::Pending);
    acceptor.answer(late, Durability::Stored);
    assert_eq!((poll(&mut other), acceptor.awaited()), (Poll::Pending, 1));
    let Keep { record, ticket, .. } = acceptor.kept();
    acceptor.answer(ticket.expect("the publisher waits"), Durability::Stored);
    assert_eq!((poll(&mut other), acceptor.awaited()), (published(record.publication.id), 0));
}

#[test]
fn an_administrator_is_answered_when_the_writer_has_changed_the_definition() {
    let changed = ChannelDefinition { description: Some("Orders".into()), ..definition() };
    let body = r#"{"id":"00000000-0000-0000-0000-000000000001","pattern":"order:*","description":"Orders","webhookUrls":null,"enabled":true,"createdAt":"2026-04-25T17:00:00.123Z","updatedAt":"2026-04-25T17:00:00.123Z"}"#;
    let missing = r#"{"error":"NOT_FOUND","message":"Channel not found","statusCode":404}"#;
    let answers = [
        (Ok(Box::new(changed).into()), json(200, body)),
        (Err(StoreRefusal::NotFound), json(404, missing)),
        (Err(StoreRefusal::Busy), overloaded(OVERLOADED)),
    ];
    let acceptor = Acceptor::new();
    for (answer, expected) in answers {
        let mut call = acceptor.define();
        assert_eq!(poll(&mut call), Poll::Pending);
        let Ok(Wish::Change(ticket, change)) = acceptor.inboxes.side.try_recv() else {
            panic!("a change is wished for")
        };
        let StoreChange::Update(id, change, at) = change else { panic!("an update: {change:?}") };
        assert_eq!((id, at), (definition().id, NOW));
        assert_eq!(change.description, Change::Set("Orders".into()));
        assert_eq!((poll(&mut call), acceptor.awaited()), (Poll::Pending, 1));
        acceptor.answer(ticket, answer);
        assert_eq!((poll(&mut call), acceptor.awaited()), (expected, 0));
    }
}

#[test]
fn an_administrator_is_refused_if_the_queue_of_the_store_is_full() {
    let acceptor = Acceptor::new();
    while acceptor.mailboxes().wish(Wish::Stop).is_ok() {}
    assert_eq!(poll(&mut acceptor.define()), overloaded(OVERLOADED));
    assert_eq!((acceptor.awaited(), acceptor.counters.refused_store_queue.get()), (0, 1));
}

#[test]
fn an_administrator_that_gives_up_leaves_its_place_to_the_next() {
    let acceptor = Acceptor::new();
    let mut given_up = acceptor.define();
    assert_eq!(poll(&mut given_up), Poll::Pending);
    drop(given_up);
    let Ok(Wish::Change(late, _)) = acceptor.inboxes.side.try_recv() else {
        panic!("a change is wished for")
    };
    // An answer of another type would be an error in the place of a publisher.
    let mut other = acceptor.publish();
    assert_eq!(poll(&mut other), Poll::Pending);
    acceptor.answer(late, Err(StoreRefusal::NotFound));
    assert_eq!((poll(&mut other), acceptor.awaited()), (Poll::Pending, 1));
}

#[test]
fn a_writer_of_m2_is_answered_when_the_document_is_stored() {
    let stale = r#"{"error":"STALE_VERSION","message":"The write was dropped: its version is not later than 2026-04-25T17:00:00.123Z","statusCode":409,"version":"2026-04-25T17:00:00.123Z"}"#;
    let done = r#"{"version":"2026-04-25T17:00:00.123Z","durability":"stored"}"#;
    let answers = [
        (Ok(Written::Done(NOW, Durability::Stored)), json(200, done)),
        (Ok(Written::Stale(NOW)), json(409, stale)),
        (Err(StoreRefusal::Busy), overloaded(OVERLOADED)),
    ];
    let acceptor = Acceptor::new();
    for (answer, expected) in answers {
        let mut call = acceptor.put();
        assert_eq!(poll(&mut call), Poll::Pending);
        let Write { what, level, ticket } = acceptor.written();
        assert_eq!((what.data.as_deref(), level), (Some("[1]"), Durability::Stored));
        assert_eq!((poll(&mut call), acceptor.awaited()), (Poll::Pending, 1));
        acceptor.answer(ticket, answer);
        assert_eq!((poll(&mut call), acceptor.awaited()), (expected, 0));
    }
}

#[test]
fn a_writer_of_m2_is_refused_if_the_queue_is_full() {
    let acceptor = Acceptor::new();
    let all = acceptor.mailboxes().documents.reserve(DOCUMENT_QUEUE_BYTES_MAX);
    assert_eq!(poll(&mut acceptor.put()), overloaded(OVERLOADED));
    assert_eq!((acceptor.awaited(), acceptor.counters.refused_store_queue.get()), (0, 1));
    drop(all);
    assert_eq!(poll(&mut acceptor.put()), Poll::Pending);
}

#[test]
fn a_writer_of_m2_that_gives_up_is_not_answered_and_no_other_is_in_its_place() {
    let acceptor = Acceptor::new();
    let mut given_up = acceptor.put();
    assert_eq!(poll(&mut given_up), Poll::Pending);
    drop(given_up);
    let late = acceptor.written().ticket;
    let mut other = acceptor.put();
    assert_eq!(poll(&mut other), Poll::Pending);
    acceptor.answer(late, Ok(Written::Stale(NOW)));
    assert_eq!((poll(&mut other), acceptor.awaited()), (Poll::Pending, 1));
}

#[test]
fn a_publisher_of_forge_is_answered_at_once_or_refused_if_a_subscribers_worker_is_full() {
    let acceptor = Acceptor::new();
    let unheard = r#"{"eventId":null,"eventTimestamp":null,"errors":null}"#;
    assert_eq!(poll(&mut acceptor.publish_event()), json(200, unheard));
    acceptor.subscribe();
    let answer = poll(&mut acceptor.publish_event());
    let refused = r#"{"eventId":null,"eventTimestamp":null,"errors":[{"message":"Error publishing event to channel","status":503,"detail":"The node is overloaded and did not process the request"}]}"#;
    assert_eq!(poll(&mut acceptor.publish_event()), overloaded(refused));
    let Some(Mail::Deliver(delivery)) = acceptor.inboxes.workers[0].take(Mail::slot) else {
        panic!("the event is on its way")
    };
    let id = delivery.publication.id;
    let heard = format!(r#"{{"eventId":"{id}","eventTimestamp":"{NOW}","errors":null}}"#);
    assert_eq!(answer, json(200, heard));
    let counters = &acceptor.counters;
    assert_eq!((counters.events_http.get(), counters.events_unheard.get()), (1, 1));
    assert_eq!((counters.refused_overloaded.get(), acceptor.awaited()), (1, 0));
}

#[test]
fn whoever_would_wait_is_refused_if_no_place_is_left_for_the_answer() {
    let acceptor = Acceptor::new();
    let mailbox = &acceptor.mailboxes().acceptors[0];
    let all: Vec<_> = std::iter::from_fn(|| mailbox.reserve(Slot::Control)).collect();
    for mut call in [acceptor.publish(), acceptor.define(), acceptor.put()] {
        assert_eq!(poll(&mut call), overloaded(OVERLOADED));
    }
    assert_eq!(acceptor.counters.refused_overloaded.get(), 3);
    let inboxes = &acceptor.inboxes;
    assert!(inboxes.history.is_empty() && inboxes.documents.is_empty() && inboxes.side.is_empty());
    drop(all);
    assert_eq!(poll(&mut acceptor.publish()), Poll::Pending);
}
