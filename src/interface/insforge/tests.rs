//! Sessions as values, on a real broker with real mailboxes.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use uuid::Uuid;

use super::detached::Resuming;
use super::engineio::decode_id;
use super::violation::Violation;
use super::{App, Session};
use crate::auth::{Keys, UserClaims, sign_user};
use crate::broker::definitions::Definitions;
use crate::broker::directory::Directory;
use crate::broker::link::Link;
use crate::broker::policies::Policies;
use crate::broker::publish::Broker;
use crate::codec::websocket::payload;
use crate::config::{Config, Recovery};
use crate::interface::authenticators::{AUDIENCES, Authenticators};
use crate::interface::context::{Context, Local};
use crate::interface::frame::Frame;
use crate::interface::heartbeat::Timings;
use crate::interface::m2::access::Terms;
use crate::interface::next::{Next, OfferStep, Offered, Reason};
use crate::interface::shared::Shared;
use crate::mailbox::{
    AcceptorId, Inboxes, Mail, Mailboxes, Pending, PollRefusal, PollTicket, Polled, Slot, Tickets,
};
use crate::message::{
    Activation, ChannelDefinition, ChannelOptions, ConnId, Judgement, Millis, Now, Permissions,
    Policy, PolicyCommand, Publication, Refused, SessionId, Verdict, WorkerId,
};
use crate::metrics::Metrics;

const SECRET: &str = "a secret that is long enough for the node to take it as one";
const TIMINGS: Timings = Timings {
    ping_interval_ms: 25_000,
    ping_timeout_ms: 20_000,
    connect_timeout_ms: 45_000,
    upgrade_timeout_ms: 10_000,
};
const WORKER: WorkerId = WorkerId(0);
/// When the tests begin, in milliseconds since the epoch.
const START: Millis = 1_777_136_400_000;
const CONNECT: &str = r#"40{"apiKey":"ik_key"}"#;

/// A worker with one connection at a time, that takes its mail as the runtime does.
struct Room {
    shared: Shared,
    local: Local,
    inboxes: Inboxes,
    link: Link<Frame>,
    id: ConnId,
    now: Now,
    tickets: &'static Tickets,
    polls: Vec<(u32, Pending<'static, Result<Polled, PollRefusal>>)>,
}

fn definition(pattern: &str, options: ChannelOptions) -> ChannelDefinition {
    ChannelDefinition {
        id: Uuid::nil(),
        pattern: pattern.into(),
        description: None,
        webhook_urls: None,
        enabled: true,
        options,
        created_at: 0,
        updated_at: 0,
    }
}

fn link() -> Link<Frame> {
    let (socket, _) = UnixStream::pair().unwrap();
    Link::new(Some(OwnedFd::from(socket)))
}

impl Room {
    fn new() -> Self {
        Self::with(Permissions::default())
    }

    fn with(permissions: Permissions) -> Self {
        let (mailboxes, inboxes) = Mailboxes::new(1, 1, 64).unwrap();
        let tickets = Tickets::new(AcceptorId(0), mailboxes.acceptors[0].clone());
        let (tickets, polls): (&Tickets, _) = (Box::leak(Box::new(tickets)), Vec::new());
        let options = ChannelOptions { ephemeral: true, ..ChannelOptions::default() };
        let mut config = Config::defaults();
        config.auth.close_expired = true;
        config.engine_io = TIMINGS;
        config.recovery = Recovery { window_ms: 60_000, log_bytes: 1_000_000 };
        let broker = Broker {
            directory: Directory::default(),
            definitions: ArcSwap::from_pointee(Definitions::new(vec![definition("c*", options)])),
            policies: Arc::new(ArcSwap::from_pointee(Policies::new(permissions))),
            mailboxes: Arc::new(mailboxes),
        };
        let shared = Shared::new(broker, Arc::new(config), 7);
        let keys = Arc::new(Keys::new("ik_key", "anon_key", SECRET, &AUDIENCES).unwrap());
        let auth = Authenticators::new(keys, 60, Terms::new(false, None));
        let random = StdRng::seed_from_u64(1);
        let local = Local::new(WORKER, &shared, auth, Metrics::new(1).thread(0), random);
        let id = ConnId { worker: WORKER, slot: 0, generation: 0 };
        let now = Now { nanos: 0, wall: START };
        Self { shared, local, inboxes, link: link(), id, now, tickets, polls }
    }

