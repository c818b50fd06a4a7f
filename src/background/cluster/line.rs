//! The connection to one of several servers, which is made again whenever it ends.
//!
//! A line belongs to one task, which calls [`Line::next`] and gives commands between two events.
//! Both directions are bounded in bytes: the line reads only if its owner has taken every event of
//! what was read before, and refuses commands while too much waits to be written. What the owner
//! says during a turn, that is while it takes the events of one read, is one write at its end: it
//! leaves the node only while [`Line::next`] is awaited.
//!
//! A line knows no subscription. After each [`Event::Up`], the owner subscribes anew.

mod backoff;
mod connection;
mod dial;
mod fault;
mod stream;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rand::seq::SliceRandom as _;
use thiserror::Error;
use tokio::time::{Sleep, sleep, timeout};

use super::address::Address;
use super::credentials::{Credentials, Tls};
use super::protocol::{self, Info, Message, Publish, Sid, Unsendable};
use backoff::Backoff;
use connection::{Connection, Step};
use dial::{Dialed, dial};

pub use dial::greeting;
pub use fault::{Fault, Reason};

/// How a line connects.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The servers, of which one is used at a time.
    pub servers: Vec<Address>,
    /// What the node shows them.
    pub credentials: Credentials,
    /// Whether and how TLS is used.
    pub tls: Tls,
    /// The node's name in the servers' lists of connections.
    pub name: String,
}

/// A connection that is made again whenever it ends.
pub struct Line {
    settings: Arc<Settings>,
    /// The servers in the order in which they are tried, which differs between nodes.
    servers: Vec<Address>,
    /// Connections that were tried.
    tried: usize,
    backoff: Backoff,
    state: State,
}

/// An event of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The line is connected: the owner subscribes.
    Up(Server),
    /// A message on a subscription.
    Message(Message),
    /// A message that was too long and is discarded.
    Discarded {
        /// The subscription that it was for.
        sid: Sid,
        /// The length of its headers and payload.
        bytes: u64,
    },
    /// The server refused one subscription or one publish. The line stays connected.
    Denied(String),
    /// The server is about to shut down. If there are others, the line soon goes to one of them.
    LameDuck,
    /// After a refusal with [`Unsent::Full`]: everything was written.
    Drained,
    /// The line has lost its connection, and all subscriptions with it.
    Down(Down),
    /// A connection could not be made. The line tries the next server.
    Failed {
        /// The server that was tried.
        address: Address,
        /// What happened.
        fault: Fault,
    },
}

/// The server that a line is connected to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Its URL.
    pub address: Address,
    /// What it says of itself.
    pub info: Box<Info>,
}

/// The end of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Down {
    /// The server.
    pub address: Address,
    /// Why it ended.
    pub fault: Fault,
    /// Bytes of commands that were handed to the system: a command at this [`Place`] or a later one
    /// never left the node.
    pub handed: Place,
}

/// The place of a command among all bytes of commands on its connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place(pub u64);

/// Why a command was not taken. Nothing of it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Unsent {
    /// There is no connection.
    #[error("the line is not connected")]
    Down,
    /// Too much waits to be written. [`Event::Drained`] follows.
    #[error("the server takes commands too slowly")]
    Full,
    /// The message is longer than the server takes, which would end the connection.
    #[error("a message of {bytes} bytes, and the server takes at most {most}")]
    TooLong {
        /// Bytes of headers and payload.
        bytes: u64,
        /// The server's bound.
        most: u64,
    },
    /// The command would be another one, or a part of one.
    #[error(transparent)]
    Invalid(#[from] Unsendable),
}

enum State {
    /// Until the next attempt; `None` if it may begin at once.
    Waiting(Option<Pin<Box<Sleep>>>),
    Dialing(Dialing),
    Up(Box<Connection>),
}

type Dialing = Pin<Box<dyn Future<Output = Result<Dialed, Fault>> + Send>>;

impl Line {
    /// Creates a line, which connects while [`Self::next`] is awaited.
    ///
    /// # Panics
    /// If the settings have no server.
    pub fn new(settings: Settings) -> Self {
        let mut servers = settings.servers.clone();
        assert!(!servers.is_empty(), "a line needs a server");
        servers.shuffle(&mut rand::rng());
        let backoff = Backoff::new(servers.len());
        let state = State::Waiting(None);
        Self { settings: Arc::new(settings), servers, tried: 0, backoff, state }
    }

