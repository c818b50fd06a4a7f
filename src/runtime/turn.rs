//! The turn of a worker, and the loop of turns. Of a worker's files, only this one awaits, and only
//! this one and `reader.rs` read the clock.

use std::io;
use std::time::Duration;

use super::poller::Ready;
use super::transmit::{Backend, Loans, Transmitter};
use super::worker::Worker;
use super::{drain, driver, reader};
use crate::interface::context::Local;
use crate::limits::{
    GATHER_FRUITLESS_MAX, GATHER_SENDS_MIN, LEAVE_RETRY_MS, MAILBOX_CONTROL_MAX, READ_BUFFER_BYTES,
    READ_PASS_MAX, SWEEP_MS, TURN_BYTES_MAX, TURN_MAIL_MAX, TURN_READS_MAX,
};
use crate::mailbox::{Inbox, Mail, Slot};
use crate::message::{Millis, Nanos, WorkerId};
use crate::metrics::{Counters, heap};

/// The worker that drops what channels need not retain any longer. One is enough.
const SWEEPER: WorkerId = WorkerId(0);

/// A worker with what its turns need.
pub struct Turns {
    worker: Worker,
    inbox: Inbox<Mail>,
    sweep: Sweep,
    ready: Vec<Ready>,
    scratch: Vec<u8>,
    transmitter: Transmitter,
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

/// How much mail a turn may still take.
#[derive(Debug)]
struct Room {
    mail: usize,
    bytes: usize,
}

impl Room {
    const FULL: Self = Self { mail: TURN_MAIL_MAX, bytes: TURN_BYTES_MAX };
    const NONE: Self = Self { mail: 0, bytes: 0 };

    fn is_left(&self) -> bool {
        self.mail > 0 && self.bytes > 0
    }
}

impl Turns {
    /// Prepares the turns of a worker. Must be called on the worker's own thread.
    ///
    /// # Errors
    /// If the runtime cannot await the worker's poller, or there is no ring for its sends.
    pub fn new(worker: Worker, inbox: Inbox<Mail>, backend: &Backend) -> io::Result<Self> {
        let poll = driver::awaitable(worker.poller.descriptor()?)?;
        Ok(Self {
            worker,
            inbox,
            sweep: Sweep::default(),
            ready: Vec::new(),
            scratch: vec![0; READ_BUFFER_BYTES],
            transmitter: backend.transmitter()?,
            armed: None,
            poll,
        })
    }

    /// Runs turns forever, and waits between two if nothing is left to do.
    pub async fn run(mut self) {
        loop {
            let has_more = self.turn().await;
            if let Err(error) = self.arm() {
                tracing::error!(%error, "the worker's timer cannot be set");
            }
            let mailbox = self.inbox.mailbox().clone();
            if has_more {
                self.give_way().await;
            } else if mailbox.doorbell().sleep(|| self.inbox.is_empty()) {
                self.wait().await;
                mailbox.doorbell().woke();
            }
        }
    }

    /// Lets the other tasks of this thread run, and the kernel report what is ready.
    async fn give_way(&self) {
        // On io_uring this waits for a bell that rings already. The epoll driver would find it rung
        // without giving up the thread; the shortest wait that gives it up is a tick of its timer.
        if monoio::utils::is_legacy() {
            monoio::time::sleep(Duration::from_millis(1)).await;
        } else {
            self.inbox.mailbox().doorbell().ring();
            self.wait().await;
        }
    }

    /// Waits until something is ready. Other tasks of this thread run meanwhile.
    async fn wait(&self) {
        // An error means that the ring is broken. The next `collect` still finds what is ready.
        let _ = self.poll.readable(false).await;
    }

