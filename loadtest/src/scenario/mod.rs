//! The scenarios, one file each, and what they share.

pub(crate) mod fanout;
pub(crate) mod idle;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::args::CommonArguments;
use crate::http;

/// Makes the channel's definition, or finds it made.
fn ensure_channel(common: &CommonArguments, api_key: &str) -> Result<()> {
    let body = json!({ "pattern": common.channel, "description": "load test" });
    let path = "/api/realtime/channels";
    let response = http::post(&common.url, path, api_key, &body.to_string())?;
    match response.status {
        200..300 | 409 => Ok(()),
        status => bail!("making the channel was answered {status}: {}", response.excerpt()),
    }
}

/// Prints the result: for people first, for machines last.
fn print(table: &str, json: &Value) {
    println!("{table}\n{json}");
}
