//! The header `forge-proxy-authorization` (contract section 1.4): on whose behalf a back end calls.

use std::collections::HashSet;

use super::context::is_installation;

/// What a back end says of its call. None of it is proved yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProxyAuthorization<'a> {
    /// As whom, where it says so.
    pub as_user: Option<As>,
    /// What it calls for.
    pub subject: Subject<'a>,
    /// The user's account, which it may name only if it calls as a user.
    pub account: Option<&'a str>,
}

/// As whom a back end calls. For audit only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum As {
    /// A user.
    User,
    /// The app itself.
    App,
}

/// What a back end calls for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject<'a> {
    /// An invocation: the id of a registered one, or a token.
    Invocation(&'a str),
    /// An installation, from outside of any invocation.
    Installation(&'a str),
}

/// What is wrong with the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProxyAuthorizationError {
    /// It does not begin with `Forge` and a blank.
    #[error("expected `Forge` and a list of `key=value`")]
    Scheme,
    /// An element is not a key and a value, both of visible ASCII and neither of them empty.
    #[error("expected `key=value`, separated by commas")]
    Element,
    /// A key comes twice.
    #[error("a key comes twice")]
    Duplicate,
    /// `as` is something else.
    #[error("`as` must be `user` or `app`")]
    As,
    /// Neither is there, or both are.
    #[error("expected either `id` or `installationId`")]
    Subject,
    /// The name is too long.
    #[error("`installationId` is too long")]
    Installation,
    /// `accountId` without `as=user`.
    #[error("`accountId` needs `as=user`")]
    Account,
}

impl<'a> ProxyAuthorization<'a> {
    /// Reads the value of the header. Keys that are not known are passed over.
    pub fn parse(header: &'a str) -> Result<Self, ProxyAuthorizationError> {
        let (scheme, list) = header
            .trim_matches(BLANKS)
            .split_once(BLANKS)
            .ok_or(ProxyAuthorizationError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("forge") {
            return Err(ProxyAuthorizationError::Scheme);
        }
        let members = Members::parse(list)?;
        let as_user = members.caller.map(caller).transpose()?;
        let subject = match (members.id, members.installation) {
            (Some(id), None) => Subject::Invocation(id),
            (None, Some(name)) if is_installation(name) => Subject::Installation(name),
            (None, Some(_)) => return Err(ProxyAuthorizationError::Installation),
            _ => return Err(ProxyAuthorizationError::Subject),
        };
        if members.account.is_some() && as_user != Some(As::User) {
            return Err(ProxyAuthorizationError::Account);
        }
        Ok(Self { as_user, subject, account: members.account })
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

/// The values of the keys that are known.
#[derive(Default)]
struct Members<'a> {
    caller: Option<&'a str>,
    id: Option<&'a str>,
    installation: Option<&'a str>,
    account: Option<&'a str>,
}

impl<'a> Members<'a> {
    fn parse(list: &'a str) -> Result<Self, ProxyAuthorizationError> {
        let mut members = Self::default();
        let mut keys = HashSet::new();
        for element in list.split(',') {
            let (key, value) = pair(element).ok_or(ProxyAuthorizationError::Element)?;
            if !keys.insert(key) {
                return Err(ProxyAuthorizationError::Duplicate);
            }
            match key {
                "as" => members.caller = Some(value),
                "id" => members.id = Some(value),
                "installationId" => members.installation = Some(value),
                "accountId" => members.account = Some(value),
                _ => {}
            }
        }
        Ok(members)
    }
}

/// A value may hold further equals signs.
fn pair(element: &str) -> Option<(&str, &str)> {
    let (key, value) = element.trim_matches(BLANKS).split_once('=')?;
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    (is_word(key) && is_word(value)).then_some((key, value))
}

fn caller(name: &str) -> Result<As, ProxyAuthorizationError> {
    match name {
        "user" => Ok(As::User),
        "app" => Ok(As::App),
        _ => Err(ProxyAuthorizationError::As),
    }
}
