//! What callers of this node ask of the history of all nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Shared;
use crate::background::histories::Asked;
use crate::cluster::history::{
    Answer, Filter, Held, Key, Next, Pages, Question, Refusal, Share, sum,
};
use crate::cluster::name::NodeName;
use crate::limits::{CLUSTER_HISTORY_MS_MAX, CLUSTER_HISTORY_ROUNDS_MAX, HISTORY_PAGE_BYTES_MAX};
use crate::mailbox::{self, Changed, Gathered, Mailboxes, StoreRefusal, StoreResult, Ticket};
use crate::message::{MessageQuery, Position, Stats, StatsQuery, StoredMessage};

/// A caller that waits. It is refused if it is not answered.
struct Caller<T>
where
    StoreResult<T>: mailbox::Answer,
{
    ticket: Option<Ticket<StoreResult<T>>>,
    mailboxes: Arc<Mailboxes>,
}

impl<T> Caller<T>
where
    StoreResult<T>: mailbox::Answer,
{
    fn answer(mut self, answer: StoreResult<T>) {
        if let Some(ticket) = self.ticket.take() {
            self.mailboxes.answer(ticket, answer);
        }
    }
}

impl<T> Drop for Caller<T>
where
    StoreResult<T>: mailbox::Answer,
{
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.mailboxes.answer(ticket, Err(StoreRefusal::Busy));
        }
    }
}

/// Why a search has found nothing.
enum Failed {
    /// It must begin again without these nodes.
    Silent(Vec<NodeName>),
    Refused(StoreRefusal),
}

/// The answers of nodes, each as a `T`.
type Answers<T> = Vec<(NodeName, T)>;

impl Shared {
    pub(super) async fn gather(self: Arc<Self>, asked: Asked) {
        let patience = Duration::from_millis(CLUSTER_HISTORY_MS_MAX);
        match asked {
            Asked::Messages(ticket, query) => {
                let caller = self.caller(ticket);
                let found = timeout(patience, self.messages(&query)).await;
                caller.answer(found.unwrap_or(Err(StoreRefusal::TooSlow)));
            }
            Asked::Stats(ticket, query) => {
                let caller = self.caller(ticket);
                let counted = timeout(patience, self.stats(query)).await;
                caller.answer(counted.unwrap_or(Err(StoreRefusal::TooSlow)));
            }
            Asked::Clear(ticket) => {
                let caller = self.caller(ticket);
                caller.answer(self.clear().await);
            }
        }
    }

    fn caller<T>(&self, ticket: Ticket<StoreResult<T>>) -> Caller<T>
    where
        StoreResult<T>: mailbox::Answer,
    {
        Caller { ticket: Some(ticket), mailboxes: self.mailboxes.clone() }
    }

    async fn messages(&self, query: &MessageQuery) -> StoreResult<Gathered<Vec<StoredMessage>>> {
        let (mut nodes, mut silent) = (self.nodes(), BTreeSet::new());
        loop {
            match self.page(&nodes, query).await {
                Ok(found) => {
                    return Ok(Gathered { found, unanswered: self.names(&silent) });
                }
                Err(Failed::Silent(some)) => {
                    nodes.retain(|node| !some.contains(node));
                    silent.extend(some);
                }
                // A node that does not answer may have the message.
                Err(Failed::Refused(StoreRefusal::UnknownMessage)) if !silent.is_empty() => {
                    return Err(StoreRefusal::Incomplete);
                }
                Err(Failed::Refused(refusal)) => return Err(refusal),
            }
        }
    }

    /// Finds a page among the messages of these nodes.
    async fn page(
        &self,
        nodes: &BTreeSet<NodeName>,
        query: &MessageQuery,
    ) -> Result<Vec<StoredMessage>, Failed> {
        let before = match query.before {
            Some(id) => {
                let question = Question::Locate(id);
                let located = self.same(nodes, &question, as_located).await?;
                let newest = located.into_iter().filter_map(|(node, held)| Some((node, held?)));
                let newest = newest.map(|(node, held)| (key(&node, held), held.twin)).max();
                Some(newest.ok_or(Failed::Refused(StoreRefusal::UnknownMessage))?)
            }
            None => None,
        };
        let filter = Filter { channel_id: query.channel_id, event_name: query.event_name.clone() };
        let nodes = nodes.iter().cloned();
        let mut pages = Pages::new(nodes, before.as_ref(), query.offset, query.limit);
        for _ in 0..CLUSTER_HISTORY_ROUNDS_MAX {
            match pages.next() {
                Next::Pass(number) => {
                    let found = self.find(&pages, &filter, (number - 1, 1)).await?;
                    let found = found.into_iter();
                    let found = found.filter_map(|(node, helds)| Some((node, *helds.first()?)));
                    if !pages.pass(number, found) {
                        return Ok(Vec::new());
                    }
                }
                Next::Take(count) => {
                    let found = self.find(&pages, &filter, (0, count)).await?;
                    return self.read(pages.page(found)).await;
                }
            }
        }
        Err(Failed::Refused(StoreRefusal::TooSlow))
    }

    /// Asks each node of a search for the messages from there on.
    async fn find(
        &self,
        pages: &Pages,
        filter: &Filter,
        (skip, limit): (u64, u32),
    ) -> Result<Answers<Vec<Held>>, Failed> {
        let questions = pages.nodes().map(|(node, below)| {
            let (filter, below) = (filter.clone(), below.cloned());
            (node.clone(), Question::Find { filter, below, skip, limit })
        });
        self.all(questions, as_found).await
    }

