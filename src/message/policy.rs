//! Policies: rules that allow clients to subscribe and publish, beyond the rights of their roles.

use std::sync::Arc;

use super::{Channel, ChannelDefinition, Credential, WorkerId};

/// An action that a policy can allow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Subscribing to a channel.
    Subscribe,
    /// Publishing on a channel.
    Publish,
}

impl Action {
    /// Both actions, in the order of their values.
    pub const ALL: [Self; 2] = [Self::Subscribe, Self::Publish];

    /// Returns the action's name in requests and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
        }
    }

    /// Returns the command on the original's tables that stands for the action.
    pub fn command(self) -> PolicyCommand {
        match self {
            Self::Subscribe => PolicyCommand::Select,
            Self::Publish => PolicyCommand::Insert,
        }
    }
}

/// The command that a policy is for, in terms of the database in which the original keeps policies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyCommand {
    /// Every command: subscribing and publishing.
    All,
    /// Reading a row of the channels: subscribing.
    Select,
    /// Writing a row of the messages: publishing.
    Insert,
}

impl PolicyCommand {
    /// All commands, among which [`Self::named`] searches.
    pub const ALL: [Self; 3] = [Self::All, Self::Select, Self::Insert];

    /// Returns the command's name in requests and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
        }
    }

    /// Returns the command of a name; `None` if there is no such command.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.name() == name)
    }
}

/// A policy: allows its roles an action if its expression is true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The name, unique among the policies of one action.
    pub name: String,
    /// The command that it is for.
    pub command: PolicyCommand,
    /// The roles that it is for.
    pub roles: Vec<String>,
    /// The condition of subscribing; `None` is always true.
    pub using: Option<String>,
    /// The condition of publishing; `None` is always true.
    pub with_check: Option<String>,
}

impl Policy {
    /// Returns the expression that decides about an action; `None` is always true. If a policy for
    /// every command has no `with_check`, publishing needs `using`, as in the database in which the
    /// original keeps policies.
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

/// All policies of a node. While an action has no policy, every role that the node knows may do it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Permissions {
    /// The policies of subscribing, by name.
    pub subscribe: Vec<Policy>,
    /// The policies of publishing, by name.
    pub publish: Vec<Policy>,
}

impl Permissions {
    /// Returns the policies of an action.
    pub fn side(&self, action: Action) -> &[Policy] {
        match action {
            Action::Subscribe => &self.subscribe,
            Action::Publish => &self.publish,
        }
    }

    /// Returns the policies of an action, to be changed.
    pub fn side_mut(&mut self, action: Action) -> &mut Vec<Policy> {
        match action {
            Action::Subscribe => &mut self.subscribe,
            Action::Publish => &mut self.publish,
        }
    }
}

/// The versions of policies and definitions under which a verdict was made. Under others the
/// verdict may differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RuleVersions {
    /// The version of the policies.
    pub policies: u64,
    /// The version of the channel definitions.
    pub definitions: u64,
}

/// A question to the policies: whether an expression allows a client an action on a channel.
#[derive(Clone, Debug)]
pub struct Question {
    /// The worker that receives the verdict.
    pub worker: WorkerId,
    /// The action that the client attempts.
    pub action: Action,
    /// The channel that the action is on.
    pub channel: Channel,
    /// The client's credential, which expressions can ask about.
    pub credential: Arc<Credential>,
    /// The definition that governs the channel.
    pub definition: Arc<ChannelDefinition>,
    /// The expressions, one of which must be true.
    pub expressions: Arc<[Box<str>]>,
    /// The versions of policies and definitions that the question is about.
    pub versions: RuleVersions,
}

/// The result of a [`Question`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// An expression is true.
    Allowed,
    /// No expression is true.
    Denied,
    /// No expression is true, and at least one could not be evaluated.
    Failed,
}

/// The answer to a question.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The question that it answers.
    pub question: Question,
    /// Whether the action is allowed, or why not.
    pub judgement: Judgement,
}
