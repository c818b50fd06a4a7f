//! The watchdog of the supervisor: signs of life as long as all workers do their work.

use std::env;
use std::io;
use std::process;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::Event;
use super::notify::Notify;
use super::threads::spawn;
use crate::mailbox::Mail;
use crate::message::WorkerId;
use crate::runtime::shared::Shared;

/// The variables of the watchdog: the time between two signs of life at most, in microseconds, and
/// the process that is to give them.
const WATCHDOG: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// Begins to give signs of life, if the supervisor wants them. While a worker does not take its
/// mail, there are none.
///
/// # Errors
/// If the system gives no thread.
pub(super) fn watch(notify: &Notify, shared: &Arc<Shared>, told: &Sender<Event>) -> io::Result<()> {
    let variable = |name: &str| env::var(name).ok();
    let is_meant = notify.is_heard();
    let Some(pause) = pause(variable(WATCHDOG), variable(WATCHDOG_PID)).filter(|_| is_meant) else {
        return Ok(());
    };
    let (notify, shared) = (notify.clone(), shared.clone());
    spawn("watchdog", told, move || give_signs(&notify, &shared, pause))
}

fn give_signs(notify: &Notify, shared: &Shared, pause: Duration) {
    let (answer, answers) = mpsc::channel();
    let mailboxes = &shared.interfaces.broker.mailboxes;
    let mut asked = vec![false; mailboxes.workers.len()];
    loop {
        let next = Instant::now() + pause;
        let mut is_refused = false;
        for (asked, worker) in asked.iter_mut().zip((0u8..).map(WorkerId)) {
            // A worker that has not answered yet is not asked again, so that no mail piles up.
            if !*asked {
                *asked = mailboxes.control(worker, Mail::Roll(answer.clone())).is_ok();
                is_refused |= !*asked;
            }
        }
        if have_answered(&mut asked, &answers, next) && !is_refused {
            notify.alive();
        } else {
            let late = asked.iter().filter(|asked| **asked).count();
            tracing::warn!(late, "workers do not take their mail; the watchdog gets no sign");
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Returns the time between two signs of life: half of what the supervisor waits. `None` if it
/// wants none of this process.
fn pause(watchdog: Option<String>, pid: Option<String>) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(process::id()));
    let watchdog = watchdog.filter(|_| is_ours)?;
    match watchdog.parse::<u64>() {
        Ok(usec) if usec > 0 => Some(Duration::from_micros(usec.div_ceil(2))),
        _ => {
            tracing::warn!(watchdog, "{WATCHDOG} is not a number of microseconds");
            None
        }
    }
}

/// Waits until all workers that were asked have answered. Returns false if one has not by `until`.
fn have_answered(asked: &mut [bool], answers: &Receiver<WorkerId>, until: Instant) -> bool {
    while asked.contains(&true) {
        match answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(worker) => asked[worker.index()] = false,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_given_twice_in_the_time_that_the_supervisor_waits() {
        let own = || Some(process::id().to_string());
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(pause(text("3000000"), None), Some(Duration::from_millis(1_500)));
        assert_eq!(pause(text("1"), own()), Some(Duration::from_micros(1)));
        for (watchdog, pid) in
            [(None, None), (text("0"), None), (text("-1"), None), (text("1"), text("1"))]
        {
            assert_eq!(pause(watchdog, pid), None);
        }
    }

    #[test]
    fn a_worker_that_does_not_answer_is_noticed() {
        let (answer, answers) = mpsc::channel();
        let mut asked = [true, true];
        answer.send(WorkerId(1)).unwrap();
        let soon = || Instant::now() + Duration::from_millis(10);
        assert!(!have_answered(&mut asked, &answers, soon()));
        assert_eq!(asked, [true, false]);
        answer.send(WorkerId(0)).unwrap();
        assert!(have_answered(&mut asked, &answers, soon()));
    }
}
