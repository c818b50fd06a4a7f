//! The numbered resources of the model, with their kinds, ids and channels.

use std::sync::Arc;

use fanfare::interface::m2::nouns::{ResourceKind, Scope, channel_of, resource_of};
use fanfare::message::Channel;

use super::{NUMBERS, Planted};

pub(super) type User = Arc<str>;

/// A resource, named by its scope and its number in the scope.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Resource {
    pub(super) scope: usize,
    pub(super) number: usize,
}

impl Resource {
    /// The number of the resource that has a document for each user, and no shared one.
    const PRIVATE: usize = 1;

    pub(super) fn is_private(self) -> bool {
        self.number == Self::PRIVATE
    }

    /// Returns the kind and the id by which clients name the resource.
    pub(super) fn parts(self) -> (ResourceKind, String) {
        let kind = ResourceKind::ALL[self.number % 3];
        let id = if self.is_private() { "private".into() } else { (self.number / 3).to_string() };
        (kind, id)
    }

    /// Returns the resource of this channel in a scope.
    pub(super) fn of(channel: &Channel, scope: usize) -> Self {
        let parts = resource_of(channel).expect("it was made of them");
        let mut all = (0..NUMBERS).map(|number| Self { scope, number });
        let is_one = |one: &Self| {
            let (kind, id) = one.parts();
            (kind, id.as_str()) == parts
        };
        all.find(is_one).expect("there is no other")
    }

    pub(super) fn channel(self, planted: Planted) -> Channel {
        let (kind, id) = self.parts();
        channel_of(&scope(self.scope, planted), kind, &id)
    }
}

/// Returns the prefix of a scope's channels. The scopes are alike, so that a node that confuses
/// them is found.
pub(super) fn scope(number: usize, planted: Planted) -> String {
    let scope = |organization: &str, project: &str, launch_context: &str, world: &str| Scope {
        organization: organization.into(),
        project: project.into(),
        launch_context: launch_context.into(),
        world: world.into(),
    };
    let scope = match number {
        0 => scope("o", "p", "", ""),
        1 => scope("o", "p", "", "w"),
        2 => scope("o", "p", "w", ""),
        _ => scope("o/p", "", "", ""),
    };
    match planted {
        Planted::ScopeCut => {
            Scope { organization: scope.organization, ..Scope::default() }.to_string()
        }
        _ => scope.to_string(),
    }
}
