//! A worker's cache of what policies say.
//!
//! If what policies say depends on an expression, the verdict is remembered for as long as neither
//! a policy nor a definition changes. If it is not known, the thread that evaluates expressions is
//! asked, once for all connections of the worker that want to know the same; meanwhile their
//! commands wait in a backlog of the session's own.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use crate::broker::policies::{Policies, Ruling};
use crate::interface::shared::Shared;
use crate::limits::{VERDICTS_MAX, WORKER_COMMANDS_WAITING_BYTES_MAX};
use crate::mailbox::Slot;
use crate::message::{
    Action, Channel, ConnId, Credential, Judgement, Question, RuleVersions, Verdict,
};
use crate::metrics::Counters;

/// What a worker knows of policies, and which connections wait to know more.
#[derive(Debug)]
pub struct Authorizer {
    newest: Cache<Arc<ArcSwap<Policies>>, Arc<Policies>>,
    /// What the command at hand is judged by, however often others replace it meanwhile.
    policies: Arc<Policies>,
    /// The rules under which everything in `known` holds.
    versions: RuleVersions,
    known: HashMap<Key, bool>,
    /// Questions under way, and the connections that wait for each.
    asked: HashMap<Key, Vec<ConnId>>,
    /// Connections whose question was answered.
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

/// How policies stand to a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// All that can be asked about it is known.
    Settled,
    /// A verdict is under way.
    Asked,
    /// There was no room for the question.
    Overloaded,
}

impl Authorizer {
    /// Creates one that knows nothing yet.
    pub fn new(policies: &Arc<ArcSwap<Policies>>) -> Self {
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
    pub fn allows(&self, action: Action, channel: &Channel, credential: &Arc<Credential>) -> bool {
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
    pub fn judged_by(&self) -> u64 {
        self.policies.version()
    }

    /// Goes by the policies that are in force now.
    pub fn refresh(&mut self) {
        let newest = self.newest.load();
        if !Arc::ptr_eq(newest, &self.policies) {
            self.policies = Arc::clone(newest);
        }
    }

    /// Whether no policy has a say and no command waits that could be overtaken.
    pub fn is_idle(&self) -> bool {
        self.policies.are_none() && self.waiting == 0
    }

    /// Whether commands may be judged without asking: no policy's expression decides them.
    pub fn is_settled(&self, action: Action, credential: &Credential) -> bool {
        !matches!(self.policies.decide(action, &credential.role), Ruling::Ask(_))
    }

    /// Finds out whether the verdict on a command is known, and asks for it if it is not. The
    /// connection is then reported by [`Self::next_ready`] once it is.
    pub fn judge(
        &mut self,
        (shared, counters): (&Shared, &Counters),
        connection: ConnId,
        (action, channel, credential): (Action, &Channel, &Arc<Credential>),
    ) -> Standing {
        let Ruling::Ask(expressions) = self.policies.decide(action, &credential.role) else {
            return Standing::Settled;
        };
        let expressions = expressions.clone();
        let definitions = shared.broker.definitions.load();
        self.hold_under(definitions.version());
        let key = Key { action, channel: channel.clone(), credential: credential.clone() };
        if self.known.contains_key(&key) {
            return Standing::Settled;
        }
        let Some(definition) = definitions.find(channel.as_str()) else { return Standing::Settled };
        if let Some(waiting) = self.asked.get_mut(&key) {
            waiting.push(connection);
            return Standing::Asked;
        }
        let question = Question {
            worker: connection.worker,
            action,
            channel: channel.clone(),
            credential: credential.clone(),
            definition: definition.clone(),
            expressions,
            versions: self.versions,
        };
        if !ask(shared, question) {
            return Standing::Overloaded;
        }
        counters.policy_questions.add(1);
        self.asked.insert(key, vec![connection]);
        Standing::Asked
    }

    /// Takes note of a verdict.
    pub fn learn(&mut self, verdict: Verdict, counters: &Counters) {
        let Verdict { question, judgement } = verdict;
        let counter = match judgement {
            Judgement::Allowed => &counters.verdicts_allowed,
            Judgement::Denied => &counters.verdicts_denied,
            Judgement::Failed => &counters.verdicts_failed,
        };
        counter.add(1);
        self.enter(question, judgement == Judgement::Allowed);
    }

    /// How many connections wait to be told that their verdict is known.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The next connection whose verdict is known.
    pub fn next_ready(&mut self) -> Option<ConnId> {
        self.ready.pop_front()
    }

    /// Puts a connection back that could not go on yet.
    pub fn not_ready(&mut self, connection: ConnId) {
        self.ready.push_front(connection);
    }

    /// Whether so many more bytes of commands may wait at this worker.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.waiting_bytes + bytes <= WORKER_COMMANDS_WAITING_BYTES_MAX
    }

    /// Counts commands that began to wait.
    pub fn came(&mut self, commands: usize, bytes: usize) {
        self.waiting += commands;
        self.waiting_bytes += bytes;
    }

    /// Uncounts commands that no longer wait.
    pub fn left(&mut self, commands: usize, bytes: usize) {
        self.waiting -= commands;
        self.waiting_bytes -= bytes;
    }

    /// Forgets what was known under other rules than those in force.
    fn hold_under(&mut self, definitions: u64) {
        let versions = RuleVersions { policies: self.policies.version(), definitions };
        if self.versions != versions {
            self.known.clear();
            self.versions = versions;
        }
    }

    /// Remembers an answer, unless the question was put under other rules: then the connections
    /// that waited ask again.
    fn enter(&mut self, question: Question, is_allowed: bool) {
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
}

/// Puts a question, with a place reserved for its answer. False if there is no room for either.
fn ask(shared: &Shared, question: Question) -> bool {
    let place = shared.broker.mailboxes.workers.of(question.worker).reserve(Slot::Control);
    place.is_some_and(|place| shared.broker.mailboxes.ask(question, place).is_ok())
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
    fn a_verdict_holds_for_one_identity_alone() {
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
        let mut authorizer = Authorizer::new(&policies);
        authorizer.hold_under(1);
        let alice = key("a", "alice", None, "authenticated");
        authorizer.known.insert(alice.clone(), true);
        authorizer.hold_under(1);
        assert!(authorizer.known.contains_key(&alice));
        authorizer.hold_under(2);
        assert!(authorizer.known.is_empty());
        authorizer.known.insert(alice.clone(), true);
        policies.store(Arc::new(policies.load().replaced_by(Permissions::default())));
        authorizer.refresh();
        authorizer.hold_under(2);
        assert!(authorizer.known.is_empty());
    }
}
