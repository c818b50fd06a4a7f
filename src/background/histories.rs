//! The way between the threads of the store and the task of the cluster that makes one history of
//! those of all nodes (`background/cluster/history.rs`).
//!
//! Callers ask the threads of the store, which pass what concerns all nodes on to the task. The
//! task asks the other nodes, and the threads of its own store as it asks others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, never};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::admin::sharing::{Administering, Sharing};
use super::store::{Reader, Store, StoreError};
use crate::cluster::history::{Answer, Below, Question, Refusal};
use crate::cluster::name::NodeName;
use crate::limits::{
    CLUSTER_HISTORY_CALLS_MAX, CLUSTER_HISTORY_WAITING_MAX, CLUSTER_REPEATS_WAITING_MAX,
};
use crate::mailbox::{Changed, Gathered, Keep, Mailboxes, StoreRefusal, StoreResult, Ticket};
use crate::message::{Attempt, MessageName, MessageQuery, Stats, StatsQuery, StoredMessage};

/// Stands for nodes whose names are not known.
pub(in crate::background) const UNNAMED: &str = "*";

/// A question of a caller that concerns all nodes.
#[derive(Debug)]
pub(in crate::background) enum Asked {
    /// For a page of messages.
    Messages(Ticket<StoreResult<Gathered<Vec<StoredMessage>>>>, MessageQuery),
    /// For counts of messages.
    Stats(Ticket<StoreResult<Gathered<Box<Stats>>>>, StatsQuery),
    /// To remove all messages.
    Clear(Ticket<StoreResult<Changed<u64>>>),
}

impl Asked {
    /// Refuses what the caller has asked.
    pub(in crate::background) fn refuse(self, mailboxes: &Mailboxes, refusal: StoreRefusal) {
        match self {
            Self::Messages(ticket, _) => mailboxes.answer(ticket, Err(refusal)),
            Self::Stats(ticket, _) => mailboxes.answer(ticket, Err(refusal)),
            Self::Clear(ticket) => mailboxes.answer(ticket, Err(refusal)),
        }
    }
}

/// A question of the task to a thread of the store.
#[derive(Debug)]
pub(in crate::background) struct Look {
    /// What the thread is asked.
    pub(in crate::background) question: Question,
    /// The name of this node.
    pub(in crate::background) node: NodeName,
    /// Takes the answer.
    pub(in crate::background) answer: oneshot::Sender<Answer>,
}

/// The ends of the threads of the store on the ways to other nodes.
#[derive(Debug)]
pub struct Shares {
    /// The writer's, for what administrators set.
    pub sharing: Sharing,
    /// The reader's.
    pub reading: Reading,
    /// The writer's.
    pub writing: Writing,
}

/// The ends of the thread of the cluster on these ways.
#[derive(Debug)]
pub struct Ways {
    /// For what administrators set.
    pub administration: Administering,
    /// For history. The task holds the lock.
    pub history: Gatherer,
}

/// The end of the task, which locks it as long as it runs.
pub type Gatherer = Arc<Mutex<Gathering>>;

impl Shares {
    /// Returns the ends of a node that is alone.
    pub fn alone() -> Self {
        let (reading, writing) =
            (Reading { task: None, looks: never() }, Writing { task: None, looks: never() });
        Self { sharing: Sharing::alone(), reading, writing }
    }

    /// Returns the ends of a node of a cluster, and those of its thread of the cluster.
    pub fn with(mailboxes: &Arc<Mailboxes>) -> (Self, Ways) {
        let (sharing, administration) = Sharing::with(mailboxes);
        let (reading, writing, history) = open(mailboxes);
        (Self { sharing, reading, writing }, Ways { administration, history })
    }
}

/// The end of the thread that reads.
#[derive(Debug)]
pub struct Reading {
    task: Option<Task<Asked>>,
    looks: Receiver<Look>,
}

/// The end of the thread that writes.
#[derive(Debug)]
pub struct Writing {
    task: Option<(Task<Asked>, Task<Keep>)>,
    looks: Receiver<Look>,
}

/// The end of the task. It outlives the task, which begins again whenever the node joins again.
#[derive(Debug)]
pub struct Gathering {
    /// What callers ask.
    pub(in crate::background) asked: mpsc::Receiver<Asked>,
    /// Messages that were published again, and that another node may have.
    pub(in crate::background) repeats: mpsc::Receiver<Keep>,
    pub(in crate::background) own: Own,
    pub(in crate::background) mailboxes: Arc<Mailboxes>,
    is_open: Arc<AtomicBool>,
}

/// The threads of the node's own store.
#[derive(Clone, Debug)]
pub(in crate::background) struct Own {
    reader: Sender<Look>,
    writer: Sender<Look>,
}

/// The way to the task, while it serves.
#[derive(Debug)]
struct Task<T> {
    queue: mpsc::Sender<T>,
    is_open: Arc<AtomicBool>,
}

