//! Certificates of clients: the API key and the tokens of administrators, writers and services
//! count only beside one.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

use crate::support::encrypted::{Authority, NAME, Pair};
use crate::support::{
    ANON_KEY, API_KEY, Node, an_hour_from_now, http, remove_settings, sign, wait_until,
};

const PATIENCE: Duration = Duration::from_secs(30);
const CHANNELS: &str = "/api/realtime/channels";
const MESSAGES: &str = "/api/realtime/messages";

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A node that asks its clients for certificates, and those who have some.
struct Guarded {
    node: Node,
    /// The authority of the node's own certificate.
    authority: Authority,
    /// That of the back ends.
    back_ends: Authority,
    own: Pair,
    directory: TempDir,
}

impl Guarded {
    fn start() -> Self {
        let (authority, back_ends) = (Authority::new(), Authority::new());
        let (pair, own) = (authority.pair("node", &[NAME]), back_ends.pair("back", &["back.test"]));
        let directory = tempfile::tempdir().expect("a directory of the test");
        let socket = format!(",unix:{}/node.sock", directory.path().display());
        let file = back_ends.file();
        let node = Node::listening("127.0.0.1", socket, move |command: &mut Command| {
            pair.configure(command);
            command.env("FANFARE_TLS_CLIENT_CA_FILE", &file);
        });
        Self { node, authority, back_ends, own, directory }
    }

    /// Returns what a back end connects with, or another client.
    fn client(&self, has_certificate: bool) -> Arc<ClientConfig> {
        match has_certificate {
            true => self.authority.client_with(&self.own),
            false => self.authority.client(),
        }
    }

    /// Sends a request on a connection of its own. Returns the status and the body.
    fn ask(&self, client: &Arc<ClientConfig>, head: &str, body: &Value) -> (u16, Value) {
        let answer = exchange(&mut connect(self.node.port(), client), head, body);
        answer.expect("it is answered")
    }

    fn ask_as(&self, has_certificate: bool, head: &str, body: &Value) -> (u16, Value) {
        self.ask(&self.client(has_certificate), head, body)
    }
}

fn connect(port: u16, client: &Arc<ClientConfig>) -> Stream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the node listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
    let name = ServerName::try_from(NAME).expect("it is a name");
    let session = ClientConnection::new(client.clone(), name).expect("the client is complete");
    StreamOwned::new(session, stream)
}

/// Sends a request with these lines in its head, after which the connection ends. A body that is a
/// text is sent as it is, and one that is no JSON is returned as a text.
fn exchange(stream: &mut Stream, head: &str, body: &Value) -> std::io::Result<(u16, Value)> {
    let body = match body {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        json => json.to_string(),
    };
    let (line, fields) = head.split_once('\n').unwrap_or((head, ""));
    let fields: String = fields.lines().map(|field| format!("{field}\r\n")).collect();
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\nContent-Length: {length}\r\n\
         {fields}\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
    Ok((status.expect("there is a status"), body))
}

/// Returns the heads and bodies of requests that a back end's credential is needed for, with the
/// statuses that it is answered with a certificate and without.
fn privileged() -> Vec<(String, Value, u16, u16)> {
    let key = format!("x-api-key: {API_KEY}");
    let bearer = |token: &str| format!("authorization: Bearer {token}");
    let admin = json!({ "sub": "ada", "role": "project_admin", "exp": an_hour_from_now() });
    let writer = json!({
        "aud": "m2-writer", "organization_id": "o", "organizationId": "o", "sub": "w",
        "exp": an_hour_from_now(),
    });
    let service =
        json!({ "aud": "realtime-service", "installationId": "i", "exp": an_hour_from_now() });
    let [admin, writer, service] = [admin, writer, service].map(|claims| bearer(&sign(&claims)));
    let message = json!({ "channel": "orders", "event": "tick", "payload": {} });
    let place = "x-m2-organization: o\nx-m2-project: p";
    let document = "/api/realtime/resources/collection/c";
    let proxy = "forge-proxy-authorization: Forge as=app,installationId=i";
    let publish = "/forge/realtime/v1/publish/global";
    let event = json!({ "name": "c", "payload": "p" });
    let written = json!({ "data": "{}" });
    vec![
        (format!("GET {CHANNELS}\n{key}"), Value::Null, 200, 403),
        (format!("GET {CHANNELS}\n{admin}"), Value::Null, 200, 403),
        (format!("POST {MESSAGES}\n{key}"), message.clone(), 201, 403),
        (format!("POST {MESSAGES}\n{}", bearer(API_KEY)), message, 201, 403),
        (format!("PUT {document}\n{key}\n{place}"), written.clone(), 200, 403),
        (format!("PUT {document}\n{writer}\n{place}"), written, 200, 403),
        (format!("GET {document}\n{key}\n{place}"), Value::Null, 200, 403),
        (format!("POST {publish}\n{key}\n{proxy}"), event.clone(), 200, 401),
        (format!("POST {publish}\n{admin}\n{proxy}"), event.clone(), 200, 401),
        (format!("POST {publish}\n{service}\n{proxy}"), event, 200, 401),
        (format!("PUT /admin/v1/invocations/a\n{key}"), json!({}), 400, 403),
    ]
}

