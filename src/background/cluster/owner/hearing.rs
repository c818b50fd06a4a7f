//! What comes over the line and by reads.

use bytes::Bytes;
use serde::Deserialize;

use super::Owner;
use super::others::Link;
use crate::background::cluster::line::{self, Down, Reason, Server};
use crate::background::cluster::protocol::{Message, Sid};
use crate::background::cluster::reads::Found;
use crate::background::cluster::seat;
use crate::cluster::ack::Ack;
use crate::cluster::events::Event;
use crate::cluster::landing::Landing;
use crate::cluster::name::{ChannelHash, Seq, Subject};
use crate::cluster::wire::{self, AskMembers, Body, Counted};
use crate::limits::NATS_READ_BYTES;
use crate::message::Audience;

/// The subscriptions that are not a channel's. Those of channels are numbered from 1.
const BEATS: Sid = Sid::MAX;
const ANCHOR: Sid = Sid::MAX - 1;
const ANSWERS: Sid = Sid::MAX - 2;
const QUESTIONS: Sid = Sid::MAX - 3;
const LEADER: Sid = Sid::MAX - 4;
const CLAIMS_LEADER: Sid = Sid::MAX - 5;
const TOOK: Sid = Sid::MAX - 6;

/// Bodies up to this length are copied, because a slice keeps all that was received with it. So no
/// more than twice the bytes of bodies are kept.
const COPIED_BYTES_MAX: usize = NATS_READ_BYTES / 2;

/// The message by which a server tells that a stream has another leader.
#[derive(Deserialize)]
struct Elected {
    leader: Option<String>,
}

