//! `soak`: a paced run of long duration that must not need more and more memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::api::Script;
use crate::args::SoakArguments;
use crate::client::Client;
use crate::clock::{nanos, now_ns, timespec};
use crate::connection::Dial;
use crate::crowd::Group;
use crate::ending::Ending;
use crate::heard::Heard;
use crate::machine::Versions;
use crate::pin::Placement;
use crate::procfs::{Memory, Usage};
use crate::publisher::Schedule;
use crate::report::{Frame, Moment, PublishReport, SoakReport};
use crate::scenario::field::{Field, Source, crowd};
use crate::scenario::publish::publications;
use crate::scenario::{conclude, required_process, say};
use crate::target::Target;

const SCRATCH_BYTES: usize = 64 * 1024;
const POLL_MAX: Duration = Duration::from_millis(50);

/// Measures a node, prints the report and returns what is to be said of it.
pub(crate) fn run(arguments: &SoakArguments) -> Result<Ending> {
    let SoakArguments { subscribed, size, .. } = arguments;
    let node = &subscribed.node;
    let place = Placement::take(arguments.place.server_cpu, arguments.place.client_cpu)?;
    let pid = required_process(node.server_pid, node.url())?;
    Usage::of(pid)?;
    place.pin_node(pid)?;
    let frame = Frame::now(arguments.settings(), Versions::of_node(node.url()));
    let options = subscribed.options();
    let _definitions = node.define(&node.channel, &options)?;
    let access = subscribed.access();
    let script = access.script(node.url(), Some(&node.channel))?;
    let post = &arguments.post();
    let schedule = Schedule { channel: node.channel.clone(), ..post.schedule() };
    let log = Log { pid, interval: arguments.interval(), noted: Mutex::default() };
    let probe = Probe { target: node.url(), script: &script, heard: Mutex::new(Heard::new()) };
    let observe = |after, received| log.observe(after, received, || probe.take());
    let field = Field {
        scenario: "soak",
        crowd: crowd(
            Group::spread(&node.urls, size.subscribers, |target| {
                access.script(target, Some(&node.channel))
            })?,
            size.connections_per_process,
        ),
        source: Source::Http(node.url(), vec![access.request(node.url(), &schedule)?]),
        post,
        // What one process costs says nothing of deliveries by several.
        pid: (node.urls.len() == 1).then_some(pid),
        readers: size.subscribers,
        nodes: &node.urls,
        observe: Some(&observe),
    };
    let stop = AtomicBool::new(false);
    let harvest = thread::scope(|scope| {
        let probing = thread::Builder::new()
            .name("probe".to_owned())
            .spawn_scoped(scope, || probe.listen(&stop))?;
        let harvest = field.harvest();
        stop.store(true, Ordering::Relaxed);
        let probed = probing.join().expect("the probe returns its errors");
        let harvest = harvest?;
        // The end of the server is that of this client, too.
        if harvest.work.cut.is_none() {
            probed.context("the client that measures latency failed")?;
        }
        anyhow::Ok(harvest)
    })?;
    let report = SoakReport {
        interval: arguments.interval().as_secs_f64(),
        moments: log.noted.into_inner().expect("nothing panics while it holds this").moments,
        run: PublishReport {
            scenario: "soak",
            asked: post.asked(),
            publications: publications(&harvest.posted),
            subscribers: Some(harvest.subscribers(1)?),
            answers: harvest.posted.latency,
            work: harvest.work,
        },
    };
    let (p99_ms, cpu_us) = (post.max_p99_ms, post.max_cpu_us);
    let record = report.record(frame, &arguments.growth(), p99_ms, cpu_us);
    conclude(&record, &report.table(), &arguments.output)
}

/// What was observed at the end of each interval.
struct Log {
    pid: u32,
    interval: Duration,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    moments: Vec<Moment>,
    /// The next moment is due after this many intervals.
    next: u64,
}

impl Log {
    /// Adds a moment if the next one is due `after` the start of the window. Each is due at a whole
    /// number of intervals, so that a late one does not make those behind it late.
    fn observe(
        &self,
        after: Duration,
        received: u64,
        latency: impl FnOnce() -> Histogram<u64>,
    ) -> Result<()> {
        let mut noted = self.noted.lock().expect("nothing panics while it holds this");
        let passed = nanos(after) / nanos(self.interval);
        if passed < noted.next {
            return Ok(());
        }
        let cpu_ns = Usage::of(self.pid)?.process.total_ns();
        let memory = Memory::of(self.pid)?;
        let moment = Moment { at_ns: now_ns(), received, cpu_ns, memory, latency: latency() };
        if let Some(last) = noted.moments.last() {
            say(&moment.line(last));
        }
        noted.moments.push(moment);
        noted.next = passed + 1;
        Ok(())
    }
}

/// A further subscriber, which measures the latency of each interval.
struct Probe<'a> {
    target: &'a Target,
    script: &'a Script,
    heard: Mutex<Heard>,
}

impl Probe<'_> {
    /// Subscribes and listens until `stop` is set.
    fn listen(&self, stop: &AtomicBool) -> Result<()> {
        self.heard().measure_from_ns = 0;
        let dial = Dial { server: self.target.address, source: None, receive_bytes: None };
        let mut client = Client::dial(dial)?;
        let mut scratch = vec![0; SCRATCH_BYTES];
        while !stop.load(Ordering::Relaxed) {
            let dialling = client.is_dialling();
            let interest = if dialling { PollFlags::OUT } else { PollFlags::IN };
            let mut fds = [PollFd::new(&client, interest)];
            match poll(&mut fds, Some(&timespec(POLL_MAX))) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) if dialling => client.begin(self.script)?,
                Ok(_) => client.read(&mut scratch, self.script, &mut self.heard())?,
                Err(error) => return Err(error).context("poll failed"),
            }
        }
        Ok(())
    }

    /// Returns the latencies since the last call, and forgets them.
    fn take(&self) -> Histogram<u64> {
        let mut heard = self.heard();
        let latency = heard.latency.clone();
        heard.latency.clear();
        latency
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("nothing panics while it holds this")
    }
}
