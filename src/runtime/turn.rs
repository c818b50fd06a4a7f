//! The turn of a worker, and the loop that takes turns: the only part that reads the clock and
//! awaits.

use std::io;
use std::time::Duration;

use super::poller::Ready;
use super::worker::Worker;
use super::{drain, reader, sender};
use crate::limits::{
    LEAVE_RETRY_MS, MAILBOX_CONTROL_MAX, READ_BUFFER_BYTES, SWEEP_MS, TURN_BYTES_MAX,
    TURN_MAIL_MAX, TURN_READS_MAX,
};
use crate::mailbox::{Inbox, Mail, Slot};
use crate::message::{Millis, Nanos, WorkerId};

/// The worker that sweeps out what channels keep no longer: one is enough.
const SWEEPER: WorkerId = WorkerId(0);

/// A worker that takes turns.
pub struct Turns {
    worker: Worker,
    inbox: Inbox<Mail>,
    sweep: Sweep,
    ready: Vec<Ready>,
    scratch: Vec<u8>,
    /// What the poller's timer is set to.
    armed: Option<Millis>,
    /// The poller as the runtime awaits it.
    poll: monoio::net::TcpStream,
}

/// How far the sweeping is.
#[derive(Debug, Default)]
struct Sweep {
    due: Millis,
    step: usize,
}

impl Turns {
    /// Prepares the turns of a worker. To be called on the worker's own thread.
    ///
    /// # Errors
    /// If the runtime cannot await the worker's poller.
    pub fn new(worker: Worker, inbox: Inbox<Mail>) -> io::Result<Self> {
        // The runtime can await sockets only. It never reads this one, so it does not matter that
        // it is an epoll descriptor.
        let stream = std::net::TcpStream::from(worker.poller.descriptor()?);
        let poll = monoio::net::TcpStream::from_std(stream)?;
        Ok(Self {
            worker,
            inbox,
            sweep: Sweep::default(),
            ready: Vec::new(),
            scratch: vec![0; READ_BUFFER_BYTES],
            armed: None,
            poll,
        })
    }

    /// Takes turns for ever.
    pub async fn run(mut self) {
        loop {
            let has_more = self.turn();
            if let Err(error) = self.arm() {
                tracing::error!(%error, "the worker's timer cannot be set");
            }
            let mailbox = self.inbox.mailbox().clone();
            let bell = mailbox.doorbell();
            if has_more {
                // Waiting for a bell that rings already lets the other tasks of this thread run.
                // The epoll driver would find it rung without letting go of the thread; its
                // shortest real wait is a tick of its timer.
                if monoio::utils::is_legacy() {
                    monoio::time::sleep(Duration::from_millis(1)).await;
                } else {
                    bell.ring();
                    self.wait().await;
                }
            } else if bell.sleep(|| self.inbox.is_empty()) {
                self.wait().await;
                bell.woke();
            }
        }
    }

    /// Sleeps until something is ready; other tasks of this thread run meanwhile.
    async fn wait(&self) {
        // An error here means a broken ring: the next collect finds what there is.
        let _ = self.poll.readable(false).await;
    }

    /// One turn. True if there is more to do at once.
    fn turn(&mut self) -> bool {
        let worker = &mut self.worker;
        worker.local.counters.turns.add(1);
        let now = worker.shared.clock.now();
        worker.at(now);
        // A long drain is finished before new mail is taken: else outboxes would grow because this
        // worker is slow, and the mailbox is where that must show.
        if worker.local.outboxes.is_idle() {
            take_mail(worker, &self.inbox);
        }
        let has_more = worker.catch_up() | self.read_sockets();
        let worker = &mut self.worker;
        self.sweep.run(worker);
        worker.end_turn(|_, socket, slices| sender::send_slices(socket, slices));
        measure(worker, now.nanos);
        let is_idle = worker.local.outboxes.is_idle();
        has_more || !worker.unread.is_empty() || !is_idle || !self.inbox.is_empty()
    }

    /// Reads what is ready. True if the kernel may have more to report.
    fn read_sockets(&mut self) -> bool {
        let worker = &mut self.worker;
        let mut ready = std::mem::take(&mut self.ready);
        let has_more = worker.poller.collect(|event| ready.push(event));
        for event in ready.drain(..) {
            let Ready::Socket { slot, readable, ended, writable } = event else { continue };
            if writable {
                worker.writable(slot);
            }
            if readable {
                reader::note_unread(&mut worker.connections, &mut worker.unread, slot, ended);
            }
        }
        self.ready = ready;
        for _ in 0..worker.unread.len().min(TURN_READS_MAX) {
            // Every command read may need a place in the own mailbox, which is emptied next turn.
            if self.inbox.mailbox().free(Slot::Control) < MAILBOX_CONTROL_MAX / 2 {
                break;
            }
            let Some(slot) = worker.unread.pop_front() else { break };
            if let Some(connection) = worker.connections.get_mut(slot) {
                connection.link.is_unread = false;
            }
            if reader::read(worker, slot, &mut self.scratch) {
                reader::note_unread(&mut worker.connections, &mut worker.unread, slot, false);
            }
            worker.reap();
        }
        has_more
    }

    /// Sets the poller's timer to the next deadline.
    fn arm(&mut self) -> io::Result<()> {
        let worker = &self.worker;
        let now = worker.now.monotonic();
        let leaves = (!worker.local.leaves.is_empty()).then_some(now + LEAVE_RETRY_MS);
        let sweep = (worker.id == SWEEPER).then_some(self.sweep.due);
        let detached = worker.local.detached.as_ref().and_then(|detached| detached.next());
        let all = [worker.wheel.next(), leaves, drain::next(worker), sweep, detached];
        let next = all.into_iter().flatten().min();
        if next == self.armed {
            return Ok(());
        }
        self.armed = next;
        let Some(next) = next else { return Ok(()) };
        // The clock counts whole milliseconds passed: without one more the timer could fire within
        // the millisecond before the deadline, find nothing due, and not be set again.
        let delay = next.saturating_sub(worker.shared.clock.monotonic()) + 1;
        worker.poller.wake_in(Duration::from_millis(delay))
    }
}

fn take_mail(worker: &mut Worker, inbox: &Inbox<Mail>) {
    let mut bytes = 0;
    for _ in 0..TURN_MAIL_MAX {
        if bytes >= TURN_BYTES_MAX {
            return;
        }
        let Some(mail) = inbox.take(Mail::slot) else { return };
        bytes += worker.take(mail);
        worker.reap();
    }
}

fn measure(worker: &mut Worker, began: Nanos) {
    let now = worker.shared.clock.nanos();
    let counters = &worker.local.counters;
    counters.turn_duration.record_nanos(now - began);
    if !worker.local.outboxes.is_idle() {
        return;
    }
    for accepted in worker.undrained.drain(..) {
        counters.publish_to_drain.record_nanos(now.saturating_sub(accepted));
    }
}

impl Sweep {
    /// Sweeps, if this is the worker that does it and it is time.
    fn run(&mut self, worker: &Worker) {
        let now = worker.now.monotonic();
        if worker.id != SWEEPER || self.due > now {
            return;
        }
        worker.shared.interfaces.broker.directory.sweep(self.step, now);
        self.step += 1;
        self.due = now + SWEEP_MS;
    }
}
