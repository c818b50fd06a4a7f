//! The members of channels on all nodes: what this node tells of its own, and whom it asks.

use std::collections::{BTreeMap, HashMap};

use super::Owner;
use super::parcel::Parcel;
use crate::background::cluster::protocol;
use crate::cluster::events::{Claimants, Event, Published};
use crate::cluster::landing::Landing;
use crate::cluster::name::{ChannelHash, Incarnation, NodeName, Seq};
use crate::cluster::wire::{AskMembers, Body, Origin, Told};
use crate::limits::{PRESENCE_AGAIN_MS, PRESENCE_ANSWER_MS, PRESENCE_LATE_MS, PRESENCE_YIELD_MS};
use crate::message::{Channel, Heard, MessageId, Millis, News, NodeLife, Tidings};

/// Marks the tokens of tidings: those of publications are counted from 1.
const TIDINGS: u64 = 1 << 63;
/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Presence {
    last: u64,
    /// The channels of tidings that the stream has not answered, by token.
    flying: HashMap<u64, Channel>,
    /// Questions for lists of members, by number.
    questions: BTreeMap<u64, Question>,
    /// Channels of which the node must tell its list again, or ask the others for theirs, and when.
    again: BTreeMap<Channel, (Millis, Again)>,
    /// Nodes of which starts have ended, but for one, and when that must be told.
    ended: Vec<(Millis, NodeName, Option<Incarnation>)>,
    /// When there is something to do; 0 if nothing waits.
    due: Millis,
}

#[derive(Clone, Copy, Debug, Default)]
struct Again {
    tells: bool,
    asks: bool,
}

/// A question for the members that other nodes have on a channel.
#[derive(Debug)]
struct Question {
    channel: Channel,
    /// The place at which the node attaches to the channel; `None` once that does not wait any
    /// more.
    waits: Option<Seq>,
    /// The nodes that have not answered.
    silent: Vec<NodeLife>,
    /// All nodes that have the channel; `None` if that is not known, or one node alone is asked.
    all: Option<Vec<NodeLife>>,
    /// Whether all nodes that have the channel are asked.
    is_for_all: bool,
    asked: Millis,
}

impl Presence {
    /// Returns when there is something to do; `None` if nothing waits.
    pub(super) fn due(&self) -> Option<Millis> {
        (self.due > 0).then_some(self.due)
    }

    fn set_due(&mut self) {
        let asked = self.questions.values().map(|one| match one.waits {
            Some(_) => one.asked + PRESENCE_ANSWER_MS,
            None => one.asked + PRESENCE_LATE_MS,
        });
        let again = self.again.values().map(|(at, _)| *at);
        let ended = self.ended.iter().map(|(at, ..)| *at);
        self.due = asked.chain(again).chain(ended).min().unwrap_or(0);
    }

    fn later(&mut self, channel: &Channel, at: Millis, change: impl FnOnce(&mut Again)) {
        let (_, again) = self.again.entry(channel.clone()).or_insert((at, Again::default()));
        change(again);
        self.set_due();
    }
}

