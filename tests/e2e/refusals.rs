//! What clients and the operator learn of refused credentials, channels and messages.

use std::net::{Ipv4Addr, TcpStream};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::support::{ANON_KEY, API_KEY, Node, Response, an_hour_from_now, http, sign, wait_until};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
/// A message that is longer than any may be, without its beginning.
const TOO_LONG: usize = 1_000_001;

/// Returns a token that no key of the node has signed.
fn foreign() -> String {
    let good = sign(&json!({ "sub": "u", "exp": an_hour_from_now() }));
    let (message, signature) = good.rsplit_once('.').expect("a token has three parts");
    let turned: String = signature.chars().rev().collect();
    format!("{message}.{turned}")
}

/// Returns invalid tokens, each with the code and the text of what is wrong with it.
fn tokens() -> [(String, &'static str, &'static str); 7] {
    let later = an_hour_from_now();
    [
        (sign(&json!({ "sub": "u", "exp": 1 })), "TOKEN_EXPIRED", "the token has expired"),
        (
            sign(&json!({ "sub": "u", "nbf": later })),
            "TOKEN_NOT_YET_VALID",
            "the token is not valid yet",
        ),
        (
            foreign(),
            "TOKEN_SIGNATURE_INVALID",
            "the token is signed by no key that this node trusts",
        ),
        (
            sign(&json!({ "sub": "u", "aud": "realtime" })),
            "TOKEN_AUDIENCE_INVALID",
            "the token is for something else, as its aud says",
        ),
        ("x.y.z".into(), "TOKEN_MALFORMED", "the token is malformed"),
        (
            sign(&json!({ "exp": later })),
            "TOKEN_SUBJECT_INVALID",
            "the token's sub is missing, empty or neither a text nor a number",
        ),
        (
            sign(&json!({ "sub": "u", "type": "refresh", "exp": later })),
            "TOKEN_TYPE_INVALID",
            "the token is a refresh token, which only its issuer takes",
        ),
    ]
}

/// A Socket.IO client on long-polling.
struct Polling {
    port: u16,
    target: String,
}

impl Polling {
    fn open(node: &Node) -> Self {
        let port = node.port();
        let opened = http::request(port, "GET", POLLING, &[], b"");
        let opened: Value = serde_json::from_str(&opened.text()[1..]).expect("it opens");
        let sid = opened["sid"].as_str().expect("it has an id");
        Self { port, target: format!("{POLLING}&sid={sid}") }
    }

    fn post(&self, packets: &str) -> Response {
        http::request(self.port, "POST", &self.target, &[], packets.as_bytes())
    }

    /// Sends a packet and returns the answer, which begins with `start`.
    fn ask(&self, packet: &str, start: &str) -> Value {
        assert_eq!(self.post(packet).status, 200);
        let answer = http::request(self.port, "GET", &self.target, &[], b"");
        let json = answer.text().strip_prefix(start);
        let json = json.unwrap_or_else(|| panic!("not {start}: {}", answer.text()));
        serde_json::from_str(json).expect("it is JSON")
    }
}

#[test]
fn each_way_in_tells_what_is_wrong_with_a_token() {
    let node = Node::start();
    let get = |path: &str, headers: &[(&str, &str)]| node.request("GET", path, headers, b"");
    for (token, code, why) in tokens() {
        let told = Polling::open(&node).ask(&format!("40{}", json!({ "token": token })), "44");
        let message = match code {
            "TOKEN_SUBJECT_INVALID" => "Invalid token subject",
            _ => "Invalid token",
        };
        assert_eq!(told, json!({ "message": message, "data": { "code": code, "message": why } }));

        let bearer = format!("Bearer {token}");
        let bearer = [("authorization", bearer.as_str())];
        let challenge = format!(
            "Bearer realm=\"fanfare\", error=\"invalid_token\", error_description=\"{why}\""
        );
        let rest = get("/api/realtime/channels", &bearer);
        let body = rest.json();
        assert_eq!((rest.status, &body["message"]), (401, &json!("Invalid token")));
        assert_eq!(body["error"], "AUTH_UNAUTHORIZED");
        assert_eq!(rest.header("www-authenticate"), Some(&*challenge));
        let advice = body["nextActions"].as_str().expect("there is advice");
        assert!(advice.starts_with(&format!("Reason: {why}. ")), "{advice}");

        let stream = get(&format!("/api/realtime/events?channel=a&token={token}"), &[]);
        let text = match code {
            "TOKEN_SUBJECT_INVALID" => message.to_owned(),
            _ => format!("{message}: {why}"),
        };
        assert_eq!((stream.status, &stream.json()["message"]), (401, &json!(text)));
        assert_eq!(stream.header("www-authenticate"), Some(&*challenge));
    }
}

