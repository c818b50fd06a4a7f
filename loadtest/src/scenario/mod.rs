//! The scenarios, one file each, and their output.

pub(crate) mod compare;
pub(crate) mod documents;
pub(crate) mod fanout;
pub(crate) mod floor;
pub(crate) mod idle;
mod run;
mod sample;

use std::io::Write as _;

use serde_json::Value;

/// Prints a line. Write errors are ignored: a reader may have closed the pipe, and the exit code
/// still shows the outcome.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints the table for people, then the line of JSON for machines.
fn print(table: &str, json: &Value) {
    say(&format!("{table}\n{json}"));
}
