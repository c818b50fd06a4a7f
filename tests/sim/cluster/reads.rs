//! What a node reads from the servers past its line: holes, anchors, and the mirror of claims. Any
//! server may answer, and may be behind.

use std::rc::Rc;

use bytestring::ByteString;
use fanfare::cluster::chain::Missing;
use fanfare::cluster::events::{Event, Mirrored};
use fanfare::cluster::name::{ChannelHash, Place, Stream};
use fanfare::cluster::wire::{Body, Message, Published, Stamp};
use fanfare::message::{Content, Sender};
use uuid::Uuid;

use super::clockwork::Way;
use super::frames::{Call, Item, Payload, Read, Subject};
use super::jetstream::Entry;
use super::station::{channel, needs_listener};
use super::world::World;

/// How often a read of one channel that proves nothing is repeated.
const TRIES_MAX: u32 = 60;

impl World {
    /// Returns a stored message as a node reads it. `last` is the sequence that its header names.
    pub(super) fn message(&self, entry: &Entry, last: u64) -> Message {
        let body = match &entry.payload {
            Payload::Beat(beat) => Body::Beat(beat.clone()),
            Payload::Anchor(anchor) => Body::Anchor(*anchor),
            Payload::Publication(number, id) => {
                let payload = ByteString::from("{}");
                let content = match needs_listener(*number) {
                    true => Content::Event { payload },
                    false => {
                        Content::Message { event: "e".into(), payload, sender: Sender::System }
                    }
                };
                let (channel, id) = (channel(*number), Uuid::from_u128((*id).into()));
                Body::Publication(Published { channel, id, at: entry.at, content })
            }
            Payload::Claim(_) | Payload::Barrier => unreachable!("these are in the other stream"),
        };
        let stamp = Stamp { seq: entry.seq, last, at: entry.at };
        let ask = entry.ask.map(|(to, token)| format!("{to}.{token}").into());
        Message { stamp, from: Some(entry.from.clone()), ask, trace: None, body: Ok(body) }
    }

    /// Lets a node ask the servers for something.
    pub(super) fn ask(&mut self, at: usize, read: Read) {
        let delay = self.clock.dice.from(1, 6);
        self.later(at, delay, Call::Ask(read, 0));
    }

    /// Lets the servers answer a read.
    pub(super) fn read(&mut self, at: usize, read: Read, tries: u32) {
        let event = match &read {
            Read::Anchor(stream) => self.anchor(*stream),
            Read::Hole(after, most) => self.hole(*after, *most),
            Read::Channel(hash, missing) => {
                let found = self.missing(*hash, *missing);
                if found.is_none() && tries < TRIES_MAX {
                    let delay = self.clock.dice.from(50, 200);
                    return self.later(at, delay, Call::Ask(read, tries + 1));
                }
                found
            }
            Read::Latest(channels) => self.latest(channels),
        };
        // Nothing comes if no server answers, or if the answer proves nothing.
        let Some(event) = event else { return };
        self.count(match read {
            Read::Anchor(_) => "anchors read",
            Read::Hole(..) => "holes read",
            Read::Channel(..) => "channels read",
            Read::Latest(_) => "surveys",
        });
        let delay = self.clock.dice.from(1, 6);
        self.later(at, delay, Call::Tell(Box::new(event)));
    }

    /// Returns the answer to a read that is proven to be up to date.
    fn anchor(&mut self, stream: Stream) -> Option<Event> {
        let ruler = self.servers.ruler(stream)?;
        let now = self.clock.now;
        let group = self.servers.group(stream);
        let found = group.seen(ruler, now).rfind(|one| one.subject == Subject::Anchor);
        let found = found.and_then(|one| match one.payload {
            Payload::Anchor(anchor) => Some((anchor, one.seq)),
            _ => None,
        });
        Some(Event::AnchorRead(stream, found))
    }

    fn any_server(&mut self) -> Option<usize> {
        let running = (0..self.servers.all.len()).filter(|one| self.servers.is_running(*one));
        let running: Vec<_> = running.collect();
        self.clock.dice.pick(&running)
    }

    /// What follows without a break is right, however old it is.
    fn hole(&mut self, after: u64, most: usize) -> Option<Event> {
        let server = self.any_server()?;
        let seen = self.servers.order.seen(server, self.clock.now).filter(|one| one.seq > after);
        let found: Vec<_> = seen.take(most).map(|one| self.placed(one, 0)).collect();
        (!found.is_empty()).then_some(Event::HoleRead(found))
    }

