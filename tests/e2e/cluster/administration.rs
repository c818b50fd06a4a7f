//! What administrators set on one node is in force on all of them.

use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::fleet::{Fleet, health};
use crate::socket::Socket;
use crate::support::{ANON_KEY, API_KEY, JWT_SECRET, Node, remove_settings, wait_until};

const CHANNELS: &str = "/api/realtime/channels";
const PERMISSIONS: &str = "/api/realtime/permissions";
const CONFIG: &str = "/api/realtime/config";
const UNCONFIRMED: &str = "fanfare-unconfirmed";

/// Returns the patterns of all definitions that a node has, sorted.
fn patterns(node: &Node) -> Vec<String> {
    let (status, all) = node.admin("GET", CHANNELS, &Value::Null);
    assert_eq!(status, 200, "{all}");
    let all = all.as_array().expect("a list").iter();
    let mut patterns: Vec<_> =
        all.map(|one| one["pattern"].as_str().expect("a text").to_owned()).collect();
    patterns.sort();
    patterns
}

/// Makes a change that all nodes confirm. Returns the answer.
fn change(node: &Node, method: &str, path: &str, body: &Value, expected: u16) -> Value {
    let (response, unconfirmed) = try_change(node, method, path, body);
    assert_eq!((response.0, unconfirmed), (expected, None), "{}", response.1);
    response.1
}

/// Makes a change. Returns the answer, and the nodes that have not confirmed it.
fn try_change(
    node: &Node,
    method: &str,
    path: &str,
    body: &Value,
) -> ((u16, Value), Option<String>) {
    let bearer = format!("Bearer {API_KEY}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let response = node.request(method, path, &headers, &body);
    let unconfirmed = response.header(UNCONFIRMED).map(str::to_owned);
    ((response.status, response.json()), unconfirmed)
}

/// Defines a channel, whether all nodes confirm it in time or not.
fn define(node: &Node, pattern: &str) -> Value {
    let definition = json!({ "pattern": pattern, "presence": "off" });
    let ((status, body), _) = try_change(node, "POST", CHANNELS, &definition);
    assert_eq!(status, 201, "{body}");
    body
}

#[test]
fn a_change_is_in_force_on_all_nodes_before_it_is_answered() {
    let fleet = Fleet::start(3);
    let [one, two, three] = [0, 1, 2].map(|at| &fleet.nodes[at]);
    let orders = json!({ "pattern": "orders", "presence": "off" });
    let made = change(one, "POST", CHANNELS, &orders, 201);
    for node in &fleet.nodes {
        let mut socket = Socket::connect(node.port(), ANON_KEY);
        socket.subscribe("orders");
    }
    let path = format!("{CHANNELS}/{}", made["id"].as_str().expect("an id"));
    let changed = change(two, "PUT", &path, &json!({ "pattern": "bills" }), 200);
    assert_eq!((&changed["id"], &changed["presence"]), (&made["id"], &json!("off")));
    assert!(fleet.nodes.iter().all(|node| patterns(node) == ["bills"]));
    change(three, "DELETE", &path, &Value::Null, 200);
    assert!(fleet.nodes.iter().all(|node| patterns(node).is_empty()));
    let (gone, _) = try_change(one, "DELETE", &path, &Value::Null);
    assert_eq!(gone.0, 404, "{}", gone.1);

    let policy = json!({ "policyName": "nobody", "roles": ["anon"], "using": "false" });
    let policies = json!({ "subscribe": { "policies": [policy] } });
    let set = change(two, "PUT", PERMISSIONS, &policies, 200);
    change(three, "PATCH", CONFIG, &json!({ "retentionDays": 9 }), 200);
    for node in &fleet.nodes {
        assert_eq!(node.admin("GET", PERMISSIONS, &Value::Null), (200, set.clone()));
        let (_, config) = node.admin("GET", CONFIG, &Value::Null);
        assert_eq!(config["retentionDays"], json!(9));
    }
}

#[test]
fn nodes_that_change_at_once_agree() {
    let fleet = Fleet::start(3);
    let made: Vec<_> = thread::scope(|scope| {
        let tries = fleet.nodes.iter().enumerate().map(|(at, node)| {
            scope.spawn(move || {
                let made = (0..8).map(|number| {
                    let same = json!({ "pattern": format!("same:{number}") });
                    let status = node.admin("POST", CHANNELS, &same).0;
                    define(node, &format!("own:{at}:{number}"));
                    status
                });
                made.collect::<Vec<_>>()
            })
        });
        let tries: Vec<_> = tries.collect();
        tries.into_iter().map(|one| one.join().expect("it ends")).collect()
    });
    for number in 0..8 {
        let mut statuses: Vec<_> = made.iter().map(|of_node| of_node[number]).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409], "one of them has made the definition {number}");
    }
    for node in &fleet.nodes {
        wait_until("all have everything", || patterns(node).len() == 8 + 3 * 8);
    }
    let all = patterns(&fleet.nodes[0]);
    assert!(fleet.nodes.iter().all(|node| patterns(node) == all));
}

#[test]
fn a_node_that_does_not_confirm_is_named_and_follows_later() {
    let fleet = Fleet::start(3);
    let still = &fleet.nodes[2];
    still.signal(Signal::STOP);
    let orders = json!({ "pattern": "orders" });
    let (answer, unconfirmed) = try_change(&fleet.nodes[0], "POST", CHANNELS, &orders);
    still.signal(Signal::CONT);
    assert_eq!((answer.0, unconfirmed.as_deref()), (201, Some("n3")), "{}", answer.1);
    assert_eq!(patterns(&fleet.nodes[1]), ["orders"]);
    wait_until("it follows", || patterns(still) == ["orders"]);
}

