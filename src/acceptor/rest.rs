//! The REST face over HTTP: credentials, then the body, then the call (contract section 2).

use super::http::{End, Http};
use super::{Acceptor, health, history};
use crate::api::channels::NewChannel;
use crate::api::messages::Publish;
use crate::api::{ApiError, Reply, Route, route};
use crate::engine::directory::Overloaded;
use crate::message::{Channel, ChannelChange, Content, Sender};
use crate::router::{AnswerBody, Slot, StoreChange, StoreOutcome, Wish};
use crate::wire::http::{Request, Response};

/// Answers a request to the REST interface, or to nothing at all.
pub(super) async fn answer(
    acceptor: &Acceptor,
    http: &mut Http,
    request: &Request,
) -> Result<Response, End> {
    let body = http.body(request).await?;
    let url = match &request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.clone(),
    };
    let replied = match route(request.method.as_str(), &url) {
        Ok(route) => call(acceptor, request, route, &body).await,
        Err(error) => Err(error),
    };
    Ok(response(replied.unwrap_or_else(Reply::from)))
}

/// A reply as HTTP sends it.
pub(super) fn response(reply: Reply) -> Response {
    let mut response = Response::json(reply.status, reply.body);
    if let Some(seconds) = reply.retry_after_s {
        response = response.header("Retry-After", seconds.to_string());
    }
    if let Some(allow) = reply.allow {
        response = response.header("Allow", allow);
    }
    response
}

async fn call(
    acceptor: &Acceptor,
    request: &Request,
    route: Route,
    body: &[u8],
) -> Result<Reply, ApiError> {
    let hub = &acceptor.hub;
    let now = hub.clock.wall();
    if route.needs_admin() {
        check_admin(acceptor, request, now / 1_000)?;
    }
    match route {
        Route::Health => Ok(health::check(acceptor, now).await),
        Route::ListChannels => Ok(Reply::channels(hub.definitions.load().all())),
        Route::GetChannel(id) => {
            let definitions = hub.definitions.load();
            let found = id.and_then(|id| definitions.get(id));
            found.map(|one| Reply::channel(one)).ok_or_else(ApiError::channel_not_found)
        }
        Route::CreateChannel => {
            let id = uuid::Uuid::from_bytes(uuid_bytes());
            let definition = NewChannel::parse(body)?.into_definition(id, now);
            store(acceptor, StoreChange::Insert(definition), Reply::channel_created).await
        }
        Route::UpdateChannel(id) => {
            let change = ChannelChange::parse(body)?;
            let id = id.ok_or_else(ApiError::channel_not_found)?;
            store(acceptor, StoreChange::Update(id, change, now), Reply::channel).await
        }
        Route::DeleteChannel(id) => {
            let id = id.ok_or_else(ApiError::channel_not_found)?;
            store(acceptor, StoreChange::Delete(id), |_| Reply::channel_deleted()).await
        }
        Route::Publish => publish(acceptor, &Publish::parse(body)?, now),
        Route::ListMessages => history::messages(acceptor, request.query.as_deref()).await,
        Route::ClearMessages => history::clear(acceptor).await,
        Route::Stats => history::stats(acceptor, request.query.as_deref()).await,
        Route::GetConfig => history::config(acceptor).await,
        Route::UpdateConfig => history::set_config(acceptor, body).await,
        Route::Metadata => Ok(Reply::metadata(hub.definitions.load().all(), NO_PERMISSIONS)),
    }
}

/// Nobody is restricted by a policy.
const NO_PERMISSIONS: &str = r#"{"subscribe":{"policies":[]},"publish":{"policies":[]}}"#;

/// A random id (UUID version 4).
fn uuid_bytes() -> uuid::Bytes {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().into_bytes()
}

fn check_admin(acceptor: &Acceptor, request: &Request, now_s: u64) -> Result<(), ApiError> {
    let mut auth = acceptor.auth.borrow_mut();
    let verdict = auth.admin(request.header("authorization"), request.header("x-api-key"), now_s);
    verdict.map_err(|error| {
        tracing::debug!(%error, "refusing an administrator's credential");
        ApiError::auth(error.status(), error.error(), error.to_string(), error.next_actions())
    })
}

/// Publishes for a backend: no subscription is needed, only a definition.
fn publish(acceptor: &Acceptor, wanted: &Publish<'_>, now: u64) -> Result<Reply, ApiError> {
    let hub = &acceptor.hub;
    let definitions = hub.definitions.load();
    let definition = definitions.find(&wanted.channel).ok_or_else(ApiError::channel_not_found)?;
    let content = Content::Message {
        event: wanted.event.as_ref().into(),
        payload: wanted.payload.get().into(),
        sender: Sender::System,
    };
    match hub.publish(definition, Channel::from(&*wanted.channel), content, now) {
        Ok((id, published)) => {
            acceptor.counters.publications_http.add(1);
            Ok(Reply::published(id, now, published.audience))
        }
        Err(Overloaded) => {
            acceptor.counters.refused_overloaded.add(1);
            Err(ApiError::overloaded())
        }
    }
}

/// Has the side change the store, and renders what came of it.
async fn store(
    acceptor: &Acceptor,
    change: StoreChange,
    render: impl FnOnce(&crate::message::ChannelDefinition) -> Reply,
) -> Result<Reply, ApiError> {
    let Some(pending) = acceptor.ticket() else {
        acceptor.counters.refused_overloaded.add(1);
        return Err(ApiError::overloaded());
    };
    if !acceptor.hub.router.wish(Wish::Change(acceptor.id, pending.ticket(), change)) {
        acceptor.mailbox.release(Slot::Control);
        acceptor.counters.refused_store_queue.add(1);
        return Err(ApiError::overloaded());
    }
    match pending.await {
        AnswerBody::Stored(StoreOutcome::Done(definition)) => Ok(render(&definition)),
        AnswerBody::Stored(StoreOutcome::Invalid(problem)) => Err(ApiError::invalid_input(problem)),
        AnswerBody::Stored(StoreOutcome::NotFound) => Err(ApiError::channel_not_found()),
        AnswerBody::Stored(StoreOutcome::Duplicate(pattern)) => {
            Err(ApiError::duplicate_pattern(&pattern))
        }
        AnswerBody::Stored(StoreOutcome::Full) => Err(ApiError::definitions_full()),
        AnswerBody::Stored(StoreOutcome::Busy) => Err(ApiError::overloaded()),
        // The side answers with outcomes of the store only.
        _ => Err(ApiError::store_failed()),
    }
}
