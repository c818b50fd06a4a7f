//! The REST examples of the public document, one after the other. Each answer must be as printed,
//! except for ids and dates.

use serde_json::{Value, json};

use crate::support::{API_KEY, Node};

const CHANNELS: &str = "/api/realtime/channels";
const MESSAGES: &str = "/api/realtime/messages";
const NO_SUCH_ID: &str = "550e8400-e29b-41d4-a716-446655440002";

/// Sends a request like those of the examples, with the key as a bearer token.
fn call(node: &Node, method: &str, path: &str, body: Option<&str>) -> (u16, Value) {
    let bearer = format!("Bearer {API_KEY}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let headers = if body.is_some() { &headers[..] } else { &headers[..1] };
    let response = node.request(method, path, headers, body.unwrap_or_default().as_bytes());
    (response.status, response.json())
}

/// Replaces ids and dates by the printed ones after checking their format.
fn as_printed(mut shown: Value, printed: &Value) -> Value {
    if let (Value::Array(items), Value::Array(printed)) = (&mut shown, printed) {
        for (item, printed) in items.iter_mut().zip(printed) {
            *item = as_printed(item.take(), printed);
        }
        return shown;
    }
    for key in ["id", "channelId", "senderId"] {
        if shown[key].is_string() {
            let id = shown[key].as_str().expect("it is a string");
            assert!(uuid::Uuid::try_parse(id).is_ok(), "{key}: {id}");
            shown[key] = printed[key].clone();
        }
    }
    for key in ["createdAt", "updatedAt"] {
        if let Some(at) = shown[key].as_str() {
            assert!(at.len() == 24 && at.ends_with('Z'), "{key}: {at}");
            shown[key] = printed[key].clone();
        }
    }
    shown
}

fn order_channel() -> Value {
    json!({
        "id": "550e8400-e29b-41d4-a716-446655440000",
        "pattern": "order:*",
        "description": "Order updates channel",
        "webhookUrls": ["https://example.com/webhook"],
        "enabled": true,
        "createdAt": "2024-01-15T10:30:00Z",
        "updatedAt": "2024-01-15T10:30:00Z",
    })
}

fn chat_channel() -> Value {
    json!({
        "id": "550e8400-e29b-41d4-a716-446655440001",
        "pattern": "chat:*",
        "description": "Chat room messages",
        "webhookUrls": null,
        "enabled": true,
        "createdAt": "2024-01-16T11:00:00Z",
        "updatedAt": "2024-01-16T11:00:00Z",
    })
}

/// Creates a channel of the document and returns its id.
fn make(node: &Node, printed: &Value) -> String {
    let keys = ["pattern", "description", "webhookUrls"];
    let body =
        Value::Object(keys.iter().map(|key| ((*key).to_owned(), printed[key].clone())).collect());
    let (status, made) = call(node, "POST", CHANNELS, Some(&body.to_string()));
    assert_eq!(status, 201, "{made}");
    made["id"].as_str().expect("a channel has an id").to_owned()
}

#[test]
fn list_all_channels_and_get_one() {
    let node = Node::start();
    let order = make(&node, &order_channel());
    make(&node, &chat_channel());
    let (status, shown) = call(&node, "GET", CHANNELS, None);
    // The newest channel comes first; the document does not say which of its two is newer.
    let mut shown = shown;
    shown.as_array_mut().expect("a list").sort_by_key(|one| one["pattern"] != "order:*");
    let printed = json!([order_channel(), chat_channel()]);
    assert_eq!((status, as_printed(shown, &printed)), (200, printed));

    let (status, shown) = call(&node, "GET", &format!("{CHANNELS}/{order}"), None);
    assert_eq!((status, as_printed(shown, &order_channel())), (200, order_channel()));
}

#[test]
fn create_update_and_delete_a_channel() {
    let node = Node::start();
    let body = r#"{
        "pattern": "notifications:*",
        "description": "User notifications channel",
        "webhookUrls": ["https://example.com/webhook"],
        "enabled": true
    }"#;
    let mut printed = json!({
        "id": NO_SUCH_ID,
        "pattern": "notifications:*",
        "description": "User notifications channel",
        "webhookUrls": ["https://example.com/webhook"],
        "enabled": true,
        "createdAt": "2024-01-17T09:00:00Z",
        "updatedAt": "2024-01-17T09:00:00Z",
    });
    let (status, shown) = call(&node, "POST", CHANNELS, Some(body));
    let path = format!("{CHANNELS}/{}", shown["id"].as_str().expect("it has an id"));
    assert_eq!((status, as_printed(shown, &printed)), (201, printed.clone()));

    let body = r#"{ "description": "Updated notifications channel", "enabled": false }"#;
    printed["description"] = "Updated notifications channel".into();
    printed["enabled"] = false.into();
    printed["updatedAt"] = "2024-01-17T14:00:00Z".into();
    let (status, shown) = call(&node, "PUT", &path, Some(body));
    assert_eq!((status, as_printed(shown, &printed)), (200, printed));

    let deleted = (200, json!({ "message": "Channel deleted" }));
    assert_eq!(call(&node, "DELETE", &path, None), deleted);
}

