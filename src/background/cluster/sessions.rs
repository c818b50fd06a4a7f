//! The desk of sessions that all nodes share: carries out what workers wish for, in their stream,
//! and answers them.
//!
//! Each word on a session replaces the last one only if that is still the last (compare-and-set),
//! so that one node alone has a session.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::client::{Client, Latest};
use crate::cluster::ack::{Ack, Refusal};
use crate::cluster::name::{NodeName, Prefix, Seq};
use crate::cluster::sessions::{self, Word};
use crate::limits::{
    SESSION_BYTES_MAX, SESSION_CALLS_MAX, SESSION_CHANGING_MS, SESSION_END_MS, SESSION_END_SECONDS,
    SESSION_LOOK_MS, SESSION_MS_MAX, SESSION_NEW_MS, SESSION_PROOF_MS, SESSION_SECONDS,
};
use crate::mailbox::{Mail, Mailboxes, SessionAsk};
use crate::message::{
    Credential, NotShared, NotTaken, Offset, RecoveryKey, SessionTold, SessionWish, SessionWord,
    SharedSession, TakenSession, WorkerId,
};
use crate::metrics::Counters;

const CALLS_MAX: u32 = SESSION_CALLS_MAX as u32;

/// What workers wish for, and where they are answered.
#[derive(Debug)]
pub struct Asked {
    asks: Receiver<SessionAsk>,
    mailboxes: Arc<Mailboxes>,
}

/// How far the node has certainly received the stream of publications.
pub(super) struct Proof {
    /// Asks the owner of the line for a proof.
    wanted: mpsc::Sender<()>,
    /// The place up to which nothing is missing.
    whole: watch::Receiver<Seq>,
}

/// The owner's end of [`Proof`].
pub(super) struct Proving {
    pub(super) wanted: mpsc::Receiver<()>,
    pub(super) whole: watch::Sender<Seq>,
}

/// Creates both ends.
pub(super) fn proof() -> (Proof, Proving) {
    let (wanted, asked) = mpsc::channel(1);
    let (told, whole) = watch::channel(0);
    (Proof { wanted, whole }, Proving { wanted: asked, whole: told })
}

impl Asked {
    /// Creates the way.
    pub fn new(asks: Receiver<SessionAsk>, mailboxes: Arc<Mailboxes>) -> Self {
        Self { asks, mailboxes }
    }

    /// Returns whether no wish waits.
    pub(super) fn is_empty(&self) -> bool {
        self.asks.is_empty()
    }

    /// Passes the wishes that wait on to the desk, as far as that has room.
    pub(super) fn pass_on(&self, desk: &mpsc::Sender<SessionAsk>) {
        while let Ok(place) = desk.try_reserve()
            && let Ok(ask) = self.asks.try_recv()
        {
            place.send(ask);
        }
    }

    /// Answers all wishes that the cluster cannot be reached.
    pub(super) fn refuse_all(&self) {
        for ask in self.asks.try_iter() {
            let what = match ask.wish {
                SessionWish::Share(..) => SessionWord::Shared(Err(NotShared::Unknown)),
                SessionWish::Take { connection, .. } => {
                    SessionWord::Taken(connection, Err(NotTaken::Unavailable))
                }
                SessionWish::End(_) => continue,
            };
            self.answer(ask.worker, ask.session, what);
        }
    }

    fn answer(&self, worker: WorkerId, session: RecoveryKey, what: SessionWord) {
        let told = Mail::Session(Box::new(SessionTold { session, what }));
        self.mailboxes.workers.of(worker).answer(told);
    }
}

/// Serves until nothing more can come, and then what is there, for a while.
pub(super) async fn serve(
    asked: Arc<Asked>,
    (prefix, me): (Prefix, NodeName),
    (client, proof): (Client, Proof),
    counters: Arc<Counters>,
    mut asks: mpsc::Receiver<SessionAsk>,
) {
    let places = Arc::new(Semaphore::new(SESSION_CALLS_MAX));
    let desk = Desk { asked: asked.clone(), prefix, me, client, proof, counters };
    let desk = Arc::new(desk);
    let begin = async |ask| {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let desk = desk.clone();
        tokio::spawn(async move {
            desk.carry_out(ask).await;
            drop(place);
        });
    };
    while let Some(ask) = asks.recv().await {
        begin(ask).await;
    }
    // When all places are free, nothing is under way.
    let all = places.acquire_many(CALLS_MAX);
    let _ = timeout(Duration::from_millis(SESSION_END_MS), all).await;
}

