//! Start and end of a node: secrets, store, mailboxes, threads, and back. Reads as a list.

mod listen;
mod stop;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::auth::{KeyError, Keys};
use crate::background::store::{Reader, Store, StoreError};
use crate::background::webhook::Settings;
use crate::background::{self, Incoming, News, Writer};
use crate::broker::definitions::Definitions;
use crate::broker::directory::Directory;
use crate::broker::policies::Policies;
use crate::broker::publish::Broker;
use crate::config::secrets::{self, PublicKeysFile, Secrets};
use crate::config::{self, Config, ConfigError, Secret};
use crate::interface;
use crate::interface::authenticators::{AUDIENCES, Authenticators};
use crate::interface::m2::access::Terms;
use crate::interface::m2::documents;
use crate::limits::JWT_SECRET_BYTES_MIN;
use crate::mailbox::{AcceptorId, Answered, Inbox, Inboxes, Mail, Mailboxes};
use crate::message::WorkerId;
use crate::metrics::Metrics;
use crate::runtime::acceptor::{self, Acceptor};
use crate::runtime::driver::Driver;
use crate::runtime::shared::{About, Clock, Shared};
use crate::runtime::{Arrivals, Turns, Worker};
use listen::listen_patiently;

/// Threads of the side that count.
const SIDE_THREADS: usize = 2;

/// Why a node does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The secrets cannot be used.
    #[error("the keys in effect are not usable: {0}")]
    Keys(#[from] KeyError),
    /// Two nodes would each know half of what is there.
    #[error("{} is in use by another node; choose another directory with --data-dir", .0.display())]
    InUse(PathBuf),
    /// Nobody can be kept out of the data directory.
    #[error("cannot lock {}: {source}; every node needs a data directory of its own", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody can connect.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The system gave no thread or descriptor.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The store could not be closed as it should.
    #[error("the store could not be flushed: {0}; what was answered as stored is in its log")]
    Flush(#[source] StoreError),
    /// The same, for want of time.
    #[error("the store did not finish in time; what was answered as stored is in its log")]
    FlushTime,
    /// A thread ended, which none does while the node runs.
    #[error("the thread {0} ended; see the log above, and start the node again")]
    Thread(String),
}

impl NodeError {
    /// 2 where the operator's input is at fault, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Keys(_) | Self::InUse(_) | Self::Lock { .. } => 2,
            _ => 1,
        }
    }
}

/// What a node says about itself once it serves.
#[derive(Debug)]
pub struct Started {
    /// Where it listens.
    pub address: SocketAddr,
    /// On which driver.
    pub driver: Driver,
    /// With which secrets.
    pub secrets: Secrets,
}

