//! Forge Realtime over HTTP (contract sections 1.2 to 1.4, 3.3 and 4): who calls, and for whom, is
//! settled first; then the body, the realtime token and the rate; and only then something happens.

use std::sync::Arc;

use super::handover::upgrade;
use super::http::{End, Http};
use super::rest::{self, response};
use super::{Acceptor, Outcome};
use crate::api::forge::{self, Call, ForgeError, ProxyError, Registration, Route};
use crate::api::{ApiError, Reply};
use crate::auth::bearer_token;
use crate::auth::forge::{
    self as auth, Permission, ProxyAuthorization, Reach, Subject, Topic, Wanted,
};
use crate::codec::http::Request;
use crate::hub::message_id;
use crate::interface::forge::wire::SUBPROTOCOL;
use crate::limits::HTTP_BODY_BYTES_MAX;
use crate::mailbox::Purpose;
use crate::message::{Context, Millis};

/// Answers a request to one of Forge's paths.
pub(super) async fn answer(
    acceptor: &Acceptor,
    http: &mut Http,
    request: &Request,
) -> Result<Outcome, End> {
    let route = forge::route(request.method.as_str(), &request.path);
    if route == Ok(Route::Socket) {
        return listen(acceptor, http, request).await;
    }
    let body = http.body(request).await?;
    let replied = match route {
        Ok(Route::Module(module)) => {
            return Ok(Outcome::Respond(module.response(request.header("if-none-match"))));
        }
        Ok(route) => carry_out(acceptor, request, &route, &body),
        Err(error) => Err(error),
    };
    Ok(Outcome::Respond(response(replied.unwrap_or_else(Reply::from))))
}

/// The answer to a request whose body is longer than any may be, where it is a call: who calls is
/// looked at before the body here, too.
pub(super) fn body_too_long(acceptor: &Acceptor, request: &Request) -> Option<Reply> {
    let call = match forge::route(request.method.as_str(), &request.path) {
        Ok(Route::Publish | Route::PublishGlobal) => Call::Publish,
        Ok(Route::Token) => Call::Token,
        _ => return None,
    };
    let error = match prove(acceptor, request, acceptor.hub.clock.wall()) {
        Ok(_) => {
            let detail = format!("The request body is longer than {HTTP_BODY_BYTES_MAX} bytes");
            ForgeError::too_large(detail)
        }
        Err(error) => error,
    };
    Some(error.reply(call))
}

/// Makes a connection the WebSocket of a subscriber, who may prove its context at once.
async fn listen(acceptor: &Acceptor, http: &mut Http, request: &Request) -> Result<Outcome, End> {
    let refusal = match agree(acceptor, request) {
        Ok((context, protocol)) if !acceptor.is_stopping() => {
            let protocol = protocol.map(str::to_owned);
            return Ok(upgrade(request, Purpose::Forge(context), protocol));
        }
        Ok(_) => ApiError::stopping(),
        Err(refusal) => refusal,
    };
    http.body(request).await?;
    Ok(Outcome::Respond(response(refusal.into())))
}

/// What a handshake proves, and the subprotocol that it agrees on.
fn agree(
    acceptor: &Acceptor,
    request: &Request,
) -> Result<(Option<Arc<Context>>, Option<&'static str>), ApiError> {
    let offered: Vec<_> = request.header_values("sec-websocket-protocol").collect();
    let protocol = match offered.as_slice() {
        [] => None,
        offered if offered.iter().any(|header| offers_ours(header)) => Some(SUBPROTOCOL),
        _ => {
            let message = format!("The only subprotocol here is {SUBPROTOCOL}");
            return Err(ApiError::http(400, message));
        }
    };
    let authorization = request.only_header("authorization");
    let authorization = authorization.map_err(|error| refused_context(&error.to_string()))?;
    let Some(authorization) = authorization else { return Ok((None, protocol)) };
    let now_s = acceptor.hub.clock.wall() / 1_000;
    let forge = &mut acceptor.auth.borrow_mut().forge;
    let proved = bearer_token(authorization).map(|token| forge.context(token, now_s));
    match proved {
        Some(Ok(context)) => Ok((Some(context), protocol)),
        Some(Err(error)) => Err(refused_context(&error.to_string())),
        None => Err(refused_context("expected `Bearer` and a context token")),
    }
}

fn offers_ours(header: &str) -> bool {
    header.split(',').any(|name| name.trim() == SUBPROTOCOL)
}

fn refused_context(why: &str) -> ApiError {
    tracing::debug!(why, "refusing a context token");
    ApiError::auth(401, "AUTH_UNAUTHORIZED", format!("Unauthorized request: {why}"), None)
}

