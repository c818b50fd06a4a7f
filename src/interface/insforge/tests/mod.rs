//! Tests of sessions without sockets, on a real broker with real mailboxes.

mod commands;
mod polling;
mod resume;
mod session;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

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
use crate::broker::memory::Memory;
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
    Activation, ChannelDefinition, ChannelOptions, ConnId, Credential, Judgement, Member, MemberId,
    Millis, Now, Permissions, Policy, PolicyCommand, Publication, Refused, Role, SessionId,
    Verdict, WorkerId,
};
use crate::metrics::Metrics;

/// Returns a member that is the user with this id.
pub(super) fn member(id: &str) -> Member {
    let (id, role) = (id.into(), Role::Authenticated);
    let credential = Credential { id, email: None, role, is_user: true, expires_at: None };
    Member { id: MemberId::User(Arc::new(credential)), joined_at: 0 }
}

const SECRET: &str = "a secret that is long enough for the node to take it as one";
const TIMINGS: Timings = Timings {
    ping_interval_ms: 25_000,
    ping_timeout_ms: 20_000,
    connect_timeout_ms: 45_000,
    upgrade_timeout_ms: 10_000,
    client_dir: None,
};
const WORKER: WorkerId = WorkerId(0);
/// The time at which the tests begin, in milliseconds since the epoch.
const START: Millis = 1_777_136_400_000;
const CONNECT: &str = r#"40{"apiKey":"ik_key"}"#;

/// A worker that has one connection at a time and takes its mail as the runtime does.
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
        let (mailboxes, inboxes) = Mailboxes::new(1, 1, 64, usize::MAX).unwrap();
        let tickets = Tickets::new(AcceptorId(0), mailboxes.acceptors[0].clone());
        let (tickets, polls): (&Tickets, _) = (Box::leak(Box::new(tickets)), Vec::new());
        let options = ChannelOptions { ephemeral: true, ..ChannelOptions::default() };
        let mut config = Config::defaults();
        config.auth.close_expired = true;
        config.engine_io = TIMINGS;
        config.recovery = Recovery { window_ms: 60_000, log_bytes: 1_000_000 };
        let broker = Broker::new(
            Directory::default(),
            Definitions::new(vec![definition("c*", options)]),
            Policies::new(permissions),
            mailboxes,
            Memory::unbounded(),
        );
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

    /// Replaces the connection by a new one and returns its session.
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

    /// Has the session handle a packet, and checks that the connection goes on as it is.
    fn text(&mut self, session: &mut Session, text: &str) {
        assert!(self.try_text(session, text).unwrap().is_stay(), "{text}");
    }

    /// Removes all packets from the outbox and returns their data.
    fn sent(&mut self) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some(frame) = self.link.outbox.pop(&mut self.local.outboxes.spares) {
            sent.push(String::from_utf8(payload(frame.as_ref()).to_vec()).unwrap());
        }
        sent
    }

    /// Handles all mail of the worker: for this connection, and for the resume log.
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

    /// Delivers a publication to the connection, if it subscribes to the channel. Presence events
    /// are ignored.
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
                self.link.mark_sent((position, publication.mark()));
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

    /// Creates a ticket of the acceptor. [`Room::answers`] returns its answer with `number`.
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

/// Returns a CONNECT packet with the token of a user. `more` is appended to the JSON object's
/// members.
fn user(name: &str, expires_s: u64, more: &str) -> String {
    let claims = UserClaims {
        sub: name,
        role: Some("authenticated"),
        exp: Some(expires_s),
        ..UserClaims::default()
    };
    let token = sign_user(SECRET, &claims).unwrap();
    format!(r#"40{{"token":"{token}"{more}}}"#)
}

/// The expiry of the tests' tokens, in seconds since the epoch.
const LATER: u64 = START / 1_000 + 3_600;

fn is_closed(next: &Next, reason: Reason) -> bool {
    matches!(next, Next::Close(close) if close.reason == reason && close.code.is_none())
}

/// Returns the string value of `key` in a packet.
fn value<'a>(packet: &'a str, key: &str) -> &'a str {
    let (_, rest) = packet.split_once(&format!(r#""{key}":""#)).expect("it is there");
    rest.split_once('"').expect("it ends").0
}
