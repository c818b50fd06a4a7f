//! Questions over a connection of their own, each with its answers: what must not wait behind what
//! is live, and has no order with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::line::{self, Event, Line};
use super::protocol::{Message, Publish};
use crate::cluster::ack::{Ack, Refusal};
use crate::cluster::name::Seq;
use crate::limits::{CLUSTER_ANSWERS_MAX, CLUSTER_QUESTIONS_MAX};
use crate::metrics::LogThrottle;

/// Asks over a connection that a task of its own keeps.
#[derive(Clone)]
pub(super) struct Client {
    questions: mpsc::Sender<Question>,
}

/// A question. Its sender drops the other end of `answers` when it needs no more of them.
pub(super) struct Question {
    pub(super) subject: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    answers: mpsc::Sender<Message>,
    /// Whether it was written to the connection.
    is_sent: Arc<AtomicBool>,
}

/// The answers to a question.
pub(super) struct Answers {
    receiver: mpsc::Receiver<Message>,
    is_sent: Arc<AtomicBool>,
    end: Instant,
}

impl Client {
    /// Starts the task, which ends with the last of the clients.
    pub(super) fn start(settings: line::Settings) -> Self {
        let (questions, asked) = mpsc::channel(CLUSTER_QUESTIONS_MAX);
        tokio::spawn(serve(Line::new(settings), asked));
        Self { questions }
    }

    /// Asks, as soon as the connection is made. `None` if that is not so before `end`.
    pub(super) async fn ask(
        &self,
        subject: String,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
        end: Instant,
    ) -> Option<Answers> {
        let (answers, receiver) = mpsc::channel(CLUSTER_ANSWERS_MAX);
        let is_sent = Arc::<AtomicBool>::default();
        let question = Question { subject, headers, body, answers, is_sent: is_sent.clone() };
        timeout_at(end, self.questions.send(question)).await.ok()?.ok()?;
        Some(Answers { receiver, is_sent, end })
    }
}

/// A message of a stream, and its sequence.
#[derive(Debug)]
pub(super) struct Latest {
    pub(super) seq: Seq,
    pub(super) body: Vec<u8>,
}

/// Calls of JetStream.
impl Client {
    /// Stores a message in a stream, if the last one of its subject has the expected sequence.
    /// Returns `None` if the stream may have it or not.
    pub(super) async fn store(
        &self,
        (stream, subject): (&str, String),
        (mut headers, body): (Vec<(&'static str, String)>, Vec<u8>),
        expected: Option<Seq>,
        end: Instant,
    ) -> Option<Ack> {
        headers.push(("Nats-Expected-Stream", stream.to_owned()));
        let expected = expected.map(|seq| ("Nats-Expected-Last-Subject-Sequence", seq.to_string()));
        headers.extend(expected);
        let Some(mut answers) = self.ask(subject, headers, body, end).await else {
            return Some(Ack::Refused(Refusal::Unavailable));
        };
        match answers.next().await {
            Some(answer) => Ack::read(answer.status(), &answer.payload(), stream),
            None if answers.give_up() => None,
            None => Some(Ack::Refused(Refusal::Unavailable)),
        }
    }

    /// Asks the leader of a stream for the last message of a subject, because a copy may be behind.
    /// Returns `None` without an answer, and `Some(None)` if the subject has no message.
    pub(super) async fn last(
        &self,
        stream: &str,
        subject: &str,
        end: Instant,
    ) -> Option<Option<Latest>> {
        let call = format!("$JS.API.STREAM.MSG.GET.{stream}");
        let ask = json!({ "last_by_subj": subject }).to_string();
        let mut answers = self.ask(call, Vec::new(), ask.into_bytes(), end).await?;
        let answer: Value = serde_json::from_slice(&answers.next().await?.payload()).ok()?;
        let message = &answer["message"];
        match (message["seq"].as_u64(), answer["error"]["code"].as_u64()) {
            (Some(seq), _) => {
                let body = message["data"].as_str().and_then(|data| STANDARD.decode(data).ok());
                Some(Some(Latest { seq, body: body.unwrap_or_default() }))
            }
            (None, Some(404)) => Some(None),
            (None, _) => None,
        }
    }
}

impl Answers {
    /// Returns the next answer; `None` if none comes in time, or if the connection was lost.
    pub(super) async fn next(&mut self) -> Option<Message> {
        timeout_at(self.end, self.receiver.recv()).await.ok()?
    }

    /// Gives the question up. Returns whether it may have been sent: if not, it never is.
    pub(super) fn give_up(mut self) -> bool {
        // The task of the connection sends no question whose asker has closed the answers.
        self.receiver.close();
        self.is_sent.load(Ordering::Acquire)
    }
}

/// Requests that wait for answers, by the last part of the subject on which the answers come.
#[derive(Default)]
struct Open {
    next: u64,
    waiting: HashMap<u64, mpsc::Sender<Message>>,
}

async fn serve(mut line: Line, mut questions: mpsc::Receiver<Question>) {
    let inbox = format!("_INBOX.{:032x}", rand::random::<u128>());
    let mut open = Open::default();
    let mut is_up = false;
    let mut denied = LogThrottle::default();
    loop {
        tokio::select! {
            event = line.next() => match event {
                Event::Up(_) => {
                    // An empty line takes a SUB.
                    is_up = line.subscribe(&format!("{inbox}.*"), 1).is_ok();
                }
                Event::Down(_) => {
                    is_up = false;
                    open.waiting.clear();
                }
                Event::Message(message) => open.take(message),
                Event::Denied(text) => if let Some(count) = denied.add(1) {
                    tracing::warn!(count, "the cluster's broker refuses a question: {text}");
                },
                _ => {}
            },
            question = questions.recv(), if is_up => match question {
                Some(question) => open.ask(&mut line, &inbox, question),
                None => return,
            },
        }
    }
}

impl Open {
    fn ask(&mut self, line: &mut Line, inbox: &str, question: Question) {
        let Question { subject, headers, body, answers, is_sent } = question;
        // It waited for the connection for too long.
        if answers.is_closed() {
            return;
        }
        let number = self.next;
        self.next += 1;
        let reply = format!("{inbox}.{number}");
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let message = Publish {
            subject: &subject,
            reply: Some(&reply),
            headers: &headers,
            payload: &[&body],
        };
        is_sent.store(true, Ordering::Release);
        // A question that cannot be sent has no answer.
        if line.publish(&message).is_ok() {
            if self.waiting.len() >= CLUSTER_QUESTIONS_MAX {
                self.waiting.retain(|_, answers| !answers.is_closed());
            }
            self.waiting.insert(number, answers);
        }
    }

    fn take(&mut self, message: Message) {
        let number = str::from_utf8(message.subject()).ok();
        let number = number.and_then(|subject| subject.rsplit('.').next()?.parse().ok());
        let Some(number) = number else { return };
        let Some(answers) = self.waiting.get(&number) else { return };
        // The question is over, or the server sends more than it was asked for.
        if answers.try_send(message).is_err() {
            self.waiting.remove(&number);
        }
    }
}
