//! Commands on which policies have a say.
//!
//! Where what policies say depends on an expression, the verdict is remembered for as long as
//! neither a policy nor a definition changes. Where it is not known yet, the thread that evaluates
//! expressions is asked, once for everybody here who wants to know the same. Until it answers, the
//! command and all that its connection sends behind it wait in a line of that connection's own.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::conn::Session;
use super::{Worker, command, flush};
use crate::engine::policies::{Policies, Ruling};
use crate::limits::{
    COMMANDS_WAITING_BYTES_MAX, COMMANDS_WAITING_MAX, MAILBOX_CONTROL_MAX, TURN_READS_MAX,
    VERDICTS_MAX, WORKER_COMMANDS_WAITING_BYTES_MAX,
};
use crate::mailbox::Slot;
use crate::message::{
    AckId, Action, Channel, Command, ConnId, Credential, Judgement, Question, Refusal,
    RuleVersions, Verdict,
};
use crate::protocol::insforge::Request;

/// What a worker knows of policies, and who waits to know more.
#[derive(Debug)]
pub(super) struct Verdicts {
    newest: Cache<Arc<ArcSwap<Policies>>, Arc<Policies>>,
    /// What the command at hand is judged by, however often others replace it meanwhile.
    policies: Arc<Policies>,
    /// What holds for all that is known.
    versions: RuleVersions,
    known: HashMap<Key, bool>,
    /// Questions on their way, and who waits for each.
    asked: HashMap<Key, Vec<ConnId>>,
    /// Whose question was answered.
    ready: VecDeque<ConnId>,
    /// Commands that wait, of all connections, and their bytes.
    waiting: usize,
    waiting_bytes: usize,
}

/// What a verdict is about. Credentials that no expression can tell apart are the same.
#[derive(Clone, Debug)]
struct Key {
    action: Action,
    channel: Channel,
    credential: Arc<Credential>,
}

/// Commands of one connection that wait, in their order.
#[derive(Debug, Default)]
pub(super) struct Line {
    commands: VecDeque<Waiting>,
    bytes: usize,
}

/// A command that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    request: Request,
    ack: Option<AckId>,
}

/// How policies stand to a command.
enum Standing {
    /// All that can be asked about it is known.
    Settled,
    /// A verdict is on its way.
    Asked,
    /// There was no room for the question.
    Overloaded,
}

/// Lets a command through, unless it has to wait or there is no room for it: then it is put in its
/// connection's line, or refused.
pub(super) fn pass(
    worker: &mut Worker,
    id: ConnId,
    request: Request,
    ack: Option<AckId>,
) -> Option<Request> {
    worker.verdicts.refresh();
    if worker.verdicts.are_idle() {
        return Some(request);
    }
    let is_behind = worker.session(id).is_some_and(|session| session.line().is_some());
    let standing = if is_behind { Standing::Asked } else { judge(worker, id, &request) };
    match standing {
        Standing::Settled => return Some(request),
        Standing::Asked => wait(worker, id, Waiting { request, ack }),
        Standing::Overloaded => refuse(worker, id, &Waiting { request, ack }),
    }
    None
}

/// Takes note of a verdict. Whoever waited for it goes on in this turn, or the next.
pub(super) fn learn(worker: &mut Worker, verdict: Verdict) {
    let Verdict { question, judgement } = verdict;
    let counter = match judgement {
        Judgement::Allowed => &worker.counters.verdicts_allowed,
        Judgement::Denied => &worker.counters.verdicts_denied,
        Judgement::Failed => &worker.counters.verdicts_failed,
    };
    counter.add(1);
    worker.verdicts.learn(question, judgement == Judgement::Allowed);
}

/// Lets those go on whose verdicts are known. True when there are more of them.
pub(super) fn resume(worker: &mut Worker) -> bool {
    for _ in 0..worker.verdicts.ready.len().min(TURN_READS_MAX) {
        let Some(id) = worker.verdicts.ready.pop_front() else { break };
        let is_done = go_on(worker, id);
        flush::reap(worker);
        if !is_done {
            worker.verdicts.ready.push_front(id);
            break;
        }
    }
    !worker.verdicts.ready.is_empty()
}

