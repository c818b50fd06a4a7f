#![doc = include_str!("../README.md")]

mod api;
mod args;
mod client;
mod clock;
mod connection;
mod crowd;
mod descriptors;
mod documents;
mod ending;
mod fate;
mod floor;
mod handshake;
mod heard;
mod helper;
mod http;
mod interrupt;
mod joins;
mod lengths;
mod listener;
mod machine;
mod meter;
mod order;
mod pin;
mod posting;
mod procfs;
mod progress;
mod publisher;
mod report;
mod scenario;
mod shouting;
mod slow_consumers;
mod stamp;
mod stream;
mod table;
mod tally;
mod target;
mod timeline;
mod wire;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::args::{Arguments, Scenario};
use crate::ending::Ending;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(message) = arguments.scenario.ensure_sound() {
        Arguments::command().error(ErrorKind::ValueValidation, message).exit();
    }
    descriptors::raise_limit();
    conclude(run(&arguments.scenario))
}

fn run(scenario: &Scenario) -> Result<Ending> {
    match scenario {
        Scenario::Clients => return crowd::serve().map(|()| Ending::default()),
        Scenario::FloorServer => return floor::serve().map(|()| Ending::default()),
        _ => interrupt::listen()?,
    }
    match scenario {
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
        Scenario::Diff(arguments) => scenario::diff::run(arguments).map(Ending::from),
        Scenario::Clients | Scenario::FloorServer => Ok(Ending::default()),
    }
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

fn conclude(ending: Result<Ending>) -> ExitCode {
    let ending = ending.unwrap_or_else(|error| {
        let error = format!("{error:#}");
        if interrupt::requested() {
            // Ctrl-C is the reason of most errors that follow it.
            let _ = writeln!(std::io::stderr(), "{error}");
            return Ending { interrupted: true, ..Ending::default() };
        }
        Ending::from(vec![error])
    });
    for line in ending.lines() {
        // Nothing can be said if standard error is closed or full; the exit code stands.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    ending.code()
}