#[test]
fn the_other_interfaces_tell_it_in_their_shapes() {
    let node = Node::start();
    let scope = [("x-m2-organization", "o"), ("x-m2-project", "p")];
    let proxy = ("forge-proxy-authorization", "Forge as=app,id=i");
    for (token, code, why) in tokens() {
        let bearer = format!("Bearer {token}");
        let document = "/api/realtime/resources/liveConfig/a";
        let m2 =
            node.request("GET", document, &[scope[0], scope[1], ("authorization", &bearer)], b"");
        let forge = "/forge/realtime/v1/publish";
        let forge = node.request("POST", forge, &[proxy, ("authorization", &bearer)], b"{}");
        let detail = &forge.json()["errors"][0]["detail"];
        match code {
            // Both ask about the audience and M2 about its own claims before the dates and the user.
            "TOKEN_SUBJECT_INVALID" => assert_eq!(m2.status, 401),
            "TOKEN_EXPIRED"
            | "TOKEN_NOT_YET_VALID"
            | "TOKEN_AUDIENCE_INVALID"
            | "TOKEN_TYPE_INVALID" => {
                assert_eq!((m2.status, &m2.json()["message"]), (401, &json!(why)));
            }
            _ => {
                assert_eq!((m2.status, &m2.json()["message"]), (401, &json!(why)));
                assert_eq!((forge.status, detail), (401, &json!(why)), "{}", forge.text());
            }
        }
        assert_eq!(forge.header("forge-proxy-error"), Some("INVALID_CALLER_CREDENTIAL"));
    }
}

#[test]
fn a_channel_without_a_definition_is_told_apart_from_a_forbidden_one() {
    let node = Node::start();
    node.create_channel("open");
    let client = Polling::open(&node);
    client.ask(&format!("40{}", json!({ "token": ANON_KEY })), "40");
    let ask = |event: &str, channel: &str| {
        let argument = json!({ "channel": channel, "event": "e", "payload": {} });
        let [answer]: [Value; 1] =
            serde_json::from_value(client.ask(&format!("427{}", json!([event, argument])), "437"))
                .expect("an acknowledgement has one argument");
        (answer["error"]["code"].clone(), answer["error"]["message"].clone())
    };
    let unauthorized = json!("REALTIME_UNAUTHORIZED");
    let undefined = "Not authorized to subscribe to this channel: no enabled channel definition \
                     matches it";
    assert_eq!(ask("REALTIME_SUBSCRIBE", "nowhere"), (unauthorized.clone(), json!(undefined)));
    let permissions = json!({
        "subscribe": { "policies": [{ "policyName": "p", "roles": ["authenticated"], "using": "1" }] },
        "publish": { "policies": [] },
    });
    assert_eq!(node.admin("PUT", "/api/realtime/permissions", &permissions).0, 200);
    let forbidden = json!("Not authorized to subscribe to this channel");
    assert_eq!(ask("REALTIME_SUBSCRIBE", "open"), (unauthorized, forbidden));
    let expired = sign(&json!({ "sub": "u", "exp": 1 }));
    let newer =
        client.ask(&format!("428{}", json!(["REALTIME_AUTH", { "token": expired }])), "438");
    let message = "Invalid credential: the token has expired; the previous one stays in force";
    assert_eq!(newer[0]["error"], json!({ "code": "REALTIME_UNAUTHORIZED", "message": message }));
    let path = format!("/api/realtime/events?channel=nowhere&token={ANON_KEY}");
    let message = node.request("GET", &path, &[], b"").json()["message"].clone();
    let undefined = "Not authorized to subscribe to the channel \"nowhere\": no enabled channel \
                     definition matches it";
    assert_eq!(message, undefined);
    let says = |text: &str| node.output().contains(text);
    wait_until("the log says why", || {
        says("no enabled channel definition matches the channel") && says("the token has expired")
    });
}

