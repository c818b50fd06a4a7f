//! A world of M2: stations, the writer, and the steps that change them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use fanfare::message::{Channel, ConnId, Found, Load, WorkerId};

use super::client::{Client, Party};
use super::resource::{Resource, User};
use super::start::Start;
use super::station::Station;
use super::store::{Store, Stored, Write, Writer};
use super::{CLIENTS, Given, Planted, SCOPES, Step, Terms, Wrong};
use crate::WORKERS;
use crate::worlds::{at, come_to_rest};

/// Clients of each worker.
const SLOTS: usize = CLIENTS / WORKERS;

pub(super) struct World<'s> {
    pub(super) common: Common<'s>,
    stations: Vec<Station>,
    writer: Writer<'s>,
    /// Milliseconds, by both clocks.
    now: u64,
}

/// State that stations and the writer share.
pub(super) struct Common<'s> {
    pub(super) start: &'s Start,
    /// The store. Only the writer changes it; planted faults and checks read it, too.
    pub(super) store: RefCell<Store>,
    /// Answers that a planted fault has read too early, each for the first load of a subscribe.
    pub(super) early: RefCell<HashMap<(ConnId, Channel), Found<Stored>>>,
    pub(super) terms: Terms,
    /// The number of times that each named thing has happened.
    pub(super) tally: RefCell<BTreeMap<&'static str, u64>>,
}

impl Common<'_> {
    /// Counts that `what` has happened `count` times.
    pub(super) fn note(&self, what: &'static str, count: u64) {
        *self.tally.borrow_mut().entry(what).or_default() += count;
    }

    /// Reads the documents that a subscriber requests, or wrong ones if a fault is planted.
    pub(super) fn load(&self, load: &Load) -> Found<Stored> {
        let early = self.early.borrow_mut().remove(&(load.connection, load.resource.clone()));
        early.unwrap_or_else(|| match self.terms.planted {
            Planted::SnapshotAfterUpdate => self.store.borrow().load_older(load),
            _ => self.store.borrow().load(load),
        })
    }
}

/// Returns the user with this number, 0 or 1.
pub(super) fn user(number: usize) -> User {
    ["u", "v"][number].into()
}

impl<'s> World<'s> {
    pub(super) fn new(terms: Terms, start: &'s Start) -> Self {
        // Most clients are in scope 0, for which most documents are written.
        let party = |slot: usize| Party {
            scope: if slot == SLOTS - 1 { SCOPES - 1 } else { 0 },
            user: [Some(0), None, Some(1), Some(0)][slot].map(user),
        };
        let common = Common {
            start,
            store: RefCell::default(),
            early: RefCell::default(),
            terms,
            tally: RefCell::default(),
        };
        let now = 1_000;
        let clients = || (0..SLOTS).map(|slot| Client::new(party(slot))).collect();
        let ids = (0..).take(WORKERS).map(WorkerId);
        let stations = ids.map(|id| Station::new(&common, id, clients(), at(now))).collect();
        Self { common, stations, writer: Writer::default(), now }
    }

    /// Runs these steps, and checks that each client knows what the store has in the end.
    pub(super) fn run(&mut self, steps: &[Step]) -> Result<(), Wrong> {
        for step in steps {
            self.step(step)?;
        }
        self.settle()?;
        for station in &mut self.stations {
            station.check(&self.common)?;
        }
        for station in &mut self.stations {
            (0..SLOTS).for_each(|slot| station.reconnect(&self.common, slot, None));
        }
        self.settle()?;
        self.stations.iter().for_each(Station::check_empty);
        self.common.start.check_empty();
        self.note_evicted();
        self.common.start.node.check_sums();
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), Wrong> {
        let Self { common, stations, writer, now } = self;
        let crowd = common.terms.crowd;
        let place = |client: usize| (client % crowd % WORKERS, client % crowd / WORKERS);
        match *step {
            Step::Subscribe { client, number } => {
                let (worker, slot) = place(client);
                stations[worker].subscribe(common, slot, number);
            }
            Step::Unsubscribe { client, number } => {
                let (worker, slot) = place(client);
                stations[worker].unsubscribe(slot, number);
            }
            Step::Reconnect { client, party } => {
                let party = party.map(|(scope, one)| Party { scope, user: one.map(user) });
                let (worker, slot) = place(client);
                stations[worker].reconnect(common, slot, party);
            }
            Step::Write { resource, owner, bytes, version, times } => {
                let resource = Resource { scope: resource.0, number: resource.1 };
                // A private document always has an owner: the first user if the step names none.
                let owner = owner.or(resource.is_private().then_some(0));
                let version = match version {
                    Given::None => None,
                    Given::Behind(millis) => Some(now.saturating_sub(millis)),
                    Given::Ahead(millis) => Some(*now + millis),
                };
                let write = Write { resource, audience: owner.map(user), bytes, version };
                writer.writes.extend(std::iter::repeat_n(write, times));
            }
            Step::Commit => writer.commit(common, *now),
            Step::Load { is_readable } => writer.read(common, is_readable),
            Step::GoOn { steps } => (0..steps).for_each(|_| writer.go_on(common)),
            Step::Turn { worker, mail } => stations[worker].turn(common, at(*now), mail)?,
            Step::Read { client, bytes } => {
                let (worker, slot) = place(client);
                stations[worker].read(slot, bytes);
            }
            Step::Pass { millis } => *now += millis,
            Step::Restart => self.restart(),
        }
        Ok(())
    }

    /// Kills the node and starts it again. Only the store survives, and the clients connect again.
    fn restart(&mut self) {
        self.common.note("restart", 1);
        self.note_evicted();
        self.writer = Writer::default();
        self.common.start = self.common.start.next();
        let Self { common, stations, now, .. } = self;
        for station in stations {
            *station = Station::new(common, station.id(), station.clients(), at(*now));
        }
    }

    fn note_evicted(&self) {
        let retained = &self.common.start.node.hub.interfaces.broker.directory.budgets().values;
        self.common.note("not retained", retained.evicted());
    }

    /// Lets all clients, workers and the writer go on until nothing is under way.
    fn settle(&mut self) -> Result<(), Wrong> {
        let Self { common, stations, writer, now } = self;
        come_to_rest(|| {
            for station in &mut *stations {
                (0..SLOTS).for_each(|slot| station.read(slot, None));
                station.turn(common, at(*now), usize::MAX)?;
                station.nudge();
            }
            writer.commit(common, *now);
            writer.read(common, true);
            writer.go_on(common);
            let is_idle = writer.is_idle(common) && stations.iter_mut().all(Station::is_idle);
            Ok(is_idle && common.start.node.is_idle())
        })
    }
}
