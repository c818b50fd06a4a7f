//! Forge Realtime over HTTP: the calls of back ends, the registration of invocations, and the
//! client modules.
//!
//! A call first proves its caller and origin, then parses the body. A publish is then authorized by
//! realtime token, rate, scope and topic, in this order. The answer to a refused call has the same
//! members as a successful answer: [`ForgeError::reply`].

mod caller;
mod error;
mod invocations;
mod publish;
mod route;
mod token;

use std::sync::Arc;

use super::access::{self, Asked, Denied, Permission, authorize};
use super::publish::{
    Event, EventReceipt, admit_installation, is_ordered, publish_event, send_event,
};
use super::session::Session;
use crate::auth::bearer_token;
use crate::broker::received::Received;
use crate::codec::http::{Request, Response};
use crate::interface::authenticators::Authenticators;
use crate::interface::forge::nouns::Context;
use crate::interface::forge::wire::SUBPROTOCOL;
use crate::interface::http::{Entrance, HttpContext};
use crate::interface::rest::{ApiError, Challenge, Reply};
use crate::interface::websocket::upgrade;
use crate::limits::HTTP_BODY_BYTES_MAX;
use crate::mailbox::Publisher;
use crate::message::{Channel, Ordered};
use caller::prove;
pub use error::{Call, ForgeError, ProxyError};
pub use invocations::{Registration, follow};
use invocations::{register, revoke};
pub use publish::Publish;
pub use route::{Route, is_administration, is_ours, route};
pub use token::NewToken;

/// Returns what a request to one of Forge's paths leads to.
pub(in crate::interface) fn entrance(
    http: &HttpContext<'_>,
    request: &Request,
) -> Entrance<Session, Route> {
    match route(request.method_name(), &request.path) {
        Ok(Route::Socket) => listen(http, request),
        Ok(route) => Entrance::Call(route),
        Err(error) => Entrance::refuse(error),
    }
}

/// Returns the refusal of a call whose body is longer than [`HTTP_BODY_BYTES_MAX`]; `None` if the
/// route has no refusal of its own. The caller is checked first, as in a call with a shorter body.
pub(in crate::interface) fn refuse_body(
    http: &HttpContext<'_>,
    request: &Request,
    route: &Route,
) -> Option<Reply> {
    let call = match route {
        Route::Publish | Route::PublishGlobal => Call::Publish,
        Route::Token => Call::Token,
        _ => return None,
    };
    let error = match prove(http, request) {
        Ok(_) => {
            let detail = format!("The request body is longer than {HTTP_BODY_BYTES_MAX} bytes");
            ForgeError::too_large(detail)
        }
        Err(error) => error,
    };
    Some(error.reply(call))
}

/// Returns the refusal of a request by a page whose origin may not use the node.
pub(in crate::interface) fn refuse_origin(request: &Request) -> Reply {
    let error = ApiError::foreign_origin();
    match call(request) {
        Some(call) => ForgeError::not_allowed(error.to_string()).reply(call),
        None => error.into(),
    }
}

/// Returns the refusal of a request of an address that sends too many.
pub(in crate::interface) fn refuse_rate(request: &Request) -> Reply {
    match call(request) {
        Some(call) => ForgeError::rate_limited().reply(call),
        None => ApiError::too_many_requests().into(),
    }
}

/// Returns the call of a request whose refusal has a form of its own.
fn call(request: &Request) -> Option<Call> {
    match route(request.method_name(), &request.path) {
        Ok(Route::Publish | Route::PublishGlobal) => Some(Call::Publish),
        Ok(Route::Token) => Some(Call::Token),
        _ => None,
    }
}

/// Upgrades a connection to the WebSocket of a subscriber. The handshake may prove its context.
fn listen(http: &HttpContext<'_>, request: &Request) -> Entrance<Session, Route> {
    let (context, protocol) = match agree(http, request) {
        Ok(agreed) if !http.is_stopping => agreed,
        Ok(_) => return Entrance::refuse(ApiError::stopping()),
        Err(refusal) => return Entrance::refuse(refusal),
    };
    let timings = &http.shared.timings;
    let session = Session::new(context, http.now, timings, &mut http.random.borrow_mut());
    upgrade(http, request, session, protocol.map(str::to_owned), None)
}

/// Returns the context that a handshake proves and the agreed subprotocol. Both are optional.
///
/// # Errors
/// 400 if the handshake offers only foreign subprotocols, 401 if its context token is refused.
fn agree(
    http: &HttpContext<'_>,
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
    let Authenticators { forge, refusals, .. } = &mut *http.auth.borrow_mut();
    let now_s = http.now.wall_seconds();
    let proved = bearer_token(authorization).map(|token| forge.context(token, now_s));
    match proved {
        Some(Ok(context)) => Ok((Some(context), protocol)),
        Some(Err(error)) => {
            refusals.note_from(http.caller.address, "forge", error.why(), http.now.monotonic());
            let challenge = Challenge::Refused(error.to_string().into());
            Err(refused_context(&error.to_string()).challenge(challenge))
        }
        None => Err(refused_context("expected `Bearer` and a context token")),
    }
}

fn offers_ours(header: &str) -> bool {
    header.split(',').any(|name| name.trim() == SUBPROTOCOL)
}

fn refused_context(why: &str) -> ApiError {
    ApiError::auth(401, "AUTH_UNAUTHORIZED", format!("Unauthorized request: {why}"), None)
}

