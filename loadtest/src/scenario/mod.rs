//! The scenarios, one file each, and what they share.

pub(crate) mod compare;
pub(crate) mod documents;
pub(crate) mod fanout;
pub(crate) mod floor;
pub(crate) mod idle;
mod run;
mod sample;

use std::io::Write as _;

use serde_json::Value;

/// Prints a line. Whoever read the output may have gone; the exit code still tells the outcome.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints the result: for people first, for machines last.
fn print(table: &str, json: &Value) {
    say(&format!("{table}\n{json}"));
}