#[test]
fn a_key_counts_only_beside_a_certificate() {
    let guarded = Guarded::start();
    let created = guarded.ask_as(
        true,
        &format!("POST {CHANNELS}\nx-api-key: {API_KEY}"),
        &json!({ "pattern": "orders" }),
    );
    assert_eq!(created.0, 201, "{}", created.1);
    for (head, body, with, without) in privileged() {
        let answer = guarded.ask_as(true, &head, &body);
        assert_eq!(answer.0, with, "{head} with a certificate: {}", answer.1);
        let answer = guarded.ask_as(false, &head, &body);
        assert_eq!(answer.0, without, "{head} without a certificate: {}", answer.1);
        assert!(answer.1.to_string().contains("certificate"), "{head}: {}", answer.1);
    }
    // Beside a key and never instead of one.
    for head in [format!("GET {CHANNELS}"), format!("GET {CHANNELS}\nx-api-key: ik_wrong")] {
        assert_eq!(guarded.ask_as(true, &head, &Value::Null).0, 401, "{head}");
    }
    // Others need no certificate.
    assert_eq!(guarded.ask_as(false, "GET /api/health", &Value::Null).0, 200);
    // A proxy on a unix socket may be that of clients on a network, and say nothing of them.
    let socket = guarded.directory.path().join("node.sock");
    let key = ("x-api-key", API_KEY);
    assert_eq!(http::request_unix(&socket, "GET", CHANNELS, &[key], b"").status, 403);
}

#[test]
fn programs_on_a_unix_socket_of_administration_need_no_certificate() {
    let authority = Authority::new();
    let (pair, file) = (authority.pair("node", &[NAME]), authority.file());
    let directory = tempfile::tempdir().expect("a directory of the test");
    let [public, admin] = ["public", "admin"].map(|name| directory.path().join(name));
    let place = format!("unix:{}", admin.display());
    let socket = format!(",unix:{}", public.display());
    let _node = Node::listening("127.0.0.1", socket, move |command: &mut Command| {
        pair.configure(command);
        command.env("FANFARE_TLS_CLIENT_CA_FILE", &file).env("FANFARE_ADMIN_LISTEN", &place);
        // What is trusted to name clients does not matter here.
        command.env("FANFARE_PROXY_TRUSTED", "unix");
    });
    let key = ("x-api-key", API_KEY);
    let message = json!({ "channel": "orders", "event": "tick", "payload": {} }).to_string();
    let ask = |socket, method: &str, path: &str, headers: &[_], body: &str| {
        http::request_unix(socket, method, path, headers, body.as_bytes()).status
    };
    assert_eq!(ask(&admin, "GET", CHANNELS, &[key], ""), 200);
    let forwarded = [key, ("x-forwarded-for", "192.0.2.1")];
    assert_eq!(ask(&admin, "GET", CHANNELS, &forwarded, ""), 403);
    assert_eq!(ask(&public, "POST", MESSAGES, &[key], &message), 403);
}

/// Upgrades an encrypted connection, with these headers.
fn upgrade(
    guarded: &Guarded,
    has_certificate: bool,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<WebSocket<Stream>, u16> {
    let mut request = format!("wss://{NAME}{path}").into_client_request().expect("the URL is one");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("the value is one"));
    }
    let stream = connect(guarded.node.port(), &guarded.client(has_certificate));
    match tungstenite::client(request, stream) {
        Ok((websocket, _)) => Ok(websocket),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
            Err(answer.status().as_u16())
        }
        Err(error) => panic!("{path}: {error}"),
    }
}

