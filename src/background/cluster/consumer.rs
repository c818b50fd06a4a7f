//! An ordered consumer of a stream, over a connection of its own.
//!
//! It numbers what it delivers. If a number is missing, if it falls silent, or if the connection
//! was made anew, it is left and another begins.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::line::{self, Line};
use super::protocol::{Message, Publish, Sid};
use crate::cluster::name::Seq;
use crate::limits::{CLUSTER_MIRROR_BEAT_MS, CLUSTER_MIRROR_RETRY_MS, CLUSTER_MIRROR_SILENCE_MS};
use crate::metrics::LogThrottle;

const SILENCE: Duration = Duration::from_millis(CLUSTER_MIRROR_SILENCE_MS);
const RETRY: Duration = Duration::from_millis(CLUSTER_MIRROR_RETRY_MS);
/// The subscription for the answer to the request for a consumer.
const ANSWERS: Sid = 1;

/// What a consumer delivers to.
pub(super) trait Sink: Send + 'static {
    /// What the stream holds, for the log.
    const WHAT: &str;

    /// Returns the name of the stream.
    fn stream(&self) -> String;

    /// Notes that a consumer begins. Returns the place of the first message that it delivers;
    /// `Ok(None)` if that cannot be said now.
    ///
    /// # Errors
    /// If nothing takes messages any more.
    fn begin(&mut self) -> impl Future<Output = Result<Option<Seq>, Gone>> + Send;

    /// Takes a message of the stream. `is_last` says that the stream had no message behind it when
    /// it was delivered.
    ///
    /// # Errors
    /// If nothing takes messages any more.
    fn take(
        &mut self,
        message: &Message,
        seq: Seq,
        is_last: bool,
    ) -> impl Future<Output = Result<(), Gone>> + Send;
}

/// The other end is gone, which is so only at the end of the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone;

/// The task of a consumer.
pub(super) struct Consumer<S> {
    line: Line,
    sink: S,
    /// A request to begin again.
    again: mpsc::Receiver<()>,
    /// The number of the present consumer, which its subscription has, too.
    consumer: Sid,
    /// The number of the consumer's last message.
    delivered: u64,
    state: State,
    failures: LogThrottle,
}

#[derive(Clone, Copy)]
enum State {
    /// There is no connection.
    Down,
    /// A consumer is asked for, or runs. It is given up at this time, unless it says something.
    Running(Instant),
    /// The next consumer is asked for at this time.
    Waiting(Instant),
}

impl<S: Sink> Consumer<S> {
    /// Runs until the sink or the other end of `again` is gone.
    pub(super) async fn run(settings: line::Settings, sink: S, again: mpsc::Receiver<()>) {
        let mut consumer = Self {
            line: Line::new(settings),
            sink,
            again,
            consumer: ANSWERS,
            delivered: 0,
            state: State::Down,
            failures: LogThrottle::default(),
        };
        while consumer.step().await.is_ok() {}
    }

    async fn step(&mut self) -> Result<(), Gone> {
        let due = match self.state {
            State::Down => None,
            State::Running(at) | State::Waiting(at) => Some(at),
        };
        let sleeping = sleep_until(due.unwrap_or_else(Instant::now));
        tokio::select! {
            event = self.line.next() => match event {
                line::Event::Up(_) => return self.begin().await,
                line::Event::Down(_) => self.state = State::Down,
                line::Event::Message(message) => return self.take(&message).await,
                line::Event::Discarded { .. } => self.fail("sends a message that is too long"),
                line::Event::Denied(text) => self.fail(&format!("is refused: {text}")),
                _ => {}
            },
            () = sleeping, if due.is_some() => match self.state {
                State::Waiting(_) => return self.begin().await,
                _ => self.fail("is silent"),
            },
            asked = self.again.recv() => {
                asked.ok_or(Gone)?;
                if !matches!(self.state, State::Down) {
                    return self.begin().await;
                }
            }
        }
        Ok(())
    }

