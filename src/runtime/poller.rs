//! Reports which sockets of a worker are ready. There is one epoll descriptor, which the runtime
//! awaits.
//!
//! Sockets are registered once, edge-triggered, for both directions. So an idle connection costs
//! nothing here, and no system call is needed to learn that a full socket is writable again.
//! Another way of learning readiness, such as a ring with multishot receives, would replace this
//! file with the same functions.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::limits::READ_PASS_MAX;

/// An event that the kernel reports.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ready {
    /// The mailbox's doorbell rang, or the timer fired.
    Wake,
    /// The socket of the connection in this slot is ready.
    Socket {
        slot: u32,
        /// Bytes can be read, or their end.
        readable: bool,
        /// The peer has closed its side, or the connection failed. The socket must be read until
        /// its end.
        ended: bool,
        writable: bool,
    },
}

/// The data of events that are not a socket's. No slot reaches this number.
const WAKE: u64 = u64::MAX;

/// The epoll descriptor, and the timer that is registered with it.
pub(super) struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    /// Creates a poller that the doorbell `bell` wakes as well.
    pub(super) fn new(bell: &OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        // Edge-triggered, so that neither must be read before it can be reported again.
        let wake = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, bell, epoll::EventData::new_u64(WAKE), wake)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(WAKE), wake)?;
        Ok(Self { epoll, timer, events: Vec::with_capacity(READ_PASS_MAX) })
    }

    /// Returns a descriptor that is readable while something is ready. The runtime awaits it.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.epoll.try_clone()
    }

    /// Watches a socket, until its last descriptor is closed.
    pub(super) fn add(&self, socket: impl AsFd, slot: u32) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(u64::from(slot)), FLAGS)?)
    }

    /// Stops watching a socket, because it moves to another worker.
    pub(super) fn remove(&self, socket: impl AsFd) {
        // This fails only if the socket is not watched.
        let _ = epoll::delete(&self.epoll, socket);
    }

    /// Changes the slot under which a watched socket is reported.
    pub(super) fn rename(&self, socket: impl AsFd, slot: u32) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, socket, epoll::EventData::new_u64(u64::from(slot)), FLAGS)?)
    }

    /// Sets the timer to wake the worker once after `delay`, instead of when it was set to before.
    pub(super) fn wake_in(&self, delay: Duration) -> io::Result<()> {
        let value = Timespec {
            tv_sec: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(delay.subsec_nanos().max(1)),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Calls `ready` for [`READ_PASS_MAX`] events at most, without waiting. Returns true if there
    /// may be more.
    pub(super) fn collect(&mut self, mut ready: impl FnMut(Ready)) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.events.clear();
        let room = spare_capacity(&mut self.events);
        if epoll::wait(&self.epoll, room, Some(&now)).is_err() {
            return false;
        }
        for event in &self.events {
            let (data, flags) = (event.data.u64(), event.flags);
            ready(match u32::try_from(data) {
                Err(_) => Ready::Wake,
                Ok(slot) => Ready::Socket {
                    slot,
                    readable: flags.intersects(READABLE),
                    ended: flags.intersects(ENDED),
                    writable: flags.contains(epoll::EventFlags::OUT),
                },
            });
        }
        self.events.len() == READ_PASS_MAX
    }
}

/// The peer has closed its side, or the connection failed.
pub(super) const ENDED: epoll::EventFlags =
    epoll::EventFlags::RDHUP.union(epoll::EventFlags::HUP).union(epoll::EventFlags::ERR);
/// Bytes can be read, or their end.
pub(super) const READABLE: epoll::EventFlags = epoll::EventFlags::IN.union(ENDED);
/// The registration of a socket: edge-triggered, for both directions.
pub(super) const FLAGS: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::OUT)
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::ET);
