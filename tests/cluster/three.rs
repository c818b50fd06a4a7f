//! Three servers with one stream.

use std::time::{Duration, Instant};

use fanfare::background::cluster::line::{Line, Reason};
use fanfare::background::cluster::protocol::Publish;

use crate::owner::{PATIENCE, down, line_to, message, settings, settle, up};
use crate::stream::{ask, create_stream};
use crate::support::nats::{Nats, Route, Three};
use crate::support::proxy::Way;
use crate::support::wait_until;

#[tokio::test]
async fn three_servers_carry_one_order() {
    const MESSAGES: u64 = 200;
    let three = Three::start();
    let mut lines = three.servers.each_ref().map(|server| line_to(server.port()));
    for line in &mut lines {
        up(line).await;
    }
    create_stream(&mut lines[0], 3).await;
    for line in &mut lines {
        line.subscribe("ff.live.a", 9).unwrap();
        settle(line).await;
    }
    // A subscription reaches the other servers after its own has taken it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    three.routes[0].delay(Way::ToServer, Duration::from_millis(20));
    let mut publishers = three.servers.each_ref().map(|server| line_to(server.port()));
    for (publisher, own) in publishers.iter_mut().zip(0..) {
        up(publisher).await;
        for number in (own..MESSAGES).step_by(3) {
            let payload = [&number.to_be_bytes()[..]];
            let message = Publish { subject: "ff.in.a", payload: &payload, ..Publish::default() };
            publisher.publish(&message).unwrap();
        }
    }
    for publisher in &mut publishers {
        settle(publisher).await;
    }
    let mut orders = Vec::new();
    for line in &mut lines {
        let mut order = Vec::new();
        while order.len() < usize::try_from(MESSAGES).unwrap() {
            let message = message(line).await;
            if message.sid == 9 {
                let sequence = message.header("Nats-Sequence").unwrap().to_vec();
                order.push((String::from_utf8(sequence).unwrap(), message.payload()));
            }
        }
        orders.push(order);
    }
    assert!(orders[1..].iter().all(|order| *order == orders[0]), "one order everywhere");
    let sequences = orders[0].iter().map(|(sequence, _)| sequence.parse::<u64>().unwrap());
    assert!(sequences.eq(1..=MESSAGES), "nothing is missing");
}

/// Publishes until the stream has taken a message, and returns its sequence.
async fn store(line: &mut Line) -> u64 {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = ask(line, "ff.in.a", &[], b"x").await;
        if let Some(sequence) = answer["seq"].as_u64().filter(|sequence| *sequence > 0) {
            return sequence;
        }
        assert!(Instant::now() < end, "{answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_stream_outlives_a_server_and_the_routes() {
    let mut three = Three::start();
    let urls = three.servers.each_ref().map(Nats::url);
    let mut line = Line::new(settings(&urls));
    let first = up(&mut line).await.address;
    create_stream(&mut line, 3).await;
    assert_eq!(store(&mut line).await, 1);
    let at = three.servers.iter().position(|server| server.port() == first.port).unwrap();
    three.servers[at].kill();
    assert_eq!(down(&mut line).await.fault.reason, Reason::Closed);
    assert_ne!(up(&mut line).await.address, first);
    assert!(store(&mut line).await >= 2, "two of three still have it");

    three.servers[at].start_again(false);
    wait_until("the server has its part again", || three.servers[at].monitor("/healthz").0 == 200);
    let mut again = line_to(three.servers[at].port());
    up(&mut again).await;
    let stored = store(&mut again).await;
    three.routes.iter().for_each(Route::cut);
    let last = store(&mut line).await;
    assert!(last > stored, "{last} after {stored}: servers find each other again");
}
