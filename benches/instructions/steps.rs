//! The steps whose instructions are counted, in the order of a publication's way. Steps that other
//! benches measure use the same set-up.

use std::cell::RefCell;
use std::future::Future as _;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use fanfare::auth::{Authenticator, UserClaims, sign_user};
use fanfare::broker::definitions::Definitions;
use fanfare::broker::directory::Directory;
use fanfare::broker::received::Received;
use fanfare::codec::http::Request;
use fanfare::codec::json::Scratch;
use fanfare::codec::websocket::{Decoder, Opcode, frame};
use fanfare::interface::authenticators::Authenticators;
use fanfare::interface::caller::Caller;
use fanfare::interface::encode::encode;
use fanfare::interface::entrance::{Entrance, entrance};
use fanfare::interface::http::HttpContext;
use fanfare::interface::m2::access::Terms;
use fanfare::interface::m2::wire as m2;
use fanfare::interface::{Session, insforge};
use fanfare::limits::MAILBOX_CONTROL_MAX;
use fanfare::mailbox::{AcceptorId, Inboxes, Mail, Mailboxes, Tickets};
use fanfare::message::{
    Channel, ChannelDefinition, ChannelOptions, ConnId, Delivery, Encoding, Now, Peer,
    PresenceMode, Publication, WorkerId,
};
use fanfare::metrics::Counters;
use fanfare::runtime::Worker;
use fanfare::runtime::transmit::one_by_one;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::node::{API_KEY, Node, SECRET, keys};
use crate::support::packets::{self, M2_SUBSCRIBE};
use crate::support::{
    AT, CHANNEL, EVENT, PAYLOAD, broker, document, ephemeral, masked, publication,
};

const HERE: WorkerId = WorkerId(0);
const NOW: Now = Now { nanos: 1_000_000, wall: AT };
/// Milliseconds, and bytes of all channels' logs. A log is full after the warm-up.
const LOGS: (u64, usize) = (60_000, 64 * 1_024);

/// A step that is counted.
pub(crate) struct Step {
    /// Room and step; the key in the file of saved counts.
    pub(crate) name: &'static str,
    /// Prepares the step.
    pub(crate) set: fn() -> Box<dyn Scene>,
}

/// A step that is prepared.
pub(crate) trait Scene {
    /// Runs the step.
    fn run(&mut self);

    /// Restores the state from before the step. This is not counted.
    fn reset(&mut self);
}

struct Parts<S> {
    state: S,
    run: fn(&mut S),
    reset: fn(&mut S),
}

impl<S> Scene for Parts<S> {
    fn run(&mut self) {
        (self.run)(&mut self.state);
    }

    fn reset(&mut self) {
        (self.reset)(&mut self.state);
    }
}

/// Returns a step that leaves its state as it was.
fn alike<S: 'static>(state: S, run: fn(&mut S)) -> Box<dyn Scene> {
    Box::new(Parts { state, run, reset: |_| () })
}

fn undone<S: 'static>(state: S, run: fn(&mut S), reset: fn(&mut S)) -> Box<dyn Scene> {
    Box::new(Parts { state, run, reset })
}

macro_rules! steps {
    ($($name:literal => $set:expr,)*) => {
        [$(Step { name: $name, set: || $set }),*]
    };
}

