//! The way between the writer and the thread of the cluster: changes that administrators wish for
//! go there, and come back as changes that all nodes take.

use std::future::pending;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded, never};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{Planned, all, plan, refusal, refuse};
use crate::background::News;
use crate::background::store::{Followed, Following, Store};
use crate::cluster::admin::{Entry, Key};
use crate::limits::{ADMIN_CALLS_MAX, ADMIN_WISHES_MAX, INVOCATION_WISHES_MAX};
use crate::mailbox::{Mailboxes, StoreRefusal, StoreResult, Wish};

/// A question of the thread of the cluster to the writer.
#[derive(Debug)]
pub(in crate::background) enum Call {
    /// How far the store has followed, and what it has.
    State(oneshot::Sender<StoreResult<State>>),
    /// What a change would make of what the store has. The wish comes back with the answer.
    Plan(Wish, oneshot::Sender<(Wish, StoreResult<Plan>)>),
    /// To take changes, which are in force when this is answered.
    Follow(Following, oneshot::Sender<StoreResult<()>>),
}

/// What a store has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::background) struct State {
    /// How far it has followed; `None` if it follows no cluster.
    pub followed: Option<Followed>,
    /// What is set and in effect.
    pub entries: Vec<Entry>,
    /// What was set on the node alone, and is not in effect.
    pub set_aside: Vec<Entry>,
}

/// A change that is possible at this revision, and no other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::background) struct Plan {
    /// How far the store has followed.
    pub revision: u64,
    /// The change.
    pub planned: Planned,
}

/// The writer's end of the way.
#[derive(Debug)]
pub struct Sharing {
    wishes: Option<Wishes>,
    calls: Receiver<Call>,
}

/// The end of the thread of the cluster for changes of administrators.
#[derive(Debug)]
pub struct Administration {
    /// The changes.
    pub(in crate::background) waiting: Waiting,
    calls: Sender<Call>,
}

/// Wishes that wait for a task of the thread of the cluster.
#[derive(Debug)]
pub struct Waiting {
    wishes: mpsc::Receiver<Wish>,
    mailboxes: Arc<Mailboxes>,
}

/// The way of wishes to the thread of the cluster.
#[derive(Debug)]
struct Wishes {
    changes: mpsc::Sender<Wish>,
    invocations: mpsc::Sender<Wish>,
}

/// The ends of the thread of the cluster. The task that follows the cluster's bucket of each holds
/// its lock.
#[derive(Clone, Debug)]
pub struct Administering {
    /// What administrators set.
    pub changes: Arc<Mutex<Administration>>,
    /// What platforms register or revoke.
    pub invocations: Arc<Mutex<Waiting>>,
}

impl Sharing {
    /// Returns the end of a writer whose node is alone.
    pub fn alone() -> Self {
        Self { wishes: None, calls: never() }
    }

    /// Returns both ends of the way.
    pub fn with(mailboxes: &Arc<Mailboxes>) -> (Self, Administering) {
        let (changes, changed) = mpsc::channel(ADMIN_WISHES_MAX);
        let (invocations, invoked) = mpsc::channel(INVOCATION_WISHES_MAX);
        let (call, calls) = bounded(ADMIN_CALLS_MAX);
        let waiting = |wishes| Waiting { wishes, mailboxes: mailboxes.clone() };
        let administration = Administration { waiting: waiting(changed), calls: call };
        let administering = Administering {
            changes: Arc::new(Mutex::new(administration)),
            invocations: Arc::new(Mutex::new(waiting(invoked))),
        };
        let wishes = Wishes { changes, invocations };
        (Self { wishes: Some(wishes), calls }, administering)
    }

    /// Returns the calls of the thread of the cluster.
    pub(in crate::background) fn calls(&self) -> &Receiver<Call> {
        &self.calls
    }

    /// Passes a wish on to the cluster. Returns it if the node is alone.
    pub(in crate::background) fn pass_on(&self, wish: Wish, mailboxes: &Mailboxes) -> Option<Wish> {
        let Some(wishes) = &self.wishes else { return Some(wish) };
        let way = match wish {
            Wish::Invoke(..) => &wishes.invocations,
            _ => &wishes.changes,
        };
        match way.try_send(wish) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(wish)) => {
                refuse(mailboxes, wish, StoreRefusal::Busy);
            }
            Err(mpsc::error::TrySendError::Closed(wish)) => {
                refuse(mailboxes, wish, StoreRefusal::Unavailable);
            }
        }
        None
    }
}