    /// Asks for a consumer that delivers everything from the sink's place on.
    async fn begin(&mut self) -> Result<(), Gone> {
        let Some(first) = self.sink.begin().await? else {
            self.state = State::Waiting(Instant::now() + RETRY);
            return Ok(());
        };
        self.consumer += 1;
        self.delivered = 0;
        self.state = State::Running(Instant::now() + SILENCE);
        let inbox = format!("_INBOX.{:032x}", rand::random::<u128>());
        let stream = self.sink.stream();
        let ask = json!({
            "stream_name": stream,
            "config": {
                "deliver_subject": format!("{inbox}.m"),
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": first,
                "ack_policy": "none",
                "max_deliver": 1,
                "flow_control": true,
                "idle_heartbeat": CLUSTER_MIRROR_BEAT_MS * 1_000_000,
                "mem_storage": true,
                "num_replicas": 1,
            },
        });
        let (subject, answers) =
            (format!("$JS.API.CONSUMER.CREATE.{stream}"), format!("{inbox}.a"));
        let ask = ask.to_string();
        let request = Publish {
            subject: &subject,
            reply: Some(&answers),
            headers: &[],
            payload: &[ask.as_bytes()],
        };
        let last = self.consumer - 1;
        let sent = [
            if last > ANSWERS { self.line.unsubscribe(last).map(drop) } else { Ok(()) },
            self.line.unsubscribe(ANSWERS).map(drop),
            self.line.subscribe(&answers, ANSWERS).map(drop),
            self.line.subscribe(&format!("{inbox}.m"), self.consumer).map(drop),
            self.line.publish(&request).map(drop),
        ];
        if sent.iter().any(Result::is_err) {
            self.fail("cannot be asked for");
        }
        Ok(())
    }

    fn fail(&mut self, how: &str) {
        if let Some(count) = self.failures.add(1) {
            let what = S::WHAT;
            tracing::warn!(count, "the consumer of the cluster's {what} {how}; another begins");
        }
        if !matches!(self.state, State::Down) {
            self.state = State::Waiting(Instant::now() + RETRY);
        }
    }

    async fn take(&mut self, message: &Message) -> Result<(), Gone> {
        if message.sid == ANSWERS {
            let answer: Value = serde_json::from_slice(&message.payload()).unwrap_or_default();
            if message.status().is_some() || !answer["error"].is_null() {
                let text = answer["error"]["description"].as_str().unwrap_or("no answer");
                self.fail(&format!("is refused: {text}"));
            }
            return Ok(());
        }
        if message.sid != self.consumer || !matches!(self.state, State::Running(_)) {
            return Ok(());
        }
        self.state = State::Running(Instant::now() + SILENCE);
        match message.status() {
            Some(100) => self.control(message),
            Some(_) => self.fail("has ended"),
            None => return self.deliver(message).await,
        }
        Ok(())
    }

    /// Answers a sign of life, which says how many messages the consumer has delivered, or a
    /// question whether the node keeps up.
    fn control(&mut self, message: &Message) {
        let delivered = message.header("Nats-Last-Consumer").and_then(number);
        if delivered.is_some_and(|delivered| delivered != self.delivered) {
            self.fail("has lost a message");
            return;
        }
        let stalled = message.header("Nats-Consumer-Stalled");
        for reply in message.reply().into_iter().chain(stalled) {
            let Ok(reply) = str::from_utf8(reply) else { continue };
            // Without the answer the server asks again.
            let _ = self.line.publish(&Publish { subject: reply, ..Publish::default() });
        }
    }

    async fn deliver(&mut self, message: &Message) -> Result<(), Gone> {
        let Some(place) = message.reply().and_then(Place::read) else {
            self.fail("delivers without a number");
            return Ok(());
        };
        if place.consumer != self.delivered + 1 {
            self.fail("has lost a message");
            return Ok(());
        }
        self.delivered = place.consumer;
        self.sink.take(message, place.stream, place.left == 0).await?;
        // What waited for the sink is not the consumer's silence.
        self.state = State::Running(Instant::now() + SILENCE);
        Ok(())
    }
}

/// The numbers that a consumer gives a message, in the subject for its acknowledgement.
#[derive(Clone, Copy)]
struct Place {
    stream: Seq,
    consumer: u64,
    /// Messages of the stream that the consumer has not delivered.
    left: u64,
}

impl Place {
    /// Reads `$JS.ACK`, stream, consumer, deliveries, the place in the stream, the number, time and
    /// what is left, with dots between them. A domain and an account may be behind `ACK`.
    fn read(reply: &[u8]) -> Option<Self> {
        let parts: Vec<_> = reply.split(|byte| *byte == b'.').collect();
        let at = match parts.len() {
            9 => 5,
            11.. => 7,
            _ => return None,
        };
        let [stream, consumer, left] = [at, at + 1, at + 3].map(|at| number(parts[at]));
        Some(Self { stream: stream?, consumer: consumer?, left: left? })
    }
}

fn number(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_with_a_domain_and_without() {
        for reply in
            ["$JS.ACK.FF_INT.c.1.70.3.1700000000.9", "$JS.ACK.d.a.FF_INT.c.1.70.3.1700000000.9"]
        {
            let place = Place::read(reply.as_bytes());
            let place = place.map(|place| (place.stream, place.consumer, place.left));
            assert_eq!(place, Some((70, 3, 9)), "{reply}");
        }
        for reply in ["", "_INBOX.a", "$JS.ACK.FF_INT.c.1.x.3.1700000000.0"] {
            assert!(Place::read(reply.as_bytes()).is_none(), "{reply}");
        }
    }
}