/// Why a word was not put in the place of the last one.
enum Unput {
    /// The last word has this place; 0 if the session has no word.
    Moved(Seq),
    Full,
    Unknown,
}

impl Unput {
    fn told(self) -> NotShared {
        match self {
            Self::Moved(_) => NotShared::Moved,
            Self::Full => NotShared::Full,
            Self::Unknown => NotShared::Unknown,
        }
    }
}

struct Desk {
    asked: Arc<Asked>,
    prefix: Prefix,
    me: NodeName,
    client: Client,
    proof: Proof,
    counters: Arc<Counters>,
}

impl Desk {
    async fn carry_out(&self, ask: SessionAsk) {
        let SessionAsk { session, worker, wish } = ask;
        let end = Instant::now() + Duration::from_millis(SESSION_MS_MAX);
        let what = match wish {
            SessionWish::Share(shared, last) => {
                let done = self.share(&session, shared.as_deref(), last, end).await;
                self.count_shared(shared.is_some(), done);
                SessionWord::Shared(done)
            }
            SessionWish::End(last) => {
                // It is forgotten later if this fails.
                let _ = self.put(&session, (Vec::new(), SESSION_END_SECONDS), last, end).await;
                return;
            }
            SessionWish::Take { connection, credential, up_to } => {
                let taken = self.take(&session, &credential, up_to, end).await;
                self.count_taken(&taken);
                SessionWord::Taken(connection, taken.map(Box::new))
            }
        };
        self.asked.answer(worker, session, what);
    }

    fn count_shared(&self, is_whole: bool, done: Result<Offset, NotShared>) {
        let counters = &self.counters;
        match done {
            Ok(_) if is_whole => counters.cluster_sessions_shared.add(1),
            Ok(_) => counters.cluster_sessions_changing.add(1),
            Err(NotShared::Moved) => counters.cluster_sessions_moved.add(1),
            Err(NotShared::Full) => counters.cluster_sessions_full.add(1),
            Err(NotShared::Unknown) => counters.cluster_sessions_failed.add(1),
        }
    }

    fn count_taken(&self, taken: &Result<TakenSession, NotTaken>) {
        let counters = &self.counters;
        match taken {
            Ok(_) => counters.cluster_sessions_taken.add(1),
            Err(NotTaken::Unknown | NotTaken::Ended | NotTaken::Changing | NotTaken::Foreign) => {
                counters.cluster_sessions_unknown.add(1);
            }
            Err(NotTaken::Unavailable) => counters.cluster_sessions_failed.add(1),
        }
    }

    /// Puts a word in the place of the last one. If that is not where the worker thinks, it may be
    /// gone, or be a word of this node whose answer was lost.
    async fn share(
        &self,
        key: &RecoveryKey,
        session: Option<&SharedSession>,
        last: Offset,
        end: Instant,
    ) -> Result<Offset, NotShared> {
        let text = sessions::encode(&self.me, session).into_bytes();
        if text.len() > SESSION_BYTES_MAX {
            return Err(NotShared::Full);
        }
        let moved = match self.put(key, (text.clone(), SESSION_SECONDS), last, end).await {
            Err(Unput::Moved(moved)) => moved,
            put => return put.map_err(Unput::told),
        };
        if moved != 0 {
            let last = self.last(key, end).await.ok_or(NotShared::Unknown)?;
            let is_own = |word: &Word| *word.by == *self.me.as_str();
            let is_own = last.is_some_and(|(_, word)| word.as_ref().is_none_or(is_own));
            if !is_own {
                return Err(NotShared::Moved);
            }
        }
        self.put(key, (text, SESSION_SECONDS), moved, end).await.map_err(Unput::told)
    }

