//! The arguments of `churn`, `floor-join` and `reconnect-storm`.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::parts::{bounded, count, measured, rate, seconds, threshold};
use super::post::SubscribedArguments;
use super::{OutputArguments, PlaceArguments};

pub(super) const CHURN_EXAMPLE: &str = "\
Example:
  loadtest churn --api-key ik_… --anon-key anon_… --presence off";

pub(super) const FLOOR_JOIN_EXAMPLE: &str = "\
Example:
  loadtest floor-join --server-cpu 0 --client-cpu 1";

pub(super) const STORM_EXAMPLE: &str = "\
Example:
  loadtest reconnect-storm --api-key ik_… --anon-key anon_… -n 5000 --presence off";

/// Number and pace of the joins, and how long they are measured.
#[derive(Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct ChurnLoad {
    /// Joins under way at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = count)]
    pub(crate) underway: usize,
    /// Joins per second [default: as many as succeed]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Clients that stay on the channel meanwhile
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = members)]
    pub(crate) members: usize,
    /// Warm-up: counted, but not timed
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = measured)]
    pub(crate) seconds: Duration,
    /// Fail when the 99th percentile of the time is higher
    #[arg(long, value_name = "MS", value_parser = threshold)]
    pub(crate) max_p99_ms: Option<f64>,
    /// Fail when a join costs the server more CPU
    #[arg(long, value_name = "US", value_parser = threshold)]
    pub(crate) max_cpu_us: Option<f64>,
}

impl ChurnLoad {
    /// Returns the settings that a saved run names.
    pub(crate) fn settings(&self) -> Value {
        json!({
            "underway": self.underway,
            "rate": self.rate,
            "members": self.members,
            "warmup": self.warmup.as_secs_f64(),
            "seconds": self.seconds.as_secs_f64(),
        })
    }

    /// Returns the number of connections at once.
    pub(crate) fn descriptors(&self) -> usize {
        self.members + self.underway
    }
}

/// The command line of `churn`.
#[derive(Args)]
pub(crate) struct ChurnArguments {
    #[command(flatten)]
    pub(crate) subscribed: SubscribedArguments,
    #[command(flatten)]
    pub(crate) load: ChurnLoad,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// The command line of `floor-join`.
#[derive(Args)]
pub(crate) struct FloorJoinArguments {
    #[command(flatten)]
    pub(crate) load: ChurnLoad,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// The command line of `reconnect-storm`.
#[derive(Args)]
pub(crate) struct StormArguments {
    #[command(flatten)]
    pub(crate) subscribed: SubscribedArguments,
    /// Number of clients
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1_000, value_parser = count)]
    #[arg(help_heading = "Clients")]
    pub(crate) clients: usize,
    /// Joins under way at once after the cut [default: all]
    #[arg(long, value_name = "N", value_parser = count, help_heading = "Clients")]
    underway: Option<usize>,
    /// How long to wait for all to be back
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = measured)]
    #[arg(help_heading = "Clients")]
    pub(crate) patience: Duration,
    /// Fail when it takes longer until all are back
    #[arg(long, value_name = "SECONDS", value_parser = threshold, help_heading = "Measuring")]
    pub(crate) max_seconds: Option<f64>,
    /// Fail when a join costs the server more CPU
    #[arg(long, value_name = "US", value_parser = threshold, help_heading = "Measuring")]
    pub(crate) max_cpu_us: Option<f64>,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

impl StormArguments {
    /// Returns the settings that a saved run names.
    pub(crate) fn settings(&self) -> Value {
        let mut settings = json!({ "clients": self.clients, "underway": self.underway() });
        settings["patience"] = self.patience.as_secs_f64().into();
        self.subscribed.put_into(&mut settings);
        self.place.put_into(&mut settings);
        settings
    }

    /// Returns how many joins may be under way at once after the cut.
    pub(crate) fn underway(&self) -> usize {
        self.underway.unwrap_or(self.clients)
    }
}

fn members(text: &str) -> Result<usize, String> {
    bounded(text, 0, 1_000_000)
}
