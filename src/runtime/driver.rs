//! Chooses the I/O driver of the hot threads, once for all of them.

use std::future::Future;
use std::io;

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

/// How many completions the kernel may report before the thread looks at them. It keeps more in a
/// backlog.
const COMPLETIONS: u32 = 8_192;

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
    /// Returns the best driver that the kernel, or a container's confinement, permits.
    pub fn choose() -> Self {
        let forced = std::env::var("MONOIO_FORCE_LEGACY_DRIVER").unwrap_or_default();
        if matches!(forced.to_ascii_lowercase().as_str(), "1" | "true" | "yes") {
            return Self::Epoll("MONOIO_FORCE_LEGACY_DRIVER asks for it".to_owned());
        }
        if let Err(error) = io_uring::IoUring::new(2) {
            return Self::Epoll(format!("io_uring is denied: {error}"));
        }
        if !monoio::utils::detect_uring() {
            return Self::Epoll("this kernel's io_uring lacks operations".to_owned());
        }
        match tuned().build(2) {
            Ok(_) => Self::IoUring,
            Err(_) => Self::IoUringPlain,
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
        let builder = RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring).enable_timer();
        let mut runtime = builder.build()?;
        Ok(runtime.block_on(future))
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
