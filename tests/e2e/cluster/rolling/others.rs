//! The few clients that are served by threads of their own: readers of Server-Sent Events, clients
//! of Socket.IO on long-polling, and subscribers of Forge with their publishers.

use std::thread::{Scope, ScopedJoinHandle};

use super::poller::Poller;
use super::reader::Reader;
use super::stage::Stage;
use super::tally::Tally;
use super::topics::{Subscriber, publish};
use super::{CHANNELS, EACH, LISTENERS, NODES, POLLERS, READERS, TOPICS, quantiles};
use crate::order::join;

/// The clients while they run.
pub(super) struct Others<'scope> {
    readers: Vec<ScopedJoinHandle<'scope, Reader>>,
    pollers: Vec<ScopedJoinHandle<'scope, Tally>>,
    subscribers: Vec<ScopedJoinHandle<'scope, Tally>>,
    publishers: Vec<ScopedJoinHandle<'scope, u64>>,
}

/// What they have counted.
pub(super) struct Counted {
    readers: Vec<Reader>,
    pollers: Tally,
    subscribers: Tally,
    /// Publications of Forge that were acknowledged.
    published: u64,
}

impl<'scope> Others<'scope> {
    /// Starts all of them.
    pub(super) fn start(scope: &'scope Scope<'scope, '_>, stage: &'scope Stage) -> Self {
        let readers = (0..READERS).map(|number| {
            let reader = Reader::new((number..CHANNELS).step_by(CHANNELS / EACH));
            scope.spawn(move || reader.run(stage, number))
        });
        let pollers = (0..POLLERS).map(|number| {
            let poller = Poller::new(number, number % NODES);
            scope.spawn(move || poller.run(stage))
        });
        let subscribers = (0..TOPICS * LISTENERS).map(|number| {
            let subscriber = Subscriber::new(number, number % TOPICS, number % NODES);
            scope.spawn(move || subscriber.run(stage))
        });
        let publishers = (0..TOPICS).map(|channel| scope.spawn(move || publish(stage, channel)));
        Self {
            readers: readers.collect(),
            pollers: pollers.collect(),
            subscribers: subscribers.collect(),
            publishers: publishers.collect(),
        }
    }

    /// Waits until all have ended.
    pub(super) fn finish(self) -> Counted {
        let sum = |all: Vec<ScopedJoinHandle<'scope, Tally>>| {
            let mut sum = Tally::default();
            all.into_iter().map(join).for_each(|tally| sum.add(tally));
            sum
        };
        Counted {
            readers: self.readers.into_iter().map(join).collect(),
            pollers: sum(self.pollers),
            subscribers: sum(self.subscribers),
            published: self.publishers.into_iter().map(join).sum(),
        }
    }
}

impl Counted {
    pub(super) fn print(&self) {
        let (events, resumed, gaps) = self.of_readers();
        println!("readers heard {events}, resumed {resumed} times, told of {gaps} gaps");
        self.readers.iter().flat_map(|one| &one.faults).for_each(|fault| println!("{fault}"));
        println!("publications of Forge acknowledged {}", self.published);
        for (who, tally) in [("polling", &self.pollers), ("of Forge", &self.subscribers)] {
            println!(
                "clients {who}: events {}, recovered {}, told that not {}, gaps told {}, refused \
                 {}, connections lost at other nodes {}, away {}, ends {:?}",
                tally.events,
                tally.recovered,
                tally.told,
                tally.gaps,
                tally.refused,
                tally.strays,
                quantiles(tally.absences.clone()),
                tally.ends,
            );
            tally.faults.iter().for_each(|fault| println!("{who}: {fault}"));
        }
    }

    pub(super) fn check(&self, rounds: usize) {
        self.readers.iter().for_each(|reader| assert!(reader.faults.is_empty(), "see above"));
        let (_, resumed, gaps) = self.of_readers();
        assert!(resumed >= rounds * READERS, "each loses its node once in a round");
        assert!(gaps < resumed / 10 + 1, "gaps are told of {resumed} streams");
        let all = [(&self.pollers, POLLERS), (&self.subscribers, TOPICS * LISTENERS)];
        for (tally, clients) in all {
            assert!(tally.faults.is_empty(), "{:#?}", tally.faults);
            let returns = tally.recovered + tally.told;
            assert!(returns >= clients * rounds, "{returns} returns of {clients} clients");
            let apart = tally.told + tally.gaps;
            assert!(apart < returns / 10 + 1, "{apart} of {returns} are not recovered");
        }
    }

    /// Returns the events, resumed streams and gaps of all readers.
    fn of_readers(&self) -> (usize, usize, usize) {
        let sum = |of: fn(&Reader) -> usize| self.readers.iter().map(of).sum();
        (sum(|one| one.events), sum(|one| one.resumed), sum(|one| one.gaps))
    }
}
