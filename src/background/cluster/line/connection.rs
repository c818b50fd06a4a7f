//! One connection: reads, writes, and judges silence.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};

use super::super::protocol::{Info, Op, PING, PONG, Parser, Unsendable};
use super::dial::{Dialed, garbled, lost};
use super::fault::{Fault, Reason};
use super::stream::Stream;
use super::{Event, Place, Unsent};
use crate::limits::{
    NATS_BEHIND_BYTES, NATS_BEHIND_MS, NATS_FLUSH_BYTES, NATS_LAME_DUCK_MS, NATS_LINE_BYTES_MAX,
    NATS_PING_MS, NATS_PONG_MS, NATS_PONGS_BYTES_MAX, NATS_WRITE_BYTES_MAX,
};

const PING_EVERY: Duration = Duration::from_millis(NATS_PING_MS);
const PONG_WITHIN: Duration = Duration::from_millis(NATS_PONG_MS);
const BEHIND_FOR: Duration = Duration::from_millis(NATS_BEHIND_MS);
const LEAVE_AFTER: Duration = Duration::from_millis(NATS_LAME_DUCK_MS);

/// A connection that the server has accepted.
pub(super) struct Connection {
    stream: Stream,
    parser: Parser,
    info: Box<Info>,
    out: BytesMut,
    /// Bytes that the system, or TLS, has taken.
    handed: u64,
    /// Whether a command was refused since everything was written.
    refused: bool,
    /// The end that is decided, but not told yet.
    ended: Option<Fault>,
    /// The failure of a write. What the server sent before is still read: it may say why.
    unwritable: Option<Fault>,
    since: Instant,
    timer: Pin<Box<Sleep>>,
    ping: Ping,
    pace: Pace,
    /// Whether there is another server to go to.
    has_others: bool,
    /// Whether the server is about to shut down.
    is_lame: bool,
    leave_at: Option<Instant>,
}

/// What a connection does next.
pub(super) enum Step {
    Event(Event),
    End(Fault),
}

/// The last question for a sign of life.
enum Ping {
    Asked(Instant),
    Answered(Instant),
}

/// How far the owner is behind the server.
#[derive(Default)]
struct Pace {
    /// Bytes read since the socket was last found empty.
    unbroken: u64,
    /// When these were too many.
    behind_at: Option<Instant>,
}

impl Connection {
    pub(super) fn new(dialed: Dialed, has_others: bool) -> Self {
        let Dialed { stream, parser, info } = dialed;
        let now = Instant::now();
        Self {
            stream,
            parser,
            info,
            out: BytesMut::new(),
            handed: 0,
            refused: false,
            ended: None,
            unwritable: None,
            since: now,
            timer: Box::pin(sleep_until(now + PING_EVERY)),
            ping: Ping::Answered(now),
            pace: Pace::default(),
            has_others,
            is_lame: false,
            leave_at: None,
        }
    }

    /// Returns the bytes of headers and payload that the server takes.
    pub(super) fn max_payload(&self) -> u64 {
        self.info.max_payload
    }

    pub(super) fn waiting(&self) -> usize {
        self.out.len()
    }

    pub(super) fn handed(&self) -> Place {
        Place(self.handed)
    }

    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Ends the connection at the next poll.
    pub(super) fn end(&mut self, fault: Fault) {
        self.ended.get_or_insert(fault);
    }

    /// Appends a command whose variable parts have this many bytes.
    pub(super) fn command(
        &mut self,
        bytes: usize,
        write: impl FnOnce(&mut BytesMut) -> Result<(), Unsendable>,
    ) -> Result<Place, Unsent> {
        if self.out.len() + bytes + NATS_LINE_BYTES_MAX > NATS_WRITE_BYTES_MAX {
            self.refused = true;
            return Err(Unsent::Full);
        }
        let place = Place(self.handed + self.out.len() as u64);
        write(&mut self.out)?;
        Ok(place)
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        loop {
            if let Some(fault) = self.ended.take() {
                return Poll::Ready(Step::End(fault));
            }
            if self.out.len() >= NATS_FLUSH_BYTES {
                self.write(context);
            }
            match self.parser.parse() {
                Ok(Some(op)) => match self.take(op) {
                    Some(step) => return Poll::Ready(step),
                    None => continue,
                },
                Ok(None) => {}
                Err(error) => return Poll::Ready(Step::End(garbled(&error))),
            }
            // The end of a turn.
            self.write(context);
            if self.refused && self.out.is_empty() {
                self.refused = false;
                return Poll::Ready(Step::Event(Event::Drained));
            }
            match self.read(context) {
                Poll::Ready(Some(fault)) => return Poll::Ready(Step::End(fault)),
                Poll::Ready(None) => {}
                // The runtime wants other tasks to run: the socket may well have more.
                Poll::Pending if !coop::has_budget_remaining() => return Poll::Pending,
                Poll::Pending => {
                    let fault = ready!(self.empty(context));
                    return Poll::Ready(Step::End(fault));
                }
            }
        }
    }

