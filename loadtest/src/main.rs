#![doc = include_str!("../README.md")]

mod api;
mod args;
mod client;
mod clock;
mod connection;
mod crowd;
mod descriptors;
mod documents;
mod floor;
mod handshake;
mod heard;
mod helper;
mod http;
mod joins;
mod lengths;
mod pin;
mod posting;
mod procfs;
mod progress;
mod publisher;
mod report;
mod scenario;
mod shouting;
mod stamp;
mod stream;
mod table;
mod tally;
mod target;
mod wire;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::args::{Arguments, Scenario};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    descriptors::raise_limit();
    let nothing_wrong = |()| Vec::new();
    conclude(match &arguments.scenario {
        Scenario::Fanout(arguments) => scenario::fanout::run(arguments),
        Scenario::Floor(arguments) => {
            ensure_one_process_holds(arguments.crowd.subscribers);
            scenario::floor::run(arguments)
        }
        Scenario::Compare(arguments) => {
            ensure_one_process_holds(arguments.crowd.subscribers);
            scenario::compare::run(arguments)
        }
        Scenario::Idle(arguments) => scenario::idle::run(arguments),
        Scenario::Documents(arguments) => {
            ensure_one_process_holds(arguments.descriptors());
            scenario::documents::run(arguments)
        }
        Scenario::Publish(arguments) => scenario::publish::run(arguments),
        Scenario::FloorPublish(arguments) => scenario::publish::run_floor(arguments),
        Scenario::ManyChannels(arguments) => scenario::channels::run(arguments),
        Scenario::FloorChannels(arguments) => scenario::channels::run_floor(arguments),
        Scenario::Slow(arguments) => {
            ensure_one_process_holds(arguments.descriptors());
            scenario::slow::run(arguments)
        }
        Scenario::Churn(arguments) => {
            ensure_one_process_holds(arguments.load.descriptors());
            scenario::churn::run(arguments)
        }
        Scenario::FloorJoin(arguments) => {
            ensure_one_process_holds(arguments.load.descriptors());
            scenario::churn::run_floor(arguments)
        }
        Scenario::ReconnectStorm(arguments) => {
            ensure_one_process_holds(arguments.clients);
            scenario::storm::run(arguments)
        }
        Scenario::Websocket(arguments) => scenario::websocket::run(arguments),
        Scenario::Saturate(arguments) => scenario::saturate::run(arguments),
        Scenario::Soak(arguments) => scenario::soak::run(arguments),
        Scenario::Clients => crowd::serve().map(nothing_wrong),
        Scenario::FloorServer => floor::serve().map(nothing_wrong),
    })
}

/// Exits with a usage error if one process cannot hold this many connections. The floor server and
/// the clients of `documents` are not spread over processes.
fn ensure_one_process_holds(connections: usize) {
    let fits = descriptors::available();
    if connections > fits {
        let message = format!(
            "{connections} connections are too many: one process has to hold them, which may open \
             {fits} (ulimit -Hn, less {} for other descriptors)",
            descriptors::SPARE
        );
        Arguments::command().error(ErrorKind::ValueValidation, message).exit();
    }
}

fn conclude(faults: Result<Vec<String>>) -> ExitCode {
    let faults = faults.unwrap_or_else(|error| vec![format!("{error:#}")]);
    for fault in &faults {
        // Nothing can be said if standard error is closed or full; the exit code stands.
        let _ = writeln!(std::io::stderr(), "failed: {fault}");
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