impl<T> Task<T> {
    /// Passes something on to the task. Returns it if the task does not serve, or has no room.
    fn offer(&self, what: T) -> Result<(), Unoffered<T>> {
        if !self.is_open.load(Ordering::Acquire) {
            return Err(Unoffered::Closed(what));
        }
        self.queue.try_send(what).map_err(|unsent| match unsent {
            mpsc::error::TrySendError::Full(what) => Unoffered::Full(what),
            mpsc::error::TrySendError::Closed(what) => Unoffered::Closed(what),
        })
    }
}

/// Passes something on to the task, if the node has one.
fn offer<T>(task: Option<&Task<T>>, what: T) -> Result<(), Unoffered<T>> {
    match task {
        Some(task) => task.offer(what),
        None => Err(Unoffered::Closed(what)),
    }
}

/// What could not be passed on to the task.
pub(in crate::background) enum Unoffered<T> {
    /// The node is alone, or has not joined its cluster.
    Closed(T),
    /// Too much waits.
    Full(T),
}

/// Opens the ways between the threads of the store and the task.
fn open(mailboxes: &Arc<Mailboxes>) -> (Reading, Writing, Gatherer) {
    let (ask, asked) = mpsc::channel(CLUSTER_HISTORY_WAITING_MAX);
    let (repeat, repeats) = mpsc::channel(CLUSTER_REPEATS_WAITING_MAX);
    let (reader, of_reader) = bounded(CLUSTER_HISTORY_CALLS_MAX);
    let (writer, of_writer) = bounded(CLUSTER_HISTORY_CALLS_MAX);
    let is_open = Arc::<AtomicBool>::default();
    let asks = || Task { queue: ask.clone(), is_open: is_open.clone() };
    let repeats_to = Task { queue: repeat, is_open: is_open.clone() };
    let reading = Reading { task: Some(asks()), looks: of_reader };
    let writing = Writing { task: Some((asks(), repeats_to)), looks: of_writer };
    let own = Own { reader, writer };
    let gathering = Gathering { asked, repeats, own, mailboxes: mailboxes.clone(), is_open };
    (reading, writing, Arc::new(Mutex::new(gathering)))
}

impl Reading {
    /// Returns the questions of the task.
    pub(in crate::background) fn looks(&self) -> &Receiver<Look> {
        &self.looks
    }

    /// Passes a question on to the task. Returns it if the node answers alone or not at all.
    pub(in crate::background) fn pass_on(&self, asked: Asked) -> Result<(), Unoffered<Asked>> {
        offer(self.task.as_ref(), asked)
    }

    /// Returns what the node has found alone, as an answer that says whether others are missing.
    pub(in crate::background) fn alone<T>(&self, found: T) -> Gathered<T> {
        let unanswered = self.task.iter().map(|_| UNNAMED.into()).collect();
        Gathered { found, unanswered }
    }
}

impl Writing {
    /// Returns the questions of the task.
    pub(in crate::background) fn looks(&self) -> &Receiver<Look> {
        &self.looks
    }

    /// Returns whether the node has a part in a cluster.
    pub(in crate::background) fn is_shared(&self) -> bool {
        self.task.is_some()
    }

    /// Passes a request on to the task. Returns it if the task does not take it.
    pub(in crate::background) fn pass_on(&self, asked: Asked) -> Result<(), Unoffered<Asked>> {
        offer(self.task.as_ref().map(|(asks, _)| asks), asked)
    }

    /// Passes a message on that was published before and that this store does not have, because
    /// another node may have it. Returns what history is to keep here at once.
    pub(in crate::background) fn pass_repeat(&self, keep: Keep, store: &Store) -> Option<Keep> {
        let Some((_, repeats)) = &self.task else { return Some(keep) };
        if keep.record.attempt != Attempt::Repeated {
            return Some(keep);
        }
        let name = MessageName::of(&keep.record.publication);
        // An error shows when the message is appended.
        if name.is_none_or(|name| store.has(&name).unwrap_or(true)) {
            return Some(keep);
        }
        match repeats.offer(keep) {
            Ok(()) => None,
            Err(Unoffered::Closed(keep) | Unoffered::Full(keep)) => Some(keep),
        }
    }
}

impl Gathering {
    /// Opens or closes the way to the task.
    pub(in crate::background) fn open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Release);
    }
}

impl Own {
    /// Asks the thread of the store that the question is for.
    pub(in crate::background) async fn ask(&self, question: Question, node: NodeName) -> Answer {
        let (answer, answered) = oneshot::channel();
        let thread = match question {
            Question::Clear | Question::Has(..) => &self.writer,
            _ => &self.reader,
        };
        if thread.try_send(Look { question, node, answer }).is_err() {
            return Answer::Refused(Refusal::Busy);
        }
        // The thread has ended.
        answered.await.unwrap_or(Answer::Refused(Refusal::Busy))
    }
}

/// Answers a question of the task to the thread that reads.
pub(in crate::background) fn answer(reader: &mut Reader, look: Look) {
    let Look { question, node, answer } = look;
    let answered = find(reader, question, node);
    // The task does not wait any more if it takes no answer.
    let _ = answer.send(answered.unwrap_or_else(|error| Answer::Refused(refusal(&error))));
}

