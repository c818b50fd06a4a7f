//! All of it: workers with their clients, the writer, and what happens to them.

use super::client::{Client, Party};
use super::hub::{Hub, Resource, User};
use super::start::Start;
use super::store::{Write, Writer};
use super::worker::Worker;
use super::{CLIENTS, Given, SCOPES, Step, Terms, Wrong};
use crate::WORKERS;

/// Rounds after which nothing is under way any more, by far.
const ROUNDS_MAX: usize = 10_000;
/// Clients of each worker.
const SLOTS: usize = CLIENTS / WORKERS;

pub(super) struct World<'s> {
    pub(super) hub: Hub<'s>,
    workers: Vec<Worker>,
    writer: Writer<'s>,
    now: u64,
}

/// A user by number.
pub(super) fn user(number: usize) -> User {
    ["u", "v"][number].into()
}

impl<'s> World<'s> {
    pub(super) fn new(terms: Terms, start: &'s Start) -> Self {
        // Most are in one scope, where most is written.
        let party = |slot: usize| Party {
            scope: if slot == SLOTS - 1 { SCOPES - 1 } else { 0 },
            user: [Some(0), None, Some(1), Some(0)][slot].map(user),
        };
        let clients = || (0..SLOTS).map(|slot| Client::new(party(slot))).collect();
        let workers =
            (0..).take(WORKERS).map(|id| Worker::new(id, clients(), terms.reads)).collect();
        Self { hub: Hub::new(terms, start), workers, writer: Writer::default(), now: 1_000 }
    }

    /// Does all this, and looks whether everybody knows what the store has in the end.
    pub(super) fn run(&mut self, steps: &[Step]) -> Result<(), Wrong> {
        for step in steps {
            self.step(step)?;
        }
        self.settle()?;
        for worker in &self.workers {
            worker.check(&self.hub)?;
        }
        for worker in &mut self.workers {
            (0..SLOTS).for_each(|slot| worker.reconnect(slot, None));
        }
        self.settle()?;
        self.workers.iter().for_each(Worker::check_empty);
        self.hub.check_empty();
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), Wrong> {
        let Self { hub, workers, writer, now } = self;
        let crowd = hub.terms.crowd;
        let place = |client: usize| (client % crowd % WORKERS, client % crowd / WORKERS);
        match *step {
            Step::Subscribe { client, number } => {
                let (worker, slot) = place(client);
                workers[worker].subscribe(hub, slot, number);
            }
            Step::Unsubscribe { client, number } => {
                let (worker, slot) = place(client);
                workers[worker].unsubscribe(hub, slot, number);
            }
            Step::Reconnect { client, party } => {
                let party = party.map(|(scope, one)| Party { scope, user: one.map(user) });
                let (worker, slot) = place(client);
                workers[worker].reconnect(slot, party);
            }
            Step::Write { resource, owner, bytes, version, times } => {
                let resource = Resource { scope: resource.0, number: resource.1 };
                // What is private is somebody's own, whatever its writer says.
                let owner = owner.or(resource.is_private().then_some(0));
                let version = match version {
                    Given::None => None,
                    Given::Behind(millis) => Some(now.saturating_sub(millis)),
                    Given::Ahead(millis) => Some(*now + millis),
                };
                let write = Write { resource, audience: owner.map(user), bytes, version };
                writer.writes.extend(std::iter::repeat_n(write, times));
            }
            Step::Commit => writer.commit(hub, *now),
            Step::Load { is_readable } => writer.read(hub, is_readable),
            Step::GoOn { steps } => (0..steps).for_each(|_| writer.go_on(hub)),
            Step::Turn { worker, mail } => workers[worker].turn(hub, mail)?,
            Step::Read { client, bytes } => {
                let (worker, slot) = place(client);
                workers[worker].read(slot, bytes);
            }
            Step::Pass { millis } => *now += millis,
            Step::Restart => self.restart(),
        }
        Ok(())
    }

    /// The node is killed and starts again: the store is all that is left. Its clients come back.
    fn restart(&mut self) {
        self.hub.note("restart", 1);
        self.hub.restart();
        self.writer = Writer::default();
        self.workers = (0..)
            .zip(&self.workers)
            .map(|(id, worker)| Worker::new(id, worker.clients(), self.hub.terms.reads))
            .collect();
    }

    /// Everybody takes everything, until nothing is under way.
    fn settle(&mut self) -> Result<(), Wrong> {
        let Self { hub, workers, writer, now } = self;
        for _ in 0..ROUNDS_MAX {
            for worker in &mut *workers {
                (0..SLOTS).for_each(|slot| worker.read(slot, None));
                worker.turn(hub, usize::MAX)?;
                worker.ping(hub);
            }
            writer.commit(hub, *now);
            writer.read(hub, true);
            writer.go_on(hub);
            let is_idle = writer.is_idle(hub) && workers.iter().all(Worker::is_idle);
            if is_idle && hub.start.is_idle() {
                return Ok(());
            }
        }
        panic!("it does not come to rest");
    }
}
