//! The HTTP connections of an acceptor: tells which of them are ready, keeps those that wait for a
//! request, and ends waits at their deadlines.
//!
//! There is one epoll descriptor, which the runtime awaits. Sockets are registered once,
//! edge-triggered, for both directions, when their connections first wait: many leave HTTP with
//! their first request, and are never registered here. A connection between two requests has an
//! entry here and neither a task nor a buffer.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Poll, Waker};

use rustix::event::epoll;
use rustix::time::Timespec;

use super::poller::{ENDED, FLAGS, READABLE};
use crate::broker::slab::Slab;
use crate::message::Millis;

/// How many events one call takes from the kernel at most.
pub(super) const EVENTS_MAX: usize = 64;

/// The connections of one acceptor.
pub(super) struct HttpPoller<C> {
    epoll: OwnedFd,
    entries: RefCell<Slab<Entry<C>>>,
    /// Entries that may be ready, in the order of the kernel's events.
    ready: RefCell<VecDeque<u32>>,
    /// No entry has an earlier deadline.
    earliest: Cell<Millis>,
    /// Woken when a deadline is set that is earlier than all others.
    sweeper: Cell<Option<Waker>>,
}

/// What is known of a connection.
struct Entry<C> {
    /// The connection, while no task serves it.
    parked: Option<C>,
    /// Woken when the socket is ready or the deadline has passed.
    waiting: Option<Waker>,
    /// When the wait ends; [`NEVER`] without a deadline.
    due: Millis,
    /// Whether its socket is registered.
    is_watched: bool,
    is_readable: bool,
    is_writable: bool,
    /// The peer has closed its side, or the connection failed.
    has_ended: bool,
}

/// A connection that the poller can keep.
pub(super) trait Watched {
    /// Returns the number of its entry.
    fn slot(&self) -> u32;
    /// Returns its socket.
    fn socket(&self) -> BorrowedFd<'_>;
}

/// No deadline.
const NEVER: Millis = Millis::MAX;

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Want {
    /// Bytes, or their end.
    Read,
    /// Room in the socket's buffer.
    Write,
}

