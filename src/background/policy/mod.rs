//! Policies' expressions, evaluated on a thread of their own, so that a slow one delays neither a
//! worker nor the store.

mod evaluator;
mod like;

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::mailbox::{Mail, Mailboxes};
use crate::message::{Action, Permissions, Question, Verdict};
use evaluator::Evaluator;

/// Time between two log lines about failing expressions, because any client can make one fail as
/// often as it likes.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// Answers questions, one after the other, until the queue is closed.
///
/// # Errors
/// If the system gives no memory for the database.
pub fn run(questions: &Receiver<Question>, mailboxes: &Mailboxes) -> Result<(), rusqlite::Error> {
    let judge = Evaluator::new()?;
    let mut log = Log::default();
    for question in questions {
        let (judgement, failure) = judge.judge(&question);
        if let Some(failure) = failure {
            log.warn(question.action, &failure);
        }
        let mailbox = mailboxes.workers.of(question.worker);
        mailbox.answer(Mail::Verdict(Box::new(Verdict { question, judgement })));
    }
    Ok(())
}

/// Returns what is wrong with the first expression that the database refuses: the expression's path
/// and the database's message. `None` if all are valid.
pub fn problem(permissions: &Permissions) -> Option<String> {
    let judge = match Evaluator::new() {
        Ok(judge) => judge,
        Err(error) => return Some(error.to_string()),
    };
    for action in Action::ALL {
        for (at, policy) in permissions.side(action).iter().enumerate() {
            let expressions = [("using", &policy.using), ("withCheck", &policy.with_check)];
            for (field, expression) in expressions {
                let Some(expression) = expression else { continue };
                if let Err(words) = judge.check(expression) {
                    return Some(format!("{}.policies.{at}.{field}: {words}", action.name()));
                }
            }
        }
    }
    None
}

/// Logs failing expressions, at most one every [`LOG_PAUSE`].
#[derive(Debug, Default)]
struct Log {
    said: Option<Instant>,
    suppressed: u64,
}

impl Log {
    fn warn(&mut self, action: Action, failure: &str) {
        if self.said.is_some_and(|said| said.elapsed() < LOG_PAUSE) {
            self.suppressed += 1;
            return;
        }
        let (action, suppressed) = (action.name(), std::mem::take(&mut self.suppressed));
        tracing::warn!(
            action,
            failure,
            suppressed,
            "a policy's expression fails and allows nothing"
        );
        self.said = Some(Instant::now());
    }
}