    fn placed(&self, entry: &Rc<Entry>, last: u64) -> (Option<ChannelHash>, Message) {
        let channel = match entry.subject {
            Subject::Channel(hash) => Some(hash),
            _ => None,
        };
        (channel, self.message(entry, last))
    }

    /// The answer counts only if it has a message at the end of what is missing or behind it: then
    /// the server had everything before.
    fn missing(&mut self, hash: ChannelHash, missing: Missing) -> Option<Event> {
        let server = self.any_server()?;
        let group = &self.servers.order;
        let subject = Subject::Channel(hash);
        let seen = || group.seen(server, self.clock.now);
        let all: Vec<_> =
            seen().filter(|one| one.subject == subject && one.seq > missing.after).collect();
        all.last().filter(|last| last.seq + 1 >= missing.before)?;
        let oldest = seen().next().map_or(1, |one| one.seq);
        let is_in = |one: &&&Rc<Entry>| one.seq < missing.before;
        // A batch names the one before in the answer, not in the stream.
        let mut last = 0;
        let found = all.iter().filter(is_in).map(|one| {
            let before = std::mem::replace(&mut last, one.seq);
            self.message(one, before)
        });
        Some(Event::ChannelRead(hash, missing, found.collect(), oldest))
    }

    fn latest(&mut self, channels: &[ChannelHash]) -> Option<Event> {
        let ruler = self.servers.ruler(Stream::Order)?;
        let seen = || self.servers.order.seen(ruler, self.clock.now);
        let latest = channels.iter().map(|hash| {
            let subject = Subject::Channel(*hash);
            (*hash, seen().rfind(|one| one.subject == subject).map(|one| one.seq))
        });
        let oldest = seen().next().map_or(1, |one| one.seq);
        Some(Event::LatestRead(latest.collect(), oldest))
    }

    /// Lets the consumer of a node's mirror begin again, from its first message or from where it
    /// was.
    pub(super) fn consume(&mut self, at: usize, is_new: bool) {
        let Some(server) = self.any_server() else {
            let delay = self.clock.dice.from(200, 800);
            return self.later(at, delay, Call::Consume(is_new));
        };
        self.consumers += 1;
        let number = self.consumers;
        let last = self.servers.claims.replicas[server].applied as u64;
        let mirror = &mut self.stations[at].mirror;
        let is_new = is_new || last < mirror.received || self.clock.dice.has_luck(50);
        (mirror.number, mirror.server, mirror.is_asked) = (number, Some(server), false);
        // What is on the way to the consumer before is lost with it.
        mirror.sent = mirror.received;
        if is_new {
            (mirror.sent, mirror.received) = (0, 0);
            self.count("mirrors begun");
            self.tell(at, Event::MirrorBegins);
        }
    }

    /// Sends what the stream of claims has to the nodes' mirrors.
    pub(super) fn feed(&mut self) {
        for at in 0..self.stations.len() {
            let mirror = &self.stations[at].mirror;
            let Some(server) = mirror.server.filter(|_| !mirror.is_asked) else { continue };
            let log = &self.servers.claims.replicas[server];
            let applied = log.applied as u64;
            let is_cut_off = !self.servers.is_running(server);
            let ruler = self.servers.ruler(Stream::Claims);
            let runs_back = ruler == Some(server) && applied < mirror.sent;
            if is_cut_off || runs_back {
                self.stations[at].mirror.is_asked = true;
                let delay = self.clock.dice.from(100, 3_000);
                self.later(at, delay, Call::Consume(runs_back));
            } else if mirror.sent < applied {
                self.send_claims(at, server, applied);
            }
        }
    }

    fn send_claims(&mut self, at: usize, server: usize, applied: u64) {
        let mirror = &mut self.stations[at].mirror;
        let after = std::mem::replace(&mut mirror.sent, applied);
        let number = mirror.number;
        let start = self.stations[at].start;
        let seen = self.servers.claims.seen(server, self.clock.now).rev();
        let news: Vec<_> = seen.take_while(|one| one.seq > after).cloned().collect();
        for entry in news.iter().rev() {
            let mirrored = match (&entry.payload, &entry.subject) {
                (Payload::Claim(claim), Subject::Claim(hash, node)) => {
                    Mirrored::Claim(Place::Channel(*hash), node.clone(), *claim)
                }
                (Payload::Anchor(anchor), _) => Mirrored::Anchor(*anchor),
                _ => Mirrored::Other,
            };
            let event = Box::new(Event::Mirrored(entry.seq, mirrored));
            let delay = self.clock.dice.from(0, 5);
            let call = Item::Station(at, start, Call::Mirror(number, event));
            self.clock.along(Way::Mirror(number), delay, call);
        }
    }
}
