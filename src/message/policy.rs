//! Who may subscribe and publish, beyond what roles may by themselves.

use std::sync::Arc;

use super::{Channel, ChannelDefinition, Credential, WorkerId};

/// What policies are about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Hearing a channel.
    Subscribe,
    /// Speaking on it.
    Publish,
}

impl Action {
    /// Both of them, in index order.
    pub const ALL: [Self; 2] = [Self::Subscribe, Self::Publish];

    /// As the interface and the store name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
        }
    }

    /// The command on the original's tables that a policy for it names, unless it names all.
    pub fn command(self) -> PolicyCommand {
        match self {
            Self::Subscribe => PolicyCommand::Select,
            Self::Publish => PolicyCommand::Insert,
        }
    }
}

/// Which command a policy is for, in the terms of the database that the original keeps them in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyCommand {
    /// Every command.
    All,
    /// Reading a row of the channels: subscribing.
    Select,
    /// Writing a row of the messages: publishing.
    Insert,
}

impl PolicyCommand {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::All, Self::Select, Self::Insert];

    /// As the interface and the store write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.name() == name)
    }
}

/// One policy: holders of its roles may, where its expression is true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Unique on its side.
    pub name: String,
    /// What it is for.
    pub command: PolicyCommand,
    /// Whom it is for.
    pub roles: Vec<String>,
    /// The condition of subscribing; none is always true.
    pub using: Option<String>,
    /// The condition of publishing; none is always true.
    pub with_check: Option<String>,
}

impl Policy {
    /// The expression that decides an action; none is always true. A policy for every command
    /// that has no condition of writing takes the one of reading for it, as in the database that
    /// the original keeps policies in.
    pub fn condition(&self, action: Action) -> Option<&str> {
        let condition = match (action, self.command) {
            (Action::Subscribe, _) => self.using.as_ref(),
            (Action::Publish, PolicyCommand::All) => {
                self.with_check.as_ref().or(self.using.as_ref())
            }
            (Action::Publish, _) => self.with_check.as_ref(),
        };
        condition.map(String::as_str)
    }
}

/// All policies of a node. No policy on a side leaves that side to every role that the node knows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Permissions {
    /// For subscribing, by name.
    pub subscribe: Vec<Policy>,
    /// For publishing, by name.
    pub publish: Vec<Policy>,
}

impl Permissions {
    /// The policies of one side.
    pub fn side(&self, action: Action) -> &[Policy] {
        match action {
            Action::Subscribe => &self.subscribe,
            Action::Publish => &self.publish,
        }
    }

    /// The same, to be changed.
    pub fn side_mut(&mut self, action: Action) -> &mut Vec<Policy> {
        match action {
            Action::Subscribe => &mut self.subscribe,
            Action::Publish => &mut self.publish,
        }
    }
}

/// Which policies and definitions a verdict was made under: under others it may be another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RuleVersions {
    /// Of the policies.
    pub policies: u64,
    /// Of the channel definitions.
    pub definitions: u64,
}

/// Whether expressions let somebody do something somewhere.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who wants to know.
    pub worker: WorkerId,
    /// What is to be done.
    pub action: Action,
    /// Where.
    pub channel: Channel,
    /// By whom.
    pub credential: Arc<Credential>,
    /// What governs the channel.
    pub definition: Arc<ChannelDefinition>,
    /// One of them must be true.
    pub expressions: Arc<[Box<str>]>,
    /// Under which rules.
    pub versions: RuleVersions,
}

/// What came of a [`Question`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// An expression is true.
    Allowed,
    /// None is.
    Denied,
    /// None is, and at least one could not be evaluated.
    Failed,
}

/// The answer to a question.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The question.
    pub question: Question,
    /// What came of it.
    pub judgement: Judgement,
}
