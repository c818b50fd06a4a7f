//! The body and the replies of `PUT` and `DELETE /admin/v1/invocations/{id}`. A platform registers
//! an invocation before it calls an app, and may revoke it.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::codec::http::Request;
use crate::interface::forge::access::ContextClaims;
use crate::interface::forge::invocations::Invocations;
use crate::interface::forge::limits::{
    INVOCATION_BYTES_MAX, INVOCATION_ID_BYTES_MAX, INVOCATION_TTL_S_MAX, INVOCATIONS_MAX,
};
use crate::interface::forge::nouns::Context;
use crate::interface::http::HttpContext;
use crate::interface::rest::fields::{self, Read};
use crate::interface::rest::{ApiError, Reply};
use crate::mailbox::{Changed, StoreRefusal, Wish};
use crate::message::{Invocation, Millis, Now};

/// The fields of the body. All but the first two describe the context.
const FIELDS: [&str; 10] = [
    "ui",
    "ttlSeconds",
    "installationId",
    "moduleKey",
    "moduleType",
    "contextKey",
    "extension",
    "accountId",
    "sub",
    "scopes",
];
/// Fields that are passed over: those of the answer, and the registered claims of RFC 7519, so that
/// the claims of a context token can be registered as they are.
const PASSED_OVER: [&str; 8] = ["id", "expiresAt", "iss", "aud", "exp", "nbf", "iat", "jti"];

/// The parsed body: an invocation to register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The context that the app was invoked in.
    pub context: Context,
    /// For how long the id is valid, in seconds.
    pub ttl_s: u32,
}

impl Registration {
    /// Parses the body of the call, at `now_s` seconds since the epoch.
    ///
    /// # Errors
    /// 400 if the body is not valid or has an unknown field, because a misspelt `scopes` or
    /// `extension` would make the context wider. 413 if it is longer than [`INVOCATION_BYTES_MAX`].
    pub fn parse(body: &[u8], now_s: u64) -> Result<Self, ApiError> {
        if body.len() > INVOCATION_BYTES_MAX {
            return Err(ApiError::payload_too_large(INVOCATION_BYTES_MAX));
        }
        let [ui, ttl, ..] = fields::settings(body, &FIELDS, &PASSED_OVER)?;
        let read = (
            fields::required("ui", ui).and_then(|value| fields::flag("ui", value)),
            fields::required("ttlSeconds", ttl).and_then(read_ttl),
        );
        let (Ok(_), Ok(ttl_s)) = read else {
            return Err(fields::refuse([read.0.err(), read.1.err()]));
        };
        let claims = ContextClaims::parse(body);
        let context = claims.and_then(|claims| claims.into_context(now_s + u64::from(ttl_s)));
        Ok(Self { context: context.map_err(ApiError::invalid_input)?, ttl_s })
    }
}

fn read_ttl(value: &RawValue) -> Read<u32> {
    fields::integer("ttlSeconds", value, 1..=INVOCATION_TTL_S_MAX)
}

/// Registers an invocation, or replaces the one of the same id. In a cluster all nodes know it when
/// this is answered, or the answer names those that have not confirmed it.
pub(super) async fn register(
    http: &HttpContext<'_>,
    request: &Request,
    id: Option<&str>,
    body: &[u8],
) -> Result<Reply, ApiError> {
    http.check_admin(request)?;
    let id = id.ok_or_else(ApiError::invalid_invocation_id)?;
    let Registration { context, ttl_s } = Registration::parse(body, http.now.wall_seconds())?;
    let (invocations, now) = (&http.shared.events.invocations, http.now.monotonic());
    let lives = Millis::from(ttl_s) * 1_000;
    let reply = Reply::invocation_registered(id, &context);
    if !is_clustered(http) {
        let put = invocations.put(id, Arc::new(context), now + lives, now);
        return put.map(|()| reply).map_err(|_| full(http));
    }
    if !invocations.has_room(id, now) {
        return Err(full(http));
    }
    let body = str::from_utf8(body).map_err(|error| ApiError::invalid_input(error.to_string()))?;
    let expires = http.now.wall + lives;
    let unconfirmed = tell(http, id, expires, Some(body.into())).await?;
    Ok(reply.unconfirmed_by(&unconfirmed))
}