/// Runs a call that the entrance has found the route of. Errors are answered, too.
pub(in crate::interface) async fn run(
    http: &HttpContext<'_>,
    request: &Request,
    route: &Route,
    body: &Received,
) -> Response {
    let reply = match route {
        Route::Publish => publish(http, request, body, false).await,
        Route::PublishGlobal => publish(http, request, body, true).await,
        Route::Token => sign(http, request, body),
        Route::Register(id) => {
            let registered = register(http, request, id.as_deref(), body).await;
            registered.unwrap_or_else(Reply::from)
        }
        Route::Revoke(id) => revoke(http, request, id.as_deref()).await.unwrap_or_else(Reply::from),
        Route::Module(module) => return module.response(request.header("if-none-match")),
        Route::Socket => unreachable!("the entrance upgrades it"),
    };
    reply.into()
}

async fn publish(
    http: &HttpContext<'_>,
    request: &Request,
    body: &Received,
    is_global: bool,
) -> Reply {
    let published = match allow(http, request, body, is_global) {
        Ok((topic, event)) if is_ordered(http.shared) => send(http, &topic, event).await,
        Ok((topic, event)) => publish_here(http, &topic, &event),
        Err(error) => Err(error),
    };
    let published = published.map(|receipt| {
        let counter = match receipt {
            Some(_) => &http.counters.events_http,
            None => &http.counters.events_unheard,
        };
        counter.add(1);
        Reply::forge_published(receipt.map(|receipt| (receipt.id, receipt.at)))
    });
    published.unwrap_or_else(|error| error.reply(Call::Publish))
}

/// Publishes without a cluster. Returns `None` if the topic has no subscriber.
fn publish_here(
    http: &HttpContext<'_>,
    topic: &Channel,
    event: &Event,
) -> Result<Option<EventReceipt>, ForgeError> {
    publish_event(http.shared, topic, event, http.now).map_err(|_| overloaded(http))
}

/// Publishes through the cluster's stream. Returns `None` if the topic has no subscriber on any
/// node.
async fn send(
    http: &HttpContext<'_>,
    topic: &Channel,
    event: Event,
) -> Result<Option<EventReceipt>, ForgeError> {
    let inquiry = http.tickets.inquiry().ok_or_else(|| overloaded(http))?;
    let sent = inquiry.put(|ticket| {
        let publisher = Publisher::Request { ticket, wants_audience: false };
        send_event(http.shared, topic, event, http.now, publisher)
    });
    let (receipt, pending) = sent.map_err(|_| overloaded(http))?;
    match pending.await {
        Ordered::Stored(_) => Ok(Some(receipt)),
        Ordered::NotHeard => Ok(None),
        Ordered::Overloaded => Err(overloaded(http)),
        not_ordered => {
            http.counters.refused_backplane.add(1);
            Err(ForgeError::not_ordered(&not_ordered, receipt.id))
        }
    }
}

fn overloaded(http: &HttpContext<'_>) -> ForgeError {
    http.counters.refused_overloaded.add(1);
    ForgeError::overloaded()
}

/// Returns the topic of an event and the event, if its caller may publish it.
fn allow(
    http: &HttpContext<'_>,
    request: &Request,
    body: &Received,
    is_global: bool,
) -> Result<(Channel, Event), ForgeError> {
    let origin = prove(http, request)?;
    let mut scratch = http.json.borrow_mut();
    let payload_bytes_max = http.shared.forge.payload_bytes;
    let wanted = Publish::parse(body, &mut scratch, is_global, payload_bytes_max)?;
    let asked = Asked {
        permission: Permission::Publish,
        channel: wanted.channel,
        is_global,
        token: wanted.token,
        overrides: wanted.overrides.as_deref(),
    };
    let auth = &http.auth.borrow().forge;
    let (topic, _) = authorize((http.shared, auth), &origin, &asked, http.now)
        .map_err(|denied| refused(http, denied))?;
    let (payload, given) = (http.keep(body, wanted.payload), wanted.id);
    let id = given.unwrap_or_else(|| http.message_id());
    let event = Event::new(http.shared, origin.publisher(), &topic, (id, given.is_some()), payload);
    Ok((topic, event))
}

/// Returns the error of a denied publish. Counts it if the installation is above its rate.
fn refused(http: &HttpContext<'_>, denied: Denied) -> ForgeError {
    match denied {
        Denied::Token(error) => error.into(),
        Denied::RateLimited => rate_limited(http),
        Denied::LongChannel(_) => ForgeError::malformed(format!("name: {denied}")),
        denied => ForgeError::not_allowed(denied.to_string()),
    }
}

fn rate_limited(http: &HttpContext<'_>) -> ForgeError {
    http.counters.refused_rate_limited.add(1);
    ForgeError::rate_limited()
}

fn sign(http: &HttpContext<'_>, request: &Request, body: &Received) -> Reply {
    try_sign(http, request, body).unwrap_or_else(|error| error.reply(Call::Token))
}

fn try_sign(
    http: &HttpContext<'_>,
    request: &Request,
    body: &Received,
) -> Result<Reply, ForgeError> {
    let origin = prove(http, request)?;
    let wanted = NewToken::parse(body)?;
    let new = access::NewToken {
        installation: origin.installation(),
        channel: &wanted.channel,
        claims: wanted.claims,
        permissions: wanted.permissions.as_deref(),
    };
    // Claims are part of the body, which is checked before the rate.
    let signed = http.auth.borrow().forge.sign(&new, http.now.wall_seconds())?;
    if !admit_installation(http.shared, origin.installation(), http.now) {
        return Err(rate_limited(http));
    }
    Ok(Reply::forge_token(&signed))
}
