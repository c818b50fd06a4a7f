//! The floor: servers that do only what every server must do for a delivery, a publication or a
//! join. A floor runs in a process of its own, so that its cost is measured in the same way as a
//! node's.

mod channels;
mod fanout;
mod frame;
mod join;
mod port;
mod publish;
mod requests;
mod ring;
mod session;

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub(crate) use self::channels::name as channel_name;
use crate::api::Api;
use crate::helper::{Helper, News, Orders};
use crate::publisher::{Published, Schedule};
use crate::tally::Outcome;
use crate::target::Target;

const JOB_BYTES_MAX: usize = 64 * 1024;

/// The job of a floor process.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Sends publications to all clients.
    Fanout(Fanout),
    /// Answers publications without delivering them.
    Publish,
    /// Delivers each publication to the clients of its channel.
    Channels(Schedule),
    /// Accepts clients and answers their subscribes.
    Join,
}

/// The job of a floor that sends publications to all clients.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Fanout {
    pub(crate) api: Api,
    pub(crate) schedule: Schedule,
    pub(crate) sending: Sending,
}

/// How a floor gets its publications and how it sends them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Sending {
    pub(crate) sends: Sends,
    pub(crate) source: Source,
    /// Number of publications that the clock may add to one turn, unless sends are plain.
    pub(crate) turn_max: usize,
    /// Number of clients, which the answer to a publication over HTTP names.
    pub(crate) audience: usize,
}

/// How the publications of a turn get to the sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sends {
    /// One send for each publication and socket.
    Plain,
    /// One send for each socket, with all publications of the turn.
    Coalescing,
    /// The same, in batches on an io_uring.
    Ring,
}

/// Where a floor gets its publications from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// It makes each one when it is due.
    Clock,
    /// A publisher sends them over HTTP, as to a node.
    Http,
}

/// A message from the floor process.
#[derive(Serialize, Deserialize)]
enum Word {
    /// Clients and publishers may connect to these addresses.
    Listening { clients: SocketAddr, publishers: SocketAddr },
    /// All publications were handed to the sockets or queued for them.
    Published {
        /// The longest delay of a publication after its due time, in ns.
        late_ns_max: u64,
    },
}

/// A floor that runs as a helper process and publishes when it is ordered to.
pub(crate) struct Floor {
    /// The address for clients.
    pub(crate) target: Target,
    /// The address for publishers.
    pub(crate) publishing: Target,
    job: Job,
    // Declared, and so dropped, before the process, which ends when its orders end.
    orders: Orders,
    news: News,
    helper: Helper,
}

impl Floor {
    /// Starts a floor with this job.
    pub(crate) fn start(job: Job) -> Result<Self> {
        let (helper, orders, mut news) = Helper::start("floor", "floor-server", &job)?;
        let Word::Listening { clients, publishers } = news.next()? else {
            bail!("the floor has published before it was asked to");
        };
        let target = format!("http://{clients}").parse()?;
        let publishing = format!("http://{publishers}").parse()?;
        Ok(Self { target, publishing, job, orders, news, helper })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.helper.pid()
    }

    /// Orders the floor to publish everything, the first publication at `start_ns`, and waits for
    /// the end.
    pub(crate) fn publish(&mut self, start_ns: u64) -> Result<Published> {
        let Job::Fanout(Fanout { schedule, .. }) = &self.job else {
            bail!("this floor makes no publications");
        };
        self.orders.say(&start_ns).context("the floor takes no orders")?;
        let Word::Published { late_ns_max } = self.news.next()? else {
            bail!("the floor listens twice");
        };
        let publications = usize::try_from(schedule.publications)?;
        Ok(Published {
            outcomes: vec![Outcome::Accepted; publications],
            late_ns_max,
            answers: None,
        })
    }
}

/// Runs the floor in this process.
pub(crate) fn serve() -> Result<()> {
    rustix::thread::set_name(c"floor")?;
    // Reading byte by byte without std's buffer leaves later orders in the pipe, where epoll sees
    // them.
    let mut job = Vec::new();
    let mut byte = [0];
    while rustix::io::read(std::io::stdin(), &mut byte)? == 1 && byte != [b'\n'] {
        ensure!(job.len() < JOB_BYTES_MAX, "an endless job");
        job.push(byte[0]);
    }
    match serde_json::from_slice(&job).context("no valid job on stdin")? {
        Job::Fanout(job) => fanout::Server::new(job)?.run(),
        Job::Publish => publish::serve(),
        Job::Channels(schedule) => channels::Server::new(&schedule)?.run(),
        Job::Join => join::serve(),
    }
}
