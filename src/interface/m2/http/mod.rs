//! M2 Realtime over HTTP: handshakes of subscribers, calls that write, delete and read documents,
//! and the state of the service, which needs no credential.
//!
//! A call about a document checks headers first, then the credential, then query and body.

mod named;
mod reply;
mod route;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytestring::ByteString;

use super::access::{M2Error, Reader};
use super::handshake::{self, Said};
use super::session::Session;
use super::wire::{document, title};
use crate::auth::bearer_token;
use crate::broker::received::Received;
use crate::codec::http::Request;
use crate::interface::authenticators::Authenticators;
use crate::interface::http::{Entrance, HttpContext, NodeHealth};
use crate::interface::m2::nouns::{Party, Scope};
use crate::interface::rest::{ApiError, Reply, durability};
use crate::interface::websocket::upgrade;
use crate::mailbox::{Query, StoreRefusal, Write, Written};
use crate::message::{DocumentKey, DocumentWrite, Durability, Millis};
pub use named::Named;
pub use route::{Route, is_ours, route};

/// Returns what a request to one of M2's paths leads to.
pub(in crate::interface) fn entrance(
    http: &HttpContext<'_>,
    request: &Request,
) -> Entrance<Session, Route> {
    match route(request.method_name(), &request.path) {
        Ok(Route::Status) => Entrance::Health(status),
        Ok(Route::Socket) => listen(http, request),
        Ok(route) => Entrance::Call(route),
        Err(error) => Entrance::refuse(error),
    }
}

fn status(health: &NodeHealth<'_>) -> Reply {
    Reply::m2_status(health)
}

/// Upgrades a connection to the WebSocket of a subscriber.
fn listen(http: &HttpContext<'_>, request: &Request) -> Entrance<Session, Route> {
    let (party, subprotocol) = match agree(http, request) {
        Ok(agreed) if !http.is_stopping => agreed,
        Ok(_) => return Entrance::refuse(ApiError::stopping()),
        Err(refusal) => return Entrance::refuse(refusal),
    };
    let session = Session::new(Arc::new(party), http.now, &http.shared.timings);
    upgrade(http, request, session, subprotocol, None)
}

/// Authenticates the client of a handshake. Returns its party, and the agreed subprotocol, if any.
fn agree(http: &HttpContext<'_>, request: &Request) -> Result<(Party, Option<String>), ApiError> {
    let said = handshake::of_socket(request, http.shared.m2.require_project);
    let said = said.map_err(|error| ApiError::invalid_input(error.to_string()))?;
    let Reader { user, expires_at } =
        reader(http, request, &said).map_err(|error| refusal(http, error))?;
    let scope = said.scope.to_string().into();
    Ok((Party { scope, user, expires_at }, said.subprotocol))
}

/// Authenticates a caller that reads documents of this organization. A request that a proxy has
/// passed on must have a credential, even if the configuration requires none.
fn reader(http: &HttpContext<'_>, request: &Request, said: &Said) -> Result<Reader, M2Error> {
    let (authorization, api_key) = (said.authorization.as_deref(), said.api_key.as_deref());
    if authorization.is_none() && api_key.is_none() && http.is_forwarded(request) {
        return Err(M2Error::NOTHING);
    }
    let Authenticators { users, m2: auth, .. } = &mut *http.auth.borrow_mut();
    let bearer = authorization.and_then(bearer_token);
    let has_key = api_key.into_iter().chain(bearer).any(|key| users.api_key(key).is_ok());
    if has_key && http.lacks_certificate(request) {
        return Err(M2Error::CERTIFICATE);
    }
    auth.reader(authorization, api_key, &said.scope.organization, http.now.wall_seconds())
}

/// Authenticates a caller that writes documents of this organization.
fn writer(http: &HttpContext<'_>, request: &Request, said: &Said) -> Result<(), M2Error> {
    let (authorization, api_key) = (said.authorization.as_deref(), said.api_key.as_deref());
    let auth = &mut http.auth.borrow_mut().m2;
    auth.writer(authorization, api_key, &said.scope.organization, http.now.wall_seconds())?;
    if http.lacks_certificate(request) { Err(M2Error::CERTIFICATE) } else { Ok(()) }
}

fn refusal(http: &HttpContext<'_>, error: M2Error) -> ApiError {
    http.note_refusal("m2", error.why());
    let refused = ApiError::new(error.status(), error.error(), error.why());
    match error.challenge() {
        Some(challenge) => refused.challenge(challenge),
        None => refused,
    }
}

