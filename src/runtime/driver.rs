//! Chooses the I/O driver of the hot threads, once for all of them.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use monoio::net::TcpStream;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

/// How many completions the kernel may report before the thread looks at them. It keeps more in a
/// backlog.
const COMPLETIONS: u32 = 8_192;
/// How many operations a thread may begin before the kernel is told of them.
const OPERATIONS: u32 = 1_024;
/// How often, and after which pauses, a ring is tried again for which there was no memory: the
/// kernel frees that of a closed ring a little later.
const TRIES_MAX: usize = 100;
const TRY_PAUSE: Duration = Duration::from_millis(10);

/// The I/O driver of the hot threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring with the flags for rings that only one thread uses.
    IoUring,
    /// io_uring without those flags, on kernels before 6.1.
    IoUringPlain,
    /// epoll, with the reason why it is not io_uring.
    Epoll(String),
}

impl Driver {
    /// Returns the best driver that the kernel, or a container's confinement, permits this many
    /// threads, with a ring of each thread, which proves that all fit into memory.
    pub fn choose(threads: usize) -> (Self, Vec<io_uring::IoUring>) {
        let driver = Self::permitted();
        match driver.rings(threads) {
            Ok(rings) => (driver, rings),
            Err(error) => {
                let why = format!(
                    "no memory for the rings of {threads} threads: {error}; raise the limit on \
                     locked memory"
                );
                (Self::Epoll(why), Vec::new())
            }
        }
    }

    fn permitted() -> Self {
        let forced = std::env::var("MONOIO_FORCE_LEGACY_DRIVER").unwrap_or_default();
        if matches!(forced.to_ascii_lowercase().as_str(), "1" | "true" | "yes") {
            return Self::Epoll("MONOIO_FORCE_LEGACY_DRIVER asks for it".to_owned());
        }
        if let Err((call, error)) = try_out(&plain()) {
            return Self::Epoll(format!("io_uring is denied: {call}: {error}"));
        }
        if !monoio::utils::detect_uring() {
            return Self::Epoll("this kernel's io_uring lacks operations".to_owned());
        }
        match try_out(&tuned()) {
            Ok(()) => Self::IoUring,
            Err(_) => Self::IoUringPlain,
        }
    }

    /// Creates a ring for each of so many threads; none on epoll.
    ///
    /// # Errors
    /// If the rings take more memory than the process may lock.
    fn rings(&self, threads: usize) -> io::Result<Vec<io_uring::IoUring>> {
        match self {
            Self::IoUring => (0..threads).map(|_| tuned().build(OPERATIONS)).collect(),
            Self::IoUringPlain => (0..threads).map(|_| plain().build(OPERATIONS)).collect(),
            Self::Epoll(_) => Ok(Vec::new()),
        }
    }

    /// Returns `io_uring` or `epoll`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::IoUring | Self::IoUringPlain => "io_uring",
            Self::Epoll(_) => "epoll",
        }
    }

    /// Returns why a better driver is not used; empty if there is no better one.
    pub fn reason(&self) -> &str {
        match self {
            Self::IoUring => "",
            Self::IoUringPlain => "this kernel's io_uring lacks its newer flags",
            Self::Epoll(why) => why,
        }
    }

    /// Returns the name, and the reason in parentheses if there is one.
    pub fn describe(&self) -> String {
        match self.reason() {
            "" => self.name().to_owned(),
            reason => format!("{} ({reason})", self.name()),
        }
    }

    /// Runs a future on this thread, with a runtime of its own.
    ///
    /// # Errors
    /// If the runtime cannot be created, most often because locked memory or descriptors have run
    /// out.
    pub fn block_on<F: Future>(&self, future: F) -> io::Result<F::Output> {
        let ring = match self {
            Self::IoUring => tuned(),
            Self::IoUringPlain | Self::Epoll(_) => plain(),
        };
        if let Self::Epoll(_) = self {
            let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?;
            return Ok(runtime.block_on(future));
        }
        let mut runtime = patiently(|| {
            let builder = RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring.clone());
            builder.with_entries(OPERATIONS).enable_timer().build()
        })?;
        Ok(runtime.block_on(future))
    }
}

/// Creates something with a ring, several times if there is no memory for it.
///
/// # Errors
/// Those of the last attempt.
pub(super) fn patiently<T>(mut create: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES_MAX {
        match create() {
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => thread::sleep(TRY_PAUSE),
            created => return created,
        }
    }
    create()
}

/// Returns a descriptor as the runtime can await it. The runtime awaits sockets only, but it never
/// reads this one, so that it need not be a socket.
///
/// # Errors
/// If the runtime cannot await it.
pub(super) fn awaitable(descriptor: OwnedFd) -> io::Result<TcpStream> {
    TcpStream::from_std(std::net::TcpStream::from(descriptor))
}

/// Makes a ring and completes an operation on it, because a container's filter may deny each system
/// call of io_uring by itself. Without this, a node that may make rings but not enter them would
/// start and answer nothing.
///
/// # Errors
/// The system call that failed.
fn try_out(builder: &io_uring::Builder) -> Result<(), (&'static str, io::Error)> {
    let mut ring = builder.build(2).map_err(|error| ("io_uring_setup", error))?;
    let probed = ring.submitter().register_probe(&mut io_uring::Probe::new());
    match probed {
        // A kernel without probes lacks operations, too, and is not a denial.
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
            return Err(("io_uring_register", error));
        }
        _ => {}
    }
    let entry = io_uring::opcode::Nop::new().build();
    // SAFETY: the operation has no buffer.
    #[allow(unsafe_code, reason = "the queue cannot know what an operation's buffers outlive")]
    let pushed = unsafe { ring.submission().push(&entry) };
    pushed.expect("the queue is empty");
    let completed = ring.submit_and_wait(1).map(|_| ring.completion().next());
    match completed {
        Ok(Some(nop)) if nop.result() >= 0 => Ok(()),
        Ok(Some(nop)) => Err(("io_uring_enter", io::Error::from_raw_os_error(-nop.result()))),
        Ok(None) => Err(("io_uring_enter", io::Error::other("an operation did not complete"))),
        Err(error) => Err(("io_uring_enter", error)),
    }
}

fn plain() -> io_uring::Builder {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_cqsize(COMPLETIONS);
    builder
}

fn tuned() -> io_uring::Builder {
    let mut builder = plain();
    builder.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun();
    builder
}
