//! The owner of the line: passes what happens to the node's decisions, and carries out what they
//! ask for.
//!
//! Each turn takes a bounded part of everything that waits: what the node needs and publishes, the
//! results of reads, the claims of all nodes, the time, and the events of the line. So nothing
//! starves under a flood of something else.

mod again;
mod catching;
mod earlier;
mod hearing;
mod others;
mod parcel;
mod presence;
mod sending;
mod serving;
mod takings;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::line::{self, Line, Place};
use super::reads::{Ask, Found, Reader};
use super::recent::Recent;
use super::seat::{News, Seat};
use super::sessions::{Asked, Proving};
use super::settings::Settings;
use crate::cluster::Cluster;
use crate::cluster::events::{Event, Moment};
use crate::cluster::health::Condition;
use crate::cluster::landing::{Ending, Landing};
use crate::cluster::limits::BEAT_MS;
use crate::cluster::name::{ChannelHash, Seq, Subjects};
use crate::cluster::wire::{Anchor, Origin};
use crate::limits::{
    CLUSTER_COUNTS_MAX, CLUSTER_EVENTS_MAX, CLUSTER_LEADER_MS, CLUSTER_LEAVE_MS_MAX,
    CLUSTER_LOOK_MS, CLUSTER_RESULTS_MAX, CLUSTER_SLEEP_MS_MAX, CLUSTER_WAITING_BYTES_MAX,
    SESSION_PROOF_MS, TAKINGS_TOLD_MS,
};
use crate::mailbox::{Doorbell, SessionAsk};
use crate::message::{Audience, Channel, Millis};
use crate::metrics::{Counters, LogChanges, LogThrottle};
use again::Again;
use catching::Catching;
use others::{Link, Others};
use parcel::Parcel;
use presence::Presence;

/// The time that waiting bytes at the end of the node have to be written.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// What an owner works with.
pub(super) struct Parts {
    pub(super) line: Line,
    pub(super) reader: Reader,
    /// What was read.
    pub(super) found: mpsc::Receiver<Found>,
    /// What the consumer of all claims brings.
    pub(super) mirrored: mpsc::Receiver<Event>,
    /// Lets that consumer begin again.
    pub(super) again: mpsc::Sender<()>,
    /// Tells how far the node has certainly received the stream of publications.
    pub(super) proving: Proving,
    /// What workers wish for sessions, and the desk that carries it out.
    pub(super) sessions: Option<(Arc<Asked>, mpsc::Sender<SessionAsk>)>,
    pub(super) subjects: Subjects,
    pub(super) counters: Arc<Counters>,
}

/// The owner of the line.
pub(super) struct Owner<'l, L> {
    landing: &'l mut L,
    cluster: Cluster,
    parts: Parts,
    me: Origin,
    /// The text of `me`, as messages have it.
    from: String,
    /// The names of the stream of publications and of the stream of claims.
    streams: [String; 2],
    patience: Millis,
    audience_patience: Millis,
    seat: Option<Seat>,
    /// Whether the node has joined, at least once. Until then it does not connect: it may not be
    /// of the cluster that has these streams.
    has_joined: bool,
    /// The anchors that the register has, of both streams.
    remembered: [Option<Anchor>; 2],
    /// What follows from actions.
    events: VecDeque<Event>,
    /// Messages whose bytes may not have left the node, each with its place on the line.
    sent: VecDeque<(u64, Place)>,
    /// Publications that are not sent yet, by token.
    parcels: HashMap<u64, Parcel>,
    /// The channels of publications whose audience is counted, by token.
    counted: HashMap<u64, ChannelHash>,
    /// Channels that the node has begun or ceased to need.
    noted: VecDeque<Channel>,
    /// How many subscribers received a publication that nodes ask about.
    counts: Recent<(ChannelHash, Seq), Audience>,
    /// Where the node attached to channels.
    bounds: Recent<ChannelHash, Seq>,
    again: Again,
    catching: Catching,
    /// Channels whose earlier publications are being read, each with the number of the read
    /// and the epoch in which it began. Requests wait for each, so that there are no more than
    /// requests may wait.
    reading: HashMap<Channel, (u64, u64)>,
    /// How many such reads have begun.
    reads: u64,
    presence: Presence,
    /// When the other nodes were told what this one has taken from buckets that all share; `None`
    /// if nothing of that is on its way.
    takings_at: Option<Millis>,
    /// When a proof of how far the node has received the stream was begun; 0 if none is under way.
    proved_at: Millis,
    /// When to look at `again` and `catching`.
    look_at: Millis,
    ticked: Millis,
    /// When the node was told what is measured.
    measured: Millis,
    leader: Option<String>,
    /// When the leader is asked for.
    leader_at: Millis,
    /// What the node was told of its condition.
    condition: Option<Condition>,
    /// When the node leaves even if claims have not ended; `None` if it stays.
    leaves_at: Option<Millis>,
    is_over: bool,
    others: Others,
    link: LogChanges<Link>,
    failures: LogThrottle,
    skipped: LogThrottle,
}

