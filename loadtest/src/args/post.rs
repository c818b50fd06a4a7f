//! The arguments of scenarios that publish over HTTP on several connections.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::parts::{count, first, measured, names, payload_bytes, rate, seconds, threshold};
use super::{OutputArguments, PlaceArguments};
use crate::api::insforge::{Definition, Options};
use crate::api::{Access, Api};
use crate::publisher::Schedule;
use crate::report::PostAsked;
use crate::target::Target;

pub(super) const PUBLISH_EXAMPLE: &str = "\
Example:
  loadtest publish --api-key ik_… --connections 16
  loadtest publish --api-key ik_… --depth 16 --ephemeral --rate 50000";

pub(super) const CHANNELS_EXAMPLE: &str = "\
Without --rate, as many publications as --connections and --depth allow are unanswered at any time.
Example:
  loadtest many-channels --api-key ik_… --channels 5000 --ephemeral";

pub(super) const FLOOR_CHANNELS_EXAMPLE: &str = "\
Example:
  loadtest floor-channels --channels 5000 --server-cpu 0 --client-cpu 1";

pub(super) const SLOW_EXAMPLE: &str = "\
Example:
  loadtest slow --api-key ik_… -n 50 --slow 10 --rate 50 --payload-bytes 65536 --ephemeral";

pub(super) const FLOOR_PUBLISH_EXAMPLE: &str = "\
Example:
  loadtest floor-publish --connections 16 --server-cpu 0 --client-cpu 1";

/// The node, and the channels that a run defines there.
#[derive(Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct NodeArguments {
    /// The server; loopback only
    #[arg(long = "url", value_name = "URL", default_value = "http://127.0.0.1:7130")]
    pub(crate) urls: Vec<Target>,
    /// To publish and define channels
    #[arg(long, value_name = "KEY", env = "LOADTEST_API_KEY", hide_env_values = true)]
    pub(crate) api_key: String,
    /// Channel without other users
    #[arg(long, default_value = "load")]
    pub(crate) channel: String,
    /// Define it without history
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// Process to measure [default: the one that listens]
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
}

impl NodeArguments {
    /// Returns the node, or the first of several, which receives all publications.
    pub(crate) fn url(&self) -> &Target {
        first(&self.urls)
    }

    /// Defines a channel, or a pattern, at each node.
    pub(crate) fn define(
        &self,
        pattern: &str,
        options: &Options,
    ) -> Result<Vec<Option<Definition>>> {
        let define = |target: &Target| {
            let made = Definition::make(target, pattern, &self.api_key, options);
            made.with_context(|| format!("at {}", target.authority))
        };
        self.urls.iter().map(define).collect()
    }

    /// Adds the settings that a saved run names.
    pub(crate) fn put_into(&self, settings: &mut Value) {
        settings["server"] = names(&self.urls).into();
        settings["channel"] = self.channel.as_str().into();
        settings["ephemeral"] = self.ephemeral.into();
    }
}

/// Number, rate and size of publications, and how long they are measured.
#[derive(Clone, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct PostArguments {
    /// Connections that publish
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = count)]
    pub(crate) connections: usize,
    /// Unanswered publications on each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    pub(crate) depth: usize,
    /// Publications per second [default: as fast as answered]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Size of the payload, at least 48
    #[arg(long, value_name = "N", default_value = "128", value_parser = payload_bytes)]
    pub(crate) payload_bytes: usize,
    /// Warm-up: counted, but not timed
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = measured)]
    pub(crate) seconds: Duration,
    /// Fail when the 99th percentile of latency is higher
    #[arg(long, value_name = "MS", value_parser = threshold)]
    pub(crate) max_p99_ms: Option<f64>,
    /// Fail when each costs the server more CPU
    #[arg(long, value_name = "US", value_parser = threshold)]
    pub(crate) max_cpu_us: Option<f64>,
}

impl PostArguments {
    /// Returns the content of the publications. Number and rate are not those of the schedule.
    pub(crate) fn schedule(&self) -> Schedule {
        Schedule {
            channel: "load".to_owned(),
            event: "load".to_owned(),
            payload_bytes: self.payload_bytes,
            rate: 1.0,
            publications: 0,
        }
    }

    /// Returns the same for one channel with subscribers: all unanswered publications are on one
    /// connection, because publications of several have no order.
    pub(crate) fn in_order(&self) -> Self {
        Self { connections: 1, depth: self.connections * self.depth, ..self.clone() }
    }

    /// Returns the settings that a saved run names.
    pub(crate) fn settings(&self) -> Value {
        json!({
            "connections": self.connections,
            "depth": self.depth,
            "rate": self.rate,
            "payload_bytes": self.payload_bytes,
            "warmup": self.warmup.as_secs_f64(),
            "seconds": self.seconds.as_secs_f64(),
        })
    }

    /// Returns the parameters as the report shows them.
    pub(crate) fn asked(&self) -> PostAsked {
        PostAsked {
            connections: self.connections,
            depth: self.depth,
            rate: self.rate,
            payload_bytes: self.payload_bytes,
            seconds: self.seconds.as_secs_f64(),
        }
    }
}