/// What the node's main thread is told.
#[derive(Debug)]
enum Event {
    /// A hot thread has all that it needs.
    Ready,
    /// A thread ended, which none does by itself.
    Ended(String),
    /// The operator wants the node to stop, by this signal.
    Signal(&'static str),
    /// The side has stopped, as it was told.
    Flushed(Result<(), StoreError>),
}

/// Runs a node until SIGTERM or SIGINT stops it or a thread of it fails. `started` is called once
/// it serves.
///
/// # Errors
/// Whatever keeps it from starting, or ended it otherwise than by a signal.
pub fn run(config: &Arc<Config>, started: impl FnOnce(&Started)) -> Result<(), NodeError> {
    let (told, events) = mpsc::channel();
    stop::watch_signals(told.clone())?;
    raise_descriptor_limit();
    // Before anything is made: a start that fails for want of an address leaves nothing behind.
    let listener = listen_patiently(config.listen)
        .map_err(|source| NodeError::Listen { address: config.listen, source })?;
    let secrets = secrets::ensure(&config.data_dir, config)?;
    let keys = Arc::new(keys(config, &secrets)?);
    let _lock = lock(&config.data_dir)?;
    let store = Store::open(config.data_dir.join("fanfare.db"))?;
    let reader = Reader::open(config.data_dir.join("fanfare.db"))?;
    let definitions = Definitions::new(store.channels()?);
    let policies = Policies::new(store.permissions()?);
    let driver = Driver::choose();
    let address = listener.local_addr()?;
    let acceptors =
        if config.acceptor_threads == 0 { config.workers } else { config.acceptor_threads };
    let (mailboxes, inboxes) =
        Mailboxes::new(config.workers, acceptors, config.mailbox_publications)?;
    let broker = Broker {
        directory: Directory::default(),
        definitions: ArcSwap::from_pointee(definitions),
        policies: Arc::new(ArcSwap::from_pointee(policies)),
        mailboxes: Arc::new(mailboxes),
    };
    let hub = Arc::new(Shared {
        interfaces: interface::Shared::new(broker, config.clone(), rand::random()),
        metrics: Metrics::new(config.workers + acceptors + SIDE_THREADS),
        clock: Clock::new(),
        about: about(&driver),
        shutdown: OnceLock::new(),
    });
    let webhooks = Settings::new(&config.webhooks, secrets.webhook_secret.clone());
    let arrivals = Arc::new(Arrivals::new(config.workers));
    let node = Node { hub, arrivals, keys, webhooks, driver, listener };
    node.start(store, reader, inboxes, &told)?;
    node.watch(&events, || {
        let (driver, version) = (node.driver.describe(), env!("CARGO_PKG_VERSION"));
        tracing::info!(version, %address, driver, workers = config.workers, "serving");
        if !config.m2.require_auth {
            tracing::warn!("M2 is open to everybody on this machine (m2.require_auth = false)");
        }
        started(&Started { address, driver: node.driver.clone(), secrets });
    })
}

fn about(driver: &Driver) -> About {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    About {
        driver: driver.name(),
        driver_reason: driver.reason().to_owned(),
        started: u64::try_from(now.as_millis()).unwrap_or_default(),
    }
}

/// Keeps the data directory to this process for as long as the descriptor lives.
fn lock(data_dir: &Path) -> Result<OwnedFd, NodeError> {
    // Without waiting: what lies there under that name need not be a file.
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR;
    let path = data_dir.join("lock");
    let locked = open(&path, flags, mode).and_then(|file| {
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    });
    locked.map_err(|error| match error {
        Errno::AGAIN => NodeError::InUse(data_dir.to_owned()),
        error => NodeError::Lock { path, source: error.into() },
    })
}

/// Looks at all that a start takes from the configuration, and changes nothing.
///
/// # Errors
/// Every mistake that would keep a node with this configuration from starting.
pub fn check(config: &Config) -> Result<(), NodeError> {
    // Before the first start there are no secrets yet, and the files of keys ask for none.
    let mut keys = Keys::new("ik_", "anon_", &"-".repeat(JWT_SECRET_BYTES_MIN), &AUDIENCES)?;
    Ok(ConfigError::all([secrets::inspect(config), trust_issuers(&mut keys, config)])?)
}

/// Every key that the node trusts.
fn keys(config: &Config, secrets: &Secrets) -> Result<Keys, NodeError> {
    let mut keys = Keys::new(
        secrets.api_key.expose(),
        secrets.anon_key.expose(),
        secrets.jwt_secret.expose(),
        &AUDIENCES,
    )?;
    trust_issuers(&mut keys, config)?;
    Ok(keys)
}

/// Adds the public keys of token issuers.
fn trust_issuers(keys: &mut Keys, config: &Config) -> Result<(), ConfigError> {
    let mut trust = |file: Result<Option<PublicKeysFile>, _>, add: AddKeys| {
        let Some(file) = file? else { return Ok(()) };
        add(keys, &file.text).map(drop).map_err(|error| file.error(config, error))
    };
    ConfigError::all([
        trust(secrets::public_keys_file(config), |keys, pem| keys.add_pem(None, pem)),
        trust(secrets::jwks_file(config), Keys::add_jwks),
    ])
}

/// Trusts the keys of a text and says how many.
type AddKeys = fn(&mut Keys, &str) -> Result<usize, KeyError>;

/// Every connection is a descriptor: as many as the system lets this process have.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on descriptors cannot be raised");
    }
}

/// What every thread is given a part of.
struct Node {
    hub: Arc<Shared>,
    arrivals: Arc<Arrivals>,
    keys: Arc<Keys>,
    webhooks: Settings,
    driver: Driver,
    listener: TcpListener,
}

