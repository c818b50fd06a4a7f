//! Questions over a connection of their own, each with its answers: what must not wait behind what
//! is live, and has no order with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::line::{self, Event, Line};
use super::protocol::{Message, Publish};
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