    /// Writes the commands that wait in the buffer and ends the stream.
    pub(super) async fn close(mut self) -> io::Result<()> {
        self.stream.write_all(&self.out).await?;
        self.stream.shutdown().await
    }

    /// Writes as much as the server takes.
    fn write(&mut self, context: &mut Context<'_>) {
        if self.unwritable.is_some() {
            return;
        }
        while !self.out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.out) {
                Poll::Ready(Ok(written)) => {
                    self.out.advance(written);
                    self.handed += written as u64;
                }
                Poll::Ready(Err(error)) => {
                    self.unwritable = Some(lost(&error));
                    return;
                }
                Poll::Pending => return,
            }
        }
        if self.out.capacity() > NATS_FLUSH_BYTES {
            // A burst of commands leaves no memory behind.
            self.out = BytesMut::new();
        }
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_flush(context) {
            self.unwritable = Some(lost(&error));
        }
    }

    /// Reads once. Returns the fault if the stream has ended.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<Option<Fault>> {
        let reading = pin!(self.stream.read_buf(self.parser.space()));
        match ready!(reading.poll(context)) {
            Ok(0) => Poll::Ready(Some(self.closed("the server closed the connection"))),
            Ok(read) => {
                self.pace.unbroken += read as u64;
                if self.pace.unbroken >= NATS_BEHIND_BYTES {
                    self.pace.behind_at = Some(Instant::now());
                }
                Poll::Ready(None)
            }
            Err(error) => {
                let fault = lost(&error);
                Poll::Ready(Some(match fault.reason {
                    Reason::Closed => self.closed(&fault.text),
                    _ => fault,
                }))
            }
        }
    }

    /// Returns why a stream has ended without an error of the protocol.
    fn closed(&self, what: &str) -> Fault {
        if self.is_lame {
            return Fault::new(Reason::LameDuck, format!("the server shuts down; {what}"));
        }
        if self.pace.behind_at.is_some_and(|at| at.elapsed() < BEHIND_FOR) {
            let text = format!(
                "{what} without a word, and this node was behind: servers do so with a client that \
                 does not keep up"
            );
            return Fault::new(Reason::Slow, text);
        }
        Fault::new(Reason::Closed, format!("{what} without a word"))
    }

    /// Judges the silence of a server that has sent nothing more. Becomes ready with the end.
    fn empty(&mut self, context: &mut Context<'_>) -> Poll<Fault> {
        self.pace.unbroken = 0;
        if let Some(fault) = self.unwritable.take() {
            return Poll::Ready(fault);
        }
        loop {
            let now = Instant::now();
            if self.leave_at.is_some_and(|at| at <= now) {
                let text = "the server shuts down; the line goes to another";
                return Poll::Ready(Fault::new(Reason::LameDuck, text));
            }
            let due = match self.ping {
                Ping::Asked(at) if at + PONG_WITHIN <= now => {
                    let text = format!("the server did not answer a PING within {PONG_WITHIN:?}");
                    return Poll::Ready(Fault::new(Reason::Timeout, text));
                }
                Ping::Asked(at) => at + PONG_WITHIN,
                Ping::Answered(at) if at + PING_EVERY <= now => {
                    self.control(PING);
                    self.ping = Ping::Asked(now);
                    self.write(context);
                    continue;
                }
                Ping::Answered(at) => at + PING_EVERY,
            };
            let due = self.leave_at.map_or(due, |at| at.min(due));
            if self.timer.deadline() != due {
                self.timer.as_mut().reset(due);
            }
            ready!(self.timer.as_mut().poll(context));
        }
    }

    /// Takes an operation of the server. Most are for the owner.
    fn take(&mut self, op: Op) -> Option<Step> {
        let event = match op {
            Op::Message(message) => Event::Message(message),
            Op::Discarded { sid, bytes } => Event::Discarded { sid, bytes },
            Op::Err(error) => match Fault::of_server(&error) {
                Some(fault) => return Some(Step::End(fault)),
                None => Event::Denied(error),
            },
            Op::Info(info) => return self.learn(info).map(Step::Event),
            Op::Ping => {
                self.control(PONG);
                return None;
            }
            Op::Pong => {
                self.ping = Ping::Answered(Instant::now());
                return None;
            }
            Op::Ok => return None,
        };
        Some(Step::Event(event))
    }

    fn learn(&mut self, info: Box<Info>) -> Option<Event> {
        self.info = info;
        if !self.info.ldm || self.is_lame {
            return None;
        }
        self.is_lame = true;
        self.leave_at = self.has_others.then(|| Instant::now() + LEAVE_AFTER);
        Some(Event::LameDuck)
    }

    /// Appends a PING or PONG, which are not refused like commands.
    fn control(&mut self, bytes: &[u8]) {
        if self.out.len() + bytes.len() <= NATS_WRITE_BYTES_MAX + NATS_PONGS_BYTES_MAX {
            self.out.extend_from_slice(bytes);
        }
    }
}
