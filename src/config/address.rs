//! The URLs of a cluster's NATS servers.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;
use url::{Host, Url};

/// The port of a URL without one.
const PORT: u16 = 4222;
/// Longest name of a host and longest part of one between dots (RFC 1035), in bytes.
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A server: `nats://host:port`, or `tls://host:port` for a server that must use TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// The name or address, without the brackets of IPv6.
    pub host: String,
    /// The port for clients.
    pub port: u16,
    /// Whether only TLS will do.
    pub tls: bool,
}

/// Why a text is not the URL of a server. The text may hold a password and is not repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum AddressError {
    /// The text is no URL with this scheme.
    #[error("it is not a URL that begins with nats:// or tls://")]
    Scheme,
    /// There is no name or address, or none that a certificate could have.
    #[error("it names no host")]
    Host,
    /// There is a user, a password, a path or a query.
    #[error("it has more than a host and a port; credentials have settings of their own")]
    More,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let url = Url::parse(text).map_err(|_| AddressError::Scheme)?;
        let tls = match url.scheme() {
            "nats" => false,
            "tls" => true,
            _ => return Err(AddressError::Scheme),
        };
        let is_bare = url.username().is_empty() && url.password().is_none();
        let ends = matches!(url.path(), "" | "/");
        if !is_bare || !ends || url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError::More);
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !is_host_name(name) => return Err(AddressError::Host),
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(AddressError::Host),
        };
        Ok(Self { host, port: url.port().unwrap_or(PORT), tls })
    }
}

impl Address {
    /// Returns whether only programs of this machine can listen there.
    pub fn is_loopback(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        address.is_ok_and(|address| address.to_canonical().is_loopback())
            || self.host.eq_ignore_ascii_case("localhost")
    }
}

/// Returns whether this is a name that DNS and certificates can have.
fn is_host_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= HOST_BYTES_MAX && name.split('.').all(is_label)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "nats" };
        if self.host.parse::<Ipv6Addr>().is_ok() {
            return write!(f, "{scheme}://[{}]:{}", self.host, self.port);
        }
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_servers_are_read() {
        let cases = [
            ("nats://nats-1", "nats://nats-1:4222"),
            ("nats://Nats-1:4333/", "nats://Nats-1:4333"),
            ("NATS://nats-1", "nats://nats-1:4222"),
            ("tls://nats.example.org:80", "tls://nats.example.org:80"),
            ("nats://127.0.0.1:1", "nats://127.0.0.1:1"),
            ("tls://[::1]", "tls://[::1]:4222"),
            ("nats://[::1]:5", "nats://[::1]:5"),
        ];
        for (text, shown) in cases {
            let address = text.parse::<Address>().map(|address| address.to_string());
            assert_eq!(address.as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn loopback_is_told_from_other_machines() {
        let cases = [
            ("nats://127.0.0.1", true),
            ("nats://127.9.9.9", true),
            ("nats://[::1]", true),
            ("nats://[::ffff:127.0.0.1]", true),
            ("nats://LocalHost", true),
            ("nats://10.0.0.1", false),
            ("nats://0.0.0.0", false),
            ("nats://localhost.example.org", false),
        ];
        for (text, is_loopback) in cases {
            assert_eq!(text.parse::<Address>().unwrap().is_loopback(), is_loopback, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let cases = [
            ("", AddressError::Scheme),
            ("nats-1:4222", AddressError::Scheme),
            ("http://nats-1", AddressError::Scheme),
            ("nats://nats 1", AddressError::Scheme),
            ("nats://nats%201", AddressError::Host),
            ("nats://nats..example", AddressError::Host),
            ("nats://-nats", AddressError::Host),
            ("nats://nats-1:70000", AddressError::Scheme),
            ("nats://", AddressError::Host),
            ("nats://user:secret@nats-1", AddressError::More),
            ("nats://token@nats-1", AddressError::More),
            ("nats://nats-1/path", AddressError::More),
            ("nats://nats-1?a=b", AddressError::More),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
    }
}
