//! The turn of a worker, and the loop of turns. Of a worker's files, only this one awaits, and only
//! this one and `reader.rs` read the clock.

use std::io;
use std::time::Duration;

use super::poller::Ready;
use super::worker::Worker;
use super::{drain, reader, sender};
use crate::interface::context::Local;
use crate::limits::{
    LEAVE_RETRY_MS, MAILBOX_CONTROL_MAX, READ_BUFFER_BYTES, SWEEP_MS, TURN_BYTES_MAX,
    TURN_MAIL_MAX, TURN_READS_MAX,
};
use crate::mailbox::{Inbox, Mail, Slot};
use crate::message::{Millis, Nanos, WorkerId};
use crate::metrics::heap;

/// The worker that drops what channels need not retain any longer. One is enough.
const SWEEPER: WorkerId = WorkerId(0);

/// A worker with what its turns need.
pub struct Turns {
    worker: Worker,
    inbox: Inbox<Mail>,
    sweep: Sweep,
    ready: Vec<Ready>,
    scratch: Vec<u8>,
    /// The deadline that the poller's timer is set to.
    armed: Option<Millis>,
    /// The poller's descriptor, as the runtime awaits it.
    poll: monoio::net::TcpStream,
}

/// When the next sweep is due, and which part of the channels it takes.
#[derive(Debug, Default)]
struct Sweep {
    due: Millis,
    step: usize,
}

impl Turns {
    /// Prepares the turns of a worker. Must be called on the worker's own thread.
    ///
    /// # Errors
    /// If the runtime cannot await the worker's poller.
    pub fn new(worker: Worker, inbox: Inbox<Mail>) -> io::Result<Self> {
        // The runtime awaits sockets only. It never reads this one, so that it may be an epoll
        // descriptor.
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

    /// Runs turns forever, and waits between two if nothing is left to do.
    pub async fn run(mut self) {
        loop {
            let has_more = self.turn();
            if let Err(error) = self.arm() {
                tracing::error!(%error, "the worker's timer cannot be set");
            }
            let mailbox = self.inbox.mailbox().clone();
            let bell = mailbox.doorbell();
            if has_more {
                // Other tasks of this thread run while this one waits. On io_uring it waits for a
                // bell that rings already. The epoll driver would find it rung without giving up
                // the thread; the shortest wait that gives it up is a tick of its timer.
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

    /// Waits until something is ready. Other tasks of this thread run meanwhile.
    async fn wait(&self) {
        // An error means that the ring is broken. The next `collect` still finds what is ready.
        let _ = self.poll.readable(false).await;
    }

    /// Runs one turn. Returns true if there is more to do at once.
    fn turn(&mut self) -> bool {
        let worker = &mut self.worker;
        worker.local.counters.turns.add(1);
        worker.local.auth.refresh();
        let now = worker.shared.clock.now();
        worker.at(now);
        worker.watch_memory(heap::allocated);
        // New mail is taken only when all outboxes were sent. Otherwise outboxes would grow because
        // this worker is slow, but its mailbox is where that must show.
        if worker.local.outboxes.is_idle() {
            let mut bytes = 0;
            for _ in 0..TURN_MAIL_MAX {
                if bytes >= TURN_BYTES_MAX {
                    break;
                }
                let Some(mail) = self.inbox.take(Mail::slot) else { break };
                bytes += worker.take(mail);
                worker.reap();
            }
        }
        let has_more = worker.catch_up() | self.read_sockets();
        let worker = &mut self.worker;
        self.sweep.run(worker);
        worker.end_turn(|_, socket, slices| sender::send_slices(socket, slices));
        measure(&worker.local, &mut worker.undrained, now.nanos, worker.shared.clock.nanos());
        let is_idle = worker.local.outboxes.is_idle();
        has_more || !worker.unread.is_empty() || !is_idle || !self.inbox.is_empty()
    }

    /// Reads the sockets that are ready. Returns true if the kernel may have more events.
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
            // Each command that is read may need a place in this worker's mailbox, which the next
            // turn empties.
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
        let note = worker.next_note();
        let all = [worker.wheel.next(), leaves, drain::next(worker), sweep, detached, note];
        let next = all.into_iter().flatten().min();
        if next == self.armed {
            return Ok(());
        }
        self.armed = next;
        let Some(next) = next else { return Ok(()) };
        // The clock rounds down to milliseconds. Without one more, the timer could fire within the
        // millisecond before the deadline. The worker would then find nothing due and not set the
        // timer again.
        let delay = next.saturating_sub(worker.shared.clock.monotonic()) + 1;
        worker.poller.wake_in(Duration::from_millis(delay))
    }
}

/// Records how long a turn took. If all outboxes were sent, also records how long their
/// publications, accepted at the times in `undrained`, took.
fn measure(local: &Local, undrained: &mut Vec<Nanos>, began: Nanos, now: Nanos) {
    let Local { counters, outboxes, .. } = local;
    counters.turn_duration.record_nanos(now - began);
    if !outboxes.is_idle() {
        return;
    }
    for accepted in undrained.drain(..) {
        counters.publish_to_drain.record_nanos(now.saturating_sub(accepted));
    }
}

impl Sweep {
    /// Sweeps if this is the sweeping worker and a sweep is due.
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