/// Revokes an invocation. In a cluster no node knows it when this is answered, or the answer names
/// those that have not confirmed that.
pub(super) async fn revoke(
    http: &HttpContext<'_>,
    request: &Request,
    id: Option<&str>,
) -> Result<Reply, ApiError> {
    http.check_admin(request)?;
    let id = id.ok_or_else(ApiError::invalid_invocation_id)?;
    let (invocations, now) = (&http.shared.events.invocations, http.now.monotonic());
    if is_clustered(http) {
        let known = invocations.get(id, now);
        let expires = known.map_or(0, |context| (context.expires_at + 1) * 1_000);
        let unconfirmed = tell(http, id, expires, None).await?;
        return Ok(Reply::invocation_revoked().unconfirmed_by(&unconfirmed));
    }
    match invocations.remove(id, now) {
        true => Ok(Reply::invocation_revoked()),
        false => Err(ApiError::invocation_not_found()),
    }
}

fn is_clustered(http: &HttpContext<'_>) -> bool {
    http.shared.broker.mailboxes.stream.is_some()
}

fn full(http: &HttpContext<'_>) -> ApiError {
    http.counters.refused_overloaded.add(1);
    ApiError::invocations_full()
}

/// Lets all nodes know what was registered or revoked. Returns those that have not confirmed it.
async fn tell(
    http: &HttpContext<'_>,
    id: &str,
    expires: Millis,
    description: Option<Box<str>>,
) -> Result<Vec<Box<str>>, ApiError> {
    let invocation = Box::new(Invocation { id: id.into(), expires, description });
    let told = http.wish(|ticket| Wish::Invoke(ticket, invocation)).await?;
    told.map(|Changed { unconfirmed, .. }| unconfirmed).map_err(|refusal| match refusal {
        StoreRefusal::NotFound => ApiError::invocation_not_found(),
        refusal => refusal.into(),
    })
}

/// Takes what was registered or revoked on a node of the cluster, this one or another.
///
/// # Errors
/// What is wrong with the description, which a node of another release may have admitted.
pub fn follow(
    invocations: &Invocations,
    invocation: &Invocation,
    now: Now,
) -> Result<(), &'static str> {
    let Invocation { id, expires, description } = invocation;
    let Some(description) = description.as_ref().filter(|_| *expires > now.wall) else {
        invocations.remove(id, now.monotonic());
        return Ok(());
    };
    let context = ContextClaims::parse(description.as_bytes())?.into_context(expires / 1_000)?;
    let until = now.until_wall(*expires);
    invocations.put_admitted(id, Arc::new(context), until, now.monotonic());
    Ok(())
}

impl Reply {
    /// 201: the invocation is registered under the id.
    pub fn invocation_registered(id: &str, context: &Context) -> Self {
        let Context { installation, is_ui, expires_at, .. } = context;
        let body =
            Registered { id, installation_id: installation, ui: *is_ui, expires_at: *expires_at };
        Self::json(201, &body)
    }

    /// 204: the invocation is revoked.
    pub fn invocation_revoked() -> Self {
        Self::of(204, String::new())
    }
}

impl ApiError {
    /// 404: no invocation is registered under the id.
    pub(super) fn invocation_not_found() -> Self {
        Self::new(404, "NOT_FOUND", "Invocation not found")
    }

    /// 400: the id is not valid.
    pub(super) fn invalid_invocation_id() -> Self {
        let bytes_max = INVOCATION_ID_BYTES_MAX;
        Self::invalid_input(format!(
            "id: Expected 1 to {bytes_max} visible ASCII characters, and no comma among them"
        ))
    }

