//! A webhook's target: an HTTP server of the plainest kind, with a thread for each connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// How long a call that must come may take: the last of five comes after 22 s.
const PATIENCE: Duration = Duration::from_secs(40);

/// What a target does about a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reaction {
    /// Answers with this status.
    Status(u16),
    /// Sends whoever calls elsewhere.
    Elsewhere(&'static str),
    /// Answers 200 after so long.
    Late(Duration),
    /// Answers 200 once it is allowed to.
    Held,
}

/// A call as it came.
#[derive(Debug)]
pub(crate) struct Call {
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// It serves for as long as the test's process does.
pub(crate) struct Target {
    port: u16,
    calls: Receiver<Call>,
    connections: Arc<AtomicUsize>,
    allow: Sender<()>,
}

/// What its connections share.
struct Manner {
    react: Box<dyn Fn(usize) -> Reaction + Send + Sync>,
    came: AtomicUsize,
    allowed: Mutex<Receiver<()>>,
}

impl Target {
    /// On a port of its own; `react` is given how many calls came before.
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

    /// The same reaction to every call.
    pub(crate) fn always(reaction: Reaction) -> Self {
        Self::start(move |_| reaction)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A URL of which the log may show no more than the host.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?key=hunter2", self.port)
    }

    /// The next call.
    pub(crate) fn next(&self) -> Call {
        self.calls.recv_timeout(PATIENCE).expect("a call comes")
    }

    /// Whether a call waits to be looked at.
    pub(crate) fn has_more(&self) -> bool {
        self.calls.try_recv().is_ok()
    }

    /// Connections that came so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Has a call answered that is held.
    pub(crate) fn allow(&self) {
        self.allow.send(()).expect("it serves on");
    }
}

impl Call {
    /// The value of a header that is there once.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let (_, value) = found.next().unwrap_or_else(|| panic!("no {name} in {self:?}"));
        assert!(found.next().is_none(), "{name} twice in {self:?}");
        value
    }

    /// Whether it was signed with this secret, body and time, and the time is now.
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

/// A port on which nobody listens.
pub(crate) fn unused_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
    listener.local_addr().expect("it has one").port()
}

fn serve(mut stream: &TcpStream, manner: &Manner, told: &Sender<Call>) {
    let mut reader = BufReader::new(stream);
    while let Some(call) = read(&mut reader) {
        let reaction = (manner.react)(manner.came.fetch_add(1, Ordering::SeqCst));
        // Once the test has ended nobody listens any more.
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

/// `None` at the end of the connection.
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
