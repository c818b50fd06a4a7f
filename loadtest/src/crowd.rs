//! Many subscribers on few threads: one epoll loop per thread, one read per event.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::client::{Client, Heard, Script};
use crate::clock::{nanos, now_ns, timespec};
use crate::progress::Progress;
use crate::tally::Tally;
use crate::target::Target;

/// Connections that may be on their way at once, over all threads: below any server's backlog.
const UNDERWAY_MAX: usize = 128;
/// Without any connection becoming ready for so long, the server counts as stuck.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
const EVENTS_MAX: usize = 1_024;
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// How long an idle thread sleeps before it looks whether it shall stop.
const IDLE_WAIT: Duration = Duration::from_millis(50);

/// Who shall come, and how.
pub(crate) struct Crowd {
    /// The server.
    pub(crate) target: Target,
    /// What each client says.
    pub(crate) script: Script,
    /// Number of clients.
    pub(crate) size: usize,
    /// Number of threads that they are spread over.
    pub(crate) threads: usize,
    /// New connections per second; `None` for as fast as they are taken.
    pub(crate) connect_rate: Option<f64>,
    /// Pause between two looks at the sockets, which spares a shared processor at the cost of
    /// measured latency.
    pub(crate) lazy: Duration,
}

/// What the threads and the one who conducts them tell each other.
#[derive(Default)]
pub(crate) struct Pulse {
    ready: AtomicUsize,
    lost: AtomicUsize,
    received: AtomicU64,
    measure_from_ns: AtomicU64,
    stop: AtomicBool,
    first_failure: OnceLock<String>,
}

impl Pulse {
    /// Waits until all `size` clients are ready. The first connection that fails ends it, since
    /// what follows would not be the run that was asked for.
    pub(crate) fn wait_until_ready(&self, size: usize, progress: &mut Progress) -> Result<()> {
        let mut before = 0;
        let mut since = Instant::now();
        loop {
            let ready = self.ready.load(Ordering::Relaxed);
            progress.show(|| format!("connecting: {ready} of {size} ready"));
            if let Some(failure) = self.first_failure() {
                bail!("after {ready} ready connections one failed: {failure}");
            }
            if ready == size {
                return Ok(());
            }
            if ready > before {
                (before, since) = (ready, Instant::now());
            }
            if since.elapsed() > CONNECT_PATIENCE {
                bail!("{ready} of {size} are ready, none in the last {CONNECT_PATIENCE:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Publications due from `due_ns` on are timed.
    pub(crate) fn measure_from(&self, due_ns: u64) {
        self.measure_from_ns.store(due_ns, Ordering::Relaxed);
    }

    /// Publications received by all clients so far, repeats not counted.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Connections that ended before they should.
    pub(crate) fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }

    /// Why the first of them ended.
    pub(crate) fn first_failure(&self) -> Option<&str> {
        self.first_failure.get().map(String::as_str)
    }

    fn fail(&self, error: &anyhow::Error) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        // Only the first is kept: the others mostly follow from it.
        let _ = self.first_failure.set(format!("{error:#}"));
    }
}

/// What the crowd brought home.
pub(crate) struct Gathered {
    /// Latencies and counts.
    pub(crate) heard: Heard,
    /// One tally per client.
    pub(crate) tallies: Vec<Tally>,
}

impl Crowd {
    /// Connects everybody, lets `conduct` do its work meanwhile, and sends everybody home when it
    /// returns.
    pub(crate) fn gather<T>(
        &self,
        pulse: &Pulse,
        conduct: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Gathered)> {
        pulse.measure_from(u64::MAX);
        thread::scope(|scope| {
            let loops: Vec<_> = (0..self.threads)
                .map(|number| {
                    let builder = thread::Builder::new().name(format!("clients-{number}"));
                    builder.spawn_scoped(scope, move || Loop::new(self, pulse, number)?.run())
                })
                .collect::<Result<_, _>>()?;
            let conducted = {
                let _dismissal = Dismissal(pulse);
                conduct()
            };
            let mut all = Gathered { heard: Heard::new(), tallies: Vec::with_capacity(self.size) };
            for handle in loops {
                let one = handle.join().expect("a client thread returns its errors")?;
                all.heard.add(one.heard)?;
                all.tallies.extend(one.tallies);
            }
            Ok((conducted?, all))
        })
    }
}

/// Sends everybody home when dropped, even by a panic: the scope would wait for ever otherwise.
struct Dismissal<'a>(&'a Pulse);

impl Drop for Dismissal<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// One thread's share of the crowd.
struct Loop<'a> {
    crowd: &'a Crowd,
    pulse: &'a Pulse,
    /// This thread serves the clients whose number leaves this remainder by the thread count.
    number: usize,
    epoll: OwnedFd,
    /// In order of dialling; `None` once lost.
    clients: Vec<Option<Client>>,
    share: usize,
    underway: usize,
    next_dial_ns: u64,
    dial_interval_ns: u64,
    heard: Heard,
    reported: u64,
    lost: Vec<Tally>,
}

