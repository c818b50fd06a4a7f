//! Arguments that several commands share.

use std::time::Duration;

use clap::Args;
use rustix::thread::CpuSet;
use serde_json::{Value, json};

use crate::client::Script;
use crate::crowd::{Crowd, UNDERWAY_MAX};
use crate::descriptors;
use crate::publisher::Schedule;
use crate::stamp::PAYLOAD_BYTES_MIN;
use crate::target::Target;

/// Where the server is, and as whom clients come.
#[derive(Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArguments {
    /// The server; loopback only
    #[arg(long, default_value = "http://127.0.0.1:7130")]
    pub(crate) url: Target,
    /// Credential of the clients: a user's JWT
    #[arg(long, value_name = "JWT", conflicts_with = "anon_key")]
    token: Option<String>,
    /// Credential of the clients: the anon key
    #[arg(long, value_name = "KEY")]
    anon_key: Option<String>,
}

impl ServerArguments {
    /// The CONNECT payload: keys and tokens of clients share a field, the API key has its own.
    pub(crate) fn auth(&self, api_key: Option<&str>) -> Option<Value> {
        let token = self.token.as_ref().or(self.anon_key.as_ref());
        let api_key = api_key.map(|key| json!({ "apiKey": key }));
        token.map(|token| json!({ "token": token })).or(api_key)
    }
}

/// How publications get to the server.
#[derive(Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct PublishArguments {
    /// Credential for publishing, and for clients without another
    #[arg(long, value_name = "KEY")]
    pub(crate) api_key: String,
    /// Publications without an answer yet; 1 prevents pipelining
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) unanswered_max: u64,
}

/// The clients.
#[derive(Args)]
#[command(next_help_heading = "Clients")]
pub(crate) struct CrowdArguments {
    /// Channel that nobody else publishes on
    #[arg(long, default_value = "load:1")]
    pub(crate) channel: String,
    /// Number of clients
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1_000, value_parser = count)]
    pub(crate) subscribers: usize,
    /// New connections per second [default: as fast as taken]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    connect_rate: Option<f64>,
    /// Beyond it, more processes share the clients
    #[arg(long, value_name = "N", default_value_t = 19_000, value_parser = count)]
    connections_per_process: usize,
    /// Threads of each process for its clients
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    threads: usize,
    /// Pause between looks at sockets; adds to latency
    #[arg(long, value_name = "MS", default_value_t = 0)]
    lazy_ms: u64,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) seconds: Duration,
}

impl CrowdArguments {
    /// The clients, subscribed or only connected.
    pub(crate) fn crowd(&self, target: &Target, auth: Option<&Value>, subscribe: bool) -> Crowd {
        let channel = subscribe.then_some(self.channel.as_str());
        Crowd {
            target: target.clone(),
            script: Script::new(target, auth, channel),
            size: self.subscribers,
            first: 0,
            size_per_process: self.connections_per_process.min(descriptors::available()).max(1),
            threads: self.threads.min(self.subscribers),
            connect_rate: self.connect_rate,
            underway_max: UNDERWAY_MAX,
            lazy: Duration::from_millis(self.lazy_ms),
        }
    }
}

/// What is published.
#[derive(Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadArguments {
    /// Publications per second
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = rate)]
    pub(crate) rate: f64,
    /// Size of the payload object, at least 48
    #[arg(long, value_name = "N", default_value = "128", value_parser = payload_bytes)]
    pub(crate) payload_bytes: usize,
    /// Publishing before what is timed; checked nevertheless
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// Name of the published event
    #[arg(long, default_value = "load")]
    pub(crate) event: String,
}

impl LoadArguments {
    /// What is published when, for this crowd.
    pub(crate) fn schedule(&self, crowd: &CrowdArguments) -> Schedule {
        let seconds = (self.warmup + crowd.seconds).as_secs_f64();
        Schedule {
            channel: crowd.channel.clone(),
            event: self.event.clone(),
            payload_bytes: self.payload_bytes,
            rate: self.rate,
            // Both factors are bounded by the arguments, far below where a float loses whole
            // numbers.
            publications: ((seconds * self.rate).round() as u64).max(1),
        }
    }
}

/// Which processors do the work.
#[derive(Args)]
#[command(next_help_heading = "Measuring")]
pub(crate) struct PlaceArguments {
    /// Processor for all threads of the server
    #[arg(long, value_name = "CPU", value_parser = processor)]
    pub(crate) server_cpu: Option<usize>,
    /// Processor for the clients and whoever publishes
    #[arg(long, value_name = "CPU", value_parser = processor)]
    pub(crate) client_cpu: Option<usize>,
}

fn processor(text: &str) -> Result<usize, String> {
    bounded(text, 0, CpuSet::MAX_CPU - 1)
}

fn count(text: &str) -> Result<usize, String> {
    bounded(text, 1, 1_000_000)
}

fn payload_bytes(text: &str) -> Result<usize, String> {
    bounded(text, PAYLOAD_BYTES_MIN, 1_000_000)
}

fn rate(text: &str) -> Result<f64, String> {
    bounded(text, 0.001, 100_000.0)
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    bounded(text, 0.0, 86_400.0).map(Duration::from_secs_f64)
}

pub(super) fn threshold(text: &str) -> Result<f64, String> {
    bounded(text, 0.0, 1e12)
}

pub(super) fn bounded<T>(text: &str, least: T, most: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let value = text.parse().ok().filter(|value| (&least..=&most).contains(&value));
    value.ok_or_else(|| format!("expected a number from {least} to {most}"))
}