#[test]
fn a_key_on_a_socket_counts_only_beside_a_certificate() {
    let guarded = Guarded::start();
    let admin = sign(&json!({ "sub": "a", "role": "project_admin", "exp": an_hour_from_now() }));
    // Socket.IO.
    let path = "/socket.io/?EIO=4&transport=websocket";
    for (auth, needs_one) in [
        (json!({ "apiKey": API_KEY }), true),
        (json!({ "token": admin }), true),
        (json!({ "token": ANON_KEY }), false),
    ] {
        for has_certificate in [true, false] {
            let mut socket = upgrade(&guarded, has_certificate, path, &[]).expect("it opens");
            socket.send(Message::text(format!("40{auth}"))).expect("the node reads");
            let answer = loop {
                let text = socket.read().expect("the node answers").into_text().expect("a text");
                if text.starts_with('4') {
                    break text.to_string();
                }
            };
            let is_in = answer.starts_with("40{");
            assert_eq!(is_in, has_certificate || !needs_one, "{auth}: {answer}");
            assert!(is_in || answer.contains("CERTIFICATE_MISSING"), "{answer}");
        }
    }
    // Long-polling.
    for has_certificate in [true, false] {
        let path = "/socket.io/?EIO=4&transport=polling";
        let (_, opened) = guarded.ask_as(has_certificate, &format!("GET {path}"), &Value::Null);
        let open: Value = serde_json::from_str(&opened.as_str().expect("a packet")[1..]).unwrap();
        let path = format!("{path}&sid={}", open["sid"].as_str().expect("it is a text"));
        let auth = Value::String(format!("40{}", json!({ "apiKey": API_KEY })));
        // That these requests come with a certificate does not help a session that began without.
        assert_eq!(guarded.ask_as(true, &format!("POST {path}"), &auth).0, 200);
        let (_, answer) = guarded.ask_as(true, &format!("GET {path}"), &Value::Null);
        let answer = answer.as_str().expect("a packet").to_owned();
        assert_eq!(answer.starts_with("40{"), has_certificate, "{answer}");
        assert_eq!(answer.contains("CERTIFICATE_MISSING"), !has_certificate, "{answer}");
    }
    // M2.
    let place = [("x-m2-organization", "o"), ("x-m2-project", "p"), ("x-api-key", API_KEY)];
    assert!(upgrade(&guarded, true, "/api/realtime/", &place).is_ok());
    assert_eq!(upgrade(&guarded, false, "/api/realtime/", &place).err(), Some(403));
    // Streams.
    let stream = format!("GET /api/realtime/events?channel=a&token={admin}");
    let answer = guarded.ask_as(false, &stream, &Value::Null);
    assert_eq!((answer.0, &answer.1["error"]), (403, &json!("AUTH_CERTIFICATE_REQUIRED")));
}

#[test]
fn the_authorities_of_clients_are_read_again_and_a_wrong_certificate_ends_the_handshake() {
    let guarded = Guarded::start();
    let head = format!("GET {CHANNELS}\nx-api-key: {API_KEY}");
    let stranger = Authority::new();
    let strange = guarded.authority.client_with(&stranger.pair("strange", &["back.test"]));
    let try_strange = || {
        let mut stream = connect(guarded.node.port(), &strange);
        exchange(&mut stream, &head, &Value::Null).map(|(status, _)| status)
    };
    assert!(try_strange().is_err(), "no other authority counts");
    wait_until("the log says so", || guarded.node.output().contains("certificate is not valid"));
    let before = guarded.client(true);
    assert_eq!(guarded.ask(&before, &head, &Value::Null).0, 200);

    let file = guarded.back_ends.file();
    let good = std::fs::read(&file).expect("it is there");
    std::fs::write(&file, "nonsense").expect("it is written");
    guarded.node.signal(Signal::HUP);
    wait_until("the mistake is named", || guarded.node.output().contains("`tls.client_ca_file`"));
    assert_eq!(guarded.ask(&before, &head, &Value::Null).0, 200);

    std::fs::copy(stranger.file(), &file).expect("it is copied");
    guarded.node.signal(Signal::HUP);
    wait_until("the other authority counts", || try_strange().ok() == Some(200));
    let mut stream = connect(guarded.node.port(), &before);
    assert!(exchange(&mut stream, &head, &Value::Null).is_err(), "the one before counts no more");
    std::fs::write(&file, good).expect("it is written");
}

#[test]
fn authorities_of_clients_need_a_certificate_of_the_node() {
    let authority = Authority::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    remove_settings(&mut command);
    let output = command.arg("check").env("FANFARE_TLS_CLIENT_CA_FILE", authority.file()).output();
    let output = output.expect("it runs");
    let said = String::from_utf8(output.stderr).expect("it is text");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("`tls.client_ca_file` needs `tls.cert_file`"), "{said}");
}