pub(crate) const STEPS: [Step; 31] = steps![
    "http/head of a publish" => alike(Front::new(PUBLISH, true), Front::read_head),
    "http/publish, ephemeral" => alike(Front::new(PUBLISH, true), Front::publish),
    "http/publish with history" =>
        undone(Front::new(PUBLISH, false), Front::publish, Front::forget),
    "auth/API key" => alike(Authenticator::new(keys()), |users| {
        users.admin(None, Some(black_box(API_KEY)), 1).expect("it is the key");
    }),
    "auth/token from the cache" => cached_token(),
    "frame/decode 128 bytes" => decoding(128),
    "frame/decode 16 KiB" => decoding(16 * 1_024),
    "frame/encode 128 bytes" => alike("x".repeat(128), |payload| {
        black_box(frame(Opcode::Text, &[black_box(payload.as_bytes())]));
    }),
    "decode/Socket.IO subscribe" => command(packets::subscribe()),
    "decode/Socket.IO publish" => command(packets::publish()),
    "decode/Forge publish" => alike(
        (packets::forge_publish(), Scratch::default()),
        |(message, scratch)| {
            black_box(packets::read_forge_publish(black_box(message), scratch));
        }
    ),
    "decode/M2 subscribe" => alike(Scratch::default(), |scratch| {
        black_box(packets::read_m2_subscribe(black_box(M2_SUBSCRIBE), scratch));
    }),
    "encode/InsForge message" => encoding(publication(), Encoding::Documented),
    "encode/InsForge message for the SDK" => encoding(publication(), Encoding::Sdk),
    "encode/InsForge presence" => encoding(packets::joined(), Encoding::Sdk),
    "encode/Server-Sent Event" => encoding(publication(), Encoding::EventStream),
    "encode/Forge event" => encoding(packets::event(), Encoding::Topic),
    "encode/M2 document" => alike(document(), |document| {
        black_box(frame(Opcode::Text, &[m2::document(black_box(document)).as_bytes()]));
    }),
    "directory/publish without subscribers" => publishing(0, Directory::default()),
    "directory/publish to two workers" => publishing(2, Directory::default()),
    "directory/publish to two workers, recovery" =>
        publishing(2, Directory::default().with_logs(LOGS.0, LOGS.1)),
    "mailbox/post and take" => mailing(),
    "index/walk over 1,000 subscribers" =>
        alike((broker::index(1_000), Channel::from(CHANNEL)), |(index, channel)| {
            broker::walk(index, black_box(channel));
        }),
    "worker/fan-out to 100 outboxes" => fanning_out(false),
    "worker/fan-out to 100 outboxes, recovery" => fanning_out(true),
    "worker/drain of 100 outboxes" => undone(
        audience(false),
        |(desk, _)| desk.drain(),
        |(desk, delivery)| desk.deliver(delivery)
    ),
    "worker/subscribe, unsubscribe, no presence" => joining_and_leaving(PresenceMode::Off),
    "worker/subscribe, unsubscribe, presence" => joining_and_leaving(PresenceMode::Full),
    "worker/subscribe beside 10" => joining(PresenceMode::Off, 10),
    "worker/subscribe beside 1,000" => joining(PresenceMode::Off, 1_000),
    "worker/subscribe beside 1,000, presence" => joining(PresenceMode::Full, 1_000),
];

/// The target of an HTTP publish that is answered before it is stored.
const PUBLISH: &str = "/api/realtime/messages?durability=memory";

fn cached_token() -> Box<dyn Scene> {
    let claims = UserClaims { sub: "user-1", ..UserClaims::default() };
    let token = sign_user(SECRET, &claims).expect("the secret is long enough");
    alike((Authenticator::new(keys()), token), |(users, token)| {
        black_box(users.verify(black_box(token), 1)).expect("the node has signed it");
    })
}

fn decoding(bytes: usize) -> Box<dyn Scene> {
    let sent = masked(&"x".repeat(bytes));
    alike((Decoder::default(), sent.clone(), sent, bytes), |(decoder, buffer, sent, bytes)| {
        packets::unmask(decoder, buffer, black_box(sent), *bytes);
    })
}

fn command(packet: String) -> Box<dyn Scene> {
    alike(packet, |packet| {
        black_box(packets::command(black_box(packet)));
    })
}

fn encoding(publication: Publication, encoding: Encoding) -> Box<dyn Scene> {
    alike((publication, encoding), |(publication, encoding)| {
        black_box(encode(black_box(publication), *encoding));
    })
}

fn publishing(workers: usize, directory: Directory) -> Box<dyn Scene> {
    let (broker, inboxes) = broker::node(workers, directory);
    undone(
        (broker, inboxes, Arc::new(framed(publication()))),
        |(broker, _, publication)| {
            let published =
                broker.directory.publish(&broker.mailboxes.workers, publication, |_| ());
            black_box(published).expect("the mailboxes are empty");
        },
        |(_, inboxes, _)| broker::empty(inboxes),
    )
}

