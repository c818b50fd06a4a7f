//! The part of a node in its cluster.

use std::io;
use std::ops::Deref;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::documents::Documents;
use super::threads::{BACKGROUND_THREADS, CLUSTER_THREADS, Node, spawn};
use super::{Event, NodeError, keys, store_file};
use crate::background::cluster::control::Settings;
use crate::background::cluster::credentials;
use crate::background::cluster::documents::{Outside, Queues};
use crate::background::cluster::identity::{self, ClusterId};
use crate::background::cluster::polls::{self, Hearing, Patience};
use crate::background::cluster::status::{self, Report};
use crate::background::cluster::{Asked, Imported, Member, import, serve};
use crate::background::histories::{Shares, Ways};
use crate::background::store::Store;
use crate::cluster::name::NodeName;
use crate::config::secrets::{self, Secrets};
use crate::config::{Config, ConfigError, Effective, Fingerprints, cluster};
use crate::interface;
use crate::interface::authenticators::Trust;
use crate::interface::forge::http::follow;
use crate::interface::landing::Landing;
use crate::interface::membership::Membership;
use crate::limits::CLUSTER_POLL_MARGIN_MS;
use crate::mailbox::{Mailboxes, PassingEnds, StreamEnds};
use crate::message::{Invocation, NodeTag};
use crate::runtime::passing;
use crate::runtime::shared::Shared;

/// Reads the state of the configured cluster, and compares its nodes with these settings.
///
/// # Errors
/// Every mistake of the configuration; or if the system gives no descriptors.
pub fn cluster_status(config: &Config) -> Result<Report, NodeError> {
    let settings = Settings::of(config, "status")
        .ok_or_else(|| config.mistake("cluster.nats", "is not set: there is no cluster to show"))?;
    ConfigError::all([cluster::check(config), credentials::check_files(config)])?;
    Ok(status::report(settings, fingerprints(config)?)?)
}

/// Returns what gives the fingerprints of these settings in the cluster with an id.
fn fingerprints(config: &Config) -> Result<impl Fn(&ClusterId) -> Fingerprints, NodeError> {
    let secrets = secrets::of_cluster(config)?;
    let (trust, _) = keys::trusted(config, &secrets, None)?;
    let effective = effective(config, &secrets, &trust);
    Ok(move |cluster: &ClusterId| Fingerprints::new(&effective, cluster.as_str()))
}

/// Compares what was set on the node of these settings alone with what the nodes of its cluster
/// share, and adds what is missing there if `applies`.
///
/// # Errors
/// Every mistake of the configuration; if the data directory has no store; if NATS cannot be
/// reached or does not answer; or if it would change a cluster whose nodes have other secrets.
pub fn cluster_import(config: &Config, applies: bool) -> Result<Imported, NodeError> {
    let settings = Settings::of(config, "import").ok_or_else(|| {
        config.mistake("cluster.nats", "is not set: there is no cluster to import into")
    })?;
    ConfigError::all([cluster::check(config), credentials::check_files(config)])?;
    let file = store_file(config);
    if !file.exists() {
        let nothing = format!("has no {}: no node has run there", file.display());
        return Err(config.mistake("data_dir", nothing).into());
    }
    let fingerprints = fingerprints(config)?;
    let store = Store::open(file)?;
    // A node that has followed a cluster has set its own aside.
    let own = match store.followed()? {
        Some(_) => store.set_aside()?,
        None => store.administered()?,
    };
    Ok(import(settings, &own, fingerprints, applies)?)
}

/// Returns what a node is set up with, as nodes of a cluster compare it.
pub(super) fn effective(config: &Config, secrets: &Secrets, trust: &Trust) -> Effective {
    let public_keys = trust.keys.public_set();
    Effective { config: config.clone(), secrets: secrets.clone(), public_keys }
}

/// The name of the thread of the cluster.
pub(super) const THREAD: &str = "cluster";

