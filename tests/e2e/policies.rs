//! Policies: which clients may subscribe and publish, and when a change takes effect.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::socket::{Heard, SUBSCRIBE, Socket};
use crate::support::{ANON_KEY, Node, an_hour_from_now, sign};

const PERMISSIONS: &str = "/api/realtime/permissions";
const UNSUBSCRIBE: &str = "REALTIME_UNSUBSCRIBE";
const PUBLISH: &str = "REALTIME_PUBLISH";
/// How often policies change while the same connections stay.
const CHANGES: usize = 20;

/// A client with a role and perhaps a user and an email address.
struct Who {
    role: &'static str,
    user: Option<&'static str>,
    email: Option<&'static str>,
    token: String,
}

impl Who {
    fn everybody() -> Vec<Self> {
        let signed = |role: &'static str, sub: &str, email: Option<&'static str>| {
            let exp = an_hour_from_now();
            sign(&json!({ "sub": sub, "role": role, "email": email, "exp": exp }))
        };
        let of = |role, user, email, token| Self { role, user, email, token };
        let email = Some("bob@example.com");
        vec![
            of("anon", None, None, ANON_KEY.to_owned()),
            of("authenticated", Some("alice"), None, signed("authenticated", "alice", None)),
            of("authenticated", Some("bob"), email, signed("authenticated", "bob", email)),
            of("moderator", None, None, signed("moderator", "mo", None)),
            of("project_admin", None, None, signed("project_admin", "root", None)),
        ]
    }
}

/// Returns whether the client is allowed to use the channel.
type Rule = fn(&Who, &str) -> bool;

/// Roles and expression of a policy, and the rule that it must implement.
const TABLE: [(&[&str], Option<&str>, Rule); 14] = [
    (&["public"], None, |who, _| who.role != "moderator"),
    (&["public"], Some("enabled = true"), |who, _| who.role != "moderator"),
    (&["public"], Some("false"), |_, _| false),
    (&["authenticated"], Some("true"), |who, _| who.role == "authenticated"),
    (&["moderator"], None, |who, _| who.role == "moderator"),
    (&["moderator", "anon"], Some("pattern = 'order:*'"), |who, channel| {
        ["moderator", "anon"].contains(&who.role) && channel.starts_with("order:")
    }),
    (&["public"], Some("auth_uid() IS NOT NULL"), |who, _| who.user.is_some()),
    (&["public"], Some("auth_role() = 'anon'"), |who, _| who.role == "anon"),
    (&["public"], Some("auth_email() LIKE '%@example.com'"), |who, _| who.email.is_some()),
    (&["public"], Some("channel_name() = 'order:' || auth_uid()"), |who, channel| {
        who.user.is_some_and(|user| channel == format!("order:{user}"))
    }),
    (&["public"], Some("channel_name() LIKE 'order:%' AND auth_uid() = 'bob'"), |who, channel| {
        channel.starts_with("order:") && who.user == Some("bob")
    }),
    (&["public"], Some("channel_name() LIKE 'ORDER:%'"), |_, _| false),
    (&["public"], Some("description = 'for all'"), |who, channel| {
        channel == "chat" && who.role != "moderator"
    }),
    (
        &["public"],
        Some("description LIKE 'for %' OR auth_uid() IN ('alice', 'x')"),
        |who, channel| channel == "chat" && who.role != "moderator" || who.user == Some("alice"),
    ),
];

#[test]
fn roles_channels_and_expressions_decide_who_subscribes() {
    let node = Node::start();
    decide(&node, "subscribe", "using", |socket, channel| {
        let answer = ask(socket, SUBSCRIBE, &json!({ "channel": channel }));
        ask(socket, UNSUBSCRIBE, &json!({ "channel": channel }));
        answer
    });
}

#[test]
fn roles_channels_and_expressions_decide_who_publishes() {
    let node = Node::start();
    // A client whose role is unknown to the node may subscribe if a policy allows it.
    let roles = json!(["public", "moderator"]);
    let subscribe = json!([{ "policyName": "all", "roles": roles }]);
    set(&node, &json!({ "subscribe": { "policies": subscribe } }));
    decide(&node, "publish", "withCheck", |socket, channel| {
        ask(socket, SUBSCRIBE, &json!({ "channel": channel }));
        ask(socket, PUBLISH, &message(channel))
    });
}