/// Runs a call that the entrance has found the route of. Errors are answered, too.
pub(in crate::interface) async fn run(
    http: &HttpContext<'_>,
    request: &Request,
    route: Route,
    body: &Received,
) -> Reply {
    let id_bytes_max = http.shared.config.limits.channel_bytes;
    let replied = match route {
        // A longer one can still be read and deleted.
        Route::Write(resource) if resource.id.len() > id_bytes_max => {
            let message = format!("id: the id of a resource has at most {id_bytes_max} bytes");
            Err(ApiError::invalid_input(message))
        }
        Route::Write(resource) => store(http, request, (&resource, body), Named::write).await,
        Route::Delete(resource) => store(http, request, (&resource, body), Named::delete).await,
        Route::Look(resource) => look(http, request, &resource).await,
        Route::Socket | Route::Status => unreachable!("the entrance answers them"),
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

/// Parses the headers of a call.
fn said(http: &HttpContext<'_>, request: &Request) -> Result<Said, ApiError> {
    let said = handshake::of_call(request, http.shared.m2.require_project);
    said.map_err(|error| ApiError::invalid_input(error.to_string()))
}

/// Returns the key of the document that a caller asks for, if the caller may read it. A writer may
/// read all documents, a reader those that it would receive as a subscriber.
fn readable(
    http: &HttpContext<'_>,
    request: &Request,
    resource: &Named,
) -> Result<DocumentKey, ApiError> {
    let said = said(http, request)?;
    let query = request.query.as_deref();
    let writer = match writer(http, request, &said) {
        Ok(()) => return resource.look(&said.scope, query, None),
        Err(error) => error,
    };
    // The holder of a valid writer's token of another organization is not a reader either. It
    // receives the more specific error, that of the writer.
    let reader = reader(http, request, &said).map_err(|error| match (writer, error) {
        (M2Error::Forbidden(_), M2Error::Unauthorized(_)) => refusal(http, writer),
        _ => refusal(http, error),
    });
    let user = reader?.user;
    let key = resource.look(&said.scope, query, user.as_deref())?;
    if key.audience.is_some() && key.audience != user {
        let message = "this credential may not read the documents of other users";
        return Err(refusal(http, M2Error::Forbidden(message)));
    }
    Ok(key)
}

/// Returns the scope of a call, if its caller may write there.
fn writers_scope(http: &HttpContext<'_>, request: &Request) -> Result<Scope, ApiError> {
    let said = said(http, request)?;
    writer(http, request, &said).map_err(|error| refusal(http, error))?;
    Ok(said.scope)
}

/// [`Named::write`] or [`Named::delete`], which parse a write or a deletion.
type Read = fn(
    &Named,
    &Scope,
    (Option<&str>, &[u8]),
    Millis,
    &dyn Fn(&str) -> ByteString,
) -> Result<DocumentWrite, ApiError>;

/// Passes a write or a deletion to the store, and waits until it has the requested durability.
async fn store(
    http: &HttpContext<'_>,
    request: &Request,
    (resource, body): (&Named, &Received),
    read: Read,
) -> Result<Reply, ApiError> {
    let (scope, query) = (writers_scope(http, request)?, request.query.as_deref());
    let what = read(resource, &scope, (query, body), http.now.wall, &|data| http.keep(body, data))?;
    let bytes_max = http.shared.config.limits.payload_bytes;
    if what.data.as_ref().is_some_and(|data| data.len() > bytes_max) {
        return Err(ApiError::payload_too_long("data", bytes_max));
    }
    let level = durability(query)?.unwrap_or(Durability::Stored);
    if !http.shared.broker.memory.admit(body.len()) {
        return Err(ApiError::overloaded());
    }
    let put = |ticket| http.shared.broker.mailboxes.documents.offer(Write { what, level, ticket });
    match http.ask(put, &http.counters.refused_store_queue).await? {
        Ok(Written::Done(version, level)) => Ok(Reply::document_written(version, level)),
        Ok(Written::Stale(current)) => Ok(Reply::document_stale(current)),
        Err(refusal) => Err(refused(http, resource, refusal)),
    }
}

/// Returns the error of a call that the store has refused. Counts it if the store is full, or if
/// the cluster does not answer.
fn refused(http: &HttpContext<'_>, resource: &Named, refusal: StoreRefusal) -> ApiError {
    match refusal {
        StoreRefusal::NotFound => ApiError::document_not_found(title(resource.kind)),
        StoreRefusal::Full => {
            http.counters.refused_documents.add(1);
            ApiError::documents_full()
        }
        StoreRefusal::Unavailable | StoreRefusal::Unknown => {
            http.counters.refused_backplane.add(1);
            refusal.into()
        }
        refusal => refusal.into(),
    }
}