    fn session(&mut self) -> Session {
        Session::websocket(App::Insforge, self.now, &TIMINGS, &mut self.local.random)
    }

    fn polling(&mut self) -> Session {
        self.link.socket = None;
        Session::polling(App::Insforge, self.now, &TIMINGS, &mut self.local.random)
    }

    /// Gives the room another connection.
    fn reconnect(&mut self) -> Session {
        self.id.slot += 1;
        self.link = link();
        self.session()
    }

    fn pass(&mut self, time: Millis) {
        self.now.nanos += time * 1_000_000;
        self.now.wall += time;
    }

    fn ctx(&mut self) -> Context<'_> {
        let Self { shared, local, link, id, now, .. } = self;
        Context { id: *id, now: *now, link, local, shared }
    }

    fn try_text(&mut self, session: &mut Session, text: &str) -> Result<Next, Violation> {
        session.on_text(&mut self.ctx(), text)
    }

    /// Has the session act on a packet that asks for nothing.
    fn text(&mut self, session: &mut Session, text: &str) {
        assert!(self.try_text(session, text).unwrap().is_stay(), "{text}");
    }

    /// Takes the packets out of the outbox.
    fn sent(&mut self) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some(frame) = self.link.outbox.pop(&mut self.local.outboxes.spares) {
            sent.push(String::from_utf8(payload(frame.as_ref()).to_vec()).unwrap());
        }
        sent
    }

    /// Takes the mail, for this connection and for the log.
    fn take_mail(&mut self, session: &mut Session) {
        while let Some(mail) = self.inboxes.workers[0].take(Mail::slot) {
            match mail {
                Mail::Activate(activation) => self.activate(session, *activation),
                Mail::Deactivate(it) => {
                    self.local.index.deactivate(&mut self.link.subscriptions, &it.channel);
                    session.on_left(&mut self.ctx(), &it.channel, it.reply);
                }
                Mail::Deliver(it) => self.deliver(&it.publication),
                Mail::Recover(id) if id == self.id => session.on_resumed(&mut self.ctx()),
                Mail::Verdict(verdict) => {
                    self.local.authorizer.learn(*verdict, &self.local.counters);
                    while self.local.authorizer.next_ready().is_some() {
                        assert!(session.on_verdict(&mut self.ctx()));
                    }
                }
                mail => panic!("unexpected: {mail:?}"),
            }
        }
    }

    fn activate(&mut self, session: &mut Session, activation: Activation) {
        if activation.connection != self.id || activation.comes_back {
            return;
        }
        let (first, encoding) = (self.link.subscriptions, activation.encoding);
        self.local.index.activate(first, &activation.channel, encoding);
        session.on_joined(&mut self.ctx(), activation);
    }

    /// Fans a publication out; announcements of presence are left out.
    fn deliver(&mut self, publication: &Arc<Publication>) {
        if !publication.is_recoverable {
            return;
        }
        let detached = self.local.detached.as_mut().expect("recovery is on");
        let position = detached.log.heard(publication.clone(), self.now.monotonic());
        for &encoding in publication.channel.encodings() {
            let listeners = self.local.index.listeners(&publication.channel, encoding);
            if listeners.iter().any(|listener| listener.connection == self.id.slot) {
                self.ctx().deliver(publication, encoding);
                self.link.mark_sent((position, publication.id));
            }
        }
    }

    /// Ends the connection as the runtime does.
    fn end(&mut self, session: &mut Session, reason: Reason) {
        let id = self.id;
        session.on_end(&mut self.ctx(), reason);
        if let Some(subscriber) = session.subscriber(id) {
            self.ctx().leave_all(&subscriber, 0);
        }
    }

    /// A ticket of the acceptor's, whose answer [`Room::answers`] finds under `number`.
    fn ticket(&mut self, number: u32) -> PollTicket {
        let inquiry = self.tickets.inquiry().expect("there are places");
        let (ticket, pending) = inquiry.put(Ok::<_, Refused>).expect("it is taken");
        self.polls.push((number, pending));
        ticket
    }

    fn answers(&mut self) -> Vec<(u32, Result<Polled, PollRefusal>)> {
        while let Some(answer) = self.inboxes.acceptors[0].take(|_| Slot::Control) {
            self.tickets.settle(answer);
        }
        let answers = self.polls.iter_mut();
        answers.filter_map(|(number, pending)| Some((*number, pending.take()?))).collect()
    }

    fn payloads(&mut self) -> Vec<(u32, String)> {
        let text = |body| match body {
            Ok(Polled::Payload(payload)) => String::from_utf8(payload).unwrap(),
            body => panic!("unexpected: {body:?}"),
        };
        self.answers().into_iter().map(|(slot, body)| (slot, text(body))).collect()
    }
}

