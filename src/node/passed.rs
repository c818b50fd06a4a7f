//! Sockets that listen already, which a supervisor such as systemd has passed to the process
//! (socket activation).

use std::env;
use std::io;
use std::path::Path;
use std::process;

use listenfd::ListenFd;
use socket2::SockRef;

use super::NodeError;
use crate::config::ConfigError;
use crate::config::listen::{Listen, Passed};
use crate::limits::{LISTENERS_MAX, UNSENT_BYTES_MAX};
use crate::runtime::listener::Socket;

/// The variables that say how many sockets there are, for which process, and their names.
const COUNT: &str = "LISTEN_FDS";
const PID: &str = "LISTEN_PID";
const NAMES: &str = "LISTEN_FDNAMES";
/// The name of sockets that administration has for itself.
const ADMIN: &str = "admin";
/// The number of the first descriptor that is passed.
const FIRST: usize = 3;

/// The sockets that were passed.
#[derive(Debug, Default)]
pub struct PassedSockets {
    pub(super) everybody: Vec<Socket>,
    pub(super) admin: Vec<Socket>,
}

impl PassedSockets {
    /// Takes the sockets that the environment names, and removes these variables. It must be called
    /// before there are other threads, because the environment is not theirs to read meanwhile.
    ///
    /// # Errors
    /// Variables that cannot be understood, and descriptors that are no sockets that listen.
    pub fn take() -> Result<Self, NodeError> {
        let (count, pid, names) = (env::var(COUNT), env::var(PID), env::var(NAMES));
        let Ok(count) = count.or_else(|error| match error {
            env::VarError::NotPresent => Err(()),
            env::VarError::NotUnicode(_) => Ok(String::new()),
        }) else {
            return Ok(Self::default());
        };
        // Those of another process stand in an environment that was handed on.
        if pid.as_deref().map(str::parse) != Ok(Ok(process::id())) {
            return Ok(Self::default());
        }
        let names = names.ok();
        let names = names_of(&count, names.as_deref()).map_err(mistake)?;
        let mut sockets = ListenFd::from_env();
        let mut passed = Self::default();
        for (at, name) in names.iter().enumerate() {
            let named = format!("descriptor {} ({name:?}) is", FIRST + at);
            let socket = socket(&mut sockets, at).map_err(|error| {
                mistake(format!("{named} not a TCP or unix socket that listens: {error}"))
            })?;
            if is_without_path(&socket) {
                return Err(mistake(format!(
                    "{named} an abstract unix socket, which every user of this machine may use: \
                     give it a path"
                )));
            }
            if name == ADMIN { &mut passed.admin } else { &mut passed.everybody }.push(socket);
        }
        Ok(passed)
    }

    /// Returns the places where the sockets listen.
    ///
    /// # Errors
    /// If the system does not say it.
    pub fn places(&self) -> Result<Passed, NodeError> {
        let places = |all: &[Socket]| all.iter().map(place).collect::<io::Result<Vec<_>>>();
        Ok(Passed { everybody: places(&self.everybody)?, admin: places(&self.admin)? })
    }
}

/// Returns whether a unix socket has no path, and so no permissions.
fn is_without_path(socket: &Socket) -> bool {
    let Socket::Unix(socket) = socket else { return false };
    !socket.local_addr().is_ok_and(|address| address.as_pathname().is_some())
}

/// Returns the place where a socket listens.
///
/// # Errors
/// If the system does not say it.
pub(super) fn place(socket: &Socket) -> io::Result<Listen> {
    match socket {
        Socket::Tcp(socket) => socket.local_addr().map(Listen::Tcp),
        Socket::Unix(socket) => {
            let address = socket.local_addr()?;
            Ok(Listen::Unix(address.as_pathname().unwrap_or(Path::new("")).to_owned()))
        }
    }
}

fn mistake(why: String) -> NodeError {
    ConfigError::from(format!("environment variable {COUNT}: {why}")).into()
}

/// Returns the name of each of the sockets; empty for those without one.
fn names_of(count: &str, names: Option<&str>) -> Result<Vec<String>, String> {
    let within = count.parse().ok().filter(|count| (1..=LISTENERS_MAX).contains(count));
    let count = within.ok_or_else(|| {
        format!("must be a whole number from 1 to {LISTENERS_MAX}, not {count:?}")
    })?;
    let Some(names) = names else { return Ok(vec![String::new(); count]) };
    let names: Vec<_> = names.split(':').map(str::to_owned).collect();
    if names.len() != count {
        return Err(format!("is {count}, but {NAMES} has {} names", names.len()));
    }
    Ok(names)
}

/// Takes one of the sockets, with the options of those that the node opens itself.
fn socket(all: &mut ListenFd, at: usize) -> io::Result<Socket> {
    let socket = match all.take_unix_listener(at) {
        Ok(socket) => socket.map(Socket::Unix),
        Err(_) => all.take_tcp_listener(at)?.map(Socket::Tcp),
    };
    let socket = socket.ok_or(io::ErrorKind::NotFound)?;
    let is_listener = match &socket {
        Socket::Tcp(socket) => {
            let socket = SockRef::from(socket);
            socket.set_tcp_nodelay(true)?;
            socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
            socket.is_listener()?
        }
        Socket::Unix(socket) => SockRef::from(socket).is_listener()?,
    };
    if is_listener { Ok(socket) } else { Err(io::Error::other("nobody has let it listen")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_has_a_name() {
        let names = |count: &str, names| names_of(count, names);
        assert_eq!(names("2", None), Ok(vec![String::new(); 2]));
        assert_eq!(names("2", Some("web:admin")), Ok(vec!["web".to_owned(), ADMIN.to_owned()]));
        for (count, given) in [("0", None), ("17", None), ("-1", None), ("", None), ("x", None)] {
            assert!(names(count, given).is_err(), "{count}");
        }
        assert!(names("2", Some("admin")).unwrap_err().contains("LISTEN_FDNAMES has 1 names"));
        assert!(names("1", Some("a:b")).is_err());
    }
}