#[test]
fn list_messages() {
    let node = Node::start();
    let id = make(&node, &json!({ "pattern": "order:*", "description": "Order updates channel" }));
    let body = r#"{
        "channel": "order:123",
        "event": "order.created",
        "payload": { "orderId": "123", "status": "pending" }
    }"#;
    assert_eq!(call(&node, "POST", MESSAGES, Some(body)).0, 201);
    let path = format!("{MESSAGES}?channelId={id}&limit=50");
    let (status, shown) = call(&node, "GET", &path, None);
    // As printed, except for sender and audience: a backend published, and there was no subscriber.
    let printed = json!([{
        "id": "660e8400-e29b-41d4-a716-446655440000",
        "eventName": "order.created",
        "channelId": "550e8400-e29b-41d4-a716-446655440000",
        "channelName": "order:123",
        "payload": { "orderId": "123", "status": "pending" },
        "senderType": "system",
        "senderId": null,
        "wsAudienceCount": 0,
        "whAudienceCount": 0,
        "whDeliveredCount": 0,
        "createdAt": "2024-01-15T10:30:00Z",
    }]);
    assert_eq!((status, as_printed(shown, &printed)), (200, printed));
}

#[test]
fn get_message_statistics() {
    let node = Node::start();
    make(&node, &json!({ "pattern": "order:*", "description": "Order updates channel" }));
    let counts = [("order.created", 3), ("order.updated", 2), ("order.completed", 1)];
    for (event, count) in counts {
        for _ in 0..count {
            node.publish("order:1", event, &json!({}));
        }
    }
    let path = format!("{MESSAGES}/stats?since=2024-01-01T00:00:00Z");
    let (status, stats) = call(&node, "GET", &path, None);
    let events = counts.map(|(event, count)| json!({ "eventName": event, "count": count }));
    assert_eq!(status, 200);
    assert_eq!((&stats["totalMessages"], &stats["topEvents"]), (&json!(6), &json!(events)));
    assert!(stats["whDeliveryRate"].is_number(), "{stats}");
}

#[test]
fn error_responses() {
    let node = Node::start();
    let not_found =
        json!({ "error": "NOT_FOUND", "message": "Channel not found", "statusCode": 404 });
    for method in ["GET", "PUT", "DELETE"] {
        let body = (method == "PUT").then_some("{}");
        let path = format!("{CHANNELS}/{NO_SUCH_ID}");
        assert_eq!(call(&node, method, &path, body), (404, not_found.clone()), "{method}");
    }
    let invalid = |message: &str| {
        (400, json!({ "error": "INVALID_INPUT", "message": message, "statusCode": 400 }))
    };
    let table = [
        (r#"{"pattern":""}"#, "pattern: Channel pattern is required"),
        (r#"{"pattern":"a","webhookUrls":["nonsense"]}"#, "webhookUrls.0: Invalid url"),
    ];
    for (body, message) in table {
        assert_eq!(call(&node, "POST", CHANNELS, Some(body)), invalid(message));
    }
}
