//! Carries out what the node's decisions ask for.

use super::Owner;
use super::parcel::{Parcel, TOO_LONG, place};
use crate::background::cluster::line::{Place, Unsent};
use crate::background::cluster::protocol::Publish;
use crate::background::cluster::reads::Ask;
use crate::background::cluster::seat;
use crate::cluster::ack::{Ack, Refusal};
use crate::cluster::audience::Question;
use crate::cluster::events::{Action, Event};
use crate::cluster::landing::Landing;
use crate::cluster::name::{self, Seq, Stream, Subject};
use crate::cluster::pulse::Side;
use crate::cluster::wire::{self, Anchor, Body, Claim, Counted, Headers};
use crate::limits::CLUSTER_CLAIM_END_SECONDS;
use crate::message::Audience;

const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";
/// A message to a stream.
struct Outgoing<'a> {
    number: u64,
    stream: Stream,
    subject: &'a str,
    headers: &'a [(&'static str, &'a str)],
    body: &'a [u8],
}

impl<L: Landing> Owner<'_, L> {
    pub(super) fn carry_out(&mut self, actions: Vec<Action>) {
        actions.into_iter().for_each(|action| self.act(action));
        if let Some(event) = self.events.pop_front() {
            self.handle(event);
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        let counters = &self.parts.counters;
        match action {
            Action::Deliver(channel, message, is) => self.deliver(&channel, *message, is),
            Action::Send(token, number, is_counted) => self.publication(token, number, is_counted),
            Action::Published(token, published) => self.settled(token, published),
            Action::Audience(total) => self.total(total),
            Action::Ask(question) => self.ask(&question),
            Action::Subscribe(channel, sid) => {
                let subject = self.parts.subjects.live(channel);
                let sent = self.parts.line.subscribe(&subject, sid);
                self.must(sent);
            }
            Action::Unsubscribe(sid) => {
                let sent = self.parts.line.unsubscribe(sid);
                self.must(sent);
            }
            Action::Claim(number, channel, listens, expected) => {
                let incarnation = self.me.incarnation;
                let subject = self.parts.subjects.claim(name::Place::Channel(channel));
                self.claim(number, &subject, Claim { incarnation, listens }, expected);
            }
            Action::EndClaim(number, held) => {
                let subject = self.parts.subjects.claim_of(held.place, &held.origin.node);
                let claim = Claim { incarnation: held.origin.incarnation, listens: false };
                self.claim(number, &subject, claim, held.seq);
            }
            Action::Beat(number, beat) => {
                self.own(number, Stream::Order, &Body::Beat(beat), None);
            }
            Action::WriteAnchor(number, stream, anchor, expected) => {
                self.own(number, stream, &Body::Anchor(anchor), Some(expected));
            }
            Action::Barrier(number) => {
                let subject = self.parts.subjects.barrier();
                self.send(&Outgoing {
                    number,
                    stream: Stream::Claims,
                    subject: &subject,
                    headers: &[],
                    body: b"",
                });
            }
            Action::ReadAnchor(stream) => self.parts.reader.begin(Ask::Anchor(stream)),
            Action::ReadChannel(channel, missing) => {
                counters.cluster_holes_channel.add(1);
                self.parts.reader.begin(Ask::Channel(channel, missing));
            }
            Action::ReadHole(after, most) => {
                counters.cluster_holes_read.add(1);
                self.parts.reader.begin(Ask::Hole(after, most));
            }
            Action::ReadLatest(channels) => {
                counters.cluster_holes_last.add(1);
                self.parts.reader.begin(Ask::Latest(channels));
            }
            Action::Remember(stream, anchor) => self.keep_anchor(stream, anchor),
            // Of a channel from before it attached the node needs the members alone.
            Action::Seed(channel, up_to, claimants) => {
                self.ask_members(channel, up_to, claimants);
            }
            Action::Ended(node, living) => self.ended(node, living),
            Action::Attached(channel, from) => self.attached(&channel, from),
            Action::Failed(channel) => self.failed(&channel),
            Action::Detached(channel) => self.detached(&channel),
            Action::Skipped(channel, skip) => self.skip(&channel, skip),
            Action::Gap(channel) => self.gap(&channel),
            Action::Reconnect(side) => self.reconnect(side),
            Action::EpochChanged(stream, number) => self.epoch_changed(stream, number),
            Action::RegisterAgain => self.register_again(),
        }
    }

    fn publication(&mut self, token: u64, number: u64, is_counted: bool) {
        // Each publication is sent at most once.
        let Some(Parcel { channel, body, bytes, repeat }) = self.parcels.remove(&token) else {
            return;
        };
        let ask = is_counted.then(|| self.parts.subjects.count(token));
        if is_counted {
            self.counted.insert(token, channel);
        }
        let subject = self.parts.subjects.input(channel);
        let (from, repeat) = (self.from.clone(), repeat.map(|repeat| repeat.to_string()));
        let mut headers = body.headers(&from, ask.as_deref(), None);
        headers.extend(repeat.as_deref().map(|repeat| ("Nats-Msg-Id", repeat)));
        self.send(&Outgoing {
            number,
            stream: Stream::Order,
            subject: &subject,
            headers: &headers,
            body: &bytes,
        });
    }

    /// Sends a heartbeat or an anchor.
    fn own(&mut self, number: u64, stream: Stream, body: &Body, expected: Option<Seq>) {
        let subjects = &self.parts.subjects;
        let subject = match (body, stream) {
            (Body::Beat(_), _) => subjects.beat(),
            (_, Stream::Order) => subjects.anchor(),
            (_, Stream::Claims) => subjects.claims_anchor(),
        };
        let bytes = body.encode().unwrap_or_default();
        let from = self.from.clone();
        let expected = expected.map(|expected| expected.to_string());
        let mut headers = body.headers(&from, None, None);
        headers.extend(expected.as_deref().map(|expected| (EXPECTED_LAST, expected)));
        self.send(&Outgoing { number, stream, subject: &subject, headers: &headers, body: &bytes });
    }

    fn claim(&mut self, number: u64, subject: &str, claim: Claim, expected: Seq) {
        let expected = expected.to_string();
        let life = format!("{CLUSTER_CLAIM_END_SECONDS}s");
        let mut headers = Headers::new();
        headers.push((EXPECTED_LAST, &expected));
        if !claim.listens {
            headers.push(("Nats-TTL", &life));
        }
        self.send(&Outgoing {
            number,
            stream: Stream::Claims,
            subject,
            headers: &headers,
            body: claim.encode().as_bytes(),
        });
    }

    /// Sends a message to a stream, which answers on a subject with the message's number.
    fn send(&mut self, outgoing: &Outgoing<'_>) {
        let Outgoing { number, stream, subject, headers, body } = *outgoing;
        let reply = self.parts.subjects.answer(number);
        let mut headers: Headers<'_> = headers.iter().copied().collect();
        headers.push((EXPECTED_STREAM, &self.streams[place(stream)]));
        let message = Publish { subject, reply: Some(&reply), headers: &headers, payload: &[body] };
        let refusal = match self.parts.line.publish(&message) {
            Ok(place) => {
                self.sent.push_back((number, place));
                return;
            }
            Err(Unsent::Down) => Refusal::Unavailable,
            Err(Unsent::Full) => Refusal::Overloaded,
            Err(Unsent::TooLong { .. } | Unsent::Invalid(_)) => TOO_LONG,
        };
        self.events.push_back(Event::Answered(number, Ack::Refused(refusal)));
    }

    /// Makes the line anew if it did not take a command without which the node would be deaf.
    fn must(&mut self, sent: Result<Place, Unsent>) {
        match sent {
            // Without a connection there is nothing to end, and after it everything begins anew.
            Ok(_) | Err(Unsent::Down) => {}
            Err(unsent) => self.parts.line.renew(&unsent.to_string()),
        }
    }

    /// Notes which messages may have left the node.
    pub(super) fn tell_written(&mut self) {
        let handed = self.parts.line.handed();
        self.written(handed);
    }

    pub(super) fn written(&mut self, handed: Place) {
        let mut last = None;
        while let Some((number, _)) = self.sent.pop_front_if(|(_, place)| *place < handed) {
            last = Some(number);
        }
        if let Some(number) = last {
            self.handle(Event::Written(number));
        }
    }

    fn ask(&mut self, question: &Question) {
        let Question { number, seq, node } = question;
        let Some(&channel) = self.counted.get(number) else { return };
        let (subject, reply) = (self.parts.subjects.ask(node), self.parts.subjects.count(*number));
        let body = wire::Ask { channel, seq: *seq, epoch: self.cluster.epoch() }.encode();
        self.tell(&subject, Some(&reply), body.as_bytes());
    }

    /// Answers how many subscribers received a publication.
    pub(super) fn tell_count(&mut self, ask: &str, seq: Seq, audience: Audience) {
        let counted = Counted { from: self.me.clone(), seq, audience };
        match self.parts.subjects.read(ask) {
            Some(Subject::Count(token)) => self.events.push_back(Event::Counted(token, counted)),
            _ if self.parts.subjects.is_of_node(ask) => {
                self.tell(ask, None, counted.encode().as_bytes());
            }
            // The message is not from a node of this cluster.
            _ => {}
        }
    }

    /// Publishes what is not acknowledged: a question or an answer between nodes, which count as
    /// unknown if they are lost.
    pub(super) fn tell(&mut self, subject: &str, reply: Option<&str>, body: &[u8]) {
        let message = Publish { subject, reply, payload: &[body], ..Publish::default() };
        let _ = self.parts.line.publish(&message);
    }

    fn keep_anchor(&mut self, stream: Stream, anchor: Anchor) {
        self.remember(stream, anchor);
        if let Some(seat) = &self.seat {
            let _ = seat.asks.try_send(seat::Ask::Remember(stream, anchor));
        }
    }

    fn register_again(&mut self) {
        match &self.seat {
            Some(seat) => drop(seat.asks.try_send(seat::Ask::Again)),
            None => tracing::warn!("another node had the name of this one; start this one again"),
        }
    }

    fn reconnect(&mut self, side: Side) {
        let counters = &self.parts.counters;
        let (counter, why) = match side {
            Side::Publishing => (&counters.cluster_deaf_publishing, "the stream does not answer"),
            Side::Reading => {
                (&counters.cluster_deaf_reading, "the node's own heartbeats do not come back")
            }
        };
        counter.add(1);
        self.parts.line.renew(why);
    }

    fn epoch_changed(&mut self, stream: Stream, epoch: u64) {
        let name = &self.streams[place(stream)];
        tracing::warn!(epoch, "the stream {name} has lost messages; a new epoch has begun");
        self.parts.counters.cluster_epochs.add(1);
        match stream {
            Stream::Order => self.forget_places(),
            // If a request waits already, that one serves.
            Stream::Claims => drop(self.parts.again.try_send(())),
        }
    }
}
