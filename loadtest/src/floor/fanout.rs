//! The smallest program that can do the work of a fan-out: one thread that hands the same bytes to
//! one socket after the other.
//!
//! It has no heartbeats, no channels and no limits per client. A server that needs more processor
//! time than this needs it for those.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::api::insforge;
use crate::clock::now_ns;
use crate::floor::frame::PublicationFrame;
use crate::floor::port::{Port, Ready, read_order};
use crate::floor::requests::{Answers, Requests};
use crate::floor::ring::{Ring, Short};
use crate::floor::session::Session;
use crate::floor::{Fanout, Sending, Sends, Source, Word};
use crate::helper::tell;
use crate::publisher::Schedule;
use crate::stamp::{Reader, Stamp};

/// Bytes that may be queued for all clients together. While more are, no publication is taken.
const BACKLOG_BYTES_MAX: usize = 64 << 20;
const SCRATCH_BYTES: usize = 64 * 1024;

/// The server and its clients.
pub(super) struct Server {
    port: Port,
    /// In order of arrival; `None` after the end of the connection.
    peers: Vec<Option<Peer>>,
    job: Fanout,
    ring: Option<Ring>,
    clock: Clock,
    frame: PublicationFrame,
    reader: Reader,
    /// The frames of this turn, one behind the other.
    turn: Vec<u8>,
    /// The length of each.
    frame_bytes: usize,
    answers: Answers,
    /// Publishers, and how many of their publications have no answer yet.
    owed: Vec<(usize, usize)>,
    backlog_bytes: usize,
}

enum Peer {
    Client(Session),
    Publisher(Requests),
}

/// The publications that the floor makes itself.
struct Clock {
    schedule: Schedule,
    /// When the first publication is due; `None` before the order to start.
    start_ns: Option<u64>,
    next: u64,
    late_ns_max: u64,
}

impl Server {
    /// Listens for clients and publishers.
    pub(super) fn new(job: Fanout) -> Result<Self> {
        let Sending { sends, source, audience, .. } = job.sending;
        let answers = match source {
            Source::Clock => String::new(),
            Source::Http => {
                ensure!(job.api.is_insforge(), "the floor answers publications of InsForge only");
                insforge::accepted(audience)
            }
        };
        let mut frame = PublicationFrame::new(job.api, &job.schedule)?;
        let frame_bytes = frame.stamped(Stamp { sequence: 0, due_ns: 0 }).len();
        let schedule = job.schedule.clone();
        Ok(Self {
            port: Port::open()?,
            peers: Vec::new(),
            ring: (sends == Sends::Ring).then(Ring::new).transpose()?,
            clock: Clock { schedule, start_ns: None, next: 0, late_ns_max: 0 },
            frame,
            frame_bytes,
            reader: Reader::new(),
            turn: Vec::new(),
            answers: Answers::new(&answers),
            owed: Vec::new(),
            backlog_bytes: 0,
            job,
        })
    }

    /// Serves until its orders end.
    pub(super) fn run(mut self) -> Result<()> {
        self.port.announce()?;
        let mut scratch = vec![0; SCRATCH_BYTES];
        loop {
            let wait = if self.is_behind() { None } else { self.clock.wait() };
            self.port.wait(wait)?;
            let mut at = 0;
            while let Some(ready) = self.port.ready(at)? {
                at += 1;
                match ready {
                    Ready::Clients => self.accept_clients()?,
                    Ready::Publishers => self.accept_publishers()?,
                    Ready::Orders => match read_order()? {
                        Some(start_ns) => self.clock.start_ns = Some(start_ns),
                        None => return Ok(()),
                    },
                    Ready::Connection(at, flags) => self.on_peer(at, flags, &mut scratch)?,
                }
            }
            self.take_due();
            self.answer()?;
            self.send_turn()?;
            self.clock.report()?;
        }
    }

    /// Whether the clients are so far behind that no further publication is taken.
    fn is_behind(&self) -> bool {
        self.backlog_bytes > BACKLOG_BYTES_MAX
    }

