//! A node without threads: the state that its threads would share, and its workers' mailboxes.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};

use fanfare::auth::Keys;
use fanfare::broker::definitions::Definitions;
use fanfare::broker::directory::Directory;
use fanfare::broker::memory::Memory;
use fanfare::broker::policies::Policies;
use fanfare::broker::publish::Broker;
use fanfare::config::{Config, EngineIo};
use fanfare::interface::authenticators::{AUDIENCES, Authenticators};
use fanfare::interface::m2::access as m2;
use fanfare::interface::{self, Session};
use fanfare::limits::{MAILBOX_CONTROL_MAX, SWEEP_STEPS};
use fanfare::mailbox::{Inbox, Inboxes, Mail, Mailboxes, Slot};
use fanfare::message::{ConnId, Now, Permissions, WorkerId};
use fanfare::metrics::Metrics;
use fanfare::runtime::descriptors::Descriptors;
use fanfare::runtime::shared::{About, Clock, Countdown, HttpEnd, Shared};
use fanfare::runtime::{Arrivals, Worker};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::WORKERS;

pub(crate) const API_KEY: &str = "ik_key";
const ANON_KEY: &str = "anon_key";
pub(crate) const SECRET: &str = "a secret that is long enough for the node to take it as one";

/// Returns the keys that every simulated node has.
pub(crate) fn keys() -> Arc<Keys> {
    Arc::new(Keys::new(API_KEY, ANON_KEY, SECRET, &AUDIENCES).expect("these can be keys"))
}

/// Milliseconds: more than the clock of any simulation advances, so clients need not answer pings.
const FOREVER: u64 = 3_600_000;

pub(crate) struct Node {
    pub(crate) hub: Arc<Shared>,
    pub(crate) inboxes: Inboxes,
    arrivals: Arc<Arrivals>,
    /// Places of each kind in each mailbox.
    places: usize,
    workers_made: Cell<u64>,
}

impl Node {
    /// Creates a node whose mailboxes have `places` places of each kind. `set` changes its
    /// configuration.
    pub(crate) fn new(places: usize, set: impl FnOnce(&mut Config)) -> Self {
        Self::made(places, Memory::unbounded(), set)
    }

    /// Creates a node whose clients may make it hold `bytes` bytes.
    pub(crate) fn with_memory(bytes: usize) -> Self {
        Self::made(MAILBOX_CONTROL_MAX, Memory::new(bytes, WORKERS), |_| {})
    }

    fn made(places: usize, memory: Memory, set: impl FnOnce(&mut Config)) -> Self {
        let made = Mailboxes::new(WORKERS, 0, places, usize::MAX);
        let (mailboxes, inboxes) = made.expect("the system gives event descriptors");
        for mailbox in mailboxes.workers.iter() {
            for _ in places..MAILBOX_CONTROL_MAX {
                // The place is never used or released, so that only `places` remain.
                mailbox.reserve(Slot::Control).expect("no place is taken yet").promise();
            }
        }
        let broker = Broker::new(
            Directory::default(),
            Definitions::new(Vec::new()),
            Policies::new(Permissions::default()),
            mailboxes,
            memory,
        );
        let mut config = Config::defaults();
        config.engine_io = EngineIo {
            ping_interval_ms: FOREVER,
            ping_timeout_ms: FOREVER,
            connect_timeout_ms: FOREVER,
            upgrade_timeout_ms: FOREVER,
            client_dir: None,
        };
        set(&mut config);
        let hub = Shared {
            interfaces: interface::Shared::new(broker, Arc::new(config), 0),
            metrics: Metrics::new(WORKERS),
            clock: Clock::new(),
            about: About {
                driver: "none",
                driver_reason: String::new(),
                backend: "none",
                backend_reason: String::new(),
                started: 0,
            },
            descriptors: Descriptors::new(None),
            notice: Arc::default(),
            shutdown: OnceLock::new(),
            untold: Countdown::new(WORKERS),
            http_end: HttpEnd::new(0),
        };
        Self {
            hub: Arc::new(hub),
            inboxes,
            arrivals: Arc::new(Arrivals::new(WORKERS)),
            places,
            workers_made: Cell::new(0),
        }
    }