/// Tests each row of the table twice: first when the answer is not cached, then when it is.
fn decide(
    node: &Node,
    side: &str,
    condition: &str,
    mut attempt: impl FnMut(&mut Socket, &str) -> Value,
) {
    node.create_channel("order:*");
    let chat = json!({ "pattern": "chat", "description": "for all" });
    assert_eq!(node.admin("POST", "/api/realtime/channels", &chat).0, 201);
    let everybody = Who::everybody();
    let mut sockets: Vec<Socket> =
        everybody.iter().map(|who| Socket::connect(node.port(), &who.token)).collect();
    let (_, before) = node.admin("GET", PERMISSIONS, &Value::Null);
    for (roles, expression, rule) in TABLE {
        let mut permissions = before.clone();
        permissions[side]["policies"] =
            json!([{ "policyName": "p", "roles": roles, condition: expression }]);
        set(node, &permissions);
        for (who, socket) in everybody.iter().zip(&mut sockets) {
            for channel in ["order:alice", "order:7", "chat", "order:7"] {
                let is_allowed = who.role == "project_admin" || rule(who, channel);
                let answer = attempt(socket, channel);
                let is_right = match is_allowed {
                    true => answer["ok"] == true,
                    false => answer["error"]["code"] == "REALTIME_UNAUTHORIZED",
                };
                let (role, user) = (who.role, who.user);
                assert!(
                    is_right,
                    "{role} {user:?} on {channel} to {side} under {roles:?} {expression:?}: {answer}"
                );
            }
        }
    }
    assert_eq!(node.metric("fanfare_commands_waiting"), 0);
}

#[test]
fn the_documented_policies_are_set_read_and_kept() {
    let mut node = Node::start();
    let none = json!({ "subscribe": { "policies": [] }, "publish": { "policies": [] } });
    assert_eq!(node.admin("GET", PERMISSIONS, &Value::Null), (200, none.clone()));
    let documented = json!({
        "subscribe": { "policies": [{
            "policyName": "allow_authenticated_subscribe",
            "tableName": "realtime_channels",
            "command": "SELECT",
            "roles": ["authenticated"],
            "using": "enabled = true",
            "withCheck": null,
        }] },
        "publish": { "policies": [{
            "policyName": "allow_authenticated_publish",
            "tableName": "realtime_messages",
            "command": "INSERT",
            "roles": ["authenticated"],
            "using": null,
            "withCheck": "true",
        }] },
    });
    assert_eq!(node.admin("PUT", PERMISSIONS, &documented), (200, documented.clone()));
    assert_eq!(node.admin("GET", PERMISSIONS, &Value::Null), (200, documented.clone()));
    for method in ["GET", "PUT"] {
        assert_eq!(node.request(method, PERMISSIONS, &[], b"{}").status, 401, "{method}");
    }
    node.restart();
    assert_eq!(node.admin("GET", PERMISSIONS, &Value::Null), (200, documented));
    node.create_channel("orders");
    let mut anonymous = Socket::connect(node.port(), ANON_KEY);
    let refused = ask(&mut anonymous, SUBSCRIBE, &json!({ "channel": "orders" }));
    assert_eq!(refused["error"]["code"], "REALTIME_UNAUTHORIZED", "{refused}");
    assert_eq!(node.admin("PUT", PERMISSIONS, &json!({})), (200, none));
    anonymous.subscribe("orders");
}

#[test]
fn a_bad_expression_is_refused_and_the_old_policies_stay() {
    let node = Node::start();
    node.create_channel("chat");
    set(&node, &subscribing("auth_role() = 'anon'"));
    let (_, before) = node.admin("GET", PERMISSIONS, &Value::Null);
    let table = [
        ("enabled = ", "near \")\": syntax error"),
        ("true) OR (true", "near \")\": syntax error"),
        ("true; DROP TABLE channels", "near \";\": syntax error"),
        ("pattrn = 'chat'", "no such column: pattrn"),
        ("randomblob(1000000000) = 1", "not authorized to use function: randomblob"),
        ("(SELECT 1)", "an expression cannot hold a query (not authorized)"),
        ("channel_name() = ?1", "parameters cannot be bound in an expression"),
    ];
    for (expression, words) in table {
        let (status, body) = node.admin("PUT", PERMISSIONS, &subscribing(expression));
        assert_eq!((status, &body["error"]), (400, &json!("INVALID_INPUT")), "{body}");
        assert_eq!(body["message"], format!("subscribe.policies.0.using: {words}"));
        assert_eq!(node.admin("GET", PERMISSIONS, &Value::Null), (200, before.clone()));
    }
    Socket::connect(node.port(), ANON_KEY).subscribe("chat");
}

