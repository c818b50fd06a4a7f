//! Proves the caller and the origin of a call by its headers.

use std::sync::Arc;

use super::error::{ForgeError, ProxyError};
use crate::auth::{AuthError, bearer_token};
use crate::codec::http::Request;
use crate::interface::authenticators::Authenticators;
use crate::interface::forge::access::{As, Origin, ProxyAuthorization, Subject};
use crate::interface::forge::nouns::Context;
use crate::interface::http::HttpContext;

/// The caller, as its credential proves.
enum Caller {
    /// A caller without a credential.
    Unknown,
    /// An administrator of the node.
    Admin,
    /// The back end of this installation.
    Service(Arc<str>),
}

/// Returns the proved origin of a call.
///
/// # Errors
/// 401 if a header does not prove the origin or the caller, 403 if the caller is the back end of
/// another installation.
pub(super) fn prove(http: &HttpContext<'_>, request: &Request) -> Result<Origin, ForgeError> {
    let Ok(Some(header)) = request.only_header("forge-proxy-authorization") else {
        let why = "the header `forge-proxy-authorization: Forge as=app,id=…` must be there, once";
        return Err(ForgeError::headers(ProxyError::InvalidProxyAuthorization, why));
    };
    let said = ProxyAuthorization::parse(header).map_err(|error| {
        ForgeError::headers(ProxyError::InvalidProxyAuthorization, error.to_string())
    })?;
    let caller = find_caller(http, request)?;
    if !matches!(caller, Caller::Unknown) && http.lacks_certificate(request) {
        let why = AuthError::Certificate.why();
        http.note_refusal("forge", why);
        return Err(ForgeError::headers(ProxyError::InvalidCallerCredential, why));
    }
    let origin = match said.subject {
        Subject::Invocation(id) => Origin::Context(find_invocation(http, request, &caller, id)?),
        Subject::Installation(_) if matches!(caller, Caller::Unknown) => {
            let why = "`installationId` needs a credential of the caller";
            return Err(ForgeError::headers(ProxyError::CallerCredentialRequired, why));
        }
        Subject::Installation(installation) => Origin::Installation(installation.into()),
    };
    if matches!(&caller, Caller::Service(own) if **own != *origin.installation()) {
        return Err(ForgeError::other_installation());
    }
    let (installation, path) = (origin.installation(), &request.path);
    let calls_as = said.as_user.map(As::name);
    tracing::debug!(path, installation, calls_as, account = said.account, "origin proved");
    Ok(origin)
}

/// Authenticates the caller. Each presented credential must be valid, even if another would do.
fn find_caller(http: &HttpContext<'_>, request: &Request) -> Result<Caller, ForgeError> {
    let invalid = |why: String| ForgeError::headers(ProxyError::InvalidCallerCredential, why);
    let given = |name: &'static str| {
        request.only_header(name).map_err(|error| invalid(format!("{name}: {error}")))
    };
    let (authorization, api_key) = (given("authorization")?, given("x-api-key")?);
    let Authenticators { users, forge, refusals, .. } = &mut *http.auth.borrow_mut();
    let now_s = http.now.wall_seconds();
    if api_key.is_some() {
        users.admin(None, api_key, now_s).map_err(|error| {
            refusals.note_from(http.caller.address, "forge", error.why(), http.now.monotonic());
            invalid(error.to_string())
        })?;
    }
    let by_key = api_key.map(|_| Caller::Admin);
    if authorization.is_none() {
        return Ok(by_key.unwrap_or(Caller::Unknown));
    }
    if users.admin(authorization, None, now_s).is_ok() {
        return Ok(Caller::Admin);
    }
    let token = authorization.and_then(bearer_token);
    let token = token.ok_or_else(|| invalid("neither the API key nor a token".to_owned()))?;
    let service = forge.service(token, now_s).map_err(|error| {
        refusals.note_from(http.caller.address, "forge", error.why(), http.now.monotonic());
        invalid(error.to_string())
    })?;
    Ok(by_key.unwrap_or(Caller::Service(service)))
}

/// Returns the context of an invocation. The id is an invocation token, or that of a registered
/// invocation, which needs a credential of the caller unless the network is trusted and no proxy
/// has passed the request on.
fn find_invocation(
    http: &HttpContext<'_>,
    request: &Request,
    caller: &Caller,
    id: &str,
) -> Result<Arc<Context>, ForgeError> {
    let unknown = |why: &str| ForgeError::headers(ProxyError::UnknownInvocation, why);
    let signed = looks_signed(id).then(|| {
        let Authenticators { forge, refusals, .. } = &mut *http.auth.borrow_mut();
        forge.invocation(id, http.now.wall_seconds()).inspect_err(|error| {
            refusals.note_from(http.caller.address, "forge", error.why(), http.now.monotonic());
        })
    });
    let why = match signed {
        Some(Ok(context)) => return Ok(context),
        Some(Err(error)) => error.to_string(),
        None => "the invocation was not registered, or has expired".to_owned(),
    };
    let is_lenient = http.shared.config.trusts_callers() && !http.is_forwarded(request);
    if is_lenient || !matches!(caller, Caller::Unknown) {
        let invocations = &http.shared.events.invocations;
        return invocations.get(id, http.now.monotonic()).ok_or_else(|| unknown(&why));
    }
    if looks_signed(id) {
        return Err(unknown(&why));
    }
    let why = match http.is_forwarded(request) {
        true => "behind a proxy a registered invocation needs a credential of the caller",
        false => "on this network a registered invocation needs a credential of the caller",
    };
    Err(ForgeError::headers(ProxyError::CallerCredentialRequired, why))
}

/// Returns whether an id looks like a token. The id of a registered invocation can look so, too.
fn looks_signed(id: &str) -> bool {
    id.split('.').count() == 3
}
