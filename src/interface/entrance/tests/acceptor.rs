//! A thread that serves HTTP, without the thread.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use uuid::Uuid;

use crate::auth::Keys;
use crate::broker::definitions::Definitions;
use crate::broker::directory::{Directory, Join, Subscriber};
use crate::broker::memory::Memory;
use crate::broker::policies::Policies;
use crate::broker::publish::Broker;
use crate::broker::received::Received;
use crate::codec::http::parse_head;
use crate::codec::json::Scratch;
use crate::config::Config;
use crate::interface::authenticators::{AUDIENCES, Authenticators};
use crate::interface::caller::Caller;
use crate::interface::entrance::{Entrance, Outcome, entrance};
use crate::interface::forge::access::{Reach, Topic};
use crate::interface::http::HttpContext;
use crate::interface::landing::Landing;
use crate::interface::m2::access::Terms;
use crate::interface::shared::Shared;
use crate::limits::HTTP_CONNECTIONS_MAX;
use crate::mailbox::{
    AcceptorId, Answer, Inboxes, Keep, Mail, Mailboxes, Slot, Ticket, Tickets, Write,
};
use crate::message::{
    Channel, ChannelDefinition, ChannelOptions, ConnId, Encoding, MessageId, Millis, Now, Peer,
    Permissions, ReplayWish, Transport, WorkerId,
};
use crate::metrics::{Counters, Metrics};

const SECRET: &str = "a secret that is long enough for the node to take it as one";
pub(super) const NOW: Millis = 1_777_136_400_123;

/// A thread that serves HTTP.
pub(super) struct Acceptor {
    shared: Arc<Shared>,
    pub(super) inboxes: Inboxes,
    auth: RefCell<Authenticators>,
    json: RefCell<Scratch>,
    random: RefCell<StdRng>,
    tickets: Tickets,
    pub(super) counters: Arc<Counters>,
}

/// The landing of a node, whose clock stands still.
pub(super) type Ground = Landing<Arc<Shared>, fn() -> Now>;

/// A call under way.
pub(super) type Call<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

pub(super) fn definition() -> ChannelDefinition {
    ChannelDefinition {
        id: Uuid::from_u128(1),
        pattern: "order:*".into(),
        description: None,
        webhook_urls: None,
        enabled: true,
        options: ChannelOptions::default(),
        created_at: NOW,
        updated_at: NOW,
    }
}

impl Acceptor {
    /// Creates the thread in a node with one worker, whose mailbox has room for one publication.
    pub(super) fn new() -> Self {
        let (mailboxes, inboxes) = Mailboxes::new(1, 1, 1, usize::MAX).unwrap();
        Self::with(mailboxes, inboxes)
    }

    /// Creates such a thread in a node of a cluster, and the landing of that node.
    pub(super) fn in_cluster() -> (Self, Ground) {
        let (mut mailboxes, inboxes) = Mailboxes::new(1, 1, 1, usize::MAX).unwrap();
        let submitted = mailboxes.open_stream().unwrap().submitted;
        let acceptor = Self::with(mailboxes, inboxes);
        let (shared, counters) = (acceptor.shared.clone(), acceptor.counters.clone());
        let now = || Now { nanos: 0, wall: NOW };
        let landing = Landing::new(shared, Arc::default(), submitted, counters, now as fn() -> Now);
        (acceptor, landing)
    }

    fn with(mailboxes: Mailboxes, inboxes: Inboxes) -> Self {
        let tickets = Tickets::new(AcceptorId(0), mailboxes.acceptors[0].clone());
        let broker = Broker::new(
            Directory::default(),
            Definitions::new(vec![definition()]),
            Policies::new(Permissions::default()),
            mailboxes,
            Memory::unbounded(),
        );
        let keys = Arc::new(Keys::new("ik_key", "anon_key", SECRET, &AUDIENCES).unwrap());
        Self {
            shared: Arc::new(Shared::new(broker, Arc::new(Config::defaults()), 7)),
            inboxes,
            auth: RefCell::new(Authenticators::new(keys, 60, Terms::new(false, None))),
            json: RefCell::default(),
            random: RefCell::new(StdRng::seed_from_u64(1)),
            tickets,
            counters: Metrics::new(1).thread(0),
        }
    }

    pub(super) fn mailboxes(&self) -> &Mailboxes {
        &self.shared.broker.mailboxes
    }

