//! Which driver the hot threads run on, decided once for all of them.

use std::future::Future;
use std::io;

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

/// Completions the kernel may report before they are looked at; more wait in its backlog.
const COMPLETIONS: u32 = 8_192;

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring with the flags for one thread per ring.
    IoUring,
    /// io_uring on a kernel that does not know those flags (before 6.1).
    IoUringPlain,
    /// epoll, and why.
    Epoll(String),
}

impl Driver {
    /// Tries what the kernel, or what confines this process, allows.
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

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::IoUring | Self::IoUringPlain => "io_uring",
            Self::Epoll(_) => "epoll",
        }
    }

    /// Why it is that one, where it is second choice.
    pub fn reason(&self) -> &str {
        match self {
            Self::IoUring => "",
            Self::IoUringPlain => "this kernel's io_uring lacks its newer flags",
            Self::Epoll(why) => why,
        }
    }

    /// Its name, and where it is second choice the reason.
    pub fn describe(&self) -> String {
        match self.reason() {
            "" => self.name().to_owned(),
            reason => format!("{} ({reason})", self.name()),
        }
    }

    /// Runs a future on this thread, with a runtime of its own.
    ///
    /// # Errors
    /// When the runtime cannot be made, most often for want of locked memory or descriptors.
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