/// Makes the frames of a publication.
fn framed(publication: Publication) -> Publication {
    for &encoding in publication.channel.encodings() {
        publication.frame(encoding, encode);
    }
    publication
}

fn mailing() -> Box<dyn Scene> {
    let (mailboxes, inboxes) =
        Mailboxes::new(1, 0, broker::MAILBOX, usize::MAX).expect("event descriptors");
    alike((mailboxes, inboxes, broker::delivery()), |(mailboxes, inboxes, delivery)| {
        broker::post(mailboxes.workers.of(HERE), Mail::Deliver(delivery.clone()));
        black_box(inboxes.workers[HERE.index()].take(Mail::slot)).expect("it was posted");
    })
}

fn fanning_out(recovers: bool) -> Box<dyn Scene> {
    undone(audience(recovers), |(desk, delivery)| desk.deliver(delivery), |(desk, _)| desk.drain())
}

/// Returns a worker with 100 subscribers, and a publication for them.
fn audience(recovers: bool) -> (Desk, Delivery) {
    let desk = Desk::with_subscribers(PresenceMode::Off, recovers, 100);
    let publication = framed(publication().recoverable(recovers));
    (desk, Delivery { publication: Arc::new(publication), offset: 1 })
}

fn joining_and_leaving(presence: PresenceMode) -> Box<dyn Scene> {
    let mut desk = Desk::with_subscribers(presence, false, 10);
    let newcomer = desk.open();
    undone(
        (desk, newcomer),
        |(desk, newcomer)| {
            desk.say(*newcomer, desk.subscribe.clone());
            desk.say(*newcomer, desk.unsubscribe.clone());
        },
        |(desk, _)| desk.drain(),
    )
}

fn joining(presence: PresenceMode, members: usize) -> Box<dyn Scene> {
    let mut desk = Desk::with_subscribers(presence, false, members);
    let newcomer = desk.open();
    undone(
        (desk, newcomer),
        |(desk, newcomer)| desk.say(*newcomer, desk.subscribe.clone()),
        |(desk, newcomer)| {
            desk.say(*newcomer, desk.unsubscribe.clone());
            desk.drain();
        },
    )
}

/// Returns the definition of [`CHANNEL`].
fn definition(options: ChannelOptions) -> ChannelDefinition {
    ChannelDefinition { options, ..ChannelDefinition::clone(&ephemeral()) }
}

fn define(node: &Node, options: ChannelOptions) {
    let definitions = Definitions::new(vec![definition(options)]);
    node.hub.interfaces.broker.definitions.store(Arc::new(definitions));
}

/// A worker whose clients read everything.
struct Desk {
    node: Node,
    worker: Worker,
    random: StdRng,
    /// The clients' frames.
    subscribe: Vec<u8>,
    unsubscribe: Vec<u8>,
}

