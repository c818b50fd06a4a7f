//! The clients of one thread: one epoll loop, one read per event.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::client::Client;
use crate::clock::{nanos, now_ns, timespec};
use crate::connection::Dial;
use crate::crowd::{Crowd, Gathered, Group, Pulse};
use crate::tally::Tally;

const EVENTS_MAX: usize = 1_024;
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Receive buffer of clients that do not read: small, so that they are slow soon.
const DEAF_RECEIVE_BYTES: usize = 4 * 1024;
/// After this time without a byte, servers have sent everything to clients that did not read.
const QUIET: Duration = Duration::from_secs(1);
/// How long an idle thread sleeps before it checks whether it must stop.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// How often a thread shares its latencies, which progress shows.
const SHARE_INTERVAL: Duration = Duration::from_millis(500);

/// One thread's share of the crowd.
pub(super) struct Loop<'a> {
    crowd: &'a Crowd,
    pulse: &'a Pulse,
    /// This thread serves the clients whose number modulo the thread count is this.
    number: usize,
    epoll: OwnedFd,
    /// In order of dialling; `None` after the loss of the connection.
    clients: Vec<Option<Client>>,
    share: usize,
    underway: usize,
    next_dial_ns: u64,
    dial_interval_ns: u64,
    /// The results of each group. Tallies are those of clients whose connection is lost.
    gathered: Vec<Gathered>,
    reported: u64,
    next_share_ns: u64,
}

