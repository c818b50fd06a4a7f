//! Runs the scenarios that take several nodes: at two nodes that know nothing of each other, and at
//! one that is reached at a second address as well, as all nodes of a cluster are one.

#[allow(dead_code, reason = "each test program uses its part")]
mod shared;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Output;
use std::thread;

use serde_json::Value;

use crate::shared::{Node, result};

/// How the bytes of a server get to its clients.
type Pass = fn(TcpStream, TcpStream);

/// Returns a second address of a node, at which what it sends is passed on like this.
fn second_address(node: &Node, pass: Pass) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let address = node.url["http://".len()..].to_owned();
    // It ends with the test program.
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("it listens");
            let server = TcpStream::connect(&address).expect("the node listens");
            let copies = [&client, &server].map(|one| one.try_clone().expect("a descriptor"));
            let [from_client, from_server] = copies;
            thread::spawn(move || copy(from_client, server));
            thread::spawn(move || pass(from_server, client));
        }
    });
    url
}

/// Passes bytes on until one side closes, or its end of the connection is gone.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Does the same, but passes publication 7 on a WebSocket on behind the frame that follows it.
fn swap(mut from: TcpStream, mut to: TcpStream) {
    let mut head = [0; 12];
    let is_upgraded = from.read_exact(&mut head).is_ok() && head.ends_with(b" 101");
    if !is_upgraded {
        let _ = to.write_all(&head);
        return copy(from, to);
    }
    let mut waiting = head.to_vec();
    let mut held = None;
    let mut bytes = [0; 4_096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        waiting.extend_from_slice(&bytes[..count]);
        while let Some(frame) = next_frame(&mut waiting) {
            if held.is_none() && frame.windows(12).any(|part| part == b"@0000000007:") {
                held = Some(frame);
                continue;
            }
            let both = [frame, held.take().unwrap_or_default()].concat();
            if to.write_all(&both).is_err() {
                return;
            }
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Takes out the next frame of a server, or the head of its answer; `None` if it is not there yet.
fn next_frame(waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
    if waiting.starts_with(b"HTTP/") {
        let end = waiting.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
        return Some(waiting.drain(..end).collect());
    }
    let length = match waiting.get(1)? {
        126 => 4 + usize::from(u16::from_be_bytes([*waiting.get(2)?, *waiting.get(3)?])),
        length => 2 + usize::from(*length),
    };
    (waiting.len() >= length).then(|| waiting.drain(..length).collect())
}

const LOAD: [&str; 6] = ["--rate", "50", "--warmup", "0.2", "--seconds", "0.8"];

/// The output of a run at a node and at another one, what it saved, and its page.
struct Ran {
    output: Output,
    saved: Value,
    page: String,
}

fn run(node: &Node, other: &str, scenario: &str, extra: &[&str]) -> Ran {
    let [saved, page] = ["json", "html"].map(|kind| node.folder.join(format!("{scenario}.{kind}")));
    let mut command = node.command(scenario, &["--url", other]);
    let output = command.args(extra).arg("--save").arg(&saved).arg("--report").arg(&page).output();
    let output = output.expect("the binary was built");
    let errors = String::from_utf8_lossy(&output.stderr);
    let saved = fs::read_to_string(saved).unwrap_or_else(|error| panic!("{error}: {errors}"));
    let page = fs::read_to_string(page).expect("it was written");
    Ran { saved: serde_json::from_str(&saved).expect("it is JSON"), output, page }
}

fn name(url: &str) -> &str {
    &url["http://".len()..]
}

/// Returns why a run is refused that defines its channels with an option at two addresses of a node.
fn run_refused(node: &Node, other: &str) -> String {
    let output = node.run("many-channels", &["--url", other, "--ephemeral"]);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn figure(saved: &Value, name: &str) -> Option<f64> {
    let figures = saved["figures"].as_array().expect("a list");
    figures.iter().find(|figure| figure["name"] == name)?["value"].as_f64()
}

#[test]
fn subscribers_at_both_addresses_of_a_node_have_one_order() {
    let node = Node::start();
    let other = second_address(&node, copy);
    let ran = run(&node, &other, "fanout", &[&LOAD[..], &["-n", "5"]].concat());
    let json = result(&ran.output);
    for (at, (url, clients)) in [(&node.url, 3), (&other, 2)].into_iter().enumerate() {
        let part = &json["nodes"][at];
        assert_eq!((&part["node"], &part["clients"]), (&name(url).into(), &clients.into()));
        assert_eq!(part["deliveries"]["received"], clients * 50);
        assert_eq!(figure(&ran.saved, &format!("lost at {}", name(url))), Some(0.0));
        let sentence = format!(
            "At {}, {clients} subscribers lost 0 of {} deliveries; 0 deliveries were duplicated.",
            name(url),
            clients * 50
        );
        assert!(ran.page.contains(&sentence), "{sentence}");
    }
    assert_eq!(json["subscribers"], 5);
    assert_eq!((&json["order"]["one"], &json["order"]["compared"]), (&true.into(), &5.into()));
    let sentence = "There is one order across nodes, by the comparison of 5 subscribers.";
    assert!(String::from_utf8_lossy(&ran.output.stdout).contains(sentence));
    assert!(ran.saved["verdict"]["evidence"].to_string().contains(sentence));

    // Both addresses have one definition, which is taken as it is without an option.
    let load = ["--channels", "5"];
    let json = result(&run(&node, &other, "many-channels", &[&LOAD[..], &load].concat()).output);
    assert_eq!((&json["nodes"][1]["clients"], &json["order"]["one"]), (&5.into(), &true.into()));
    let refused = run_refused(&node, &other);
    assert!(refused.contains("the node has a definition of load:* already"), "{refused}");
    let joins = ["--rate", "100", "--warmup", "0.1", "--seconds", "0.4"];
    let json = result(&run(&node, &other, "churn", &joins).output);
    assert_eq!(json["nodes"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&json["nodes"][0]["joined"], &json["nodes"][1]["joined"]),
        (&25.into(), &25.into())
    );
    node.assert_nothing_is_left();
}

#[test]
fn the_first_difference_of_order_fails_the_run_and_is_named() {
    let node = Node::start();
    let other = second_address(&node, swap);
    // The clients of several processes are compared as well.
    let extra = ["-n", "6", "--connections-per-process", "2"];
    let ran = run(&node, &other, "fanout", &[&LOAD[..], &extra].concat());
    let errors = String::from_utf8_lossy(&ran.output.stderr);
    assert_eq!(ran.output.status.code(), Some(1), "{errors}");
    let fault = format!(
        "no one order across nodes: a subscriber at {} received publication 7 before 8, \
         and one at {} received 8 before 7",
        name(&node.url),
        name(&other)
    );
    assert!(errors.contains(&fault), "{errors}");
    assert!(ran.page.contains(&fault) && ran.saved["defects"].to_string().contains(&fault));
    let json = &ran.saved["result"];
    assert_eq!(json["deliveries"]["lost"], 0);
    assert_eq!(json["order"]["one"], false);
    assert_eq!(json["order"]["first_difference"]["publications"], Value::from(vec![7, 8]));
}

#[test]
fn independent_nodes_share_no_order_and_the_loss_is_the_other_ones() {
    let node = Node::start();
    let other = Node::with_keys_of(&node);
    let fanout = [&LOAD[..], &["-n", "4"]].concat();
    let channels = [&LOAD[..], &["--channels", "3"]].concat();
    let soak = ["-n", "4", "--interval", "0.1", "--seconds", "0.9", "--max-memory-growth", "1000"];
    let scenarios = [("fanout", fanout), ("many-channels", channels), ("soak", soak.to_vec())];
    thread::scope(|scope| {
        for (scenario, extra) in scenarios {
            let (node, other) = (&node, &other);
            scope.spawn(move || check_loss(&run(node, &other.url, scenario, &extra), node, other));
        }
    });
    for node in [&node, &other] {
        node.assert_nothing_is_left();
    }
}

fn check_loss(ran: &Ran, node: &Node, other: &Node) {
    let errors = String::from_utf8_lossy(&ran.output.stderr);
    assert_eq!(ran.output.status.code(), Some(1), "{errors}");
    let of_other = name(&other.url);
    let fault = format!("no one order across nodes: subscribers at {of_other} received nothing");
    assert!(errors.contains(&fault), "{errors}");
    assert!(ran.page.contains(&fault));
    let json = &ran.saved["result"];
    let [here, there] = [0, 1].map(|at| &json["nodes"][at]["deliveries"]);
    let expected = there["expected"].as_u64();
    assert!(expected > Some(0), "{json}");
    assert_eq!((here["lost"].as_u64(), there["lost"].as_u64()), (Some(0), expected), "{json}");
    assert_eq!(figure(&ran.saved, &format!("lost at {}", name(&node.url))), Some(0.0));
    assert_eq!(figure(&ran.saved, &format!("lost at {of_other}")), expected.map(|it| it as f64));
    assert_eq!(json["order"]["one"], false);
    assert!(json["window"]["server"].is_null(), "no process stands for both: {json}");
}
