//! Arguments that several commands share.

use std::thread;
use std::time::Duration;

use clap::Args;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Value, json};

use crate::api::m2::Scope;
use crate::api::{Access, Api, PAYLOAD_BYTES_MIN};
use crate::crowd::{Crowd, Group, UNDERWAY_MAX};
use crate::descriptors;
use crate::publisher::Schedule;
use crate::target::Target;

/// The server, and the credentials of clients.
#[derive(Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArguments {
    /// The server; loopback only
    #[arg(long = "url", value_name = "URL", default_value = "http://127.0.0.1:7130")]
    pub(crate) urls: Vec<Target>,
    /// InsForge: JWT or anon key
    #[arg(long, value_name = "TOKEN", visible_alias = "anon-key", env = "LOADTEST_TOKEN")]
    #[arg(hide_env_values = true)]
    #[arg(required_if_eq("api", "events"))]
    token: Option<String>,
    // The name of the variable does not begin with the node's name, because the node refuses to
    // start if a variable of its own is unknown to it.
    /// Forge: the clients' context token
    #[arg(long, value_name = "JWT", env = "LOADTEST_CONTEXT_TOKEN", hide_env_values = true)]
    #[arg(required_if_eq("api", "forge"))]
    context_token: Option<String>,
    #[command(flatten)]
    pub(crate) reader: ReaderArguments,
}

/// Credential and scope of M2's clients.
#[derive(Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ReaderArguments {
    /// M2: the clients' JWT or API key, if any
    #[arg(long, value_name = "TOKEN", env = "LOADTEST_M2_TOKEN", hide_env_values = true)]
    pub(crate) m2_token: Option<String>,
    /// M2: organization and project of resources
    #[arg(long, value_name = "ORG/PROJ", default_value_t)]
    pub(crate) m2_scope: Scope,
}

impl ServerArguments {
    /// Returns the server, or the first of several nodes, which receives all publications.
    pub(crate) fn url(&self) -> &Target {
        first(&self.urls)
    }

    /// Adds the settings that a saved run names.
    pub(crate) fn put_into(&self, settings: &mut Value) {
        settings["server"] = names(&self.urls).into();
    }

    /// Returns access for clients. In InsForge, clients without a token send the API key, which has
    /// its own field in the CONNECT payload.
    pub(crate) fn access(&self, api: Api, api_key: Option<&str>) -> Access {
        let (client, publisher) = match api {
            Api::InsForge => {
                let token = self.token.as_ref().map(|token| json!({ "token": token }));
                let payload = token.or(api_key.map(|key| json!({ "apiKey": key })));
                (payload.map(|payload| payload.to_string()), api_key.map(str::to_owned))
            }
            Api::Forge => (self.context_token.clone(), None),
            Api::M2 => (self.reader.m2_token.clone(), None),
            Api::Events => (self.token.clone(), api_key.map(str::to_owned)),
        };
        Access { api, client, publisher, scope: self.reader.m2_scope.clone() }
    }
}

/// The credentials of publishers, and pipelining.
#[derive(Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct PublishArguments {
    /// InsForge: to publish, and for tokenless clients
    #[arg(long, value_name = "KEY", env = "LOADTEST_API_KEY", hide_env_values = true)]
    #[arg(required_unless_present = "api")]
    #[arg(required_if_eq_any([("api", "insforge"), ("api", "events")]))]
    api_key: Option<String>,
    /// Forge: the invocation that publishes
    #[arg(long, value_name = "ID", env = "LOADTEST_INVOCATION", hide_env_values = true)]
    #[arg(required_if_eq("api", "forge"))]
    invocation: Option<String>,
    /// M2: credential for writing
    #[arg(long, value_name = "TOKEN", env = "LOADTEST_M2_WRITER", hide_env_values = true)]
    #[arg(required_if_eq("api", "m2"))]
    m2_writer: Option<String>,
    /// Unanswered publications; 1 prevents pipelining
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) unanswered_max: u64,
}

impl PublishArguments {
    /// Returns access for clients and publishers.
    pub(crate) fn access(&self, server: &ServerArguments, api: Api) -> Access {
        let access = server.access(api, self.api_key.as_deref());
        match api {
            Api::InsForge | Api::Events => access,
            Api::Forge => Access { publisher: self.invocation.clone(), ..access },
            Api::M2 => Access { publisher: self.m2_writer.clone(), ..access },
        }
    }
}

/// Number and pace of the clients, and how long they are measured.
#[derive(Args)]
#[command(next_help_heading = "Clients")]
pub(crate) struct CrowdArguments {
    /// Clients speak insforge, forge, m2 or events
    #[arg(long, value_enum, default_value = "insforge", hide_possible_values = true)]
    pub(crate) api: Api,
    /// Channel without other users; in M2, TYPE/ID
    #[arg(long, default_value = "load:1")]
    pub(crate) channel: String,
    /// Number of clients
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1_000, value_parser = count)]
    pub(crate) subscribers: usize,
    /// New connections per second [default: as fast as taken]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    connect_rate: Option<f64>,
    /// Clients per process; more start more processes
    #[arg(long, value_name = "N", default_value_t = 19_000, value_parser = count)]
    connections_per_process: usize,
    /// Threads of each process for its clients
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    threads: usize,
    /// Pause between looks at sockets; adds to latency
    #[arg(long, value_name = "MS", default_value_t = 0)]
    lazy_ms: u64,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = measured)]
    pub(crate) seconds: Duration,
}

