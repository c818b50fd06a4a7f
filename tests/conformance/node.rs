//! The nodes under test: one of each kind, shared by tests that run at the same time.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use crate::support::Node;

/// Milliseconds in which the plain node expects a request's head.
pub(crate) const HEAD_TIMEOUT_MS: u64 = 2_000;
/// Milliseconds in which the plain node expects a request's body.
pub(crate) const BODY_TIMEOUT_MS: u64 = 5_000;
/// Milliseconds for which the plain node keeps a connection without requests.
pub(crate) const IDLE_TIMEOUT_MS: u64 = 8_000;
/// Milliseconds for which the calm node keeps a WebSocket that has sent its probe and no upgrade.
pub(crate) const UPGRADE_TIMEOUT_MS: u64 = 3_000;
/// Milliseconds between two pings of the brisk node.
pub(crate) const PING_INTERVAL_MS: u64 = 300;
/// Milliseconds in which the brisk node expects a pong. Long enough for tests on a busy machine.
pub(crate) const PING_TIMEOUT_MS: u64 = 3_000;
/// Milliseconds in which the brisk node expects a CONNECT.
pub(crate) const CONNECT_TIMEOUT_MS: u64 = 3_000;

static BRISK: Shared = Shared::new(|command| {
    command.arg("--conformance");
    command.env("FANFARE_ENGINE_IO_PING_INTERVAL_MS", PING_INTERVAL_MS.to_string());
    command.env("FANFARE_ENGINE_IO_PING_TIMEOUT_MS", PING_TIMEOUT_MS.to_string());
    command.env("FANFARE_ENGINE_IO_CONNECT_TIMEOUT_MS", CONNECT_TIMEOUT_MS.to_string());
});

static DEFLATING: Shared = Shared::new(|command| {
    command.arg("--conformance");
    command.env("FANFARE_WEBSOCKET_COMPRESSION", "on");
    command.env("FANFARE_WEBSOCKET_COMPRESSION_BYTES", "1");
});

static CALM: Shared = Shared::new(|command| {
    command.arg("--conformance");
    command.env("FANFARE_ENGINE_IO_UPGRADE_TIMEOUT_MS", UPGRADE_TIMEOUT_MS.to_string());
});

static PLAIN: Shared = Shared::new(configure_plain);

/// Returns the address of a node in conformance mode with frequent heartbeats.
pub(crate) fn brisk() -> SocketAddr {
    BRISK.address()
}

/// Returns the address of a node in conformance mode that compresses messages of any length.
pub(crate) fn deflating() -> SocketAddr {
    DEFLATING.address()
}

/// Returns the address of a node in conformance mode whose heartbeats are rarer than tests are
/// long.
pub(crate) fn calm() -> SocketAddr {
    CALM.address()
}

/// Returns the address of a node in normal mode with short time-outs for requests.
pub(crate) fn plain() -> SocketAddr {
    PLAIN.address()
}

pub(crate) fn configure_plain(command: &mut Command) {
    command.env("FANFARE_HTTP_HEAD_TIMEOUT_MS", HEAD_TIMEOUT_MS.to_string());
    command.env("FANFARE_HTTP_BODY_TIMEOUT_MS", BODY_TIMEOUT_MS.to_string());
    command.env("FANFARE_HTTP_IDLE_TIMEOUT_MS", IDLE_TIMEOUT_MS.to_string());
}

thread_local! {
    /// The nodes that the test on this thread uses. Every test runs on a thread of its own and
    /// keeps them until the thread ends.
    static KEPT: RefCell<Vec<Arc<Running>>> = const { RefCell::new(Vec::new()) };
}

/// A node that starts when a test needs it and ends with the last test that uses it. A node in a
/// static would never be dropped, and its process would stay.
struct Shared {
    configure: fn(&mut Command),
    running: Mutex<Weak<Running>>,
}

impl Shared {
    const fn new(configure: fn(&mut Command)) -> Self {
        Self { configure, running: Mutex::new(Weak::new()) }
    }

    fn address(&'static self) -> SocketAddr {
        // The lock may be poisoned by a failed start, but the next test must fail for its own
        // reason.
        let mut shared = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = shared.upgrade().unwrap_or_else(|| {
            let running = Arc::new(Running::start(self.configure));
            *shared = Arc::downgrade(&running);
            running
        });
        let port = running.port;
        KEPT.with_borrow_mut(|kept| {
            if !kept.iter().any(|kept| Arc::ptr_eq(kept, &running)) {
                kept.push(running);
            }
        });
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }
}

/// A node and the thread that owns it. Test threads only come and go.
struct Running {
    port: u16,
    owner: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Running {
    fn start(configure: fn(&mut Command)) -> Self {
        let (port_sender, port) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let owner = std::thread::spawn(move || {
            let node = Node::with(configure);
            port_sender.send(node.port()).expect("its first user waits for it");
            // Nothing is ever sent: this returns when the sender is dropped.
            let _ = stopped.recv();
        });
        let port = port.recv().expect("the node starts");
        Self { port, owner: Some((stop, owner)) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some((stop, owner)) = self.owner.take() {
            drop(stop);
            // If the node could not be stopped, its thread has panicked with the reason.
            let _ = owner.join();
        }
    }
}
