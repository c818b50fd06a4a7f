//! Arguments for what is done with the results: thresholds and files.

use std::path::PathBuf;

use clap::Args;

use super::parts::{bounded, threshold};
use crate::report::Thresholds;

/// Limits that fail a run with deliveries.
#[derive(Args)]
#[command(next_help_heading = "Measuring")]
pub(crate) struct ThresholdArguments {
    #[command(flatten)]
    costs: CostThresholdArguments,
    /// Fail if more deliveries are lost [default: 0]
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    max_lost_percent: Option<f64>,
    /// Fail if a connection takes more resident memory
    #[arg(long, value_name = "N", value_parser = threshold)]
    max_bytes_per_connection: Option<f64>,
}

/// Limits of the time that deliveries take, and of what they cost.
#[derive(Args)]
#[command(next_help_heading = "Measuring")]
pub(crate) struct CostThresholdArguments {
    /// Fail if the 99th percentile of latency is higher
    #[arg(long, value_name = "MS", value_parser = threshold)]
    max_p99_ms: Option<f64>,
    /// Fail if a delivery costs the server more CPU
    #[arg(long, value_name = "US", value_parser = threshold)]
    max_cpu_us_per_delivery: Option<f64>,
}

impl CostThresholdArguments {
    pub(crate) fn thresholds(&self) -> Thresholds {
        Thresholds {
            p99_ms: self.max_p99_ms,
            cpu_us_per_delivery: self.max_cpu_us_per_delivery,
            ..Thresholds::default()
        }
    }
}

impl ThresholdArguments {
    pub(crate) fn thresholds(&self) -> Thresholds {
        Thresholds {
            lost_percent: self.max_lost_percent,
            bytes_per_connection: self.max_bytes_per_connection,
            ..self.costs.thresholds()
        }
    }
}

/// The files that a run is written to.
#[derive(Args)]
#[command(next_help_heading = "Measuring")]
pub(crate) struct OutputArguments {
    /// Save the run for `loadtest diff`
    #[arg(long, value_name = "JSON")]
    pub(crate) save: Option<PathBuf>,
    /// Write a page to show
    #[arg(long, value_name = "HTML")]
    pub(crate) report: Option<PathBuf>,
}

/// The saved runs to compare.
#[derive(Args)]
pub(crate) struct DiffArguments {
    /// The first run, written by --save
    #[arg(value_name = "RUN-A")]
    pub(crate) before: PathBuf,
    /// The second run
    #[arg(value_name = "RUN-B")]
    pub(crate) after: PathBuf,
}

fn percent(text: &str) -> Result<f64, String> {
    bounded(text, 0.0, 100.0)
}
