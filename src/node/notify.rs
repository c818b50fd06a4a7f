//! Messages to the supervisor that has started the node, such as systemd (`sd_notify`).

use std::collections::VecDeque;
use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The variable with the supervisor's socket: a path, or an abstract name behind `@`.
const SOCKET: &str = "NOTIFY_SOCKET";
/// A sign of life.
const ALIVE: &str = "WATCHDOG=1";
/// Time after which a supervisor that takes no messages is named in the log.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two tries to send what a supervisor has not taken.
const PAUSE: Duration = Duration::from_millis(50);
/// Messages that are kept for a supervisor that takes none. Beyond them the oldest is lost.
const KEPT_MAX: usize = 32;

/// The way to the supervisor. Without one, its messages go nowhere.
#[derive(Clone, Debug)]
pub(super) struct Notify(Option<Arc<Way>>);

#[derive(Debug)]
struct Way {
    /// It does not block.
    socket: UnixDatagram,
    to: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the supervisor was told that the node serves, and that it stops.
    serves: bool,
    stops: bool,
    /// Messages that are still to be sent, in order. A thread sends them if there are any.
    kept: VecDeque<String>,
    /// The errors that were logged.
    logged: Vec<io::ErrorKind>,
}

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
        self.change(|state| state.serves = true);
        self.send(ready(status));
    }

    /// Tells that a reload begins, unless the node does not serve yet or stops already.
    /// [`Self::reloaded`] ends it.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        if self.is_between() {
            self.send(format!("RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=reloading"));
        }
    }

    /// Tells that a reload has ended, unless the node does not serve yet or stops already.
    pub(super) fn reloaded(&self, status: &str) {
        if self.is_between() {
            self.send(ready(status));
        }
    }

    /// Tells that the node stops.
    pub(super) fn stopping(&self, status: &str) {
        self.change(|state| state.stops = true);
        self.send(format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Gives a sign of life.
    pub(super) fn alive(&self) {
        self.send(ALIVE.to_owned());
    }

    /// Returns whether there is a supervisor.
    pub(super) fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Tells people what the node does.
    pub(super) fn status(&self, status: &str) {
        self.send(format!("STATUS={status}"));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        if let Some(way) = &self.0 {
            change(&mut way.state());
        }
    }

    /// Returns whether the supervisor knows that the node serves, and not that it stops.
    fn is_between(&self) -> bool {
        self.0.as_ref().is_some_and(|way| {
            let state = way.state();
            state.serves && !state.stops
        })
    }

    /// Sends a message behind those that the supervisor has not taken yet. If it does not take this
    /// one now, a thread sends it later.
    fn send(&self, message: String) {
        let Some(way) = &self.0 else { return };
        let mut state = way.state();
        let has_thread = !state.kept.is_empty();
        // One sign of life is as good as many.
        let is_known = message == ALIVE && state.kept.contains(&message);
        if is_known || (!has_thread && way.is_settled(&mut state, &message)) {
            return;
        }
        state.kept.push_back(message);
        if state.kept.len() > KEPT_MAX {
            state.kept.pop_front();
        }
        drop(state);
        let way = way.clone();
        if !has_thread
            && let Err(error) =
                thread::Builder::new().name("notify".to_owned()).spawn(move || way.send_kept())
        {
            tracing::warn!(%error, "the supervisor ({SOCKET}) cannot be told");
        }
    }
}

fn ready(status: &str) -> String {
    format!("READY=1\nSTATUS={status}")
}

impl Way {
    fn state(&self) -> MutexGuard<'_, State> {
        // No panic leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries to send a message. Returns false if the supervisor may take it later.
    fn is_settled(&self, state: &mut State, message: &str) -> bool {
        let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.to) else {
            return true;
        };
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
            return false;
        }
        state.log(&error);
        true
    }

    /// Sends the messages that are kept, as soon as the supervisor takes them.
    fn send_kept(&self) {
        let began = Instant::now();
        loop {
            thread::sleep(PAUSE);
            let mut state = self.state();
            if self.has_sent_kept(&mut state) {
                return;
            }
            if began.elapsed() > PATIENCE {
                state.log(&io::ErrorKind::WouldBlock.into());
            }
        }
    }

    /// Sends messages that are kept until the supervisor takes no more. Returns whether none are
    /// left.
    fn has_sent_kept(&self, state: &mut State) -> bool {
        while let Some(message) = state.kept.pop_front() {
            if !self.is_settled(state, &message) {
                state.kept.push_front(message);
                return false;
            }
        }
        true
    }
}