/// Carries a request out.
fn carry_out(
    acceptor: &Acceptor,
    request: &Request,
    route: &Route,
    body: &[u8],
) -> Result<Reply, ApiError> {
    if route.needs_admin() {
        rest::check_admin(acceptor, request, acceptor.hub.clock.wall() / 1_000)?;
    }
    let refused = |call| move |error: ForgeError| error.reply(call);
    match route {
        Route::Publish => {
            let done = publish(acceptor, request, body, false);
            Ok(done.unwrap_or_else(refused(Call::Publish)))
        }
        Route::PublishGlobal => {
            let done = publish(acceptor, request, body, true);
            Ok(done.unwrap_or_else(refused(Call::Publish)))
        }
        Route::Token => Ok(sign(acceptor, request, body).unwrap_or_else(refused(Call::Token))),
        Route::Register(id) => register(acceptor, id.as_deref(), body),
        Route::Revoke(id) => revoke(acceptor, id.as_deref()),
        Route::Module(_) | Route::Socket => unreachable!("they are no calls"),
    }
}

fn publish(
    acceptor: &Acceptor,
    request: &Request,
    body: &[u8],
    is_global: bool,
) -> Result<Reply, ForgeError> {
    let hub = &acceptor.hub;
    let now = hub.clock.wall();
    let proof = prove(acceptor, request, now)?;
    let mut scratch = acceptor.json.borrow_mut();
    let payload_bytes_max = hub.forge.payload_bytes;
    let wanted = forge::Publish::parse(body, &mut scratch, is_global, payload_bytes_max)?;
    let forge = &acceptor.auth.borrow().forge;
    let (installation, channel) = (proof.installation(), wanted.channel);
    let permission = Permission::Publish;
    let asked = Wanted { channel, installation, permission };
    let grant = wanted.token.map(|token| forge.channel_token(token, &asked, now / 1_000));
    let grant = grant.transpose()?;
    admit(acceptor, &proof)?;
    let reach = Reach::chosen(permission, is_global, proof.context(), wanted.overrides.as_deref());
    let reach = reach.map_err(|error| ForgeError::not_allowed(error.to_string()))?;
    let claims = grant.as_ref().map(|grant| &*grant.claims);
    let scope = Topic { installation, channel, reach, claims };
    let topic = forge.topic(&scope);
    let topic = topic.map_err(|missing| ForgeError::not_allowed(missing.to_string()))?;
    tracing::debug!(what = permission.name(), %scope, topic = topic.as_str(), "a scope");
    let at = hub.clock.now();
    let stamp = (message_id(at.wall, &mut rand::rng()), at);
    let receipt = hub.publish_event(topic, wanted.payload, stamp).map_err(|_| {
        acceptor.counters.refused_overloaded.add(1);
        ForgeError::overloaded()
    })?;
    let counter = match receipt {
        Some(_) => &acceptor.counters.events_http,
        None => &acceptor.counters.events_unheard,
    };
    counter.add(1);
    Ok(Reply::forge_published(receipt.map(|receipt| (receipt.id, receipt.at))))
}

fn sign(acceptor: &Acceptor, request: &Request, body: &[u8]) -> Result<Reply, ForgeError> {
    let now = acceptor.hub.clock.wall();
    let proof = prove(acceptor, request, now)?;
    let wanted = forge::NewToken::parse(body)?;
    let new = auth::NewToken {
        installation: proof.installation(),
        channel: &wanted.channel,
        claims: wanted.claims,
        permissions: wanted.permissions.as_deref(),
    };
    // What is wrong with the claims is wrong with the body, and told before the rate is asked.
    let signed = acceptor.auth.borrow().forge.sign(&new, now / 1_000)?;
    admit(acceptor, &proof)?;
    Ok(Reply::forge_token(&signed))
}

/// For whom an app calls, once that is proved.
enum Proof {
    /// For an invocation.
    Context(Arc<Context>),
    /// For an installation, outside of any invocation.
    Installation(Box<str>),
}

impl Proof {
    fn installation(&self) -> &str {
        match self {
            Self::Context(context) => &context.installation,
            Self::Installation(installation) => installation,
        }
    }

    fn context(&self) -> Option<&Context> {
        match self {
            Self::Context(context) => Some(context),
            Self::Installation(_) => None,
        }
    }
}

/// Who calls.
enum Caller {
    /// Somebody without a credential of its own.
    Unknown,
    /// An administrator of the node.
    Admin,
    /// The back end of an installation.
    Service(Arc<str>),
}

