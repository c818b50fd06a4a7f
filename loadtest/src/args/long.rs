//! The arguments of `saturate` and `soak`.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::parts::{bounded, count, rate, threshold};
use super::post::{PostArguments, SubscribedArguments};
use super::{OutputArguments, PlaceArguments};
use crate::report::{Growth, StepLimits};

pub(super) const SATURATE_EXAMPLE: &str = "\
Example:
  loadtest saturate --api-key ik_… -n 1000 --from 100 --ephemeral";

pub(super) const SOAK_EXAMPLE: &str = "\
Example:
  loadtest soak --api-key ik_… -n 1000 --rate 20 --seconds 600";

/// The subscribers of one channel.
#[derive(Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct SizeArguments {
    /// Number of clients
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1_000, value_parser = count)]
    pub(crate) subscribers: usize,
    /// Clients per process
    #[arg(long, value_name = "N", default_value_t = 19_000, value_parser = count)]
    pub(crate) connections_per_process: usize,
}

impl SizeArguments {
    /// Adds the settings that a saved run names.
    fn put_into(&self, settings: &mut Value) {
        settings["subscribers"] = self.subscribers.into();
        settings["connections_per_process"] = self.connections_per_process.into();
    }
}

/// The command line of `saturate`.
#[derive(Args)]
pub(crate) struct SaturateArguments {
    #[command(flatten)]
    pub(crate) subscribed: SubscribedArguments,
    #[command(flatten)]
    pub(crate) size: SizeArguments,
    /// Publications per second of the first step
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = rate)]
    #[arg(help_heading = "Load")]
    pub(crate) from: f64,
    /// Highest rate that is tried
    #[arg(long, value_name = "PER_SECOND", default_value = "100000", value_parser = rate)]
    #[arg(help_heading = "Load")]
    pub(crate) most: f64,
    /// Steps between the best and the next that failed
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = halvings)]
    #[arg(help_heading = "Load")]
    pub(crate) halvings: usize,
    /// Sustained steps have at most this p99
    #[arg(long, value_name = "MS", default_value = "100", value_parser = threshold)]
    #[arg(help_heading = "Load")]
    pub(crate) p99_ms: f64,
    /// Fail when a lower rate is sustained
    #[arg(long, value_name = "PER_SECOND", value_parser = rate, help_heading = "Load")]
    pub(crate) min_rate: Option<f64>,
    #[command(flatten)]
    pub(crate) post: PostArguments,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

impl SaturateArguments {
    /// Returns the settings that a saved run names. The rate is that of each step.
    pub(crate) fn settings(&self) -> Value {
        let mut settings = self.post.in_order().settings();
        self.subscribed.put_into(&mut settings);
        self.size.put_into(&mut settings);
        self.place.put_into(&mut settings);
        settings["from"] = self.from.into();
        settings["most"] = self.most.into();
        settings["halvings"] = self.halvings.into();
        settings["p99_ms"] = self.p99_ms.into();
        settings
    }

    /// Returns the limits of the highest step that is sustained.
    pub(crate) fn limits(&self) -> StepLimits {
        let PostArguments { max_p99_ms: p99_ms, max_cpu_us: cpu_us, .. } = self.post;
        StepLimits { min_rate: self.min_rate, p99_ms, cpu_us }
    }
}

/// The command line of `soak`.
#[derive(Args)]
pub(crate) struct SoakArguments {
    #[command(flatten)]
    pub(crate) subscribed: SubscribedArguments,
    #[command(flatten)]
    pub(crate) size: SizeArguments,
    /// Between samples [default: 10, or --seconds / 10]
    #[arg(long, value_name = "SECONDS", value_parser = interval, help_heading = "Load")]
    interval: Option<Duration>,
    /// Fail when memory grows by more
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = threshold)]
    #[arg(help_heading = "Load")]
    max_memory_growth: f64,
    /// Fail when CPU a second grows by more
    #[arg(long, value_name = "PERCENT", value_parser = threshold, help_heading = "Load")]
    max_cpu_growth: Option<f64>,
    /// Fail when p99 grows by more
    #[arg(long, value_name = "PERCENT", value_parser = threshold, help_heading = "Load")]
    max_p99_growth: Option<f64>,
    #[command(flatten)]
    post: PostArguments,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// Publications per second of a soak without another rate.
const SOAK_RATE: f64 = 20.0;
/// Time between two samples if none is given, unless a tenth of the run is less.
const INTERVAL: Duration = Duration::from_secs(10);
const INTERVALS: u32 = 10;
/// The least time between two samples, in s.
const INTERVAL_S_MIN: f64 = 0.1;

impl SoakArguments {
    /// Returns the settings that a saved run names.
    pub(crate) fn settings(&self) -> Value {
        let mut settings = self.post().settings();
        self.subscribed.put_into(&mut settings);
        self.place.put_into(&mut settings);
        self.size.put_into(&mut settings);
        settings["interval"] = self.interval().as_secs_f64().into();
        settings
    }

    /// Returns the time between two samples.
    pub(crate) fn interval(&self) -> Duration {
        let least = Duration::from_secs_f64(INTERVAL_S_MIN);
        self.interval.unwrap_or_else(|| (self.seconds() / INTERVALS).clamp(least, INTERVAL))
    }

    /// Returns the length of the measured window.
    pub(super) fn seconds(&self) -> Duration {
        self.post.seconds
    }

    /// Returns how to publish: always at a fixed rate.
    pub(crate) fn post(&self) -> PostArguments {
        PostArguments { rate: self.post.rate.or(Some(SOAK_RATE)), ..self.post.in_order() }
    }

    /// Returns the limits of growth.
    pub(crate) fn growth(&self) -> Growth {
        Growth {
            memory: Some(self.max_memory_growth),
            cpu: self.max_cpu_growth,
            latency: self.max_p99_growth,
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    bounded(text, INTERVAL_S_MIN, 86_400.0).map(Duration::from_secs_f64)
}

fn halvings(text: &str) -> Result<usize, String> {
    bounded(text, 0, 20)
}
