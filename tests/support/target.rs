//! A target of webhooks: a minimal HTTP server with a thread for each connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// How long an expected call may take: the last of five attempts comes after 22 s.
const PATIENCE: Duration = Duration::from_secs(40);

/// How a target answers a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reaction {
    Status(u16),
    /// Redirects the caller to this URL.
    Elsewhere(&'static str),
    /// Answers 200 after this time.
    Late(Duration),
    /// Answers 200 after [`Target::allow`].
    Held,
}

/// A call that the target has received.
#[derive(Debug)]
pub(crate) struct Call {
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// The server, which runs until the test's process ends.
pub(crate) struct Target {
    port: u16,
    calls: Receiver<Call>,
    connections: Arc<AtomicUsize>,
    allow: Sender<()>,
}

/// The state that all connections share.
struct Manner {
    react: Box<dyn Fn(usize) -> Reaction + Send + Sync>,
    came: AtomicUsize,
    allowed: Mutex<Receiver<()>>,
}

impl Target {
    /// Starts a server on a free port. `react` receives the number of earlier calls.
    pub(crate) fn start(react: impl Fn(usize) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
        let port = listener.local_addr().expect("it has one").port();
        let ((told, calls), (allow, allowed)) = (mpsc::channel(), mpsc::channel());
        let allowed = Mutex::new(allowed);
        let manner = Manner { react: Box::new(react), came: AtomicUsize::new(0), allowed };
        let (manner, connections) = (Arc::new(manner), Arc::<AtomicUsize>::default());
        let counted = connections.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                let (manner, told) = (manner.clone(), told.clone());
                thread::spawn(move || serve(&stream, &manner, &told));
            }
        });
        Self { port, calls, connections, allow }
    }

    /// Starts a server that reacts to every call in the same way.
    pub(crate) fn always(reaction: Reaction) -> Self {
        Self::start(move |_| reaction)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns a URL with a secret: the log may show only its host.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?key=hunter2", self.port)
    }

    /// Waits for the next call.
    pub(crate) fn next(&self) -> Call {
        self.calls.recv_timeout(PATIENCE).expect("a call comes")
    }

    /// Whether an unread call has arrived. Discards it.
    pub(crate) fn has_more(&self) -> bool {
        self.calls.try_recv().is_ok()
    }

    /// Returns the number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Lets one held call be answered.
    pub(crate) fn allow(&self) {
        self.allow.send(()).expect("it serves on");
    }
}

impl Call {
    /// Returns the value of a header that must occur exactly once.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let (_, value) = found.next().unwrap_or_else(|| panic!("no {name} in {self:?}"));
        assert!(found.next().is_none(), "{name} twice in {self:?}");
        value
    }

    /// Whether body and time are signed with this secret, and the time is less than a minute ago.
    pub(crate) fn is_signed(&self, secret: &str) -> bool {
        let signature = self.header("x-insforge-signature");
        let parts = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1="));
        let Some((time, hex)) = parts else { return false };
        let signed_at: u64 = time.parse().expect("the time is in seconds");
        let age = jsonwebtoken::get_current_timestamp().abs_diff(signed_at);
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length is fine");
        mac.update(&[time.as_bytes(), b".", &self.body].concat());
        let expected: String =
            mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        hex == expected && age < 60
    }
}

/// Returns a port on which no server listens.
pub(crate) fn unused_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
    listener.local_addr().expect("it has one").port()
}

fn serve(mut stream: &TcpStream, manner: &Manner, told: &Sender<Call>) {
    let mut reader = BufReader::new(stream);
    while let Some(call) = read(&mut reader) {
        let reaction = (manner.react)(manner.came.fetch_add(1, Ordering::SeqCst));
        // The receiver is gone once the test has ended.
        let _ = told.send(call);
        let (status, header) = match reaction {
            Reaction::Status(status) => (status, String::new()),
            Reaction::Elsewhere(url) => (302, format!("Location: {url}\r\n")),
            Reaction::Late(after) => {
                thread::sleep(after);
                (200, String::new())
            }
            Reaction::Held => {
                let allowed = manner.allowed.lock().expect("nobody panics while holding it").recv();
                match allowed {
                    Ok(()) => (200, String::new()),
                    // The test has ended.
                    Err(_) => return,
                }
            }
        };
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n{header}\r\n");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Reads a call; `None` at the end of the connection.
fn read(reader: &mut BufReader<&TcpStream>) -> Option<Call> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim_start().to_owned()));
    }
    let mut call = Call { headers, body: Vec::new() };
    call.body.resize(call.header("content-length").parse().expect("a length is a number"), 0);
    reader.read_exact(&mut call.body).ok()?;
    Some(call)
}
