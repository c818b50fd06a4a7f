//! The command line: a scenario with its arguments. Docs of arguments are the text of `--help`.

mod documents;
mod floors;
mod joins;
mod long;
mod outcome;
mod parts;
mod post;
mod usage;
mod websocket;

use std::time::Duration;

use clap::{Arg, ArgAction, Args, Parser, Subcommand};
use serde_json::Value;

pub(crate) use self::documents::DocumentsArguments;
pub(crate) use self::floors::{SendingArguments, TURN_MAX};
pub(crate) use self::joins::{ChurnArguments, ChurnLoad, FloorJoinArguments, StormArguments};
pub(crate) use self::long::{SaturateArguments, SoakArguments};
pub(crate) use self::outcome::{
    CostThresholdArguments, DiffArguments, OutputArguments, ThresholdArguments,
};
pub(crate) use self::parts::{
    CrowdArguments, LoadArguments, PlaceArguments, PublishArguments, ServerArguments,
};
use self::parts::{bounded, count, seconds, threshold};
pub(crate) use self::post::{
    ChannelsArguments, ChannelsLoad, FloorChannelsArguments, FloorPublishArguments, PostArguments,
    PublishOnlyArguments, SlowArguments,
};
pub(crate) use self::websocket::WebSocketArguments;

const EXAMPLES: &str = "\
Example:
  loadtest fanout --api-key ik_… --anon-key anon_… --report run.html

Progress goes to stderr, a table and a line of JSON to stdout. Ctrl-C ends a run with its summary
so far, a second one at once.
Exit code: 0 valid; 1 the run failed, the server ended or stopped answering, deliveries or
connections were lost, deliveries were duplicated or out of order, or a threshold was exceeded;
2 wrong usage; 3 the client fell behind or the server was kept from its processor, so the figures
are not the server's; 4 the server fell behind the load; 130 Ctrl-C.";

const FANOUT_EXAMPLE: &str = "\
Example:
  loadtest fanout --api-key ik_… --anon-key anon_… -n 1000 --rate 100 --report run.html";

const FLOOR_EXAMPLE: &str = "\
Example:
  loadtest floor -n 1000 --rate 100 --seconds 10 --server-cpu 0 --client-cpu 1";

const IDLE_EXAMPLE: &str = "\
Restart the node first: it would reuse memory of earlier connections.
Example:
  loadtest idle --anon-key anon_… -n 10000 --seconds 30";

const DIFF_EXAMPLE: &str = "\
Runs of different scenarios are refused; other settings or another machine are named.
Example:
  loadtest fanout --api-key ik_… --anon-key anon_… --save a.json
  loadtest fanout --api-key ik_… --anon-key anon_… --save b.json
  loadtest diff a.json b.json";

const COMPARE_EXAMPLE: &str = "\
Example:
  loadtest compare --api-key ik_… --server-cpu 0 --client-cpu 1";

