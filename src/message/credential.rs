//! Who clients are.

use super::Millis;

/// What a client may do, from its token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// Holder of the API key or an admin token.
    ProjectAdmin,
    /// A signed-in user.
    Authenticated,
    /// Holder of the anon key.
    Anon,
    /// A role the node does not know: may connect, may do what a policy names it for.
    Unknown(Box<str>),
}

impl Role {
    /// The role that a token's `role` claim names.
    pub fn named(name: &str) -> Self {
        match name {
            "project_admin" => Self::ProjectAdmin,
            "authenticated" => Self::Authenticated,
            "anon" => Self::Anon,
            other => Self::Unknown(other.into()),
        }
    }

    /// As tokens and policies name it.
    pub fn name(&self) -> &str {
        match self {
            Self::ProjectAdmin => "project_admin",
            Self::Authenticated => "authenticated",
            Self::Anon => "anon",
            Self::Unknown(name) => name,
        }
    }

    /// Whether subscribe and publish are open to it while no policy says otherwise.
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

/// Who a connection speaks for, settled when it connects. Shared by all connections that present
/// the same token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential {
    /// `api-key`, `anonymous`, or the token's subject.
    pub id: Box<str>,
    /// The token's e-mail address, where it has one.
    pub email: Option<Box<str>>,
    /// What it may do.
    pub role: Role,
    /// True for token holders, who are one member however many connections they have; false for
    /// key holders, of whom each connection is a member of its own.
    pub is_user: bool,
    /// When the token expires, in seconds since the epoch; `None` for keys.
    pub expires_at: Option<u64>,
}

/// Who sent a publication, as subscribers are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sender {
    /// The backend: HTTP publishes, API keys, admin tokens.
    System,
    /// A client, with its id where its role is `authenticated`.
    User(Option<Box<str>>),
}

impl Sender {
    /// As clients and history are told: `senderType` and `senderId`.
    pub fn parts(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::System => ("system", None),
            Self::User(id) => ("user", id.as_deref()),
        }
    }
}

impl Credential {
    /// The user whom policies are told of: the subject of a signed-in user, and of nobody else,
    /// as in the original.
    pub fn user(&self) -> Option<&str> {
        (self.role == Role::Authenticated).then_some(&*self.id)
    }

    /// How publications of this credential are signed.
    pub fn sender(&self) -> Sender {
        match self.role {
            Role::ProjectAdmin => Sender::System,
            _ => Sender::User(self.user().map(Into::into)),
        }
    }
}

/// Someone present in a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// True for a signed-in user, false for an anonymous connection.
    pub is_user: bool,
    /// The user's id, or the socket id of an anonymous connection.
    pub presence_id: Box<str>,
    /// When the first of its connections joined.
    pub joined_at: Millis,
}
