//! A subscriber that receives everything, and checks of all other clients against its record.

use std::collections::HashMap;

use uuid::Uuid;

use crate::publisher::{Ledger, Report, Stay, TICK};
use crate::socket::{Event, Heard, Socket};
use crate::support::trio;

/// The name of the event that is published last.
pub(crate) const END: &str = "end";

/// A subscriber that is there before all others and until the end.
pub(crate) struct Witness {
    socket: Socket,
}

/// The order of events on a channel.
pub(crate) struct Order {
    ids: Vec<Uuid>,
    places: HashMap<Uuid, usize>,
    /// Ids by publisher and the publisher's own number.
    made: HashMap<(u64, u64), Uuid>,
    /// Places at which members came and left, by name.
    came: HashMap<String, Vec<usize>>,
    left: HashMap<String, Vec<usize>>,
}

impl Witness {
    pub(crate) fn subscribe(port: u16, channel: &str, token: &str) -> Self {
        let mut socket = Socket::connect(port, token);
        socket.subscribe(channel);
        Self { socket }
    }

    /// Returns a text that differs between witnesses on different workers.
    pub(crate) fn home(&self) -> &str {
        self.socket.home()
    }

    /// Returns the next event. Panics at anything else.
    pub(crate) fn next(&mut self) -> Event {
        match self.socket.hear() {
            Heard::Event(event) => event,
            heard => panic!("unexpected: {heard:?}"),
        }
    }

    /// Returns all events up to and including [`END`].
    pub(crate) fn listen(&mut self) -> Vec<Event> {
        let mut events = vec![self.next()];
        while !events.last().is_some_and(|event| event.is_named(END)) {
            events.push(self.next());
        }
        events
    }
}

impl Order {
    /// Returns the order of these events. Checks that none comes twice and that each publisher's
    /// numbers rise.
    pub(crate) fn of(events: &[Event]) -> Self {
        let ids = events.iter().map(|event| event.id).collect();
        let mut order = Self {
            ids,
            places: HashMap::new(),
            made: HashMap::new(),
            came: HashMap::new(),
            left: HashMap::new(),
        };
        let mut last = HashMap::new();
        for (place, event) in events.iter().enumerate() {
            assert_eq!(order.places.insert(event.id, place), None, "heard twice: {event:?}");
            let (name, argument) = event.parts();
            let member = || argument["member"]["presenceId"].as_str().expect("a name").to_owned();
            match name.as_str() {
                "presence:join" => order.came.entry(member()).or_default().push(place),
                "presence:leave" => order.left.entry(member()).or_default().push(place),
                TICK => {
                    let of = |key: &str| argument["payload"][key].as_u64().expect("a number");
                    let (publisher, number) = (of("publisher"), of("number"));
                    let before = last.insert(publisher, number);
                    assert!(before < Some(number), "{publisher}: {number} after {before:?}");
                    order.made.insert((publisher, number), event.id);
                }
                _ => assert_eq!(name, END, "nobody publishes anything else"),
            }
        }
        order
    }

    pub(crate) fn ids(&self) -> &[Uuid] {
        &self.ids
    }

    /// Returns the number of publications without the last.
    pub(crate) fn publications(&self) -> usize {
        self.made.len()
    }

    /// Checks that the order contains exactly the accepted publications, with the ids that the
    /// publishers received, and that each stay is an unbroken part of it.
    pub(crate) fn check(&self, reports: &[Report]) {
        let accepted: HashMap<_, _> =
            reports.iter().flat_map(|report| keyed(&report.ledger)).collect();
        let lost: Vec<_> =
            accepted.iter().filter(|(key, _)| !self.made.contains_key(key)).collect();
        assert!(lost.is_empty(), "accepted and not heard, by publisher and number: {lost:?}");
        let refused: Vec<_> =
            self.made.iter().filter(|(key, _)| !accepted.contains_key(key)).collect();
        assert!(refused.is_empty(), "heard and not accepted, by publisher and number: {refused:?}");
        assert!(accepted == self.made, "heard under the id that the publisher was told");
        for report in reports {
            let mut counts: HashMap<&str, usize> = HashMap::new();
            for stay in &report.stays {
                let count = stay.announced.as_deref().map(|name| counts.entry(name).or_default());
                let nth = count.map_or(0, |count| std::mem::replace(count, *count + 1));
                self.check_stay(stay, nth);
            }
        }
    }

