//! Owners and servers that do not keep up, and storms of connections.

use std::time::{Duration, Instant};

use fanfare::background::cluster::line::{Event, Line, Reason, Unsent};
use fanfare::background::cluster::protocol::Publish;
use fanfare::limits::NATS_WRITE_BYTES_MAX;
use serde_json::json;

use crate::fake::Fake;
use crate::owner::{down, line_to, settings, settle, until, up};
use crate::support::nats::Nats;

const PAYLOAD: &[u8] = &[b'x'; 100_000];

fn message() -> Publish<'static> {
    const PARTS: &[&[u8]] = &[PAYLOAD];
    Publish { subject: "a", payload: PARTS, ..Publish::default() }
}

#[tokio::test]
async fn a_server_that_takes_nothing_fills_a_bounded_buffer() {
    let nats = Nats::one();
    let mut line = line_to(nats.port());
    up(&mut line).await;
    settle(&mut line).await;
    nats.freeze();
    let mut places = Vec::new();
    let refused = loop {
        match line.publish(&message()) {
            Ok(place) => places.push(place),
            Err(unsent) => break unsent,
        }
        // Gives the system what it takes.
        let _ = tokio::time::timeout(Duration::ZERO, line.next()).await;
    };
    assert_eq!(refused, Unsent::Full);
    assert!(line.waiting() <= NATS_WRITE_BYTES_MAX);
    assert!(line.waiting() > NATS_WRITE_BYTES_MAX - 2 * PAYLOAD.len());
    nats.thaw();
    let drained = |event: &Event| match event {
        Event::Drained => Some(()),
        Event::Down(down) => panic!("{down:?}"),
        _ => None,
    };
    until(&mut line, drained).await;
    assert_eq!(line.waiting(), 0);
    settle(&mut line).await;
    let quiet = tokio::time::timeout(Duration::from_millis(300), line.next()).await;
    assert!(quiet.is_err(), "it is told once: {quiet:?}");

    // A line that is lost says which commands never left the node.
    nats.freeze();
    places.clear();
    while let Ok(place) = line.publish(&message()) {
        places.push(place);
        let _ = tokio::time::timeout(Duration::ZERO, line.next()).await;
    }
    let lost = down(&mut line).await;
    assert_eq!(lost.fault.reason, Reason::Timeout);
    let unsent = places.iter().filter(|place| **place >= lost.handed).count() * PAYLOAD.len();
    assert!(
        unsent > NATS_WRITE_BYTES_MAX - 3 * PAYLOAD.len() && unsent < places.len() * PAYLOAD.len()
    );
    assert!(places.is_sorted() && places[0] < lost.handed);
}

#[tokio::test]
async fn an_owner_that_does_not_keep_up_is_cut_and_learns_it() {
    let nats = Nats::with("max_pending: 2MB\nwrite_deadline: \"1s\"");
    let (mut line, mut other) = (line_to(nats.port()), line_to(nats.port()));
    up(&mut line).await;
    up(&mut other).await;
    line.subscribe("a", 1).unwrap();
    settle(&mut line).await;
    let end = Instant::now() + Duration::from_secs(20);
    while !nats.output().contains("Slow Consumer") {
        assert!(Instant::now() < end, "the server does not cut it");
        for _ in 0..20 {
            other.publish(&message()).unwrap();
        }
        settle(&mut other).await;
    }
    let lost = down(&mut line).await;
    assert_eq!(lost.fault.reason, Reason::Slow, "{:?}", lost.fault);
    assert!(lost.fault.text.contains("does not keep up"), "{}", lost.fault.text);
    up(&mut line).await;
    settle(&mut line).await;
}

#[tokio::test]
async fn a_server_that_cuts_every_connection_sees_no_storm() {
    let info = json!({ "version": "2.15.1", "headers": true, "max_payload": 1_048_576 });
    let greeting = format!("INFO {info}\r\n");
    // One takes the node and cuts it, the other refuses it.
    for answer in ["PONG\r\n", "-ERR 'Authorization Violation'\r\n"] {
        let fake = Fake::new(greeting.clone(), answer);
        let mut line = Line::new(settings(&[fake.url()]));
        let watching = async {
            loop {
                line.next().await;
            }
        };
        let watched: Result<(), _> = tokio::time::timeout(Duration::from_secs(3), watching).await;
        assert!(watched.is_err(), "a line does not end by itself");
        // 0.1, 0.2, 0.4, 0.8 and 1.6 s, give or take half.
        let accepted = fake.accepted();
        assert!((3..=8).contains(&accepted), "{accepted} connections in three seconds");
        assert_ne!(fake.port(), 0);
    }
}