#[test]
fn what_nats_has_lost_is_put_back() {
    let mut fleet = Fleet::start(2);
    define(&fleet.nodes[0], "orders");
    fleet.nats.kill();
    wait_until("health says it", || health(&fleet.nodes[1]).1 != "ok");
    let bills = json!({ "pattern": "bills" });
    let ((status, refused), _) = try_change(&fleet.nodes[1], "POST", CHANNELS, &bills);
    assert_eq!(status, 503, "{refused}");
    assert!(refused["error"].as_str().is_some_and(|code| code.starts_with("BACKPLANE_")));
    fleet.nats.start_again(false);
    fleet.wait_until_healthy();
    wait_until("changes are taken again", || {
        try_change(&fleet.nodes[1], "POST", CHANNELS, &json!({ "pattern": "more" })).0.0 != 503
    });
    for node in &fleet.nodes {
        let all = patterns(node);
        assert!(all.contains(&"orders".to_owned()) && all.contains(&"more".to_owned()), "{all:?}");
    }
    // A node that starts with what it had follows what was changed while it was away.
    let says = |node: &Node, what: &str| {
        let output = node.output();
        output.lines().filter(|line| line.contains(what) && line.contains("n1")).count()
    };
    // A server that is slow after its start may have made the other node silent before.
    let silent = "another node of the cluster is silent";
    let before = says(&fleet.nodes[1], silent);
    let back = "another node of the cluster is heard again";
    let was_back = says(&fleet.nodes[1], back);
    fleet.nodes[0].kill();
    wait_until("the log names it", || says(&fleet.nodes[1], silent) > before);
    let later = json!({ "pattern": "later" });
    assert_eq!(try_change(&fleet.nodes[1], "POST", CHANNELS, &later).0.0, 201);
    fleet.nodes[0].restart();
    fleet.wait_until_healthy();
    assert!(patterns(&fleet.nodes[0]).contains(&"later".to_owned()));
    wait_until("the log says that it is back", || says(&fleet.nodes[1], back) > was_back);
    let before = says(&fleet.nodes[1], silent);
    fleet.nodes[0].signal(Signal::TERM);
    wait_until("the log says that it has left", || {
        says(&fleet.nodes[1], "another node has left the cluster") == 1
    });
    assert_eq!(says(&fleet.nodes[1], silent), before, "a node that leaves is not called silent");
}

/// Runs `fanfare cluster import` on a data directory. Returns whether it found no conflict, and what
/// it printed.
fn import(fleet: &Fleet, place: &Path, more: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    remove_settings(&mut command);
    command.args(["cluster", "import", "--data-dir"]).arg(place).args(more);
    command.env("FANFARE_CLUSTER_NATS", fleet.nats.url()).env("FANFARE_JWT_SECRET", JWT_SECRET);
    command.env("FANFARE_ANON_KEY", ANON_KEY).env("FANFARE_API_KEY", API_KEY);
    let output = command.output().expect("it runs");
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(printed).expect("it is text"))
}

#[test]
fn what_a_node_had_alone_is_set_aside_and_imported() {
    let fleet = Fleet::start(1);
    let node = &fleet.nodes[0];
    define(node, "shared");
    let place = tempfile::tempdir().expect("a directory of the test");
    let mut alone = Node::in_directory(place.path(), |_| {});
    for pattern in ["own", "shared"] {
        alone.create_channel(pattern);
    }
    alone.admin("PATCH", CONFIG, &json!({ "retentionDays": 5 }));
    alone.kill();
    let (is_whole, dry) = import(&fleet, place.path(), &[]);
    assert!(!is_whole && dry.contains("would be added     channel own"), "{dry}");
    let conflict = "conflict           channel shared: the nodes have presence \"off\" (here ";
    assert!(dry.contains(conflict), "{dry}");
    let warnings = [
        "webhooks.secret of this configuration differs from that of n1, so that this node could \
         not join, and --apply is refused",
        "history that is older than 5 days is deleted on all nodes",
    ];
    assert!(warnings.iter().all(|one| dry.contains(&format!("warning: {one}"))), "{dry}");
    // It holds a secret for webhooks that only this node has.
    let (_, refused) = import(&fleet, place.path(), &["--apply"]);
    assert!(refused.contains("differs from that of n1, so that this node could not"), "{refused}");
    assert!(refused.ends_with("nothing was changed\n"), "{refused}");
    assert_eq!(patterns(node), ["shared"]);
    assert_ne!(node.admin("GET", CONFIG, &Value::Null).1["retentionDays"], json!(5));
    std::fs::remove_file(place.path().join("keys.toml")).expect("the node made it");
    let url = fleet.nats.url();
    let joins = Node::in_directory(place.path(), move |command| {
        command.env("FANFARE_CLUSTER_NATS", &url).env("FANFARE_CLUSTER_NODE", "n2");
    });
    wait_until("the node serves", || health(&joins) == (200, json!("ok")));
    assert_eq!(patterns(&joins), ["shared"]);
    assert!(joins.output().contains("fanfare cluster import"), "{}", joins.output());
    let (is_whole, applied) = import(&fleet, place.path(), &["--apply"]);
    assert!(!is_whole && applied.contains("2 added, 0 shared already, 1 in conflict"), "{applied}");
    assert!(applied.contains(warnings[1]) && !applied.contains(warnings[0]), "{applied}");
    for node in [node, &joins] {
        wait_until("it is followed", || patterns(node) == ["own", "shared"]);
        assert_eq!(node.admin("GET", CONFIG, &Value::Null).1["retentionDays"], json!(5));
    }
    let (_, again) = import(&fleet, place.path(), &["--apply"]);
    assert!(again.contains("0 added, 2 shared already, 1 in conflict"), "{again}");
}