/// What the thread of the cluster needs, prepared before the threads start.
pub(super) struct Part {
    pub(super) membership: Arc<Membership>,
    /// What the node is set up with, which reloads replace.
    pub(super) effective: Arc<ArcSwap<Effective>>,
    ends: StreamEnds,
    name: NodeName,
    control: Settings,
    /// The way of documents to their thread.
    documents: Arc<Outside>,
    /// What the thread needs that passes long-polling requests on, if they are passed on.
    passing: Option<PassingEnds>,
}

/// Prepares the threads of the cluster and of its documents, if a cluster is configured.
///
/// # Errors
/// As [`Part::new`].
pub(super) fn part(
    config: &Config,
    secrets: &Secrets,
    trust: &Trust,
    mailboxes: &mut Mailboxes,
    store: &Store,
) -> Result<(Option<Part>, Option<Documents>), NodeError> {
    match config.is_clustered() {
        true => Ok(Some(Part::new(config, secrets, trust, mailboxes, store)?).unzip()),
        false => Ok((None, None)),
    }
}

impl Part {
    /// Opens the way of publications to the cluster's stream, and names the node.
    ///
    /// # Errors
    /// If the name of the node cannot be kept, the copy of the documents cannot be opened, or the
    /// system gives no event descriptor.
    fn new(
        config: &Config,
        secrets: &Secrets,
        trust: &Trust,
        mailboxes: &mut Mailboxes,
        store: &Store,
    ) -> Result<(Self, Documents), NodeError> {
        let name = identity::node_name(config).map_err(NodeError::Identity)?;
        let control = Settings::of(config, name.as_str())
            .ok_or_else(|| config.mistake("cluster.nats", "is not set"))?;
        let membership = Arc::<Membership>::default();
        let (documents, outside) =
            Documents::open(config, store, name.clone(), membership.clone())?;
        let part = Self {
            membership,
            effective: Arc::new(ArcSwap::from_pointee(effective(config, secrets, trust))),
            ends: mailboxes.open_stream()?,
            passing: config.passes_polls().then(|| mailboxes.open_passing()).transpose()?,
            name,
            control,
            documents: outside,
        };
        Ok((part, documents))
    }

    /// Returns what stands for the node in ids of sessions; `None` if long-polling requests are not
    /// passed on.
    pub(super) fn tag(&self) -> Option<NodeTag> {
        self.passing.as_ref().map(|_| self.name.tag())
    }
}

impl Node {
    /// Opens the ways on which the threads of the store share with other nodes, if the node has a
    /// part in a cluster.
    pub(super) fn sharing(&self, part: Option<Part>) -> (Shares, Option<(Part, Ways)>) {
        let Some(part) = part else { return (Shares::alone(), None) };
        let (shares, ways) = Shares::with(&self.shared.interfaces.broker.mailboxes);
        (shares, Some((part, ways)))
    }

    /// Starts the threads of a node that has a part in a cluster. They report their ends to `told`.
    pub(super) fn start_shared(
        &self,
        desk: Option<(Documents, Queues)>,
        joining: Option<(Part, Ways)>,
        told: &mpsc::Sender<Event>,
    ) -> io::Result<()> {
        if let Some(desk) = desk {
            self.start_desk(desk, told)?;
        }
        match joining {
            Some((part, ways)) => self.join(part, ways, told),
            None => Ok(()),
        }
    }