fn prove(acceptor: &Acceptor, request: &Request, now: Millis) -> Result<Proof, ForgeError> {
    let Ok(Some(header)) = request.only_header("forge-proxy-authorization") else {
        let why = "the header `forge-proxy-authorization: Forge as=app,id=…` must be there, once";
        return Err(ForgeError::headers(ProxyError::InvalidProxyAuthorization, why));
    };
    let said = ProxyAuthorization::parse(header).map_err(|error| {
        ForgeError::headers(ProxyError::InvalidProxyAuthorization, error.to_string())
    })?;
    let caller = find_caller(acceptor, request, now / 1_000)?;
    let proof = match said.subject {
        Subject::Invocation(id) => Proof::Context(find_invocation(acceptor, &caller, id, now)?),
        Subject::Installation(_) if matches!(caller, Caller::Unknown) => {
            let why = "`installationId` takes a credential of the caller";
            return Err(ForgeError::headers(ProxyError::CallerCredentialRequired, why));
        }
        Subject::Installation(installation) => Proof::Installation(installation.into()),
    };
    if matches!(&caller, Caller::Service(own) if **own != *proof.installation()) {
        return Err(ForgeError::other_installation());
    }
    let (installation, path) = (proof.installation(), &request.path);
    tracing::debug!(path, installation, as_user = ?said.as_user, account = said.account, "a call");
    Ok(proof)
}

/// Who calls. Each credential that is given must be a good one, whatever comes beside it.
fn find_caller(acceptor: &Acceptor, request: &Request, now_s: u64) -> Result<Caller, ForgeError> {
    let invalid = |why: String| ForgeError::headers(ProxyError::InvalidCallerCredential, why);
    let given = |name: &'static str| {
        request.only_header(name).map_err(|error| invalid(format!("{name}: {error}")))
    };
    let (authorization, api_key) = (given("authorization")?, given("x-api-key")?);
    let auth = &mut *acceptor.auth.borrow_mut();
    if api_key.is_some() {
        auth.users.admin(None, api_key, now_s).map_err(|error| invalid(error.to_string()))?;
    }
    let by_key = api_key.map(|_| Caller::Admin);
    if authorization.is_none() {
        return Ok(by_key.unwrap_or(Caller::Unknown));
    }
    if auth.users.admin(authorization, None, now_s).is_ok() {
        return Ok(Caller::Admin);
    }
    let token = authorization.and_then(bearer_token);
    let token = token.ok_or_else(|| invalid("neither the API key nor a token".to_owned()))?;
    let service = auth.forge.service(token, now_s).map_err(|error| invalid(error.to_string()))?;
    Ok(by_key.unwrap_or(Caller::Service(service)))
}

/// The context of an invocation: signed in its id, or registered under it.
fn find_invocation(
    acceptor: &Acceptor,
    caller: &Caller,
    id: &str,
    now: Millis,
) -> Result<Arc<Context>, ForgeError> {
    let hub = &acceptor.hub;
    let unknown = |why: &str| ForgeError::headers(ProxyError::UnknownInvocation, why);
    let signed = looks_signed(id).then(|| {
        let forge = &mut acceptor.auth.borrow_mut().forge;
        forge.invocation(id, now / 1_000)
    });
    let why = match signed {
        Some(Ok(context)) => return Ok(context),
        Some(Err(error)) => error.to_string(),
        None => "the invocation was not registered, or has expired".to_owned(),
    };
    let is_trusted = !matches!(caller, Caller::Unknown) || hub.config.trusts_callers();
    if is_trusted {
        return hub.invocations.get(id, hub.clock.monotonic()).ok_or_else(|| unknown(&why));
    }
    if looks_signed(id) {
        return Err(unknown(&why));
    }
    let why = "on this network a registered invocation takes a credential of the caller";
    Err(ForgeError::headers(ProxyError::CallerCredentialRequired, why))
}

/// Whether an id can be a token. That of a registered invocation can look the same.
fn looks_signed(id: &str) -> bool {
    id.split('.').count() == 3
}

fn admit(acceptor: &Acceptor, proof: &Proof) -> Result<(), ForgeError> {
    if acceptor.hub.admit_installation(proof.installation(), acceptor.hub.clock.now()) {
        return Ok(());
    }
    acceptor.counters.refused_rate_limited.add(1);
    Err(ForgeError::rate_limited())
}

/// Registers an invocation, or registers it anew.
fn register(acceptor: &Acceptor, id: Option<&str>, body: &[u8]) -> Result<Reply, ApiError> {
    let hub = &acceptor.hub;
    let id = id.ok_or_else(ApiError::invalid_invocation_id)?;
    let Registration { context, ttl_s } = Registration::parse(body, hub.clock.wall() / 1_000)?;
    let (context, clock) = (Arc::new(context), hub.clock.monotonic());
    let until = clock + Millis::from(ttl_s) * 1_000;
    hub.invocations.put(id, context.clone(), until, clock).map_err(|_| {
        acceptor.counters.refused_overloaded.add(1);
        ApiError::invocations_full()
    })?;
    Ok(Reply::invocation_registered(id, &context))
}

fn revoke(acceptor: &Acceptor, id: Option<&str>) -> Result<Reply, ApiError> {
    let hub = &acceptor.hub;
    let id = id.ok_or_else(ApiError::invalid_invocation_id)?;
    match hub.invocations.remove(id, hub.clock.monotonic()) {
        true => Ok(Reply::invocation_revoked()),
        false => Err(ApiError::invocation_not_found()),
    }
}
