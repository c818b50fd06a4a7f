//! nginx, HAProxy and Caddy in front of nodes, with the documented configurations and clients of
//! every interface: the proxy decrypts, at the root and below a path, or the node does.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tempfile::TempDir;

use super::announced::{clients, connect_from};
use super::documented::{Folder, Server, documented};
use crate::cases::LIMIT;
use crate::support::encrypted::{Authority, NAME};
use crate::support::nats::free_port;
use crate::support::script::Script;
use crate::support::{Node, wait_until};
use crate::tcp;

/// What stands for the documented time-outs, which are longer than the time between two pings, and
/// how long clients are idle.
const TIMEOUT: (&str, &str) = ("60s", "8s");
const PING_INTERVAL_MS: &str = "1000";
const IDLE_MS: &str = "10000";
/// The address of a client.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Nodes for a proxy that decrypts and for one that does not, and the proxy's ports.
struct Ends {
    authority: Authority,
    folder: Folder,
    decrypted: Node,
    encrypted: Node,
    socket: PathBuf,
    /// For requests, and for bytes.
    ports: [u16; 2],
    _place: TempDir,
}

fn configure(command: &mut Command) {
    command.env("FANFARE_PROXY_TRUSTED", "127.0.0.1").env("FANFARE_FORGE_TRUST_NETWORK", "false");
    command.env("FANFARE_ENGINE_IO_PING_INTERVAL_MS", PING_INTERVAL_MS);
    command.env("FANFARE_LOG", "debug");
}

impl Ends {
    fn new() -> Self {
        let authority = Authority::new();
        let [of_proxy, of_node] = ["proxy", "node"].map(|file| authority.pair(file, &[NAME]));
        let place = tempfile::tempdir().expect("a directory of the test");
        let socket = place.path().join("node.sock");
        let also = format!(",unix:{}", socket.display());
        let encrypted = Node::listening("127.0.0.1", also, move |command| {
            configure(command);
            of_node.configure(command);
            command.env("FANFARE_PROXY_PROTOCOL", "true");
        });
        Self {
            folder: Folder::with(&of_proxy),
            authority,
            decrypted: Node::with(configure),
            encrypted,
            socket,
            ports: [free_port(), free_port()],
            _place: place,
        }
    }

    /// Returns a documented block, with these replacements and those that all need.
    fn documented(&self, section: &str, block: usize, more: &[(&str, &str)]) -> String {
        let is_of_bytes = block > 0;
        let node = if is_of_bytes { &self.encrypted } else { &self.decrypted };
        let node = format!("127.0.0.1:{}", node.port());
        documented(section, block, &[more, &[("127.0.0.1:7130", &node)]].concat())
    }

    /// Starts a proxy with this configuration, and checks it.
    fn run(self, program: &str, config: &str, arguments: &[&str], passes_bytes: bool) {
        let file = self.folder.write("configuration", config);
        let mut command = Command::new(program);
        command.args(arguments).arg(file);
        let ports = if passes_bytes { &self.ports[..] } else { &self.ports[..1] };
        let _server = Server::start(command, &self.folder, ports);
        check_encrypted(self.ports[0]);
        self.check(passes_bytes);
    }

    /// Runs all clients at the proxy's ports, and checks that the nodes know their addresses and
    /// that nothing is left of them.
    fn check(&self, passes_bytes: bool) {
        let [requests, bytes] = self.ports;
        let url = |port: u16, path: &str| format!("https://{NAME}:{port}{path}");
        let mut urls = vec![url(requests, ""), url(requests, "/realtime")];
        urls.extend(passes_bytes.then(|| url(bytes, "")));
        let trust = self.authority.trust();
        let trust = trust.iter().map(|(name, value)| (*name, value.as_str()));
        let envs: Vec<_> = trust.chain([("FANFARE_IDLE_MS", IDLE_MS)]).collect();
        let scripts: Vec<_> =
            urls.iter().map(|url| Script::spawn(url, "proxied.mjs", &[], &envs)).collect();
        let case = ["a_client_subscribes_publishes_and_receives"];
        for url in [&urls[0], urls.last().expect("there are some")] {
            Script::spawn(url, "python_client.py", &case, &envs).succeed(LIMIT);
        }
        for script in scripts {
            script.succeed(LIMIT);
        }
        self.check_address(&self.decrypted, requests);
        wait_until("no session is left", || self.decrypted.metric("fanfare_connections") == 0);
        if passes_bytes {
            self.check_address(&self.encrypted, bytes);
            wait_until("no session is left", || {
                let metrics = self.metrics_of_encrypted();
                let mut sessions =
                    metrics.lines().filter(|line| line.starts_with("fanfare_connections{"));
                sessions.all(|line| line.ends_with(" 0"))
            });
            let metrics = self.metrics_of_encrypted();
            let refused = metrics.lines().find(|line| line.contains("reason=\"proxy_header\""));
            assert!(refused.is_some_and(|line| line.ends_with(" 0")), "{refused:?}");
        }
    }

