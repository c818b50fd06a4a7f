//! WebSocket on `/_test/echo`, in tables: what is sent, what must be heard, how it ends.
//!
//! A case carries the number that the Autobahn test suite gives the same behaviour. Where that
//! suite accepts more than one outcome, so do we only if the RFC leaves the choice open: text that
//! is not UTF-8 may be refused at its first bad octet or at the message's end (6.4), and a close
//! code that nobody defined may be refused or answered (7.13). A failed connection must say why
//! in a close frame; dropping it silently is not accepted.

mod closing;
mod framing;
mod limits;
mod text;

use std::time::{Duration, Instant};

use crate::frames::{BINARY, Frame, Heard, Peer, TEXT};
use crate::node;

const ECHO: &str = "/_test/echo";
/// How long the node may take to end the TCP connection after the closing handshake.
const GOODBYE: Duration = Duration::from_secs(10);

/// One connection's worth of behaviour.
struct Case {
    id: String,
    steps: Vec<Step>,
    end: End,
}

enum Step {
    /// In one write.
    Send(Vec<u8>),
    /// In writes of at most that many bytes.
    Chop(Vec<u8>, usize),
    /// This comes next.
    Hear(Heard),
    /// This may come next, or not at all.
    MayHear(Heard),
    /// Nothing comes for that long.
    Quiet(Duration),
    /// Whatever comes stays unread for that long.
    Wait(Duration),
}

enum End {
    /// We close with 1000, and the node answers in kind.
    Clean,
    /// The node fails the connection with this code.
    Fails(u16),
    /// Our close frame is among the steps; the node's carries one of these codes, where 1005
    /// stands for none (RFC 6455 section 7.1.5).
    Closed(&'static [u16]),
}

impl Case {
    fn new(id: impl Into<String>, steps: Vec<Step>, end: End) -> Self {
        Self { id: id.into(), steps, end }
    }

    /// Frames go out in one write, these things come back, and we part as friends.
    fn echo(id: impl Into<String>, sent: Vec<u8>, heard: Vec<Heard>) -> Self {
        let hear = heard.into_iter().map(Step::Hear);
        Self::new(id, [Step::Send(sent)].into_iter().chain(hear).collect(), End::Clean)
    }

    /// Frames go out in one write, these things come back, and the node fails the connection.
    fn fails(id: impl Into<String>, sent: Vec<u8>, heard: Vec<Heard>, code: u16) -> Self {
        Self { end: End::Fails(code), ..Self::echo(id, sent, heard) }
    }

    /// The same, octet by octet.
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
        // Heard while something optional was waited for, and not it.
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
            // A failed connection need not take the rest of what breaks it.
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

/// Plays every case, and fails with all that went wrong.
fn play(cases: impl IntoIterator<Item = Case>) {
    let mut wrong = Vec::new();
    for case in cases {
        // Shown only when the test fails: says which case a panic belongs to, and what it took.
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

/// Letters that depend on their place, so that octets lost or moved are seen.
fn letters(length: usize) -> String {
    (0..length).map(|at| char::from(b'a' + ((at + at / 1021) % 26) as u8)).collect()
}

/// Octets that depend on their place.
fn octets(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(31) ^ (at >> 8)) as u8).collect()
}

/// A message of that length, in letters for text and octets for binary, and its echo.
fn message(opcode: u8, length: usize) -> (Vec<u8>, Heard) {
    if opcode == BINARY {
        let payload = octets(length);
        (payload.clone(), Heard::Binary(payload))
    } else {
        let payload = letters(length);
        (payload.clone().into_bytes(), Heard::Text(payload))
    }
}
