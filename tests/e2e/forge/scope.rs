//! Separation of channels: every party in the table subscribes and publishes, and must receive
//! exactly the publications of its own group.

use serde_json::{Value, json};

use super::app::{context, invocation, on_issue, publish, realtime_token};
use super::listener::Listener;
use crate::support::{Node, sign};

/// A subscriber and publisher.
struct Party {
    name: &'static str,
    /// Parties receive each other's publications if they have the same group, and only then.
    group: &'static str,
    /// The claims of its context.
    place: Value,
    channel: &'static str,
    is_global: bool,
    /// The claims of its realtime token; `None` if it uses none.
    claims: Option<Value>,
    overrides: Option<Value>,
}

/// Returns a party with a panel on issue 10001 of the first installation, on `room`.
fn party(group: &'static str, name: &'static str) -> Party {
    let place = on_issue("inst-1", "panel", "10001");
    let (channel, is_global, claims, overrides) = ("room", false, None, None);
    Party { name, group, place, channel, is_global, claims, overrides }
}

impl Party {
    fn at(self, installation: &str, module: &str, issue: &str) -> Self {
        Self { place: on_issue(installation, module, issue), ..self }
    }

    fn in_place(self, place: Value) -> Self {
        Self { place: context(place), ..self }
    }

    fn global(self) -> Self {
        Self { is_global: true, ..self }
    }

    fn claiming(self, claims: Value) -> Self {
        Self { claims: Some(claims), ..self }
    }

    fn overriding(self, overrides: Value) -> Self {
        Self { overrides: Some(overrides), ..self }
    }

    fn token(&self, node: &Node) -> Option<String> {
        let claims = self.claims.as_ref()?;
        Some(realtime_token(node, &self.place, self.channel, claims))
    }

    fn options(&self, node: &Node) -> Value {
        let mut options = json!({});
        if let Some(token) = self.token(node) {
            options["token"] = json!(token);
        }
        if let Some(overrides) = &self.overrides {
            options["contextOverrides"] = overrides.clone();
        }
        options
    }

    fn subscribe(&self, node: &Node) -> Listener {
        let mut listener = Listener::connect(node, &self.place);
        let more = json!({ "global": self.is_global, "options": self.options(node) });
        listener.subscribe(self.channel, &more);
        listener
    }

    /// Publishes and returns whether there is a subscriber.
    fn publish(&self, node: &Node, payload: &str) -> bool {
        let endpoint = if self.is_global { "publish/global" } else { "publish" };
        let body =
            json!({ "name": self.channel, "payload": payload, "options": self.options(node) });
        let result = publish(node, endpoint, &invocation(&self.place), &body);
        assert_eq!(result["eventId"].is_null(), result["eventTimestamp"].is_null(), "{result}");
        assert!(result["errors"].is_null(), "{result}");
        !result["eventId"].is_null()
    }
}

fn parties() -> Vec<Party> {
    let claims = || json!({ "allowedUsers": ["a", "b"], "level": 1 });
    let same_claims = json!({ "level": 1.0, "allowedUsers": ["a", "b"] });
    let with_key = json!({ "id": "10001", "key": "PROJ-1" });
    let plain = json!({ "issue": "10001", "project": "10000" });
    let of_another_user = json!({
        "installationId": "inst-1", "moduleKey": "panel", "sub": "bob", "locale": "de",
        "extension": { "issue": with_key, "project": { "id": "10000" }, "user": "bob" },
    });
    let inst_1 = |more: Value| {
        let mut place = json!({ "installationId": "inst-1" });
        let more = more.as_object().into_iter().flatten();
        more.for_each(|(name, value)| place[name] = value.clone());
        place
    };
    vec![
        party("place", "a panel on an issue"),
        party("place", "another user there").in_place(of_another_user),
        party("place", "entities by their bare ids")
            .in_place(inst_1(json!({ "moduleKey": "panel", "extension": plain }))),
        party("other module", "another module there").at("inst-1", "context", "10001"),
        party("other issue", "the panel on another issue").at("inst-1", "panel", "10002"),
        party("other installation", "the panel elsewhere").at("inst-2", "panel", "10001"),
        party("type", "a module known by its type")
            .in_place(inst_1(json!({ "moduleType": "panel", "extension": plain }))),
        party("no entities", "the module alone").in_place(inst_1(json!({ "moduleKey": "panel" }))),
        party("own key", "a page that the host has named").in_place(inst_1(
            json!({ "moduleKey": "panel", "contextKey": "dashboard-1", "extension": plain }),
        )),
        Party { channel: "Room", ..party("other channel", "another channel") },
        party("global", "the global channel").global(),
        party("global", "the same from elsewhere").at("inst-1", "context", "10002").global(),
        party("other global", "that of the other installation")
            .at("inst-2", "panel", "10001")
            .global(),
        party("global", "overrides mean nothing there").global().overriding(json!(["issue"])),
        party("claims", "a token").claiming(claims()),
        party("claims", "another token with the same claims").claiming(same_claims),
        party("other claims", "another order").claiming(json!({ "allowedUsers": ["b", "a"] })),
        party("no claims", "a token without claims").claiming(json!({})),
        party("global claims", "a token on the global channel").global().claiming(claims()),
        party("issue", "the issue alone").overriding(json!(["issue"])),
        party("issue", "the same from another module")
            .at("inst-1", "context", "10001")
            .overriding(json!(["issue", "issue"])),
        party("issue 2", "another issue alone")
            .at("inst-1", "panel", "10002")
            .overriding(json!(["issue"])),
        party("project", "the project alone").overriding(json!(["project"])),
        party("project", "the same from another issue")
            .at("inst-1", "panel", "10002")
            .overriding(json!(["project"])),
        party("both", "project and issue").overriding(json!(["project", "issue"])),
        party("both", "issue and project").overriding(json!(["issue", "project"])),
        party("nothing", "nothing of the context").overriding(json!([])),
        party("nothing", "the same from elsewhere")
            .at("inst-1", "context", "10002")
            .overriding(json!([])),
        party("issue claims", "the issue alone, with a token")
            .overriding(json!(["issue"]))
            .claiming(claims()),
    ]
}