    /// Starts the thread of the cluster. It reports its end to `told`.
    fn join(&self, part: Part, ways: Ways, told: &mpsc::Sender<Event>) -> io::Result<()> {
        let Ways { administration, history } = ways;
        let Part { membership, effective, ends, name, control, documents, passing } = part;
        let polls = passing.map(|ends| self.pass_polls(ends, &name, control.clone(), told));
        let StreamEnds { submitted, sessions } = ends;
        let mailboxes = self.shared.interfaces.broker.mailboxes.clone();
        let shared = self.shared.clone();
        let counters = shared.metrics.thread(self.hot_threads() + BACKGROUND_THREADS);
        let (definitions, registry) = (self.shared.clone(), self.shared.clone());
        let take = move |invocation: &Invocation| {
            let invocations = &registry.interfaces.events.invocations;
            if let Err(problem) = follow(invocations, invocation, registry.clock.now()) {
                tracing::error!(problem, "an invocation of another node cannot be used");
            }
        };
        let member = Member {
            name,
            started: shared.about.started,
            effective,
            administration,
            take_invocation: Arc::new(take),
            control,
            window: Box::new(move || replay_window(&definitions.interfaces)),
            documents,
            sessions: Arc::new(Asked::new(sessions, mailboxes)),
            history,
            polls: polls.transpose()?,
        };
        spawn(THREAD, told, move || {
            let interfaces = Interfaces(shared.clone());
            let stream = interfaces.broker.mailboxes.stream.as_ref();
            let Some(bell) = stream.map(|stream| stream.interests.clone()) else { return };
            let clock = || shared.clock.now();
            let landing = Landing::new(interfaces, membership, submitted, counters.clone(), clock);
            let ended = serve(member, landing, bell.doorbell(), &counters);
            if let Err(error) = ended {
                tracing::error!(%error, "the thread of the cluster cannot run");
            }
        })
    }
}

impl Node {
    /// Starts the thread that passes long-polling requests on to the nodes of their sessions. It
    /// reports its end to `told`. Returns where it is told which nodes are heard.
    fn pass_polls(
        &self,
        ends: PassingEnds,
        name: &NodeName,
        mut control: Settings,
        told: &mpsc::Sender<Event>,
    ) -> io::Result<Hearing> {
        let (hearing, ear) = polls::hearing();
        let (shared, arrivals) = (self.shared.clone(), self.arrivals.clone());
        let config = &shared.interfaces.config;
        let margin = Duration::from_millis(CLUSTER_POLL_MARGIN_MS);
        let heartbeat = config.engine_io.ping_interval_ms.max(config.engine_io.ping_timeout_ms);
        let patience = Patience {
            poll: Duration::from_millis(heartbeat) + margin,
            // What is behind a client's socket may take as long again.
            receipt: 2 * Duration::from_millis(config.http.write_timeout_ms) + margin,
        };
        control.line.name.push_str(" (polls)");
        let (asked, stopping) = (shared.clone(), shared.clone());
        let part = polls::Part {
            tag: name.tag(),
            control,
            ends,
            mailboxes: shared.interfaces.broker.mailboxes.clone(),
            ask: Box::new(move |session, body, ticket| {
                let mailboxes = &asked.interfaces.broker.mailboxes;
                passing::ask((mailboxes, &arrivals), session, body, ticket)
            }),
            is_stopping: Box::new(move || stopping.shutdown.get().is_some()),
            ear,
            patience,
        };
        let place = self.hot_threads() + BACKGROUND_THREADS + CLUSTER_THREADS;
        let counters = shared.metrics.thread(place);
        spawn("polls", told, move || {
            if let Err(error) = polls::serve(part, counters) {
                tracing::error!(%error, "the thread of passed-on requests cannot run");
            }
        })?;
        Ok(hearing)
    }
}

/// What the interfaces share, as a part of what all threads of the runtime share.
struct Interfaces(Arc<Shared>);

impl Deref for Interfaces {
    type Target = interface::Shared;

    fn deref(&self) -> &interface::Shared {
        &self.0.interfaces
    }
}

/// Returns the longest time for which a client may ask for what it has missed, by the settings and
/// by the definitions of channels.
fn replay_window(shared: &interface::Shared) -> Duration {
    let definitions = shared.broker.definitions.load();
    let seconds = definitions.all().iter().map(|one| one.options.retain.seconds()).max();
    shared.config.replay_window().max(Duration::from_secs(seconds.unwrap_or(0).into()))
}