    /// Reads the messages of a page.
    async fn read(&self, page: Vec<(NodeName, Held)>) -> Result<Vec<StoredMessage>, Failed> {
        let bytes = page.iter().map(|(_, held)| held.bytes);
        if bytes.fold(0, u64::saturating_add) > HISTORY_PAGE_BYTES_MAX as u64 {
            return Err(Failed::Refused(StoreRefusal::PageTooLong));
        }
        let mut positions: BTreeMap<&NodeName, Vec<Position>> = BTreeMap::new();
        for (node, held) in &page {
            positions.entry(node).or_default().push(held.position);
        }
        let questions = positions.into_iter();
        let questions =
            questions.map(|(node, positions)| (node.clone(), Question::Read(positions)));
        let _pages = self.pages.acquire().await;
        let read = self.all(questions, as_read).await?;
        let mut messages = BTreeMap::new();
        for (node, of_node) in read {
            messages
                .extend(of_node.into_iter().map(|(position, one)| ((node.clone(), position), one)));
        }
        // A message that was removed meanwhile is missing.
        let page = page.into_iter();
        Ok(page.filter_map(|(node, held)| messages.remove(&(node, held.position))).collect())
    }

    async fn stats(&self, query: StatsQuery) -> StoreResult<Gathered<Box<Stats>>> {
        let (mut shares, mut own, mut silent) = (Vec::new(), None, BTreeSet::new());
        let answers = self.ask_all(same(&self.nodes(), &Question::Count(query))).await;
        for (node, answer) in answers {
            match sorted(answer, as_counted) {
                Ok(share) if node == self.post.node => own = Some(share),
                Ok(share) => shares.push(share),
                Err(Some(refusal)) => return Err(refusal),
                Err(None) => drop(silent.insert(node)),
            }
        }
        let own = own.ok_or(StoreRefusal::Failed)?;
        let sum = sum([own].into_iter().chain(shares)).ok_or(StoreRefusal::TooSlow)?;
        let (found, unanswered) = (Box::new(sum.into_stats()), self.names(&silent));
        Ok(Gathered { found, unanswered })
    }

    async fn clear(&self) -> StoreResult<Changed<u64>> {
        let (mut removed, mut silent) = (0, BTreeSet::new());
        for (node, answer) in self.ask_all(same(&self.nodes(), &Question::Clear)).await {
            match answer {
                Some(Answer::Cleared(count)) => removed += count,
                Some(Answer::Refused(refusal)) if node == self.post.node => {
                    return Err(store_refusal(refusal));
                }
                _ => drop(silent.insert(node)),
            }
        }
        Ok(Changed { now: removed, unconfirmed: self.names(&silent) })
    }

    /// Asks nodes the same question.
    async fn same<T>(
        &self,
        nodes: &BTreeSet<NodeName>,
        question: &Question,
        read: fn(Answer) -> Option<T>,
    ) -> Result<Answers<T>, Failed> {
        self.all(same(nodes, question), read).await
    }

    /// Asks nodes, and takes their answers as `read` does, which returns `None` for an answer to
    /// another question.
    async fn all<T>(
        &self,
        questions: impl IntoIterator<Item = (NodeName, Question)>,
        read: fn(Answer) -> Option<T>,
    ) -> Result<Answers<T>, Failed> {
        let (mut found, mut silent) = (Vec::new(), Vec::new());
        for (node, answer) in self.ask_all(questions).await {
            match sorted(answer, read) {
                Ok(answer) => found.push((node, answer)),
                Err(Some(refusal)) => return Err(Failed::Refused(refusal)),
                // Without its own share, the node cannot answer at all.
                Err(None) if node == self.post.node => {
                    return Err(Failed::Refused(StoreRefusal::Failed));
                }
                Err(None) => silent.push(node),
            }
        }
        if silent.is_empty() { Ok(found) } else { Err(Failed::Silent(silent)) }
    }
}

/// Returns the answer to a question, or why the whole query is refused; `None` if the node counts
/// as silent.
fn sorted<T>(
    answer: Option<Answer>,
    read: fn(Answer) -> Option<T>,
) -> Result<T, Option<StoreRefusal>> {
    match answer {
        Some(Answer::Refused(Refusal::Failed)) | None => Err(None),
        Some(Answer::Refused(refusal)) => Err(Some(store_refusal(refusal))),
        Some(answer) => read(answer).ok_or(None),
    }
}

fn store_refusal(refusal: Refusal) -> StoreRefusal {
    match refusal {
        Refusal::Busy => StoreRefusal::Busy,
        Refusal::TooSlow => StoreRefusal::TooSlow,
        Refusal::Failed => StoreRefusal::Failed,
    }
}

fn same<'q>(
    nodes: &BTreeSet<NodeName>,
    question: &'q Question,
) -> impl Iterator<Item = (NodeName, Question)> + use<'q> {
    nodes.clone().into_iter().map(|node| (node, question.clone()))
}

fn as_located(answer: Answer) -> Option<Option<Held>> {
    if let Answer::Located(held) = answer { Some(held) } else { None }
}

fn as_found(answer: Answer) -> Option<Vec<Held>> {
    if let Answer::Found(found) = answer { Some(found) } else { None }
}

fn as_read(answer: Answer) -> Option<Vec<(Position, StoredMessage)>> {
    if let Answer::Read(messages) = answer { Some(messages) } else { None }
}

fn as_counted(answer: Answer) -> Option<Share> {
    if let Answer::Counted(share) = answer { Some(share) } else { None }
}

fn key(node: &NodeName, held: Held) -> Key {
    Key { place: held.place, node: node.clone(), position: held.position }
}
