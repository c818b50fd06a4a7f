//! Chooses how the node sends, once for all workers.

use std::io;

use super::ring::Ring;
use super::{Direct, Loans, Offers, Outcome, Transmit};
use crate::config::{self, IoBackend};
use crate::runtime::driver::{Driver, patiently};

/// How workers send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In batches through a ring of the worker's own.
    Ring {
        /// Frames of at least so many bytes are lent to the kernel instead of copied.
        lend_min: usize,
    },
    /// By a system call for each connection, with the reason why not in batches.
    Direct(String),
}

impl Backend {
    /// Returns the back end that was asked for, or the best one that the kernel permits so many
    /// senders. The rings of the driver must exist meanwhile, because all rings must fit into the
    /// memory that the process may lock.
    ///
    /// # Errors
    /// Why there is no ring, if it was asked for.
    pub fn choose(asked: &config::Io, driver: &Driver, senders: usize) -> io::Result<Self> {
        let tried = || {
            Ring::try_out()?;
            let rings: io::Result<Vec<_>> = (0..senders).map(|_| Ring::new(usize::MAX)).collect();
            rings.map(|_| Self::Ring { lend_min: lend_min(asked) })
        };
        let direct = |why| {
            if asked.zerocopy_bytes > 0 {
                tracing::warn!(why, "io.zerocopy_bytes has no effect, because there is no ring");
            }
            Self::Direct(why)
        };
        match (asked.backend, driver) {
            (IoBackend::Direct, _) => Ok(direct("io.backend asks for it".to_owned())),
            // Where io_uring is denied or unwanted, it is so for sends as well.
            (IoBackend::Auto, Driver::Epoll(why)) => Ok(direct(why.clone())),
            (IoBackend::Auto, _) => Ok(tried()
                .unwrap_or_else(|error| direct(format!("batches do not work here: {error}")))),
            (IoBackend::Ring, _) => tried(),
        }
    }

    /// Returns `ring` or `direct`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ring { .. } => "ring",
            Self::Direct(_) => "direct",
        }
    }

    /// Returns why sends are not batched; empty if they are.
    pub fn reason(&self) -> &str {
        match self {
            Self::Ring { .. } => "",
            Self::Direct(why) => why,
        }
    }

    /// Creates a worker's transmitter. Must be called on the worker's own thread.
    ///
    /// # Errors
    /// If the kernel has no memory for the ring.
    pub fn transmitter(&self) -> io::Result<Transmitter> {
        match self {
            Self::Ring { lend_min } => {
                Ok(Transmitter::Ring(Box::new(patiently(|| Ring::new(*lend_min))?)))
            }
            Self::Direct(_) => Ok(Transmitter::Direct(Direct)),
        }
    }
}

/// Returns from how many bytes on frames are lent, if the kernel gives them back.
fn lend_min(asked: &config::Io) -> usize {
    if asked.zerocopy_bytes == 0 {
        return usize::MAX;
    }
    match Ring::try_out_lending() {
        Ok(()) => asked.zerocopy_bytes,
        Err(error) => {
            tracing::warn!(%error, "io.zerocopy_bytes has no effect on this kernel");
            usize::MAX
        }
    }
}

/// A worker's way to its sockets.
#[derive(Debug)]
pub enum Transmitter {
    /// In batches.
    Ring(Box<Ring>),
    /// One by one.
    Direct(Direct),
}

impl Transmitter {
    /// Takes back frames that the kernel has sent, if it was lent any. Returns what became of them
    /// since the last call.
    pub fn take_back(&mut self) -> Loans {
        match self {
            Self::Ring(ring) => ring.take_back(),
            Self::Direct(_) => Loans::default(),
        }
    }
}

impl Transmit for Transmitter {
    fn transmit(&mut self, offers: &Offers<'_>, outcome: &mut Outcome) {
        match self {
            Self::Ring(ring) => {
                if let Err(error) = ring.transmit(offers, outcome) {
                    tracing::error!(
                        %error,
                        "the ring of a worker failed; it sends without batches from now on"
                    );
                    *self = Self::Direct(Direct);
                }
            }
            Self::Direct(direct) => direct.transmit(offers, outcome),
        }
    }

    fn lend_min(&self) -> usize {
        match self {
            Self::Ring(ring) => ring.lend_min(),
            Self::Direct(direct) => direct.lend_min(),
        }
    }
}