impl<C: Watched> HttpPoller<C> {
    /// Creates a poller without connections.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            entries: RefCell::default(),
            ready: RefCell::default(),
            earliest: Cell::new(NEVER),
            sweeper: Cell::default(),
        })
    }

    /// Returns a descriptor that is readable while a connection is ready.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.epoll.try_clone()
    }

    /// Creates the entry of a connection whose socket is not watched yet. Returns its number.
    pub(super) fn enter(&self) -> u32 {
        self.entries.borrow_mut().insert(Entry::default())
    }

    /// Watches a socket from now on, unless it is watched already.
    ///
    /// # Errors
    /// If the kernel has no memory to watch it.
    pub(super) fn watch(&self, slot: u32, socket: impl AsFd) -> io::Result<()> {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(slot) else { return Ok(()) };
        if !entry.is_watched {
            epoll::add(&self.epoll, socket, data(slot), FLAGS)?;
            entry.is_watched = true;
        }
        Ok(())
    }

    /// Stops watching a socket that outlives its connection, if it is watched.
    pub(super) fn remove(&self, slot: u32, socket: impl AsFd) {
        let is_watched = self.entries.borrow().get(slot).is_some_and(|entry| entry.is_watched);
        if is_watched {
            // This cannot fail, because the socket is watched.
            let _ = epoll::delete(&self.epoll, socket);
        }
    }

    /// Removes the entry of a connection that ends.
    pub(super) fn forget(&self, slot: u32) {
        drop(self.entries.borrow_mut().remove(slot));
    }

    /// Ends the connection of an entry, unless a task serves it.
    pub(super) fn close(&self, slot: u32) {
        let parked = self.entries.borrow_mut().get_mut(slot).and_then(|entry| entry.parked.take());
        // The end of a connection removes its entry.
        drop(parked);
    }

    /// Keeps a connection until it is ready or `due`. What is still to be read is reported again.
    ///
    /// # Errors
    /// If its socket cannot be watched; then the connection is dropped.
    pub(super) fn park(&self, connection: C, due: Millis) -> io::Result<()> {
        let slot = connection.slot();
        let is_watched = self.entries.borrow().get(slot).is_some_and(|entry| entry.is_watched);
        self.watch(slot, connection.socket())?;
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(slot) else { return Ok(()) };
        let is_unread = std::mem::take(&mut entry.is_readable) || entry.has_ended;
        // The kernel reports what is there when it begins to watch.
        if is_watched && is_unread {
            // This cannot fail, because the socket is watched.
            let _ = epoll::modify(&self.epoll, connection.socket(), data(slot), FLAGS);
        }
        entry.waiting = None;
        entry.parked = Some(connection);
        entry.due = due;
        drop(entries);
        self.note_due(due);
        Ok(())
    }

    /// Notes that a socket is about to be read to its end, or written to.
    pub(super) fn begin(&self, slot: u32, want: Want) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(slot) {
            *entry.flag(want) = false;
        }
    }

    /// Notes that a socket has more to read than was read.
    pub(super) fn note_unread(&self, slot: u32) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(slot) {
            entry.is_readable = true;
        }
    }

    /// Returns whether the peer has closed its side, or the connection failed.
    pub(super) fn has_ended(&self, slot: u32) -> bool {
        self.entries.borrow().get(slot).is_some_and(|entry| entry.has_ended)
    }

    /// Resolves to true when a socket is ready, and to false at `due`. The future may be dropped at
    /// any time.
    pub(super) async fn wait(&self, slot: u32, want: Want, due: Option<Millis>) -> bool {
        let due = due.unwrap_or(NEVER);
        self.note_due(due);
        let mut is_waiting = false;
        poll_fn(|context| {
            let mut entries = self.entries.borrow_mut();
            let Some(entry) = entries.get_mut(slot) else { return Poll::Ready(false) };
            if *entry.flag(want) || (want == Want::Read && entry.has_ended) {
                entry.due = NEVER;
                return Poll::Ready(true);
            }
            // `expire` takes the deadline away.
            if is_waiting && entry.due == NEVER && due != NEVER {
                return Poll::Ready(false);
            }
            (is_waiting, entry.due) = (true, due);
            entry.waiting = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Takes at most `most` events from the kernel. Returns how many.
    pub(super) fn collect(&self, most: usize) -> usize {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut places = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        let places = &mut places[..most.min(EVENTS_MAX)];
        let Ok((events, _)) = epoll::wait(&self.epoll, places, Some(&now)) else { return 0 };
        let (mut entries, mut ready) = (self.entries.borrow_mut(), self.ready.borrow_mut());
        for event in &*events {
            let flags = event.flags;
            let Ok(slot) = u32::try_from(event.data.u64()) else { continue };
            let Some(entry) = entries.get_mut(slot) else { continue };
            entry.is_readable |= flags.intersects(READABLE);
            entry.is_writable |= flags.intersects(WRITABLE);
            entry.has_ended |= flags.intersects(ENDED);
            match entry.waiting.take() {
                Some(waiting) => waiting.wake(),
                None if entry.parked.is_some() && entry.is_readable => ready.push_back(slot),
                None => {}
            }
        }
        events.len()
    }

    /// Takes the next parked connection that may be ready.
    pub(super) fn next(&self) -> Option<C> {
        loop {
            let slot = self.ready.borrow_mut().pop_front()?;
            let mut entries = self.entries.borrow_mut();
            let Some(entry) = entries.get_mut(slot) else { continue };
            if let Some(connection) = entry.parked.take() {
                entry.due = NEVER;
                return Some(connection);
            }
        }
    }

    /// Takes all parked connections.
    pub(super) fn take_parked(&self) -> Vec<C> {
        self.entries.borrow_mut().values_mut().filter_map(|entry| entry.parked.take()).collect()
    }

    /// Waits until a deadline may have passed. `sleep` waits for so many milliseconds.
    pub(super) async fn due<S: Future<Output = ()>>(
        &self,
        now: impl Fn() -> Millis,
        sleep: impl Fn(Millis) -> S,
    ) {
        loop {
            let (earliest, now) = (self.earliest.get(), now());
            if earliest <= now {
                return;
            }
            let mut sleep = std::pin::pin!(sleep((earliest - now).min(SLEEP_MS_MAX)));
            poll_fn(|context| {
                if self.earliest.get() < earliest {
                    return Poll::Ready(());
                }
                self.sweeper.set(Some(context.waker().clone()));
                match earliest {
                    NEVER => Poll::Pending,
                    _ => sleep.as_mut().poll(context),
                }
            })
            .await;
        }
    }

    /// Ends the waits whose deadlines have passed. Calls `late` with each parked connection among
    /// them.
    pub(super) fn expire(&self, now: Millis, late: impl FnMut(C)) {
        let (mut expired, mut earliest) = (VecDeque::new(), NEVER);
        for entry in self.entries.borrow_mut().values_mut() {
            if entry.due > now {
                earliest = earliest.min(entry.due);
                continue;
            }
            entry.due = NEVER;
            expired.extend(entry.parked.take());
            entry.waiting.take().into_iter().for_each(Waker::wake);
        }
        self.earliest.set(earliest);
        // The end of a connection removes its entry.
        expired.into_iter().for_each(late);
    }

    fn note_due(&self, due: Millis) {
        if due < self.earliest.get() {
            self.earliest.set(due);
            self.sweeper.take().into_iter().for_each(Waker::wake);
        }
    }
}

/// Longest sleep until the next look at the deadlines, in milliseconds: what a timer may take.
const SLEEP_MS_MAX: Millis = 3_600_000;

impl<C> Default for Entry<C> {
    fn default() -> Self {
        Self {
            parked: None,
            waiting: None,
            due: NEVER,
            is_watched: false,
            is_readable: false,
            is_writable: false,
            has_ended: false,
        }
    }
}

impl<C> Entry<C> {
    fn flag(&mut self, want: Want) -> &mut bool {
        match want {
            Want::Read => &mut self.is_readable,
            Want::Write => &mut self.is_writable,
        }
    }
}

impl<C> std::fmt::Debug for HttpPoller<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpPoller").finish_non_exhaustive()
    }
}

fn data(slot: u32) -> epoll::EventData {
    epoll::EventData::new_u64(u64::from(slot))
}

const WRITABLE: epoll::EventFlags =
    epoll::EventFlags::OUT.union(epoll::EventFlags::HUP).union(epoll::EventFlags::ERR);
