//! Nodes of a cluster: the real thread of each, with a node behind it that records what it is given.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fanfare::background::cluster::seat::Seat;
use fanfare::background::cluster::{Settings, run};
use fanfare::cluster::attach::Want;
use fanfare::cluster::audience::Total;
use fanfare::cluster::events::Published;
use fanfare::cluster::health::Condition;
use fanfare::cluster::landing::{Departing, Earlier, Ending, Landing};
use fanfare::cluster::name::{Incarnation, NodeName, Seq};
use fanfare::cluster::vitals::Vitals;
use fanfare::cluster::wire::{self, Origin};
use fanfare::mailbox::Interests;
use fanfare::message::{
    Audience, Behind, Channel, Content, Heard as Applied, Landed, Left, MarkPlace, MessageId,
    NodeLife, Now, Outgoing, RepeatKey, Sender, Taking, Tidings, WorkerId,
};
use fanfare::metrics::{Counter, Counters};
use rustix::time::{ClockId, clock_gettime};
use uuid::Uuid;

use crate::owner;
use crate::support::wait_until;

/// The only worker of a node.
const WORKER: WorkerId = WorkerId(0);

/// A node, which ends on drop.
pub(crate) struct Node {
    state: Arc<Mutex<State>>,
    interests: Arc<Interests>,
    counters: Arc<Counters>,
    /// The CPU time of the thread until its last turn, in nanoseconds.
    cpu: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// What subscribers of a channel were given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    /// A publication, with its place.
    At(Seq, String),
    /// A notice that publications may be missing.
    Gap,
}

#[derive(Default)]
struct State {
    channels: BTreeMap<Channel, Subscribed>,
    noted: Vec<Channel>,
    outgoing: VecDeque<Departing>,
    settled: BTreeMap<u64, Vec<Published>>,
    totals: BTreeMap<u64, Total>,
    condition: Option<Condition>,
    is_over: bool,
    /// Whether the worker's mailbox is full.
    is_full: bool,
    /// Whether publications are dropped and not recorded.
    is_measured: bool,
}

/// A channel of a node.
#[derive(Default)]
struct Subscribed {
    subscribers: u32,
    /// Where requests were carried out, each time.
    attached: u32,
    refused: u32,
    detached: u32,
    heard: Vec<Heard>,
    /// The channel's last publication.
    offset: Seq,
    /// The last one that the worker was given, if it is behind.
    behind: Option<Seq>,
}

impl Node {
    /// Starts the node with this number, with a new incarnation.
    pub(crate) fn start(number: u64, urls: &[String]) -> Self {
        Self::with_seat(number, urls, None)
    }

    /// Starts a node that must join by a register.
    pub(crate) fn with_seat(number: u64, urls: &[String], seat: Option<Seat>) -> Self {
        static STARTS: AtomicU64 = AtomicU64::new(1);
        let start = STARTS.fetch_add(1, SeqCst);
        let name = NodeName::read(&format!("n{number}")).expect("a name");
        let settings = Settings {
            line: owner::settings(urls),
            prefix: "ff".into(),
            origin: Origin { node: name, incarnation: Incarnation(start) },
            registered: start,
            patience: 1_000,
            audience_patience: 1_000,
            seat,
            documents: None,
            sessions: None,
        };
        let interests = Arc::new(Interests::new().expect("the system gives a descriptor"));
        let state = Arc::<Mutex<State>>::default();
        let counters = Arc::<Counters>::default();
        let cpu = Arc::<AtomicU64>::default();
        let landing = Behaviour { state: state.clone(), start: Instant::now(), cpu: cpu.clone() };
        let (bell, counts) = (interests.clone(), counters.clone());
        let thread = thread::spawn(move || {
            run(settings, landing, bell.doorbell(), counts).expect("the thread runs");
        });
        Self { state, interests, counters, cpu, thread: Some(thread) }
    }