impl Desk {
    /// Creates a worker with so many connections that are subscribed to [`CHANNEL`], each of them a
    /// member of its own.
    fn with_subscribers(presence: PresenceMode, recovers: bool, subscribers: usize) -> Self {
        let node = Node::new(MAILBOX_CONTROL_MAX, |config| {
            config.recovery.window_ms = if recovers { LOGS.0 } else { 0 };
        });
        define(&node, ChannelOptions { ephemeral: true, presence, ..ChannelOptions::default() });
        let worker = node.worker(HERE, NOW);
        let unsubscribe = format!(r#"4218["REALTIME_UNSUBSCRIBE",{{"channel":"{CHANNEL}"}}]"#);
        let (subscribe, unsubscribe) = (masked(&packets::subscribe()), masked(&unsubscribe));
        let random = StdRng::seed_from_u64(1);
        let mut desk = Self { node, worker, random, subscribe, unsubscribe };
        for _ in 0..subscribers {
            let slot = desk.open();
            desk.say(slot, desk.subscribe.clone());
            desk.drain();
        }
        desk
    }

    /// Opens a connection and authenticates it, and returns its slot.
    fn open(&mut self) -> u32 {
        let timings = &self.node.hub.interfaces.timings;
        let session =
            insforge::Session::websocket(insforge::App::Insforge, NOW, timings, &mut self.random);
        let ConnId { slot, .. } =
            self.node.open(&mut self.worker, HERE, Session::Insforge(session));
        self.say(slot, masked(&format!(r#"40{{"apiKey":"{API_KEY}"}}"#)));
        self.drain();
        slot
    }

    /// Hands the worker a client's frame, and all mail that follows from it.
    fn say(&mut self, slot: u32, mut frame: Vec<u8>) {
        self.worker.receive(slot, &mut frame).expect("the connection stays open");
        while let Some(mail) = self.node.take(HERE) {
            self.worker.take(mail);
        }
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let bytes = self.worker.take(Mail::Deliver(delivery.clone()));
        assert!(bytes > 0, "there are subscribers");
    }

    /// Ends a turn. The clients read everything.
    fn drain(&mut self) {
        self.worker.end_turn(&mut one_by_one(|_, _, slices| {
            Ok(slices.iter().map(|slice| slice.len()).sum())
        }));
    }
}

/// An acceptor's state, and a request.
struct Front {
    node: Node,
    auth: RefCell<Authenticators>,
    json: RefCell<Scratch>,
    random: RefCell<StdRng>,
    tickets: Tickets,
    buffer: RefCell<Vec<u8>>,
    counters: Arc<Counters>,
    head: Vec<u8>,
    body: Received,
    request: Request,
    /// Keeps the acceptor's mailbox open.
    _inboxes: Inboxes,
}

impl Front {
    /// Creates the state and a publish on [`CHANNEL`] by an administrator.
    fn new(target: &str, ephemeral: bool) -> Self {
        let node = Node::new(MAILBOX_CONTROL_MAX, |_| ());
        define(&node, ChannelOptions { ephemeral, ..ChannelOptions::default() });
        let (acceptors, inboxes) = Mailboxes::new(1, 1, 1, usize::MAX).expect("event descriptors");
        let body = format!(r#"{{"channel":"{CHANNEL}","event":"{EVENT}","payload":{PAYLOAD}}}"#);
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: 127.0.0.1:7130\r\nUser-Agent: curl/8.0\r\n\
             Accept: */*\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let mut front = Self {
            auth: RefCell::new(Authenticators::new(keys(), 60, Terms::new(false, None))),
            json: RefCell::default(),
            random: RefCell::new(StdRng::seed_from_u64(1)),
            tickets: Tickets::new(AcceptorId(0), acceptors.acceptors[0].clone()),
            buffer: RefCell::default(),
            counters: node.hub.metrics.thread(HERE.index()),
            head: head.into(),
            body: Received::whole(Bytes::from(body)),
            request: Request::default(),
            node,
            _inboxes: inboxes,
        };
        front.read_head();
        front
    }

    fn read_head(&mut self) {
        let read = self.request.read_head(black_box(&self.head));
        assert_eq!(read, Ok(Some(self.head.len())));
    }

    /// Finds the call that the request is for and runs it.
    fn publish(&mut self) {
        let http = HttpContext {
            now: NOW,
            is_stopping: false,
            caller: Caller::from(Peer::Local),
            shared: &self.node.hub.interfaces,
            auth: &self.auth,
            json: &self.json,
            random: &self.random,
            tickets: &self.tickets,
            buffer: &self.buffer,
            counters: &self.counters,
        };
        let Entrance::Call(call) = entrance(&http, &self.request) else { panic!("not a call") };
        let running = pin!(call.run(&http, &self.request, &self.body));
        let Poll::Ready(outcome) = running.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("a publish waits for nothing")
        };
        assert_eq!(outcome.response.status, 201);
        if let Some(buffer) = outcome.response.body.into_buffer(usize::MAX) {
            self.buffer.replace(buffer);
        }
    }

    /// Takes the publication out of the queue to history.
    fn forget(&mut self) {
        let keep = self.node.inboxes.history.try_recv().expect("it is to be kept");
        self.node.hub.interfaces.broker.mailboxes.history.taken(&keep);
    }
}
