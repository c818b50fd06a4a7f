//! M2 Realtime over HTTP: handshakes of subscribers, the documents that back ends write, delete and
//! read, and the state of the service, for which anybody may ask.
//!
//! A call about a document checks the headers, then the credential, then query and body.

mod named;
mod reply;
mod route;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::access::{M2Error, Reader};
use super::handshake::{self, Said};
use super::session::Session;
use super::wire::{document, title};
use crate::codec::http::Request;
use crate::interface::http::{Entrance, HttpContext, NodeHealth};
use crate::interface::m2::nouns::{Party, Scope};
use crate::interface::rest::{ApiError, Reply, durability};
use crate::interface::websocket::upgrade;
use crate::mailbox::{Query, StoreRefusal, Write, Written};
use crate::message::{DocumentKey, DocumentWrite, Durability, Millis};
pub use named::Named;
pub use route::{Route, is_ours, route};

/// Finds out what a request to one of M2's paths leads to.
pub(in crate::interface) fn entrance(
    http: &HttpContext<'_>,
    request: &Request,
) -> Entrance<Session, Route> {
    match route(request.method.as_str(), &request.path) {
        Ok(Route::Socket) => listen(http, request),
        Ok(Route::Status) => Entrance::Health(status),
        Ok(route) => Entrance::Call(route),
        Err(error) => Entrance::refuse(error),
    }
}

fn status(health: &NodeHealth<'_>) -> Reply {
    Reply::m2_status(health.is_stopping, health.problems)
}

/// Lets a connection become the WebSocket of a subscriber.
fn listen(http: &HttpContext<'_>, request: &Request) -> Entrance<Session, Route> {
    let (party, subprotocol) = match agree(http, request) {
        Ok(agreed) if !http.is_stopping => agreed,
        Ok(_) => return Entrance::refuse(ApiError::stopping()),
        Err(refusal) => return Entrance::refuse(refusal),
    };
    let session = Session::new(Arc::new(party), http.now, &http.shared.timings);
    upgrade(request, session, subprotocol, None)
}

/// Returns on whose behalf a client subscribes, and the subprotocol that is agreed on.
fn agree(http: &HttpContext<'_>, request: &Request) -> Result<(Party, Option<String>), ApiError> {
    let said = handshake::of_socket(request, http.shared.m2.require_project);
    let said = said.map_err(|error| ApiError::invalid_input(error.to_string()))?;
    let Reader { user, expires_at } = reader(http, &said).map_err(refusal)?;
    let scope = said.scope.to_string().into();
    Ok((Party { scope, user, expires_at }, said.subprotocol))
}

/// Authenticates a reader.
fn reader(http: &HttpContext<'_>, said: &Said) -> Result<Reader, M2Error> {
    let (authorization, api_key) = (said.authorization.as_deref(), said.api_key.as_deref());
    let auth = &mut http.auth.borrow_mut().m2;
    auth.reader(authorization, api_key, &said.scope.organization, http.now.wall_seconds())
}

/// Authenticates a writer.
fn writer(http: &HttpContext<'_>, said: &Said) -> Result<(), M2Error> {
    let (authorization, api_key) = (said.authorization.as_deref(), said.api_key.as_deref());
    let auth = &mut http.auth.borrow_mut().m2;
    auth.writer(authorization, api_key, &said.scope.organization, http.now.wall_seconds())
}

fn refusal(error: M2Error) -> ApiError {
    tracing::debug!(%error, "refusing a caller of M2");
    ApiError::auth(error.status(), error.error(), error.to_string(), None)
}

/// Runs a call.
pub(in crate::interface) async fn run(
    http: &HttpContext<'_>,
    request: &Request,
    route: Route,
    body: &[u8],
) -> Reply {
    let replied = match route {
        Route::Write(resource) => store(http, request, (&resource, body), Named::write).await,
        Route::Delete(resource) => store(http, request, (&resource, body), Named::delete).await,
        Route::Look(resource) => look(http, request, &resource).await,
        Route::Socket | Route::Status => unreachable!("they are no calls"),
    };
    replied.unwrap_or_else(Reply::from)
}

