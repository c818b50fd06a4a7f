//! The scenarios, one file each, and what they share.

pub(crate) mod compare;
pub(crate) mod fanout;
pub(crate) mod floor;
pub(crate) mod idle;
mod run;

use std::io::Write as _;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::http;
use crate::target::Target;

/// Makes the channel's definition, or finds it made.
fn ensure_channel(target: &Target, channel: &str, api_key: &str) -> Result<()> {
    let body = json!({ "pattern": channel, "description": "load test" });
    let response = http::post(target, "/api/realtime/channels", api_key, &body.to_string())?;
    match response.status {
        200..300 | 409 => Ok(()),
        status => bail!("making the channel was answered {status}: {}", response.excerpt()),
    }
}

/// Prints a line. Whoever read the output may have gone; the exit code still tells the outcome.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints the result: for people first, for machines last.
fn print(table: &str, json: &Value) {
    say(&format!("{table}\n{json}"));
}