/// What the node tells.
impl<L: Landing> Owner<'_, L> {
    /// Tells the other nodes which members have joined and left here, and asks them for theirs if
    /// the node may have missed something.
    pub(super) fn tell_members(&mut self, channel: &Channel) {
        let outgoing = self.landing.outgoing(channel, self.id());
        for tidings in outgoing.tidings {
            self.tell_tidings(channel, tidings);
        }
        if outgoing.wants_lists {
            self.handle(Event::MembersWanted(channel.clone()));
        }
    }

    fn id(&self) -> MessageId {
        let (wall, random) = (self.landing.now().wall, rand::random());
        uuid::Builder::from_unix_timestamp_millis(wall, &random).into_uuid()
    }

    fn tell_tidings(&mut self, channel: &Channel, tidings: Tidings) {
        let body = Body::Tidings(Told { channel: channel.clone(), tidings });
        // The parts of a list fit into a message, whatever the names are.
        let Some(parcel) = Parcel::new(ChannelHash::of(channel), body, None) else { return };
        self.presence.last += 1;
        let token = TIDINGS | self.presence.last;
        let publish = parcel.publish(token, self.patience, (false, None));
        self.presence.flying.insert(token, channel.clone());
        self.parcels.insert(token, parcel);
        self.handle(Event::Publish(publish));
    }

    /// Takes what became of tidings. Returns false if the token is that of a publication.
    pub(super) fn tidings_settled(&mut self, token: u64, published: Published) -> bool {
        if token & TIDINGS == 0 {
            return false;
        }
        self.parcels.remove(&token);
        if let Some(channel) = self.presence.flying.remove(&token)
            && !matches!(published, Published::Stored { .. } | Published::Late(_))
        {
            let at = self.landing.now().monotonic() + PRESENCE_AGAIN_MS;
            self.presence.later(&channel, at, |again| again.tells = true);
        }
        true
    }

    /// Tells that all starts of a node but this one have ended, in the log and to the channels of
    /// its members. The first node by name does so at once, the others if that one does not know
    /// their channels.
    pub(super) fn ended(&mut self, node: NodeName, living: Option<Incarnation>) {
        self.note_other(&node, living);
        let wait = if self.cluster.is_first() { 0 } else { PRESENCE_YIELD_MS };
        let at = self.landing.now().monotonic() + wait;
        self.presence.ended.push((at, node, living));
        self.presence.set_due();
    }

    fn tell_ended(&mut self, node: &NodeName, living: Option<Incarnation>) {
        let living = living.map(|living| living.0);
        for (channel, life) in self.landing.members_of(node.as_str(), living) {
            let (id, at) = (self.id(), self.landing.now().wall);
            let tidings = Tidings::new(0, id, at, News::Gone(life));
            self.tell_tidings(&channel, tidings);
        }
    }

    /// Tells that this start of the node ends, for members that have not left by themselves.
    pub(super) fn tell_end(&mut self) {
        while self.interests() {}
        let me = self.me.node.clone();
        self.tell_ended(&me, None);
    }
}

