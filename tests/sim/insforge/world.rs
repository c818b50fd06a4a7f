//! Workers with their clients and publishers, and the model of what each client hears.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fanfare::auth::{UserClaims, sign_user};
use fanfare::broker::definitions::Definitions;
use fanfare::broker::directory::Published;
use fanfare::broker::publish::Submission;
use fanfare::interface::{Session, Shared, insforge};
use fanfare::message::{
    Channel, ChannelDefinition, ChannelOptions, Content, Encoding, Member, MessageId, Now,
    PresenceMode, Refused, SOCKET_ID_BYTES, Sender, SlowConsumer,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use uuid::Uuid;

use super::client::{Asked, Client, Command, Seen};
use super::room::Room;
use super::{CHANNELS, CONNECTIONS, Step, Terms};
use crate::frames::{Line, TEXT};
use crate::node::{API_KEY, Node, SECRET};
use crate::stream::Due;
use crate::turns::{Desk, Seat as Seated, Stage, Turns, desks, ghosts};
use crate::window::Window;
use crate::worlds::{Place, at, fill, places};

pub(super) struct World {
    pub(super) node: Node,
    terms: Terms,
    desks: Vec<Desk<Seat>>,
    rooms: [Room; CHANNELS],
    /// Milliseconds, by both clocks.
    now: u64,
    published: u64,
    asked: u64,
    calls: u64,
    /// The source of the keys of sessions.
    random: StdRng,
    /// Whether a connection or a stay in the namespace has ended, perhaps with unread frames.
    has_any_left: bool,
}

pub(super) struct Seat {
    line: Line,
    client: Client,
    /// The data of the client's CONNECT packet.
    auth: String,
    /// The channels whose audience includes the client, with the encoding of its last subscribe.
    counted: HashMap<usize, Encoding>,
    /// How many activations and deactivations of it are in the mailbox, by channel.
    pending: HashMap<usize, usize>,
}

fn channel(number: usize) -> Channel {
    Channel::from(format!("channel:{number}").as_str())
}

/// Returns the number of the channel with this name.
pub(super) fn number(channel: &str) -> usize {
    channel["channel:".len()..].parse().expect("made by `channel`")
}

/// Returns the payload of a publication, as JSON text.
fn payload(number: u64, is_large: bool) -> String {
    let fill = fill(is_large);
    format!(r#"{{"n":{number},"fill":"{fill}"}}"#)
}

fn definition(number: usize, options: ChannelOptions) -> ChannelDefinition {
    ChannelDefinition {
        id: Uuid::from_u128(number as u128),
        pattern: format!("channel:{number}"),
        description: None,
        webhook_urls: None,
        enabled: true,
        options: ChannelOptions { ephemeral: true, ..options },
        created_at: 0,
        updated_at: 0,
    }
}

/// Replaces the definitions of all channels by definitions with these options.
pub(super) fn define(shared: &Shared, options: [ChannelOptions; CHANNELS]) {
    let all = options.into_iter().enumerate();
    let all = all.map(|(number, options)| definition(number, options)).collect();
    let definitions = shared.broker.definitions.load().replaced_by(all);
    shared.broker.definitions.store(Arc::<Definitions>::new(definitions));
}

/// Publishes an event with its payload on a channel, as a back end does.
pub(super) fn publish(
    shared: &Shared,
    number: u64,
    (to, event, payload): (usize, &str, String),
    options: ChannelOptions,
    now: Now,
) -> Result<Published, Refused> {
    let content =
        Content::Message { event: event.into(), payload: payload.into(), sender: Sender::System };
    let published = shared.publish(Submission {
        channel: channel(to),
        content,
        options,
        id: MessageId::from_u128(number.into()),
        now,
        is_recoverable: shared.recovery.is_some(),
        history: None,
        repeat: None,
    });
    published.map(|(_, published)| published)
}

/// Returns the CONNECT data of a client. Two clients of a worker share a user, the others have the
/// API key.
fn auth(worker: usize, slot: usize) -> String {
    if slot >= 2 {
        return format!(r#"{{"apiKey":"{API_KEY}"}}"#);
    }
    let sub = format!("user-{worker}");
    let token = sign_user(SECRET, &UserClaims { sub: &sub, ..UserClaims::default() });
    format!(r#"{{"token":"{}"}}"#, token.expect("the secret is long enough"))
}

impl Seated for Seat {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }
}

impl World {
    pub(super) fn new(terms: Terms) -> Self {
        let node = Node::new(terms.places, |_| ());
        let now = 1_000;
        let desks = desks(&node, now);
        let rooms = Default::default();
        let (published, asked, calls, has_any_left) = (0, 0, 0, false);
        let random = StdRng::seed_from_u64(0);
        let mut world =
            Self { node, terms, desks, rooms, now, published, asked, calls, random, has_any_left };
        world.define();
        for (worker, slot) in places(CONNECTIONS) {
            let seat = world.seat(worker, auth(worker, slot));
            world.desks[worker].seats.push(seat);
        }
        world
    }

    /// Runs these steps, and checks that each client has heard what it should.
    pub(super) fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
            self.node.check_places();
        }
        self.check();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish { channel, event, is_large, times } => {
                (0..times).for_each(|_| self.publish(channel, event, is_large));
            }
            Step::Say { place: (worker, slot), channel, event } => {
                self.say(worker, slot, channel, event);
            }
            Step::Join { place: (worker, slot), channel, encoding } => {
                self.join(worker, slot, channel, encoding);
            }
            Step::Leave { place: (worker, slot), channel } => self.leave(worker, slot, channel),
            Step::Disconnect { place: (worker, slot) } => self.disconnect(worker, slot),
            Step::Close { place, is_said } => self.close(place, is_said),
            Step::Define { channel, options } => self.define_as(channel, options),
            Step::Read { place, bytes } => self.read(place, bytes),
            Step::Pass { millis, is_swept } => self.pass(millis, is_swept),
            Step::Turn { worker, mail } => self.turn(worker, mail),
        }
    }

    /// Changes the options of a channel as an administrator.
    pub(super) fn define_as(&mut self, channel: usize, options: ChannelOptions) {
        self.rooms[channel].options = options;
        self.define();
    }

    fn define(&self) {
        let options = std::array::from_fn(|number| self.rooms[number].options);
        define(&self.node.hub.interfaces, options);
    }
}