    fn accept_clients(&mut self) -> Result<()> {
        while let Some(stream) = self.port.next_client()? {
            stream.set_nodelay(true)?;
            self.port.watch(&stream, self.peers.len())?;
            self.peers.push(Some(Peer::Client(Session::new(stream, self.job.api))));
        }
        Ok(())
    }

    fn accept_publishers(&mut self) -> Result<()> {
        while let Some(stream) = self.port.next_publisher()? {
            stream.set_nodelay(true)?;
            self.port.watch(&stream, self.peers.len())?;
            self.peers.push(Some(Peer::Publisher(Requests::new(stream))));
        }
        Ok(())
    }

    fn on_peer(&mut self, at: usize, flags: EventFlags, scratch: &mut [u8]) -> Result<()> {
        // Dropping a peer closes its socket; a client counts what it misses.
        let outcome = match self.peers[at].as_mut() {
            None => return Ok(()),
            Some(Peer::Client(_)) => self.on_client(at, flags, scratch),
            Some(Peer::Publisher(_)) => self.on_publisher(at, flags, scratch),
        };
        if outcome.is_err() {
            let lost = match self.peers[at].take() {
                Some(Peer::Client(session)) => session.backlog_bytes(),
                _ => 0,
            };
            self.backlog_bytes -= lost;
        }
        Ok(())
    }