/// What the node asks and hears.
impl<L: Landing> Owner<'_, L> {
    /// Asks these nodes for their members of a channel.
    pub(super) fn ask_members(&mut self, channel: Channel, up_to: Seq, claimants: Claimants) {
        let Claimants { nodes, is_proven } = claimants;
        let silent: Vec<_> = nodes.iter().map(Origin::life).collect();
        let mut all = silent.clone();
        all.push(self.me.life());
        let asked = self.landing.now().monotonic();
        let question = Question {
            channel,
            waits: Some(up_to),
            silent,
            all: is_proven.then_some(all),
            is_for_all: true,
            asked,
        };
        self.ask_nodes(question, nodes.iter().map(|one| &one.node));
    }

    fn ask_nodes<'n>(&mut self, question: Question, nodes: impl Iterator<Item = &'n NodeName>) {
        self.presence.last += 1;
        let number = self.presence.last;
        let body = AskMembers(ChannelHash::of(&question.channel)).encode();
        let reply = self.parts.subjects.members(number);
        for node in nodes {
            let subject = self.parts.subjects.ask(node);
            self.tell(&subject, Some(&reply), body.as_bytes());
        }
        self.presence.questions.insert(number, question);
        self.go_on_without(number);
        self.presence.set_due();
    }

    /// Answers a node that asks for the list of this node's members.
    pub(super) fn members_asked(&mut self, reply: &str, question: AskMembers) {
        if !self.parts.subjects.is_of_node(reply) {
            return;
        }
        let Some(channel) = self.cluster.channel(question.0).cloned() else {
            // The node does not have the channel any more. It has told that its members left.
            let absent = AskMembers::absent(&self.me);
            self.tell(reply, None, absent.as_bytes());
            return;
        };
        let id = self.id();
        for tidings in self.landing.members(&channel, id) {
            let told = Told { channel: channel.clone(), tidings };
            if let Some(body) = told.encode(Some(&self.me)) {
                self.tell(reply, None, &body);
            }
        }
    }

    /// Takes an answer with a node's members.
    pub(super) fn members_told(&mut self, number: u64, message: &protocol::Message) {
        let body = message.payload();
        if let Some(from) = AskMembers::is_absent(&body) {
            self.answered(number, &from);
            return;
        }
        let Some((from, told)) = Told::answer(&body) else { return };
        let Some(question) = self.presence.questions.get(&number) else { return };
        if question.channel != told.channel {
            return;
        }
        let heard = self.landing.told(&told.channel, &from.life(), &told.tidings);
        self.heard(&told.channel, &from, heard);
        if let News::List { part, parts, .. } = &told.tidings.news
            && part + 1 == *parts
        {
            self.answered(number, &from);
        }
    }

    /// Notes that a node has answered a question.
    fn answered(&mut self, number: u64, from: &Origin) {
        if let Some(question) = self.presence.questions.get_mut(&number) {
            question.silent.retain(|one| &*one.node != from.node.as_str());
        }
        self.go_on_without(number);
        self.presence.set_due();
    }

    /// Takes tidings of the stream.
    pub(super) fn tidings(&mut self, from: &Origin, told: &Told) {
        let Told { channel, tidings } = told;
        let heard = self.landing.told(channel, &from.life(), tidings);
        self.heard(channel, from, heard);
        if let News::Gone(life) = &tidings.news
            && *life == self.me.life()
            && self.leaves_at.is_none()
        {
            // The others took this node for dead.
            self.landing.tell_list(channel);
        }
    }

    fn heard(&mut self, channel: &Channel, from: &Origin, heard: Heard) {
        if heard.is_behind {
            self.catching.note(channel, &self.parts.counters);
        }
        let is_own = *from == self.me;
        let life = from.life();
        let is_asked = self
            .presence
            .questions
            .values()
            .any(|one| one.channel == *channel && one.silent.contains(&life));
        if heard.is_doubtful && !is_own && !is_asked {
            let asked = self.landing.now().monotonic();
            let question = Question {
                channel: channel.clone(),
                waits: None,
                silent: vec![life],
                all: None,
                is_for_all: false,
                asked,
            };
            self.ask_nodes(question, std::iter::once(&from.node));
        }
    }

    /// Lets the attach of a channel go on if all nodes have answered, or if the time is over.
    fn go_on_without(&mut self, number: u64) {
        let now = self.landing.now().monotonic();
        let Some(question) = self.presence.questions.get_mut(&number) else { return };
        let is_whole = question.silent.is_empty();
        let is_late = question.asked + PRESENCE_ANSWER_MS <= now;
        let is_over = is_whole || question.asked + PRESENCE_LATE_MS <= now;
        let waits = if is_whole || is_late { question.waits.take() } else { None };
        let is_told = question.is_for_all && (waits.is_some() || is_whole);
        let (channel, all) = (question.channel.clone(), question.all.clone());
        if is_told {
            let is_partial = !is_whole || all.is_none();
            let id = self.id();
            let heard = self.landing.listed(&channel, all.as_deref(), is_partial, id);
            if heard.is_behind {
                self.catching.note(&channel, &self.parts.counters);
            }
            if is_partial {
                let at = now + PRESENCE_AGAIN_MS;
                self.presence.later(&channel, at, |again| again.asks = true);
            }
        }
        if let Some(up_to) = waits {
            self.events.push_back(Event::Seeded(channel, up_to));
        }
        if is_over {
            self.presence.questions.remove(&number);
        }
    }

    /// Does what is due.
    pub(super) fn look_at_presence(&mut self, now: Millis) {
        if self.presence.due == 0 || now < self.presence.due {
            return;
        }
        let numbers: Vec<_> = self.presence.questions.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.go_on_without(number));
        let is_due = |(at, ..): &mut (Millis, _, _)| *at <= now;
        let ended: Vec<_> = self.presence.ended.extract_if(.., is_due).collect();
        for (_, node, living) in ended {
            self.tell_ended(&node, living);
        }
        // Without a stream to tell or ask, that waits a little longer.
        let serves = self.cluster.condition(now).is_serving();
        let due = self.presence.again.extract_if(.., |_, (at, _)| *at <= now);
        let due: Vec<_> = due.collect();
        for (channel, (_, again)) in due {
            if !serves {
                let at = now + PRESENCE_AGAIN_MS;
                self.presence.later(&channel, at, |one| *one = again);
                continue;
            }
            if again.tells {
                self.landing.tell_list(&channel);
            }
            if again.asks && self.cluster.wants(ChannelHash::of(&channel)) {
                self.handle(Event::MembersWanted(channel));
            }
        }
        self.presence.set_due();
        if let Some(event) = self.events.pop_front() {
            self.handle(event);
        }
    }
}
