//! The floor: a server that does only what every server must do for a delivery. It runs in a
//! process of its own, so that its cost is measured in the same way as a node's.

mod frame;
mod server;
mod session;

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use self::server::Server;
use crate::api::Api;
use crate::helper::{Helper, News, Orders};
use crate::publisher::{Published, Schedule};
use crate::tally::Outcome;
use crate::target::Target;

const JOB_BYTES_MAX: usize = 64 * 1024;

/// The job of a floor process.
#[derive(Serialize, Deserialize)]
struct Job {
    api: Api,
    schedule: Schedule,
}

/// A message from the floor process.
#[derive(Serialize, Deserialize)]
enum Word {
    /// Clients may connect to this address.
    Listening(SocketAddr),
    /// All publications were handed to the sockets or queued for them.
    Published {
        /// The longest delay of a publication after its due time, in ns.
        late_ns_max: u64,
    },
}

/// A floor that runs as a helper process and publishes when it is ordered to.
pub(crate) struct Floor {
    /// The address that it listens on.
    pub(crate) target: Target,
    schedule: Schedule,
    // Declared, and so dropped, before the process, which ends when its orders end.
    orders: Orders,
    news: News,
    helper: Helper,
}

impl Floor {
    /// Starts a floor that will publish by this schedule.
    pub(crate) fn start(api: Api, schedule: Schedule) -> Result<Self> {
        let job = Job { api, schedule };
        let (helper, orders, mut news) = Helper::start("floor", "floor-server", &job)?;
        let Word::Listening(address) = news.next()? else {
            bail!("the floor has published before it was asked to");
        };
        let target = format!("http://{address}").parse()?;
        Ok(Self { target, schedule: job.schedule, orders, news, helper })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.helper.pid()
    }

    /// Orders the floor to publish everything, the first publication at `start_ns`, and waits for
    /// the end.
    pub(crate) fn publish(&mut self, start_ns: u64) -> Result<Published> {
        self.orders.say(&start_ns).context("the floor takes no orders")?;
        let Word::Published { late_ns_max } = self.news.next()? else {
            bail!("the floor listens twice");
        };
        let publications = usize::try_from(self.schedule.publications)?;
        Ok(Published { outcomes: vec![Outcome::Accepted; publications], late_ns_max })
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
    Server::new(serde_json::from_slice(&job).context("no valid job on stdin")?)?.run()
}