impl<'a> Loop<'a> {
    /// Creates the loop without any client yet.
    pub(super) fn new(crowd: &'a Crowd, pulse: &'a Pulse, number: usize) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("no epoll");
        let epoll = epoll.inspect_err(|error| pulse.break_down(error))?;
        let share = (crowd.size + crowd.threads - 1 - number) / crowd.threads;
        let seconds = crowd.connect_rate.map_or(0.0, |rate| crowd.threads as f64 / rate);
        Ok(Self {
            crowd,
            pulse,
            number,
            epoll,
            clients: Vec::with_capacity(share),
            share,
            underway: 0,
            next_dial_ns: now_ns(),
            dial_interval_ns: nanos(Duration::from_secs_f64(seconds)),
            gathered: crowd.nothing_gathered(),
            reported: 0,
            next_share_ns: 0,
        })
    }

    /// Connects its clients and serves them until the crowd is dismissed.
    pub(super) fn run(mut self) -> Result<Vec<Gathered>> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        let mut scratch = vec![0; READ_BUFFER_BYTES];
        while !self.pulse.stop.load(Ordering::Relaxed) {
            self.dial_due();
            events.clear();
            let wait = timespec(self.wait());
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    let error = anyhow::Error::new(error).context("epoll failed");
                    self.pulse.break_down(&error);
                    return Err(error);
                }
            }
            let measure_from_ns = self.pulse.measure_from_ns.load(Ordering::Relaxed);
            for group in &mut self.gathered {
                group.heard.measure_from_ns = measure_from_ns;
            }
            for event in &events {
                let data = event.data;
                self.on_event(data.u64(), &mut scratch);
            }
            self.report();
            if !self.crowd.lazy.is_zero() && self.underway == 0 && !events.is_empty() {
                thread::sleep(self.crowd.lazy);
            }
        }
        self.share();
        self.count_closed(&mut scratch)?;
        for at in 0..self.clients.len() {
            self.retire(at);
        }
        Ok(self.gathered)
    }

    /// Returns the number of a client and the index of its group.
    fn number_of(&self, at: usize) -> (usize, usize) {
        let number = self.crowd.first + at * self.crowd.threads + self.number;
        (number, self.crowd.group_of(number))
    }

    /// Takes a client out and keeps its tally. Dropping the socket closes it, which removes it from
    /// the epoll set.
    fn retire(&mut self, at: usize) {
        let (_, group) = self.number_of(at);
        let tally = self.clients[at].take().map(|client| client.tally);
        self.gathered[group].tallies.extend(tally);
    }

    /// Counts the clients that do not read and that the server has closed. The end of a connection
    /// is behind what was not read, so everything is read now.
    fn count_closed(&self, scratch: &mut [u8]) -> Result<()> {
        let is_deaf = |(at, client): (usize, &'_ Option<Client>)| {
            let (_, group) = self.number_of(at);
            let is_ready = client.as_ref().is_some_and(Client::is_ready);
            (is_ready && !self.crowd.groups[group].reads).then_some(at)
        };
        let deaf = self.clients.iter().enumerate().filter_map(is_deaf);
        let mut deaf: Vec<_> = deaf.filter_map(|at| self.clients[at].as_ref()).collect();
        for client in &deaf {
            client.set_receive_bytes(READ_BUFFER_BYTES)?;
        }
        while !deaf.is_empty() {
            let fds = deaf.iter().map(|client| PollFd::new(*client, PollFlags::IN));
            let mut fds: Vec<_> = fds.collect();
            if poll(&mut fds, Some(&timespec(QUIET)))? == 0 {
                break;
            }
            let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let before = deaf.len();
            let mut ready = ready.into_iter();
            deaf.retain(|client| !(ready.next() == Some(true) && client.has_ended(scratch)));
            self.pulse.closed.fetch_add(before - deaf.len(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn dial_due(&mut self) {
        let underway_max = self.crowd.underway_max.div_ceil(self.crowd.threads);
        while self.clients.len() < self.share
            && self.underway < underway_max
            && self.next_dial_ns <= now_ns()
        {
            self.next_dial_ns += self.dial_interval_ns;
            let client = self.dial();
            self.underway += usize::from(client.is_ok());
            if let Err(error) = &client {
                self.pulse.fail(error);
                let (number, group) = self.number_of(self.clients.len());
                let channel = self.crowd.groups[group].channel_of(number);
                let mut tally = Tally::of_channel(channel);
                tally.cut();
                self.gathered[group].tallies.push(tally);
            }
            self.clients.push(client.ok());
        }
    }

    fn dial(&self) -> Result<Client> {
        let at = self.clients.len();
        let (number, group) = self.number_of(at);
        let group = &self.crowd.groups[group];
        let source = group.target.source(number);
        let receive_bytes = (!group.reads).then_some(DEAF_RECEIVE_BYTES);
        let dial = Dial { server: group.target.address, source, receive_bytes };
        let mut client = Client::dial(dial)?;
        client.tally.channel = group.channel_of(number);
        let data = EventData::new_u64(at as u64);
        epoll::add(&self.epoll, &client, data, EventFlags::OUT)?;
        Ok(client)
    }

    fn wait(&self) -> Duration {
        if self.clients.len() == self.share {
            return IDLE_WAIT;
        }
        let until_dial = Duration::from_nanos(self.next_dial_ns.saturating_sub(now_ns()));
        until_dial.clamp(Duration::from_millis(1), IDLE_WAIT)
    }

    fn on_event(&mut self, data: u64, scratch: &mut [u8]) {
        let at = usize::try_from(data).expect("it was made from an index");
        let (_, group) = self.number_of(at);
        let Some(client) = self.clients[at].as_mut() else {
            return;
        };
        let Group { script, reads, .. } = &self.crowd.groups[group];
        let was_ready = client.is_ready();
        if was_ready && !reads {
            // The server may close a client that does not read.
            self.pulse.closed.fetch_add(1, Ordering::Relaxed);
            self.retire(at);
            return;
        }
        let outcome = if client.is_dialling() {
            let begun = client.begin(script);
            let listen = EventData::new_u64(data);
            begun.and_then(|()| Ok(epoll::modify(&self.epoll, &*client, listen, EventFlags::IN)?))
        } else {
            client.read(scratch, script, &mut self.gathered[group].heard)
        };
        let is_ready = client.is_ready();
        if let Err(error) = outcome {
            client.tally.cut();
            self.pulse.fail(&error);
            self.underway -= usize::from(!was_ready);
            self.retire(at);
            return;
        }
        if is_ready && !was_ready {
            self.underway -= 1;
            if !reads {
                let client = self.clients[at].as_ref().expect("it has just become ready");
                let ended = EventFlags::RDHUP;
                if let Err(error) =
                    epoll::modify(&self.epoll, client, EventData::new_u64(data), ended)
                {
                    self.pulse.fail(&error.into());
                }
            }
            self.pulse.ready.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn report(&mut self) {
        let received = self.gathered.iter().map(|group| group.heard.received).sum();
        if received > self.reported {
            self.pulse.received.fetch_add(received - self.reported, Ordering::Relaxed);
            self.reported = received;
        }
        let now_ns = now_ns();
        if now_ns >= self.next_share_ns {
            self.next_share_ns = now_ns + nanos(SHARE_INTERVAL);
            self.share();
        }
    }

    fn share(&mut self) {
        for group in &mut self.gathered {
            self.pulse.share(&mut group.heard.recent);
        }
    }
}