impl CrowdArguments {
    /// Returns the settings that a saved run names.
    pub(crate) fn settings(&self) -> Value {
        json!({
            "api": self.api,
            "channel": self.channel,
            "subscribers": self.subscribers,
            "connect_rate": self.connect_rate,
            "connections_per_process": self.connections_per_process,
            "threads": self.threads,
            "lazy_ms": self.lazy_ms,
            "seconds": self.seconds.as_secs_f64(),
        })
    }

    /// Returns the crowd of these groups of clients.
    pub(crate) fn crowd(&self, groups: Vec<Group>) -> Crowd {
        let size = groups.iter().map(|group| group.size).sum();
        Crowd {
            groups,
            size,
            first: 0,
            size_per_process: self.connections_per_process.min(descriptors::available()).max(1),
            threads: self.threads.min(size),
            connect_rate: self.connect_rate,
            underway_max: UNDERWAY_MAX,
            lazy: Duration::from_millis(self.lazy_ms),
        }
    }
}

/// Rate and size of the publications.
#[derive(Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadArguments {
    /// Publications per second
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = rate)]
    pub(crate) rate: f64,
    /// Size of the payload, at least 48
    #[arg(long, value_name = "N", default_value = "128", value_parser = payload_bytes)]
    pub(crate) payload_bytes: usize,
    /// Warm-up: checked, but not timed
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// InsForge: name of the published event
    #[arg(long, default_value = "load")]
    pub(crate) event: String,
}

impl LoadArguments {
    /// Adds the settings that a saved run names.
    pub(crate) fn put_into(&self, settings: &mut Value) {
        settings["rate"] = self.rate.into();
        settings["payload_bytes"] = self.payload_bytes.into();
        settings["warmup"] = self.warmup.as_secs_f64().into();
        settings["event"] = self.event.as_str().into();
    }

    /// Returns the schedule of publications for this crowd.
    pub(crate) fn schedule(&self, crowd: &CrowdArguments) -> Schedule {
        let seconds = (self.warmup + crowd.seconds).as_secs_f64();
        Schedule {
            channel: crowd.channel.clone(),
            event: self.event.clone(),
            payload_bytes: self.payload_bytes,
            rate: self.rate,
            // Both factors are bounded by the arguments, so that the product is far below where a
            // float loses whole numbers.
            publications: ((seconds * self.rate).round() as u64).max(1),
        }
    }
}

/// The processors of the server and of this process.
#[derive(Args)]
#[command(next_help_heading = "Measuring")]
pub(crate) struct PlaceArguments {
    /// Processor for all threads of the server
    #[arg(long, value_name = "CPU", value_parser = processor)]
    pub(crate) server_cpu: Option<usize>,
    /// Processor for the clients and the publisher
    #[arg(long, value_name = "CPU", value_parser = processor)]
    pub(crate) client_cpu: Option<usize>,
}

impl PlaceArguments {
    /// Adds the settings that a saved run names.
    pub(crate) fn put_into(&self, settings: &mut Value) {
        settings["server_cpu"] = self.server_cpu.into();
        settings["client_cpu"] = self.client_cpu.into();
    }
}

/// Reads the number of a processor that this program may use. A thread of its own tries it, because
/// the kernel alone knows them all.
fn processor(text: &str) -> Result<usize, String> {
    let number = bounded(text, 0, CpuSet::MAX_CPU - 1)?;
    let mut only = CpuSet::new();
    only.set(number);
    let tried = thread::spawn(move || sched_setaffinity(None, &only));
    match tried.join() {
        Ok(Ok(())) => Ok(number),
        _ => Err(format!("this machine has no processor {number}, or this program may not use it")),
    }
}

/// Returns the first of the nodes.
pub(super) fn first(urls: &[Target]) -> &Target {
    urls.first().expect("clap has at least the default")
}

/// Returns the nodes as a saved run names them.
pub(super) fn names(urls: &[Target]) -> String {
    let names: Vec<_> = urls.iter().map(|url| url.authority.as_str()).collect();
    names.join(" ")
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    bounded(text, 1, 1_000_000)
}

pub(super) fn payload_bytes(text: &str) -> Result<usize, String> {
    bounded(text, PAYLOAD_BYTES_MIN, 1_000_000)
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    bounded(text, 0.001, 100_000.0)
}

/// Reads the length of a measured window, which is never empty.
pub(super) fn measured(text: &str) -> Result<Duration, String> {
    bounded(text, 0.01, 86_400.0).map(Duration::from_secs_f64)
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