#[test]
fn a_change_holds_for_the_next_command_of_every_connection() {
    let node = with_workers("2");
    node.create_channel("chat");
    let mut sockets: Vec<Socket> = (0..8).map(|_| Socket::connect(node.port(), ANON_KEY)).collect();
    let mut homes: Vec<&str> = sockets.iter().map(Socket::home).collect();
    homes.sort_unstable();
    homes.dedup();
    assert_eq!(homes.len(), 2, "both workers have some of them");
    sockets.iter_mut().for_each(|socket| {
        ask(socket, SUBSCRIBE, &json!({ "channel": "chat" }));
    });
    for round in 0..CHANGES {
        let is_allowed = round % 2 == 0;
        let expression = if is_allowed { "enabled" } else { "NOT enabled" };
        set(&node, &publishing(expression));
        for socket in &mut sockets {
            let answer = ask(socket, PUBLISH, &message("chat"));
            assert_eq!(answer["ok"], is_allowed, "round {round}: {answer}");
        }
    }
    set(&node, &json!({}));
    for socket in &mut sockets {
        assert_eq!(ask(socket, PUBLISH, &message("chat"))["ok"], true);
    }
}

#[test]
fn a_change_of_the_channel_changes_the_verdict() {
    let node = Node::start();
    let path =
        format!("/api/realtime/channels/{}", node.create_channel("chat")["id"].as_str().unwrap());
    set(&node, &subscribing("description = 'open'"));
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    for round in 0..CHANGES {
        let is_open = round % 2 == 0;
        let description = if is_open { "open" } else { "closed" };
        let (status, body) = node.admin("PUT", &path, &json!({ "description": description }));
        assert_eq!(status, 200, "{body}");
        let answer = ask(&mut socket, SUBSCRIBE, &json!({ "channel": "chat" }));
        assert_eq!(answer["ok"], is_open, "round {round}: {answer}");
    }
}

#[test]
fn commands_behind_a_cold_verdict_keep_their_order() {
    let node = Node::start();
    node.create_channel("chat:*");
    let mut permissions = subscribing("channel_name() LIKE 'chat:%'");
    permissions["publish"] = publishing("channel_name() <> 'chat:mute'")["publish"].clone();
    set(&node, &permissions);
    let sockets =
        [Socket::connect(node.port(), ANON_KEY), Socket::connect_polling(node.port(), ANON_KEY)];
    for (mut socket, channel) in sockets.into_iter().zip(["chat:1", "chat:2"]) {
        let place = json!({ "channel": channel });
        let mute = json!({ "channel": "chat:mute" });
        let burst = [
            (SUBSCRIBE, place.clone(), "ok"),
            (PUBLISH, message(channel), "ok"),
            (PUBLISH, json!({ "channel": channel }), "INVALID_INPUT"),
            (UNSUBSCRIBE, place.clone(), "ok"),
            (PUBLISH, message(channel), "REALTIME_NOT_SUBSCRIBED"),
            (SUBSCRIBE, mute, "ok"),
            (PUBLISH, message("chat:mute"), "REALTIME_UNAUTHORIZED"),
            (SUBSCRIBE, json!({ "channel": "nowhere" }), "REALTIME_UNAUTHORIZED"),
            (SUBSCRIBE, place, "ok"),
            (PUBLISH, message(channel), "ok"),
        ];
        let asked: Vec<(u64, &str)> = burst
            .iter()
            .map(|(event, argument, expected)| (socket.ask(event, argument), *expected))
            .collect();
        let mut heard = Vec::new();
        let answers = settle(&mut socket, asked.len(), &mut heard);
        for (number, expected) in &asked {
            let answer = &answers[number];
            let found =
                if answer["ok"] == true { "ok" } else { answer["error"]["code"].as_str().unwrap() };
            assert_eq!(found, *expected, "command {number}: {answer}");
        }
        let of = |at: usize| answers[&asked[at].0]["messageId"].as_str().expect("it was accepted");
        let mut published = vec![of(1), of(9)];
        while heard.last().is_none_or(|last| last.to_string() != of(9)) {
            if let Heard::Event(event) = socket.hear() {
                heard.push(event.id);
            }
        }
        // In a cluster, the subscription may have ended before the first one came back.
        if node.is_three() && heard.len() == 1 {
            published.remove(0);
        }
        let heard: Vec<_> = heard.iter().map(ToString::to_string).collect();
        assert_eq!(heard, published, "what was published while subscribed is heard, once");
    }
}

