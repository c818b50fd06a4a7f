#![doc = include_str!("README.md")]
//!
//! # The code
//!
//! [`run`] starts and ends a node: secrets, store, mailboxes and threads, in this order.

mod cluster;
mod documents;
mod error;
mod issuer;
mod keys;
mod listen;
pub mod log;
mod notify;
mod passed;
mod postgres;
mod reload;
mod signals;
mod stop;
mod threads;
mod tls;
mod watchdog;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::disable_transparent_huge_pages;

use crate::background::store::{Reader, Store, StoreError};
use crate::background::webhook::{self, Settings};
use crate::broker::definitions::Definitions;
use crate::broker::directory::Directory;
use crate::broker::memory::Memory;
use crate::broker::policies::Policies;
use crate::broker::publish::Broker;
use crate::broker::retain::Budgets;
use crate::config::client_files::{ClientFiles, client_files};
use crate::config::listen::Listen;
use crate::config::secrets::{self, Secrets};
use crate::config::{Config, ConfigError};
use crate::interface;
use crate::interface::deflating::counted;
use crate::interface::insforge::client_bundle::ClientBundle;
use crate::mailbox::Mailboxes;
use crate::metrics::{Metrics, heap};
use crate::runtime::Arrivals;
use crate::runtime::descriptors::Descriptors;
use crate::runtime::driver::Driver;
use crate::runtime::shared::{About, Clock, Countdown, HttpEnd, Notice, Shared};
use crate::runtime::transmit::Backend;
use cluster::Part;
pub use listen::Places;
use listen::{listen_all, places, with_terms};
use notify::Notify;
pub use passed::PassedSockets;
use reload::Reloader;
use threads::{BACKGROUND_THREADS, CLUSTER_THREADS, Node, spawn};
use tls::Certificates;

pub use cluster::{cluster_import, cluster_status};
pub use error::NodeError;
pub use keys::check;
pub use postgres::{Change, Wish, postgres};

/// Address, driver and secrets of a node that serves.
#[derive(Debug)]
pub struct Started {
    /// The places where it listens.
    pub places: Places,
    /// The driver of its hot threads.
    pub driver: Driver,
    /// The secrets in effect.
    pub secrets: Secrets,
}

