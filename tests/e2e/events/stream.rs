//! A client of Server-Sent Events that shares no code with the node: it reads the lines of a
//! response and keeps the last `id:`, as the standard says.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Node;

const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const PATH: &str = "/api/realtime/events";

/// An event as a client dispatches it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: Value,
    /// The last `id:` that the client has received, this event's included.
    pub(crate) id: String,
}

/// A stream that the node has answered: status and headers, then events as they are read.
pub(crate) struct Stream {
    reader: BufReader<TcpStream>,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) last_id: String,
    pub(crate) comments: usize,
}

impl Stream {
    /// Asks for channels with a bearer token, and reads the head of the answer.
    pub(crate) fn open(node: &Node, channels: &[&str], token: &str) -> Self {
        Self::resume(node, channels, token, "")
    }

    /// Asks for channels behind the last event that the client has received, unless that is empty.
    pub(crate) fn resume(node: &Node, channels: &[&str], token: &str, last_id: &str) -> Self {
        Self::try_resume(node.port(), channels, token, last_id).expect("the node answers")
    }

    /// The same, but `None` if nobody answers.
    pub(crate) fn try_resume(
        port: u16,
        channels: &[&str],
        token: &str,
        last_id: &str,
    ) -> Option<Self> {
        let query: Vec<_> = channels.iter().map(|channel| format!("channel={channel}")).collect();
        let mut head = format!(
            "GET {PATH}?{} HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer {token}\r\n",
            query.join("&")
        );
        if !last_id.is_empty() {
            head.push_str(&format!("Last-Event-ID: {last_id}\r\n"));
        }
        Self::try_ask(port, &(head + "\r\n"), last_id)
    }

    /// Sends the head of a request, and reads that of the answer.
    pub(crate) fn ask(port: u16, head: impl AsRef<[u8]>, last_id: &str) -> Self {
        Self::try_ask(port, head, last_id).expect("the node answers")
    }

    /// The same, but `None` if nobody answers.
    fn try_ask(port: u16, head: impl AsRef<[u8]>, last_id: &str) -> Option<Self> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        socket.write_all(head.as_ref()).ok()?;
        let mut reader = BufReader::new(socket);
        let status_line = line(&mut reader)?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut headers = Vec::new();
        loop {
            let header = line(&mut reader)?;
            let Some((name, value)) = header.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let status = status.unwrap_or_else(|| panic!("no status in {status_line:?}"));
        Some(Self { reader, status, headers, last_id: last_id.to_owned(), comments: 0 })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    /// Returns the next event; `None` if the stream has ended. Panics if only comments come.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let (mut name, mut data) = (String::new(), Vec::new());
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "the stream has no event for {PATIENCE:?}");
            let line = line(&mut self.reader)?;
            match line.split_once(": ").unwrap_or((&line, "")) {
                ("", _) if data.is_empty() => name.clear(),
                ("", _) => {
                    let data: String = data.join("\n");
                    let data = serde_json::from_str(&data).expect("data is JSON");
                    return Some(Event { name, data, id: self.last_id.clone() });
                }
                ("event", value) => name = value.to_owned(),
                ("data", value) => data.push(value.to_owned()),
                ("id", value) => self.last_id = value.to_owned(),
                (":", _) => self.comments += 1,
                ("retry", _) => {}
                (field, _) => panic!("unknown field {field:?}"),
            }
        }
    }

    /// Returns the next event. Panics if the stream ends.
    pub(crate) fn hear(&mut self) -> Event {
        self.next().expect("the stream goes on")
    }

    /// Reads until all subscriptions have begun, and returns the events on the way.
    pub(crate) fn begin(&mut self, channels: usize) -> Vec<Event> {
        assert_eq!(self.status, 200);
        let mut heard = Vec::new();
        let mut begun = 0;
        while begun < channels {
            let event = self.hear();
            begun += usize::from(event.name == "realtime:subscribed");
            heard.push(event);
        }
        heard
    }

    /// Reads a block without an event, which says only how far the client has come.
    pub(crate) fn read_place(&mut self) {
        let before = self.last_id.clone();
        while self.last_id == before {
            let line = line(&mut self.reader).expect("the stream goes on");
            if let Some(id) = line.strip_prefix("id: ") {
                id.clone_into(&mut self.last_id);
            }
        }
        assert_eq!(line(&mut self.reader).as_deref(), Some(""), "the block has no event");
    }

    /// Reads the rest of an answer that is not a stream, as JSON.
    pub(crate) fn refusal(mut self) -> (u16, Value) {
        let mut body = String::new();
        std::io::Read::read_to_string(&mut self.reader, &mut body).expect("the answer ends");
        (self.status, serde_json::from_str(&body).expect("refusals are JSON"))
    }

    /// Cuts the connection. Returns the last `id:` that the client has received.
    pub(crate) fn cut(self) -> String {
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
        self.last_id
    }
}

/// Returns a line without its end; `None` at the end of the stream, or where it was cut.
fn line(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    match reader.read_line(&mut line) {
        Ok(0) => None,
        Ok(_) => Some(line.trim_end_matches(['\n', '\r']).to_owned()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
        Err(error) => panic!("the stream broke: {error}"),
    }
}
