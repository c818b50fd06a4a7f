//! `saturate`: raises the rate of publications until the server or the clients fall behind, and
//! finds the highest rate that is sustained.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::api::insforge::Definition;
use crate::api::{Access, Script};
use crate::args::{PostArguments, SaturateArguments};
use crate::crowd::Group;
use crate::ending::Ending;
use crate::interrupt;
use crate::machine::Versions;
use crate::publisher::Schedule;
use crate::report::{Frame, PublishReport, SaturateReport, Step, verdict_text};
use crate::scenario::field::{Field, Source, crowd};
use crate::scenario::publish::publications;
use crate::scenario::{conclude, placed_process, say};

/// Pause between two steps, in which the server closes the clients of the one before.
const SETTLE: Duration = Duration::from_millis(500);

/// Measures a node, prints the report and returns what is to be said of it.
pub(crate) fn run(arguments: &SaturateArguments) -> Result<Ending> {
    let SaturateArguments { subscribed, .. } = arguments;
    let node = &subscribed.node;
    let pid = placed_process(node.server_pid, &node.urls, &arguments.place)?;
    let frame = Frame::now(arguments.settings(), Versions::of_node(node.url()));
    let options = subscribed.options();
    let _definition = Definition::make(node.url(), &node.channel, &node.api_key, &options)?;
    let access = subscribed.access();
    let script = access.script(node.url(), Some(&node.channel))?;
    let climb = Climb { arguments, access, script, pid };
    let report = climb.climb()?;
    let record = report.record(frame, &arguments.limits());
    let table = report.table() + &verdict_text(&record.verdict);
    conclude(&record, &table, &arguments.output)
}

/// The steps of a run.
struct Climb<'a> {
    arguments: &'a SaturateArguments,
    access: Access,
    script: Script,
    /// The server's process, if known.
    pid: Option<u32>,
}

impl Climb<'_> {
    /// Doubles the rate until a step is not sustained, then halves the distance between the highest
    /// rate that was and the lowest that was not.
    fn climb(&self) -> Result<SaturateReport> {
        let most = self.arguments.most;
        let (mut good, mut bad) = (0.0, None);
        let mut rate = self.arguments.from;
        let mut steps: Vec<Step> = Vec::new();
        let mut halvings = self.arguments.halvings;
        loop {
            let step = self.step(rate)?;
            // Ctrl-C cut this step short, so it says nothing.
            if interrupt::requested() {
                break;
            }
            say(&step.line());
            let (sustained, cut) = (step.limits.is_empty(), step.cut().is_some());
            steps.push(step);
            if cut {
                break;
            }
            if sustained {
                good = rate;
            } else {
                bad = Some(rate);
            }
            rate = match bad {
                None if good >= most => break,
                None => (good * 2.0).min(most),
                Some(_) if halvings == 0 => break,
                Some(bad) => {
                    halvings -= 1;
                    f64::midpoint(good, bad)
                }
            };
        }
        if steps.is_empty() {
            interrupt::ensure_none()?;
        }
        Ok(SaturateReport {
            subscribers: self.arguments.size.subscribers,
            p99_ms: self.arguments.p99_ms,
            most,
            steps,
            interrupted: interrupt::requested(),
        })
    }

    /// Measures a rate. One that is not sustained is measured again, because the machine may have
    /// been busy with something else.
    fn step(&self, rate: f64) -> Result<Step> {
        let first = self.measure(rate)?;
        if first.limits.is_empty() || first.cut().is_some() || interrupt::requested() {
            return Ok(first);
        }
        say(&format!("{}; once more", first.line()));
        self.measure(rate)
    }

    fn measure(&self, rate: f64) -> Result<Step> {
        thread::sleep(SETTLE);
        let SaturateArguments { subscribed, size, post, .. } = self.arguments;
        let node = &subscribed.node;
        let post = &PostArguments { rate: Some(rate), ..post.in_order() };
        let schedule = Schedule { channel: node.channel.clone(), ..post.schedule() };
        let field = Field {
            scenario: "saturate",
            crowd: crowd(
                vec![Group::alike(node.url(), self.script.clone(), size.subscribers)],
                size.connections_per_process,
            ),
            source: Source::Http(node.url(), vec![self.access.request(node.url(), &schedule)?]),
            post,
            pid: self.pid,
            readers: size.subscribers,
            nodes: &node.urls,
            observe: None,
        };
        let started = Frame::started();
        let harvest = field.harvest()?;
        let report = PublishReport {
            scenario: "saturate",
            asked: post.asked(),
            publications: publications(&harvest.posted),
            subscribers: Some(harvest.subscribers(1)?),
            answers: harvest.posted.latency,
            work: harvest.work,
        };
        Ok(Step::of(rate, started, report, self.arguments.p99_ms))
    }
}
