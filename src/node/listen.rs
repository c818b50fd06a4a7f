//! The listeners that all acceptors share.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};

use socket2::{Domain, Protocol, SockAddr, Type};

use super::NodeError;
use super::passed::{PassedSockets, place};
use super::tls::Certificates;
use crate::config::listen::Listen;
use crate::config::{Config, Mode};
use crate::limits::UNSENT_BYTES_MAX;
use crate::runtime::listener::{Listener, Socket};
use crate::runtime::shared::Shared;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 4_096;

/// How long the node tries to listen on an address that is in use.
const LISTEN_PATIENCE: Duration = Duration::from_secs(2);
/// Time between two tries.
const LISTEN_PAUSE: Duration = Duration::from_millis(20);

/// A socket that listens.
pub(super) struct Bound {
    socket: Socket,
    /// Whether administration has it for itself.
    is_admin: bool,
    is_passed: bool,
}

/// Returns the sockets that were passed, and listens on the places of the configuration that these
/// do not stand in for: first those of everybody.
///
/// # Errors
/// The first place that cannot be had.
pub(super) fn listen_all(config: &Config, passed: PassedSockets) -> Result<Vec<Bound>, NodeError> {
    let open = |places: &[Listen], is_admin: bool, passed: Vec<Socket>| {
        let bound = |socket| Bound { socket, is_admin, is_passed: true };
        let passed: Vec<_> = passed.into_iter().map(bound).collect();
        if !passed.is_empty() {
            return Ok(passed);
        }
        places.iter().map(|place| listen_on(config, place, is_admin)).collect()
    };
    let mut all: Vec<_> = open(config.places(), false, passed.everybody)?;
    all.extend(open(config.admin_places(), true, passed.admin)?);
    Ok(all)
}

fn listen_on(config: &Config, place: &Listen, is_admin: bool) -> Result<Bound, NodeError> {
    let advice = if is_admin { "in admin.listen" } else { "with --listen" };
    let socket = listen_patiently(place, config.listen_mode);
    socket
        .map(|socket| Bound { socket, is_admin, is_passed: false })
        .map_err(|source| NodeError::Listen { place: place.clone(), source, advice })
}

/// Returns the listeners of sockets: those on addresses encrypt if there are certificates. If
/// administration has some for itself, the others are public.
pub(super) fn with_terms(all: Vec<Bound>, certificates: Option<&Certificates>) -> Vec<Listener> {
    let is_apart = all.iter().any(|bound| bound.is_admin);
    let listener = |Bound { socket, is_admin, is_passed }: Bound| {
        let encrypts = matches!(socket, Socket::Tcp(_));
        let terms = certificates.filter(|_| encrypts).map(Certificates::terms);
        Listener { socket, terms, is_public: is_apart && !is_admin, is_passed }
    };
    all.into_iter().map(listener).collect()
}

/// Places where a node listens, with the ports that the system has chosen.
#[derive(Debug)]
pub struct Places {
    /// Those of everybody.
    pub everybody: Vec<Listen>,
    /// Those that administration has for itself.
    pub admin: Vec<Listen>,
}

/// Returns the places where sockets listen.
///
/// # Errors
/// If the system does not say it.
pub(super) fn places(all: &[Bound]) -> io::Result<Places> {
    let of = |is_admin: bool| {
        let own = all.iter().filter(move |bound| bound.is_admin == is_admin);
        own.map(|bound| place(&bound.socket)).collect::<io::Result<_>>()
    };
    Ok(Places { everybody: of(false)?, admin: of(true)? })
}

/// Listens, and gives a predecessor that was killed time to release the address: the kernel takes a
/// ring with operations in flight apart after its process is gone, and until then keeps the
/// listener that they wait on.
fn listen_patiently(place: &Listen, mode: Mode) -> io::Result<Socket> {
    let since = Instant::now();
    loop {
        let listened = match place {
            Listen::Tcp(address) => listen(*address),
            Listen::Unix(path) => listen_unix(path, mode),
        };
        match listened {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && since.elapsed() < LISTEN_PATIENCE =>
            {
                thread::sleep(LISTEN_PAUSE);
            }
            listened => return listened,
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // A restarted node takes its port back while connections of its predecessor linger.
    socket.set_reuse_address(true)?;
    if matches!(address.ip(), IpAddr::V6(ip) if ip.is_unspecified()) {
        // Whatever the system's setting says.
        socket.set_only_v6(false)?;
    }
    // Accepted sockets inherit both. With the delay, a lone small frame might wait for the
    // acknowledgement of the frame before it.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(Socket::Tcp(socket.into()))
}

/// Listens on a path. A socket that a killed node has left there is replaced.
fn listen_unix(path: &Path, mode: Mode) -> io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::other("there is a file that is not a socket"));
        }
        Ok(_) if is_in_use(&address)? => return Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        let missing = format!("the directory {} does not exist", directory.display());
        return Err(io::Error::other(missing));
    }
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&address)?;
    fs::set_permissions(path, Permissions::from_mode(mode.0))?;
    socket.listen(BACKLOG)?;
    Ok(Socket::Unix(UnixListener::from(socket)))
}

/// Returns whether a process listens on a path. It is not waited for one that accepts nothing.
fn is_in_use(address: &SockAddr) -> io::Result<bool> {
    let client = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    client.set_nonblocking(true)?;
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    Ok(!client.connect(address).is_err_and(refused))
}

/// Stops listening, even if other threads hold the sockets: every accept that waits on them fails,
/// and the places are free for a successor. Sockets that were passed go on listening, for others.
pub(super) fn stop_listening(shared: &Shared, listeners: &[Listener]) {
    shared.notice.close();
    let acceptors = &shared.interfaces.broker.mailboxes.acceptors;
    acceptors.iter().for_each(|mailbox| mailbox.doorbell().ring());
    for Listener { socket, .. } in listeners.iter().filter(|listener| !listener.is_passed) {
        let stopped = match socket {
            Socket::Tcp(socket) => shutdown(socket.as_fd(), Shutdown::Both),
            Socket::Unix(socket) => {
                let path = socket.local_addr().ok();
                let path = path.as_ref().and_then(|address| address.as_pathname());
                path.into_iter().for_each(|path| drop(fs::remove_file(path)));
                shutdown(socket.as_fd(), Shutdown::Both)
            }
        };
        if let Err(error) = stopped {
            tracing::warn!(%error, "a listener cannot be closed before the node ends");
        }
    }
}
