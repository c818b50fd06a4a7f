//! The health of the node: asks every thread that others depend on, and names those that fail.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use monoio::time::timeout_at;

use crate::interface::http::HttpContext;
use crate::limits::HEALTH_PATIENCE_MS;
use crate::mailbox::{Health, Mail, Pending, Ticket, Wish};
use crate::message::{Refused, WorkerId};

/// Between two looks at whether the questions of another request are answered.
const LOOK: Duration = Duration::from_millis(10);

/// A thread that is asked.
enum Asked<'a> {
    /// Its answer is awaited.
    Waiting(String, Pending<'a, Health>),
    /// There was no room for the question.
    Full(String),
}

/// What an acceptor found when it asked last. One round of questions is under way at a time, so
/// that no queue is filled by it, however many clients want to know.
#[derive(Debug, Default)]
pub(super) struct Findings {
    is_asking: Cell<bool>,
    problems: RefCell<Vec<String>>,
}

impl Findings {
    /// Returns a text for each thread that does not do its work: every worker and the writer of the
    /// store must answer within [`HEALTH_PATIENCE_MS`]. If a round of questions is under way, waits
    /// for what that finds.
    pub(super) async fn problems(&self, http: &HttpContext<'_>) -> Vec<String> {
        if !self.is_asking.replace(true) {
            // This future is never dropped half-way: a client that leaves is noticed afterwards.
            let problems = ask_all(http).await;
            // Logged once for each state of things, because anybody may ask.
            if !problems.is_empty() && *self.problems.borrow() != problems {
                tracing::warn!(?problems, "the node is not healthy");
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
        Err(_) => Asked::Full(format!("{who} has more to do than its queue holds")),
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
