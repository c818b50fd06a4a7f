//! Decisions of policies about a role: it may, it may not, or that depends on expressions.
//!
//! As with definitions, a set of policies never changes and is replaced whole. It is divided by
//! role when it is made, so that each command takes one look-up.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::message::{Action, Permissions, Policy, Role};

/// The name in a policy that stands for every role that the node knows.
const PUBLIC: &str = "public";

/// All policies of the node at one moment.
#[derive(Debug, Default)]
pub struct Policies {
    version: u64,
    fingerprint: u64,
    permissions: Permissions,
    /// By action; `None` for an action without policies.
    sides: [Option<Side>; 2],
}

/// The policies' decision about an action of a role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ruling {
    /// The role may, so that no expression is evaluated.
    Allowed,
    /// The role may not.
    Denied,
    /// The role may if one of these expressions is true.
    Ask(Arc<[Box<str>]>),
}

/// The policies of one action.
#[derive(Debug)]
struct Side {
    by_role: HashMap<Box<str>, Ruling>,
    /// For roles that the node knows and no policy names.
    public: Ruling,
}

impl Policies {
    /// Creates the first set of a node, with version 1.
    pub fn new(permissions: Permissions) -> Self {
        Self::default().replaced_by(permissions)
    }

    /// Creates the set that follows this one, with the next version.
    pub fn replaced_by(&self, mut permissions: Permissions) -> Self {
        for action in Action::ALL {
            permissions.side_mut(action).sort_by(|one, other| one.name.cmp(&other.name));
        }
        let sides = Action::ALL.map(|action| Side::new(action, permissions.side(action)));
        let fingerprint = fingerprint(&permissions);
        Self { version: self.version + 1, fingerprint, permissions, sides }
    }

    /// Returns the version of the set. Conclusions under another version may no longer hold.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns a number that sets with the same policies have in common, on all nodes of a release.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Returns the policies themselves, by name.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// Returns whether neither action has a policy.
    pub fn are_none(&self) -> bool {
        self.sides.iter().all(Option::is_none)
    }

    /// Returns what the policies say of a role. An action without policies is allowed to every role
    /// that the node knows. Administrators may do everything, whatever the policies say.
    pub fn decide(&self, action: Action, role: &Role) -> &Ruling {
        if *role == Role::ProjectAdmin {
            return &Ruling::Allowed;
        }
        match &self.sides[action as usize] {
            None if role.is_known() => &Ruling::Allowed,
            None => &Ruling::Denied,
            Some(side) => side.decide(role),
        }
    }
}

