//! INFO: what a server says of itself.

use std::fmt;

use serde::Deserialize;

/// The oldest version that a cluster can use: earlier ones break the order of a channel.
pub const OLDEST: Version = Version(2, 11, 0);

/// A server's description of itself. Members that it leaves out have their default.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(default)]
pub struct Info {
    /// The server's id, new at each of its starts.
    pub server_id: String,
    /// Its configured name, or its id.
    pub server_name: String,
    /// Its version, as it writes it.
    pub version: String,
    /// The name of the group of servers that it belongs to.
    pub cluster: Option<String>,
    /// Whether messages may have headers.
    pub headers: bool,
    /// Whether it serves streams.
    pub jetstream: bool,
    /// Bytes of headers and payload that a message may have.
    pub max_payload: u64,
    /// Whether clients need credentials.
    pub auth_required: bool,
    /// Whether clients must use TLS.
    pub tls_required: bool,
    /// Whether clients may use TLS.
    pub tls_available: bool,
    /// Whether clients must show a certificate.
    pub tls_verify: bool,
    /// The text that a client with a credentials file signs.
    pub nonce: Option<String>,
    /// Whether the server is about to shut down ("lame duck").
    pub ldm: bool,
}

/// A version: major, minor, patch. What follows a hyphen or plus is left out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads a version; `None` if it does not begin with three numbers.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let numbers = text.split(['-', '+']).next()?;
        let mut numbers = numbers.split('.').map(|number| number.parse().ok());
        let version = Self(numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Reads the JSON of an INFO. The error is the parser's text.
pub(super) fn parse(json: &[u8]) -> Result<Info, String> {
    serde_json::from_slice(json).map_err(|error| error.to_string())
}