    /// 503 with `Retry-After`: [`INVOCATIONS_MAX`] invocations are registered.
    pub(super) fn invocations_full() -> Self {
        let count = INVOCATIONS_MAX;
        let message = format!("There are {count} invocations registered, the most allowed");
        Self::new(503, "OVERLOADED", message)
            .retry()
            .advise("Register them for less time, or use signed invocation tokens")
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Registered<'a> {
    id: &'a str,
    installation_id: &'a str,
    ui: bool,
    expires_at: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::forge::nouns::Entity;

    const NOW_S: u64 = 1_719_999_000;

    fn refused(body: &str) -> String {
        let refusal = Registration::parse(body.as_bytes(), NOW_S).unwrap_err();
        assert_eq!((refusal.status(), refusal.code()), (400, "INVALID_INPUT"), "{body}");
        refusal.to_string()
    }

    #[test]
    fn a_registration_is_a_context() {
        let body = r#"{"installationId":"inst-1","moduleKey":"panel","moduleType":"jira:issuePanel",
            "extension":{"issue":{"id":"10001"},"user":1},"accountId":"alice","ui":false,
            "ttlSeconds":900,"id":"inv-1","expiresAt":1}"#;
        let Registration { context, ttl_s } = Registration::parse(body.as_bytes(), NOW_S).unwrap();
        assert_eq!((&*context.installation, context.is_ui, ttl_s), ("inst-1", false, 900));
        assert_eq!(context.account.as_deref(), Some("alice"));
        assert_eq!(context.expires_at, NOW_S + 900);
        assert_eq!(*context.entities, [(Entity::Issue, r#""10001""#.into())]);
        let reply = Reply::invocation_registered("inv-1", &context);
        assert_eq!(reply.status, 201);
        let told = r#"{"id":"inv-1","installationId":"inst-1","ui":false,"expiresAt":1719999900}"#;
        assert_eq!(reply.body, told);
    }

    #[test]
    fn what_is_wrong_with_a_registration_is_told() {
        let table = [
            ("", "ui: Required, ttlSeconds: Required"),
            ("[]", "Expected object, received array"),
            (
                r#"{"ui":1,"ttlSeconds":"5"}"#,
                "ui: Expected boolean, received number, ttlSeconds: expected a whole number from 1 to 900",
            ),
            (r#"{"ui":true,"ttlSeconds":0}"#, "ttlSeconds: expected a whole number from 1 to 900"),
            (
                r#"{"ui":true,"ttlSeconds":901}"#,
                "ttlSeconds: expected a whole number from 1 to 900",
            ),
            (
                r#"{"ui":true,"ttlSeconds":1.5}"#,
                "ttlSeconds: expected a whole number from 1 to 900",
            ),
            (
                r#"{"ui":true,"ttlSeconds":5,"installationId":"i"}"#,
                "one of moduleKey, moduleType and contextKey is needed",
            ),
            (
                r#"{"ui":true,"ttlSeconds":5,"ui":true,"installationId":"i","moduleKey":"m"}"#,
                "expected one JSON object without repeated members",
            ),
            (
                r#"{"ui":true,"ttlSeconds":5,"installationId":"i","moduleKey":"m","scope":[]}"#,
                "Unrecognized key(s) in object: 'scope'",
            ),
        ];
        for (body, message) in table {
            assert_eq!(refused(body), message, "{body}");
        }
        let nobody = refused(r#"{"ui":true,"ttlSeconds":5,"moduleKey":"m"}"#);
        assert!(nobody.starts_with("installationId must be a string"), "{nobody}");
        let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(INVOCATION_BYTES_MAX));
        let refusal = Registration::parse(long.as_bytes(), NOW_S).unwrap_err();
        assert_eq!((refusal.status(), refusal.code()), (413, "PAYLOAD_TOO_LARGE"));
    }

    #[test]
    fn a_revocation_says_nothing() {
        let reply = Reply::invocation_revoked();
        assert_eq!((reply.status, &*reply.body), (204, ""));
    }

    #[test]
    fn each_refusal_has_its_status_and_code() {
        let table = [
            (ApiError::invocation_not_found(), 404, "NOT_FOUND"),
            (ApiError::invalid_invocation_id(), 400, "INVALID_INPUT"),
            (ApiError::invocations_full(), 503, "OVERLOADED"),
        ];
        for (refusal, status, code) in table {
            assert_eq!((refusal.status(), refusal.code()), (status, code), "{refusal}");
        }
        assert_eq!(Reply::from(ApiError::invocations_full()).retry_after_s, Some(1));
    }
}
