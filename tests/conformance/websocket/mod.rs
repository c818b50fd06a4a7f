//! WebSocket on `/_test/echo`, as tables of what is sent, what must be received, and the end.
//!
//! A case has the number that the Autobahn test suite gives the same behaviour. If that suite
//! accepts several outcomes, these tests do so only if the RFC leaves the choice open: text that is
//! not UTF-8 may be refused at its first bad octet or at the end of the message (6.4), and an
//! undefined close code may be refused or answered (7.13). If the node fails a connection, it must
//! send a close frame with the reason; dropping the connection silently is not accepted.

mod closing;
mod deflate;
mod framing;
mod limits;
mod text;

use std::time::{Duration, Instant};

use crate::frames::{BINARY, Frame, Heard, Peer, TEXT};
use crate::node;

const ECHO: &str = "/_test/echo";
/// How long the node may take to end the TCP connection after the closing handshake.
const GOODBYE: Duration = Duration::from_secs(10);

/// The behaviour that is expected on one connection.
struct Case {
    id: String,
    steps: Vec<Step>,
    end: End,
}

enum Step {
    /// Sends in one write.
    Send(Vec<u8>),
    /// Sends in writes of at most this many bytes.
    Chop(Vec<u8>, usize),
    /// Expects this as the next message or end.
    Hear(Heard),
    /// Accepts this next, but does not require it.
    MayHear(Heard),
    /// Expects nothing for this time.
    Quiet(Duration),
    /// Waits for this time without reading.
    Wait(Duration),
}

enum End {
    /// The client closes with 1000, and the node answers with the same code.
    Clean,
    /// The node fails the connection with this code.
    Fails(u16),
    /// The client's close frame is among the steps. The node's has one of these codes, where 1005
    /// means none (RFC 6455 section 7.1.5).
    Closed(&'static [u16]),
}

impl Case {
    fn new(id: impl Into<String>, steps: Vec<Step>, end: End) -> Self {
        Self { id: id.into(), steps, end }
    }

    /// Sends frames in one write, expects these messages, and then closes cleanly.
    fn echo(id: impl Into<String>, sent: Vec<u8>, heard: Vec<Heard>) -> Self {
        let hear = heard.into_iter().map(Step::Hear);
        Self::new(id, [Step::Send(sent)].into_iter().chain(hear).collect(), End::Clean)
    }

    /// Sends frames in one write, expects these messages, and then that the node fails the
    /// connection.
    fn fails(id: impl Into<String>, sent: Vec<u8>, heard: Vec<Heard>, code: u16) -> Self {
        Self { end: End::Fails(code), ..Self::echo(id, sent, heard) }
    }

    /// Returns the same case with writes of one octet.
    fn octetwise(self) -> Self {
        self.chopped(1)
    }

    fn chopped(mut self, chop: usize) -> Self {
        for step in &mut self.steps {
            if let Step::Send(bytes) = step {
                *step = Step::Chop(std::mem::take(bytes), chop);
            }
        }
        self
    }

    fn play(&self) -> Result<(), String> {
        let mut peer = Peer::open(node::brisk(), ECHO);
        // A message that arrived in place of an optional one.
        let mut ahead = None;
        for step in &self.steps {
            self.step(&mut peer, step, &mut ahead)?;
        }
        if let End::Clean = self.end {
            peer.send(&Frame::close(1000, ""));
        }
        let closing = ahead.unwrap_or_else(|| peer.hear());
        let Heard::Close(code, _) = closing else {
            return Err(format!("a close frame expected, heard {closing:?}"));
        };
        let code = code.unwrap_or(1005);
        let accepted = match &self.end {
            End::Clean => &[1000],
            End::Fails(code) => std::slice::from_ref(code),
            End::Closed(codes) => *codes,
        };
        if !accepted.contains(&code) {
            return Err(format!("close code {accepted:?} expected, got {code}"));
        }
        if let End::Fails(_) = self.end {
            peer.send(&Frame::close(code, ""));
        }
        if peer.tcp.ends_within(GOODBYE) { Ok(()) } else { Err("TCP was not ended".into()) }
    }

    fn step(&self, peer: &mut Peer, step: &Step, ahead: &mut Option<Heard>) -> Result<(), String> {
        match step {
            // If the node fails the connection, it need not read the rest.
            Step::Send(bytes) => drop(peer.tcp.send(bytes)),
            Step::Chop(bytes, chop) => drop(peer.tcp.send_chopped(bytes, *chop)),
            Step::Hear(expected) => {
                let heard = ahead.take().unwrap_or_else(|| peer.hear());
                if heard != *expected {
                    return Err(format!("{expected:?} expected, heard {heard:?}"));
                }
            }
            Step::MayHear(expected) => {
                let heard = ahead.take().unwrap_or_else(|| peer.hear());
                *ahead = Some(heard).filter(|heard| heard != expected);
            }
            Step::Quiet(wait) => {
                let heard = peer.hear_within(*wait);
                if heard != Heard::Nothing {
                    return Err(format!("nothing expected, heard {heard:?}"));
                }
            }
            Step::Wait(wait) => std::thread::sleep(*wait),
        }
        Ok(())
    }
}

/// Runs all cases, and fails with a list of those that went wrong.
fn play(cases: impl IntoIterator<Item = Case>) {
    let mut wrong = Vec::new();
    for case in cases {
        // Shown only if the test fails: names the case of a panic, and the times.
        let start = Instant::now();
        print!("case {}", case.id);
        if let Err(reason) = case.play() {
            wrong.push(format!("{}: {reason}", case.id));
        }
        println!(" took {:?}", start.elapsed());
    }
    assert!(wrong.is_empty(), "cases that went wrong:\n{}", wrong.join("\n"));
}

fn text(payload: &str) -> Vec<u8> {
    Frame::new(TEXT, payload).bytes()
}

/// Returns letters that depend on their position, so that lost or moved octets are noticed.
fn letters(length: usize) -> String {
    (0..length).map(|at| char::from(b'a' + ((at + at / 1021) % 26) as u8)).collect()
}

/// Returns octets that depend on their position.
fn octets(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(31) ^ (at >> 8)) as u8).collect()
}

/// Returns a message of this length, letters for text and octets for binary, and its echo.
fn message(opcode: u8, length: usize) -> (Vec<u8>, Heard) {
    if opcode == BINARY {
        let payload = octets(length);
        (payload.clone(), Heard::Binary(payload))
    } else {
        let payload = letters(length);
        (payload.clone().into_bytes(), Heard::Text(payload))
    }
}
