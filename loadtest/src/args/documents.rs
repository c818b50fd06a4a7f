//! The command line of `documents`: server, clients, load, and thresholds that fail the run.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::parts::{
    PlaceArguments, ReaderArguments, bounded, count, measured, payload_bytes, rate, seconds,
};
use super::{OutputArguments, ThresholdArguments};
use crate::documents::Field;
use crate::target::Target;

pub(super) const EXAMPLE: &str = "\
Restart the node first: it would reuse memory of earlier connections. The seed determines the order
of writes; in the end every client must know the last version of each document that it watches.
Example:
  loadtest documents --m2-token e… --m2-writer ik_… --resources 100000 --clients 10000 \\
      --subscriptions 20 --rate 2000 --seconds 60";

#[derive(Args)]
pub(crate) struct DocumentsArguments {
    /// The server; loopback only
    #[arg(long, default_value = "http://127.0.0.1:7130", help_heading = "Server")]
    pub(crate) url: Target,
    #[command(flatten)]
    pub(crate) reader: ReaderArguments,
    /// Credential for writing
    #[arg(long, value_name = "TOKEN", env = "LOADTEST_M2_WRITER", hide_env_values = true)]
    #[arg(help_heading = "Server")]
    pub(crate) m2_writer: String,
    /// Connections that writes are spread over
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = connections)]
    #[arg(help_heading = "Server")]
    pub(crate) writers: usize,
    /// Unanswered writes on each; 1 prevents pipelining
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = count)]
    #[arg(help_heading = "Server")]
    pub(crate) unanswered_max: usize,
    #[command(flatten)]
    pub(crate) watchers: WatcherArguments,
    #[command(flatten)]
    pub(crate) writing: WritingArguments,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    /// Process to measure [default: the one that listens]
    #[arg(long, value_name = "PID", help_heading = "Measuring")]
    pub(crate) server_pid: Option<u32>,
    #[command(flatten)]
    pub(crate) thresholds: ThresholdArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// The clients and their subscriptions.
#[derive(Args)]
#[command(next_help_heading = "Clients")]
pub(crate) struct WatcherArguments {
    /// Number of documents, of all types in turn
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = resources)]
    resources: u32,
    /// Number of clients
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1_000, value_parser = count)]
    pub(crate) clients: usize,
    /// Documents that each client watches, drawn at random
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = subscriptions)]
    subscriptions: u32,
    /// Seed of all random draws
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Connect like browsers: base58 in Sec-WebSocket-Protocol
    #[arg(long)]
    pub(crate) browser: bool,
    /// Clients that read only every 2 s while documents are written
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = slow)]
    pub(crate) slow: usize,
    /// Pause between looks at sockets; adds to latency
    #[arg(long, value_name = "MS", default_value_t = 0)]
    lazy_ms: u64,
}

/// Rate and size of the writes, and when they are timed.
#[derive(Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct WritingArguments {
    /// Writes per second, each for a document drawn at random
    #[arg(long, value_name = "PER_SECOND", default_value = "500", value_parser = rate)]
    pub(crate) rate: f64,
    /// Size of a document's data, at least 48
    #[arg(long, value_name = "N", default_value = "128", value_parser = payload_bytes)]
    pub(crate) payload_bytes: usize,
    /// Warm-up: checked, but not timed
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = measured)]
    #[arg(alias = "duration")]
    pub(crate) seconds: Duration,
    /// Start writing before clients subscribe; time only later writes
    #[arg(long)]
    pub(crate) write_early: bool,
}

impl DocumentsArguments {
    /// Returns the settings that a saved run names.
    pub(crate) fn settings(&self) -> Value {
        let Self { url, watchers, writing, .. } = self;
        json!({
            "api": "m2",
            "server": url.authority,
            "scope": self.reader.m2_scope.to_string(),
            "writers": self.writers,
            "unanswered_max": self.unanswered_max,
            "resources": watchers.resources,
            "clients": watchers.clients,
            "subscriptions": watchers.subscriptions,
            "seed": watchers.seed,
            "browser": watchers.browser,
            "slow": watchers.slow,
            "lazy_ms": watchers.lazy_ms,
            "rate": writing.rate,
            "payload_bytes": writing.payload_bytes,
            "warmup": writing.warmup.as_secs_f64(),
            "seconds": writing.seconds.as_secs_f64(),
            "write_early": writing.write_early,
            "server_cpu": self.place.server_cpu,
            "client_cpu": self.place.client_cpu,
        })
    }

    /// Returns the number of connections of clients and writers.
    pub(crate) fn descriptors(&self) -> usize {
        self.watchers.clients + self.writers
    }

    /// Returns the number of all writes.
    pub(crate) fn writes(&self) -> u64 {
        let seconds = (self.writing.warmup + self.writing.seconds).as_secs_f64();
        // Both factors are bounded, so that the product is far below where a float loses whole
        // numbers.
        ((seconds * self.writing.rate).round() as u64).max(1)
    }
}

impl WatcherArguments {
    /// Returns the documents of the run. A client cannot watch more of them than there are.
    pub(crate) fn field(&self) -> Field {
        let subscriptions = self.subscriptions.min(self.resources);
        Field { seed: self.seed, resources: self.resources, subscriptions }
    }

    /// Returns the pause between two looks at the sockets.
    pub(crate) fn lazy(&self) -> Duration {
        Duration::from_millis(self.lazy_ms)
    }
}

fn resources(text: &str) -> Result<u32, String> {
    bounded(text, 1, 10_000_000)
}

fn subscriptions(text: &str) -> Result<u32, String> {
    bounded(text, 1, 4_096)
}

fn slow(text: &str) -> Result<usize, String> {
    bounded(text, 0, 1_000_000)
}

fn connections(text: &str) -> Result<usize, String> {
    bounded(text, 1, 1_000)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Scenario};

    fn documents(extra: &[&str]) -> Result<DocumentsArguments, clap::Error> {
        let command = ["loadtest", "documents"].iter().chain(extra);
        Arguments::try_parse_from(command).map(|arguments| match arguments.scenario {
            Scenario::Documents(arguments) => arguments,
            _ => panic!("documents were asked for"),
        })
    }

    #[test]
    fn a_run_is_described_by_its_arguments() {
        let arguments = documents(&[
            "--m2-writer",
            "ik_1",
            "--resources",
            "100",
            "--clients",
            "30",
            "--subscriptions",
            "200",
            "--slow",
            "30",
            "--rate",
            "20",
            "--duration",
            "2.5",
            "--warmup",
            "0",
        ])
        .unwrap();
        assert_eq!(arguments.writes(), 50);
        assert_eq!(arguments.descriptors(), 30 + 32);
        let field = Field { seed: 1, resources: 100, subscriptions: 100 };
        assert_eq!((arguments.watchers.field(), arguments.watchers.slow), (field, 30));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for extra in [
            &[][..],
            &["--m2-writer", "ik_1", "--subscriptions", "4097"],
            &["--m2-writer", "ik_1", "--resources", "0"],
            &["--m2-writer", "ik_1", "--writers", "0"],
            &["--m2-writer", "ik_1", "--max-lost-percent", "-1"],
        ] {
            assert_eq!(documents(extra).err().unwrap().exit_code(), 2, "{extra:?}");
        }
    }
}
