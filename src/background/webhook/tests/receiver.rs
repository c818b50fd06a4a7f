//! A plain HTTP server with a thread for each connection, which keeps the requests that it
//! receives.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::PATIENCE;

/// A receiver's reaction to a request.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Answers with this status and no body.
    Status(u16),
    /// Answers with this status, one more header and no body.
    With(u16, &'static str),
    /// Sends this text as it stands.
    Raw(&'static str),
    /// Sends this text, and then more and more until it is cut off.
    Endless(&'static str),
    /// Answers 200 after this time.
    Late(Duration),
    HangUp,
    /// Keeps the connection open and sends nothing.
    Silence,
}

/// A request as it was received.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) line: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Returns the value of a header that is there once.
    pub(super) fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let (_, value) = found.next().unwrap_or_else(|| panic!("no {name} in {self:?}"));
        assert!(found.next().is_none(), "{name} twice in {self:?}");
        value
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(found, _)| found.eq_ignore_ascii_case(name))
    }
}

pub(super) struct Receiver {
    pub(super) port: u16,
    requests: mpsc::Receiver<Request>,
    connections: Arc<AtomicUsize>,
    /// A message for each connection that has ended.
    ended: mpsc::Receiver<()>,
}

impl Receiver {
    /// Starts a receiver on a port of its own. `answer` receives the number of requests before.
    pub(super) fn start(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, requests) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let (answer, before) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                let (told, end) = (told.clone(), end.clone());
                let (answer, before) = (answer.clone(), before.clone());
                thread::spawn(move || {
                    serve(&stream.unwrap(), &told, || {
                        answer(before.fetch_add(1, Ordering::SeqCst))
                    });
                    let _ = end.send(());
                });
            }
        });
        Self { port, requests, connections, ended }
    }

    /// Starts a receiver that gives the same answer to every request.
    pub(super) fn always(answer: Answer) -> Self {
        Self::start(move |_| answer.clone())
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook?key=hunter2", self.port)
    }

    /// Waits for the next request.
    pub(super) fn request(&self) -> Request {
        self.requests.recv_timeout(PATIENCE).expect("a request comes")
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until a connection has ended.
    pub(super) fn wait_for_end(&self) {
        self.ended.recv_timeout(PATIENCE).expect("a connection ends");
    }
}

/// Returns a port without a listener.
pub(super) fn unused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn serve(stream: &TcpStream, told: &mpsc::Sender<Request>, answer: impl Fn() -> Answer) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let answer = answer();
        let _ = told.send(request);
        let text = match answer {
            Answer::Status(status) => empty(status, ""),
            Answer::With(status, header) => empty(status, header),
            Answer::Raw(text) | Answer::Endless(text) => text.to_owned(),
            Answer::Late(after) => {
                thread::sleep(after);
                empty(200, "")
            }
            Answer::HangUp => return,
            Answer::Silence => String::new(),
        };
        if write(stream, text.as_bytes()).is_err() {
            return;
        }
        let part = [b'x'; 4_096];
        if matches!(answer, Answer::Endless(_)) {
            while write(stream, &part).is_ok() {}
            return;
        }
    }
}

fn empty(status: u16, header: &str) -> String {
    let end_of_header = if header.is_empty() { "" } else { "\r\n" };
    format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n{header}{end_of_header}\r\n")
}

fn write(mut stream: &TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes)
}

/// Reads a request; `None` at the end of the connection.
fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim_start().to_owned()));
    }
    let mut request = Request { line: line.trim_end().to_owned(), headers, body: Vec::new() };
    request.body.resize(request.header("content-length").parse().unwrap(), 0);
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}
