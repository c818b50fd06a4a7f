//! The clients of `documents`: one thread, one epoll loop, one read per event.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::clock::{nanos, now_ns, timespec};
use crate::connection::Dial;
use crate::crowd::UNDERWAY_MAX;
use crate::documents::field::Field;
use crate::documents::signals::Signals;
use crate::documents::watcher::{Counts, Hearing, Watch, Watcher};
use crate::handshake::Handshake;
use crate::heard::Heard;
use crate::target::Target;

const EVENTS_MAX: usize = 1_024;
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// How long an idle thread sleeps before it checks its signals.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// How often the thread shares its latencies, which progress shows.
const SHARE_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two reads of a slow client, and the size of its receive buffer: with the kernel's
/// default buffer, the server would notice a slow reader only much later.
const SLOW_INTERVAL: Duration = Duration::from_secs(2);
const SLOW_RECEIVE_BYTES: usize = 4_096;

/// Parameters of the clients.
pub(crate) struct Audience {
    pub(crate) target: Target,
    /// The clients' upgrade request.
    pub(crate) upgrade: Handshake,
    /// The documents of the run and who watches which.
    pub(crate) field: Field,
    /// Number of clients, the slow ones included.
    pub(crate) size: usize,
    /// Number of clients that read only now and then.
    pub(crate) slow: usize,
    /// Pause between two looks at the sockets.
    pub(crate) lazy: Duration,
}

/// The results of all clients.
pub(crate) struct Seen {
    /// Latencies and counts of the updates.
    pub(crate) heard: Heard,
    /// The documents that clients found at their subscribes, and the deliveries that were wrong.
    pub(crate) counts: Counts,
    /// The last known state of each watched document, client by client.
    pub(super) watches: Vec<Watch>,
}

impl Audience {
    /// Connects all clients and has them subscribe and listen as the signals say. All writes of
    /// this run are due after `since_ns`.
    pub(crate) fn attend(&self, signals: &Signals, since_ns: u64) -> Result<Seen> {
        let hall = Hall::new(self, signals, since_ns);
        hall.and_then(Hall::run).inspect_err(|error| signals.fail(error))
    }
}

struct Hall<'a> {
    audience: &'a Audience,
    signals: &'a Signals,
    epoll: OwnedFd,
    /// In order of dialling; `None` after the loss of the connection.
    watchers: Vec<Option<Watcher>>,
    /// Number of clients that were made to subscribe.
    subscribed: usize,
    /// Number of clients that are connecting or subscribing.
    underway: usize,
    /// When slow clients read next; `None` while they read like the others.
    slow_due_ns: Option<u64>,
    hearing: Hearing,
    reported: u64,
    next_share_ns: u64,
    lost: Vec<Watch>,
}

impl<'a> Hall<'a> {
    fn new(audience: &'a Audience, signals: &'a Signals, since_ns: u64) -> Result<Self> {
        Ok(Self {
            audience,
            signals,
            epoll: epoll::create(CreateFlags::CLOEXEC).context("no epoll")?,
            watchers: Vec::with_capacity(audience.size),
            subscribed: 0,
            underway: 0,
            slow_due_ns: None,
            hearing: Hearing {
                field: audience.field,
                since_ns,
                heard: Heard::new(),
                counts: Counts::default(),
            },
            reported: 0,
            next_share_ns: 0,
            lost: Vec::new(),
        })
    }