/// Says which thread ended, however it ended.
struct Ending {
    name: String,
    told: mpsc::Sender<Event>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.told.send(Event::Ended(std::mem::take(&mut self.name)));
    }
}

impl Node {
    /// Starts all threads; each that ends is told.
    fn start(
        &self,
        store: Store,
        reader: Reader,
        inboxes: Inboxes,
        told: &mpsc::Sender<Event>,
    ) -> io::Result<()> {
        let incoming = Incoming {
            wishes: inboxes.side,
            records: inboxes.history,
            writes: inboxes.documents,
            loads: inboxes.loads,
        };
        self.start_writer(store, incoming, told)?;
        let mailboxes = self.hub.interfaces.broker.mailboxes.clone();
        spawn("policies", told, move || {
            if let Err(error) = background::policy::run(&inboxes.policies, &mailboxes) {
                tracing::error!(%error, "policies cannot be evaluated");
            }
        })?;
        let mailboxes = self.hub.interfaces.broker.mailboxes.clone();
        spawn("reader", told, move || {
            background::reader::run(reader, &inboxes.reader, &mailboxes);
        })?;
        let mut acceptors = inboxes.acceptors.into_iter().zip(0u8..);
        let are_inside = self.hub.interfaces.config.acceptor_threads == 0;
        for (inbox, id) in inboxes.workers.into_iter().zip(0u8..) {
            let inside = if are_inside { acceptors.next() } else { None };
            self.start_worker(WorkerId(id), inbox, inside, told)?;
        }
        for (inbox, id) in acceptors {
            self.start_acceptor(AcceptorId(id), inbox, told)?;
        }
        Ok(())
    }

    fn start_writer(
        &self,
        store: Store,
        incoming: Incoming,
        told: &mpsc::Sender<Event>,
    ) -> io::Result<()> {
        let (hub, flushed) = (self.hub.clone(), told.clone());
        let hot = self.hot_threads();
        let counters = [0, 1].map(|thread| hub.metrics.thread(hot + thread));
        let writer = Writer::new(
            store,
            incoming,
            self.webhooks.clone(),
            hub.interfaces.broker.mailboxes.clone(),
            counters,
        )?;
        spawn("side", told, move || {
            let ended = writer.run(|news| match news {
                News::Channels(all) => {
                    let next = hub.interfaces.broker.definitions.load().replaced_by(all);
                    hub.interfaces.broker.definitions.store(Arc::new(next));
                }
                News::Document(document, places) => {
                    documents::publish_document(&hub.interfaces, document, places, hub.clock.now());
                }
                News::Loaded(load, stored) => {
                    documents::answer_load(&hub.interfaces, load, stored, hub.clock.now());
                }
                News::Permissions(all) => {
                    let next = hub.interfaces.broker.policies.load().replaced_by(all);
                    hub.interfaces.broker.policies.store(Arc::new(next));
                }
            });
            let _ = flushed.send(Event::Flushed(ended));
        })
    }

    /// Sets of counters that the hot threads have; those of the side come after them.
    fn hot_threads(&self) -> usize {
        self.hub.interfaces.config.workers + self.hub.interfaces.broker.mailboxes.acceptors.len()
    }

    /// Waits for what its threads and the operator have to say, until the node ends. `serves` is
    /// called once every hot thread has what it needs.
    fn watch(
        &self,
        events: &mpsc::Receiver<Event>,
        serves: impl FnOnce(),
    ) -> Result<(), NodeError> {
        let mut unready =
            self.hub.interfaces.config.workers + self.hub.interfaces.config.acceptor_threads;
        let mut serves = Some(serves);
        loop {
            // The caller holds a sender, so that receiving fails only with the process.
            match events.recv().unwrap_or_else(|_| Event::Ended("of the node".to_owned())) {
                Event::Ready => unready -= 1,
                Event::Signal(signal) => return self.stop(signal, events),
                Event::Ended(name) => return Err(NodeError::Thread(name)),
                Event::Flushed(flushed) => return flushed.map_err(NodeError::Flush),
            }
            if unready == 0
                && let Some(serves) = serves.take()
            {
                serves();
            }
        }
    }