    /// Begins the call that an administrator makes by this request line, these headers and this
    /// body.
    fn call<'a>(&'a self, line: &str, headers: &str, body: &'a str) -> Call<'a> {
        let head = format!("{line} HTTP/1.1\r\nHost: x\r\nx-api-key: ik_key\r\n{headers}\r\n");
        let (request, _) = parse_head(head.as_bytes()).unwrap().expect("the head is complete");
        Box::pin(async move {
            let http = HttpContext {
                now: Now { nanos: 0, wall: NOW },
                is_stopping: false,
                caller: Caller::from(Peer::Local),
                shared: &self.shared,
                auth: &self.auth,
                json: &self.json,
                random: &self.random,
                tickets: &self.tickets,
                buffer: &RefCell::default(),
                counters: &self.counters,
            };
            let entrance = entrance(&http, &request);
            let Entrance::Call(call) = entrance else { panic!("it is no call: {entrance:?}") };
            call.run(&http, &request, &Received::whole(Bytes::copy_from_slice(body.as_bytes())))
                .await
        })
    }

    /// Publishes on a channel that has a history, which is to be stored before the answer.
    pub(super) fn publish(&self) -> Call<'_> {
        let body = r#"{"channel":"order:1","event":"moved","payload":{"x":1}}"#;
        self.call("POST /api/realtime/messages?durability=stored", "", body)
    }

    /// Writes a document of M2 as a back end.
    pub(super) fn put(&self) -> Call<'_> {
        let scope = "x-m2-organization: o\r\nx-m2-project: p\r\n";
        self.call("PUT /api/realtime/resources/collection/c1", scope, r#"{"data":[1]}"#)
    }

    /// Changes the description of the definition.
    pub(super) fn define(&self) -> Call<'_> {
        let line = format!("PUT /api/realtime/channels/{}", definition().id);
        self.call(&line, "", r#"{"description":"Orders"}"#)
    }

    /// Publishes on a global channel of Forge.
    pub(super) fn publish_event(&self) -> Call<'_> {
        let headers = "forge-proxy-authorization: Forge as=app,installationId=i\r\n";
        let body = r#"{"name":"a","payload":"p"}"#;
        self.call("POST /forge/realtime/v1/publish/global", headers, body)
    }

    /// Subscribes a connection of the worker to the global channel of Forge.
    pub(super) fn subscribe(&self) {
        let scope = Topic { installation: "i", channel: "a", reach: Reach::Global, claims: None };
        let topic: Channel = self.auth.borrow().forge.topic(&scope).unwrap();
        let connection = ConnId { worker: WorkerId(0), slot: 0, generation: 0 };
        let (encoding, transport) = (Encoding::Topic, Transport::WebSocket);
        let subscriber = Subscriber { connection, encoding, transport, member: None };
        let join = Join {
            channel: &topic,
            subscriber: &subscriber,
            already: None,
            options: self.shared.forge.options(),
            reply: None,
            comes_back: false,
            replay: ReplayWish::default(),
            announcement: MessageId::nil(),
            now: NOW,
            clock: 0,
        };
        let broker = &self.shared.broker;
        broker.directory.join(&broker.mailboxes.workers, &join).unwrap();
        let mail = self.inboxes.workers[0].take(Mail::slot);
        assert!(matches!(mail, Some(Mail::Activate(_))), "{mail:?}");
    }

    /// The messages in the queue of the history writer.
    pub(super) fn kept(&self) -> Keep {
        let keep = self.inboxes.history.try_recv().expect("it is to be kept");
        self.mailboxes().history.taken(&keep);
        keep
    }

    /// The document that waits to be written.
    pub(super) fn written(&self) -> Write {
        let write = self.inboxes.documents.try_recv().expect("it is to be written");
        self.mailboxes().documents.taken(&write);
        write
    }

    /// Has the acceptor take an answer that it was given.
    pub(super) fn settle(&self) {
        let answered = self.inboxes.acceptors[0].take(|_| Slot::Control);
        self.tickets.settle(answered.expect("it was answered"));
    }

    /// Answers a question, and has the acceptor take the answer.
    pub(super) fn answer<T: Answer>(&self, ticket: Ticket<T>, answer: T) {
        self.mailboxes().answer(ticket, answer);
        self.settle();
    }

    /// How many answers have a place that is taken.
    pub(super) fn awaited(&self) -> usize {
        HTTP_CONNECTIONS_MAX - self.mailboxes().acceptors[0].free(Slot::Control)
    }
}
