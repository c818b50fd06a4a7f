//! Start and end of a node: secrets, store, mailboxes, threads, and back. Reads as a list.

mod error;
mod keys;
mod listen;
mod stop;
mod threads;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::background::store::{Reader, Store, StoreError};
use crate::background::webhook::Settings;
use crate::broker::definitions::Definitions;
use crate::broker::directory::Directory;
use crate::broker::policies::Policies;
use crate::broker::publish::Broker;
use crate::config::Config;
use crate::config::secrets::{self, Secrets};
use crate::interface;
use crate::mailbox::Mailboxes;
use crate::metrics::Metrics;
use crate::runtime::Arrivals;
use crate::runtime::driver::Driver;
use crate::runtime::shared::{About, Clock, Shared};
use listen::listen_patiently;
use threads::{Node, SIDE_THREADS};

pub use error::NodeError;
pub use keys::check;

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
    let keys = Arc::new(keys::trusted(config, &secrets)?);
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

/// Every connection is a descriptor: as many as the system lets this process have.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on descriptors cannot be raised");
    }
}

impl Node {
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
}
