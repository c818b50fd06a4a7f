//! Rows of a real PostgreSQL as events.

mod capture;
mod cluster;
mod install;
mod load;
mod lock;
mod original;
mod tls;
mod watch;

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::events::stream::{Event, Stream};
use crate::support::postgres::Postgres;
use crate::support::{ANON_KEY, Node, remove_settings, wait_until};

/// Runs `fanfare postgres` on a database.
fn fanfare(url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    remove_settings(&mut command);
    command.env("FANFARE_POSTGRES_URL", url).arg("postgres").args(arguments);
    command.output().expect("the program runs")
}

/// Runs `fanfare postgres`, which must succeed, and returns what it prints.
fn succeed(url: &str, arguments: &[&str]) -> String {
    let output = fanfare(url, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("it prints text")
}

/// Starts a server with the schema.
fn installed() -> Postgres {
    let postgres = Postgres::start();
    succeed(&postgres.url(), &["install"]);
    postgres
}

/// Starts a node that publishes the rows of this database, and defines channels.
fn node_of(url: String, patterns: &[&str]) -> Node {
    let node = Node::with(move |command| {
        command.env("FANFARE_POSTGRES_URL", &url);
    });
    patterns.iter().for_each(|pattern| drop(node.create_channel(pattern)));
    node
}

fn wait_until_capturing(node: &Node) {
    wait_until("the node publishes rows", || node.metric("fanfare_postgres_capturing") == 1);
}

/// Subscribes to channels over Server-Sent Events.
fn listen(node: &Node, channels: &[&str]) -> Stream {
    let mut stream = Stream::open(node, channels, ANON_KEY);
    stream.begin(channels.len());
    stream
}

/// Returns the next event that is no announcement of presence.
fn hear(stream: &mut Stream) -> Event {
    loop {
        let event = stream.hear();
        if !event.name.starts_with("presence:") {
            return event;
        }
    }
}

/// Returns the numbers of this many events.
fn hear_numbers(stream: &mut Stream, count: usize) -> Vec<u64> {
    let number = |event: Event| event.data["payload"]["n"].as_u64().expect("it has a number");
    (0..count).map(|_| number(hear(stream))).collect()
}

/// Returns a statement that publishes a number.
fn publish(channel: &str, number: u64) -> String {
    format!("SELECT realtime.publish('{channel}', 'tick', '{{\"n\":{number}}}');\n")
}

fn health(node: &Node) -> (u16, Value) {
    let response = node.request("GET", "/api/health", &[], b"");
    (response.status, response.json())
}

fn is_well(node: &Node) -> bool {
    let (status, body) = health(node);
    (status, &body["status"]) == (200, &json!("ok"))
}
