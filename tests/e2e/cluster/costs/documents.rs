//! Documents of M2, written on all nodes at once.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Usage;
use crate::cluster::fleet::{Broker, Fleet};
use crate::m2::app::{place, write_request};
use crate::order::join;
use crate::support::Node;
use crate::support::nats::cpu;
use crate::tcp::Tcp;

/// Writers of all nodes together, each of a document of its own.
const WRITERS: usize = 24;
const TIME: Duration = Duration::from_secs(5);

/// Writes until the time is over. Returns how long each write took.
fn write(port: u16, number: usize) -> Vec<Duration> {
    let stream = std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port));
    let mut tcp = Tcp::over(stream.expect("the node accepts connections"));
    let (name, began) = (format!("document:{number}"), Instant::now());
    let mut times = Vec::new();
    while began.elapsed() < TIME {
        let sent = Instant::now();
        let data = json!({ "n": times.len(), "text": "x".repeat(100) });
        tcp.send(write_request(&place(), ("kvStore", &name), "", &data));
        let response = tcp.response_to("PUT");
        assert_eq!(response.status, 200, "{response:?}");
        times.push(sent.elapsed());
    }
    times
}

fn write_on(nodes: &[Node]) -> Vec<Duration> {
    let ports: Vec<_> = nodes.iter().map(Node::port).collect();
    let mut times: Vec<_> = thread::scope(|scope| {
        let writers = (0..WRITERS).map(|number| {
            let port = ports[number % ports.len()];
            scope.spawn(move || write(port, number))
        });
        let writers: Vec<_> = writers.collect();
        writers.into_iter().flat_map(join).collect()
    });
    times.sort_unstable();
    times
}

fn print(name: &str, times: &[Duration], cost: &str) {
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!(
        "{name}: {:.0} documents a second, p50 {:.1} ms, p99 {:.1} ms; {cost}",
        times.len() as f64 / TIME.as_secs_f64(),
        at(50),
        at(99),
    );
}

fn measure<B: Broker>(name: &str, fleet: &Fleet<B>) {
    write_on(&fleet.nodes);
    let before = Usage::of(&fleet.nodes, &fleet.nats);
    let times = write_on(&fleet.nodes);
    let used = Usage::of(&fleet.nodes, &fleet.nats).since(&before);
    print(name, &times, &used.for_each(times.len(), "write"));
}

#[test]
#[ignore = "measures for tuning.md, with a release build in FANFARE_TEST_BINARY"]
fn documents_are_written_on_all_nodes() {
    {
        let node = [Node::start()];
        write_on(&node);
        let before = cpu(node[0].pid());
        let times = write_on(&node);
        let each = (cpu(node[0].pid()) - before) / u32::try_from(times.len()).expect("it is small");
        print("alone", &times, &format!("{each:?} of the node for each write"));
    }
    measure("one server", &Fleet::start(3));
    measure("three servers", &Fleet::on_three(3, &[]));
}