async fn look(
    http: &HttpContext<'_>,
    request: &Request,
    resource: &Named,
) -> Result<Reply, ApiError> {
    let key = readable(http, request, resource)?;
    let found = http.query(|ticket| Query::Document(ticket, key)).await?;
    match found {
        Ok(Some(found)) => Ok(Reply::document(document(&found))),
        Ok(None) => Err(refused(http, resource, StoreRefusal::NotFound)),
        Err(refusal) => Err(refused(http, resource, refusal)),
    }
}

/// Returns what the headers of a call say.
fn said(http: &HttpContext<'_>, request: &Request) -> Result<Said, ApiError> {
    let said = handshake::of_call(request, http.shared.m2.require_project);
    said.map_err(|error| ApiError::invalid_input(error.to_string()))
}

/// Returns the document that a caller asks for. A writer may read any, a reader those that it would
/// hear of as a subscriber.
fn readable(
    http: &HttpContext<'_>,
    request: &Request,
    resource: &Named,
) -> Result<DocumentKey, ApiError> {
    let said = said(http, request)?;
    let query = request.query.as_deref();
    let writer = match writer(http, &said) {
        Ok(()) => return resource.look(&said.scope, query, None),
        Err(error) => error,
    };
    // A caller that is known in another organization is told why it may not write, because it is no
    // reader either.
    let reader = reader(http, &said).map_err(|error| match (writer, error) {
        (M2Error::Forbidden(_), M2Error::Unauthorized(_)) => refusal(writer),
        _ => refusal(error),
    });
    let user = reader?.user;
    let key = resource.look(&said.scope, query, user.as_deref())?;
    if key.audience.is_some() && key.audience != user {
        let message = "this credential reads no other user's own documents";
        return Err(refusal(M2Error::Forbidden(message)));
    }
    Ok(key)
}

/// Returns the scope that a caller writes in, if it may write there.
fn writers_scope(http: &HttpContext<'_>, request: &Request) -> Result<Scope, ApiError> {
    let said = said(http, request)?;
    writer(http, &said).map_err(refusal)?;
    Ok(said.scope)
}

/// Reads a write or a deletion, [`Named::write`] or [`Named::delete`].
type Read = fn(&Named, &Scope, (Option<&str>, &[u8]), Millis) -> Result<DocumentWrite, ApiError>;

/// Hands a write to the store and waits until the document is as safe as it is to be.
async fn store(
    http: &HttpContext<'_>,
    request: &Request,
    (resource, body): (&Named, &[u8]),
    read: Read,
) -> Result<Reply, ApiError> {
    let (scope, query) = (writers_scope(http, request)?, request.query.as_deref());
    let what = read(resource, &scope, (query, body), http.now.wall)?;
    let level = durability(query)?.unwrap_or(Durability::Stored);
    let put = |ticket| http.shared.broker.mailboxes.documents.offer(Write { what, level, ticket });
    match http.ask(put, &http.counters.refused_store_queue).await? {
        Ok(Written::Done(version, level)) => Ok(Reply::document_written(version, level)),
        Ok(Written::Stale(current)) => Ok(Reply::document_stale(current)),
        Err(refusal) => Err(refused(http, resource, refusal)),
    }
}

/// Returns the error of a request that the store refused.
fn refused(http: &HttpContext<'_>, resource: &Named, refusal: StoreRefusal) -> ApiError {
    match refusal {
        StoreRefusal::NotFound => ApiError::document_not_found(title(resource.kind)),
        StoreRefusal::Full => {
            http.counters.refused_documents.add(1);
            ApiError::documents_full()
        }
        refusal => refusal.into(),
    }
}
