//! Many sockets, read by one thread.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// Silence after which a bench counts as hung, in seconds.
const PATIENCE: i64 = 30;
/// More than one socket holds at once in any bench.
const READ_BYTES: usize = 64 * 1_024;

/// The receiving ends of all connections.
pub(crate) struct Audience {
    sockets: Vec<TcpStream>,
    open: usize,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    scratch: Vec<u8>,
}

impl Audience {
    pub(crate) fn new(sockets: Vec<TcpStream>) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll descriptor");
        for (place, socket) in (0..).zip(&sockets) {
            socket.set_nonblocking(true).expect("a socket can be made non-blocking");
            epoll::add(&epoll, socket, epoll::EventData::new_u64(place), epoll::EventFlags::IN)
                .expect("the socket is new there");
        }
        let (open, events) = (sockets.len(), Vec::with_capacity(sockets.len()));
        Self { sockets, open, epoll, events, scratch: vec![0; READ_BYTES] }
    }

    /// Returns how many sockets the other side has not closed.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Waits for readable sockets, reads each once, and returns how many bytes came. Zero means
    /// that only ends of sockets came, or that nothing came within `PATIENCE`.
    pub(crate) fn hear(&mut self) -> usize {
        let patience = Timespec { tv_sec: PATIENCE, tv_nsec: 0 };
        self.events.clear();
        epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&patience))
            .expect("no signal handler interrupts it");
        let mut bytes = 0;
        for event in &self.events {
            let place = usize::try_from(event.data.u64()).expect("it was made of a place");
            let mut socket = &self.sockets[place];
            match socket.read(&mut self.scratch) {
                Ok(0) => {
                    self.open -= 1;
                    epoll::delete(&self.epoll, socket).expect("it was added");
                }
                Ok(read) => bytes += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("reading a subscriber's socket: {error}"),
            }
        }
        bytes
    }
}
