//! M2 Realtime over HTTP (contract sections 2 and 5): handshakes of subscribers, and the documents
//! that back ends write.

use std::sync::Arc;

use super::handover::upgrade;
use super::http::{End, Http};
use super::{Acceptor, Outcome, health, rest};
use crate::api::m2::{self as api, Named, Route};
use crate::api::messages::durability;
use crate::api::{ApiError, Reply};
use crate::auth::m2::{M2Error, Reader};
use crate::codec::http::Request;
use crate::interface::m2::handshake::{self, Said};
use crate::interface::m2::wire::{document, title};
use crate::mailbox::{Purpose, Query, StoreRefusal, Write, Written};
use crate::message::{DocumentKey, DocumentWrite, Durability, Party, Scope};

/// Answers a request to one of M2's paths.
pub(super) async fn answer(
    acceptor: &Acceptor,
    http: &mut Http,
    request: &Request,
) -> Result<Outcome, End> {
    let route = api::route(request.method.as_str(), &request.path);
    if route == Ok(Route::Socket) {
        return listen(acceptor, http, request).await;
    }
    let body = http.body(request).await?;
    let replied = match route {
        Ok(route) => call(acceptor, request, route, &body).await,
        Err(error) => Err(error),
    };
    Ok(Outcome::Respond(rest::response(replied.unwrap_or_else(Reply::from))))
}

/// Makes a connection the WebSocket of a subscriber.
async fn listen(acceptor: &Acceptor, http: &mut Http, request: &Request) -> Result<Outcome, End> {
    let refusal = match agree(acceptor, request) {
        Ok((party, subprotocol)) if !acceptor.is_stopping() => {
            return Ok(upgrade(request, Purpose::M2(Arc::new(party)), subprotocol));
        }
        Ok(_) => ApiError::stopping(),
        Err(refusal) => refusal,
    };
    http.body(request).await?;
    Ok(Outcome::Respond(rest::response(refusal.into())))
}

/// On whose behalf somebody listens, and the subprotocol that is agreed on.
fn agree(acceptor: &Acceptor, request: &Request) -> Result<(Party, Option<String>), ApiError> {
    let said = handshake::of_socket(request, acceptor.hub.m2.require_project);
    let said = said.map_err(|error| ApiError::invalid_input(error.to_string()))?;
    let Reader { user, expires_at } = reader(acceptor, &said).map_err(refusal)?;
    let scope = said.scope.to_string().into();
    Ok((Party { scope, user, expires_at }, said.subprotocol))
}

/// Who reads with what it says of itself.
fn reader(acceptor: &Acceptor, said: &Said) -> Result<Reader, M2Error> {
    let now_s = acceptor.hub.clock.wall() / 1_000;
    let (authorization, api_key) = (said.authorization.as_deref(), said.api_key.as_deref());
    let auth = &mut acceptor.auth.borrow_mut().m2;
    auth.reader(authorization, api_key, &said.scope.organization, now_s)
}

/// Whether somebody may write with what it says of itself.
fn writer(acceptor: &Acceptor, said: &Said) -> Result<(), M2Error> {
    let now_s = acceptor.hub.clock.wall() / 1_000;
    let (authorization, api_key) = (said.authorization.as_deref(), said.api_key.as_deref());
    let auth = &mut acceptor.auth.borrow_mut().m2;
    auth.writer(authorization, api_key, &said.scope.organization, now_s)
}

fn refusal(error: M2Error) -> ApiError {
    tracing::debug!(%error, "refusing a caller of M2");
    ApiError::auth(error.status(), error.error(), error.to_string(), None)
}

async fn call(
    acceptor: &Acceptor,
    request: &Request,
    route: Route,
    body: &[u8],
) -> Result<Reply, ApiError> {
    let hub = &acceptor.hub;
    let (query, now) = (request.query.as_deref(), hub.clock.wall());
    match route {
        Route::Socket => unreachable!("it is no call"),
        Route::Status => {
            let problems = health::problems(acceptor).await;
            Ok(Reply::m2_status(acceptor.is_stopping(), &problems))
        }
        Route::Write(resource) => {
            let scope = writers_scope(acceptor, request)?;
            let write = resource.write(&scope, (query, body), now)?;
            self::write(acceptor, &resource, write, query).await
        }
        Route::Delete(resource) => {
            let scope = writers_scope(acceptor, request)?;
            let write = resource.delete(&scope, (query, body), now)?;
            self::write(acceptor, &resource, write, query).await
        }
        Route::Look(resource) => {
            let key = look(acceptor, request, &resource)?;
            let found = acceptor.query(|ticket| Query::Document(ticket, key)).await?;
            match found {
                Ok(Some(found)) => Ok(Reply::document(document(&found))),
                Ok(None) => Err(refused(acceptor, &resource, StoreRefusal::NotFound)),
                Err(refusal) => Err(refused(acceptor, &resource, refusal)),
            }
        }
    }
}

/// What a caller says of itself in headers.
fn said(acceptor: &Acceptor, request: &Request) -> Result<Said, ApiError> {
    let said = handshake::of_call(request, acceptor.hub.m2.require_project);
    said.map_err(|error| ApiError::invalid_input(error.to_string()))
}

/// The document that somebody looks at: any, who may write it; else what that reader would hear of.
fn look(acceptor: &Acceptor, request: &Request, resource: &Named) -> Result<DocumentKey, ApiError> {
    let said = said(acceptor, request)?;
    let query = request.query.as_deref();
    let writer = match writer(acceptor, &said) {
        Ok(()) => return resource.look(&said.scope, query, None),
        Err(error) => error,
    };
    // Who is no reader either is told why it is no writer, if it is known for one of another place.
    let reader = reader(acceptor, &said).map_err(|error| match (writer, error) {
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

/// The scope that somebody writes in, who may.
fn writers_scope(acceptor: &Acceptor, request: &Request) -> Result<Scope, ApiError> {
    let said = said(acceptor, request)?;
    writer(acceptor, &said).map_err(refusal)?;
    Ok(said.scope)
}

/// Has the side write a document, and waits until it is as safe as it is to be.
async fn write(
    acceptor: &Acceptor,
    resource: &Named,
    what: DocumentWrite,
    query: Option<&str>,
) -> Result<Reply, ApiError> {
    let level = durability(query)?.unwrap_or(Durability::Stored);
    let put = |ticket| acceptor.hub.mailboxes.documents.offer(Write { what, level, ticket });
    match acceptor.ask(put, &acceptor.counters.refused_store_queue).await? {
        Ok(Written::Done(version, level)) => Ok(Reply::document_written(version, level)),
        Ok(Written::Stale(current)) => Ok(Reply::document_stale(current)),
        Err(refusal) => Err(refused(acceptor, resource, refusal)),
    }
}

/// The error of a request that the store refused.
fn refused(acceptor: &Acceptor, resource: &Named, refusal: StoreRefusal) -> ApiError {
    match refusal {
        StoreRefusal::NotFound => ApiError::document_not_found(title(resource.kind)),
        StoreRefusal::Full => {
            acceptor.counters.refused_documents.add(1);
            ApiError::documents_full()
        }
        refusal => rest::refused(refusal),
    }
}
