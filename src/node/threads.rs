//! The threads of a node.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

use arc_swap::ArcSwap;
use crossbeam_channel::Sender;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::Event;
use super::notify::Notify;
use crate::background::cluster::documents::Look;
use crate::background::histories::Shares;
use crate::background::store::{Reader, Store};
use crate::background::webhook::Settings;
use crate::background::{self, Incoming, News, Writer};
use crate::interface::authenticators::{Authenticators, Trust};
use crate::interface::m2::documents;
use crate::mailbox::{AcceptorId, Answered, Inbox, Inboxes, Mail};
use crate::message::WorkerId;
use crate::runtime::accepting;
use crate::runtime::acceptor::Acceptor;
use crate::runtime::driver::Driver;
use crate::runtime::listener::Listener;
use crate::runtime::shared::Shared;
use crate::runtime::transmit::Backend;
use crate::runtime::{Arrivals, Turns, Worker};

/// Background threads with counters of their own: the writer and the thread of webhooks.
pub(super) const BACKGROUND_THREADS: usize = 2;
/// Threads of a node in a cluster with counters of their own: that of the cluster, and that of its
/// documents. One that passes long-polling requests on comes after them.
pub(super) const CLUSTER_THREADS: usize = 2;

/// The parts of a node that its threads share.
pub(super) struct Node {
    pub(super) notify: Notify,
    pub(super) shared: Arc<Shared>,
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) trust: Arc<ArcSwap<Trust>>,
    pub(super) webhooks: Settings,
    pub(super) driver: Driver,
    /// How the workers send.
    pub(super) backend: Backend,
    pub(super) listeners: Vec<Listener>,
}

