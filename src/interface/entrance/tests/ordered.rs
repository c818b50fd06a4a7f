//! Publishers in a node of a cluster. The test answers for the stream and for the writer.

use super::acceptor::Ground;
use super::*;
use crate::cluster::ack::Refusal;
use crate::cluster::audience::Total;
use crate::cluster::events::Published;
use crate::cluster::landing::{Departing, Landing as _};
use crate::cluster::name::NodeName;
use crate::cluster::vitals::Vitals;
use crate::limits::STREAM_QUEUE_MAX;
use crate::message::{Attempt, Audience, StreamPlace};

type Node = (Acceptor, Ground);

const STORED: Published = Published::Stored { seq: 9, duplicate: false };

fn total(token: u64) -> Total {
    let audience = Audience { websocket: 2, polling: 0, sse: 1 };
    let unknown = vec![NodeName::read("n3").unwrap()];
    Total { number: token, seq: 9, audience, nodes: 2, unknown, is_named: true }
}

/// Returns the queues that are not empty, or of which a place is reserved.
fn used(acceptor: &Acceptor) -> Vec<&'static str> {
    let depths = acceptor.mailboxes().depths();
    depths.iter().filter(|depth| depth.now > 0).map(|depth| depth.queue).collect()
}

#[test]
fn a_publisher_waits_for_the_stream_for_the_nodes_and_for_history() {
    let (acceptor, mut landing): Node = Acceptor::in_cluster();
    let mut call = acceptor.publish();
    assert_eq!(poll(&mut call), Poll::Pending);
    let Departing { token, publication, is_counted, .. } = landing.departing().expect("it departs");
    assert!(is_counted && landing.departing().is_none());
    landing.settled(token, STORED, 1);
    assert_eq!(poll(&mut call), Poll::Pending);
    assert!(acceptor.inboxes.history.is_empty(), "its audience is not known yet");
    landing.counted(total(token));
    acceptor.settle();
    assert_eq!(poll(&mut call), Poll::Pending);
    let Keep { record, level, ticket } = acceptor.kept();
    assert_eq!((level, record.audience.total()), (Durability::Stored, 3));
    let place = Some(StreamPlace { epoch: 1, seq: 9 });
    assert_eq!((record.place, record.attempt), (place, Attempt::First));
    acceptor.answer(ticket.expect("the publisher waits"), Durability::Stored);
    let Poll::Ready(response) = poll(&mut call) else { panic!("it is answered") };
    let body: serde_json::Value = serde_json::from_slice(response.body.as_bytes()).unwrap();
    assert_eq!((response.status, &body["messageId"]), (201, &publication.id.to_string().into()));
    let audience = serde_json::json!({
        "total": 3, "websocket": 2, "polling": 0, "sse": 1, "nodes": 2, "unknown": ["n3"]
    });
    assert_eq!((&body["audience"], &body["durability"]), (&audience, &"stored".into()));
    assert_eq!(used(&acceptor), [""; 0]);
}

#[test]
fn a_publisher_learns_what_the_stream_did_not_store() {
    let unavailable = Published::Refused(Refusal::Unavailable);
    let overloaded = Published::Refused(Refusal::Overloaded);
    let (acceptor, mut landing): Node = Acceptor::in_cluster();
    for (published, code, names_id) in [
        (unavailable, "BACKPLANE_UNAVAILABLE", false),
        (overloaded, "OVERLOADED", false),
        (Published::Unknown, "BACKPLANE_UNKNOWN", true),
    ] {
        let mut call = acceptor.publish();
        assert_eq!(poll(&mut call), Poll::Pending);
        let Departing { token, publication, .. } = landing.departing().expect("it departs");
        landing.settled(token, published, 1);
        // The answer of history comes first, and says nothing.
        acceptor.settle();
        acceptor.settle();
        let Poll::Ready(response) = poll(&mut call) else { panic!("it is answered") };
        let body: serde_json::Value = serde_json::from_slice(response.body.as_bytes()).unwrap();
        assert_eq!((response.status, &body["error"]), (503, &code.into()));
        let id = names_id.then(|| publication.id.to_string());
        assert_eq!(body.get("messageId").and_then(|id| id.as_str()), id.as_deref());
        assert!(acceptor.inboxes.history.is_empty());
        drop(call);
        assert_eq!(used(&acceptor), [""; 0], "{code}");
    }
}

#[test]
fn history_learns_what_the_stream_has_recognized_as_a_repetition() {
    let (acceptor, mut landing): Node = Acceptor::in_cluster();
    let mut call = acceptor.publish();
    assert_eq!(poll(&mut call), Poll::Pending);
    let Departing { token, .. } = landing.departing().expect("it departs");
    landing.settled(token, Published::Stored { seq: 9, duplicate: true }, 2);
    landing.counted(total(token));
    let record = acceptor.kept().record;
    let place = Some(StreamPlace { epoch: 2, seq: 9 });
    assert_eq!((record.place, record.attempt), (place, Attempt::Repeated));
}

