//! Asks every worker and the store's writer whether they do their work, for the health of the node.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use monoio::time::timeout_at;

use crate::interface::http::HttpContext;
use crate::limits::HEALTH_PATIENCE_MS;
use crate::mailbox::{Health, Mail, Pending, Ticket, Wish};
use crate::message::{Refused, WorkerId};

/// The pause between two checks whether the round of another request has ended.
const LOOK: Duration = Duration::from_millis(10);

/// A question to a thread.
enum Asked<'a> {
    /// The thread's name, and its answer, which is awaited.
    Waiting(String, Pending<'a, Health>),
    /// The problem, because there was no room for the question.
    Full(String),
}

/// The findings of an acceptor's last round of questions. Only one round is under way at a time, so
/// that queues do not fill up however many clients ask.
#[derive(Debug, Default)]
pub(super) struct Findings {
    is_asking: Cell<bool>,
    problems: RefCell<Vec<String>>,
}

impl Findings {
    /// Returns a text for each thread that does not do its work: every worker and the store's
    /// writer must answer within [`HEALTH_PATIENCE_MS`]. If a round of questions is under way,
    /// waits for its findings.
    pub(super) async fn problems(&self, http: &HttpContext<'_>) -> Vec<String> {
        if !self.is_asking.replace(true) {
            // This future always completes: the node notices only afterwards that a client has
            // left.
            let problems = ask_all(http).await;
            // Logged only if the problems have changed, because any client may ask.
            if !problems.is_empty() && *self.problems.borrow() != problems {
                tracing::warn!(problems = problems.join("; "), "the node is not healthy");
            }
            self.problems.replace(problems);
            self.is_asking.set(false);
        }
        while self.is_asking.get() {
            monoio::time::sleep(LOOK).await;
        }
        self.problems.borrow().clone()
    }
}

async fn ask_all(http: &HttpContext<'_>) -> Vec<String> {
    let mailboxes = &http.shared.broker.mailboxes;
    let mut asked = Vec::with_capacity(mailboxes.workers.len() + 1);
    for worker in (0u8..).map(WorkerId).take(mailboxes.workers.len()) {
        let put = |ticket| mailboxes.control(worker, Mail::Probe(ticket));
        asked.push(ask(http, format!("worker {}", worker.0), put));
    }
    let put = |ticket| mailboxes.wish(Wish::Probe(ticket));
    asked.push(ask(http, "the store".to_owned(), put));
    let deadline = Instant::now() + Duration::from_millis(HEALTH_PATIENCE_MS);
    let mut problems = Vec::new();
    for one in asked {
        problems.extend(problem(one, deadline).await);
    }
    problems
}

fn ask<'a>(
    http: &HttpContext<'a>,
    who: String,
    put: impl FnOnce(Ticket<Health>) -> Result<(), Refused>,
) -> Asked<'a> {
    let Some(inquiry) = http.tickets.inquiry() else {
        return Asked::Full(format!("{who} cannot be asked: too many requests wait"));
    };
    match inquiry.put(put) {
        Ok(((), pending)) => Asked::Waiting(who, pending),
        Err(_) => Asked::Full(format!("{who} has a full queue")),
    }
}

async fn problem(asked: Asked<'_>, deadline: Instant) -> Option<String> {
    let (who, pending) = match asked {
        Asked::Waiting(who, pending) => (who, pending),
        Asked::Full(problem) => return Some(problem),
    };
    match timeout_at(deadline.into(), pending).await {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(format!("{who} does not work: {why}")),
        Err(_) => Some(format!("{who} has not answered for {HEALTH_PATIENCE_MS} ms")),
    }
}