/// Reports the end of a thread when it is dropped, however the thread ended.
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
    /// Starts all threads but those of a cluster. Each reports its end to `told`. In a cluster,
    /// `looks` takes the questions for documents.
    pub(super) fn start(
        &self,
        (store, reader): (Store, Reader),
        (inboxes, shares): (Inboxes, Shares),
        looks: Option<Sender<Look>>,
        told: &mpsc::Sender<Event>,
    ) -> io::Result<()> {
        let Shares { sharing, reading, writing } = shares;
        let incoming = Incoming {
            wishes: inboxes.side,
            records: inboxes.history,
            writes: inboxes.documents,
            loads: inboxes.loads,
            sharing,
            histories: writing,
        };
        self.start_writer(store, incoming, told)?;
        let mailboxes = self.shared.interfaces.broker.mailboxes.clone();
        spawn("policies", told, move || {
            if let Err(error) = background::policy::run(&inboxes.policies, &mailboxes) {
                tracing::error!(%error, "policies cannot be evaluated");
            }
        })?;
        let mailboxes = self.shared.interfaces.broker.mailboxes.clone();
        spawn("reader", told, move || {
            let (queries, looks) = (&inboxes.reader, looks.as_ref());
            background::reader::run(reader, queries, &mailboxes, looks, &reading);
        })?;
        let mut acceptors = inboxes.acceptors.into_iter().zip(0u8..);
        let are_inside = self.shared.interfaces.config.acceptor_threads == 0;
        for (inbox, id) in inboxes.workers.into_iter().zip(0u8..) {
            let inside = if are_inside { acceptors.next() } else { None };
            self.start_worker(WorkerId(id), inbox, inside, told)?;
        }
        for (inbox, id) in acceptors {
            self.start_acceptor(AcceptorId(id), inbox, told)?;
        }
        Ok(())
    }

    /// Returns the listeners for one more thread.
    fn listeners(&self) -> io::Result<Vec<Listener>> {
        self.listeners.iter().map(Listener::try_clone).collect()
    }

    fn start_writer(
        &self,
        store: Store,
        incoming: Incoming,
        told: &mpsc::Sender<Event>,
    ) -> io::Result<()> {
        let (shared, flushed) = (self.shared.clone(), told.clone());
        let hot = self.hot_threads();
        let counters = [0, 1].map(|thread| shared.metrics.thread(hot + thread));
        let writer = Writer::new(
            store,
            incoming,
            self.webhooks.clone(),
            shared.interfaces.broker.mailboxes.clone(),
            counters,
        )?;
        spawn("writer", told, move || {
            let ended = writer.run(|news| match news {
                News::Channels(all) => {
                    let next = shared.interfaces.broker.definitions.load().replaced_by(all);
                    shared.interfaces.broker.definitions.store(Arc::new(next));
                }
                news @ (News::Document(..) | News::Loaded(..)) => announce(&shared, news),
                News::Permissions(all) => {
                    let next = shared.interfaces.broker.policies.load().replaced_by(all);
                    shared.interfaces.broker.policies.store(Arc::new(next));
                }
            });
            let _ = flushed.send(Event::Flushed(ended));
        })
    }

    /// Returns how many sets of counters the hot threads have; those of the background follow.
    pub(super) fn hot_threads(&self) -> usize {
        let mailboxes = &self.shared.interfaces.broker.mailboxes;
        self.shared.interfaces.config.workers + mailboxes.acceptor_threads()
    }

    /// Starts a worker's thread, with an acceptor inside it if `inside` is given.
    fn start_worker(
        &self,
        id: WorkerId,
        inbox: Inbox<Mail>,
        inside: Option<(Inbox<Answered>, u8)>,
        told: &mpsc::Sender<Event>,
    ) -> io::Result<()> {
        let (shared, trust) = (self.shared.clone(), self.trust.clone());
        let (driver, backend) = (self.driver.clone(), self.backend.clone());
        let arrivals = self.arrivals.clone();
        let (listeners, ready) = (self.listeners()?, told.clone());
        spawn(&format!("worker-{}", id.0), told, move || {
            if shared.interfaces.config.pin_threads {
                pin(id.index(), shared.interfaces.config.workers);
            }
            let ended = driver.block_on(async {
                if let Some((answers, acceptor_id)) = inside {
                    let all = (shared.clone(), arrivals.clone());
                    let id = AcceptorId(acceptor_id);
                    let acceptor = acceptor(id, all, trust.clone(), &backend)?;
                    accepting::run_beside(acceptor, listeners, answers);
                }
                let counters = shared.metrics.thread(id.index());
                let auth = Authenticators::following(trust);
                let (random, now) = (rand::make_rng(), shared.clock.now());
                let worker = Worker::new(id, (shared, arrivals), auth, counters, (random, now))?;
                let turns = Turns::new(worker, inbox, &backend)?;
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
        let all = (self.shared.clone(), self.arrivals.clone());
        let (trust, driver) = (self.trust.clone(), self.driver.clone());
        let backend = self.backend.clone();
        let (listeners, ready) = (self.listeners()?, told.clone());
        spawn(&format!("acceptor-{}", id.0), told, move || {
            let ended = driver.block_on(async {
                let acceptor = acceptor(id, all, trust, &backend)?;
                let _ = ready.send(Event::Ready);
                accepting::run(acceptor, listeners, inbox).await;
                Ok::<(), io::Error>(())
            });
            if let Err(error) = ended.flatten() {
                tracing::error!(%error, "an acceptor cannot run");
            }
        })
    }
}

/// Sends a document, or what was read for a subscriber.
pub(super) fn announce(shared: &Shared, news: News<'_>) {
    let now = shared.clock.now();
    match news {
        News::Document(document, places) => {
            documents::publish_document(&shared.interfaces, document, places, now);
        }
        News::Loaded(load, stored) => {
            documents::answer_load(&shared.interfaces, load, stored, now);
        }
        // Only the store announces them.
        News::Channels(_) | News::Permissions(_) => {}
    }
}

fn acceptor(
    id: AcceptorId,
    (shared, arrivals): (Arc<Shared>, Arc<Arrivals>),
    trust: Arc<ArcSwap<Trust>>,
    backend: &Backend,
) -> io::Result<Acceptor> {
    let counters = shared.metrics.thread(shared.interfaces.config.workers + usize::from(id.0));
    let credentials = (Authenticators::following(trust), rand::make_rng());
    Acceptor::new(id, (shared, arrivals), credentials, counters, backend)
}

pub(super) fn spawn(
    name: &str,
    told: &mpsc::Sender<Event>,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let ending = Ending { name: name.to_owned(), told: told.clone() };
    // The kernel shows 15 bytes of the name, which must tell threads apart.
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _ending = ending;
        work();
    })?;
    Ok(())
}

/// Keeps this thread on a core of its own, if there are enough cores.
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
