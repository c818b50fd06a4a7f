//! A worker's cache of the policies' verdicts.
//!
//! A verdict that depends on an expression is cached until a policy or a definition changes. If a
//! verdict is not in the cache, the worker asks the thread that evaluates expressions, once for all
//! of its connections that need the same verdict. Until the answer arrives, their commands wait in
//! the backlogs of their sessions.

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

/// The verdicts that a worker knows, and the connections that wait for others.
#[derive(Debug)]
pub struct Authorizer {
    newest: Cache<Arc<ArcSwap<Policies>>, Arc<Policies>>,
    /// The policies that the current command is judged by. They stay the same until
    /// [`Self::refresh`], even if an administrator replaces the policies meanwhile.
    policies: Arc<Policies>,
    /// The versions of the rules under which all of `known` was found.
    versions: RuleVersions,
    known: HashMap<Key, bool>,
    /// The connections that wait for each question under way.
    asked: HashMap<Key, Vec<ConnId>>,
    /// Connections whose question was answered, and whose sessions have not been called yet.
    ready: VecDeque<ConnId>,
    /// How many commands wait, in the backlogs of all connections.
    waiting: usize,
    waiting_bytes: usize,
}

/// The question that a verdict answers. Credentials that no expression can tell apart are equal.
#[derive(Clone, Debug)]
struct Key {
    action: Action,
    channel: Channel,
    credential: Arc<Credential>,
}

/// Whether a command can be judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Every verdict that the command needs is known.
    Settled,
    /// The question was put, and the answer is awaited.
    Asked,
    /// The queue or the worker's mailbox had no room for the question.
    Overloaded,
}

impl Authorizer {
    /// Creates an authorizer without verdicts.
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

    /// Returns whether the policies allow a command for which [`Self::judge`] returned
    /// [`Standing::Settled`]. Without a known verdict the command is denied.
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

    /// Returns the version of the policies that the current command is judged by.
    pub fn judged_by(&self) -> u64 {
        self.policies.version()
    }

    /// Judges the commands that follow by the newest policies.
    pub fn refresh(&mut self) {
        let newest = self.newest.load();
        if !Arc::ptr_eq(newest, &self.policies) {
            self.policies = Arc::clone(newest);
        }
    }

    /// Returns whether there are no policies and no command waits. Then a command needs no verdict
    /// and overtakes none.
    pub fn is_idle(&self) -> bool {
        self.policies.are_none() && self.waiting == 0
    }

    /// Returns whether a command of this kind needs no verdict, because no expression decides about
    /// it.
    pub fn is_settled(&self, action: Action, credential: &Credential) -> bool {
        !matches!(self.policies.decide(action, &credential.role), Ruling::Ask(_))
    }

    /// Looks a command's verdict up, and puts the question if the verdict is not known. Once the
    /// answer arrives, [`Self::next_ready`] returns the connection.
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

    /// Enters and counts a verdict that has arrived.
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

    /// Returns how many connections have a verdict that their sessions have not received yet.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Takes the next connection whose verdict is known.
    pub fn next_ready(&mut self) -> Option<ConnId> {
        self.ready.pop_front()
    }

    /// Puts a connection back to the front, because its commands found no room in the mailbox.
    pub fn not_ready(&mut self, connection: ConnId) {
        self.ready.push_front(connection);
    }

    /// Returns whether this worker's backlogs may hold `bytes` more.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.waiting_bytes + bytes <= WORKER_COMMANDS_WAITING_BYTES_MAX
    }

    /// Adds commands that were put into a backlog, and their bytes.
    pub fn came(&mut self, commands: usize, bytes: usize) {
        self.waiting += commands;
        self.waiting_bytes += bytes;
    }

    /// Subtracts commands that left a backlog, and their bytes.
    pub fn left(&mut self, commands: usize, bytes: usize) {
        self.waiting -= commands;
        self.waiting_bytes -= bytes;
    }

    /// Clears the verdicts if the policies or definitions are no longer those under which they were
    /// found.
    fn hold_under(&mut self, definitions: u64) {
        let versions = RuleVersions { policies: self.policies.version(), definitions };
        if self.versions != versions {
            self.known.clear();
            self.versions = versions;
        }
    }

    /// Enters an answer and makes the connections that waited for it ready. An answer under other
    /// rules than the present ones is dropped: then those connections ask again.
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

/// Reserves a place for the answer and puts the question. Returns false if there is no room for one
/// of them.
fn ask(shared: &Shared, question: Question) -> bool {
    let place = shared.broker.mailboxes.workers.of(question.worker).reserve(Slot::Control);
    place.is_some_and(|place| shared.broker.mailboxes.ask(question, place).is_ok())
}

impl Key {
    /// Returns everything that an expression can see.
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