    /// Waits until the node serves.
    pub(crate) fn serves(&self) {
        wait_until("the node serves", || self.is_serving());
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.condition() == Some(Condition::Healthy)
    }

    pub(crate) fn condition(&self) -> Option<Condition> {
        self.lock().condition.clone()
    }

    /// Sets the number of subscribers of a channel.
    pub(crate) fn subscribe(&self, channel: &Channel, subscribers: u32) {
        let mut state = self.lock();
        state.channels.entry(channel.clone()).or_default().subscribers = subscribers;
        state.noted.push(channel.clone());
        drop(state);
        self.interests.wake();
    }

    /// Subscribes to a channel and waits until the node hears it.
    pub(crate) fn attach(&self, channel: &Channel) {
        let before = self.attached(channel);
        self.subscribe(channel, 1);
        wait_until("the node hears the channel", || self.attached(channel) > before);
    }

    /// Returns how often requests on a channel were carried out.
    pub(crate) fn attached(&self, channel: &Channel) -> u32 {
        self.of(channel, |one| one.attached)
    }

    /// Returns how often requests on a channel were refused.
    pub(crate) fn refused(&self, channel: &Channel) -> u32 {
        self.of(channel, |one| one.refused)
    }

    /// Returns how often the node has ceased to hear a channel.
    pub(crate) fn detached(&self, channel: &Channel) -> u32 {
        self.of(channel, |one| one.detached)
    }

    pub(crate) fn heard(&self, channel: &Channel) -> Vec<Heard> {
        self.of(channel, |one| one.heard.clone())
    }

    /// Returns how many publications of a channel were heard.
    pub(crate) fn count(&self, channel: &Channel) -> usize {
        self.of(channel, |one| one.heard.iter().filter(|heard| **heard != Heard::Gap).count())
    }

    /// Returns how many gaps of a channel were told.
    pub(crate) fn gaps(&self, channel: &Channel) -> usize {
        self.of(channel, |one| one.heard.iter().filter(|heard| **heard == Heard::Gap).count())
    }

    /// Publishes and returns the publication's token.
    pub(crate) fn publish(&self, channel: &Channel, text: &str) -> u64 {
        self.publish_as(channel, text, Uuid::from_u128(rand::random()), false)
    }

    /// Publishes, and lets nodes count who receives it.
    pub(crate) fn publish_counted(&self, channel: &Channel, text: &str) -> u64 {
        self.publish_as(channel, text, Uuid::from_u128(rand::random()), true)
    }

    /// Publishes with this id.
    pub(crate) fn publish_as(
        &self,
        channel: &Channel,
        text: &str,
        id: Uuid,
        is_counted: bool,
    ) -> u64 {
        static TOKENS: AtomicU64 = AtomicU64::new(1);
        let token = TOKENS.fetch_add(1, SeqCst);
        let payload = format!("\"{text}\"").into();
        let content = match channel.space() {
            fanfare::message::Space::Topics => Content::Event { payload },
            _ => Content::Message { event: "e".into(), payload, sender: Sender::System },
        };
        let repeat = Some(RepeatKey::of(&["publisher"], channel, id));
        let publication = wire::Published { channel: channel.clone(), id, at: 1, content };
        let departing = Departing { token, publication, is_counted, repeat };
        self.lock().outgoing.push_back(departing);
        self.interests.wake();
        token
    }

    /// Returns what became of a publication so far.
    pub(crate) fn outcomes(&self, token: u64) -> Vec<Published> {
        self.lock().settled.get(&token).cloned().unwrap_or_default()
    }

    /// Waits for what became of a publication.
    pub(crate) fn outcome(&self, token: u64) -> Published {
        wait_until("the publication is settled", || !self.outcomes(token).is_empty());
        self.outcomes(token)[0]
    }

    /// Waits for the audience of a publication.
    pub(crate) fn total(&self, token: u64) -> Total {
        wait_until("the audience is counted", || self.lock().totals.contains_key(&token));
        self.lock().totals[&token].clone()
    }