#[test]
fn what_the_stream_does_not_order_is_behind_what_was_given_to_history() {
    let (acceptor, mut landing): Node = Acceptor::in_cluster();
    let latest =
        |acceptor: &Acceptor| acceptor.mailboxes().stream.as_ref().expect("a cluster").latest();
    let heard = |seq| Vitals { epochs: (1, 0), heard: seq, ..Vitals::default() };
    landing.measured(heard(5));
    assert_eq!(latest(&acceptor), StreamPlace { epoch: 1, seq: 5 });
    let mut call = acceptor.publish();
    assert_eq!(poll(&mut call), Poll::Pending);
    let Departing { token, .. } = landing.departing().expect("it departs");
    // Its place may be before this one.
    landing.measured(heard(10));
    landing.settled(token, STORED, 1);
    landing.measured(heard(11));
    assert_eq!(latest(&acceptor), StreamPlace { epoch: 1, seq: 5 });
    landing.counted(total(token));
    landing.measured(heard(12));
    assert_eq!(latest(&acceptor), StreamPlace { epoch: 1, seq: 12 });
}

#[test]
fn history_keeps_what_the_stream_answers_late() {
    let (acceptor, mut landing): Node = Acceptor::in_cluster();
    let mut call = acceptor.publish();
    assert_eq!(poll(&mut call), Poll::Pending);
    let Departing { token, publication, .. } = landing.departing().expect("it departs");
    landing.settled(token, Published::Unknown, 1);
    landing.settled(token, Published::Late(9), 1);
    let Keep { record, .. } = acceptor.kept();
    let place = Some(StreamPlace { epoch: 1, seq: 9 });
    assert_eq!((record.publication.id, record.place), (publication.id, place));
    assert_eq!(record.attempt, Attempt::Repeated, "its publisher may have published it elsewhere");
    landing.settled(token, Published::Late(9), 1);
    assert!(acceptor.inboxes.history.is_empty(), "once");
}

#[test]
fn what_has_no_place_in_the_queue_to_the_stream_is_refused() {
    let (acceptor, mut landing): Node = Acceptor::in_cluster();
    let mut calls: Vec<_> = (0..STREAM_QUEUE_MAX).map(|_| acceptor.publish_event()).collect();
    for call in &mut calls {
        assert_eq!(poll(call), Poll::Pending);
    }
    let Poll::Ready(refused) = poll(&mut acceptor.publish_event()) else { panic!("it is refused") };
    assert_eq!((refused.status, acceptor.counters.refused_overloaded.get()), (503, 1));
    let Departing { token, .. } = landing.departing().expect("it departs");
    assert_eq!(
        acceptor.mailboxes().depths().iter().find(|one| one.queue == "stream").unwrap().now,
        STREAM_QUEUE_MAX as u64,
        "what is under way keeps its place"
    );
    landing.settled(token, Published::NotHeard, 1);
    acceptor.settle();
    let unheard = r#"{"eventId":null,"eventTimestamp":null,"errors":null}"#;
    assert_eq!(poll(&mut calls[0]), json(200, unheard));
    assert_eq!(poll(&mut acceptor.publish_event()), Poll::Pending);
}

#[test]
fn a_publisher_of_forge_is_told_null_only_if_nobody_listens_for_certain() {
    let (acceptor, mut landing): Node = Acceptor::in_cluster();
    let answer = |landing: &mut Ground, published| {
        let mut call = acceptor.publish_event();
        assert_eq!(poll(&mut call), Poll::Pending);
        let Departing { token, publication, is_counted, .. } =
            landing.departing().expect("it departs");
        assert!(!is_counted && publication.content.needs_listener());
        landing.settled(token, published, 1);
        acceptor.settle();
        let Poll::Ready(response) = poll(&mut call) else { panic!("it is answered") };
        let body: serde_json::Value = serde_json::from_slice(response.body.as_bytes()).unwrap();
        let is_its_id = body["eventId"] == publication.id.to_string();
        (response.status, body["errors"].is_null(), is_its_id)
    };
    assert_eq!(answer(&mut landing, STORED), (200, true, true));
    assert_eq!(answer(&mut landing, Published::NotHeard), (200, true, false));
    assert_eq!(answer(&mut landing, Published::Unproven), (503, false, false));
    assert_eq!(answer(&mut landing, Published::Unknown), (503, false, false));
    let counters = &acceptor.counters;
    assert_eq!((counters.events_http.get(), counters.events_unheard.get()), (1, 1));
    assert_eq!(counters.refused_backplane.get(), 2);
}