    fn on_client(&mut self, at: usize, flags: EventFlags, scratch: &mut [u8]) -> Result<()> {
        let Some(Peer::Client(session)) = self.peers[at].as_mut() else {
            return Ok(());
        };
        if flags.contains(EventFlags::OUT) {
            let before = session.backlog_bytes();
            session.flush()?;
            self.backlog_bytes -= before - session.backlog_bytes();
            if session.backlog_bytes() == 0 {
                self.port.watch_writable(&*session, at, false)?;
            }
        }
        if flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
            session.read(scratch)?;
        }
        Ok(())
    }

    fn on_publisher(&mut self, at: usize, flags: EventFlags, scratch: &mut [u8]) -> Result<()> {
        let Self { peers, port, frame, reader, turn, owed, .. } = self;
        let Some(Peer::Publisher(requests)) = peers[at].as_mut() else {
            return Ok(());
        };
        if flags.contains(EventFlags::OUT) && requests.flush()? {
            port.watch_writable(&*requests, at, false)?;
        }
        let count = requests.read(scratch, |body| {
            let stamp = reader.find(body).context("a publication without a stamp")?;
            turn.extend_from_slice(frame.stamped(stamp));
            Ok(())
        })?;
        if count > 0 {
            owed.push((at, count));
        }
        Ok(())
    }

    /// Adds the publications that are due to the turn.
    fn take_due(&mut self) {
        let most = match self.job.sending.sends {
            Sends::Plain => 1,
            Sends::Coalescing | Sends::Ring => self.job.sending.turn_max,
        };
        if self.is_behind() || self.clock.start_ns.is_none() {
            return;
        }
        let now_ns = now_ns();
        for _ in 0..most {
            let Some(stamp) = self.clock.take(now_ns) else {
                return;
            };
            self.turn.extend_from_slice(self.frame.stamped(stamp));
        }
    }

    /// Answers publications over HTTP. While clients are behind, answers are held back, so that
    /// publishers wait.
    fn answer(&mut self) -> Result<()> {
        if self.is_behind() {
            return Ok(());
        }
        for (at, count) in self.owed.drain(..) {
            let Some(Peer::Publisher(requests)) = self.peers[at].as_mut() else {
                continue;
            };
            match requests.answer(&self.answers, count) {
                Ok(true) => {}
                Ok(false) => self.port.watch_writable(&*requests, at, true)?,
                Err(_) => self.peers[at] = None,
            }
        }
        Ok(())
    }

    fn send_turn(&mut self) -> Result<()> {
        if self.turn.is_empty() {
            return Ok(());
        }
        let turn = std::mem::take(&mut self.turn);
        match self.job.sending.sends {
            Sends::Plain => turn.chunks(self.frame_bytes).try_for_each(|one| self.send(one))?,
            Sends::Coalescing => self.send(&turn)?,
            Sends::Ring => self.send_on_ring(&turn)?,
        }
        self.turn = turn;
        self.turn.clear();
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        for at in 0..self.peers.len() {
            let Some(Peer::Client(session)) = self.peers[at].as_mut() else {
                continue;
            };
            if !session.subscribed {
                continue;
            }
            let before = session.backlog_bytes();
            match session.send(bytes) {
                Ok(true) => {}
                Ok(false) => self.queued(at, before)?,
                Err(_) => self.lose(at, before),
            }
        }
        Ok(())
    }

    fn send_on_ring(&mut self, bytes: &[u8]) -> Result<()> {
        let lagging = |session: &Session| session.backlog_bytes() > 0;
        let clients = |peers: &[Option<Peer>]| -> Vec<usize> {
            let late = |(at, peer): (usize, &Option<Peer>)| match peer {
                Some(Peer::Client(session)) if session.subscribed && lagging(session) => Some(at),
                _ => None,
            };
            peers.iter().enumerate().filter_map(late).collect()
        };
        let late = if self.backlog_bytes > 0 { clients(&self.peers) } else { Vec::new() };
        let free = self.peers.iter().enumerate().filter_map(|(at, peer)| match peer {
            Some(Peer::Client(session)) if session.subscribed && !lagging(session) => {
                Some((at, std::os::fd::AsFd::as_fd(session)))
            }
            _ => None,
        });
        let ring = self.ring.as_mut().expect("it was made with the server");
        for Short { at, sent } in ring.send_to_each(free, bytes)? {
            let rest = match sent {
                Ok(sent) => &bytes[sent..],
                Err(Errno::AGAIN | Errno::INTR) => bytes,
                Err(_) => {
                    self.lose(at, 0);
                    continue;
                }
            };
            self.keep(at, rest)?;
        }
        late.into_iter().try_for_each(|at| self.keep(at, bytes))
    }

    /// Queues bytes for a client.
    fn keep(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        let Some(Peer::Client(session)) = self.peers[at].as_mut() else {
            return Ok(());
        };
        let before = session.backlog_bytes();
        session.queue(bytes);
        self.queued(at, before)
    }

    /// Counts what was queued for a client that had this many bytes queued before.
    fn queued(&mut self, at: usize, before: usize) -> Result<()> {
        let Some(Peer::Client(session)) = self.peers[at].as_ref() else {
            return Ok(());
        };
        self.backlog_bytes += session.backlog_bytes() - before;
        if before == 0 {
            self.port.watch_writable(session, at, true)?;
        }
        Ok(())
    }

    fn lose(&mut self, at: usize, before: usize) {
        self.peers[at] = None;
        self.backlog_bytes -= before;
    }
}

impl Clock {
    /// Returns the time until the next publication is due; `None` if none is left or the start is
    /// unknown.
    fn wait(&self) -> Option<Duration> {
        let start_ns = self.start_ns.filter(|_| self.next < self.schedule.publications)?;
        let due_ns = self.schedule.due_ns(start_ns, self.next);
        Some(Duration::from_nanos(due_ns.saturating_sub(now_ns())))
    }

    /// Returns the next publication if it is due.
    fn take(&mut self, now_ns: u64) -> Option<Stamp> {
        let start_ns = self.start_ns.filter(|_| self.next < self.schedule.publications)?;
        let due_ns = self.schedule.due_ns(start_ns, self.next);
        let late_ns = now_ns.checked_sub(due_ns)?;
        self.late_ns_max = self.late_ns_max.max(late_ns);
        let stamp = Stamp { sequence: self.next, due_ns };
        self.next += 1;
        Some(stamp)
    }

    /// Reports once that everything was published.
    fn report(&mut self) -> Result<()> {
        if self.start_ns.is_some() && self.next == self.schedule.publications {
            self.start_ns = None;
            tell(&Word::Published { late_ns_max: self.late_ns_max })?;
        }
        Ok(())
    }
}