/// The data of a CONNECT packet with the token of a user, and what `more` adds.
fn user(name: &str, expires_s: u64, more: &str) -> String {
    let claims =
        UserClaims { sub: name, email: None, role: Some("authenticated"), exp: Some(expires_s) };
    let token = sign_user(SECRET, &claims).unwrap();
    format!(r#"40{{"token":"{token}"{more}}}"#)
}

/// When tokens of the tests expire, in seconds since the epoch.
const LATER: u64 = START / 1_000 + 3_600;

fn is_closed(next: &Next, reason: Reason) -> bool {
    matches!(next, Next::Close(close) if close.reason == reason && close.code.is_none())
}

/// A value between quotes that stands behind `key` in a packet.
fn value<'a>(packet: &'a str, key: &str) -> &'a str {
    let (_, rest) = packet.split_once(&format!(r#""{key}":""#)).expect("it is there");
    rest.split_once('"').expect("it ends").0
}

#[test]
fn a_client_subscribes_publishes_and_unsubscribes() {
    let mut room = Room::new();
    let mut session = room.session();
    assert!(session.on_open(&mut room.ctx()).is_stay());
    let opening = room.sent().remove(0);
    let id = decode_id(value(&opening, "sid"));
    assert_eq!(id, Some(SessionId { worker: WORKER, slot: 0, key: *session.key() }));
    room.text(&mut session, CONNECT);
    assert!(room.sent()[0].starts_with(r#"40{"sid":""#));
    room.text(&mut session, r#"421["realtime:publish",{"channel":"c","event":"e","payload":1}]"#);
    assert!(room.sent()[0].contains("REALTIME_NOT_SUBSCRIBED"));
    room.text(&mut session, r#"422["realtime:subscribe",{"channel":"c"}]"#);
    assert!(room.sent().is_empty(), "it is acknowledged when its activation comes up");
    room.take_mail(&mut session);
    assert!(room.sent()[0].starts_with(r#"432[{"ok":true,"channel":"c""#));
    room.text(&mut session, r#"423["realtime:publish",{"channel":"c","event":"e","payload":{}}]"#);
    let sent = room.sent();
    assert!(sent[0].starts_with(r#"433[{"ok":true,"messageId":"#), "{sent:?}");
    room.take_mail(&mut session);
    assert_eq!(value(&room.sent()[0], "messageId"), value(&sent[0], "messageId"));
    room.text(&mut session, r#"424["realtime:unsubscribe",{"channel":"c"}]"#);
    room.text(&mut session, r#"425["realtime:unsubscribe",{"channel":"c"}]"#);
    room.take_mail(&mut session);
    room.text(&mut session, r#"426["realtime:unsubscribe",{"channel":"c"}]"#);
    let acknowledged = [r#"434[{"ok":true}]"#, r#"435[{"ok":true}]"#, r#"436[{"ok":true}]"#];
    assert_eq!(room.sent(), acknowledged);
    room.text(&mut session, r#"427["realtime:subscribe",{"channel":"unknown"}]"#);
    assert!(room.sent()[0].contains("REALTIME_UNAUTHORIZED"));
    assert_eq!(room.local.counters.publications_socket.get(), 1);
    assert_eq!(room.local.counters.subscriptions.get(), 0);
}

#[test]
fn a_session_may_go_to_another_thread() {
    fn moves<T: Send>(_: &T) {}
    moves(&Room::new().session());
}

#[test]
fn what_breaks_the_protocol_is_a_violation() {
    let mut room = Room::new();
    let mut session = room.session();
    for text in ["", "9", "2", "5", "4", r#"42["realtime:subscribe",{"channel":"c"}]"#, "430[]"] {
        assert!(room.try_text(&mut session, text).is_err(), "{text}");
    }
    assert!(session.on_binary(&mut room.ctx(), b"unannounced").is_err());
    room.text(&mut session, "40/other,");
    assert!(room.sent()[0].contains("Invalid namespace"));
    room.text(&mut session, r#"40{"apiKey":"wrong"}"#);
    assert_eq!(room.sent(), [r#"44{"message":"Invalid API key"}"#]);
    room.text(&mut session, CONNECT);
    assert!(room.try_text(&mut session, CONNECT).is_err());
    room.text(&mut session, r#"451-["realtime:subscribe",{"channel":{"_placeholder":true}}]"#);
    assert!(room.try_text(&mut session, "430[]").is_err());
    assert!(room.try_text(&mut session, "6").unwrap().is_stay());
    let closed = room.try_text(&mut session, "1").unwrap();
    assert!(is_closed(&closed, Reason::Client));
}

#[test]
fn a_client_that_leaves_the_namespace_may_enter_again() {
    let mut room = Room::new();
    let mut session = room.session();
    room.text(&mut session, CONNECT);
    room.text(&mut session, r#"42["realtime:subscribe",{"channel":"c"}]"#);
    room.pass(10);
    assert!(matches!(room.try_text(&mut session, "41").unwrap(), Next::Renew));
    assert!(room.try_text(&mut session, "41").unwrap().is_stay());
    assert_eq!(room.shared.broker.directory.channels(), 0);
    assert!(room.link.resume().is_none() && session.subscriber(room.id).is_none());
    let deadline = session.deadline(room.now, &room.shared);
    assert_eq!(deadline, TIMINGS.ping_interval_ms.min(10 + TIMINGS.connect_timeout_ms));
    room.text(&mut session, CONNECT);
    assert!(room.link.resume().is_some());
}

#[test]
fn time_pings_a_client_and_ends_it() {
    let mut room = Room::new();
    let mut session = room.session();
    room.pass(TIMINGS.ping_interval_ms);
    assert!(session.on_deadline(&mut room.ctx()).is_stay());
    assert_eq!(room.sent(), ["2"]);
    room.text(&mut session, "3");
    room.pass(TIMINGS.connect_timeout_ms - TIMINGS.ping_interval_ms);
    assert!(is_closed(&session.on_deadline(&mut room.ctx()), Reason::ConnectTimeout));

    let mut session = room.reconnect();
    room.text(&mut session, &user("alice", room.now.wall_seconds() + 5, ""));
    let deadline = session.deadline(room.now, &room.shared);
    assert_eq!(deadline, room.now.monotonic() + 5_000);
    room.pass(5_000);
    room.sent();
    assert!(is_closed(&session.on_deadline(&mut room.ctx()), Reason::Expired));
    assert!(room.sent()[0].contains("TOKEN_EXPIRED"));

    let mut session = room.reconnect();
    room.text(&mut session, CONNECT);
    room.pass(TIMINGS.ping_interval_ms + TIMINGS.ping_timeout_ms);
    assert!(is_closed(&session.on_deadline(&mut room.ctx()), Reason::PingTimeout));
}

#[test]
fn a_newer_credential_must_be_of_the_same_identity() {
    let mut room = Room::new();
    let mut session = room.session();
    room.text(&mut session, &user("alice", LATER, ""));
    room.sent();
    for (name, answer) in [("alice", r#""ok":true"#), ("bob", "somebody else's")] {
        let auth = user(name, LATER + 60, "");
        room.text(&mut session, &format!(r#"421["realtime:auth",{}]"#, &auth[2..]));
        assert!(room.sent()[0].contains(answer), "{name}");
    }
    room.text(&mut session, r#"421["realtime:auth",{"token":"x"}]"#);
    assert!(room.sent()[0].contains("the one before stays in force"));
}

/// A client subscribes to `c`, is cut, and misses a publication. Returns its old session and its
/// CONNECT packet.
fn cut(room: &mut Room, is_noticed: bool) -> (Session, String) {
    let mut session = room.session();
    room.text(&mut session, &user("alice", LATER, ""));
    room.text(&mut session, r#"42["realtime:subscribe",{"channel":"c"}]"#);
    room.take_mail(&mut session);
    let sent = room.sent();
    let more = format!(r#","pid":"{}""#, value(&sent[0], "pid"));
    if is_noticed {
        room.end(&mut session, Reason::Client);
    }
    (session, user("alice", LATER, &more))
}

fn publish(room: &mut Room, session: &mut Session) {
    let text = r#"42["realtime:publish",{"channel":"c","event":"missed","payload":{}}]"#;
    room.text(session, text);
}

#[test]
fn a_client_that_was_cut_resumes() {
    let mut room = Room::new();
    let (old, connect) = cut(&mut room, true);
    let mut other = room.reconnect();
    room.text(&mut other, CONNECT);
    room.text(&mut other, r#"42["realtime:subscribe",{"channel":"c"}]"#);
    publish(&mut room, &mut other);
    room.take_mail(&mut other);
    room.end(&mut other, Reason::Protocol);

    let mut session = room.reconnect();
    room.text(&mut session, &connect);
    assert!(room.sent().is_empty(), "its CONNECT is answered when it hears its channels");
    assert!(room.try_text(&mut session, &connect).is_err());
    room.take_mail(&mut session);
    let sent = room.sent();
    assert_eq!(value(&sent[0], "pid"), value(&connect, "pid"));
    assert!(sent[1].contains("missed") && sent[2].contains("presence:sync"), "{sent:?}");
    let members = [old.subscriber(room.id), session.subscriber(room.id)];
    let members = members.map(|subscriber| subscriber.expect("it has entered").member);
    assert_eq!(members[0], members[1]);
    publish(&mut room, &mut session);
    room.take_mail(&mut session);
    assert!(room.sent()[0].contains("missed"));
    assert_eq!(room.local.counters.recovered.get(), 1);
    assert_eq!(room.local.counters.recovered_publications.get(), 1);
}

#[test]
fn a_resuming_client_displaces_its_older_connection_and_no_other() {
    for is_theirs in [true, false] {
        let mut room = Room::new();
        let (mut old, connect) = cut(&mut room, false);
        let older = (room.id, std::mem::replace(&mut room.link, link()));
        let mut session = room.reconnect();
        let next = room.try_text(&mut session, &connect).unwrap();
        let Next::Displace { old: displaced, resuming } = next else { panic!("{next:?}") };
        assert_eq!(displaced, older.0);
        assert!(old.holds(&resuming.credential) && !session.holds(&resuming.credential));
        let newer = (room.id, std::mem::replace(&mut room.link, older.1));
        room.id = older.0;
        room.end(&mut old, Reason::Client);
        (room.id, room.link) = newer;
        displace(&mut room, &mut session, &resuming, is_theirs);
        room.take_mail(&mut session);
        let is_same = value(&room.sent()[0], "pid") == value(&connect, "pid");
        assert_eq!(is_same, is_theirs);
        let counters = &room.local.counters;
        let counted = (counters.recovered.get(), counters.not_recovered.get());
        assert_eq!(counted, (u64::from(is_theirs), u64::from(!is_theirs)));
    }
}

fn displace(room: &mut Room, session: &mut Session, resuming: &Resuming, is_theirs: bool) {
    assert!(session.on_displaced(&mut room.ctx(), resuming, is_theirs).is_stay());
}

#[test]
fn a_session_that_cannot_be_resumed_is_begun_anew() {
    let mut room = Room::new();
    let (_, connect) = cut(&mut room, true);
    let policies = room.shared.broker.policies.load().replaced_by(Permissions::default());
    room.shared.broker.policies.store(Arc::new(policies));
    let mut session = room.reconnect();
    room.text(&mut session, &connect);
    assert_ne!(value(&room.sent()[0], "pid"), value(&connect, "pid"));
    assert_eq!(room.local.counters.not_recovered.get(), 1);
    assert_eq!(room.shared.broker.directory.channels(), 0);

    let mut stranger = room.reconnect();
    let auth = &connect[2..];
    assert!(stranger.on_stayed(&mut room.ctx(), auth).is_stay());
    assert!(room.sent()[0].starts_with("40"));
    assert_eq!(room.local.counters.not_recovered.get(), 2);
}

fn ask(name: &str) -> Policy {
    Policy {
        name: name.into(),
        command: PolicyCommand::Select,
        roles: vec!["public".into()],
        using: Some("channel_name() = 'c'".into()),
        with_check: None,
    }
}

#[test]
fn commands_wait_for_a_verdict_in_their_order() {
    let permissions = Permissions { subscribe: vec![ask("p")], publish: Vec::new() };
    let mut room = Room::with(permissions);
    let mut session = room.session();
    room.text(&mut session, &user("alice", LATER, ""));
    room.sent();
    room.text(&mut session, r#"421["realtime:subscribe",{"channel":"c"}]"#);
    room.text(&mut session, r#"422["realtime:publish",{"channel":"c","event":"e","payload":1}]"#);
    room.text(&mut session, r#"423["realtime:nothing"]"#);
    assert!(room.sent().is_empty());
    assert_eq!(room.local.counters.commands_waiting.get(), 3);
    let question = room.inboxes.policies.try_recv().expect("the policies are asked");
    let verdict = Verdict { question, judgement: Judgement::Allowed };
    room.shared.broker.mailboxes.workers.of(WORKER).answer(Mail::Verdict(Box::new(verdict)));
    room.take_mail(&mut session);
    let sent = room.sent();
    let starts = [r#"432[{"ok":true"#, r#"433[{"ok":false"#, r#"431[{"ok":true"#, "42["];
    assert_eq!(sent.len(), starts.len(), "{sent:?}");
    assert!(sent.iter().zip(starts).all(|(text, start)| text.starts_with(start)), "{sent:?}");
    assert_eq!(room.local.counters.commands_waiting.get(), 0);

    room.text(&mut session, r#"424["realtime:subscribe",{"channel":"c2"}]"#);
    assert_eq!(room.local.counters.commands_waiting.get(), 1);
    room.end(&mut session, Reason::Client);
    assert_eq!(room.local.counters.commands_waiting.get(), 0);
}

#[test]
fn a_poll_waits_for_packets_and_a_second_one_ends_the_session() {
    let mut room = Room::new();
    let mut session = room.polling();
    assert!(session.is_polling() && !session.may_end(false));
    let first = room.ticket(1);
    assert!(session.on_poll(&mut room.ctx(), first).is_stay());
    assert!(room.answers().is_empty() && session.may_end(false) && !session.may_end(true));
    room.text(&mut session, CONNECT);
    session.on_output(&mut room.ctx());
    assert!(matches!(&*room.payloads(), [(1, text)] if text.starts_with("40{")));
    let (second, third) = (room.ticket(2), room.ticket(3));
    assert!(session.on_poll(&mut room.ctx(), second).is_stay());
    assert!(is_closed(&session.on_poll(&mut room.ctx(), third), Reason::Protocol));
    let answers = room.answers();
    assert!(matches!(&*answers, [(3, Err(PollRefusal::BadRequest))]));
    room.end(&mut session, Reason::Protocol);
    assert_eq!(room.payloads(), [(2, "1".into())]);
}

#[test]
fn a_poll_ends_with_a_noop_if_its_client_leaves_and_a_close_if_it_is_made_to() {
    let mut room = Room::new();
    let mut session = room.polling();
    let poll = room.ticket(1);
    assert!(session.on_poll(&mut room.ctx(), poll).is_stay());
    assert!(is_closed(&room.try_text(&mut session, "1").unwrap(), Reason::Client));
    room.end(&mut session, Reason::Client);
    assert_eq!(room.payloads(), [(1, "6".into())]);
    assert!(is_closed(&session.on_poll_gone(), Reason::Client));
}

#[test]
fn a_websocket_takes_a_polling_session_over() {
    let mut room = Room::new();
    let mut session = room.polling();
    let [probe, other] = [1, 2].map(|slot| ConnId { slot, ..room.id });
    let poll = room.ticket(1);
    assert!(session.on_poll(&mut room.ctx(), poll).is_stay());
    let offer = |room: &mut Room, session: &mut Session, probe, step| {
        session.on_offer(&mut room.ctx(), probe, step)
    };
    assert_eq!(offer(&mut room, &mut session, probe, OfferStep::Open), Ok(Offered::Noted));
    assert!(offer(&mut room, &mut session, other, OfferStep::Open).is_err());
    assert!(offer(&mut room, &mut session, probe, OfferStep::Upgrade).is_err());
    assert_eq!(offer(&mut room, &mut session, probe, OfferStep::Probed), Ok(Offered::Probed));
    assert_eq!(room.payloads(), [(1, "6".into())], "the client stops polling");
    session.on_offer_withdrawn(other);
    let step = OfferStep::Upgrade;
    assert_eq!(offer(&mut room, &mut session, probe, step), Ok(Offered::TakeOver));
    assert!(session.take_over().is_none());
    assert!(!session.is_polling() && session.may_end(true));
    let late = room.ticket(2);
    assert!(session.on_poll(&mut room.ctx(), late).is_stay());
    assert!(matches!(room.answers()[..], [(2, Err(PollRefusal::BadRequest))]));
    assert!(offer(&mut room, &mut session, other, OfferStep::Open).is_err());
}

#[test]
fn sessions_of_conformance_suites_echo() {
    let mut room = Room::new();
    let now = room.now;
    let mut echo =
        Session::websocket(App::EngineIoConformance, now, &TIMINGS, &mut room.local.random);
    room.text(&mut echo, "4hello");
    assert!(echo.on_binary(&mut room.ctx(), b"bytes").unwrap().is_stay());
    assert_eq!(room.sent(), ["4hello", "bytes"]);
    assert_eq!(echo.deadline(now, &room.shared), TIMINGS.ping_interval_ms);

    let app = App::SocketIoConformance;
    let mut suite = Session::websocket(app, now, &TIMINGS, &mut room.local.random);
    assert!(room.try_text(&mut suite, r#"42["message",1]"#).is_err());
    room.text(&mut suite, "40/custom,");
    room.text(&mut suite, r#"42/custom,["message",1]"#);
    room.text(&mut suite, r#"451-/custom,["message",{"_placeholder":true,"num":0}]"#);
    assert!(suite.on_binary(&mut room.ctx(), b"bytes").unwrap().is_stay());
    let sent = room.sent();
    assert!(sent[0].starts_with(r#"40/custom,{"sid":""#));
    let expected = [
        r#"42/custom,["auth",{}]"#,
        r#"42/custom,["message-back",1]"#,
        r#"451-/custom,["message-back",{"_placeholder":true,"num":0}]"#,
        "bytes",
    ];
    assert_eq!(sent[1..], expected);
    assert!(room.try_text(&mut suite, "41/custom,").unwrap().is_stay());
    assert!(room.try_text(&mut suite, r#"42/custom,["message",1]"#).is_err());
    room.pass(TIMINGS.connect_timeout_ms);
    assert!(is_closed(&suite.on_deadline(&mut room.ctx()), Reason::ConnectTimeout));
}