/// An event for the node's main thread.
#[derive(Debug)]
enum Event {
    /// A hot thread has all that it needs.
    Ready,
    /// The thread of this name ended, which no thread does by itself.
    Ended(String),
    /// The operator stops the node by this signal.
    Signal(&'static str),
    /// The writer has ended, after it flushed the store.
    Flushed(Result<(), StoreError>),
}

/// Runs a node until SIGTERM or SIGINT stops it or one of its threads fails. It serves on the
/// sockets that were `passed`, if there are any. `read` reads the configuration again from its
/// sources, for reloads. `started` is called once the node serves.
///
/// # Errors
/// If the node cannot start, or ends otherwise than by a signal and in good order.
pub fn run(
    config: &Arc<Config>,
    passed: PassedSockets,
    read: impl Fn() -> Result<Config, ConfigError> + Send + 'static,
    started: impl FnOnce(&Started),
) -> Result<(), NodeError> {
    let notify = Notify::of_environment();
    let (told, events) = mpsc::channel();
    let (reload, reload_asked) = mpsc::sync_channel(1);
    let notice = Arc::new(Notice::default());
    signals::watch(&told, reload, (notice.clone(), config.drain_delay_ms > 0))?;
    raise_descriptor_limit();
    // The listener comes first, so that a start without an address leaves nothing behind.
    let sockets = listen_all(config, passed)?;
    let secrets = secrets::ensure(&config.data_dir, config)?;
    let fetched = issuer::start(config, &told)?;
    let (trust, issuers) = keys::trusted(config, &secrets, fetched.as_ref())?;
    let trust = Arc::new(ArcSwap::from_pointee(trust));
    let certificates = Certificates::read(config)?;
    let client = client_files(config)?;
    let _lock = lock(&config.data_dir)?;
    let store = Store::open(store_file(config))?;
    let reader = Reader::open(store_file(config))?;
    let (definitions, policies) = rules(&store, config)?;
    let acceptors =
        if config.acceptor_threads == 0 { config.workers } else { config.acceptor_threads };
    let (driver, backend) = ways(config, acceptors)?;
    let places = places(&sockets)?;
    let listeners = with_terms(sockets, certificates.as_ref());
    let memory = Memory::new(config.memory.client_bytes, config.workers);
    let part = memory.part(usize::MAX);
    let (mut mailboxes, mut inboxes) =
        Mailboxes::new(config.workers, acceptors, config.mailbox_publications, part)?;
    let (membership, documents) =
        cluster::part(config, &secrets, &trust.load(), &mut mailboxes, &store)?;
    let capture = postgres::part(config, &mut mailboxes)?;
    let (looks, desk) = documents.map(|documents| documents.take_over(&mut inboxes)).unzip();
    let broker =
        Broker::new(directory(config, part, &mailboxes), definitions, policies, mailboxes, memory);
    if let Some(ClientFiles { version, files }) = &client {
        tracing::info!(version, files = files.len(), "serving the Socket.IO client");
    }
    let interfaces = interface::Shared {
        client_bundle: ClientBundle::new(client),
        membership: membership.as_ref().map(|part| part.membership.clone()),
        tag: membership.as_ref().and_then(Part::tag),
        ..interface::Shared::new(broker, config.clone(), rand::random())
    };
    let shared = Arc::new(share(interfaces, notice, acceptors, about(&driver, &backend)));
    let webhooks = Settings::new(&config.webhooks, secrets.webhook_secret.clone(), part);
    let arrivals = Arc::new(Arrivals::new(config.workers));
    let reloader = Reloader {
        read,
        config: Config::clone(config),
        secrets: secrets.clone(),
        issuers,
        fetched: reload::Followed::new(fetched),
        trust: trust.clone(),
        effective: membership.as_ref().map(|part| part.effective.clone()),
        certificates,
        notify: notify.clone(),
    };
    let node = Node { notify, shared, arrivals, trust, webhooks, driver, backend, listeners };
    let (sharing, joining) = node.sharing(membership);
    node.start((store, reader), (inboxes, sharing), looks, &told)?;
    node.start_shared(desk, joining, &told)?;
    node.start_capture(capture, &told)?;
    spawn("reload", &told, move || reloader.run(&reload_asked))?;
    node.watch(&events, || {
        begin(&node, &places, &told)?;
        started(&Started { places, driver: node.driver.clone(), secrets });
        Ok(())
    })
}

/// Returns places as a log line names them.
fn named(places: &[Listen]) -> String {
    places.iter().map(Listen::to_string).collect::<Vec<_>>().join(", ")
}

/// Tells the log and the supervisor that a node serves, once all its threads are ready.
fn begin(node: &Node, places: &Places, told: &mpsc::Sender<Event>) -> io::Result<()> {
    let interfaces = &node.shared.interfaces;
    interfaces.broker.memory.begin(heap::allocated());
    let (driver, version) = (node.driver.describe(), env!("CARGO_PKG_VERSION"));
    let (sends, workers) = (node.backend.name(), interfaces.config.workers);
    let (listen, admin) = (named(&places.everybody), named(&places.admin));
    let admin = (!admin.is_empty()).then_some(admin);
    tracing::info!(version, listen, admin, driver, sends, workers, "serving");
    say_what_is_open(&interfaces.config);
    node.notify.ready(&format!("serving on {listen}"));
    watchdog::watch(&node.notify, &node.shared, told)
}

/// Logs what a node serves leniently, and that it serves all pages if others can reach it.
fn say_what_is_open(config: &Config) {
    for leniency in config.leniencies() {
        tracing::info!("for direct requests of this machine: {leniency}");
    }
    if config.exposure().is_some() && config.cors.allowed_origins.is_none() {
        tracing::info!(
            "pages of every origin may use this node; list those that should in \
             cors.allowed_origins"
        );
    }
}

/// Returns what administrators have set, as the store has it.
fn rules(store: &Store, config: &Config) -> Result<(Definitions, Policies), StoreError> {
    let definitions = store.channels()?;
    webhook::warn_of_never_called(&definitions, config.webhooks.allow_private);
    Ok((Definitions::new(definitions), Policies::new(store.permissions()?)))
}

/// Returns the file of the store in the data directory.
fn store_file(config: &Config) -> PathBuf {
    config.data_dir.join("fanfare.db")
}

/// Creates the directory of a node that may use `part` bytes for what channels keep.
fn directory(config: &Config, part: usize, mailboxes: &Mailboxes) -> Directory {
    let directory = Directory::new(Budgets::new(part).with_deflated(counted(config.websocket)))
        .with_logs(config.recovery.window_ms, config.recovery.log_bytes.min(part));
    match &mailboxes.stream {
        Some(stream) => directory.in_cluster(stream.interests.clone()),
        None => directory,
    }
}

/// Creates what all threads share.
fn share(
    interfaces: interface::Shared,
    notice: Arc<Notice>,
    acceptors: usize,
    about: About,
) -> Shared {
    let config = &interfaces.config;
    let workers = config.workers;
    let in_cluster = if config.is_clustered() { CLUSTER_THREADS } else { 0 };
    let passing = usize::from(config.passes_polls());
    let background = BACKGROUND_THREADS + in_cluster + passing;
    Shared {
        metrics: Metrics::new(workers + acceptors + background).clustered(config.is_clustered()),
        interfaces,
        clock: Clock::new(),
        about,
        descriptors: Descriptors::new(getrlimit(Resource::Nofile).current),
        notice,
        shutdown: OnceLock::new(),
        untold: Countdown::new(workers),
        http_end: HttpEnd::new(acceptors),
    }
}

/// Returns how the hot threads wait and send.
fn ways(config: &Config, acceptors: usize) -> Result<(Driver, Backend), NodeError> {
    let (driver, _rings) = Driver::choose(config.workers + config.acceptor_threads);
    let backend = Backend::choose(&config.io, &driver, config.workers + acceptors);
    backend.map(|backend| (driver, backend)).map_err(NodeError::Ring)
}

fn about(driver: &Driver, backend: &Backend) -> About {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    About {
        driver: driver.name(),
        driver_reason: driver.reason().to_owned(),
        backend: backend.name(),
        backend_reason: backend.reason().to_owned(),
        started: u64::try_from(now.as_millis()).unwrap_or_default(),
    }
}

/// Locks the data directory for this process, for as long as the descriptor lives.
fn lock(data_dir: &Path) -> Result<OwnedFd, NodeError> {
    // Without waiting, because the name may be that of a pipe.
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

/// Forbids huge pages to this process, which should be called before it allocates much.
///
/// The allocator asks for huge pages, and each of the threads has places of its own: with two
/// workers a node took 39 MB at rest with them, and 19 MB without. They bring nothing that could be
/// measured, because most of a delivery's time is the kernel's.
pub fn keep_memory_small() {
    // A kernel without huge pages may refuse this.
    let _ = disable_transparent_huge_pages(true);
}

/// Raises the limit on descriptors as far as the system lets this process, because every connection
/// is one.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on descriptors cannot be raised");
    }
}

