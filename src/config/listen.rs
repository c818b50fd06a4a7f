//! The places where a node listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::{Config, ConfigError, Exposure};

/// The beginning of the path of a unix socket.
const UNIX: &str = "unix:";
/// Longest path of a unix socket, in bytes: that of Linux, without the byte that ends it.
const PATH_BYTES_MAX: usize = 107;

/// The key of the places of administration.
const ADMIN: &str = "admin.listen";

/// A place to listen: `address:port` or `unix:/path`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// Places of sockets that listen already, which were passed to the process.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Passed {
    /// Those of everybody, which stand in for `listen` if there are any.
    pub everybody: Vec<Listen>,
    /// Those that administration has for itself, which stand in for `admin.listen`.
    pub admin: Vec<Listen>,
}

/// A text that is no place to listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoPlace;

impl FromStr for Listen {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        match text.strip_prefix(UNIX) {
            Some(path) => {
                let is_path = path.starts_with('/')
                    && (2..=PATH_BYTES_MAX).contains(&path.len())
                    && !path.contains(char::is_control);
                is_path.then(|| Self::Unix(path.into())).ok_or(NoPlace)
            }
            None => text.parse().map(Self::Tcp).map_err(|_| NoPlace),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl Listen {
    /// Returns the address that others than the programs of this machine may reach.
    fn exposed(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) if !address.ip().to_canonical().is_loopback() => Some(*address),
            _ => None,
        }
    }
}

impl Config {
    /// Returns what lets others than the programs of this machine reach the node; `None` if no
    /// setting says that they can. A setting that opens the node to others must be looked at here,
    /// because everything that is lenient towards local callers asks this function.
    pub fn exposure(&self) -> Option<Exposure> {
        let all = self.places().iter().chain(self.admin_places());
        all.filter_map(Listen::exposed).next().map(Exposure::Listens)
    }

    /// Returns the places of everybody: those of sockets that were passed, or else `listen`.
    pub fn places(&self) -> &[Listen] {
        match &self.passed.everybody[..] {
            [] => &self.listen,
            passed => passed,
        }
    }

    /// Returns the places that administration has for itself, which may be those of sockets that
    /// were passed; none if all places serve it.
    pub fn admin_places(&self) -> &[Listen] {
        match &self.passed.admin[..] {
            [] => self.admin.listen.as_deref().unwrap_or_default(),
            passed => passed,
        }
    }

    /// Lets sockets that were passed stand in for the places of the configuration.
    ///
    /// # Errors
    /// If the configuration must not be served there.
    pub fn take_passed(&mut self, passed: Passed) -> Result<(), ConfigError> {
        self.passed = passed;
        if let Some(twice) = self.served_twice() {
            return Err(format!(
                "{twice} is for everybody, and for administration too (`{ADMIN}`, or a passed \
                 socket of the name `admin`): each needs a place of its own"
            )
            .into());
        }
        ConfigError::of(self.exposures())
    }

    /// Returns the mistake of a place that is public and for administration. The system may choose
    /// any number of ports.
    pub(super) fn place_twice(&self) -> Option<String> {
        let twice = self.served_twice()?;
        let at = self.place(ADMIN);
        Some(format!(
            "{at}: `{ADMIN}` has {twice}, which is in `listen`, too: it needs another place"
        ))
    }

    /// Returns a place that is public and for administration.
    fn served_twice(&self) -> Option<&Listen> {
        let is_chosen = |place: &Listen| matches!(place, Listen::Tcp(to) if to.port() == 0);
        let mut both = self.admin_places().iter().filter(|place| self.places().contains(place));
        both.find(|place| !is_chosen(place))
    }

    /// Returns whether clients encrypt, except on unix sockets.
    pub fn has_tls(&self) -> bool {
        self.tls.cert_file.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_addresses_or_absolute_paths() {
        for text in ["127.0.0.1:7130", "[::]:443", "unix:/run/fanfare.sock"] {
            assert_eq!(text.parse::<Listen>().map(|place| place.to_string()), Ok(text.to_owned()));
        }
        let long = format!("unix:/{}", "p".repeat(PATH_BYTES_MAX));
        for text in ["7130", "localhost:7130", "unix:", "unix:/", "unix:run/x", "unix:/a\nb", &long]
        {
            assert_eq!(text.parse::<Listen>(), Err(NoPlace), "{text}");
        }
    }
}