/// What wakes the owner.
enum Woken {
    Line(line::Event),
    Found(Found),
    Mirrored(Event),
    News(Option<News>),
    Proof,
    Nothing,
}

impl<'l, L: Landing> Owner<'l, L> {
    pub(super) fn new(settings: Settings, landing: &'l mut L, parts: Parts) -> Self {
        let Settings { origin, registered, patience, audience_patience, seat, .. } = settings;
        let streams = [parts.subjects.stream(), parts.subjects.claims_stream()];
        Self {
            landing,
            cluster: Cluster::new(origin.clone(), registered),
            from: origin.to_string(),
            me: origin,
            streams,
            parts,
            patience,
            audience_patience,
            seat,
            has_joined: false,
            remembered: [None; 2],
            events: VecDeque::new(),
            sent: VecDeque::new(),
            parcels: HashMap::new(),
            counted: HashMap::new(),
            noted: VecDeque::new(),
            counts: Recent::new(CLUSTER_COUNTS_MAX),
            bounds: Recent::new(CLUSTER_COUNTS_MAX),
            again: Again::default(),
            catching: Catching::default(),
            reading: HashMap::new(),
            reads: 0,
            presence: Presence::default(),
            takings_at: None,
            proved_at: 0,
            look_at: 0,
            ticked: 0,
            measured: 0,
            leader: None,
            leader_at: Millis::MAX,
            condition: None,
            leaves_at: None,
            is_over: false,
            others: Others::default(),
            link: LogChanges::new(Link::None),
            failures: LogThrottle::default(),
            skipped: LogThrottle::default(),
        }
    }

    /// Runs until the node or its register ends.
    pub(super) async fn run(mut self, bell: &Doorbell, ring: &pipe::Receiver) {
        if self.seat.is_none() {
            self.news(Some(News::Joined(Ok(()))));
        }
        while !self.is_over {
            let pause = if self.turn() { Duration::ZERO } else { self.pause() };
            // A node that leaves takes nothing more, so that it need not look for that.
            let is_idle = || self.leaves_at.is_some() || self.is_idle();
            let sleeps = !pause.is_zero() && bell.sleep(is_idle);
            let woken = self.wait(ring, sleeps.then_some(pause)).await;
            bell.woke();
            self.woken(woken);
            for _ in 0..CLUSTER_EVENTS_MAX {
                let Some(event) = self.ready_event().await else { break };
                self.take(event);
            }
            // The tasks of reads and of the claims have their turn, too.
            tokio::task::yield_now().await;
        }
        self.parts.line.close(CLOSE_WITHIN).await;
    }

    fn is_idle(&self) -> bool {
        let sessions = self.parts.sessions.as_ref();
        self.landing.is_idle()
            && self.has_told_takings()
            && sessions.is_none_or(|(asked, _)| asked.is_empty())
    }

