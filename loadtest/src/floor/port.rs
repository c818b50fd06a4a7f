//! The descriptors of a floor: its two listeners, its orders and its connections, in one epoll set.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::clock::timespec;
use crate::floor::Word;
use crate::helper::tell;

const EVENTS_MAX: usize = 1_024;
/// Epoll data of the descriptors that are not connections. The epoll data of a connection is its
/// index.
const CLIENTS: u64 = u64::MAX;
const PUBLISHERS: u64 = u64::MAX - 1;
const ORDERS: u64 = u64::MAX - 2;

/// Something that became ready.
pub(super) enum Ready {
    /// Clients wait to be accepted.
    Clients,
    /// Publishers wait to be accepted.
    Publishers,
    /// The process that started this one has sent an order, or has ended.
    Orders,
    /// The connection with this index.
    Connection(usize, EventFlags),
}

/// The epoll set of a floor.
pub(super) struct Port {
    epoll: OwnedFd,
    clients: TcpListener,
    publishers: TcpListener,
    events: Vec<Event>,
}

impl Port {
    /// Listens on two free loopback ports.
    pub(super) fn open() -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let listen = |data| {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            epoll::add(&epoll, &listener, EventData::new_u64(data), EventFlags::IN)?;
            anyhow::Ok(listener)
        };
        let (clients, publishers) = (listen(CLIENTS)?, listen(PUBLISHERS)?);
        let orders = EventData::new_u64(ORDERS);
        epoll::add(&epoll, std::io::stdin(), orders, EventFlags::IN)?;
        Ok(Self { epoll, clients, publishers, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Reports the addresses of both listeners.
    pub(super) fn announce(&self) -> Result<()> {
        let address = |listener: &TcpListener| -> Result<SocketAddr> { Ok(listener.local_addr()?) };
        tell(&Word::Listening {
            clients: address(&self.clients)?,
            publishers: address(&self.publishers)?,
        })
    }

    /// Waits until something is ready or the time is over; `None` waits without end.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        self.events.clear();
        let mut timeout = timeout.map(timespec);
        if timeout.is_some() {
            // The time-out of epoll may be rounded up to whole milliseconds, which would delay
            // publications. That of poll is not.
            let mut fds = [PollFd::new(&self.epoll, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => timeout = Some(timespec(Duration::ZERO)),
                Err(error) => return Err(error).context("poll failed"),
            }
        }
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("epoll failed"),
        }
    }

    /// Returns what was ready after the last wait, by its place in that order; `None` behind the
    /// last.
    pub(super) fn ready(&self, at: usize) -> Result<Option<Ready>> {
        let Some(event) = self.events.get(at) else {
            return Ok(None);
        };
        let (data, flags) = (event.data, event.flags);
        Ok(Some(match data.u64() {
            CLIENTS => Ready::Clients,
            PUBLISHERS => Ready::Publishers,
            ORDERS => Ready::Orders,
            at => Ready::Connection(usize::try_from(at)?, flags),
        }))
    }

    /// Accepts the next client; `None` if no further one waits.
    pub(super) fn next_client(&self) -> Result<Option<TcpStream>> {
        accept(&self.clients)
    }

    /// Accepts the next publisher; `None` if no further one waits.
    pub(super) fn next_publisher(&self) -> Result<Option<TcpStream>> {
        accept(&self.publishers)
    }

    /// Starts to wait for the readability of a connection.
    pub(super) fn watch(&self, socket: impl AsFd, at: usize) -> Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(at as u64), EventFlags::IN)?)
    }

    /// Waits for writability too, or no longer.
    pub(super) fn watch_writable(&self, socket: impl AsFd, at: usize, wanted: bool) -> Result<()> {
        let mut interest = EventFlags::IN;
        interest.set(EventFlags::OUT, wanted);
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(at as u64), interest)?)
    }
}

/// Reads an order, which is a time in ns. Returns `None` at the end of the orders.
pub(super) fn read_order() -> Result<Option<u64>> {
    let mut line = [0; 64];
    let count = rustix::io::read(std::io::stdin(), &mut line)?;
    if count == 0 {
        return Ok(None);
    }
    let order = str::from_utf8(&line[..count])?.trim().parse();
    Ok(Some(order.context("the order is not a time")?))
}

fn accept(listener: &TcpListener) -> Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        // A client that was reset while it waited is one that has left.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == ErrorKind::ConnectionAborted => Ok(None),
        Err(error) => Err(error).context("cannot accept"),
    }
}