    fn stop(&self, signal: &str, events: &mpsc::Receiver<Event>) -> Result<(), NodeError> {
        let (connections, window_ms) = (
            self.hub.interfaces.broker.mailboxes.connections(),
            self.hub.interfaces.config.drain_ms,
        );
        tracing::info!(signal, connections, window_ms, "draining; a second signal stops at once");
        stop::drain(&self.hub, &self.listener, window_ms, events)
    }

    /// A worker's thread, with an acceptor inside where there is one.
    fn start_worker(
        &self,
        id: WorkerId,
        inbox: Inbox<Mail>,
        inside: Option<(Inbox<Answered>, u8)>,
        told: &mpsc::Sender<Event>,
    ) -> io::Result<()> {
        let (hub, keys, driver) = (self.hub.clone(), self.keys.clone(), self.driver.clone());
        let arrivals = self.arrivals.clone();
        let (listener, ready) = (self.listener.try_clone()?, told.clone());
        spawn(&format!("worker-{}", id.0), told, move || {
            if hub.interfaces.config.pin_threads {
                pin(id.index(), hub.interfaces.config.workers);
            }
            let ended = driver.block_on(async {
                if let Some((answers, acceptor_id)) = inside {
                    let shared = (hub.clone(), arrivals.clone());
                    let acceptor = acceptor(AcceptorId(acceptor_id), shared, keys.clone());
                    acceptor::run_beside(acceptor, listener, answers);
                }
                let counters = hub.metrics.thread(id.index());
                let auth = authenticators(keys, &hub.interfaces.config);
                let (random, now) = (rand::make_rng(), hub.clock.now());
                let worker = Worker::new(id, (hub, arrivals), auth, counters, (random, now))?;
                let turns = Turns::new(worker, inbox)?;
                let _ = ready.send(Event::Ready);
                turns.run().await;
                Ok::<(), io::Error>(())
            });
            if let Err(error) = ended.flatten() {
                tracing::error!(%error, "a worker cannot run");
            }
        })
    }

    fn start_acceptor(
        &self,
        id: AcceptorId,
        inbox: Inbox<Answered>,
        told: &mpsc::Sender<Event>,
    ) -> io::Result<()> {
        let shared = (self.hub.clone(), self.arrivals.clone());
        let (keys, driver) = (self.keys.clone(), self.driver.clone());
        let (listener, ready) = (self.listener.try_clone()?, told.clone());
        spawn(&format!("acceptor-{}", id.0), told, move || {
            let acceptor = acceptor(id, shared, keys);
            let ended = driver.block_on(async {
                let _ = ready.send(Event::Ready);
                acceptor::run(acceptor, listener, inbox).await;
            });
            if let Err(error) = ended {
                tracing::error!(%error, "an acceptor cannot run");
            }
        })
    }
}

fn acceptor(
    id: AcceptorId,
    (hub, arrivals): (Arc<Shared>, Arc<Arrivals>),
    keys: Arc<Keys>,
) -> Acceptor {
    let counters = hub.metrics.thread(hub.interfaces.config.workers + usize::from(id.0));
    let auth = authenticators(keys, &hub.interfaces.config);
    Acceptor::new(id, (hub, arrivals), auth, counters, rand::make_rng())
}

fn authenticators(keys: Arc<Keys>, config: &Config) -> Authenticators {
    let config::M2 { require_auth, api_key, .. } = &config.m2;
    let m2 = Terms::new(*require_auth, api_key.as_ref().map(Secret::expose));
    Authenticators::new(keys, config.forge.token_lifetime_s, m2)
}

fn spawn(
    name: &str,
    told: &mpsc::Sender<Event>,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let ending = Ending { name: name.to_owned(), told: told.clone() };
    // The kernel shows 15 bytes of it: what tells threads apart must be among them.
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _ending = ending;
        work();
    })?;
    Ok(())
}

/// Keeps this thread on a core of its own, where there are enough of them.
fn pin(index: usize, workers: usize) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    if cores.len() < workers {
        return;
    }
    let mut own = CpuSet::new();
    own.set(cores[index]);
    if let Err(error) = sched_setaffinity(None, &own) {
        tracing::warn!(%error, "a worker cannot be kept on its core");
    }
}