    /// Waits for something, for at most this long; `None` takes only what is there.
    async fn wait(&mut self, ring: &pipe::Receiver, pause: Option<Duration>) -> Woken {
        let Some(pause) = pause else {
            return self.ready_event().await.map_or(Woken::Nothing, Woken::Line);
        };
        let Parts { line, found, mirrored, proving, .. } = &mut self.parts;
        let may_prove = self.proved_at + SESSION_PROOF_MS <= self.landing.now().monotonic();
        let seat = &mut self.seat;
        tokio::select! {
            biased;
            event = line.next(), if self.has_joined => Woken::Line(event),
            Ok(()) = ring.readable() => {
                // Until there is nothing to read, so that the next ring is awaited.
                while ring.try_read(&mut [0; 8]).is_ok() {}
                Woken::Nothing
            }
            Some(found) = found.recv() => Woken::Found(found),
            Some(event) = mirrored.recv() => Woken::Mirrored(event),
            Some(()) = proving.wanted.recv(), if may_prove => Woken::Proof,
            news = next_news(seat) => Woken::News(news),
            () = sleep(pause) => Woken::Nothing,
        }
    }

    /// Returns an event of the line that is there already.
    async fn ready_event(&mut self) -> Option<line::Event> {
        if self.has_joined { at_once(self.parts.line.next()).await } else { None }
    }

    fn woken(&mut self, woken: Woken) {
        match woken {
            Woken::Line(event) => self.take(event),
            Woken::Found(found) => self.found(found),
            Woken::Mirrored(event) => self.handle(event),
            Woken::News(news) => self.news(news),
            Woken::Proof => self.prove(),
            Woken::Nothing => {}
        }
    }

    /// Takes a part of everything but the line. Returns whether something is left.
    fn turn(&mut self) -> bool {
        self.tell_written();
        while let Some(seat) = &mut self.seat
            && let Ok(news) = seat.news.try_recv()
        {
            self.news(Some(news));
        }
        for _ in 0..CLUSTER_RESULTS_MAX {
            let Ok(found) = self.parts.found.try_recv() else { break };
            self.found(found);
        }
        for _ in 0..CLUSTER_RESULTS_MAX {
            let Ok(event) = self.parts.mirrored.try_recv() else { break };
            self.handle(event);
        }
        let at = self.moment().now;
        self.tick(at);
        self.look(at);
        self.look_at_presence(at);
        self.tell_whole(at);
        if let Some((asked, desk)) = &self.parts.sessions {
            asked.pass_on(desk);
        }
        self.tell_takings(at);
        self.end(at);
        let is_left = self.leaves_at.is_none() && (self.interests() | self.departures());
        self.tell_condition(at);
        if self.measured + BEAT_MS <= at {
            self.measured = at;
            self.landing.measured(self.cluster.vitals(at));
            self.tell_peers();
            self.others.tell();
            self.tell_link();
        }
        is_left
    }

    /// Tells how far the node has certainly received the stream, and proves it anew if that is
    /// asked for.
    fn tell_whole(&mut self, now: Millis) {
        let whole = self.cluster.whole();
        let is_new = self.parts.proving.whole.send_if_modified(|told| {
            let before = std::mem::replace(told, whole);
            before != whole
        });
        if is_new {
            self.proved_at = 0;
        }
        let may_prove = self.proved_at + SESSION_PROOF_MS <= now;
        if may_prove && self.parts.proving.wanted.try_recv().is_ok() {
            self.prove();
        }
    }

    fn prove(&mut self) {
        self.proved_at = self.moment().now;
        self.handle(Event::Prove);
    }

    /// Tells the register which other nodes are heard, if that has changed.
    fn tell_peers(&self) {
        let Some(seat) = &self.seat else { return };
        seat.peers.send_if_modified(|peers| {
            let is_same = self.cluster.peers().eq(peers.iter());
            if !is_same {
                *peers = self.cluster.peers().cloned().collect();
            }
            !is_same
        });
    }