fn find(reader: &mut Reader, question: Question, node: NodeName) -> Result<Answer, StoreError> {
    Ok(match question {
        Question::Locate(id) => Answer::Located(reader.locate(id)?),
        Question::Find { filter, below, skip, limit } => {
            let below = below.map_or(Below::End, |key| key.on(&node));
            Answer::Found(reader.find(&filter, below, skip, limit)?)
        }
        Question::Read(positions) => Answer::Read(reader.read(&positions)?),
        Question::Count(query) => Answer::Counted(reader.share(query)?),
        // The writer answers these.
        Question::Clear | Question::Has(..) => Answer::Refused(Refusal::Failed),
    })
}

/// Converts an error into the reason that the node which asked is given. Logs errors of the store.
pub(in crate::background) fn refusal(error: &StoreError) -> Refusal {
    match super::refused(error, "history could not be read or changed for another node") {
        StoreRefusal::TooSlow => Refusal::TooSlow,
        StoreRefusal::Busy => Refusal::Busy,
        _ => Refusal::Failed,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::cluster::history::{Filter, Key};
    use crate::message::{
        Audience, ChannelDefinition, Content, Durability, Publication, Record, Sender,
    };

    fn keep(number: u128, attempt: Attempt) -> Keep {
        let definition = ChannelDefinition::numbered(1, "c");
        let (event, payload) = ("e".into(), "1".into());
        let content = Content::Message { event, payload, sender: Sender::System };
        let publication = Publication::new(Uuid::from_u128(number), "c".into(), 0, content);
        let record = Record::new(Arc::new(publication), Arc::new(definition), Audience::default());
        Keep { record: Record { attempt, ..record }, level: Durability::Memory, ticket: None }
    }

    #[test]
    fn only_what_another_node_may_have_is_passed_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(directory.path().join("fanfare.db")).unwrap();
        let (mailboxes, _inboxes) = Mailboxes::new(1, 1, 1, usize::MAX).unwrap();
        let (Shares { writing, .. }, Ways { history, .. }) = Shares::with(&Arc::new(mailboxes));
        let mut gathering = history.try_lock().unwrap();
        let is_kept_here = |store: &Store, number, attempt| {
            writing.pass_repeat(keep(number, attempt), store).is_some()
        };
        assert!(is_kept_here(&store, 1, Attempt::Repeated), "the node has not joined");
        gathering.open(true);
        assert!(is_kept_here(&store, 1, Attempt::First));
        assert!(is_kept_here(&store, 1, Attempt::Checked));
        assert!(!is_kept_here(&store, 1, Attempt::Repeated));
        assert_eq!(gathering.repeats.try_recv().unwrap().record.publication.id.as_u128(), 1);
        store.append(&[keep(1, Attempt::First).record], false).unwrap();
        assert!(is_kept_here(&store, 1, Attempt::Repeated), "this node has it");
        for _ in 0..CLUSTER_REPEATS_WAITING_MAX {
            assert!(!is_kept_here(&store, 2, Attempt::Repeated));
        }
        assert!(is_kept_here(&store, 2, Attempt::Repeated), "too many wait");
        let alone = Shares::alone();
        assert!(alone.writing.pass_repeat(keep(2, Attempt::Repeated), &store).is_some());
        assert!(alone.reading.alone(7).unanswered.is_empty());
        assert_eq!(Shares::with(&gathering.mailboxes).0.reading.alone(7).unanswered, ["*".into()]);
    }

    #[test]
    fn the_store_answers_as_the_task_asks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fanfare.db");
        let mut store = Store::open(&path).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        store.append(&[keep(1, Attempt::First).record], false).unwrap();
        let mut ask = |question| {
            let (answer, mut answered) = oneshot::channel();
            let node = NodeName::read("n1").unwrap();
            super::answer(&mut reader, Look { question, node, answer });
            answered.try_recv().unwrap()
        };
        let find = |below| Question::Find { filter: Filter::default(), below, skip: 0, limit: 9 };
        let Answer::Found(found) = ask(find(None)) else { panic!("it finds") };
        let Answer::Located(Some(held)) = ask(Question::Locate(Uuid::from_u128(1))) else {
            panic!("it has the message")
        };
        assert_eq!(found, [held]);
        assert_eq!(ask(Question::Locate(Uuid::from_u128(2))), Answer::Located(None));
        let key =
            Key { place: held.place, node: NodeName::read("n1").unwrap(), position: held.position };
        assert_eq!(ask(find(Some(key))), Answer::Found(Vec::new()));
        let Answer::Read(read) = ask(Question::Read(vec![held.position, 99])) else {
            panic!("it reads")
        };
        assert_eq!(read.len(), 1);
        let Answer::Counted(share) = ask(Question::Count(StatsQuery::default())) else {
            panic!("it counts")
        };
        assert_eq!((share.messages, share.events.len()), (1, 1));
        assert_eq!(ask(Question::Clear), Answer::Refused(Refusal::Failed), "the writer's");
    }
}
