//! Channel definitions over REST.

use serde_json::{Value, json};

use crate::support::Node;

const CHANNELS: &str = "/api/realtime/channels";

#[test]
fn a_channel_is_created_read_changed_and_deleted() {
    let node = Node::start();
    assert_eq!(node.admin("GET", CHANNELS, &Value::Null), (200, json!([])));

    let definition = json!({
        "pattern": "notifications:*",
        "description": "User notifications channel",
        "webhookUrls": ["https://example.com/webhook"],
        "enabled": true,
    });
    let (status, created) = node.admin("POST", CHANNELS, &definition);
    assert_eq!(status, 201, "{created}");
    for (key, value) in definition.as_object().expect("a definition is an object") {
        assert_eq!(&created[key], value, "{key}");
    }
    assert_eq!(created["createdAt"], created["updatedAt"]);

    let path = format!("{CHANNELS}/{}", created["id"].as_str().expect("a channel has an id"));
    assert_eq!(node.admin("GET", &path, &Value::Null), (200, created.clone()));
    assert_eq!(node.admin("GET", CHANNELS, &Value::Null), (200, json!([created])));

    let change = json!({ "description": "Updated notifications channel", "enabled": false });
    let (status, changed) = node.admin("PUT", &path, &change);
    assert_eq!(status, 200, "{changed}");
    let mut expected = created;
    expected["description"] = change["description"].clone();
    expected["enabled"] = false.into();
    expected["updatedAt"] = changed["updatedAt"].clone();
    assert_eq!(changed, expected);

    let deleted = (200, json!({ "message": "Channel deleted" }));
    assert_eq!(node.admin("DELETE", &path, &Value::Null), deleted);
    for method in ["GET", "DELETE"] {
        assert_eq!(node.admin(method, &path, &Value::Null), (404, not_found()), "{method}");
    }
}

#[test]
fn fields_left_out_are_null_and_null_clears_them() {
    let node = Node::start();
    let created = node.create_channel("orders");
    assert_eq!(created["description"], Value::Null);
    assert_eq!(created["webhookUrls"], Value::Null);
    assert_eq!(created["enabled"], true);

    let path = format!("{CHANNELS}/{}", created["id"].as_str().expect("a channel has an id"));
    let set = json!({ "description": "Orders", "webhookUrls": [] });
    let (_, changed) = node.admin("PUT", &path, &set);
    assert_eq!((&changed["description"], &changed["webhookUrls"]), (&json!("Orders"), &json!([])));
    let cleared = json!({ "description": null, "webhookUrls": null });
    let (status, changed) = node.admin("PUT", &path, &cleared);
    assert_eq!(status, 200, "{changed}");
    assert_eq!((&changed["description"], &changed["webhookUrls"]), (&Value::Null, &Value::Null));
}

#[test]
fn an_unknown_id_is_not_found_even_if_it_is_no_uuid() {
    let node = Node::start();
    for id in ["550e8400-e29b-41d4-a716-446655440000", "no-uuid"] {
        let path = format!("{CHANNELS}/{id}");
        assert_eq!(node.admin("GET", &path, &Value::Null), (404, not_found()));
    }
}

#[test]
fn invalid_definitions_are_refused_in_the_documented_words() {
    let node = Node::start();
    let refusals = [
        (json!({}), "pattern: Channel pattern is required"),
        (json!({ "pattern": "" }), "pattern: Channel pattern is required"),
        (json!({ "pattern": 5 }), "pattern: Expected string, received number"),
        (json!({ "pattern": "a", "webhookUrls": ["x"] }), "webhookUrls.0: Invalid url"),
        (json!({ "pattern": "a", "enabled": "yes" }), "enabled: Expected boolean, received string"),
    ];
    for (definition, message) in refusals {
        let refusal = json!({ "error": "INVALID_INPUT", "message": message, "statusCode": 400 });
        assert_eq!(node.admin("POST", CHANNELS, &definition), (400, refusal));
    }
    assert_eq!(node.admin("GET", CHANNELS, &Value::Null), (200, json!([])));
}

#[test]
fn misspelt_keys_are_refused_and_answers_may_be_sent_back() {
    let node = Node::start();
    let created = node.create_channel("orders");
    let path = format!("{CHANNELS}/{}", created["id"].as_str().expect("a channel has an id"));
    let invocation = "/admin/v1/invocations/call-1";
    let context = json!({
        "installationId": "i", "moduleKey": "m", "ui": true, "ttlSeconds": 60,
    });
    let with = |mut body: Value, key: &str| {
        body[key] = json!(true);
        body
    };
    for (method, path, body, key) in [
        ("POST", CHANNELS, json!({ "pattern": "a" }), "webhook_urls"),
        ("POST", CHANNELS, json!({ "pattern": "a" }), "enabeld"),
        ("PUT", &path, json!({}), "ephemerall"),
        ("PUT", &path, created.clone(), "replay_seconds"),
        ("PATCH", "/api/realtime/config", json!({ "retentionDays": 5 }), "retentiondays"),
        ("PUT", "/api/realtime/permissions", json!({}), "publsh"),
        ("PUT", invocation, context.clone(), "scope"),
        ("PUT", invocation, context.clone(), "accuontId"),
    ] {
        let (status, refused) = node.admin(method, path, &with(body, key));
        let message = format!("Unrecognized key(s) in object: '{key}'");
        assert_eq!((status, &refused["message"]), (400, &json!(message)), "{method} {path}");
        assert_eq!(refused["error"], "INVALID_INPUT");
    }
    assert_eq!(node.admin("GET", CHANNELS, &Value::Null), (200, json!([created])));

    for (method, path) in [
        ("PUT", path.as_str()),
        ("PATCH", "/api/realtime/config"),
        ("PUT", "/api/realtime/permissions"),
    ] {
        let (_, answer) = node.admin("GET", path, &Value::Null);
        let (status, again) = node.admin(method, path, &answer);
        assert_eq!(status, 200, "{method} {path}: {again}");
    }
    let (status, answer) = node.admin("PUT", invocation, &context);
    assert_eq!(status, 201, "{answer}");
    let mut both = context;
    both.as_object_mut().expect("it is one").extend(answer.as_object().expect("it is one").clone());
    assert_eq!(node.admin("PUT", invocation, &both).0, 201);
}

#[test]
fn a_pattern_is_defined_once() {
    let node = Node::start();
    node.create_channel("orders");
    let (status, body) = node.admin("POST", CHANNELS, &json!({ "pattern": "orders" }));
    assert_eq!((status, &body["error"]), (409, &json!("DATABASE_DUPLICATE")));
}

fn not_found() -> Value {
    json!({ "error": "NOT_FOUND", "message": "Channel not found", "statusCode": 404 })
}