    /// Puts a word in the place of the last one, which NATS keeps for so many seconds.
    async fn put(
        &self,
        key: &RecoveryKey,
        (text, seconds): (Vec<u8>, u64),
        last: Offset,
        end: Instant,
    ) -> Result<Offset, Unput> {
        let (stream, subject) =
            (sessions::stream(&self.prefix), sessions::subject(&self.prefix, key));
        let message = (vec![("Nats-TTL", format!("{seconds}s"))], text);
        match self.client.store((&stream, subject), message, Some(last), end).await {
            Some(Ack::Stored { seq, .. }) => Ok(seq),
            Some(Ack::Refused(Refusal::Moved(last))) => Err(Unput::Moved(last)),
            Some(Ack::Refused(Refusal::Error(_))) => Err(Unput::Full),
            Some(Ack::Refused(Refusal::Overloaded | Refusal::Unavailable)) | None => {
                Err(Unput::Unknown)
            }
        }
    }

    /// Takes a session over. If its node says another word meanwhile, that word is taken instead.
    async fn take(
        &self,
        key: &RecoveryKey,
        credential: &Credential,
        up_to: Offset,
        end: Instant,
    ) -> Result<TakenSession, NotTaken> {
        let text = sessions::encode(&self.me, None).into_bytes();
        let patience = Instant::now() + Duration::from_millis(SESSION_CHANGING_MS);
        loop {
            let (before, session) = self.settled(key, patience, end).await?;
            if !session.credential.is_same_client(credential) {
                return Err(NotTaken::Foreign);
            }
            // The node must not deliver what the client has received elsewhere.
            if !self.proof.is_whole(up_to, end).await {
                return Err(NotTaken::Unavailable);
            }
            match self.put(key, (text.clone(), SESSION_SECONDS), before, end).await {
                Ok(now) => return Ok(TakenSession { session, before, now }),
                Err(Unput::Moved(_)) => {}
                Err(Unput::Full | Unput::Unknown) => return Err(NotTaken::Unavailable),
            }
        }
    }

    /// Returns what is shared of a session, and the place of that word. A session that is changing
    /// may be shared in a moment, if its node lives, and so may one without a word.
    async fn settled(
        &self,
        key: &RecoveryKey,
        patience: Instant,
        end: Instant,
    ) -> Result<(Seq, SharedSession), NotTaken> {
        let mut may_be_new = true;
        loop {
            let last = self.last(key, end).await.ok_or(NotTaken::Unavailable)?;
            match last {
                Some((place, Some(Word { session: Some(session), .. }))) => {
                    return Ok((place, session));
                }
                Some((_, Some(_))) if Instant::now() < patience => {
                    sleep(Duration::from_millis(SESSION_LOOK_MS)).await;
                }
                Some((_, Some(_))) => return Err(NotTaken::Changing),
                Some((_, None)) => return Err(NotTaken::Ended),
                None if may_be_new => {
                    may_be_new = false;
                    sleep(Duration::from_millis(SESSION_NEW_MS)).await;
                }
                None => return Err(NotTaken::Unknown),
            }
        }
    }

    /// Asks for the last word on a session and its place. Returns `None` without an answer, and
    /// `Some(None)` if the session has no word.
    async fn last(&self, key: &RecoveryKey, end: Instant) -> Option<Option<(Seq, Option<Word>)>> {
        let (stream, subject) =
            (sessions::stream(&self.prefix), sessions::subject(&self.prefix, key));
        let last = self.client.last(&stream, &subject, end).await?;
        Some(last.map(|Latest { seq, body }| (seq, sessions::decode(&body))))
    }
}

impl Proof {
    /// Waits until the node has certainly received everything up to this place. Returns false if
    /// that is not so in time.
    async fn is_whole(&self, up_to: Seq, end: Instant) -> bool {
        let mut whole = self.whole.clone();
        while *whole.borrow_and_update() < up_to {
            // If a request waits already, that one serves.
            let _ = self.wanted.try_send(());
            let again = Instant::now() + Duration::from_millis(SESSION_PROOF_MS);
            let changed = timeout_at(again.min(end), whole.changed()).await;
            if matches!(changed, Ok(Err(_))) || Instant::now() >= end {
                return false;
            }
        }
        true
    }
}
