//! The scenarios, one file each, and their output.

pub(crate) mod channels;
pub(crate) mod churn;
pub(crate) mod compare;
mod conduct;
pub(crate) mod documents;
pub(crate) mod fanout;
mod field;
pub(crate) mod floor;
pub(crate) mod idle;
pub(crate) mod publish;
mod run;
mod sample;
pub(crate) mod saturate;
pub(crate) mod slow;
pub(crate) mod soak;
pub(crate) mod storm;
pub(crate) mod websocket;

use std::io::Write as _;

use anyhow::Result;
use serde_json::Value;

use crate::api::{Api, Script};
use crate::args::{CrowdArguments, ServerArguments};
use crate::crowd::Group;

/// Returns the clients that follow this script, and the streams beside them.
fn groups(
    server: &ServerArguments,
    crowd: &CrowdArguments,
    script: Script,
    streams: Option<usize>,
) -> Result<Vec<Group>> {
    let mut groups = vec![Group::alike(script, crowd.subscribers)];
    if let Some(size) = streams {
        let script = server.access(Api::Events, None).script(&server.url, Some(&crowd.channel))?;
        groups.push(Group::alike(script, size));
    }
    Ok(groups)
}

/// Prints a line. Write errors are ignored: a reader may have closed the pipe, and the exit code
/// still shows the outcome.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints the table for people, then the line of JSON for machines.
fn print(table: &str, json: &Value) {
    say(&format!("{table}\n{json}"));
}
