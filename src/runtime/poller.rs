//! Readiness of all sockets of one worker: one epoll descriptor, which the runtime awaits.
//!
//! Sockets are registered once, edge-triggered, for both directions: an idle connection costs the
//! process nothing here, and a full socket needs no further system call to be told when it drains.
//! The seam is this file: another way of learning readiness (a ring with multishot receives)
//! would offer the same functions.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// What became ready.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ready {
    /// Somebody rang, or it is time.
    Wake,
    /// A connection's socket.
    Socket {
        /// The connection's slot.
        slot: u32,
        /// Bytes, or the end of them, can be read.
        readable: bool,
        /// The peer has closed its side, or the connection failed: read until the end.
        ended: bool,
        /// Bytes can be sent.
        writable: bool,
    },
}

/// Marks the events that are not sockets; no slot reaches it.
const WAKE: u64 = u64::MAX;
/// Events taken from the kernel in one call.
const EVENTS: usize = 512;

/// The epoll descriptor and what belongs to it.
pub(super) struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    /// Creates a poller that `bell` wakes, too.
    pub(super) fn new(bell: &OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        // Edge-triggered, so that neither has to be read to fall silent again.
        let wake = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, bell, epoll::EventData::new_u64(WAKE), wake)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(WAKE), wake)?;
        Ok(Self { epoll, timer, events: Vec::with_capacity(EVENTS) })
    }

    /// A descriptor that is readable while something is ready, for the runtime to await.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.epoll.try_clone()
    }

    /// Watches a socket from now on. Closing its last descriptor ends that.
    pub(super) fn add(&self, socket: impl AsFd, slot: u32) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(u64::from(slot)), FLAGS)?)
    }

    /// Watches a socket no longer: it goes to another worker.
    pub(super) fn remove(&self, socket: impl AsFd) {
        // It fails only for what is not watched.
        let _ = epoll::delete(&self.epoll, socket);
    }

    /// Reports a watched socket under another slot.
    pub(super) fn rename(&self, socket: impl AsFd, slot: u32) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, socket, epoll::EventData::new_u64(u64::from(slot)), FLAGS)?)
    }

    /// Wakes the worker in `delay`, instead of whenever it was told before.
    pub(super) fn wake_in(&self, delay: Duration) -> io::Result<()> {
        let value = Timespec {
            tv_sec: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(delay.subsec_nanos().max(1)),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Hands over what is ready now, without waiting. True when there may be more.
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
        self.events.len() == EVENTS
    }
}

const ENDED: epoll::EventFlags =
    epoll::EventFlags::RDHUP.union(epoll::EventFlags::HUP).union(epoll::EventFlags::ERR);
const READABLE: epoll::EventFlags = epoll::EventFlags::IN.union(ENDED);
const FLAGS: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::OUT)
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::ET);
