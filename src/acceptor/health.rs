//! `GET /api/health`: asks every thread that others depend on, and names those that fail.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use monoio::time::timeout_at;

use super::Acceptor;
use crate::api::Reply;
use crate::limits::HEALTH_PATIENCE_MS;
use crate::mailbox::{Health, Mail, Pending, Ticket, Wish};
use crate::message::{Millis, Refused, WorkerId};

/// Between two looks at whether another's questions are answered.
const LOOK: Duration = Duration::from_millis(10);

/// Whom a question was put to.
enum Asked<'a> {
    /// The answer is awaited.
    Waiting(String, Pending<'a, Health>),
    /// There was no room for the question.
    Full(String),
}

/// What an acceptor found when it asked last. One round of questions is under way at a time, so
/// that however many want to know, nobody's queue is filled by it.
#[derive(Debug, Default)]
pub(super) struct Findings {
    is_asking: Cell<bool>,
    problems: RefCell<Vec<String>>,
}

/// How the node is: every worker and the side must answer in [`HEALTH_PATIENCE_MS`]. Who asks while
/// that is being found out waits for what is found.
pub(super) async fn check(acceptor: &Acceptor, now: Millis) -> Reply {
    let problems = problems(acceptor).await;
    Reply::health(env!("CARGO_PKG_VERSION"), now, acceptor.is_stopping(), &problems)
}

/// What is wrong with the node, in the same way.
pub(super) async fn problems(acceptor: &Acceptor) -> Vec<String> {
    let findings = &acceptor.findings;
    if !findings.is_asking.replace(true) {
        // Nobody gives up this future half-way: a client that leaves is noticed afterwards.
        let problems = ask_everybody(acceptor).await;
        // Once for each state of things: asking is open to anybody.
        if !problems.is_empty() && *findings.problems.borrow() != problems {
            tracing::warn!(?problems, "the node is not healthy");
        }
        findings.problems.replace(problems);
        findings.is_asking.set(false);
    }
    while findings.is_asking.get() {
        monoio::time::sleep(LOOK).await;
    }
    findings.problems.borrow().clone()
}

async fn ask_everybody(acceptor: &Acceptor) -> Vec<String> {
    let mailboxes = &acceptor.hub.mailboxes;
    let mut asked = Vec::with_capacity(mailboxes.workers.len() + 1);
    for worker in (0u8..).map(WorkerId).take(mailboxes.workers.len()) {
        let put = |ticket| mailboxes.control(worker, Mail::Probe(ticket));
        asked.push(ask(acceptor, format!("worker {}", worker.0), put));
    }
    let put = |ticket| mailboxes.wish(Wish::Probe(ticket));
    asked.push(ask(acceptor, "the store".to_owned(), put));
    let deadline = Instant::now() + Duration::from_millis(HEALTH_PATIENCE_MS);
    let mut problems = Vec::new();
    for one in asked {
        problems.extend(problem(one, deadline).await);
    }
    problems
}

fn ask(
    acceptor: &Acceptor,
    who: String,
    put: impl FnOnce(Ticket<Health>) -> Result<(), Refused>,
) -> Asked<'_> {
    let Some(inquiry) = acceptor.tickets.inquiry() else {
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