/// Drives a realtime server on this machine from outside and reports what it did.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100, disable_help_flag = true)]
pub(crate) struct Arguments {
    // Hidden, because a reader of the help has found the option already: it would only lengthen
    // each command's screen.
    /// Print help
    #[arg(long, short, global = true, action = ArgAction::Help, hide = true)]
    help: Option<bool>,
    /// The scenario to run.
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

#[derive(Subcommand)]
pub(crate) enum Scenario {
    /// Publish at a fixed rate to many subscribers: loss, order, latency, cost
    #[command(after_help = FANOUT_EXAMPLE, mut_args(at_nodes))]
    Fanout(FanoutArguments),
    /// The same against a built-in minimal server
    #[command(after_help = FLOOR_EXAMPLE)]
    Floor(FloorArguments),
    /// A one-worker node and the floor in turn: the ratio of their costs per delivery
    #[command(after_help = COMPARE_EXAMPLE, mut_args(with_load))]
    Compare(CompareArguments),
    /// Hold connections that do nothing: server memory per connection
    #[command(after_help = IDLE_EXAMPLE)]
    Idle(IdleArguments),
    /// Write many documents of M2, each watched by few: loss, latency, memory, costs
    #[command(after_help = documents::EXAMPLE)]
    Documents(DocumentsArguments),
    /// Publish over HTTP without subscribers: rate, latency, cost per publication
    #[command(after_help = post::PUBLISH_EXAMPLE)]
    Publish(PublishOnlyArguments),
    /// The same at a built-in minimal server
    #[command(after_help = post::FLOOR_PUBLISH_EXAMPLE)]
    FloorPublish(FloorPublishArguments),
    /// Publish on many channels with two subscribers each: loss, order, latency, cost
    #[command(after_help = post::CHANNELS_EXAMPLE, mut_args(at_nodes))]
    ManyChannels(ChannelsArguments),
    /// The same at a built-in minimal server
    #[command(after_help = post::FLOOR_CHANNELS_EXAMPLE)]
    FloorChannels(FloorChannelsArguments),
    /// A share of the clients does not read; the others must lose nothing
    #[command(after_help = post::SLOW_EXAMPLE, mut_args(on_one_connection))]
    Slow(SlowArguments),
    /// Clients connect, subscribe and leave: cost and time of a join
    #[command(after_help = joins::CHURN_EXAMPLE, mut_args(at_nodes))]
    Churn(ChurnArguments),
    /// The same at a built-in minimal server
    #[command(after_help = joins::FLOOR_JOIN_EXAMPLE)]
    FloorJoin(FloorJoinArguments),
    /// Cut all clients at once: time and cost until all are back
    #[command(after_help = joins::STORM_EXAMPLE)]
    ReconnectStorm(StormArguments),
    /// A fan-out at any WebSocket server, with templates of its messages
    #[command(after_help = websocket::EXAMPLE, mut_args(on_one_connection))]
    Websocket(WebSocketArguments),
    /// Find the highest rate of publications that is sustained, and why
    #[command(after_help = long::SATURATE_EXAMPLE, mut_args(by_steps))]
    Saturate(SaturateArguments),
    /// Publish for long: memory, CPU and latency over time must not grow
    #[command(after_help = long::SOAK_EXAMPLE, mut_args(|it| at_nodes(on_one_connection(it))))]
    Soak(SoakArguments),
    /// Compare two saved runs
    #[command(after_help = DIFF_EXAMPLE)]
    Diff(DiffArguments),
    /// Part of the clients, for another process of this program.
    #[command(hide = true)]
    Clients,
    /// The floor's server, for another process of this program.
    #[command(hide = true)]
    FloorServer,
}

#[derive(Args)]
pub(crate) struct FanoutArguments {
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    #[command(flatten)]
    pub(crate) publish: PublishArguments,
    #[command(flatten)]
    pub(crate) crowd: CrowdArguments,
    /// InsForge: streams beside the -n clients
    #[arg(long, value_name = "N", help_heading = "Clients", value_parser = count)]
    #[arg(conflicts_with = "api", requires = "token")]
    pub(crate) streams: Option<usize>,
    #[command(flatten)]
    pub(crate) load: LoadArguments,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    /// Process to measure [default: the one that listens]
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
    #[command(flatten)]
    pub(crate) thresholds: ThresholdArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Args)]
pub(crate) struct FloorArguments {
    #[command(flatten)]
    pub(crate) sending: SendingArguments,
    /// By the clock: most publications of one turn
    #[arg(long, value_name = "N", default_value_t = TURN_MAX, value_parser = count)]
    #[arg(help_heading = "Load")]
    pub(crate) turn_max: usize,
    /// Over HTTP: unanswered publications
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Load")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) unanswered_max: u64,
    #[command(flatten)]
    pub(crate) crowd: CrowdArguments,
    #[command(flatten)]
    pub(crate) load: LoadArguments,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) thresholds: ThresholdArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

#[derive(Args)]
pub(crate) struct CompareArguments {
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    #[command(flatten)]
    pub(crate) sending: SendingArguments,
    #[command(flatten)]
    pub(crate) publish: PublishArguments,
    #[command(flatten)]
    pub(crate) crowd: CrowdArguments,
    #[command(flatten)]
    pub(crate) load: LoadArguments,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    /// The node's process [default: the one that listens]
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
    /// Pairs of runs; the order alternates
    #[arg(long, value_name = "N", default_value = "10", value_parser = pairs)]
    pub(crate) pairs: usize,
    /// Pause between two runs
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) settle: Duration,
    /// Fail when the median of node CPU / floor CPU is higher
    #[arg(long, value_name = "RATIO", value_parser = threshold)]
    pub(crate) max_ratio: Option<f64>,
    #[command(flatten)]
    pub(crate) thresholds: CostThresholdArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

