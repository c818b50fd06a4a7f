//! The body and the reply of `POST /forge/realtime/v1/token`, which signs a realtime token.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::error::ForgeError;
use crate::interface::forge::access::{Permission, Signed};
use crate::interface::forge::nouns::channel_problem;
use crate::interface::rest::fields::{self, Read};
use crate::interface::rest::{ApiError, Reply};

/// Permissions that a body may list. There are two; repetitions are allowed.
const PERMISSIONS_MAX: usize = 16;

/// The parsed body: the realtime token that a back end requests.
#[derive(Clone, Debug)]
pub struct NewToken<'a> {
    /// The name of the channel, which is valid.
    pub channel: Cow<'a, str>,
    /// The claims: the JSON text of an object. Signing bounds its length.
    pub claims: &'a str,
    /// The permissions; `None` for all, an empty list for none.
    pub permissions: Option<Vec<Permission>>,
}

impl<'a> NewToken<'a> {
    /// Parses the body of the call.
    ///
    /// # Errors
    /// 400 with the issues of all members.
    pub fn parse(body: &'a [u8]) -> Result<Self, ForgeError> {
        let names = ["channelName", "claims", "permissions"];
        let [channel, claims, permissions] = fields::object(body, &names)?;
        let read = (
            fields::required("channelName", channel).and_then(read_channel),
            fields::required("claims", claims).and_then(read_claims),
            permissions.map(read_permissions).transpose(),
        );
        let (Ok(channel), Ok(claims), Ok(permissions)) = read else {
            let issues = [read.0.err(), read.1.err(), read.2.err()];
            return Err(fields::refuse(issues).into());
        };
        Ok(Self { channel, claims, permissions })
    }
}

/// 400: the body is not valid.
impl From<ApiError> for ForgeError {
    fn from(error: ApiError) -> Self {
        Self::malformed(error.to_string())
    }
}

fn read_channel(value: &RawValue) -> Read<Cow<'_, str>> {
    let name = fields::text("channelName", value, usize::MAX)?;
    match channel_problem(&name) {
        None => Ok(name),
        Some(problem) => Err(format!("channelName: {problem}")),
    }
}

fn read_claims(value: &RawValue) -> Read<&str> {
    let text = value.get();
    if text.starts_with('{') { Ok(text) } else { Err("claims: Expected object".to_owned()) }
}

fn read_permissions(value: &RawValue) -> Read<Vec<Permission>> {
    const ALL: [Permission; 2] = [Permission::Subscribe, Permission::Publish];
    let items = fields::list("permissions", value, PERMISSIONS_MAX)?;
    let names = ALL.map(Permission::name);
    items.into_iter().map(|item| Ok(ALL[fields::choice("permissions", item, &names)?])).collect()
}

impl Reply {
    /// 200 with the token. As in Forge itself, there is no member `errors`.
    pub fn forge_token(signed: &Signed) -> Self {
        let Signed { token, expires_at } = signed;
        Self::json(200, &SignedBody { token, expires_at: *expires_at })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SignedBody<'a> {
    token: &'a str,
    expires_at: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::forge::http::Call;

    fn refused(body: &str) -> String {
        let reply = NewToken::parse(body.as_bytes()).unwrap_err().reply(Call::Token);
        let start = r#"{"token":null,"expiresAt":null,"errors":[{"message":"#.to_owned()
            + r#""Error signing realtime token","status":400,"detail":"#;
        let detail = reply.body.strip_prefix(&start).expect(&reply.body);
        assert_eq!(reply.status, 400);
        serde_json::from_str(detail.strip_suffix("}]}").unwrap()).unwrap()
    }

    #[test]
    fn claims_go_through_as_they_came() {
        let body = br#"{"channelName":"a\u0062","claims": {"b":1.0, "a":[ ]} ,"else":1}"#;
        let new = NewToken::parse(body).unwrap();
        assert_eq!((&*new.channel, new.claims), ("ab", r#"{"b":1.0, "a":[ ]}"#));
        assert_eq!(new.permissions, None);
    }

    #[test]
    fn permissions_are_optional() {
        let with = |permissions: &str| {
            let body =
                format!(r#"{{"channelName":"a","claims":{{}},"permissions":{permissions}}}"#);
            NewToken::parse(body.as_bytes()).unwrap().permissions
        };
        let (subscribe, publish) = (Permission::Subscribe, Permission::Publish);
        assert_eq!(with(r#"["subscribe"]"#), Some(vec![subscribe]));
        assert_eq!(with(r#"["publish","subscribe"]"#), Some(vec![publish, subscribe]));
        assert_eq!(with("[]"), Some(vec![]));
    }

    #[test]
    fn what_is_wrong_with_a_body_is_told() {
        let long = format!(r#"{{"channelName":"{}","claims":{{}}}}"#, "x".repeat(256));
        let invalid = "permissions: Invalid enum value. Expected 'subscribe' | 'publish'";
        let many = format!(
            r#"{{"channelName":"a","claims":{{}},"permissions":[{}""]}}"#,
            "\"publish\",".repeat(16)
        );
        let table = [
            ("", "channelName: Required, claims: Required"),
            ("7", "Expected object, received number"),
            (
                r#"{"channelName":"","claims":[]}"#,
                "channelName: String must contain at least 1 character(s), claims: Expected object",
            ),
            (r#"{"channelName":"a","claims":null}"#, "claims: Expected object"),
            (r#"{"channelName":"a","claims":"{}"}"#, "claims: Expected object"),
            (r#"{"channelName":7,"claims":{}}"#, "channelName: Expected string, received number"),
            (
                r#"{"channelName":"\ud800","claims":{}}"#,
                "channelName: String must be valid Unicode",
            ),
            (
                r#"{"channelName":"\t","claims":{}}"#,
                "channelName: String must not contain control characters",
            ),
            (&long, "channelName: String must contain at most 255 byte(s)"),
            (
                r#"{"channelName":"a","claims":{},"permissions":null}"#,
                "permissions: Expected array, received null",
            ),
            (
                r#"{"channelName":"a","claims":{},"permissions":"publish"}"#,
                "permissions: Expected array, received string",
            ),
            (r#"{"channelName":"a","claims":{},"permissions":["read"]}"#, invalid),
            (
                r#"{"channelName":"a","claims":{},"permissions":[1]}"#,
                "permissions: Expected string, received number",
            ),
            (&many, "permissions: Array must contain at most 16 element(s)"),
        ];
        for (body, detail) in table {
            assert_eq!(refused(body), detail, "{body}");
        }
        assert!(refused("{").starts_with("EOF while parsing"));
    }

    #[test]
    fn a_token_is_given_with_its_end() {
        let signed = Signed { token: "a.b.c".to_owned(), expires_at: 1_719_999_999 };
        let reply = Reply::forge_token(&signed);
        assert_eq!(
            (reply.status, &*reply.body),
            (200, r#"{"token":"a.b.c","expiresAt":1719999999}"#)
        );
    }
}
