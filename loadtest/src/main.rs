//! A load tester that shares no code with the server it drives: a mistake in one cannot hide a
//! mistake in the other.

mod args;
mod client;
mod clock;
mod crowd;
mod http;
mod procfs;
mod progress;
mod publisher;
mod report;
mod scenario;
mod stamp;
mod table;
mod tally;
mod target;
mod wire;

use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::args::{Arguments, Scenario};

/// Descriptors kept for everything that is no client: files of `/proc`, the publisher, epoll.
const DESCRIPTORS_SPARE: u64 = 100;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let clients = arguments.scenario.common().subscribers;
    let fits = raise_descriptor_limit().saturating_sub(DESCRIPTORS_SPARE);
    if clients as u64 > fits {
        let message = format!(
            "{clients} clients do not fit: this process may open {fits} connections \
             (ulimit -Hn, less {DESCRIPTORS_SPARE} for other descriptors)"
        );
        Arguments::command().error(ErrorKind::ValueValidation, message).exit();
    }
    let faults = match &arguments.scenario {
        Scenario::Fanout(arguments) => scenario::fanout::run(arguments),
        Scenario::Idle(arguments) => scenario::idle::run(arguments),
    };
    conclude(faults)
}

/// Raises the soft limit to the hard one and returns what holds then.
fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let held = if raised.is_ok() { maximum } else { current };
    held.unwrap_or(u64::MAX)
}

fn conclude(faults: Result<Vec<String>>) -> ExitCode {
    let faults = faults.unwrap_or_else(|error| vec![format!("{error:#}")]);
    for fault in &faults {
        eprintln!("failed: {fault}");
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