    /// Sets whether the worker's mailbox is full.
    pub(crate) fn fill(&self, is_full: bool) {
        self.lock().is_full = is_full;
    }

    /// Drops publications from now on instead of recording them.
    pub(crate) fn measure(&self) {
        self.lock().is_measured = true;
    }

    /// Returns the CPU time of the thread, in microseconds.
    pub(crate) fn cpu_micros(&self) -> u64 {
        self.cpu.load(SeqCst) / 1_000
    }

    pub(crate) fn counter(&self, which: impl Fn(&Counters) -> &Counter) -> u64 {
        which(&self.counters).get()
    }

    /// Ends the node and waits for its thread.
    pub(crate) fn end(&mut self) {
        self.lock().is_over = true;
        self.interests.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread ends well");
        }
    }

    /// Returns whether the thread has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn of<T>(&self, channel: &Channel, read: impl Fn(&Subscribed) -> T) -> T {
        read(self.lock().channels.get(channel).unwrap_or(&Subscribed::default()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.lock().is_over = true;
        self.interests.wake();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the node's thread has panicked");
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The node behind the thread.
struct Behaviour {
    state: Arc<Mutex<State>>,
    start: Instant,
    cpu: Arc<AtomicU64>,
}

impl Behaviour {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Subscribed {
    fn give(&mut self, seq: Seq, published: &wire::Published) {
        let text = match &published.content {
            Content::Message { payload, .. } | Content::Event { payload } => payload,
            other => panic!("{other:?}"),
        };
        self.heard.push(Heard::At(seq, text.trim_matches('"').to_owned()));
    }
}

impl Landing for Behaviour {
    fn begin_again(&mut self) {
        panic!("no test lets a node join again");
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            nanos: u64::try_from(self.start.elapsed().as_nanos()).expect("a test is short"),
            wall: u64::try_from(wall.as_millis()).expect("it is not that late"),
        }
    }

    fn ending(&self) -> Ending {
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let nanos = cpu.tv_sec * 1_000_000_000 + cpu.tv_nsec;
        self.cpu.store(nanos.cast_unsigned(), SeqCst);
        if self.lock().is_over { Ending::Over } else { Ending::No }
    }

    fn is_idle(&self) -> bool {
        let state = self.lock();
        state.noted.is_empty() && state.outgoing.is_empty()
    }

    fn noted(&mut self) -> Vec<Channel> {
        std::mem::take(&mut self.lock().noted)
    }

    fn needed(&mut self, channel: &Channel) -> Option<Want> {
        let is_needed = self.lock().channels.get(channel).is_some_and(|one| one.subscribers > 0);
        let needs_listener = channel.space() == fanfare::message::Space::Topics;
        let want = Want { channel: channel.clone(), needs_seed: false, needs_listener };
        is_needed.then_some(want)
    }

    fn lacks_earlier(&mut self, _: &Channel) -> Option<Seq> {
        None
    }

    fn earlier(&mut self, _: &Channel, _: Option<Earlier>) -> bool {
        panic!("no test asks for what is earlier");
    }

    fn attached(&mut self, channel: &Channel, _: MarkPlace) -> bool {
        self.lock().channels.entry(channel.clone()).or_default().attached += 1;
        false
    }

    fn unattachable(&mut self, channel: &Channel) -> bool {
        self.lock().channels.entry(channel.clone()).or_default().refused += 1;
        false
    }

    fn detached(&mut self, channel: &Channel) {
        self.lock().channels.entry(channel.clone()).or_default().detached += 1;
    }

    fn deliver(&mut self, publication: wire::Published, place: MarkPlace, _: bool) -> Landed {
        let seq = place.seq();
        let mut state = self.lock();
        if state.is_measured {
            return Landed::default();
        }
        let is_full = state.is_full;
        let one = state.channels.entry(publication.channel.clone()).or_default();
        if one.behind.is_none() && is_full {
            one.behind = Some(one.offset);
        }
        if one.behind.is_none() {
            one.give(seq, &publication);
        }
        one.offset = seq;
        let audience = Audience { websocket: one.subscribers, ..Audience::default() };
        Landed { audience, is_behind: one.behind.is_some() }
    }

    fn behind(&mut self, channel: &Channel) -> Option<Vec<Behind>> {
        let state = self.lock();
        let one = state.channels.get(channel)?;
        let behind = Behind { worker: WORKER, after: one.behind?, up_to: one.offset };
        Some(if state.is_full { vec![] } else { vec![behind] })
    }

    fn catch_up(
        &mut self,
        channel: &Channel,
        _: WorkerId,
        missed: Vec<(MarkPlace, wire::Published)>,
    ) -> bool {
        let mut state = self.lock();
        let one = state.channels.get_mut(channel).expect("the channel is known");
        let mut given = one.behind.expect("the worker is behind");
        for (place, published) in missed.iter().filter(|(place, _)| place.seq() > given) {
            one.give(place.seq(), published);
        }
        given = given.max(missed.last().map_or(0, |(place, _)| place.seq()));
        one.behind = (given < one.offset).then_some(given);
        one.behind.is_some()
    }

    fn gap(&mut self, channel: &Channel, worker: Option<(WorkerId, Seq)>) -> bool {
        let mut state = self.lock();
        let one = state.channels.entry(channel.clone()).or_default();
        one.heard.push(Heard::Gap);
        if let Some((_, seq)) = worker {
            one.behind = one.behind.map(|after| after.max(seq)).filter(|after| *after < one.offset);
        }
        false
    }

    // These nodes have no limited rates.
    fn has_takings(&self) -> bool {
        false
    }

    fn takings(&mut self) -> Vec<Taking> {
        Vec::new()
    }

    fn takings_told(&mut self) {}

    fn taken_elsewhere(&mut self, _: &[Taking]) {}

    // These nodes have no members.
    fn outgoing(&mut self, _: &Channel, _: MessageId) -> Outgoing {
        Outgoing::default()
    }

    fn members(&mut self, _: &Channel, _: MessageId) -> Vec<Tidings> {
        Vec::new()
    }

    fn tell_list(&mut self, _: &Channel) {}

    fn told(&mut self, _: &Channel, _: &NodeLife, _: &Tidings) -> Applied {
        Applied::default()
    }

    fn listed(&mut self, _: &Channel, _: Option<&[NodeLife]>, _: bool, _: MessageId) -> Applied {
        Applied::default()
    }

    fn members_of(&mut self, _: &str, _: Option<u64>) -> Vec<Left> {
        Vec::new()
    }

    fn departing(&mut self) -> Option<Departing> {
        self.lock().outgoing.pop_front()
    }

    fn settled(&mut self, token: u64, published: Published, _epoch: u64) {
        self.lock().settled.entry(token).or_default().push(published);
    }

    fn counted(&mut self, total: Total) {
        self.lock().totals.insert(total.number, total);
    }

    fn measured(&mut self, _: Vitals) {}

    fn condition(&mut self, condition: &Condition) {
        self.lock().condition = Some(condition.clone());
    }
}

/// Waits until all nodes have heard this many publications of a channel, and checks that these are
/// the same, in one order and without a gap.
pub(crate) fn one_order(nodes: &[&Node], channel: &Channel, count: usize) -> Vec<Heard> {
    for node in nodes {
        wait_until("the node hears everything", || node.count(channel) >= count);
    }
    let first = nodes[0].heard(channel);
    let is_rising = first.windows(2).all(|pair| match pair {
        [Heard::At(one, _), Heard::At(next, _)] => one < next,
        _ => false,
    });
    assert!(is_rising && first.len() == count, "{} heard: {first:?}", first.len());
    for node in &nodes[1..] {
        assert!(node.heard(channel) == first, "{:?} is not {first:?}", node.heard(channel));
    }
    first
}

/// Lets some time pass in which nothing is to happen.
pub(crate) fn quiet(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}