/// Publications of back ends and clients.
impl World {
    /// Publishes a message as a back end.
    pub(super) fn publish(&mut self, number: usize, event: usize, is_large: bool) {
        self.published += 1;
        let payload = payload(self.published, is_large);
        let bytes = payload.len();
        let (before, options) = (self.node.all_waiting(), self.rooms[number].options);
        let event = (number, ["e0", "e1", "e2"][event], payload);
        let shared = &self.node.hub.interfaces;
        let published = publish(shared, self.published, event, options, at(self.now));
        let Ok(published) = published else {
            return assert_eq!(before, self.node.all_waiting(), "refused whole");
        };
        let ghosts = ghosts(&self.desks, number);
        let counted = self.accepted(number, bytes);
        let audience = published.audience.total() as usize;
        assert!((counted..=counted + ghosts).contains(&audience), "the audience is the truth");
    }

    /// Publishes a message as a client, if it is subscribed to the channel.
    fn say(&mut self, worker: usize, slot: usize, number: usize, event: usize) {
        if !self.desks[worker].seats[slot].counted.contains_key(&number) {
            return;
        }
        self.published += 1;
        let payload = payload(self.published, false);
        let bytes = payload.len();
        let arguments = format!(r#""event":"e{event}","payload":{payload}"#);
        if self.command(worker, slot, ("realtime:publish", number, &arguments), Command::Publish) {
            self.accepted(number, bytes);
        }
        self.settle_call();
    }

    /// Expects the publication that was just accepted at all clients in the channel's audience.
    /// Returns their number.
    fn accepted(&mut self, number: usize, bytes: usize) -> usize {
        let room = &mut self.rooms[number];
        let options = room.options;
        room.window.push(self.published, bytes, self.now, options.retain.seconds());
        let may_be_lost = options.slow_consumer != SlowConsumer::Close;
        let (published, call) = (self.published, self.calls);
        let seats = self.desks.iter_mut().flat_map(|desk| &mut desk.seats);
        let mut counted = 0;
        for Seat { client, counted: channels, .. } in seats {
            let Some(encoding) = channels.get(&number) else { continue };
            let heard = Seen::Heard(published, *encoding);
            client.streams.expect(number, Due { heard, may_be_lost, call });
            counted += 1;
        }
        counted
    }
}

/// Commands of clients, and ends of their connections.
impl World {
    /// Sends a command as a client, and returns whether it was accepted. An accepted command posts
    /// mail, except an unsubscribe without a subscription.
    fn command(
        &mut self,
        worker: usize,
        slot: usize,
        (name, number, arguments): (&str, usize, &str),
        what: Command,
    ) -> bool {
        self.asked += 1;
        let ack = self.asked;
        let comma = if arguments.is_empty() { "" } else { "," };
        let argument = format!(r#"{{"channel":"channel:{number}"{comma}{arguments}}}"#);
        let packet = format!(r#"42{ack}["{name}",{argument}]"#);
        let Desk { id, worker, seats, .. } = &mut self.desks[worker];
        let Seat { line, client, counted, pending, .. } = &mut seats[slot];
        worker.at(at(self.now));
        let before = self.node.waiting(*id);
        line.send(worker, TEXT, packet.as_bytes());
        // If no subscription exists or is under way, the answer needs no mail.
        let is_idle =
            !counted.contains_key(&number) && pending.get(&number).is_none_or(|n| *n == 0);
        let is_accepted = match what {
            Command::Unsubscribe(_) if is_idle => true,
            _ => self.node.waiting(*id) > before,
        };
        client.asks(ack, Asked { what, is_accepted });
        is_accepted
    }

    pub(super) fn join(&mut self, worker: usize, slot: usize, number: usize, encoding: Encoding) {
        let name = match encoding {
            Encoding::Documented => "REALTIME_SUBSCRIBE",
            _ => "realtime:subscribe",
        };
        let what = Command::Subscribe(number);
        let is_accepted = self.command(worker, slot, (name, number, ""), what);
        let seat = &mut self.desks[worker].seats[slot];
        if is_accepted {
            let is_new = seat.counted.insert(number, encoding).is_none();
            *seat.pending.entry(number).or_default() += 1;
            self.meet(Some((worker, slot)));
            let room = &self.rooms[number];
            let (named, present) = room.present();
            let subscribed = Seen::Subscribed { ack: self.asked, named, present };
            let seconds = if is_new { room.options.retain.seconds() } else { 0 };
            let replay = room.window.replay(seconds, None, self.now);
            let replay = replay.into_iter().map(|one| (Seen::Heard(one, encoding), true));
            let client = &mut self.desks[worker].seats[slot].client;
            for (heard, may_be_lost) in [(subscribed, false)].into_iter().chain(replay) {
                client.streams.expect(number, Due { heard, may_be_lost, call: self.calls });
            }
        }
        self.settle_call();
    }

    fn leave(&mut self, worker: usize, slot: usize, number: usize) {
        let what = Command::Unsubscribe(number);
        let name = ("realtime:unsubscribe", number, "");
        let before = self.node.waiting(self.desks[worker].id);
        if self.command(worker, slot, name, what) {
            let is_posted = self.node.waiting(self.desks[worker].id) > before;
            let seat = &mut self.desks[worker].seats[slot];
            seat.counted.remove(&number);
            *seat.pending.entry(number).or_default() += usize::from(is_posted);
            let heard = Seen::Unsubscribed { ack: self.asked };
            seat.client.streams.expect(number, Due { heard, may_be_lost: false, call: self.calls });
        }
        self.settle_call();
    }

    /// Lets a client leave the namespace and enter it again, on the same connection.
    fn disconnect(&mut self, worker: usize, slot: usize) {
        let Desk { worker: there, seats, .. } = &mut self.desks[worker];
        let Seat { line, client, auth, .. } = &mut seats[slot];
        client.streams.check_so_far();
        self.has_any_left = true;
        client.enters();
        there.at(at(self.now));
        line.send(there, TEXT, b"41");
        line.id = there.ids().find(|id| id.slot == line.id.slot).expect("its connection stays");
        let packet = format!("40{auth}");
        line.send(there, TEXT, packet.as_bytes());
        seats[slot].pending.clear();
        self.uncount(worker, slot);
        self.settle_call();
    }

    /// Connects a new client, with this data in its CONNECT packet.
    fn seat(&mut self, worker: usize, auth: String) -> Seat {
        let Desk { id, worker, .. } = &mut self.desks[worker];
        let (app, now) = (insforge::App::Insforge, at(self.now));
        let timings = &self.node.hub.interfaces.timings;
        let session = insforge::Session::websocket(app, now, timings, &mut self.random);
        let connection = self.node.open(worker, *id, Session::Insforge(session));
        let line = Line::new(connection, self.terms.reads);
        line.send(worker, TEXT, format!("40{auth}").as_bytes());
        let mut client = Client::default();
        client.enters();
        let (counted, pending) = (HashMap::new(), HashMap::new());
        Seat { line, client, auth, counted, pending }
    }

    /// Moves the subscriptions of an ended session to the ghosts, because the directory may still
    /// count them.
    fn uncount(&mut self, worker: usize, slot: usize) {
        let desk = &mut self.desks[worker];
        for (number, _) in std::mem::take(&mut desk.seats[slot].counted) {
            desk.haunt(number);
        }
    }
}

impl Turns for World {
    type Seat = Seat;

    const GOODBYE: (u8, &'static [u8]) = (TEXT, b"1");

    fn stage(&mut self) -> Stage<'_, Seat> {
        Stage { node: &self.node, desks: &mut self.desks, now: &mut self.now }
    }

    fn windows(&mut self) -> impl Iterator<Item = &mut Window> {
        self.rooms.iter_mut().map(|room| &mut room.window)
    }

    fn comes_up(&mut self, (worker, slot): Place, channel: &Channel) {
        let Seat { pending, .. } = &mut self.desks[worker].seats[slot];
        *pending.get_mut(&number(channel.as_str())).expect("it was posted") -= 1;
    }

    fn hear(&mut self, worker: usize) {
        for Seat { line, client, .. } in &mut self.desks[worker].seats {
            line.heard().into_iter().for_each(|frame| client.take(frame));
        }
    }

    /// Replaces the connections that have ended, and expects the announcements of their members.
    fn settle_call(&mut self) {
        self.desks.iter_mut().for_each(|desk| desk.worker.reap());
        let mut gone = Vec::new();
        for (worker, slot) in places(CONNECTIONS) {
            let Desk { worker: there, seats, .. } = &mut self.desks[worker];
            let Seat { line, counted, .. } = &seats[slot];
            match there.link(line.id) {
                Some(link) => {
                    assert_eq!(usize::from(link.subscribed), counted.len(), "node and model agree");
                }
                None => gone.push((worker, slot)),
            }
        }
        for (worker, slot) in &gone {
            self.desks[*worker].seats[*slot].client.streams.check_so_far();
            self.has_any_left = true;
            self.uncount(*worker, *slot);
        }
        self.meet(None);
        for (worker, slot) in gone {
            let auth = std::mem::take(&mut self.desks[worker].seats[slot].auth);
            self.desks[worker].seats[slot] = self.seat(worker, auth);
        }
        self.calls += 1;
    }
}

impl World {
    /// Compares the members with those of the last call. All subscribers except the joining client
    /// expect announcements of the members that came or went.
    fn meet(&mut self, joining: Option<(usize, usize)>) {
        for number in 0..CHANNELS {
            let present = self.node.hub.interfaces.broker.directory.present(&channel(number));
            let members = present.iter().flat_map(|(snapshot, _)| &*snapshot.members);
            let text = |one: &Member| one.id.text(&mut [0; SOCKET_ID_BYTES]).into();
            let members: BTreeSet<Box<str>> = members.map(text).collect();
            let room = &mut self.rooms[number];
            let before = std::mem::replace(&mut room.members, members.clone());
            if room.options.presence != PresenceMode::Full {
                continue;
            }
            let came = members.difference(&before).cloned().map(Seen::Came);
            let went = before.difference(&members).cloned().map(Seen::Went);
            let all: Vec<Seen> = came.chain(went).collect();
            for ((worker, slot), seen) in
                places(CONNECTIONS).flat_map(|place| all.iter().map(move |seen| (place, seen)))
            {
                let seat = &mut self.desks[worker].seats[slot];
                if joining != Some((worker, slot)) && seat.counted.contains_key(&number) {
                    let due = Due { heard: seen.clone(), may_be_lost: false, call: self.calls };
                    seat.client.streams.expect(number, due);
                }
            }
        }
    }

    /// Comes to rest, and checks that each client has heard exactly what the calls promised.
    pub(super) fn check(&mut self) {
        self.settle();
        let mut missing = 0;
        for Seat { line, client, .. } in self.desks.iter().flat_map(|desk| &desk.seats) {
            assert!(line.is_between_frames(), "the last frame is whole");
            missing += client.check();
        }
        let metrics = &self.node.hub.metrics;
        let lost = metrics.sum(|one| &one.dropped_oldest)
            + metrics.sum(|one| &one.dropped_replay)
            + metrics.sum(|one| &one.conflated);
        assert!(self.has_any_left || missing == lost, "{lost} are lost and {missing} missing");
        self.check_end();
    }
}