impl State {
    /// Logs why a message was not sent, unless the same was logged before.
    fn log(&mut self, error: &io::Error) {
        if self.logged.contains(&error.kind()) {
            return;
        }
        self.logged.push(error.kind());
        if error.kind() == io::ErrorKind::WouldBlock {
            tracing::warn!("the supervisor ({SOCKET}) takes no messages; they are sent later");
        } else {
            tracing::warn!(%error, "the supervisor ({SOCKET}) cannot be told");
        }
    }
}

/// Opens a socket for messages to the supervisor's.
fn open(name: &[u8]) -> io::Result<Way> {
    use std::os::unix::ffi::OsStrExt as _;
    let to = match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
        _ => return Err(io::Error::other("it is neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(Way { socket, to, state: Mutex::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_path_or_abstract() {
        assert!(open(b"@fanfare").is_ok() && open(b"/run/notify").is_ok());
        assert!(open(b"run/notify").is_err() && open(&[b'/'; 200]).is_err());
    }

    /// A supervisor, and the way to it.
    fn supervisor(directory: &tempfile::TempDir) -> (UnixDatagram, Notify) {
        use std::os::unix::ffi::OsStrExt as _;
        let path = directory.path().join("notify");
        let supervisor = UnixDatagram::bind(&path).unwrap();
        supervisor.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        (supervisor, Notify(Some(Arc::new(open(path.as_os_str().as_bytes()).unwrap()))))
    }

    fn hear(supervisor: &UnixDatagram) -> String {
        let mut buffer = [0; 200];
        let length = supervisor.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn what_a_full_queue_does_not_take_is_sent_later_and_once() {
        let directory = tempfile::tempdir().unwrap();
        let (supervisor, notify) = supervisor(&directory);
        let others = UnixDatagram::unbound().unwrap();
        others.set_nonblocking(true).unwrap();
        let path = directory.path().join("notify");
        let filled = (0..10_000).take_while(|_| others.send_to(b"other", &path).is_ok()).count();
        assert!(filled < 10_000, "the queue has an end");
        notify.ready("serving");
        (0..3).for_each(|_| notify.alive());
        notify.stopping("stopping");
        (0..filled).for_each(|_| assert_eq!(hear(&supervisor), "other"));
        assert_eq!(hear(&supervisor), "READY=1\nSTATUS=serving");
        assert_eq!(hear(&supervisor), "WATCHDOG=1");
        assert_eq!(hear(&supervisor), "STOPPING=1\nSTATUS=stopping");
        notify.status("draining");
        assert_eq!(hear(&supervisor), "STATUS=draining");
    }

    #[test]
    fn reloads_before_the_start_and_after_the_end_are_not_told() {
        let directory = tempfile::tempdir().unwrap();
        let (supervisor, notify) = supervisor(&directory);
        let reload = || {
            notify.reloading();
            notify.reloaded("serving; reloaded");
        };
        reload();
        notify.ready("serving");
        assert_eq!(hear(&supervisor), "READY=1\nSTATUS=serving");
        reload();
        assert!(hear(&supervisor).starts_with("RELOADING=1\n"));
        assert_eq!(hear(&supervisor), "READY=1\nSTATUS=serving; reloaded");
        notify.stopping("stopping");
        assert_eq!(hear(&supervisor), "STOPPING=1\nSTATUS=stopping");
        reload();
        notify.status("draining");
        assert_eq!(hear(&supervisor), "STATUS=draining");
    }

    #[test]
    fn each_cause_is_logged_once() {
        let directory = tempfile::tempdir().unwrap();
        let (supervisor, notify) = supervisor(&directory);
        drop(supervisor);
        (0..3).for_each(|_| notify.alive());
        std::fs::remove_file(directory.path().join("notify")).unwrap();
        (0..3).for_each(|_| notify.alive());
        let state = notify.0.as_ref().unwrap().state();
        assert_eq!(state.logged, [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound]);
        assert!(state.kept.is_empty());
    }
}