/// Drops the commands that wait, because the connection ends or leaves its namespace.
pub(super) fn forget(worker: &mut Worker, slot: u32) {
    let id = worker.connections.id(slot);
    let line = worker.session(id).and_then(Session::drop_line);
    let Some(line) = line else { return };
    worker.verdicts.left(line.commands.len(), line.bytes);
    worker.counters.commands_waiting.sub(line.commands.len() as u64);
}

/// Carries out the commands of a connection up to one that has to wait. False when the mailbox has
/// no room for what they may post.
fn go_on(worker: &mut Worker, id: ConnId) -> bool {
    while worker.session(id).is_some_and(|session| session.line().is_some()) {
        // Every command may need a place in the own mailbox, which is emptied next turn.
        if worker.inbox.mailbox().free(Slot::Control) < MAILBOX_CONTROL_MAX / 2 {
            return false;
        }
        let Some(waiting) = take_first(worker, id) else { return true };
        worker.verdicts.refresh();
        match judge(worker, id, &waiting.request) {
            Standing::Settled => command::carry_out(worker, id, waiting.request, waiting.ack),
            Standing::Asked => {
                put_back(worker, id, waiting);
                return true;
            }
            Standing::Overloaded => refuse(worker, id, &waiting),
        }
    }
    true
}

fn judge(worker: &mut Worker, id: ConnId, request: &Request) -> Standing {
    let (action, channel) = match request {
        Request::Command(Command::Subscribe { channel, .. }) => (Action::Subscribe, channel),
        Request::Command(Command::Publish { channel, .. }) => (Action::Publish, channel),
        _ => return Standing::Settled,
    };
    let Some((connection, credential)) = command::speaker(worker, id) else {
        return Standing::Settled;
    };
    let first = connection.subscriptions;
    let Ruling::Ask(expressions) = worker.verdicts.policies.decide(action, &credential.role) else {
        return Standing::Settled;
    };
    let expressions = expressions.clone();
    // What is refused whatever a policy says needs no verdict.
    let is_subscribed = worker.index.counted(first, channel).is_some();
    if action == Action::Publish && !is_subscribed {
        return Standing::Settled;
    }
    let definitions = worker.hub.definitions.load();
    worker.verdicts.hold_under(definitions.version());
    let key = Key { action, channel: channel.clone(), credential };
    if worker.verdicts.known.contains_key(&key) {
        return Standing::Settled;
    }
    let Some(definition) = definitions.find(channel.as_str()) else { return Standing::Settled };
    if let Some(waiting) = worker.verdicts.asked.get_mut(&key) {
        waiting.push(id);
        return Standing::Asked;
    }
    let question = Question {
        worker: worker.id,
        action,
        channel: channel.clone(),
        credential: key.credential.clone(),
        definition: definition.clone(),
        expressions,
        versions: worker.verdicts.versions,
    };
    if !ask(worker, question) {
        return Standing::Overloaded;
    }
    worker.verdicts.asked.insert(key, vec![id]);
    Standing::Asked
}

/// Puts a question, with a place set aside for its answer. False where there is no room for either.
fn ask(worker: &Worker, question: Question) -> bool {
    let place = worker.inbox.mailbox().reserve(Slot::Control);
    let is_asked = place.is_some_and(|place| worker.hub.mailboxes.ask(question, place).is_ok());
    worker.counters.policy_questions.add(u64::from(is_asked));
    is_asked
}

fn wait(worker: &mut Worker, id: ConnId, waiting: Waiting) {
    let bytes = waiting.bytes();
    let is_full = worker.verdicts.waiting_bytes + bytes > WORKER_COMMANDS_WAITING_BYTES_MAX;
    let Some(session) = worker.session(id) else { return };
    if is_full || session.line().is_some_and(|line| !line.has_room(bytes)) {
        return refuse(worker, id, &waiting);
    }
    session.line_made().push(waiting);
    worker.verdicts.came(1, bytes);
    worker.counters.commands_waiting.add(1);
}