impl<L: Landing> Owner<'_, L> {
    pub(super) fn take(&mut self, event: line::Event) {
        match event {
            line::Event::Message(message) => self.hear(&message),
            line::Event::Up(server) => self.line_up(&server),
            line::Event::Down(down) => self.line_down(&down),
            line::Event::Failed { address, fault } => {
                if let Some(count) = self.failures.add(1) {
                    tracing::warn!(count, %address, "the cluster's broker is not reached: {fault}");
                }
            }
            line::Event::Discarded { bytes, .. } => {
                self.parts.counters.cluster_received_unknown.add(1);
                if let Some(count) = self.skipped.add(1) {
                    tracing::warn!(count, bytes, "a message of the cluster was too long to read");
                }
            }
            line::Event::Denied(text) => {
                if let Some(count) = self.failures.add(1) {
                    tracing::error!(count, "the cluster's broker refuses the node: {text}");
                }
            }
            line::Event::LameDuck => tracing::info!("the cluster's broker is about to shut down"),
            line::Event::Drained => {}
        }
    }

    fn line_up(&mut self, server: &Server) {
        self.link.note(Link::Up(server.address.clone(), server.info.version.clone()));
        self.tell_link();
        self.sent.clear();
        let subjects = &self.parts.subjects;
        let [elected, claims_elected] = self
            .streams
            .each_ref()
            .map(|stream| format!("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.{stream}"));
        for (subject, sid) in [
            (subjects.live_beats(), BEATS),
            (subjects.live_anchor(), ANCHOR),
            (subjects.answers(), ANSWERS),
            (subjects.ask(&self.me.node), QUESTIONS),
            (subjects.took(), TOOK),
            (elected, LEADER),
            (claims_elected, CLAIMS_LEADER),
        ] {
            // A line that is just up has room.
            let _ = self.parts.line.subscribe(&subject, sid);
        }
        self.leader_at = 0;
        if let Some(seat) = &self.seat {
            // At the bound the register looks a little later.
            let _ = seat.asks.try_send(seat::Ask::Look);
        }
        let [order, claims] = self.remembered;
        self.handle(Event::LineUp(order, claims));
    }

    fn line_down(&mut self, down: &Down) {
        let counters = &self.parts.counters;
        let counter = match down.fault.reason {
            Reason::Closed => &counters.cluster_lost_closed,
            Reason::Timeout => &counters.cluster_lost_timeout,
            Reason::Slow => &counters.cluster_lost_slow,
            Reason::LameDuck => &counters.cluster_lost_lame_duck,
            Reason::Asked => &counters.cluster_lost_asked,
            _ => &counters.cluster_lost_error,
        };
        counter.add(1);
        self.link.note(Link::Down(down.address.clone(), down.fault.text.clone()));
        self.tell_link();
        self.written(down.handed);
        // The stream may be another one when the line is up again, and questions come at once.
        self.forget_places();
        self.handle(Event::LineDown);
    }

    fn hear(&mut self, message: &Message) {
        let subject = str::from_utf8(message.subject()).ok();
        let subject = subject.and_then(|subject| self.parts.subjects.read(subject));
        match subject {
            Some(Subject::Live(channel)) => self.live(Some(channel), message),
            Some(Subject::Beat(_) | Subject::Anchor) => self.live(None, message),
            Some(Subject::Answer(number)) => {
                let read = |name| Ack::read(message.status(), &message.payload(), name);
                // What does not say whether the message is stored is no answer.
                if let Some(ack) = self.streams.iter().find_map(|name| read(name)) {
                    self.handle(Event::Answered(number, ack));
                }
            }
            Some(Subject::Count(token)) => {
                if let Some(counted) = Counted::decode(&message.payload()) {
                    self.handle(Event::Counted(token, counted));
                }
            }
            Some(Subject::Members(number)) => {
                self.members_told(number, message);
                self.go_on();
            }
            Some(Subject::Took) => self.took(message),
            Some(Subject::Ask) => self.asked(message),
            // The copies of the claims may differ in their last ones.
            _ if message.sid == CLAIMS_LEADER => drop(self.parts.again.try_send(())),
            _ if message.sid == LEADER => {
                let elected = serde_json::from_slice::<Elected>(&message.payload()).ok();
                self.leader = elected.and_then(|elected| elected.leader);
                self.handle(Event::LeaderChanged);
            }
            _ => self.parts.counters.cluster_received_unknown.add(1),
        }
    }

    fn live(&mut self, channel: Option<ChannelHash>, message: &Message) {
        let body = match message.payload() {
            body if body.len() <= COPIED_BYTES_MAX => Bytes::copy_from_slice(&body),
            body => body,
        };
        let counters = &self.parts.counters;
        let Some(message) = wire::Message::decode(message.headers(), &body, channel) else {
            counters.cluster_received_unknown.add(1);
            return;
        };
        let counter = match &message.body {
            Ok(Body::Publication(_)) => &counters.cluster_received_publication,
            Ok(Body::Tidings(_)) => &counters.cluster_received_presence,
            Ok(Body::Beat(_)) => &counters.cluster_received_heartbeat,
            Ok(Body::Anchor(_)) => &counters.cluster_received_anchor,
            Err(_) => &counters.cluster_received_unknown,
        };
        counter.add(1);
        self.handle(Event::Live(channel, Box::new(message)));
    }

    /// Answers a node that asks how many subscribers received a publication, if that is known.
    fn asked(&mut self, message: &Message) {
        let reply = message.reply().and_then(|reply| str::from_utf8(reply).ok());
        let Some(reply) = reply else { return };
        if let Some(question) = AskMembers::decode(&message.payload()) {
            self.members_asked(reply, question);
            return;
        }
        let Some(ask) = wire::Ask::decode(&message.payload()) else { return };
        // A node that knows another epoch counted another publication at this place.
        if ask.epoch != self.cluster.epoch() {
            return;
        }
        if let Some(audience) = self.count_of(ask.channel, ask.seq) {
            self.tell_count(reply, ask.seq, audience);
            self.go_on();
        }
    }

    /// Handles what has followed from something that was no event.
    fn go_on(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.handle(event);
        }
    }

    fn count_of(&self, channel: ChannelHash, seq: Seq) -> Option<Audience> {
        // A publication from before the node attached had no subscribers here.
        let is_before = self.bounds.get(&channel).is_some_and(|bound| seq <= bound);
        self.counts.get(&(channel, seq)).or_else(|| is_before.then(Audience::default))
    }

    pub(super) fn found(&mut self, found: Found) {
        match found {
            Found::Event(event) => self.handle(event),
            Found::Missed(missed) => {
                let epoch = self.cluster.epoch_tag();
                self.catching.missed(self.landing, missed, epoch, &self.parts.counters);
            }
            Found::Earlier(channel, read, earlier) => self.earlier(&channel, read, earlier),
            Found::Unread(channel, worker) => self.catching.unread(channel, worker),
            Found::Leader(leader) => {
                let is_other = self.leader.is_some() && leader.is_some() && leader != self.leader;
                self.leader = leader.or(self.leader.take());
                if is_other {
                    self.handle(Event::LeaderChanged);
                }
            }
        }
    }
}
