//! The client's identity and role.

/// A client's role, from its token or key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// The role of the API key and of admin tokens.
    ProjectAdmin,
    /// A signed-in user's role.
    Authenticated,
    /// The role of the anon key.
    Anon,
    /// A role that the node does not know. Its holders may connect, and may do only what a policy
    /// allows this role.
    Unknown(Box<str>),
}

impl Role {
    /// Returns the role of a token's `role` claim.
    pub fn named(name: &str) -> Self {
        match name {
            "project_admin" => Self::ProjectAdmin,
            "authenticated" => Self::Authenticated,
            "anon" => Self::Anon,
            other => Self::Unknown(other.into()),
        }
    }

    /// Returns the name in tokens and policies.
    pub fn name(&self) -> &str {
        match self {
            Self::ProjectAdmin => "project_admin",
            Self::Authenticated => "authenticated",
            Self::Anon => "anon",
            Self::Unknown(name) => name,
        }
    }

    /// Returns whether the role may subscribe and publish while no policy says otherwise.
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

/// The identity and the role of a client, fixed when it connects. All connections that present the
/// same token share one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential {
    /// `api-key`, `anonymous`, or the token's subject.
    pub id: Box<str>,
    /// The token's e-mail address; `None` if it has none.
    pub email: Option<Box<str>>,
    /// The role that the key or the token gives.
    pub role: Role,
    /// True for a token: its holder is one member of a channel, with any number of connections.
    /// False for a key: each connection is a member of its own.
    pub is_user: bool,
    /// The expiry of the token, in seconds since the epoch; `None` for keys.
    pub expires_at: Option<u64>,
}

/// The sender of a publication, as subscribers see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sender {
    /// The backend: publishes over HTTP, API keys and admin tokens.
    System,
    /// A client, with its id if its role is `authenticated`.
    User(Option<Box<str>>),
}

impl Sender {
    /// Returns the values of `senderType` and `senderId`, as clients and history show them.
    pub fn parts(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::System => ("system", None),
            Self::User(id) => ("user", id.as_deref()),
        }
    }
}

impl Credential {
    /// Returns the user id that policies see: the subject of a signed-in user; `None` for every
    /// other role, as in the original.
    pub fn user(&self) -> Option<&str> {
        (self.role == Role::Authenticated).then_some(&*self.id)
    }

    /// Returns whether two credentials belong to the same client, which alone may resume its
    /// session. The expiry of the token is not compared, because it concerns only the new
    /// connection.
    pub fn is_same_client(&self, other: &Self) -> bool {
        (&self.id, &self.email, &self.role, self.is_user)
            == (&other.id, &other.email, &other.role, other.is_user)
    }

    /// Returns what tells the publications of this credential from those of all others, for the key
    /// of a repetition. All credentials of the back end are one.
    pub fn publisher(&self) -> [&str; 2] {
        match (&self.role, self.is_user) {
            (Role::ProjectAdmin, _) => Self::BACK_END,
            (_, true) => ["user", &self.id],
            (_, false) => ["key", &self.id],
        }
    }

    /// What [`Credential::publisher`] returns for those of the back end.
    pub const BACK_END: [&str; 2] = ["system", ""];

    /// Returns the sender of this credential's publications.
    pub fn sender(&self) -> Sender {
        match self.role {
            Role::ProjectAdmin => Sender::System,
            _ => Sender::User(self.user().map(Into::into)),
        }
    }
}
