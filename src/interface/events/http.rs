//! The request that opens a stream: its channels, its credential, and what the client has received.

use std::borrow::Cow;

use super::cursor::{self, Received};
use super::limits::CHANNELS_MAX;
use super::session::{Opening, Session, Wanted};
use crate::auth::keys::API_KEY_PREFIX;
use crate::auth::{AuthError, bearer_token};
use crate::codec::http::{Method, NotUtf8, Request, Response, query_pairs};
use crate::config::Limits;
use crate::interface::authenticators::Authenticators;
use crate::interface::http::{Entrance, HttpContext, Upgrade, complete};
use crate::interface::rest::{ApiError, Challenge};
use crate::message::{Channel, Role};

/// The path of streams.
const PATH: &str = "/api/realtime/events";

/// Returns whether a path is that of streams.
pub(in crate::interface) fn is_ours(path: &str) -> bool {
    path.strip_suffix('/').unwrap_or(path) == PATH
}

/// Lets a connection become a stream. Whether the client may hear its channels is decided by its
/// session, because policies may have to be asked.
pub(in crate::interface) fn entrance<C>(
    http: &HttpContext<'_>,
    request: &Request,
) -> Entrance<Session, C> {
    match open(http, request) {
        Ok(session) => {
            Entrance::Upgrade(Upgrade { head: None, session, to: None, deflates: false })
        }
        Err(error) => Entrance::refuse(error),
    }
}

fn open(http: &HttpContext<'_>, request: &Request) -> Result<Session, ApiError> {
    if request.method != Method::Get {
        let (method, path) = (request.method_name(), &request.path);
        return Err(ApiError::method_not_allowed(method, path, "GET"));
    }
    if http.is_stopping {
        return Err(ApiError::stopping());
    }
    let token = token(request)?;
    let Authenticators { users, refusals, origins, .. } = &mut *http.auth.borrow_mut();
    let credential = users.token(&token, http.now.wall_seconds()).map_err(|error| {
        refusals.note_from(http.caller.address, "sse", error.why(), http.now.monotonic());
        let challenge = Challenge::Refused(error.why().into());
        unauthenticated(error).challenge(challenge)
    })?;
    if credential.role == Role::ProjectAdmin && http.lacks_certificate(request) {
        refusals.note_from(
            http.caller.address,
            "sse",
            AuthError::Certificate.why(),
            http.now.monotonic(),
        );
        return Err(ApiError::no_certificate());
    }
    let wanted = wanted(request, &http.shared.config.limits)?;
    let cors = complete(Response::empty(200), request, origins.as_deref()).headers;
    let key = rand::RngExt::random(&mut *http.random.borrow_mut());
    Ok(Session::new(credential, key, Opening::new(wanted, cors)))
}

/// Returns the token of the bearer header, or of the query, because `EventSource` sends no headers.
fn token(request: &Request) -> Result<Cow<'_, str>, ApiError> {
    let header = request.only_header("authorization");
    let header = header.map_err(|error| ApiError::http(400, format!("authorization: {error}")))?;
    let token = match header {
        Some(header) => bearer_token(header).map(Cow::Borrowed),
        None => queried(request, "token")?,
    };
    let token = token.ok_or_else(|| {
        unauthenticated(AuthError::Nothing)
            .advise("Send Authorization: Bearer <token>, or ?token=, with an anon key or a JWT.")
    })?;
    // The API key administers the node, so it must not be in an address or in a page.
    if token.starts_with(API_KEY_PREFIX) {
        let message = "The API key does not open streams";
        return Err(ApiError::new(401, "AUTH_INVALID_CREDENTIALS", message)
            .advise("Send the anon key, or the JWT of a user."));
    }
    Ok(token)
}

fn unauthenticated(error: AuthError) -> ApiError {
    let message = match error {
        AuthError::Token(problem) => format!("{error}: {}", problem.text()),
        _ => error.to_string(),
    };
    ApiError::new(401, "AUTH_INVALID_CREDENTIALS", message)
}

/// Returns the channels of a stream, and the client's position in each if it resumes.
fn wanted(request: &Request, limits: &Limits) -> Result<Wanted, ApiError> {
    let most = CHANNELS_MAX.min(limits.subscriptions_per_connection);
    let mut channels: Vec<Channel> = Vec::new();
    for (name, value) in query_pairs(request.query.as_deref().unwrap_or_default()) {
        if name != "channel" {
            continue;
        }
        let value = value.map_err(|error| not_utf8("channel", error))?;
        if value.is_empty() {
            return Err(ApiError::invalid_input("channel: must not be empty"));
        }
        if value.len() > limits.channel_bytes {
            let message = format!("channel: longer than {} bytes", limits.channel_bytes);
            return Err(ApiError::invalid_input(message));
        }
        let channel = Channel::from(&*value);
        if !channels.contains(&channel) {
            channels.push(channel);
        }
        if channels.len() > most {
            let message = format!("channel: a stream has at most {most} channels");
            return Err(ApiError::invalid_input(message));
        }
    }
    if channels.is_empty() {
        let message = "channel: name at least one, such as ?channel=orders";
        return Err(ApiError::invalid_input(message));
    }
    Ok(Wanted { channels, received: received(request)? })
}

/// Returns what the client says that it has received; `None` if it does not resume. A text that is
/// not a cursor says that the client has been here, and nothing else.
fn received(request: &Request) -> Result<Option<Received>, ApiError> {
    let said = match request.only_header("last-event-id") {
        Ok(Some(header)) => Some(Cow::Borrowed(header)).filter(|said| !said.is_empty()),
        Ok(None) => queried(request, "lastEventId")?,
        // It is repeated, or not UTF-8.
        Err(_) => return Ok(Some(Received::default())),
    };
    Ok(said.map(|said| cursor::read(&said).unwrap_or_default()))
}

/// Returns a value of the query; `None` if it is empty or missing.
fn queried<'r>(request: &'r Request, name: &'static str) -> Result<Option<Cow<'r, str>>, ApiError> {
    let value = request.query_value(name).map_err(|error| not_utf8(name, error))?;
    Ok(value.filter(|value| !value.is_empty()))
}

fn not_utf8(name: &str, error: NotUtf8) -> ApiError {
    ApiError::invalid_input(format!("{name}: {error}"))
}
