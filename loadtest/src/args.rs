//! The command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use crate::client::Script;
use crate::crowd::Crowd;
use crate::stamp::PAYLOAD_BYTES_MIN;
use crate::target::Target;

const EXAMPLES: &str = "\
Example:
  loadtest fanout --url http://127.0.0.1:7130 --api-key ik_… --anon-key anon_… \\
      --subscribers 1000 --rate 100 --seconds 10 --server-pid $(pidof fanfare)

A progress line goes to stderr, a table and one line of JSON to stdout.
Exit code: 0 good, 1 deliveries or connections were lost, doubled or out of order, or a
threshold is broken, or the run failed; 2 wrong usage.";

/// Drives a realtime server on this machine from outside and reports what it did.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

/// The scenarios.
#[derive(Subcommand)]
pub(crate) enum Scenario {
    /// Publish at a fixed rate to many subscribers: loss, order, latency, cost per delivery
    #[command(after_help = EXAMPLES)]
    Fanout(FanoutArguments),
    /// Hold connections that do nothing: server memory per connection
    Idle(IdleArguments),
}

impl Scenario {
    /// Where and who, which every scenario needs.
    pub(crate) fn common(&self) -> &CommonArguments {
        match self {
            Self::Fanout(arguments) => &arguments.common,
            Self::Idle(arguments) => &arguments.common,
        }
    }
}

/// Where and who.
#[derive(Args)]
pub(crate) struct CommonArguments {
    /// The server; loopback only
    #[arg(long, default_value = "http://127.0.0.1:7130")]
    pub(crate) url: Target,
    /// Credential of the clients: a user's JWT
    #[arg(long, value_name = "JWT", conflicts_with = "anon_key")]
    token: Option<String>,
    /// Credential of the clients: the anon key
    #[arg(long)]
    anon_key: Option<String>,
    /// Channel to use; nobody else may publish on it meanwhile
    #[arg(long, default_value = "load:1")]
    pub(crate) channel: String,
    /// Number of clients
    #[arg(long, short = 'n', default_value_t = 1_000, value_parser = count)]
    pub(crate) subscribers: usize,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// New connections per second [default: as fast as they are taken]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    connect_rate: Option<f64>,
    /// Threads for the clients
    #[arg(long, default_value_t = 1, value_parser = count)]
    threads: usize,
    /// Pause between looks at the sockets: spares a shared processor, adds to latency
    #[arg(long, value_name = "MS", default_value_t = 0)]
    lazy_ms: u64,
}

impl CommonArguments {
    /// The clients, subscribed or only connected.
    pub(crate) fn crowd(&self, subscribe: bool, api_key: Option<&str>) -> Crowd {
        let channel = subscribe.then_some(self.channel.as_str());
        Crowd {
            target: self.url.clone(),
            script: Script::new(&self.url, self.auth(api_key).as_ref(), channel),
            size: self.subscribers,
            threads: self.threads.min(self.subscribers),
            connect_rate: self.connect_rate,
            lazy: Duration::from_millis(self.lazy_ms),
        }
    }

    /// The CONNECT payload: keys and tokens of clients share a field, the API key has its own.
    fn auth(&self, api_key: Option<&str>) -> Option<Value> {
        let token = self.token.as_ref().or(self.anon_key.as_ref());
        let api_key = api_key.map(|key| json!({ "apiKey": key }));
        token.map(|token| json!({ "token": token })).or(api_key)
    }
}

/// `fanout`.
#[derive(Args)]
pub(crate) struct FanoutArguments {
    #[command(flatten)]
    pub(crate) common: CommonArguments,
    /// Credential for making the channel and publishing; clients use it too if they have no other
    #[arg(long)]
    pub(crate) api_key: String,
    /// Publications per second
    #[arg(long, default_value = "100", value_parser = rate)]
    pub(crate) rate: f64,
    /// Size of the payload object, at least 48
    #[arg(long, default_value = "128", value_parser = payload_bytes)]
    pub(crate) payload_bytes: usize,
    /// Seconds of publishing before the measured window; checked, but not timed
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// Name of the published event
    #[arg(long, default_value = "load")]
    pub(crate) event: String,
    /// Publications that may wait for their answer at once; 1 if the server cannot pipeline
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) unanswered_max: u64,
    /// Process to measure
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
    /// Fail when the 99th percentile of latency is higher
    #[arg(long, value_name = "MS")]
    pub(crate) max_p99_ms: Option<f64>,
    /// Fail when a delivery costs the server more processor time
    #[arg(long, value_name = "US", requires = "server_pid")]
    pub(crate) max_cpu_us_per_delivery: Option<f64>,
}

/// `idle`.
#[derive(Args)]
pub(crate) struct IdleArguments {
    #[command(flatten)]
    pub(crate) common: CommonArguments,
    /// Credential for making the channel; clients use it too if they have no other
    #[arg(long)]
    pub(crate) api_key: Option<String>,
    /// Subscribe each client to the channel instead of only connecting
    #[arg(long)]
    pub(crate) subscribe: bool,
    /// Process to measure
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: u32,
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

fn seconds(text: &str) -> Result<Duration, String> {
    bounded(text, 0.0, 86_400.0).map(Duration::from_secs_f64)
}

fn bounded<T>(text: &str, least: T, most: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let value = text.parse().ok().filter(|value| (&least..=&most).contains(&value));
    value.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn with_key(extra: &[&str]) -> Result<FanoutArguments, clap::Error> {
        fanout(&[&["--api-key", "ik_1"], extra].concat())
    }

    fn fanout(extra: &[&str]) -> Result<FanoutArguments, clap::Error> {
        let command = ["loadtest", "fanout"].iter().chain(extra);
        Arguments::try_parse_from(command).map(|arguments| match arguments.scenario {
            Scenario::Fanout(arguments) => arguments,
            Scenario::Idle(_) => panic!("fanout was asked for"),
        })
    }

    #[test]
    fn the_definition_is_sound_and_help_fits_a_screen() {
        Arguments::command().debug_assert();
        let mut command = Arguments::command();
        let fanout = command.find_subcommand_mut("fanout").unwrap();
        let help = fanout.render_help().to_string();
        assert!(help.lines().count() <= 75 && help.contains("loadtest fanout --url"));
    }

    #[test]
    fn clients_present_their_own_credential_or_else_the_api_key() {
        let auth = |extra: &[&str]| {
            let common = with_key(extra).unwrap().common;
            [common.auth(None), common.auth(Some("ik_1"))]
        };
        let token = |token| [Some(json!({ "token": token })), Some(json!({ "token": token }))];
        assert_eq!(auth(&["--anon-key", "anon_1"]), token("anon_1"));
        assert_eq!(auth(&["--token", "e.y.J"]), token("e.y.J"));
        assert_eq!(auth(&[]), [None, Some(json!({ "apiKey": "ik_1" }))]);
    }

    #[test]
    fn wrong_usage_is_refused() {
        assert_eq!(fanout(&[]).err().unwrap().exit_code(), 2);
        for extra in [
            ["--url", "http://192.168.0.1:7130"],
            ["--subscribers", "0"],
            ["--rate", "0"],
            ["--rate", "NaN"],
            ["--seconds", "-1"],
            ["--payload-bytes", "47"],
            ["--unanswered-max", "0"],
            ["--max-cpu-us-per-delivery", "3"],
        ] {
            assert_eq!(with_key(&extra).err().unwrap().exit_code(), 2, "{extra:?}");
        }
    }
}
