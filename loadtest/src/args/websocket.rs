//! The arguments of `websocket`.

use std::str::FromStr;

use anyhow::{Context, Error, Result};
use clap::Args;
use serde_json::Value;

use super::parts::count;
use super::post::PostArguments;
use super::{OutputArguments, PlaceArguments};
use crate::target::Target;

pub(super) const EXAMPLE: &str = r#"{channel} and {payload} stand for the channel and for a JSON object, which must arrive unchanged.
Example:
  loadtest websocket --url ws://127.0.0.1:9001/ --subscribe-template '{"subscribe":"{channel}"}' \
      --publish-template '{"publish":"{channel}","data":{payload}}' --rate 100"#;

/// A server on this machine and a path there.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) target: Target,
    pub(crate) path: String,
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        let (_, rest) = url.split_once("://").context("expected ws://ADDRESS:PORT/PATH")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let target = format!("http://{authority}").parse()?;
        Ok(Self { target, path: format!("/{path}") })
    }
}

/// The command line of `websocket`.
#[derive(Args)]
pub(crate) struct WebSocketArguments {
    /// ws://ADDRESS:PORT/PATH; loopback only
    #[arg(long, help_heading = "Server")]
    pub(crate) url: Place,
    /// Fills {channel}
    #[arg(long, default_value = "load", help_heading = "Server")]
    pub(crate) channel: String,
    /// Header of the upgrade; repeatable
    #[arg(long = "header", value_name = "NAME: VALUE", help_heading = "Server")]
    pub(crate) headers: Vec<String>,
    /// Subprotocol to offer
    #[arg(long, value_name = "NAME", help_heading = "Server")]
    pub(crate) subprotocol: Option<String>,
    /// Message of a new client; repeatable
    #[arg(long, value_name = "TEXT", help_heading = "Server")]
    pub(crate) subscribe_template: Vec<String>,
    /// Ready when a message has this [default: at once]
    #[arg(long, value_name = "TEXT", help_heading = "Server")]
    pub(crate) ready_when: Option<String>,
    /// Text that publishes, with {payload} in it
    #[arg(long, value_name = "TEXT", help_heading = "Server")]
    pub(crate) publish_template: String,
    /// Publish there over HTTP [default: over WebSocket]
    #[arg(long, value_name = "URL", help_heading = "Server")]
    pub(crate) publish_url: Option<Place>,
    /// HTTP verb of such requests
    #[arg(long, value_name = "NAME", default_value = "POST", help_heading = "Server")]
    pub(crate) publish_method: String,
    /// Header of such requests; repeatable
    #[arg(long = "publish-header", value_name = "NAME: VALUE", help_heading = "Server")]
    pub(crate) publish_headers: Vec<String>,
    /// Process to measure [default: the one that listens]
    #[arg(long, value_name = "PID", help_heading = "Server")]
    pub(crate) server_pid: Option<u32>,
    /// Number of clients
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1_000, value_parser = count)]
    #[arg(help_heading = "Server")]
    pub(crate) subscribers: usize,
    #[command(flatten)]
    pub(crate) post: PostArguments,
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
}

impl WebSocketArguments {
    /// Returns the settings that a saved run names. Templates and headers may hold credentials.
    pub(crate) fn settings(&self) -> Value {
        let mut settings = self.post.in_order().settings();
        self.place.put_into(&mut settings);
        settings["server"] = self.url.target.authority.as_str().into();
        settings["channel"] = self.channel.as_str().into();
        settings["subscribers"] = self.subscribers.into();
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_path_and_must_be_loopback() {
        for (url, path) in [
            ("ws://127.0.0.1:9001", "/"),
            ("ws://127.0.0.1:9001/", "/"),
            ("http://localhost:9001/a/b?c=d", "/a/b?c=d"),
        ] {
            let place: Place = url.parse().unwrap();
            assert_eq!((place.path.as_str(), place.target.address.port()), (path, 9001));
        }
        for wrong in ["127.0.0.1:9001", "ws://10.0.0.1:9001/"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
