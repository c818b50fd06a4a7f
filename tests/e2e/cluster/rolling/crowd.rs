//! The threads of clients and publishers.

use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::client::Client;
use super::publisher::Publisher;
use super::stage::Stage;
use super::tally::Tally;
use super::{CHANNELS, NODES, PATIENCE, PUBLISHERS, REST};
use crate::order::join;

/// Clients that one thread serves.
const CROWD: usize = 64;
/// How often a thread looks for what is due.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

pub(super) struct Crew<'scope> {
    crowds: Vec<ScopedJoinHandle<'scope, Vec<Tally>>>,
    publishers: Vec<ScopedJoinHandle<'scope, Publisher>>,
}

impl<'scope> Crew<'scope> {
    /// Starts the clients, and when all have subscribed the publishers, which publish at this rate
    /// a second together.
    pub(super) fn start(
        scope: &'scope Scope<'scope, '_>,
        stage: &'scope Stage,
        mut clients: Vec<Client>,
        rate: f64,
    ) -> Self {
        let mut crowds = Vec::new();
        while !clients.is_empty() {
            let rest = clients.split_off(clients.len().saturating_sub(CROWD));
            crowds.push(scope.spawn(move || attend(stage, rest)));
        }
        wait_for_clients(stage);
        let publishers = (0..PUBLISHERS).map(|number| {
            let channels = (number..CHANNELS).step_by(PUBLISHERS);
            let publisher = Publisher::new(number % NODES, channels);
            scope.spawn(move || publisher.run(stage, rate / PUBLISHERS as f64))
        });
        Self { crowds, publishers: publishers.collect() }
    }

    /// Ends the publishing, and waits until all clients have what was published.
    pub(super) fn finish(self, stage: &Stage) -> (Tally, Vec<Publisher>) {
        stage.quieten();
        let mut publishers: Vec<_> = self.publishers.into_iter().map(join).collect();
        // Every subscriber hears one more, so that it knows whether it lacks the one before.
        let mut last = vec![0; CHANNELS];
        for publisher in &mut publishers {
            (0..publisher.channels.len()).for_each(|place| publisher.publish(stage, place));
            publisher.channels.iter().for_each(|(channel, number)| last[*channel] = *number);
        }
        stage.ends_with(last);
        let mut all = Tally::default();
        self.crowds.into_iter().flat_map(join).for_each(|tally| all.add(tally));
        (all, publishers)
    }
}

/// Waits until every client has a connection and its subscriptions.
pub(super) fn wait_for_clients(stage: &Stage) {
    let end = Instant::now() + PATIENCE;
    while stage.away() > 0 {
        assert!(Instant::now() < end, "{} clients are still away", stage.away());
        thread::sleep(Duration::from_millis(2));
    }
}

/// Serves clients until each has heard the last publications on its channels.
fn attend(stage: &Stage, mut clients: Vec<Client>) -> Vec<Tally> {
    let mut end = None;
    while !stage.is_over() {
        clients.iter_mut().for_each(|client| client.act(stage));
        listen(stage, &mut clients);
        let Some(last) = stage.last() else { continue };
        let end = *end.get_or_insert_with(|| Instant::now() + REST);
        if clients.iter().all(|client| client.has_all(last)) || Instant::now() > end {
            return clients.into_iter().map(|client| client.finish(last)).collect();
        }
    }
    Vec::new()
}

/// Lets the clients listen whose nodes have said something, if one does soon.
fn listen(stage: &Stage, clients: &mut [Client]) {
    let lines: Vec<_> = clients.iter().filter_map(|client| client.line.as_ref()).collect();
    let watch = |line| PollFd::new(line, PollFlags::IN);
    let mut watched: Vec<_> = lines.iter().copied().map(watch).collect();
    poll(&mut watched, Some(&LOOK)).expect("sockets can be polled");
    let ready: Vec<_> = watched.iter().map(|one| !one.revents().is_empty()).collect();
    let connected = clients.iter_mut().filter(|client| client.line.is_some());
    let listening = connected.zip(ready).filter(|(_, is_ready)| *is_ready);
    listening.for_each(|(client, _)| client.listen(stage));
}
