//! Very many subscriptions.

use std::process;
use std::time::Instant;

use fanfare::background::cluster::line::{Event, Unsent};
use fanfare::background::cluster::protocol::Publish;

use crate::owner::{line_to, message, settle, until, up};
use crate::support::nats::{Nats, resident_bytes};

const SUBSCRIPTIONS: u64 = 100_000;
/// Bytes of the server for each: 763 to 891 were measured with subjects of this length.
const SERVER_BYTES_MAX: u64 = 2_000;
/// Bytes of the node for each. The line itself keeps nothing; other tests run beside this one.
const NODE_BYTES_MAX: u64 = 1_000;

#[tokio::test]
async fn a_hundred_thousand_subscriptions_cost_the_line_nothing() {
    let nats = Nats::one();
    let mut line = line_to(nats.port());
    up(&mut line).await;
    settle(&mut line).await;
    let (server, node) = (nats.resident_bytes(), resident_bytes(process::id()));
    let start = Instant::now();
    for sid in 0..SUBSCRIPTIONS {
        while let Err(unsent) = line.subscribe(&format!("ff.live.{sid:026}"), sid) {
            assert_eq!(unsent, Unsent::Full);
            until(&mut line, |event| matches!(event, Event::Drained).then_some(())).await;
        }
    }
    settle(&mut line).await;
    let took = start.elapsed();
    let each = |before: u64, now: u64| now.saturating_sub(before) / SUBSCRIPTIONS;
    let (server, node) =
        (each(server, nats.resident_bytes()), each(node, resident_bytes(process::id())));
    println!(
        "{SUBSCRIPTIONS} subscriptions in {took:?}: {server} bytes each on the server, {node} on \
         the node"
    );
    assert!(server <= SERVER_BYTES_MAX && node <= NODE_BYTES_MAX, "{server} and {node} bytes");
    for sid in [0, 77_777, SUBSCRIPTIONS - 1] {
        let subject = format!("ff.live.{sid:026}");
        line.publish(&Publish { subject: &subject, ..Publish::default() }).unwrap();
        assert_eq!(message(&mut line).await.sid, sid);
    }
}