impl<'a> Loop<'a> {
    fn new(crowd: &'a Crowd, pulse: &'a Pulse, number: usize) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("no epoll");
        let epoll = epoll.inspect_err(|error| pulse.fail(error))?;
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
            heard: Heard::new(),
            reported: 0,
            lost: Vec::new(),
        })
    }

    fn run(mut self) -> Result<Gathered> {
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
                    self.pulse.fail(&error);
                    return Err(error);
                }
            }
            self.heard.measure_from_ns = self.pulse.measure_from_ns.load(Ordering::Relaxed);
            for event in &events {
                let data = event.data;
                self.on_event(data.u64(), &mut scratch);
            }
            self.report();
            if !self.crowd.lazy.is_zero() && self.underway == 0 && !events.is_empty() {
                thread::sleep(self.crowd.lazy);
            }
        }
        let mut tallies = self.lost;
        tallies.extend(self.clients.into_iter().flatten().map(|client| client.tally));
        Ok(Gathered { heard: self.heard, tallies })
    }

    fn dial_due(&mut self) {
        let underway_max = UNDERWAY_MAX.div_ceil(self.crowd.threads);
        while self.clients.len() < self.share
            && self.underway < underway_max
            && self.next_dial_ns <= now_ns()
        {
            self.next_dial_ns += self.dial_interval_ns;
            let client = self.dial();
            self.underway += usize::from(client.is_ok());
            if let Err(error) = &client {
                self.pulse.fail(error);
                self.lost.push(Tally::default());
            }
            self.clients.push(client.ok());
        }
    }

    fn dial(&self) -> Result<Client> {
        let at = self.clients.len();
        let source = self.crowd.target.source(at * self.crowd.threads + self.number);
        let client = Client::dial(self.crowd.target.address, source)?;
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
        let Some(client) = self.clients[at].as_mut() else {
            return;
        };
        let was_ready = client.is_ready();
        let outcome = if client.is_dialling() {
            let begun = client.begin(&self.crowd.script);
            let listen = EventData::new_u64(data);
            begun.and_then(|()| Ok(epoll::modify(&self.epoll, &*client, listen, EventFlags::IN)?))
        } else {
            client.read(scratch, &self.crowd.script, &mut self.heard)
        };
        let is_ready = client.is_ready();
        if let Err(error) = outcome {
            self.pulse.fail(&error);
            self.underway -= usize::from(!was_ready);
            // Dropping the socket closes it, which takes it out of the epoll set.
            self.lost.extend(self.clients[at].take().map(|client| client.tally));
            return;
        }
        if is_ready && !was_ready {
            self.underway -= 1;
            self.pulse.ready.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn report(&mut self) {
        let news = self.heard.received - self.reported;
        if news > 0 {
            self.pulse.received.fetch_add(news, Ordering::Relaxed);
            self.reported = self.heard.received;
        }
    }
}