    fn tick(&mut self, now: Millis) {
        let is_due = self.cluster.due().is_some_and(|due| due <= now);
        // Subscribing anew goes on at each tick, and must not fill the line.
        let waits = self.is_congested() && now < self.ticked + CLUSTER_LOOK_MS;
        if is_due && !waits {
            self.ticked = now;
            self.handle(Event::Tick);
        }
        if self.leader_at <= now {
            self.leader_at = now + CLUSTER_LEADER_MS;
            self.parts.reader.begin(Ask::Leader);
        }
    }

    /// Looks at what found no room, and at workers that are behind.
    fn look(&mut self, now: Millis) {
        if self.look_at > now || self.again.is_empty() && self.catching.is_empty() {
            return;
        }
        self.look_at = now + CLUSTER_LOOK_MS;
        self.again.retry(self.landing);
        self.catching.look(self.landing, &self.parts.reader);
    }

    fn end(&mut self, now: Millis) {
        match (self.landing.ending(), self.leaves_at) {
            (Ending::Draining, None) => self.cluster.drain(),
            (Ending::Over, None) => {
                self.tell_end();
                self.leaves_at = Some(now + CLUSTER_LEAVE_MS_MAX);
                let at = self.moment();
                let actions = self.cluster.leave(at);
                self.carry_out(actions);
            }
            (_, Some(at)) => self.is_over |= self.cluster.has_left() || at <= now,
            (Ending::No, None) => {}
        }
    }

    /// Tells the node its condition if that has changed, and once a second how long it has lasted.
    fn tell_condition(&mut self, now: Millis) {
        let condition = match self.cluster.condition(now) {
            Condition::NoAnswer(ms) => Condition::NoAnswer(ms / 1_000 * 1_000),
            Condition::Deaf(ms) => Condition::Deaf(ms / 1_000 * 1_000),
            other => other,
        };
        if self.condition.as_ref() != Some(&condition) {
            self.landing.condition(&condition);
            self.condition = Some(condition);
        }
    }

    /// Returns how long there is nothing to do.
    fn pause(&self) -> Duration {
        let now = self.landing.now().monotonic();
        let has_look = !self.again.is_empty() || !self.catching.is_empty();
        let look = has_look.then_some(self.look_at);
        let tick = self.cluster.due().map(|due| {
            if self.is_congested() { due.max(self.ticked + CLUSTER_LOOK_MS) } else { due }
        });
        let last = now + CLUSTER_SLEEP_MS_MAX;
        let takings = self.takings_at.map(|at| at + TAKINGS_TOLD_MS);
        let leader = Some(self.leader_at);
        let all = [look, tick, leader, self.leaves_at, self.presence.due(), takings];
        let due = all.into_iter().flatten().fold(last, Millis::min);
        Duration::from_millis(due.saturating_sub(now))
    }

    fn is_congested(&self) -> bool {
        self.parts.line.waiting() > CLUSTER_WAITING_BYTES_MAX
    }

    fn moment(&self) -> Moment {
        let now = self.landing.now();
        Moment { now: now.monotonic(), wall: now.wall, random: rand::random() }
    }

    /// Forgets what is known of places in the stream of publications, because others may have them
    /// now.
    fn forget_places(&mut self) {
        self.counts.clear();
        self.bounds.clear();
    }

    /// Passes an event on and carries out what follows.
    fn handle(&mut self, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next {
            let at = self.moment();
            let actions = self.cluster.handle(event, at);
            for action in actions {
                self.act(action);
            }
            next = self.events.pop_front();
        }
    }

    fn news(&mut self, news: Option<News>) {
        match news {
            Some(News::Joined(joined)) => {
                self.has_joined |= joined.is_ok();
                self.handle(Event::Joined(joined));
            }
            Some(News::Remembered(stream, anchor)) => self.remember(stream, anchor),
            None => self.is_over = true,
        }
    }
}

/// Returns what the register tells next; waits for ever without a register.
async fn next_news(seat: &mut Option<Seat>) -> Option<News> {
    match seat {
        Some(seat) => seat.news.recv().await,
        None => std::future::pending().await,
    }
}

/// Returns the value of a future that is ready.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