/// The command line of `publish`.
#[derive(Args)]
pub(crate) struct PublishOnlyArguments {
    #[command(flatten)]
    pub(crate) node: NodeArguments,
    #[command(flatten)]
    pub(crate) post: PostArguments,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// The command line of `floor-publish`.
#[derive(Args)]
pub(crate) struct FloorPublishArguments {
    #[command(flatten)]
    pub(crate) post: PostArguments,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// The node, the definition that a run makes there, and the credential of its subscribers.
#[derive(Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct SubscribedArguments {
    #[command(flatten)]
    pub(crate) node: NodeArguments,
    /// JWT, anon key; else API key
    #[arg(long, value_name = "TOKEN", visible_alias = "anon-key", env = "LOADTEST_TOKEN")]
    #[arg(hide_env_values = true)]
    token: Option<String>,
    /// Presence of the channels: full, count or off
    #[arg(long, value_enum, hide_possible_values = true)]
    presence: Option<Presence>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Presence {
    Full,
    Count,
    Off,
}

impl SubscribedArguments {
    /// Adds the settings that a saved run names.
    pub(crate) fn put_into(&self, settings: &mut Value) {
        self.node.put_into(settings);
        settings["presence"] = json!(self.options().presence);
    }

    /// Returns the options of the definition.
    pub(crate) fn options(&self) -> Options {
        let presence = self.presence.map(|presence| match presence {
            Presence::Full => "full",
            Presence::Count => "count",
            Presence::Off => "off",
        });
        Options { ephemeral: self.node.ephemeral, presence, ..Options::default() }
    }

    /// Returns the credentials of clients and publishers.
    pub(crate) fn access(&self) -> Access {
        let api_key = &self.node.api_key;
        let credential = match &self.token {
            Some(token) => json!({ "token": token }),
            None => json!({ "apiKey": api_key }),
        };
        Access {
            client: Some(credential.to_string()),
            publisher: Some(api_key.clone()),
            ..Access::anonymous(Api::InsForge)
        }
    }
}

/// The channels, their subscribers, and the publications.
#[derive(Args)]
#[command(next_help_heading = "Clients")]
pub(crate) struct ChannelsLoad {
    /// Number of channels
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = count)]
    pub(crate) channels: usize,
    /// Subscribers of each channel
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = count)]
    pub(crate) subscribers: usize,
    /// Clients per process; more start more processes
    #[arg(long, value_name = "N", default_value_t = 19_000, value_parser = count)]
    pub(crate) connections_per_process: usize,
    #[command(flatten)]
    pub(crate) post: PostArguments,
}

impl ChannelsLoad {
    /// Returns the settings that a saved run names.
    pub(crate) fn settings(&self) -> Value {
        let mut settings = self.post.settings();
        settings["channels"] = self.channels.into();
        settings["subscribers"] = self.subscribers.into();
        settings["connections_per_process"] = self.connections_per_process.into();
        settings
    }
}

/// The command line of `many-channels`.
#[derive(Args)]
pub(crate) struct ChannelsArguments {
    #[command(flatten)]
    pub(crate) subscribed: SubscribedArguments,
    #[command(flatten)]
    pub(crate) load: ChannelsLoad,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// The command line of `floor-channels`.
#[derive(Args)]
pub(crate) struct FloorChannelsArguments {
    #[command(flatten)]
    pub(crate) load: ChannelsLoad,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// The command line of `slow`.
#[derive(Args)]
pub(crate) struct SlowArguments {
    #[command(flatten)]
    pub(crate) subscribed: SubscribedArguments,
    /// Slow clients: close, drop-oldest or latest
    #[arg(long, value_enum, value_name = "HOW", hide_possible_values = true)]
    #[arg(help_heading = "Server")]
    slow_consumer: Option<SlowConsumer>,
    /// Number of clients
    #[arg(long, short = 'n', value_name = "N", default_value_t = 500, value_parser = count)]
    #[arg(help_heading = "Clients")]
    pub(super) clients: usize,
    /// Of these, clients that do not read
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = count)]
    #[arg(help_heading = "Clients")]
    pub(crate) slow: usize,
    #[command(flatten)]
    pub(crate) post: PostArguments,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum SlowConsumer {
    Close,
    DropOldest,
    Latest,
}

impl SlowArguments {
    /// Returns the settings that a saved run names.
    pub(crate) fn settings(&self) -> Value {
        let mut settings = self.post.in_order().settings();
        self.subscribed.put_into(&mut settings);
        self.place.put_into(&mut settings);
        settings["clients"] = self.clients.into();
        settings["slow"] = self.slow.into();
        settings["slow_consumer"] = json!(self.options().slow_consumer);
        settings
    }

    /// Returns the number of clients of the whole run.
    pub(crate) fn descriptors(&self) -> usize {
        self.clients
    }

    /// Returns the number of clients that read.
    pub(crate) fn readers(&self) -> usize {
        self.clients - self.slow
    }

    /// Returns the options of the definition.
    pub(crate) fn options(&self) -> Options {
        let slow_consumer = self.slow_consumer.map(|manner| match manner {
            SlowConsumer::Close => "close",
            SlowConsumer::DropOldest => "drop_oldest",
            SlowConsumer::Latest => "latest",
        });
        Options { slow_consumer, ..self.subscribed.options() }
    }
}