#[test]
fn everybody_hears_exactly_those_in_the_same_scope() {
    let (node, parties) = (Node::start(), parties());
    let mut listeners: Vec<_> = parties.iter().map(|party| party.subscribe(&node)).collect();
    for party in &parties {
        assert!(party.publish(&node, party.name), "{} is heard by itself", party.name);
    }
    for party in &parties {
        assert!(party.publish(&node, "that is all"));
    }
    let mut pairs = 0;
    for (party, listener) in parties.iter().zip(&mut listeners) {
        let group: Vec<_> = parties.iter().filter(|other| other.group == party.group).collect();
        let expected: Vec<_> = group.iter().map(|other| other.name).collect();
        let heard: Vec<String> = group.iter().map(|_| payload(listener)).collect();
        assert_eq!(heard, expected, "what {} hears", party.name);
        for _ in &group {
            assert_eq!(payload(listener), "that is all", "{} hears no more", party.name);
        }
        pairs += parties.len();
    }
    assert!(pairs > 60, "{pairs}");
}

#[test]
fn nobody_in_the_same_scope_is_answered_with_null() {
    let (node, parties) = (Node::start(), parties());
    for subscribed in &parties {
        let mut listener = subscribed.subscribe(&node);
        for party in parties.iter().filter(|party| party.group != subscribed.group).take(5) {
            assert!(!party.publish(&node, "x"), "{} reaches {}", party.name, subscribed.name);
        }
        assert!(subscribed.publish(&node, "mine"));
        assert_eq!(payload(&mut listener), "mine");
        drop(listener);
        crate::support::wait_until("nobody is subscribed", || {
            node.metric("fanfare_subscriptions") == 0
        });
        node.soon("it is too late", || !subscribed.publish(&node, "too late"));
    }
}

#[test]
fn what_sockets_publish_goes_the_same_way() {
    let (node, parties) = (Node::start(), parties());
    let mut listeners: Vec<_> = parties.iter().map(|party| party.subscribe(&node)).collect();
    for party in &parties {
        let mut publisher = Listener::dial(node.port());
        let token = sign(&party.place);
        publisher.ask(json!({ "type": "connect", "contextToken": token }));
        let answer = publisher.ask(json!({
            "type": "publish", "channel": party.channel, "global": party.is_global,
            "payload": party.name, "options": party.options(&node),
        }));
        assert_eq!(answer["type"], "published", "{answer}");
        assert!(answer["eventId"].is_string(), "{answer}");
    }
    for (party, listener) in parties.iter().zip(&mut listeners) {
        let group = parties.iter().filter(|other| other.group == party.group);
        let expected: Vec<_> = group.map(|other| other.name).collect();
        let heard: Vec<String> = expected.iter().map(|_| payload(listener)).collect();
        assert_eq!(heard, expected, "what {} hears", party.name);
    }
}

fn payload(listener: &mut Listener) -> String {
    let event = listener.hear();
    assert_eq!(event["type"], "event", "{event}");
    event["payload"].as_str().expect("a payload is text").to_owned()
}