    /// Checks a client that was subscribed from before the first publication to the end: it must
    /// have received everything.
    pub(crate) fn check_rest(&self, heard: &[Uuid]) {
        let first = self.made.values().map(|id| self.places[id]).min();
        let from = self.ids.len().checked_sub(heard.len());
        assert!(
            from <= first,
            "heard from {from:?} on, where the first publication is at {first:?}"
        );
        assert_eq!(self.check_run(heard, from), Some(self.ids.len()));
    }

    /// Checks the stay that is number `nth`, from 0, under its name.
    fn check_stay(&self, stay: &Stay, nth: usize) {
        let nth_of = |places: &HashMap<String, Vec<usize>>| {
            Some(*places.get(stay.announced.as_ref()?)?.get(nth)?)
        };
        let came = nth_of(&self.came);
        assert_eq!(came.is_some(), stay.announced.is_some(), "who comes is announced: {stay:?}");
        if trio::is_wished() {
            return self.check_loosely(stay, came, nth_of(&self.left));
        }
        let from = came.map(|place| place + 1);
        let until = self.check_run(&stay.heard, from);
        if stay.announced.is_some() && stay.is_whole {
            assert_eq!(
                nth_of(&self.left),
                until,
                "what was heard ends where the stay did: {stay:?}"
            );
        }
        if stay.is_whole {
            let missed: Vec<_> = stay.own.iter().filter(|id| !stay.heard.contains(id)).collect();
            assert!(missed.is_empty(), "published by itself and not heard: {missed:?} {stay:?}");
        }
    }

    /// Checks a stay on three nodes: they give its join and its leave a place in the order after
    /// their answers, and a client does not hear its own join.
    fn check_loosely(&self, stay: &Stay, came: Option<usize>, left: Option<usize>) {
        let Some(first) = stay.heard.first().map(|id| self.places[id]) else { return };
        let is_own = |place: usize| match &stay.announced {
            Some(_) => came == Some(place),
            None => self.came.values().flatten().any(|join| *join == place),
        };
        let (mut place, mut joins) = (first, 0);
        for id in &stay.heard {
            if self.ids.get(place) != Some(id) && is_own(place) {
                (place, joins) = (place + 1, joins + 1);
            }
            assert_eq!(self.ids.get(place), Some(id), "at {place}, from {first} on: {stay:?}");
            place += 1;
        }
        assert!(joins <= 1, "{joins} joins are not heard: {stay:?}");
        assert!(came.is_none_or(|came| first <= came + 1), "subscribed from {came:?} on: {stay:?}");
        if stay.is_whole {
            assert!(left.is_none_or(|left| place <= left), "it ends after {left:?}: {stay:?}");
            let missed: Vec<_> = stay.own.iter().filter(|id| !stay.heard.contains(id)).collect();
            assert!(missed.is_empty(), "published by itself and not heard: {missed:?} {stay:?}");
        }
    }

    /// Checks that the received events are an unbroken part of the order, from the place `from` on
    /// if it is known. Returns the place behind them.
    fn check_run(&self, heard: &[Uuid], from: Option<usize>) -> Option<usize> {
        let first = || Some(self.places[heard.first()?]);
        let from = from.or_else(first)?;
        for (place, id) in (from..).zip(heard) {
            let due = self.ids.get(place);
            let where_it_is = self.places.get(id);
            assert_eq!(due, Some(id), "at {place}, {where_it_is:?} is heard, from {from} on");
        }
        Some(from + heard.len())
    }
}

fn keyed(ledger: &Ledger) -> impl Iterator<Item = ((u64, u64), Uuid)> {
    ledger.accepted.iter().map(|(number, id)| ((ledger.publisher(), *number), *id))
}