fn take_first(worker: &mut Worker, id: ConnId) -> Option<Waiting> {
    let session = worker.session(id)?;
    let line = session.line_made();
    let waiting = line.commands.pop_front();
    let bytes = waiting.as_ref().map_or(0, Waiting::bytes);
    line.bytes -= bytes;
    if line.commands.is_empty() {
        session.drop_line();
    }
    if waiting.is_some() {
        worker.verdicts.left(1, bytes);
        worker.counters.commands_waiting.sub(1);
    }
    waiting
}

fn put_back(worker: &mut Worker, id: ConnId, waiting: Waiting) {
    let bytes = waiting.bytes();
    let Some(session) = worker.session(id) else { return };
    let line = session.line_made();
    line.bytes += bytes;
    line.commands.push_front(waiting);
    worker.verdicts.came(1, bytes);
    worker.counters.commands_waiting.add(1);
}

fn refuse(worker: &mut Worker, id: ConnId, waiting: &Waiting) {
    let channel = waiting.channel().cloned();
    command::refuse(worker, id, channel, Refusal::Overloaded, waiting.ack);
}

impl Verdicts {
    /// That knows nothing yet.
    pub(super) fn new(policies: &Arc<ArcSwap<Policies>>) -> Self {
        let mut newest = Cache::new(Arc::clone(policies));
        let policies = Arc::clone(newest.load());
        Self {
            newest,
            policies,
            versions: RuleVersions::default(),
            known: HashMap::new(),
            asked: HashMap::new(),
            ready: VecDeque::new(),
            waiting: 0,
            waiting_bytes: 0,
        }
    }

    /// Whether a command that was let through may be carried out.
    pub(super) fn allow(
        &self,
        action: Action,
        channel: &Channel,
        credential: &Arc<Credential>,
    ) -> bool {
        match self.policies.decide(action, &credential.role) {
            Ruling::Allowed => true,
            Ruling::Denied => false,
            Ruling::Ask(_) => {
                let credential = credential.clone();
                let key = Key { action, channel: channel.clone(), credential };
                self.known.get(&key).copied().unwrap_or_default()
            }
        }
    }

    /// The version of the policies that the command at hand is judged by.
    pub(super) fn judged_by(&self) -> u64 {
        self.policies.version()
    }

    /// Goes by the policies that are in force now.
    fn refresh(&mut self) {
        let newest = self.newest.load();
        if !Arc::ptr_eq(newest, &self.policies) {
            self.policies = Arc::clone(newest);
        }
    }

    /// No policy has a say, and nobody waits who could be overtaken.
    fn are_idle(&self) -> bool {
        self.policies.are_none() && self.waiting == 0
    }

    /// Forgets what was known under other rules than those in force.
    fn hold_under(&mut self, definitions: u64) {
        let versions = RuleVersions { policies: self.policies.version(), definitions };
        if self.versions != versions {
            self.known.clear();
            self.versions = versions;
        }
    }

    /// What was asked under other rules is not known by its answer; who waits asks again.
    fn learn(&mut self, question: Question, is_allowed: bool) {
        let Question { action, channel, credential, .. } = question;
        let key = Key { action, channel, credential };
        self.ready.extend(self.asked.remove(&key).unwrap_or_default());
        if question.versions != self.versions {
            return;
        }
        if self.known.len() >= VERDICTS_MAX {
            self.known.clear();
        }
        self.known.insert(key, is_allowed);
    }

    fn came(&mut self, commands: usize, bytes: usize) {
        self.waiting += commands;
        self.waiting_bytes += bytes;
    }

    fn left(&mut self, commands: usize, bytes: usize) {
        self.waiting -= commands;
        self.waiting_bytes -= bytes;
    }
}

