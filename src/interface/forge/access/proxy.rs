//! Parses the header `forge-proxy-authorization`, by which a back end says for which invocation or
//! installation it calls.

use std::collections::HashSet;

use super::context::is_installation;

/// The parsed header. Nothing in it is proved yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProxyAuthorization<'a> {
    /// Whether the back end calls as a user or as the app; `None` if the header does not say.
    pub as_user: Option<As>,
    /// The invocation or the installation that the back end calls for.
    pub subject: Subject<'a>,
    /// The user's account, allowed only with [`As::User`].
    pub account: Option<&'a str>,
}

/// The identity that a back end calls as, for audit only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum As {
    /// A user of the app.
    User,
    /// The app itself, without a user.
    App,
}

impl As {
    /// Returns the value of `as` in the header.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::App => "app",
        }
    }
}

/// The invocation or the installation that a back end calls for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject<'a> {
    /// The id of a registered invocation, or an invocation token.
    Invocation(&'a str),
    /// The name of an installation, without an invocation.
    Installation(&'a str),
}

/// Why the header is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProxyAuthorizationError {
    /// The header does not begin with `Forge` and a blank.
    #[error("expected `Forge` and a list of `key=value`")]
    Scheme,
    /// An element is not a key and a value, both non-empty and of visible ASCII characters.
    #[error("expected `key=value`, separated by commas; a key or a value is empty or missing")]
    Element,
    /// A key occurs twice.
    #[error("a key comes twice")]
    Duplicate,
    /// `as` is neither `user` nor `app`.
    #[error("`as` must be `user` or `app`")]
    As,
    /// The header has neither `id` nor `installationId`, or both.
    #[error("expected either `id` or `installationId`")]
    Subject,
    /// The name of the installation is too long.
    #[error("`installationId` is too long")]
    Installation,
    /// The header has `accountId` without `as=user`.
    #[error("`accountId` needs `as=user`")]
    Account,
}

impl<'a> ProxyAuthorization<'a> {
    /// Parses the value of the header. Unknown keys are ignored.
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

/// The values of the known keys.
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

/// Splits an element into key and value. The value may contain further equals signs.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parsed<'a> = Result<ProxyAuthorization<'a>, ProxyAuthorizationError>;

    fn for_invocation(id: &str) -> Parsed<'_> {
        let subject = Subject::Invocation(id);
        Ok(ProxyAuthorization { as_user: None, subject, account: None })
    }

    #[test]
    fn headers_of_the_grammar_are_read() {
        let app = |subject| ProxyAuthorization { as_user: Some(As::App), subject, account: None };
        let user = |account| ProxyAuthorization {
            as_user: Some(As::User),
            subject: Subject::Invocation("i"),
            account,
        };
        let cases = [
            ("Forge as=app,id=invocation-123", app(Subject::Invocation("invocation-123"))),
            ("Forge as=app,installationId=8d5f", app(Subject::Installation("8d5f"))),
            ("forge  id=i ,\tas=app ", app(Subject::Invocation("i"))),
            ("\tFORGE\tas=app , id=i", app(Subject::Invocation("i"))),
            ("Forge as=user,id=i,accountId=557058:a-b", user(Some("557058:a-b"))),
            ("Forge accountId=a,id=i,as=user", user(Some("a"))),
            ("Forge as=user,id=i", user(None)),
            ("Forge as=app,id=i,x=y,AS=user,Id=z,account_id=a", app(Subject::Invocation("i"))),
        ];
        for (header, expected) in cases {
            assert_eq!(ProxyAuthorization::parse(header), Ok(expected), "{header}");
        }
        let token = "eyJ0eXAiOiJKV1QifQ.e30.a-b_c";
        assert_eq!(ProxyAuthorization::parse(&format!("Forge id={token}")), for_invocation(token));
        assert_eq!(ProxyAuthorization::parse("Forge id=a=b=="), for_invocation("a=b=="));
    }

    #[test]
    fn malformed_headers_are_refused() {
        use ProxyAuthorizationError::{
            Account, As as WrongAs, Duplicate, Element, Installation, Scheme,
            Subject as WrongSubject,
        };
        let long = format!("Forge installationId={}", "i".repeat(513));
        let cases = [
            ("", Scheme),
            (" ", Scheme),
            ("Forge", Scheme),
            ("Forge ", Scheme),
            ("id=i", Scheme),
            ("Forge,id=i", Scheme),
            ("Forgeid=i", Scheme),
            ("Bearer id=i", Scheme),
            ("Forge\u{a0}id=i", Scheme),
            ("Forge ,", Element),
            ("Forge id", Element),
            ("Forge id=", Element),
            ("Forge id= i", Element),
            ("Forge id =i", Element),
            ("Forge =i", Element),
            ("Forge id=i,", Element),
            ("Forge ,id=i", Element),
            ("Forge id=i,,as=app", Element),
            ("Forge id=i as=app", Element),
            ("Forge id=i;as=app x", Element),
            ("Forge id=\"a b\"", Element),
            ("Forge id=ü", Element),
            ("Forge id=i\u{7f}", Element),
            ("Forge id=i,x=", Element),
            ("Forge id=i,x", Element),
            ("Forge id=i, Forge id=j", Element),
            ("Forge id=i,accountId=", Element),
            ("Forge id=i,id=i", Duplicate),
            ("Forge id=i,id=j", Duplicate),
            ("Forge as=app,as=user,id=i", Duplicate),
            ("Forge id=i,x=1,x=1", Duplicate),
            ("Forge as=admin,id=i", WrongAs),
            ("Forge as=App,id=i", WrongAs),
            ("Forge as=app", WrongSubject),
            ("Forge as=user,accountId=a", WrongSubject),
            ("Forge x=y", WrongSubject),
            ("Forge id=i,installationId=j", WrongSubject),
            (&*long, Installation),
            ("Forge id=i,accountId=a", Account),
            ("Forge as=app,id=i,accountId=a", Account),
            ("Forge as=app,installationId=i,accountId=a", Account),
        ];
        for (header, expected) in cases {
            assert_eq!(ProxyAuthorization::parse(header), Err(expected), "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(header in ".{0,60}", list in "Forge [a-zI=,: ]{0,40}") {
            let _parsed = ProxyAuthorization::parse(&header);
            let _parsed = ProxyAuthorization::parse(&list);
        }

        #[test]
        fn whatever_a_word_holds_comes_back(id in "[!-+--~]{1,60}", account in "[!-+--~]{1,20}") {
            let header = format!("Forge accountId={account} , as=user,id={id}");
            let expected = ProxyAuthorization {
                as_user: Some(As::User),
                subject: Subject::Invocation(&id),
                account: Some(&account),
            };
            prop_assert_eq!(ProxyAuthorization::parse(&header), Ok(expected));
        }
    }
}