fn fingerprint(permissions: &Permissions) -> u64 {
    let hash = Sha256::digest(format!("{permissions:?}"));
    hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

impl Side {
    fn new(action: Action, policies: &[Policy]) -> Option<Self> {
        if policies.is_empty() {
            return None;
        }
        let named: BTreeSet<&str> =
            policies.iter().flat_map(|policy| &policy.roles).map(String::as_str).collect();
        let by_role = named.into_iter().filter(|name| *name != PUBLIC).map(|name| {
            let is_known = Role::named(name).is_known();
            let theirs = |role: &str| role == name || is_known && role == PUBLIC;
            (name.into(), ruling(action, policies, theirs))
        });
        let by_role = by_role.collect();
        Some(Self { by_role, public: ruling(action, policies, |role| role == PUBLIC) })
    }

    fn decide(&self, role: &Role) -> &Ruling {
        match self.by_role.get(role.name()) {
            Some(ruling) => ruling,
            None if role.is_known() => &self.public,
            None => &Ruling::Denied,
        }
    }
}

/// Combines the policies that name one of certain roles: one policy that allows the action is
/// enough.
fn ruling(action: Action, policies: &[Policy], is_theirs: impl Fn(&str) -> bool) -> Ruling {
    let mut expressions: Vec<Box<str>> = Vec::new();
    for policy in policies {
        if !policy.roles.iter().any(|role| is_theirs(role)) {
            continue;
        }
        match policy.condition(action) {
            None => return Ruling::Allowed,
            Some(condition) if condition.trim().eq_ignore_ascii_case("true") => {
                return Ruling::Allowed;
            }
            Some(condition) if condition.trim().eq_ignore_ascii_case("false") => {}
            Some(condition) => expressions.push(condition.into()),
        }
    }
    if expressions.is_empty() { Ruling::Denied } else { Ruling::Ask(expressions.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::PolicyCommand;

    fn policy(action: Action, name: &str, roles: &[&str], condition: Option<&str>) -> Policy {
        let condition = condition.map(str::to_owned);
        let (using, with_check) = match action {
            Action::Subscribe => (condition, None),
            Action::Publish => (None, condition),
        };
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        Policy { name: name.into(), command: action.command(), roles, using, with_check }
    }

    fn policies(action: Action, all: &[(&[&str], Option<&str>)]) -> Policies {
        let mut permissions = Permissions::default();
        for (number, (roles, condition)) in all.iter().enumerate() {
            let one = policy(action, &format!("p{number}"), roles, *condition);
            permissions.side_mut(action).push(one);
        }
        Policies::new(permissions)
    }

    fn ask(expressions: &[&str]) -> Ruling {
        Ruling::Ask(expressions.iter().map(|one| Box::from(*one)).collect())
    }

    #[test]
    fn rulings_are_as_the_table_says() {
        use Ruling::{Allowed, Denied};
        type Case<'a> = (&'a [(&'a [&'a str], Option<&'a str>)], [Ruling; 4]);
        // For anon, authenticated, project_admin, and a role that the node does not know.
        let table: [Case<'_>; 10] = [
            (&[], [Allowed, Allowed, Allowed, Denied]),
            (&[(&["anon"], None)], [Allowed, Denied, Allowed, Denied]),
            (&[(&["public"], None)], [Allowed, Allowed, Allowed, Denied]),
            (&[(&["editor"], None)], [Denied, Denied, Allowed, Allowed]),
            (&[(&["public", "editor"], Some(" TRUE\n"))], [Allowed, Allowed, Allowed, Allowed]),
            (&[(&["public"], Some("false"))], [Denied, Denied, Allowed, Denied]),
            (&[(&["anon"], Some("a"))], [ask(&["a"]), Denied, Allowed, Denied]),
            (
                &[(&["anon"], Some("a")), (&["public"], Some("b")), (&["editor"], Some("c"))],
                [ask(&["a", "b"]), ask(&["b"]), Allowed, ask(&["c"])],
            ),
            (&[(&["anon"], Some("a")), (&["anon"], None)], [Allowed, Denied, Allowed, Denied]),
            (&[(&["project_admin"], Some("false"))], [Denied, Denied, Allowed, Denied]),
        ];
        let roles = ["anon", "authenticated", "project_admin", "editor"].map(Role::named);
        for action in Action::ALL {
            for (all, expected) in &table {
                let policies = policies(action, all);
                let found = roles.each_ref().map(|role| policies.decide(action, role).clone());
                assert_eq!(&found, expected, "{action:?} under {all:?}");
                assert_eq!(policies.are_none(), all.is_empty());
            }
        }
    }

    #[test]
    fn a_side_without_policies_stays_open_beside_one_that_has_some() {
        let policies = policies(Action::Publish, &[(&["editor"], None)]);
        assert_eq!(policies.decide(Action::Subscribe, &Role::Anon), &Ruling::Allowed);
        assert_eq!(policies.decide(Action::Publish, &Role::Anon), &Ruling::Denied);
    }

    #[test]
    fn a_policy_for_all_commands_checks_with_what_it_has() {
        let mut permissions = Permissions::default();
        for (using, with_check) in [(Some("u"), None), (Some("u"), Some("w")), (None, Some("w"))] {
            let (using, with_check) = (using.map(str::to_owned), with_check.map(str::to_owned));
            let (name, roles) = (String::new(), vec!["anon".to_owned()]);
            let command = PolicyCommand::All;
            permissions.publish.push(Policy { name, command, roles, using, with_check });
        }
        let policies = Policies::new(permissions);
        let ruling = policies.decide(Action::Publish, &Role::Anon);
        assert_eq!(ruling, &ask(&["u", "w", "w"]));
    }

    #[test]
    fn sets_are_numbered_and_listed_by_name() {
        let names = ["b", "a", "c"].map(|name| policy(Action::Subscribe, name, &["anon"], None));
        let first = Policies::new(Permissions { subscribe: names.into(), publish: vec![] });
        let listed: Vec<_> =
            first.permissions().subscribe.iter().map(|policy| policy.name.as_str()).collect();
        assert_eq!(listed, ["a", "b", "c"]);
        assert_eq!((first.version(), first.replaced_by(Permissions::default()).version()), (1, 2));
    }
}