#[test]
fn the_log_tells_reasons_apart_seldom_and_without_tokens() {
    let node = Node::with(|command| {
        command.args(["--workers", "1"]);
    });
    let tokens = tokens();
    for (token, _, _) in tokens.iter().cycle().take(600) {
        let bearer = format!("Bearer {token}");
        node.request("GET", "/api/realtime/channels", &[("authorization", &bearer)], b"");
    }
    for (_, _, why) in &tokens {
        wait_until(why, || node.output().contains(why));
    }
    let said = node.output();
    let lines = said.lines().filter(|line| line.contains("callers were refused")).count();
    assert!((6..60).contains(&lines), "{lines} lines:\n{said}");
    for (token, _, _) in &tokens {
        let (_, signature) = token.rsplit_once('.').expect("a token has parts");
        assert!(signature.len() < 2 || !said.contains(signature), "{said}");
    }
}

/// Opens a WebSocket with these headers.
fn open(node: &Node, path: &str, headers: &[(&'static str, &str)]) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, node.port())).expect("it accepts");
    crate::dial::dial(stream, path, headers.iter().copied(), std::time::Duration::from_secs(30))
        .expect("the node upgrades")
}

/// Returns the texts until the close frame, and its code.
fn last_words(websocket: &mut WebSocket<TcpStream>) -> (Vec<String>, u16) {
    let mut texts = Vec::new();
    loop {
        match websocket.read().expect("a close frame comes first") {
            Message::Text(text) => texts.push(text.to_string()),
            Message::Close(Some(close)) => return (texts, close.code.into()),
            Message::Ping(_) => {}
            other => panic!("unexpected: {other}"),
        }
    }
}

#[test]
fn a_message_that_is_too_long_is_answered_logged_and_counted() {
    let node = Node::start();
    node.create_channel("room");
    let socketio = "/socket.io/?EIO=4&transport=websocket";
    let error = json!({
        "code": "PAYLOAD_TOO_LARGE",
        "message": "The message is longer than 1000000 bytes; the connection is closed",
    });
    let long = "x".repeat(TOO_LONG);
    let refused = json!([{ "ok": false, "error": error }]);
    for (start, expected) in [
        ("4212[\"REALTIME_PUBLISH\",{\"channel\":\"room\"", format!("4312{refused}")),
        ("451-/,7[\"REALTIME_PUBLISH\",", format!("437{refused}")),
        ("42[\"REALTIME_PUBLISH\",", format!("42{}", json!(["realtime:error", error]))),
    ] {
        let mut websocket = open(&node, socketio, &[]);
        websocket.send(Message::text(format!("40{}", json!({ "token": ANON_KEY })))).expect("sent");
        for _ in 0..2 {
            websocket.read().expect("it opens and connects");
        }
        // The node closes before all of it is sent.
        let _ = websocket.send(Message::text(format!("{start}{long}")));
        let (texts, code) = last_words(&mut websocket);
        let [text] = texts.as_slice() else { panic!("one answer: {texts:?}") };
        let of = |text: &str| {
            let digits = text.find('[').expect("it has arguments");
            let json: Value = serde_json::from_str(&text[digits..]).expect("it is JSON");
            (text[..digits].to_owned(), json)
        };
        assert_eq!((of(text), code), (of(&expected), 1009));
    }
    let scope = [("x-m2-organization", "o"), ("x-m2-project", "p"), ("x-api-key", API_KEY)];
    let mut m2 = open(&node, "/api/realtime/", &scope);
    let _ = m2.send(Message::text(long.as_str()));
    assert_eq!(last_words(&mut m2), (vec![r#"{"error":"Message too long"}"#.to_owned()], 1009));
    let mut forge = open(&node, "/forge/realtime/v1/ws", &[]);
    let _ = forge.send(Message::text(long.as_str()));
    let (texts, code) = last_words(&mut forge);
    assert!(code == 1009 && texts[0].contains("PAYLOAD_TOO_LARGE"), "{texts:?}");

    let client = Polling::open(&node);
    let refused = client.post(&format!("42[\"REALTIME_PUBLISH\",\"{long}\"]"));
    assert_eq!((refused.status, &refused.json()["error"]), (413, &json!("PAYLOAD_TOO_LARGE")));
    assert_eq!(node.metric("fanfare_connections_closed_total{reason=\"message_too_long\"}"), 5);
    assert_eq!(node.metric("fanfare_refusals_total{reason=\"too_large\"}"), 6);
    let says = |text: &str| node.output().contains(text);
    wait_until("the log says it", || {
        says("a message is longer than allowed") && says("a request body is longer than allowed")
    });
}
