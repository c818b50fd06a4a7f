//! Workers with their clients, and the turns that they take, for the worlds of several interfaces.
//! A client whose connection has ended connects again, in the same place.

use std::collections::HashMap;
use std::convert::Infallible;

use fanfare::mailbox::Mail;
use fanfare::message::{Channel, WorkerId};
use fanfare::runtime::Worker;
use fanfare::runtime::transmit::one_by_one;

use crate::WORKERS;
use crate::frames::Line;
use crate::node::Node;
use crate::window::Window;
use crate::worlds::{Place, at, come_to_rest};

/// A client with its end of the connection, and the model of it.
pub(crate) trait Seat {
    fn line(&mut self) -> &mut Line;
}

/// A worker and its clients.
pub(crate) struct Desk<S> {
    pub(crate) id: WorkerId,
    pub(crate) worker: Worker,
    pub(crate) seats: Vec<S>,
    /// Subscriptions of connections that have ended, by channel: the directory may still count
    /// them.
    ghosts: HashMap<usize, usize>,
}

/// The parts that every world has.
pub(crate) struct Stage<'w, S> {
    pub(crate) node: &'w Node,
    pub(crate) desks: &'w mut [Desk<S>],
    /// Milliseconds, by both clocks.
    pub(crate) now: &'w mut u64,
}

/// Returns workers without clients.
pub(crate) fn desks<S>(node: &Node, now: u64) -> Vec<Desk<S>> {
    let desk = |id| {
        let worker = node.worker(id, at(now));
        Desk { id, worker, seats: Vec::new(), ghosts: HashMap::new() }
    };
    (0..).take(WORKERS).map(|id| desk(WorkerId(id))).collect()
}

/// Returns how many subscriptions to a channel belong to connections that have ended.
pub(crate) fn ghosts<S>(desks: &[Desk<S>], channel: usize) -> usize {
    desks.iter().filter_map(|desk| desk.ghosts.get(&channel)).sum()
}

impl<S: Seat> Desk<S> {
    /// Notes that a connection with a subscription to this channel has ended.
    pub(crate) fn haunt(&mut self, channel: usize) {
        *self.ghosts.entry(channel).or_default() += 1;
    }

    /// Returns whether the outboxes of all clients are empty.
    fn is_idle(&mut self) -> bool {
        let Self { worker, seats, .. } = self;
        seats
            .iter_mut()
            .all(|seat| worker.link(seat.line().id).is_some_and(|link| link.outbox.is_empty()))
    }

    /// Ends a turn: each client reads frames from its outbox, up to its window.
    fn end_turn(&mut self) {
        let Self { worker, seats, .. } = self;
        worker.end_turn(&mut one_by_one(|id, _, slices| {
            let line = seats.iter_mut().map(Seat::line).find(|line| line.id == id);
            line.expect("no other connection has anything to send").take(slices)
        }));
    }
}

/// A world of workers that take turns.
pub(crate) trait Turns {
    type Seat: Seat;

    /// The frame by which a client ends its connection: opcode and payload.
    const GOODBYE: (u8, &'static [u8]);

    fn stage(&mut self) -> Stage<'_, Self::Seat>;

    /// Returns the models of the channels' windows.
    fn windows(&mut self) -> impl Iterator<Item = &mut Window>;

    /// Notes that the worker takes mail by which a client's subscription begins or ends.
    fn comes_up(&mut self, place: Place, channel: &Channel);

    /// Lets the clients of a worker handle the frames that they received.
    fn hear(&mut self, worker: usize);

    /// Brings the model up to date after a call.
    fn settle_call(&mut self);

    fn places(&mut self) -> Vec<Place> {
        let desks = self.stage().desks.iter().enumerate();
        desks.flat_map(|(at, desk)| (0..desk.seats.len()).map(move |slot| (at, slot))).collect()
    }

    /// Advances the clock, and drops expired publications if `is_swept`.
    fn pass(&mut self, millis: u64, is_swept: bool) {
        let Stage { node, now, .. } = self.stage();
        *now += millis;
        let now = *now;
        if is_swept {
            node.sweep(now);
            self.windows().for_each(|window| window.sweep(now));
        }
    }

    /// Lets a client read `bytes` more bytes; `None` lets it read all.
    fn read(&mut self, (worker, slot): Place, bytes: Option<usize>) {
        let Desk { worker, seats, .. } = &mut self.stage().desks[worker];
        seats[slot].line().read(worker, bytes);
    }

    /// Ends a connection. If `is_said`, the client sends its goodbye first.
    fn close(&mut self, (worker, slot): Place, is_said: bool) {
        let Stage { desks, now, .. } = self.stage();
        let Desk { worker, seats, .. } = &mut desks[worker];
        worker.at(at(*now));
        let line = seats[slot].line();
        if is_said {
            let (opcode, payload) = Self::GOODBYE;
            line.send(worker, opcode, payload);
        }
        worker.ended(line.id.slot);
        self.settle_call();
    }

    /// Runs a turn of a worker, which takes at most `mail` pieces of mail.
    fn turn(&mut self, worker: usize, mail: usize) {
        for _ in 0..mail {
            let Stage { node, desks, .. } = self.stage();
            let Some(mail) = node.take(desks[worker].id) else { break };
            self.take(worker, mail);
        }
        let Stage { desks, now, .. } = self.stage();
        desks[worker].worker.at(at(*now));
        desks[worker].worker.catch_up();
        self.settle_call();
        self.stage().desks[worker].end_turn();
        self.hear(worker);
        self.settle_call();
    }

    /// Hands a worker a piece of mail.
    fn take(&mut self, worker: usize, mail: Mail) {
        let about = match &mail {
            Mail::Activate(about) => Some((about.connection, about.channel.clone())),
            Mail::Deactivate(about) => Some((about.connection, about.channel.clone())),
            _ => None,
        };
        if let Some((id, channel)) = about {
            let seats = &mut self.stage().desks[worker].seats;
            let slot = seats.iter_mut().position(|seat| seat.line().id == id);
            slot.into_iter().for_each(|slot| self.comes_up((worker, slot), &channel));
        }
        let Stage { desks, now, .. } = self.stage();
        desks[worker].worker.at(at(*now));
        desks[worker].worker.take(mail);
        self.settle_call();
    }

    /// Lets all clients read all and all workers take their mail, until nothing is under way.
    fn settle(&mut self) {
        let places = self.places();
        let Ok(()) = come_to_rest(|| {
            places.iter().for_each(|place| self.read(*place, None));
            (0..WORKERS).for_each(|worker| self.turn(worker, usize::MAX));
            let Stage { node, desks, .. } = self.stage();
            Ok::<_, Infallible>(node.is_idle() && desks.iter_mut().all(Desk::is_idle))
        });
    }

    /// Ends all connections, and checks that nothing is left of them.
    fn check_end(&mut self) {
        self.places().into_iter().for_each(|place| self.close(place, false));
        self.settle();
        let Stage { node, desks, .. } = self.stage();
        let is_vacant = desks.iter().all(|desk| desk.worker.is_vacant());
        assert!(is_vacant, "nothing is left of those who are gone");
        let channels = node.hub.interfaces.broker.directory.channels();
        assert_eq!(channels, 0, "nobody is left in the directory");
        self.pass(10_000, true);
        let Stage { node, .. } = self.stage();
        let directory = &node.hub.interfaces.broker.directory;
        assert_eq!(directory.kept(), 0, "nothing is left in the directory");
        assert_eq!(directory.budgets().windows.bytes(), 0);
        node.check_sums();
    }
}