#[test]
fn a_line_of_waiting_commands_is_bounded() {
    const COMMANDS: usize = 200;
    const WAITING_MAX: usize = 64;
    let node = Node::start();
    node.create_channel("chat:*");
    set(&node, &subscribing("channel_name() LIKE 'chat:%'"));
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    for at in 0..COMMANDS {
        socket.ask(SUBSCRIBE, &json!({ "channel": format!("chat:{at}") }));
    }
    let answers = settle(&mut socket, COMMANDS, &mut Vec::new());
    let refused = answers.values().filter(|answer| answer["ok"] == false);
    let mut overloads = 0;
    for answer in refused {
        assert_eq!(answer["error"]["code"], "OVERLOADED", "{answer}");
        overloads += 1;
    }
    assert!((1..=COMMANDS - WAITING_MAX).contains(&overloads), "{overloads} of {COMMANDS}");
    assert_eq!(node.metric("fanfare_refusals_total"), overloads as u64);
    assert_eq!(node.metric("fanfare_subscriptions"), (COMMANDS - overloads) as u64);
    assert_eq!(node.metric("fanfare_commands_waiting"), 0);
    // The connection continues like any other.
    socket.subscribe("chat:again");
}

#[test]
fn waiting_commands_go_with_their_connection() {
    let node = Node::start();
    node.create_channel("chat:*");
    set(&node, &subscribing("channel_name() LIKE 'chat:%'"));
    for round in 0..CHANGES {
        let mut gone = Socket::connect(node.port(), ANON_KEY);
        for at in 0..8 {
            gone.ask(SUBSCRIBE, &json!({ "channel": format!("chat:{round}:{at}") }));
        }
        if round % 2 == 0 {
            // Leaves the namespace without waiting, and enters again with the same slot.
            gone.exit();
            gone.enter(ANON_KEY);
            while !matches!(gone.hear(), Heard::Connected(_)) {}
            gone.subscribe("chat:stays");
        } else {
            gone.flush();
        }
        drop(gone);
        Socket::connect(node.port(), ANON_KEY).subscribe("chat:next");
    }
    crate::support::wait_until("nobody is subscribed", || {
        node.metric("fanfare_subscriptions") == 0 && node.metric("fanfare_commands_waiting") == 0
    });
}

#[test]
fn a_verdict_is_asked_for_once_and_a_failure_allows_nothing() {
    let node = with_workers("1");
    node.create_channel("chat");
    set(&node, &subscribing("channel_name() = 'chat'"));
    for _ in 0..5 {
        Socket::connect(node.port(), ANON_KEY).subscribe("chat");
    }
    let count = || node.metric("fanfare_policy_questions_total");
    assert_eq!(count(), 1);

    set(&node, &subscribing(r"channel_name() LIKE 'chat\'"));
    let mut socket = Socket::connect(node.port(), ANON_KEY);
    for _ in 0..2 {
        let refused = ask(&mut socket, SUBSCRIBE, &json!({ "channel": "chat" }));
        assert_eq!(refused["error"]["code"], "REALTIME_UNAUTHORIZED", "{refused}");
    }
    assert_eq!(count(), 2);
    let metrics = node.request("GET", "/metrics", &[], b"");
    for (verdict, expected) in [("allowed", 1), ("denied", 0), ("failed", 1)] {
        let line = format!("fanfare_policy_verdicts_total{{verdict=\"{verdict}\"}} {expected}\n");
        assert!(metrics.text().contains(&line), "no {line}");
    }
    crate::support::wait_until("the log says why", || {
        node.output().contains("must not end with escape character")
    });
}

fn with_workers(number: &'static str) -> Node {
    Node::with(move |command| {
        command.args(["--workers", number]);
    })
}

fn subscribing(expression: &str) -> Value {
    let policy = json!({ "policyName": "p", "roles": ["public"], "using": expression });
    json!({ "subscribe": { "policies": [policy] } })
}

fn publishing(expression: &str) -> Value {
    let policy = json!({ "policyName": "p", "roles": ["public"], "withCheck": expression });
    json!({ "publish": { "policies": [policy] } })
}

fn set(node: &Node, permissions: &Value) {
    let (status, body) = node.admin("PUT", PERMISSIONS, permissions);
    assert_eq!(status, 200, "{permissions}: {body}");
}

fn message(channel: &str) -> Value {
    json!({ "channel": channel, "event": "note", "payload": {} })
}

/// Sends one command and returns its answer.
fn ask(socket: &mut Socket, event: &str, argument: &Value) -> Value {
    let number = socket.ask(event, argument);
    let mut answers = settle(socket, 1, &mut Vec::new());
    answers.remove(&number).expect("the one answer is to the one question")
}

/// Sends the prepared commands and collects events until `count` answers have come.
fn settle(socket: &mut Socket, count: usize, heard: &mut Vec<uuid::Uuid>) -> HashMap<u64, Value> {
    socket.flush();
    let mut answers = HashMap::new();
    while answers.len() < count {
        match socket.hear() {
            Heard::Ack(number, answer) => {
                answers.insert(number, answer);
            }
            Heard::Event(event) if event.is_named("note") => heard.push(event.id),
            Heard::Event(_) => {}
            heard => panic!("unexpected: {heard:?}"),
        }
    }
    answers
}