    /// Runs one turn. Returns true if there is more to do at once.
    async fn turn(&mut self) -> bool {
        let worker = &mut self.worker;
        worker.local.counters.turns.add(1);
        worker.local.auth.refresh();
        worker.local.deflating.begin_turn();
        let now = worker.shared.clock.now();
        worker.at(now);
        worker.watch_memory(heap::allocated);
        // New mail is taken only when all outboxes were sent. Otherwise outboxes would grow because
        // this worker is slow, but its mailbox is where that must show.
        let mut room = if worker.local.outboxes.is_idle() { Room::FULL } else { Room::NONE };
        let mut has_more = self.take_in(&mut room);
        if room.bytes > 0 && !monoio::utils::is_legacy() {
            has_more |= self.gather(&mut room).await;
        }
        let worker = &mut self.worker;
        self.sweep.run(worker);
        worker.end_turn(&mut self.transmitter);
        count_loans(self.transmitter.take_back(), &worker.local.counters);
        measure(&worker.local, &mut worker.undrained, now.nanos, worker.shared.clock.nanos());
        let is_idle = worker.local.outboxes.is_idle();
        has_more || !worker.unread.is_empty() || !is_idle || !self.inbox.is_empty()
    }

    /// Takes in what is there before a long drain, so that the drain serves it, too: publications
    /// that acceptors of this thread have not read yet, and those that come meanwhile. Returns true
    /// if there is more to do at once.
    ///
    /// To give way costs some microseconds, and the drain of this many connections at least fifty
    /// times as long, so that a lone publication is hardly later. Without it, a drain of 10,000
    /// connections under load had 5 frames for each, and with it 25.
    async fn gather(&mut self, room: &mut Room) -> bool {
        let mut has_more = false;
        let mut fruitless = 0;
        while self.worker.local.outboxes.waiting() >= GATHER_SENDS_MIN
            && fruitless < GATHER_FRUITLESS_MAX
            && room.is_left()
        {
            self.give_way().await;
            self.worker.at(self.worker.shared.clock.now());
            let mail = room.mail;
            has_more = self.take_in(room);
            // An acceptor's step that reads a request follows one that answers the request before.
            fruitless = if room.mail < mail { 0 } else { fruitless + 1 };
        }
        has_more
    }

    /// Takes mail as long as there is room, reads sockets, and takes what these reads posted, which
    /// is answered in the same turn. Returns true if there is more to do at once.
    fn take_in(&mut self, room: &mut Room) -> bool {
        self.take_mail(room);
        let has_more = self.worker.catch_up() | self.read_sockets();
        self.take_mail(room);
        // A verdict may be among that mail.
        has_more | (self.worker.local.authorizer.ready() > 0)
    }

    /// Takes mail as long as there is room.
    fn take_mail(&mut self, room: &mut Room) {
        let worker = &mut self.worker;
        while room.is_left() {
            let Some(mail) = self.inbox.take(Mail::slot) else { break };
            room.mail -= 1;
            room.bytes = room.bytes.saturating_sub(worker.take(mail));
            worker.reap();
        }
    }

    /// Reads the sockets that are ready, in passes. Returns true if the kernel may have more
    /// events.
    fn read_sockets(&mut self) -> bool {
        let mut has_more = true;
        for _ in 0..TURN_READS_MAX / READ_PASS_MAX {
            has_more = self.note_ready();
            if !self.read_pass() || !has_more && self.worker.unread.is_empty() {
                break;
            }
        }
        has_more
    }

    /// Asks the kernel which sockets are ready. Returns true if there may be more.
    fn note_ready(&mut self) -> bool {
        let Self { worker, ready, .. } = self;
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
        has_more
    }

    /// Reads sockets that are ready. Returns false if the worker has inflated enough for this turn,
    /// or must empty its mailbox first, where each command that is read may need a place.
    fn read_pass(&mut self) -> bool {
        let worker = &mut self.worker;
        for _ in 0..worker.unread.len().min(READ_PASS_MAX) {
            let is_full = self.inbox.mailbox().free(Slot::Control) < MAILBOX_CONTROL_MAX / 2;
            if is_full || worker.local.deflating.is_spent() {
                return false;
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
        true
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

fn count_loans(loans: Loans, counters: &Counters) {
    if loans != Loans::default() {
        counters.zerocopy_spared.add(loans.spared);
        counters.zerocopy_copied.add(loans.copied);
        counters.zerocopy_refused.add(loans.refused);
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