impl Waiting {
    /// Waits for the next wish. `None` if the writer has ended.
    pub(in crate::background) async fn next(&mut self) -> Option<Wish> {
        self.wishes.recv().await
    }

    /// Returns where wishes are answered.
    pub(in crate::background) fn mailboxes(&self) -> &Mailboxes {
        &self.mailboxes
    }

    /// Refuses a wish.
    pub(in crate::background) fn refuse(&self, wish: Wish, refusal: StoreRefusal) {
        refuse(&self.mailboxes, wish, refusal);
    }

    /// Refuses the wishes that wait, because the cluster cannot be reached.
    pub(in crate::background) fn refuse_all(&mut self) {
        while let Ok(wish) = self.wishes.try_recv() {
            self.refuse(wish, StoreRefusal::Unavailable);
        }
    }

    /// Refuses all wishes, because the cluster cannot be reached, until this is given up.
    pub(in crate::background) async fn refuse_on(&mut self) {
        while let Some(wish) = self.next().await {
            self.refuse(wish, StoreRefusal::Unavailable);
        }
        pending::<()>().await;
    }
}

impl Administration {
    /// Asks the writer.
    ///
    /// # Errors
    /// If the writer has ended, or does not take the question.
    pub(in crate::background) async fn ask<T>(
        &self,
        call: impl FnOnce(oneshot::Sender<T>) -> Call,
    ) -> StoreResult<T> {
        let (answer, answered) = oneshot::channel();
        self.calls.try_send(call(answer)).map_err(|_| StoreRefusal::Busy)?;
        answered.await.map_err(|_| StoreRefusal::Failed)
    }
}

/// Answers a question of the thread of the cluster. Changes are announced before.
pub(in crate::background) fn carry_out(
    store: &mut Store,
    call: Call,
    announce: &impl Fn(News<'_>),
) {
    // The thread does not wait any more if it takes no answer.
    match call {
        Call::State(answer) => drop(answer.send(state(store))),
        Call::Plan(wish, answer) => {
            let planned = plan_at(store, &wish);
            drop(answer.send((wish, planned)));
        }
        Call::Follow(following, answer) => {
            drop(answer.send(follow(store, &following, announce)));
        }
    }
}

fn state(store: &Store) -> StoreResult<State> {
    let read = || Ok((store.followed()?, store.administered()?, store.set_aside()?));
    let (followed, entries, set_aside) = read().map_err(|error| refusal(&error))?;
    Ok(State { followed, entries, set_aside })
}

fn plan_at(store: &Store, wish: &Wish) -> StoreResult<Plan> {
    let followed = store.followed().map_err(|error| refusal(&error))?;
    let revision = followed.map_or(0, |followed| followed.revision);
    let planned = plan(store, wish)?.ok_or(StoreRefusal::NotFound)?;
    Ok(Plan { revision, planned })
}

fn follow(
    store: &mut Store,
    following: &Following,
    announce: &impl Fn(News<'_>),
) -> StoreResult<()> {
    store.follow(following).map_err(|error| refusal(&error))?;
    if following.is_anew {
        let entries = following.entries.len();
        tracing::info!(entries, "this node has what administrators have set for all nodes");
    } else {
        tell_all(&following.entries);
    }
    let has = |is: fn(&Key) -> bool| {
        following.is_anew || following.entries.iter().any(|(key, _)| is(key))
    };
    if has(|key| matches!(key, Key::Channel(_))) {
        announce(News::Channels(all(store)?));
    }
    if has(|key| matches!(key, Key::Permissions)) {
        announce(News::Permissions(store.permissions().map_err(|error| refusal(&error))?));
    }
    Ok(())
}

/// Logs changes.
fn tell_all(entries: &[(Key, Option<Entry>)]) {
    for (key, entry) in entries {
        match entry {
            Some(entry) => super::tell(entry, false),
            None => tracing::info!(key = key.text(), "removed by an administrator"),
        }
    }
}