impl CompareArguments {
    /// Returns the settings that a saved run names.
    pub(crate) fn settings(&self) -> Value {
        let mut settings = self.crowd.settings();
        self.load.put_into(&mut settings);
        self.place.put_into(&mut settings);
        self.sending.put_into(&mut settings);
        self.server.put_into(&mut settings);
        settings["unanswered_max"] = self.publish.unanswered_max.into();
        settings["pairs"] = self.pairs.into();
        settings["settle"] = self.settle.as_secs_f64().into();
        settings
    }
}

#[derive(Args)]
pub(crate) struct IdleArguments {
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    /// InsForge: for the channel and tokenless clients
    #[arg(long, value_name = "KEY", env = "LOADTEST_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// Subscribe each client to the channel instead of only connecting
    #[arg(long, required_if_eq("api", "events"))]
    pub(crate) subscribe: bool,
    #[command(flatten)]
    pub(crate) crowd: CrowdArguments,
    /// InsForge: streams beside the -n clients
    #[arg(long, value_name = "N", help_heading = "Clients", value_parser = count)]
    #[arg(conflicts_with = "api", requires_all = ["token", "subscribe"])]
    pub(crate) streams: Option<usize>,
    /// Process to measure [default: the one that listens]
    #[arg(long, value_name = "PID", help_heading = "Measuring")]
    pub(crate) server_pid: Option<u32>,
    /// Fail if a connection takes more resident memory
    #[arg(long, value_name = "BYTES", help_heading = "Measuring", value_parser = threshold)]
    pub(crate) max_bytes_per_connection: Option<f64>,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

/// Moves the options of clients to those of the load, so that the help fits a screen.
fn with_load(option: Arg) -> Arg {
    match option.get_help_heading() {
        Some("Clients") => option.help_heading("Load"),
        _ => option,
    }
}

/// Says that a scenario takes several nodes.
fn at_nodes(option: Arg) -> Arg {
    match option.get_id().as_str() {
        "urls" => option.help("Loopback only; repeat for more nodes"),
        _ => option,
    }
}

/// Says what the options of publishing connections mean where there is one.
fn on_one_connection(option: Arg) -> Arg {
    match option.get_id().as_str() {
        "connections" => option.help("Times --depth, unanswered on one connection"),
        "depth" => option.help("See --connections"),
        _ => option,
    }
}

/// Says what the options of one run mean where there is one for each step.
fn by_steps(option: Arg) -> Arg {
    match option.get_id().as_str() {
        "seconds" => option.help("How long to measure each step"),
        "rate" => option.hide(true),
        _ => on_one_connection(option),
    }
}

fn pairs(text: &str) -> Result<usize, String> {
    bounded(text, 1, 10_000)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use serde_json::json;

    use super::*;
    use crate::api::Api;

    fn with_key(extra: &[&str]) -> Result<FanoutArguments, clap::Error> {
        fanout(&[&["--api-key", "ik_1"], extra].concat())
    }

    fn fanout(extra: &[&str]) -> Result<FanoutArguments, clap::Error> {
        let command = ["loadtest", "fanout"].iter().chain(extra);
        Arguments::try_parse_from(command).map(|arguments| match arguments.scenario {
            Scenario::Fanout(arguments) => arguments,
            _ => panic!("fanout was asked for"),
        })
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn clients_present_their_own_credential_or_else_the_api_key() {
        let auth = |extra: &[&str]| {
            let server = with_key(extra).unwrap().server;
            [None, Some("ik_1")].map(|api_key| server.access(Api::InsForge, api_key).client)
        };
        let token = |token| {
            let payload = json!({ "token": token }).to_string();
            [Some(payload.clone()), Some(payload)]
        };
        assert_eq!(auth(&["--anon-key", "anon_1"]), token("anon_1"));
        assert_eq!(auth(&["--token", "e.y.J"]), token("e.y.J"));
        assert_eq!(auth(&[]), [None, Some(json!({ "apiKey": "ik_1" }).to_string())]);
    }

    #[test]
    fn each_api_asks_for_its_own_credentials() {
        let forge = ["--api", "forge", "--context-token", "e.y.J", "--invocation", "inv-1"];
        let arguments = fanout(&forge).unwrap();
        let access = arguments.publish.access(&arguments.server, arguments.crowd.api);
        assert_eq!(access.api, Api::Forge);
        assert_eq!(access.client.as_deref(), Some("e.y.J"));
        assert_eq!(access.publisher.as_deref(), Some("inv-1"));
        let m2 = ["--api", "m2", "--m2-token", "e.y.J", "--m2-writer", "ik_2"];
        let arguments = fanout(&m2).unwrap();
        let access = arguments.publish.access(&arguments.server, arguments.crowd.api);
        assert_eq!((access.api, access.scope.to_string().as_str()), (Api::M2, "load/test"));
        assert_eq!(access.client.as_deref(), Some("e.y.J"));
        assert_eq!(access.publisher.as_deref(), Some("ik_2"));
        assert!(fanout(&[&m2[..2], &m2[4..]].concat()).is_ok(), "clients may come with nothing");
        assert_eq!(fanout(&m2[..4]).err().unwrap().exit_code(), 2);
        let events = ["--api", "events", "--anon-key", "anon_1", "--api-key", "ik_1"];
        let arguments = fanout(&events).unwrap();
        let access = arguments.publish.access(&arguments.server, arguments.crowd.api);
        assert_eq!((access.api, access.client.as_deref()), (Api::Events, Some("anon_1")));
        assert_eq!(access.publisher.as_deref(), Some("ik_1"));
        for missing in [&events[..4], &[&events[..2], &events[4..]].concat()] {
            assert_eq!(fanout(missing).err().unwrap().exit_code(), 2, "{missing:?}");
        }
        for missing in [&forge[..4], &[&forge[..2], &forge[4..]].concat(), &["--api", "insforge"]] {
            assert_eq!(fanout(missing).err().unwrap().exit_code(), 2, "{missing:?}");
        }
        let arguments = with_key(&[]).unwrap();
        let access = arguments.publish.access(&arguments.server, arguments.crowd.api);
        assert_eq!((access.api, access.publisher.as_deref()), (Api::InsForge, Some("ik_1")));
    }

    #[test]
    fn help_shows_no_credential_of_the_environment() {
        // If the values were not hidden, clap would add them to the list of options.
        let command = Arguments::command();
        let shown = command.get_subcommands().flat_map(clap::Command::get_arguments);
        let shown: Vec<_> = shown.filter(|argument| argument.get_env().is_some()).collect();
        assert!(!shown.is_empty());
        assert!(shown.iter().all(|argument| argument.is_hide_env_values_set()));
    }

    #[test]
    fn streams_need_a_token_and_stand_beside_clients_of_insforge() {
        let beside = ["--streams", "5", "--token", "e.y.J"];
        assert_eq!(with_key(&beside).unwrap().streams, Some(5));
        let idle = |extra: &[&str]| {
            let command = ["loadtest", "idle", "--server-pid", "1"];
            Arguments::try_parse_from([&command, extra].concat()).err().map(|it| it.exit_code())
        };
        assert_eq!(idle(&[&beside[..], &["--subscribe"]].concat()), None);
        assert_eq!(idle(&beside), Some(2), "a stream is always subscribed");
        let events = ["--api", "events", "--token", "e.y.J"];
        assert_eq!(idle(&[&events[..], &["--subscribe"]].concat()), None);
        assert_eq!(idle(&events), Some(2));
        for wrong in [&beside[..2], &[&beside[..], &["--api", "forge"]].concat()] {
            assert_eq!(with_key(wrong).err().unwrap().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn a_schedule_covers_warm_up_and_measured_time() {
        let extra = ["--rate", "10", "--warmup", "0.5", "--seconds", "2"];
        let arguments = with_key(&extra).unwrap();
        assert_eq!(arguments.load.schedule(&arguments.crowd).publications, 25);
        let brief = with_key(&["--warmup", "0", "--seconds", "0.01", "--rate", "1"]).unwrap();
        assert_eq!(brief.load.schedule(&brief.crowd).publications, 1);
    }

    #[test]
    fn wrong_usage_is_refused() {
        assert_eq!(fanout(&[]).err().unwrap().exit_code(), 2);
        for extra in [
            ["--url", "http://192.168.0.1:7130"],
            ["--subscribers", "0"],
            ["--rate", "0"],
            ["--rate", "NaN"],
            ["--max-p99-ms", "nan"],
            ["--seconds", "-1"],
            ["--seconds", "0"],
            ["--payload-bytes", "47"],
            ["--unanswered-max", "0"],
            ["--max-lost-percent", "101"],
            ["--connections-per-process", "0"],
            ["--client-cpu", "4096"],
            ["--m2-scope", "load"],
        ] {
            assert_eq!(with_key(&extra).err().unwrap().exit_code(), 2, "{extra:?}");
        }
        let compare = ["loadtest", "compare"];
        assert_eq!(Arguments::try_parse_from(compare).err().unwrap().exit_code(), 2);
    }
}
