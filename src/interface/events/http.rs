//! The request that opens a stream: its channels, its credential, and what the client has received.

use std::borrow::Cow;

use super::cursor::{self, Received};
use super::limits::CHANNELS_MAX;
use super::session::{Opening, Session, Wanted};
use crate::auth::keys::API_KEY_PREFIX;
use crate::auth::{AuthError, bearer_token};
use crate::codec::http::{Method, Request, Response, query_pairs};
use crate::interface::http::{Entrance, HttpContext, Upgrade, allow_origin};
use crate::interface::rest::ApiError;
use crate::limits::CHANNEL_BYTES_MAX;
use crate::message::Channel;

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
        Ok(session) => Entrance::Upgrade(Upgrade { head: None, session, to: None }),
        Err(error) => Entrance::refuse(error),
    }
}

fn open(http: &HttpContext<'_>, request: &Request) -> Result<Session, ApiError> {
    if request.method != Method::Get {
        let (method, path) = (request.method.as_str(), &request.path);
        return Err(ApiError::method_not_allowed(method, path, "GET"));
    }
    if http.is_stopping {
        return Err(ApiError::stopping());
    }
    let token = token(request)?;
    let users = &mut http.auth.borrow_mut().users;
    let credential = users.token(&token, http.now.wall_seconds()).map_err(unauthenticated)?;
    let wanted = wanted(request)?;
    let cors = allow_origin(Response::empty(200), request).headers;
    let key = rand::RngExt::random(&mut *http.random.borrow_mut());
    Ok(Session::new(credential, key, Opening::new(wanted, cors)))
}

/// Returns the token of the bearer header, or of the query, because `EventSource` sends no headers.
fn token(request: &Request) -> Result<Cow<'_, str>, ApiError> {
    let header = request.only_header("authorization");
    let header = header.map_err(|error| ApiError::http(400, format!("authorization: {error}")))?;
    let token = match header {
        Some(header) => bearer_token(header).map(Cow::Borrowed),
        None => request.query_value("token").filter(|token| !token.is_empty()),
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
    tracing::debug!(%error, "refusing the credential of a stream");
    ApiError::new(401, "AUTH_INVALID_CREDENTIALS", error.to_string())
}

/// Returns the channels of a stream, and the client's position in each if it resumes.
fn wanted(request: &Request) -> Result<Wanted, ApiError> {
    let mut channels: Vec<Channel> = Vec::new();
    for (name, value) in query_pairs(request.query.as_deref().unwrap_or_default()) {
        if name != "channel" {
            continue;
        }
        if value.is_empty() {
            return Err(ApiError::invalid_input("channel: must not be empty"));
        }
        if value.len() > CHANNEL_BYTES_MAX {
            return Err(ApiError::invalid_input("channel: longer than 512 bytes"));
        }
        let channel = Channel::from(&*value);
        if !channels.contains(&channel) {
            channels.push(channel);
        }
        if channels.len() > CHANNELS_MAX {
            let message = format!("channel: a stream has at most {CHANNELS_MAX} channels");
            return Err(ApiError::invalid_input(message));
        }
    }
    if channels.is_empty() {
        let message = "channel: name at least one, such as ?channel=orders";
        return Err(ApiError::invalid_input(message));
    }
    Ok(Wanted { channels, received: received(request) })
}

const _: () = assert!(CHANNEL_BYTES_MAX == 512, "the message above names the bound");

/// Returns what the client says that it has received; `None` if it does not resume. A text that is
/// not a cursor says that the client has been here, and nothing else.
fn received(request: &Request) -> Option<Received> {
    let said = match request.only_header("last-event-id") {
        Ok(header) => header.map(Cow::Borrowed).or_else(|| request.query_value("lastEventId")),
        // It is repeated, or not UTF-8.
        Err(_) => return Some(Received::default()),
    };
    let said = said.filter(|said| !said.is_empty())?;
    Some(cursor::read(&said).unwrap_or_default())
}
