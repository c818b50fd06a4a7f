//! `idle`: connections that only answer heartbeats, and what each costs the server.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use crate::args::IdleArguments;
use crate::clock::now_ns;
use crate::crowd::Pulse;
use crate::ending::Ending;
use crate::fate::{Cut, Server};
use crate::interrupt;
use crate::machine::Versions;
use crate::procfs::Memory;
use crate::progress::{Live, Progress};
use crate::report::{
    Course, Evidence, Frame, IdleReport, Load, Losses, Measured, Offer, Tick, Verdict, Window,
};
use crate::scenario::sample::{SECOND, Sample, Sampler};
use crate::scenario::{conclude, groups, required_process};
use crate::target::Target;
use crate::timeline::Timeline;

const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the scenario, prints the report and returns what is to be said of it.
pub(crate) fn run(arguments: &IdleArguments) -> Result<Ending> {
    let (server, common) = (&arguments.server, &arguments.crowd);
    let pid = required_process(arguments.server_pid, server.url())?;
    // A first request is answered before memory is read, so that its memory counts for no
    // connection.
    let frame = Frame::now(settings(arguments), Versions::of_node(server.url()));
    let access = server.access(common.api, arguments.api_key.as_deref());
    let channel = arguments.subscribe.then_some(common.channel.as_str());
    let prepared = channel.map(|channel| access.prepare(server.url(), channel)).transpose()?;
    let _definition = prepared.flatten();
    let before = Memory::of(pid)?;
    let pulse = Pulse::default();
    let script = |target: &Target| access.script(target, channel);
    let groups = groups(server, common, script, arguments.streams)?;
    let crowd = common.crowd(groups);
    let server = Server { pid: Some(pid), address: server.url().address };
    let hold = || Holding { pid, server, planned: common.seconds, pulse: &pulse }.hold(crowd.size);
    let (held, gathered) = crowd.gather(&pulse, hold)?;
    let report = IdleReport {
        api: common.api,
        measured: held.measured,
        connections: crowd.size,
        streams: arguments.streams.unwrap_or(0),
        subscribed: arguments.subscribe,
        seconds: common.seconds.as_secs_f64(),
        before,
        connected: held.connected,
        after: held.after,
        window: held.window,
        client_processes: pulse.pids().count(),
        pings: gathered.iter().map(|group| group.heard.pings).sum(),
        losses: held.losses,
    };
    let record = report.record(frame, arguments.max_bytes_per_connection);
    conclude(&record, &report.table(), &arguments.output)
}

fn settings(arguments: &IdleArguments) -> Value {
    let mut settings = arguments.crowd.settings();
    settings["server"] = arguments.server.url().authority.as_str().into();
    settings["subscribe"] = arguments.subscribe.into();
    settings["streams"] = arguments.streams.unwrap_or_default().into();
    settings
}

struct Holding<'a> {
    pid: u32,
    server: Server,
    planned: Duration,
    pulse: &'a Pulse,
}

struct Held {
    measured: Measured,
    connected: Memory,
    after: Option<Memory>,
    window: Window,
    losses: Losses,
}

impl Holding<'_> {
    fn hold(&self, size: usize) -> Result<Held> {
        let Self { pid, server, planned, pulse } = *self;
        let mut progress = Progress::new();
        pulse.wait_until_ready(size, &mut progress)?;
        let connected = Memory::of(pid)?;
        let before = self.sample()?;
        let (start, start_ns) = (Instant::now(), now_ns());
        let (whole, ticks) = self.sampler().during(|| {
            let is_held = || pulse.lost() < size && !server.has_ended();
            while start.elapsed() < planned && is_held() && !interrupt::requested() {
                pulse.ensure_whole()?;
                progress.run(|| Live {
                    scenario: "idle",
                    elapsed: start.elapsed(),
                    planned,
                    counted: None,
                    lost: pulse.lost(),
                    latency: None,
                });
                thread::sleep(LOOK_INTERVAL.min(planned));
            }
            anyhow::Ok(())
        })?;
        whole?;
        let cut = server.end(pulse.lost() == size, start_ns);
        let held = start.elapsed().min(planned).as_secs_f64();
        let window = self.sample()?.since(&before);
        let offer = Offer { seconds: held, ..Offer::default() };
        let course = Course { unit: "deliveries", ticks, interval: SECOND, offer };
        Ok(Held {
            measured: Measured {
                seconds: held,
                interrupted: interrupt::requested(),
                series: course.series(&mut Timeline::default(), |_| Vec::new()),
                verdict: verdict(&window, held, cut.as_ref()),
                joined: None,
                cut,
            },
            connected,
            after: Memory::of(pid).ok(),
            window,
            losses: Losses {
                connections: pulse.lost(),
                first: pulse.first_failure().map(str::to_owned),
            },
        })
    }

    fn sample(&self) -> Result<Sample> {
        Sample::take(0, Some(self.pid), self.pulse.pids())
    }

    fn sampler(&self) -> Sampler<impl Fn() -> Tick, impl Fn() -> Vec<u32>> {
        Sampler {
            from_ns: now_ns(),
            planned: self.planned,
            interval: SECOND,
            server_pid: Some(self.pid),
            counts: || Tick { connections_lost: self.pulse.lost() as u64, ..Tick::default() },
            client_pids: || self.pulse.pids().collect(),
        }
    }
}

fn verdict(window: &Window, seconds: f64, cut: Option<&Cut>) -> Verdict {
    let server = window.server.as_ref();
    Verdict::of(&Evidence {
        seconds,
        client: Load::busiest(&window.client, "clients", window.cpu_wall_ns),
        server: server.and_then(|usage| Load::busiest(usage, "", window.cpu_wall_ns)),
        starved: server.and_then(|usage| Load::most_kept(usage, window.cpu_wall_ns)),
        cut,
        ..Evidence::default()
    })
}
