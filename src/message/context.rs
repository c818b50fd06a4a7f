//! Where a caller of Forge Realtime is, as somebody whom the node trusts has signed or registered.

/// A property of a context that a caller may select to be its scope.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Entity {
    /// Jira's `board`.
    Board,
    /// Confluence's `content`.
    Content,
    /// Jira's `issue`.
    Issue,
    /// Jira's `project`.
    Project,
    /// Bitbucket's `pullRequest`.
    PullRequest,
    /// Bitbucket's `repository`.
    Repository,
    /// Confluence's `space`.
    Space,
}

impl Entity {
    /// All of them, by name.
    pub const ALL: [Self; 7] = [
        Self::Board,
        Self::Content,
        Self::Issue,
        Self::Project,
        Self::PullRequest,
        Self::Repository,
        Self::Space,
    ];

    /// As contexts and overrides write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Board => "board",
            Self::Content => "content",
            Self::Issue => "issue",
            Self::Project => "project",
            Self::PullRequest => "pullRequest",
            Self::Repository => "repository",
            Self::Space => "space",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entity| entity.name() == name)
    }
}

/// A context that was proved. Nothing in it is asserted by the caller itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    /// The installation of an app, which bounds everything.
    pub installation: Box<str>,
    /// On whose behalf, for audit only: users in one place share their channels.
    pub account: Option<Box<str>>,
    /// The scope that it has unless the caller selects another one: canonical JSON (RFC 8785) of
    /// module, entities and the host's own key.
    pub place: Box<str>,
    /// The entities that it has, each with the canonical JSON of its identity, in the order of
    /// [`Entity::ALL`].
    pub entities: Box<[(Entity, Box<str>)]>,
    /// Whether it may hear global channels, where its token says anything of scopes.
    pub reads_global: Option<bool>,
    /// Whether a user interface is behind it: others publish on global channels only.
    pub is_ui: bool,
    /// When its proof expires, in seconds since the epoch.
    pub expires_at: u64,
}

impl Context {
    /// Whether both are the same place of the same installation.
    pub fn is_same_place(&self, other: &Self) -> bool {
        (&self.installation, &self.place) == (&other.installation, &other.place)
    }
}