impl Line {
    fn has_room(&self, bytes: usize) -> bool {
        self.commands.len() < COMMANDS_WAITING_MAX
            && self.bytes + bytes <= COMMANDS_WAITING_BYTES_MAX
    }

    fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes();
        self.commands.push_back(waiting);
    }
}

impl Waiting {
    fn channel(&self) -> Option<&Channel> {
        match &self.request {
            Request::Command(
                Command::Subscribe { channel, .. }
                | Command::Unsubscribe { channel }
                | Command::Publish { channel, .. },
            ) => Some(channel),
            Request::Invalid(channel, _) => channel.as_ref(),
            Request::Authenticate(_) | Request::Unknown => None,
        }
    }

    fn bytes(&self) -> usize {
        let said = match &self.request {
            Request::Command(Command::Publish { event, payload, .. }) => {
                event.len() + payload.len()
            }
            Request::Authenticate(auth) => auth.len(),
            _ => 0,
        };
        size_of::<Self>() + self.channel().map_or(0, |channel| channel.as_str().len()) + said
    }
}

impl Key {
    /// All that an expression can see of it.
    fn parts(&self) -> (Action, &str, &str, Option<&str>, Option<&str>) {
        let who = &self.credential;
        (self.action, self.channel.as_str(), who.role.name(), who.user(), who.email.as_deref())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Permissions, Role};

    fn key(channel: &str, id: &str, email: Option<&str>, role: &str) -> Key {
        let credential = Credential {
            id: id.into(),
            email: email.map(Into::into),
            role: Role::named(role),
            is_user: true,
            expires_at: None,
        };
        let credential = Arc::new(credential);
        Key { action: Action::Publish, channel: Channel::from(channel), credential }
    }

    #[test]
    fn a_verdict_is_somebodys_own() {
        let mut known = HashMap::new();
        known.insert(key("a", "alice", None, "authenticated"), true);
        let is_known = |key: Key| known.contains_key(&key);
        assert!(is_known(key("a", "alice", None, "authenticated")));
        assert!(!is_known(key("b", "alice", None, "authenticated")));
        assert!(!is_known(key("a", "bob", None, "authenticated")));
        assert!(!is_known(key("a", "alice", Some("a@b.c"), "authenticated")));
        assert!(!is_known(key("a", "alice", None, "anon")));
        let mut subscribe = key("a", "alice", None, "authenticated");
        subscribe.action = Action::Subscribe;
        assert!(!is_known(subscribe));
    }

    #[test]
    fn a_verdict_holds_under_its_rules_only() {
        let policies = Arc::new(ArcSwap::from_pointee(Policies::new(Permissions::default())));
        let mut verdicts = Verdicts::new(&policies);
        verdicts.hold_under(1);
        let alice = key("a", "alice", None, "authenticated");
        verdicts.known.insert(alice.clone(), true);
        verdicts.hold_under(1);
        assert!(verdicts.known.contains_key(&alice));
        verdicts.hold_under(2);
        assert!(verdicts.known.is_empty());
        verdicts.known.insert(alice.clone(), true);
        policies.store(Arc::new(policies.load().replaced_by(Permissions::default())));
        verdicts.refresh();
        verdicts.hold_under(2);
        assert!(verdicts.known.is_empty());
    }

    #[test]
    fn a_line_is_bounded_by_commands_and_bytes() {
        let command = |payload: usize| Waiting {
            request: Request::Command(Command::Publish {
                channel: Channel::from("a"),
                event: "e".into(),
                payload: "x".repeat(payload).into(),
            }),
            ack: None,
        };
        let mut line = Line::default();
        for _ in 0..COMMANDS_WAITING_MAX {
            assert!(line.has_room(command(1).bytes()));
            line.push(command(1));
        }
        assert!(!line.has_room(command(1).bytes()));
        let mut line = Line::default();
        line.push(command(COMMANDS_WAITING_BYTES_MAX / 2));
        assert!(line.has_room(command(1_000).bytes()));
        assert!(!line.has_room(command(COMMANDS_WAITING_BYTES_MAX / 2).bytes()));
    }
}