    /// Checks that the node knows a client's address whatever the client claims.
    fn check_address(&self, node: &Node, port: u16) {
        let before = clients(node, "127.0.0.3");
        let name = ServerName::try_from(NAME).expect("it is a name");
        let session = ClientConnection::new(self.authority.client(), name);
        let session = session.expect("it is complete");
        let mut tls = StreamOwned::new(session, connect_from(CLIENT, port));
        let claims = "X-Forwarded-For: 198.51.100.1\r\nForwarded: for=198.51.100.2\r\n\
                      X-Real-IP: 198.51.100.3\r\n";
        let line = "GET /api/realtime/channels HTTP/1.1\r\nConnection: close";
        let request = format!("{line}\r\nHost: {NAME}\r\n{claims}\r\n");
        tls.write_all(request.as_bytes()).expect("it is read");
        let mut answer = Vec::new();
        // Some proxies close without an alert.
        let _ = tls.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        wait_until("the log names the client", || clients(node, "127.0.0.3") == before + 1);
        assert!(!node.output().contains("198.51.100"));
    }

    /// Returns the metrics of the node that decrypts, over its unix socket.
    fn metrics_of_encrypted(&self) -> String {
        let mut stream = UnixStream::connect(&self.socket).expect("it listens");
        stream.set_read_timeout(Some(tcp::PATIENCE)).expect("the kernel does it");
        let request = tcp::request(&["GET /metrics HTTP/1.1", "Connection: close"], "");
        stream.write_all(&request).expect("it is read");
        let mut metrics = String::new();
        stream.read_to_string(&mut metrics).expect("the node answers");
        assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
        metrics
    }
}

/// Checks that a port of a proxy is closed for what is not TLS.
fn check_encrypted(port: u16) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    stream.set_read_timeout(Some(tcp::PATIENCE)).expect("the kernel does it");
    stream.write_all(&tcp::request(&["GET /api/health HTTP/1.1"], "")).expect("it is read");
    let mut answer = [0; 12];
    let length = stream.read(&mut answer).unwrap_or(0);
    assert!(!answer[..length].ends_with(b" 200"), "{}", answer[..length].escape_ascii());
}

#[test]
fn nginx_serves_clients_of_every_interface() {
    const SECTION: &str = "Behind nginx";
    let ends = Ends::new();
    let [requests, bytes] = ends.ports.map(|port| format!("listen 127.0.0.1:{port}"));
    let http = ends.documented(
        SECTION,
        0,
        &[
            ("listen 443", &requests),
            ("realtime.example.com", NAME),
            ("/etc/ssl/realtime", &ends.folder.path()),
            TIMEOUT,
        ],
    );
    let stream = ends.documented(SECTION, 1, &[("listen 443", &bytes), TIMEOUT]);
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders = kinds.map(|kind| format!("{kind}_temp_path {kind};\n")).concat();
    let config = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{folders}{http}\n}}\n{stream}\n"
    );
    ends.run("nginx", &config, &["-e", "stderr", "-p", ".", "-c"], true);
}

#[test]
fn haproxy_serves_clients_of_every_interface() {
    const SECTION: &str = "Behind HAProxy";
    let ends = Ends::new();
    let [requests, bytes] = ends.ports.map(|port| format!("bind 127.0.0.1:{port}"));
    let http = ends.documented(
        SECTION,
        0,
        &[("bind :443", &requests), ("/etc/ssl/realtime", &ends.folder.path()), TIMEOUT],
    );
    let tcp = ends.documented(SECTION, 1, &[("bind :443", &bytes)]);
    ends.run("haproxy", &format!("{http}\n{tcp}\n"), &["-db", "-f"], true);
}

#[test]
fn caddy_serves_clients_of_every_interface() {
    let ends = Ends::new();
    let (port, folder) = (ends.ports[0], ends.folder.path());
    let site = format!(
        "https://{NAME}:{port} {{\n\tbind 127.0.0.1\n\ttls {folder}/fullchain.pem \
         {folder}/privkey.pem"
    );
    let replacements = [("realtime.example.com {", site.as_str()), TIMEOUT];
    let sites = ends.documented("Behind Caddy", 0, &replacements);
    let config = format!("{{\n\tadmin off\n\tauto_https off\n}}\n{sites}\n");
    ends.run("caddy", &config, &["run", "--adapter", "caddyfile", "--config"], false);
}