    fn run(mut self) -> Result<Seen> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        let mut scratch = vec![0; READ_BUFFER_BYTES];
        while !self.signals.stop.load(Ordering::Relaxed) {
            self.dial_due();
            self.subscribe_due();
            self.pace_slow()?;
            events.clear();
            let wait = timespec(IDLE_WAIT);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll failed"),
            }
            let measure_from_ns = self.signals.measure_from_ns.load(Ordering::Relaxed);
            self.hearing.heard.measure_from_ns = measure_from_ns;
            for event in &events {
                let data = event.data;
                self.on_event(data.u64(), &mut scratch);
            }
            self.report();
            if !self.audience.lazy.is_zero() && self.underway == 0 && !events.is_empty() {
                thread::sleep(self.audience.lazy);
            }
        }
        self.signals.share(&mut self.hearing.heard.recent);
        let mut watches = self.lost;
        watches.extend(self.watchers.into_iter().flatten().flat_map(|one| one.watches));
        let Hearing { heard, counts, .. } = self.hearing;
        Ok(Seen { heard, counts, watches })
    }

    fn dial_due(&mut self) {
        while self.watchers.len() < self.audience.size && self.underway < UNDERWAY_MAX {
            let watcher = self.dial();
            self.underway += usize::from(watcher.is_ok());
            if let Err(error) = &watcher {
                self.signals.fail(error);
            }
            self.watchers.push(watcher.ok());
        }
    }

    fn dial(&self) -> Result<Watcher> {
        let Audience { target, field, slow, .. } = self.audience;
        let at = self.watchers.len();
        let is_slow = at < *slow;
        let dial = Dial {
            server: target.address,
            source: target.source(at),
            receive_bytes: is_slow.then_some(SLOW_RECEIVE_BYTES),
        };
        let watcher = Watcher::dial(dial, field.watched(at), !is_slow)?;
        let data = EventData::new_u64(at as u64);
        epoll::add(&self.epoll, &watcher, data, EventFlags::OUT)?;
        Ok(watcher)
    }

    /// Has clients subscribe, up to `UNDERWAY_MAX` at a time, once all are connected.
    fn subscribe_due(&mut self) {
        let all_there = self.signals.connected.load(Ordering::Relaxed) == self.audience.size;
        if !all_there || !self.signals.subscribe.load(Ordering::Relaxed) {
            return;
        }
        while self.subscribed < self.audience.size && self.underway < UNDERWAY_MAX {
            let at = self.subscribed;
            self.subscribed += 1;
            let Some(watcher) = self.watchers[at].as_mut() else {
                continue;
            };
            self.underway += 1;
            if let Err(error) = watcher.subscribe(&mut self.hearing) {
                self.lose(at, &error);
            }
        }
    }

    /// Lets slow clients read once per interval, or like the others if the signals say so.
    fn pace_slow(&mut self) -> Result<()> {
        if !self.signals.slow.load(Ordering::Relaxed) {
            let was_slow = self.slow_due_ns.take().is_some();
            return if was_slow { self.watch_slow(EventFlags::IN) } else { Ok(()) };
        }
        let now_ns = now_ns();
        if self.slow_due_ns.is_some_and(|due_ns| due_ns > now_ns) {
            return Ok(());
        }
        self.slow_due_ns = Some(now_ns + nanos(SLOW_INTERVAL));
        self.watch_slow(EventFlags::IN | EventFlags::ONESHOT)
    }

    fn watch_slow(&self, interest: EventFlags) -> Result<()> {
        for (at, place) in self.watchers[..self.audience.slow].iter().enumerate() {
            if let Some(watcher) = place {
                epoll::modify(&self.epoll, watcher, EventData::new_u64(at as u64), interest)?;
            }
        }
        Ok(())
    }

    fn on_event(&mut self, data: u64, scratch: &mut [u8]) {
        let at = usize::try_from(data).expect("it was made from an index");
        let Some(watcher) = self.watchers[at].as_mut() else {
            return;
        };
        let was = (watcher.is_connected(), watcher.is_listening());
        let upgrade = &self.audience.upgrade;
        let outcome = if watcher.is_dialling() {
            let begun = watcher.begin(upgrade);
            let listen = EventData::new_u64(data);
            begun.and_then(|()| Ok(epoll::modify(&self.epoll, &*watcher, listen, EventFlags::IN)?))
        } else {
            watcher.read(scratch, upgrade, &mut self.hearing)
        };
        if let Err(error) = outcome {
            self.lose(at, &error);
            return;
        }
        let is = (watcher.is_connected(), watcher.is_listening());
        for (was, is, count) in
            [(was.0, is.0, &self.signals.connected), (was.1, is.1, &self.signals.listening)]
        {
            if is && !was {
                self.underway -= 1;
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Removes a lost connection. The updates that it has received still count.
    fn lose(&mut self, at: usize, error: &anyhow::Error) {
        self.signals.fail(error);
        // Dropping the socket closes it, which removes it from the epoll set.
        if let Some(watcher) = self.watchers[at].take() {
            let waits = at < self.subscribed && !watcher.is_listening();
            self.underway -= usize::from(waits || !watcher.is_connected());
            self.lost.extend(watcher.watches);
        }
    }

    fn report(&mut self) {
        let news = self.hearing.heard.received - self.reported;
        if news > 0 {
            self.signals.received.fetch_add(news, Ordering::Relaxed);
            self.reported = self.hearing.heard.received;
        }
        let now_ns = now_ns();
        if now_ns >= self.next_share_ns {
            self.next_share_ns = now_ns + nanos(SHARE_INTERVAL);
            self.signals.share(&mut self.hearing.heard.recent);
        }
    }
}
