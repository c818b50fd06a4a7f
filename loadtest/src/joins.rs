//! Clients that join: they connect, shake hands and subscribe. Then they leave, or stay until all
//! are cut at once. One thread drives all.

use std::time::Duration;

use anyhow::{Context, Error, Result};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::api::Script;
use crate::client::Client;
use crate::clock::{now_ns, timespec};
use crate::connection::Dial;
use crate::heard::{Heard, histogram};
use crate::meter::Counts;
use crate::target::Target;
use crate::timeline::Recent;

const EVENTS_MAX: usize = 1_024;
const SCRATCH_BYTES: usize = 64 * 1024;
/// Longest wait, after which the caller looks whether it must stop.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// What a client does once it has joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    Leave,
    Stay,
}

/// The clients of one thread.
pub(crate) struct Joins<'a> {
    /// The nodes, which clients join in turn, and what each client does there.
    nodes: &'a [(Target, Script)],
    epoll: OwnedFd,
    scratch: Vec<u8>,
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    /// Number of the next client, which determines its source address.
    number: usize,
    heard: Heard,
    /// Clients that have begun to join and are neither in nor lost.
    pub(crate) underway: usize,
    /// Clients that are in.
    pub(crate) present: usize,
    /// Joins that have begun.
    begun: u64,
    pub(crate) counts: JoinCounts,
    /// The latencies since they were last shared.
    pub(crate) recent: Recent,
}

/// What became of the joins.
#[derive(Clone, Debug)]
pub(crate) struct JoinCounts {
    pub(crate) joined: u64,
    /// The same by node.
    pub(crate) joined_at: Vec<u64>,
    /// Joins that failed.
    pub(crate) failed: u64,
    /// Joins that were due and had not ended, or not even begun, when the run was over.
    pub(crate) unfinished: u64,
    /// Clients that were lost after they had joined.
    pub(crate) lost: u64,
    /// Why the first of both failed.
    pub(crate) first_failure: Option<String>,
    /// Time from when each was due to its subscription, in ns, for those due in the window.
    pub(crate) latency: Histogram<u64>,
}

struct Place {
    client: Client,
    /// The index of its node.
    node: usize,
    due_ns: u64,
    then: Then,
}

impl<'a> Joins<'a> {
    pub(crate) fn new(nodes: &'a [(Target, Script)]) -> Result<Self> {
        Ok(Self {
            nodes,
            epoll: epoll::create(CreateFlags::CLOEXEC).context("no epoll")?,
            scratch: vec![0; SCRATCH_BYTES],
            places: Vec::new(),
            free: Vec::new(),
            number: 0,
            heard: Heard::new(),
            underway: 0,
            present: 0,
            begun: 0,
            recent: Recent::default(),
            counts: JoinCounts {
                joined: 0,
                failed: 0,
                unfinished: 0,
                lost: 0,
                joined_at: vec![0; nodes.len()],
                first_failure: None,
                latency: histogram(),
            },
        })
    }

    /// Has a client begin to join, which was due at this time.
    pub(crate) fn begin(&mut self, due_ns: u64, then: Then) {
        self.begun += 1;
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        let node = self.number % self.nodes.len();
        match self.dial(at, node) {
            Ok(client) => {
                self.places[at] = Some(Place { client, node, due_ns, then });
                self.underway += 1;
            }
            Err(error) => {
                self.free.push(at);
                self.counts.fail(&self.located(node, error));
            }
        }
    }

    fn dial(&mut self, at: usize, node: usize) -> Result<Client> {
        let (target, _) = &self.nodes[node];
        let source = target.wide_source(self.number);
        self.number += 1;
        let dial = Dial { server: target.address, source, receive_bytes: None };
        let client = Client::dial(dial)?;
        let data = EventData::new_u64(at as u64);
        epoll::add(&self.epoll, &client, data, EventFlags::OUT)?;
        Ok(client)
    }

    /// Waits for news, at most this long, and handles them. Joins that were due before
    /// `measure_from_ns` are not timed.
    pub(crate) fn turn(&mut self, wait: Duration, measure_from_ns: u64) -> Result<()> {
        // The time-out of epoll may be rounded up to whole milliseconds.
        let mut fds = [PollFd::new(&self.epoll, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(wait.min(WAIT_MAX)))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("poll failed"),
        }
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        let look = timespec(Duration::ZERO);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&look)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll failed"),
        }
        for event in &events {
            let data = event.data;
            self.on_event(usize::try_from(data.u64())?, measure_from_ns);
        }
        Ok(())
    }

    fn on_event(&mut self, at: usize, measure_from_ns: u64) {
        let Some(Place { client, node, due_ns, then }) = self.places[at].as_mut() else {
            return;
        };
        let (_, script) = &self.nodes[*node];
        let was_ready = client.is_ready();
        let outcome = if client.is_dialling() {
            let listen = EventData::new_u64(at as u64);
            client
                .begin(script)
                .and_then(|()| Ok(epoll::modify(&self.epoll, &*client, listen, EventFlags::IN)?))
        } else {
            client.read(&mut self.scratch, script, &mut self.heard)
        };
        let (is_ready, node, due_ns, then) = (client.is_ready(), *node, *due_ns, *then);
        if let Err(error) = outcome {
            let error = self.located(node, error);
            if was_ready {
                self.present -= 1;
                self.counts.lost += 1;
                self.counts.note(&error);
            } else {
                self.underway -= 1;
                self.counts.fail(&error);
            }
            self.remove(at);
            return;
        }
        if !is_ready || was_ready {
            return;
        }
        self.underway -= 1;
        self.counts.joined += 1;
        self.counts.joined_at[node] += 1;
        if let Some(after_ns) = due_ns.checked_sub(measure_from_ns) {
            let latency_ns = now_ns().saturating_sub(due_ns);
            self.counts.latency.saturating_record(latency_ns);
            self.recent.record(after_ns, latency_ns);
        }
        match then {
            Then::Leave => self.remove(at),
            Then::Stay => self.present += 1,
        }
    }

    /// Adds the node to an error if there are several.
    fn located(&self, node: usize, error: Error) -> Error {
        match self.nodes {
            [_] => error,
            nodes => error.context(format!("at {}", nodes[node].0.authority)),
        }
    }

    /// Gives up the joins under way, and counts `missed` further ones that were due.
    pub(crate) fn give_up(&mut self, missed: u64) {
        self.counts.unfinished += self.underway as u64 + missed;
    }

    /// Forgets the joins so far, which were those before the measured time.
    pub(crate) fn forget(&mut self) {
        (self.begun, self.counts.joined) = (0, 0);
        self.counts.joined_at.fill(0);
    }

    /// Returns the counts that a run shows.
    pub(crate) fn shown(&self) -> Counts {
        let JoinCounts { joined, failed, lost, .. } = self.counts;
        Counts { begun: self.begun, done: joined, refused: 0, failed: failed + lost }
    }

    /// Closes the connection and frees its place.
    fn remove(&mut self, at: usize) {
        self.places[at] = None;
        self.free.push(at);
    }

    /// Cuts all connections at once.
    pub(crate) fn cut(&mut self) {
        self.places.clear();
        self.free.clear();
        (self.underway, self.present) = (0, 0);
    }
}

impl JoinCounts {
    fn fail(&mut self, error: &Error) {
        self.failed += 1;
        self.note(error);
    }

    fn note(&mut self, error: &Error) {
        self.first_failure.get_or_insert_with(|| format!("{error:#}"));
    }
}
