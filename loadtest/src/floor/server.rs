//! The smallest program that can do the work: one thread that hands the same bytes to one socket
//! after the other.
//!
//! It has no publications over HTTP, no heartbeats, no channels and no limits per client. A server
//! that needs more processor time than this needs it for those.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::api::Api;
use crate::clock::{now_ns, timespec};
use crate::floor::frame::PublicationFrame;
use crate::floor::session::Session;
use crate::floor::{Job, Word};
use crate::helper::tell;
use crate::publisher::Schedule;
use crate::stamp::Stamp;

const EVENTS_MAX: usize = 1_024;
/// Epoll data of the two descriptors that are not sessions. The epoll data of a session is its
/// index.
const LISTENER: u64 = u64::MAX;
const ORDERS: u64 = u64::MAX - 1;
/// Bytes that may be queued for all clients together; beyond it the run counts as failed.
const BACKLOG_BYTES_MAX: usize = 1 << 30;

/// The server and its clients.
pub(super) struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    /// In order of arrival; `None` after the end of the connection.
    sessions: Vec<Option<Session>>,
    api: Api,
    schedule: Schedule,
    frame: PublicationFrame,
    /// When the first publication is due; `None` before the order to start.
    start_ns: Option<u64>,
    next: u64,
    late_ns_max: u64,
    backlog_bytes: usize,
}

impl Server {
    /// Listens on a free loopback port.
    pub(super) fn new(job: Job) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let orders = EventData::new_u64(ORDERS);
        epoll::add(&epoll, std::io::stdin(), orders, EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            sessions: Vec::new(),
            frame: PublicationFrame::new(job.api, &job.schedule)?,
            api: job.api,
            schedule: job.schedule,
            start_ns: None,
            next: 0,
            late_ns_max: 0,
            backlog_bytes: 0,
        })
    }

    /// Serves until its orders end.
    pub(super) fn run(mut self) -> Result<()> {
        tell(&Word::Listening(self.listener.local_addr()?))?;
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        let mut scratch = vec![0; 16 * 1024];
        loop {
            self.await_turn()?;
            events.clear();
            let look = timespec(Duration::ZERO);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&look)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll failed"),
            }
            for event in &events {
                let (data, flags) = (event.data, event.flags);
                match data.u64() {
                    LISTENER => self.accept()?,
                    ORDERS if !self.on_orders()? => return Ok(()),
                    ORDERS => {}
                    at => self.on_session(usize::try_from(at)?, flags, &mut scratch)?,
                }
            }
            self.publish_due()?;
        }
    }

    /// Waits until there is something to do. This uses poll because the time-out of epoll may be
    /// rounded up to whole milliseconds, which would delay publications.
    fn await_turn(&self) -> Result<()> {
        let wait = self.wait().map(timespec);
        let mut fds = [PollFd::new(&self.epoll, PollFlags::IN)];
        match poll(&mut fds, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("poll failed"),
        }
    }

    /// Returns the time until the next publication is due; `None` if none is left or the start is
    /// unknown.
    fn wait(&self) -> Option<Duration> {
        let start_ns = self.start_ns.filter(|_| self.next < self.schedule.publications)?;
        let due_ns = self.schedule.due_ns(start_ns, self.next);
        Some(Duration::from_nanos(due_ns.saturating_sub(now_ns())))
    }

    /// Sends the next publication if it is due. A second overdue one waits for the next turn of the
    /// loop.
    fn publish_due(&mut self) -> Result<()> {
        let due = self.start_ns.filter(|_| self.next < self.schedule.publications);
        let Some(start_ns) = due else {
            return Ok(());
        };
        let due_ns = self.schedule.due_ns(start_ns, self.next);
        let now_ns = now_ns();
        if due_ns > now_ns {
            return Ok(());
        }
        self.late_ns_max = self.late_ns_max.max(now_ns - due_ns);
        let frame = self.frame.stamped(Stamp { sequence: self.next, due_ns });
        self.next += 1;
        let mut lagging = Vec::new();
        for (at, place) in self.sessions.iter_mut().enumerate() {
            let Some(session) = place.as_mut().filter(|session| session.subscribed) else {
                continue;
            };
            match session.send(frame) {
                Ok(true) => {}
                Ok(false) => lagging.push(at),
                // Dropping the session closes the socket; the client counts what it misses.
                Err(_) => *place = None,
            }
        }
        self.watch(&lagging)?;
        if self.next == self.schedule.publications {
            tell(&Word::Published { late_ns_max: self.late_ns_max })?;
        }
        Ok(())
    }

    /// Watches these sockets for writability and checks the total backlog.
    fn watch(&mut self, lagging: &[usize]) -> Result<()> {
        for at in lagging {
            let interest = EventFlags::IN | EventFlags::OUT;
            self.listen_to(*at, interest)?;
        }
        if !lagging.is_empty() {
            let sessions = self.sessions.iter().flatten();
            self.backlog_bytes = sessions.map(Session::backlog_bytes).sum();
        }
        ensure!(self.backlog_bytes <= BACKLOG_BYTES_MAX, "the clients cannot keep up");
        Ok(())
    }

    fn listen_to(&self, at: usize, interest: EventFlags) -> Result<()> {
        if let Some(session) = &self.sessions[at] {
            epoll::modify(&self.epoll, session, EventData::new_u64(at as u64), interest)?;
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("cannot accept"),
            };
            self.welcome(stream)?;
        }
    }

    fn welcome(&mut self, stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let data = EventData::new_u64(self.sessions.len() as u64);
        epoll::add(&self.epoll, &stream, data, EventFlags::IN)?;
        self.sessions.push(Some(Session::new(stream, self.api)));
        Ok(())
    }

    fn on_session(&mut self, at: usize, flags: EventFlags, scratch: &mut [u8]) -> Result<()> {
        let Some(session) = self.sessions[at].as_mut() else {
            return Ok(());
        };
        let mut outcome = Ok(());
        if flags.contains(EventFlags::OUT) {
            outcome = session.flush();
        }
        if flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
            outcome = outcome.and_then(|()| session.read(scratch));
        }
        if outcome.is_err() {
            self.sessions[at] = None;
        } else if flags.contains(EventFlags::OUT) && session.backlog_bytes() == 0 {
            self.listen_to(at, EventFlags::IN)?;
        }
        Ok(())
    }

    /// Reads the order that contains the start time. Returns false at the end of the orders.
    fn on_orders(&mut self) -> Result<bool> {
        let mut line = [0; 64];
        let count = rustix::io::read(std::io::stdin(), &mut line)?;
        if count == 0 {
            return Ok(false);
        }
        let start = str::from_utf8(&line[..count])?.trim().parse();
        self.start_ns = Some(start.context("not a time to start at")?);
        Ok(true)
    }
}
