//! The server under test, which must be on this machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};
use serde::{Deserialize, Serialize};

/// Number of source addresses that clients are spread over. Each has about 28,000 ports of its own.
const SOURCES: u32 = 9;
/// The same for clients that come and go.
const WIDE_SOURCES: u32 = 240;

/// The address of the server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// The address as the `Host` header contains it.
    pub(crate) authority: String,
}

impl Target {
    /// Returns the source address of client `number`, or `None` for IPv6, which has only one
    /// loopback address: then the kernel chooses.
    pub(crate) fn source(&self, number: usize) -> Option<SocketAddr> {
        self.source_of(number, SOURCES)
    }

    /// Returns the source address of client `number` where clients come and go: the port of one that
    /// has left is in use for another minute.
    pub(crate) fn wide_source(&self, number: usize) -> Option<SocketAddr> {
        self.source_of(number, WIDE_SOURCES)
    }

    fn source_of(&self, number: usize, sources: u32) -> Option<SocketAddr> {
        let turn =
            u32::try_from(number % sources as usize).expect("it is below a number of 32 bits");
        let first = u32::from(Ipv4Addr::LOCALHOST);
        let source = IpAddr::V4(Ipv4Addr::from(first + turn));
        self.address.is_ipv4().then_some(SocketAddr::new(source, 0))
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        format!("http://{}", target.authority)
    }
}

impl TryFrom<String> for Target {
    type Error = Error;

    fn try_from(url: String) -> Result<Self> {
        url.parse()
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        let authority = url.strip_prefix("http://").context("the URL must begin with http://")?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let numeric = authority.replacen("localhost", "127.0.0.1", 1);
        let address = SocketAddr::from_str(&numeric)
            .or_else(|_| IpAddr::from_str(&numeric).map(|ip| SocketAddr::new(ip, 80)))
            .ok()
            .context("expected http://ADDRESS:PORT with a loopback address")?;
        ensure!(address.ip().is_loopback(), "only loopback addresses may be loaded");
        Ok(Self { address, authority: authority.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_are_taken() {
        for (url, address) in [
            ("http://127.0.0.1:7130", "127.0.0.1:7130"),
            ("http://localhost:7130/", "127.0.0.1:7130"),
            ("http://127.0.0.5", "127.0.0.5:80"),
            ("http://[::1]:7130", "[::1]:7130"),
        ] {
            let target = Target::from_str(url).unwrap();
            assert_eq!(target.address.to_string(), address);
            assert_eq!(Target::try_from(String::from(target.clone())).unwrap(), target);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for url in [
            "http://10.0.0.1:7130",
            "http://0.0.0.0:7130",
            "http://example.com",
            "https://127.0.0.1:7130",
            "http://localhost.example.com:80",
            "http://127.0.0.1:7130/path",
            "127.0.0.1:7130",
        ] {
            assert!(Target::from_str(url).is_err(), "{url}");
        }
    }

    #[test]
    fn clients_take_source_addresses_in_turn() {
        let target = Target::from_str("http://127.0.0.1:7130").unwrap();
        let source = |number| target.source(number).unwrap().ip().to_string();
        assert_eq!([source(0), source(8), source(9)], ["127.0.0.1", "127.0.0.9", "127.0.0.1"]);
        assert_eq!(Target::from_str("http://[::1]:7130").unwrap().source(3), None);
    }
}
