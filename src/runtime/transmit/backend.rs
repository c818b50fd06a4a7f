//! Chooses how the node sends, once for all workers.

use std::io;

use super::ring::Ring;
use super::{Direct, Offers, Outcome, Transmit};
use crate::config::IoBackend;
use crate::runtime::driver::Driver;

/// How workers send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In batches through a ring of the worker's own.
    Ring,
    /// By a system call for each connection, with the reason why not in batches.
    Direct(String),
}

impl Backend {
    /// Returns the back end that was asked for, or the best one that the kernel permits.
    ///
    /// # Errors
    /// Why there is no ring, if it was asked for.
    pub fn choose(asked: IoBackend, driver: &Driver) -> io::Result<Self> {
        match (asked, driver) {
            (IoBackend::Direct, _) => Ok(Self::Direct("io.backend asks for it".to_owned())),
            // Where io_uring is denied or unwanted, it is so for sends as well.
            (IoBackend::Auto, Driver::Epoll(why)) => Ok(Self::Direct(why.clone())),
            (IoBackend::Auto, _) => match Ring::try_out() {
                Ok(()) => Ok(Self::Ring),
                Err(error) => Ok(Self::Direct(format!("batches do not work here: {error}"))),
            },
            (IoBackend::Ring, _) => Ring::try_out().map(|()| Self::Ring),
        }
    }

    /// Returns `ring` or `direct`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Direct(_) => "direct",
        }
    }

    /// Returns why sends are not batched; empty if they are.
    pub fn reason(&self) -> &str {
        match self {
            Self::Ring => "",
            Self::Direct(why) => why,
        }
    }

    /// Creates a worker's transmitter. Must be called on the worker's own thread.
    ///
    /// # Errors
    /// If the kernel has no memory for the ring.
    pub fn transmitter(&self) -> io::Result<Transmitter> {
        match self {
            Self::Ring => Ok(Transmitter::Ring(Box::new(Ring::new()?))),
            Self::Direct(_) => Ok(Transmitter::Direct(Direct)),
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
}
