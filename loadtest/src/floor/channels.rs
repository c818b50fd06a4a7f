//! The smallest program that can deliver publications on many channels: it finds the channel in
//! each request and hands the frame to the sockets of that channel, one after the other.

use anyhow::{Context, Result, bail};
use rustix::event::epoll::EventFlags;

use crate::api::{Api, insforge};
use crate::floor::frame::PublicationFrame;
use crate::floor::port::{Port, Ready, read_order};
use crate::floor::requests::{Answers, Requests};
use crate::floor::session::Session;
use crate::publisher::Schedule;
use crate::stamp::Reader;

const SCRATCH_BYTES: usize = 64 * 1024;
/// Most channels, which their numbers must be below.
const CHANNELS_MAX: usize = 1_000_000;

/// The server, its clients and its publishers.
pub(super) struct Server {
    port: Port,
    /// In order of arrival; `None` after the end of the connection.
    peers: Vec<Option<Peer>>,
    channels: Vec<Channel>,
    /// The schedule of a channel with any name: the size and the event of its publications.
    schedule: Schedule,
    reader: Reader,
    answers: Answers,
}

enum Peer {
    Client(Session),
    Publisher(Requests),
}

/// A channel: its frame, and the places of its clients.
struct Channel {
    frame: PublicationFrame,
    clients: Vec<usize>,
}

impl Server {
    /// Listens for clients and publishers.
    pub(super) fn new(schedule: &Schedule) -> Result<Self> {
        Ok(Self {
            port: Port::open()?,
            peers: Vec::new(),
            channels: Vec::new(),
            schedule: schedule.clone(),
            reader: Reader::new(),
            answers: Answers::new(&insforge::accepted(2)),
        })
    }

    /// Serves until its orders end.
    pub(super) fn run(mut self) -> Result<()> {
        self.port.announce()?;
        let mut scratch = vec![0; SCRATCH_BYTES];
        loop {
            self.port.wait(None)?;
            let mut at = 0;
            while let Some(ready) = self.port.ready(at)? {
                at += 1;
                match ready {
                    Ready::Clients => {
                        while let Some(stream) = self.port.next_client()? {
                            stream.set_nodelay(true)?;
                            let session = Session::new(stream, Api::InsForge);
                            self.add(Peer::Client(session))?;
                        }
                    }
                    Ready::Publishers => {
                        while let Some(stream) = self.port.next_publisher()? {
                            stream.set_nodelay(true)?;
                            self.add(Peer::Publisher(Requests::new(stream)))?;
                        }
                    }
                    Ready::Orders if read_order()?.is_none() => return Ok(()),
                    Ready::Orders => {}
                    Ready::Connection(at, flags) => {
                        if self.on_peer(at, flags, &mut scratch).is_err() {
                            self.peers[at] = None;
                        }
                    }
                }
            }
        }
    }

    fn add(&mut self, peer: Peer) -> Result<()> {
        let at = self.peers.len();
        match &peer {
            Peer::Client(session) => self.port.watch(session, at)?,
            Peer::Publisher(requests) => self.port.watch(requests, at)?,
        }
        self.peers.push(Some(peer));
        Ok(())
    }

    fn on_peer(&mut self, at: usize, flags: EventFlags, scratch: &mut [u8]) -> Result<()> {
        // A publisher is taken out of its place, because its publications go to other places.
        match self.peers[at].as_mut() {
            None => Ok(()),
            Some(Peer::Client(_)) => self.on_client(at, flags, scratch),
            Some(Peer::Publisher(_)) => {
                let Some(Peer::Publisher(mut requests)) = self.peers[at].take() else {
                    bail!("it was a publisher");
                };
                self.on_publisher(at, flags, &mut requests, scratch)?;
                self.peers[at] = Some(Peer::Publisher(requests));
                Ok(())
            }
        }
    }

    fn on_client(&mut self, at: usize, flags: EventFlags, scratch: &mut [u8]) -> Result<()> {
        let Some(Peer::Client(session)) = self.peers[at].as_mut() else {
            return Ok(());
        };
        if flags.contains(EventFlags::OUT) {
            session.flush()?;
            if session.backlog_bytes() == 0 {
                self.port.watch_writable(&*session, at, false)?;
            }
        }
        if !flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
            return Ok(());
        }
        let was_subscribed = session.subscribed;
        session.read(scratch)?;
        if session.subscribed && !was_subscribed {
            let channel = number(&session.channel).context("a channel without a number")?;
            self.join(channel, at)?;
        }
        Ok(())
    }

    fn join(&mut self, channel: usize, at: usize) -> Result<()> {
        while self.channels.len() <= channel {
            let name = name(&self.schedule.channel, self.channels.len());
            let schedule = Schedule { channel: name, ..self.schedule.clone() };
            let frame = PublicationFrame::new(Api::InsForge, &schedule)?;
            self.channels.push(Channel { frame, clients: Vec::new() });
        }
        self.channels[channel].clients.push(at);
        Ok(())
    }

    fn on_publisher(
        &mut self,
        at: usize,
        flags: EventFlags,
        requests: &mut Requests,
        scratch: &mut [u8],
    ) -> Result<()> {
        if flags.contains(EventFlags::OUT) && requests.flush()? {
            self.port.watch_writable(&*requests, at, false)?;
        }
        let count = requests.read(scratch, |body| self.deliver(body))?;
        if count > 0 && !requests.answer(&self.answers, count)? {
            self.port.watch_writable(&*requests, at, true)?;
        }
        Ok(())
    }

    fn deliver(&mut self, body: &[u8]) -> Result<()> {
        let channel = insforge::channel(body).and_then(number);
        let channel = channel.context("a publication without the number of a channel")?;
        let stamp = self.reader.find(body).context("a publication without a stamp")?;
        let Some(Channel { frame, clients }) = self.channels.get_mut(channel) else {
            return Ok(());
        };
        let frame = frame.stamped(stamp);
        for client in clients {
            let Some(Peer::Client(session)) = self.peers[*client].as_mut() else {
                continue;
            };
            let before = session.backlog_bytes();
            match session.send(frame) {
                Ok(true) => {}
                Ok(false) if before > 0 => {}
                Ok(false) => self.port.watch_writable(&*session, *client, true)?,
                Err(_) => self.peers[*client] = None,
            }
        }
        Ok(())
    }
}

/// Returns the name of a channel. All have the same length, so that their frames have too.
pub(crate) fn name(prefix: &str, number: usize) -> String {
    format!("{prefix}:{number:06}")
}

/// Returns the number in the name of a channel, which comes with its quotes.
fn number(name: &[u8]) -> Option<usize> {
    let digits = name.strip_suffix(b"\"")?;
    let digits = &digits[digits.iter().rposition(|byte| *byte == b':')? + 1..];
    let number = str::from_utf8(digits).ok()?.parse().ok()?;
    Some(number).filter(|number| *number < CHANNELS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_have_names_of_one_length_and_are_known_by_their_number() {
        for at in [0, 7, 999_999] {
            let name = name("load", at);
            assert_eq!(name.len(), "load:000000".len());
            assert_eq!(number(format!("\"{name}\"").as_bytes()), Some(at));
        }
        for other in ["\"load\"", "\"load:x\"", "\"load:1000000\"", "load:1"] {
            assert_eq!(number(other.as_bytes()), None, "{other}");
        }
    }
}