    /// Creates a worker without connections. Each worker of the node draws other random numbers.
    pub(crate) fn worker(&self, id: WorkerId, now: Now) -> Worker {
        let auth = Authenticators::new(keys(), 60, m2::Terms::new(false, None));
        let counters = self.hub.metrics.thread(id.index());
        let seed = self.workers_made.replace(self.workers_made.get() + 1);
        let shared = (self.hub.clone(), self.arrivals.clone());
        let random = StdRng::seed_from_u64(seed);
        Worker::new(id, shared, auth, counters, (random, now)).expect("the system gives pollers")
    }

    /// Opens a connection at a worker, as after the handshake, and returns its id. Its socket
    /// never carries bytes.
    pub(crate) fn open(&self, worker: &mut Worker, id: WorkerId, session: Session) -> ConnId {
        let (socket, _) = UnixStream::pair().expect("the system gives sockets");
        self.hub.interfaces.broker.mailboxes.assign_to(id);
        worker.open(OwnedFd::from(socket), session).expect("the system lets it be watched")
    }

    /// Takes the next piece of a worker's mail.
    pub(crate) fn take(&self, worker: WorkerId) -> Option<Mail> {
        self.inboxes.workers[worker.index()].take(Mail::slot)
    }

    /// Returns how many pieces of mail are in a worker's mailbox.
    pub(crate) fn waiting(&self, worker: WorkerId) -> usize {
        self.inboxes.workers[worker.index()].len()
    }

    /// Returns how many pieces of mail are in each worker's mailbox.
    pub(crate) fn all_waiting(&self) -> Vec<usize> {
        self.inboxes.workers.iter().map(Inbox::len).collect()
    }

    /// Takes all of a worker's mail.
    pub(crate) fn mail(&self, worker: usize) -> Vec<Mail> {
        let inbox = &self.inboxes.workers[worker];
        std::iter::from_fn(|| inbox.take(Mail::slot)).collect()
    }

    /// Drops expired publications and channels from the directory.
    pub(crate) fn sweep(&self, now: u64) {
        let directory = &self.hub.interfaces.broker.directory;
        (0..SWEEP_STEPS).for_each(|step| directory.sweep(step, now));
    }

    /// Returns whether the workers' mailboxes are empty and all their places free.
    pub(crate) fn is_idle(&self) -> bool {
        self.inboxes.workers.iter().all(|inbox| inbox.is_empty() && self.taken(inbox) == 0)
    }

    /// Checks that each place that is taken holds a piece of mail.
    pub(crate) fn check_places(&self) {
        for inbox in &self.inboxes.workers {
            assert_eq!(self.taken(inbox), inbox.len(), "a place is used or released, never kept");
        }
    }

    fn taken(&self, inbox: &Inbox<Mail>) -> usize {
        let free = |slot| inbox.mailbox().free(slot);
        2 * self.places - free(Slot::Publication) - free(Slot::Control)
    }

    /// Checks sums of counters that must hold while no mail and no frame is queued.
    pub(crate) fn check_sums(&self) {
        let metrics = &self.hub.metrics;
        let settled = metrics.sum(|one| &one.delivered)
            + metrics.sum(|one| &one.dropped_slow_consumer)
            + metrics.sum(|one| &one.dropped_closed)
            + metrics.sum(|one| &one.dropped_oldest)
            + metrics.sum(|one| &one.dropped_replay)
            + metrics.sum(|one| &one.conflated);
        assert_eq!(metrics.sum(|one| &one.matched), settled, "what is matched is accounted for");
        let ended = metrics.sum(|one| &one.closed_client)
            + metrics.sum(|one| &one.closed_slow_consumer)
            + metrics.sum(|one| &one.closed_expired);
        let open = metrics.sum(|one| &one.websockets)
            + metrics.sum(|one| &one.topic_websockets)
            + metrics.sum(|one| &one.resource_websockets);
        assert_eq!(metrics.sum(|one| &one.opened), open + ended, "what is opened ends once");
        assert_eq!(
            self.hub.interfaces.broker.mailboxes.connections(),
            open,
            "each is assigned to its worker"
        );
    }
}
