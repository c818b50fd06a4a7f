//! Messages to the supervisor that has started the node, such as systemd (`sd_notify`).

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The variable with the supervisor's socket: a path, or an abstract name behind `@`.
const SOCKET: &str = "NOTIFY_SOCKET";
/// How long a message waits for a supervisor that does not take it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way to the supervisor. Without one, its messages go nowhere.
#[derive(Clone, Debug)]
pub(super) struct Notify(Option<Arc<(UnixDatagram, SocketAddr)>>);

impl Notify {
    /// Opens the way that the environment names.
    pub(super) fn of_environment() -> Self {
        let Some(name) = env::var_os(SOCKET).filter(|name| !name.is_empty()) else {
            return Self(None);
        };
        let way = open(name.as_encoded_bytes());
        if let Err(error) = &way {
            tracing::warn!(%error, "the supervisor's socket ({SOCKET}) cannot be used");
        }
        Self(way.ok().map(Arc::new))
    }

    /// Tells that the node serves. `status` is for people.
    pub(super) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// Tells that a reload begins. [`Self::ready`] ends it.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=reloading"));
    }

    /// Tells that the node stops.
    pub(super) fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Gives a sign of life.
    pub(super) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// Returns whether there is a supervisor.
    pub(super) fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Tells people what the node does.
    pub(super) fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    fn send(&self, message: &str) {
        let Some((socket, to)) = self.0.as_deref() else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), to) {
            tracing::warn!(%error, "the supervisor ({SOCKET}) cannot be told");
        }
    }
}

/// Opens a socket for messages to the supervisor's.
fn open(name: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    use std::os::unix::ffi::OsStrExt as _;
    let address = match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
        _ => return Err(io::Error::other("it is neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_path_or_abstract() {
        assert!(open(b"@fanfare").is_ok() && open(b"/run/notify").is_ok());
        assert!(open(b"run/notify").is_err() && open(&[b'/'; 200]).is_err());
    }
}