impl Node {
    /// Handles events until the node ends. `serves` is called once every hot thread is ready.
    fn watch(
        &self,
        events: &mpsc::Receiver<Event>,
        serves: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), NodeError> {
        let mut unready =
            self.shared.interfaces.config.workers + self.shared.interfaces.config.acceptor_threads;
        let mut serves = Some(serves);
        loop {
            // The caller holds a sender, so receiving does not fail.
            match events.recv().unwrap_or_else(|_| Event::Ended("of the node".to_owned())) {
                Event::Ready => unready -= 1,
                Event::Signal(signal) => {
                    return self.stop(signal, serves.is_none(), events);
                }
                Event::Ended(name) => return Err(NodeError::Thread(name)),
                Event::Flushed(flushed) => return flushed.map_err(NodeError::Flush),
            }
            if unready == 0
                && let Some(serves) = serves.take()
            {
                serves()?;
            }
        }
    }

    /// Ends the node after a signal, after its delay if it `serves` already.
    fn stop(
        &self,
        signal: &str,
        serves: bool,
        events: &mpsc::Receiver<Event>,
    ) -> Result<(), NodeError> {
        let config = &self.shared.interfaces.config;
        let (delay_ms, window_ms) = (config.drain_delay_ms, config.drain_ms);
        self.notify.stopping("stopping");
        if delay_ms > 0 && serves {
            tracing::info!(
                signal,
                delay_ms,
                "health says that the node drains, and it still serves new clients; a second \
                 signal ends this delay"
            );
            self.notify.status(&format!("serving for another {delay_ms} ms, then draining"));
            stop::wait_before(&self.shared, delay_ms, events)?;
        }
        let connections = self.shared.interfaces.broker.mailboxes.connections();
        tracing::info!(signal, connections, window_ms, "draining; another signal stops at once");
        self.notify.status(&format!("draining {connections} connections over {window_ms} ms"));
        stop::drain(&self.shared, &self.listeners, window_ms, events)
    }
}