    /// Returns the next event. A call that is dropped before it has returned loses nothing.
    pub async fn next(&mut self) -> Event {
        poll_fn(|context| self.poll(context)).await
    }

    /// Subscribes to a subject under a number that the owner chooses.
    ///
    /// # Errors
    /// See [`Unsent`].
    pub fn subscribe(&mut self, subject: &str, sid: Sid) -> Result<Place, Unsent> {
        let up = self.up()?;
        up.command(subject.len(), |out| protocol::subscribe(out, subject, sid))
    }

    /// Ends a subscription. Messages that are on their way still arrive.
    ///
    /// # Errors
    /// See [`Unsent`].
    pub fn unsubscribe(&mut self, sid: Sid) -> Result<Place, Unsent> {
        self.up()?.command(0, |out| {
            protocol::unsubscribe(out, sid);
            Ok(())
        })
    }

    /// Publishes a message.
    ///
    /// # Errors
    /// See [`Unsent`].
    pub fn publish(&mut self, message: &Publish<'_>) -> Result<Place, Unsent> {
        let up = self.up()?;
        let (bytes, most) = (message.bytes() as u64, up.max_payload());
        if bytes > most {
            return Err(Unsent::TooLong { bytes, most });
        }
        let subjects = message.subject.len() + message.reply.map_or(0, str::len);
        up.command(message.bytes() + subjects, |out| protocol::publish(out, message))
    }

    /// Returns the bytes of commands that wait to be written.
    pub fn waiting(&self) -> usize {
        match &self.state {
            State::Up(connection) => connection.waiting(),
            _ => 0,
        }
    }

    /// Returns the bytes of commands that were handed to the system on this connection: a command
    /// at an earlier [`Place`] may have left the node.
    pub fn handed(&self) -> Place {
        match &self.state {
            State::Up(connection) => connection.handed(),
            _ => Place(0),
        }
    }

    /// Ends the connection, if there is one, so that another is made. The next event is
    /// [`Event::Down`] with this text.
    pub fn renew(&mut self, why: &str) {
        if let State::Up(connection) = &mut self.state {
            connection.end(Fault::new(Reason::Asked, why));
        }
    }

    /// Writes the waiting commands, for at most `within`, and ends the connection.
    pub async fn close(self, within: Duration) {
        if let State::Up(connection) = self.state {
            // A server that takes no more is left as it is.
            let _ = timeout(within, connection.close()).await;
        }
    }

    fn up(&mut self) -> Result<&mut Connection, Unsent> {
        match &mut self.state {
            State::Up(connection) => Ok(connection),
            _ => Err(Unsent::Down),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        loop {
            match &mut self.state {
                State::Waiting(until) => {
                    if let Some(until) = until {
                        ready!(until.as_mut().poll(context));
                    }
                    self.dial();
                }
                State::Dialing(dialing) => {
                    let dialed = ready!(dialing.as_mut().poll(context));
                    return Poll::Ready(self.dialed(dialed));
                }
                State::Up(connection) => match ready!(connection.poll(context)) {
                    Step::Event(event) => return Poll::Ready(event),
                    Step::End(fault) => {
                        let (lasted, handed) = (connection.age(), connection.handed());
                        let wait = self.backoff.after_connection(lasted, rand::random());
                        self.state = State::Waiting(Some(Box::pin(sleep(wait))));
                        let address = self.address().clone();
                        return Poll::Ready(Event::Down(Down { address, fault, handed }));
                    }
                },
            }
        }
    }

    fn dial(&mut self) {
        self.tried = self.tried.wrapping_add(1);
        let (address, settings) = (self.address().clone(), self.settings.clone());
        let dialing = async move { dial(&address, &settings).await };
        self.state = State::Dialing(Box::pin(dialing));
    }

    fn dialed(&mut self, dialed: Result<Dialed, Fault>) -> Event {
        let address = self.address().clone();
        match dialed {
            Ok(dialed) => {
                let info = dialed.info.clone();
                let connection = Connection::new(dialed, self.servers.len() > 1);
                self.state = State::Up(Box::new(connection));
                Event::Up(Server { address, info })
            }
            Err(fault) => {
                let wait = self.backoff.after_failure(rand::random());
                self.state = State::Waiting(Some(Box::pin(sleep(wait))));
                Event::Failed { address, fault }
            }
        }
    }

    /// Returns the server that was tried last.
    fn address(&self) -> &Address {
        &self.servers[self.tried % self.servers.len()]
    }
}
