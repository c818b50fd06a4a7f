//! The way between the writer and the thread of the cluster: changes that administrators wish for
//! go there, and come back as changes that all nodes take.

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

/// The end of the thread of the cluster.
#[derive(Debug)]
pub struct Administration {
    /// Changes that administrators wish for.
    pub wishes: mpsc::Receiver<Wish>,
    calls: Sender<Call>,
    /// Where administrators are answered.
    pub mailboxes: Arc<Mailboxes>,
}

/// The way of wishes to the thread of the cluster.
#[derive(Debug)]
struct Wishes {
    changes: mpsc::Sender<Wish>,
    invocations: mpsc::Sender<Wish>,
}

/// The end of the thread of the cluster for invocations.
#[derive(Debug)]
pub struct Invoking {
    /// What was registered or revoked on this node.
    pub wishes: mpsc::Receiver<Wish>,
    /// Where platforms are answered.
    pub mailboxes: Arc<Mailboxes>,
}

/// Those ends. The task that follows the cluster's bucket of each holds its lock.
#[derive(Clone, Debug)]
pub struct Administering {
    /// What administrators set.
    pub changes: Arc<Mutex<Administration>>,
    /// What platforms register.
    pub invocations: Arc<Mutex<Invoking>>,
}

impl Sharing {
    /// Returns the end of a writer whose node is alone.
    pub fn alone() -> Self {
        Self { wishes: None, calls: never() }
    }

    /// Returns both ends of the way.
    pub fn with(mailboxes: Arc<Mailboxes>) -> (Self, Administering) {
        let (wish, wishes) = mpsc::channel(ADMIN_WISHES_MAX);
        let (call, calls) = bounded(ADMIN_CALLS_MAX);
        let (invoke, invoked) = mpsc::channel(INVOCATION_WISHES_MAX);
        let invoking = Invoking { wishes: invoked, mailboxes: mailboxes.clone() };
        let administration = Administration { wishes, calls: call, mailboxes };
        let wishes = Wishes { changes: wish, invocations: invoke };
        let administering = Administering {
            changes: Arc::new(Mutex::new(administration)),
            invocations: Arc::new(Mutex::new(invoking)),
        };
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
