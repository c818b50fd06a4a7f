//! Mailboxes (`mailbox`): the hand-off from a publishing thread to the worker.
//!
//! `one thread`: a place is reserved, mail posted, the bell of an awake thread rung, the mail
//! taken: the price of a publication for each worker that is busy. `round trip`: the same between
//! two threads that both sleep in between, there and back, so twice: ring the bell, wake the
//! waiting thread. This is the delay of a lone publication before its worker moves.

mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::thread;

use criterion::Criterion;
use fanfare::mailbox::{Inbox, Mail, Mailboxes};
use fanfare::message::{SessionId, WorkerId};
use rustix::event::{PollFd, PollFlags, poll};

use support::CpuTime;
use support::broker::{MAILBOX, delivery, post};

const HERE: WorkerId = WorkerId(0);
const THERE: WorkerId = WorkerId(1);

fn main() {
    let mut by_cpu_time = support::by_cpu_time();
    one_thread(&mut by_cpu_time);
    by_cpu_time.final_summary();
    let mut by_wall_clock = support::by_wall_clock();
    round_trip(&mut by_wall_clock);
    by_wall_clock.final_summary();
}

fn one_thread(criterion: &mut Criterion<CpuTime>) {
    let (mailboxes, inboxes) =
        Mailboxes::new(1, 0, MAILBOX, usize::MAX).expect("event descriptors");
    let (mailbox, inbox) = (mailboxes.workers.of(HERE), &inboxes.workers[HERE.index()]);
    let delivery = delivery();
    criterion.bench_function("mailbox/one thread", |bencher| {
        bencher.iter(|| {
            post(mailbox, Mail::Deliver(delivery.clone()));
            black_box(inbox.take(Mail::slot)).expect("it was posted")
        });
    });
}

fn round_trip(criterion: &mut Criterion) {
    let (mailboxes, mut inboxes) =
        Mailboxes::new(2, 0, MAILBOX, usize::MAX).expect("event descriptors");
    let mailboxes = Arc::new(mailboxes);
    let (there, here) = (inboxes.workers.remove(THERE.index()), inboxes.workers.remove(0));
    let answers = mailboxes.clone();
    let echo = thread::spawn(move || {
        while let mail @ Mail::Deliver(_) = next(&there) {
            post(answers.workers.of(HERE), mail);
        }
    });
    let delivery = delivery();
    criterion.bench_function("mailbox/round trip", |bencher| {
        bencher.iter(|| {
            post(mailboxes.workers.of(THERE), Mail::Deliver(delivery.clone()));
            next(&here)
        });
    });
    // Any mail but a delivery ends the echo thread.
    let goodbye = SessionId { worker: THERE, slot: 0, key: [0; _] };
    let sent = mailboxes.control(THERE, Mail::PollGone(goodbye));
    sent.expect("there is room for control mail");
    echo.join().expect("the echo does not panic");
}

/// Returns the next piece of mail, and sleeps until there is one.
fn next(inbox: &Inbox<Mail>) -> Mail {
    let bell = inbox.mailbox().doorbell();
    loop {
        if let Some(mail) = inbox.take(Mail::slot) {
            return mail;
        }
        if bell.sleep(|| inbox.is_empty()) {
            let mut waited = [PollFd::new(bell.descriptor(), PollFlags::IN)];
            poll(&mut waited, None).expect("the descriptor is open");
            bell.woke();
            bell.silence();
        }
    }
}
