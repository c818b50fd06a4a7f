//! The REST face over HTTP: credentials, then the body, then the call (contract section 2).

use super::http::{End, Http};
use super::{Acceptor, health, history};
use crate::api::channels::NewChannel;
use crate::api::history::check_clear;
use crate::api::messages::{Publish, Receipt, durability};
use crate::api::permissions;
use crate::api::{ApiError, Reply, Route, route};
use crate::codec::http::{Request, Response};
use crate::hub::{Submission, ToKeep, message_id};
use crate::mailbox::{StoreChange, StoreRefusal, Ticket, Wish};
use crate::message::{
    Channel, ChannelChange, ChannelDefinition, Content, Durability, Now, Permissions, Refused,
    Sender,
};

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
    let mut response = match reply.status {
        204 => Response::empty(204),
        status => Response::json(status, reply.body),
    };
    if let Some(seconds) = reply.retry_after_s {
        response = response.header("Retry-After", seconds.to_string());
    }
    if let Some(allow) = reply.allow {
        response = response.header("Allow", allow);
    }
    if let Some(code) = reply.proxy_error {
        response = response.header("forge-proxy-error", code);
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
        Route::GetPermissions => Ok(Reply::permissions(hub.policies.load().permissions())),
        Route::SetPermissions => permit(acceptor, permissions::parse(body)?).await,
        Route::Publish => {
            let level = durability(request.query.as_deref())?;
            publish(acceptor, &Publish::parse(body)?, level, now).await
        }
        Route::ListMessages => history::messages(acceptor, request.query.as_deref()).await,
        Route::ClearMessages => {
            check_clear(request.query.as_deref())?;
            history::clear(acceptor).await
        }
        Route::Stats => history::stats(acceptor, request.query.as_deref()).await,
        Route::GetConfig => history::config(acceptor).await,
        Route::UpdateConfig => history::set_config(acceptor, body).await,
        Route::Metadata => {
            let permissions = Reply::permissions(hub.policies.load().permissions());
            Ok(Reply::metadata(hub.definitions.load().all(), &permissions.body))
        }
    }
}

/// A random id (UUID version 4).
fn uuid_bytes() -> uuid::Bytes {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().into_bytes()
}

pub(super) fn check_admin(
    acceptor: &Acceptor,
    request: &Request,
    now_s: u64,
) -> Result<(), ApiError> {
    let users = &mut acceptor.auth.borrow_mut().users;
    let verdict = users.admin(request.header("authorization"), request.header("x-api-key"), now_s);
    verdict.map_err(|error| {
        tracing::debug!(%error, "refusing an administrator's credential");
        ApiError::auth(error.status(), error.error(), error.to_string(), error.next_actions())
    })
}

/// Publishes for a backend: no subscription is needed, only a definition. Who asks for a
/// publication that is stored is answered once it is.
async fn publish(
    acceptor: &Acceptor,
    wanted: &Publish<'_>,
    level: Option<Durability>,
    now: u64,
) -> Result<Reply, ApiError> {
    let hub = &acceptor.hub;
    let definition = hub.definitions.load().find(&wanted.channel).cloned();
    let definition = definition.ok_or_else(ApiError::channel_not_found)?;
    let level = level_on(&definition, level)?;
    let content = Content::Message {
        event: wanted.event.as_ref().into(),
        payload: wanted.payload.get().into(),
        sender: Sender::System,
    };
    let submit = |ticket: Option<Ticket<Durability>>| {
        let to_keep = ToKeep { definition: &definition, level, ticket };
        let published = hub.publish(Submission {
            channel: Channel::from(&*wanted.channel),
            content,
            options: definition.options,
            id: message_id(now, &mut rand::rng()),
            now: Now { wall: now, ..hub.clock.now() },
            history: (!definition.options.ephemeral).then_some(to_keep),
        });
        published.map_err(|refused| {
            match refused {
                Refused::Overloaded | Refused::Late => acceptor.counters.refused_overloaded.add(1),
                Refused::HistoryFull => acceptor.counters.refused_history_queue.add(1),
            }
            ApiError::overloaded()
        })
    };
    let ((publication, published), pending) = match level {
        Durability::Memory => (submit(None)?, None),
        _ => {
            let (done, pending) = acceptor.inquiry()?.put(|ticket| submit(Some(ticket)))?;
            (done, Some(pending))
        }
    };
    acceptor.counters.publications_http.add(1);
    let reached = match pending {
        None => Durability::Memory,
        Some(pending) => pending.await,
    };
    let (id, audience) = (publication.id, published.audience);
    let receipt = Receipt { id, at: now, audience, level: reached };
    Ok(if reached >= level { Reply::published(&receipt) } else { Reply::not_kept(&receipt) })
}

/// How safe a publication is to be: `stored` where nobody says otherwise and there is a history.
fn level_on(
    definition: &ChannelDefinition,
    asked: Option<Durability>,
) -> Result<Durability, ApiError> {
    match (definition.options.ephemeral, asked) {
        (true, None | Some(Durability::Memory)) => Ok(Durability::Memory),
        (true, Some(_)) => Err(ApiError::invalid_input(
            "durability: The channel is ephemeral and keeps nothing; only 'memory' can be reached",
        )),
        (false, asked) => Ok(asked.unwrap_or(Durability::Stored)),
    }
}

/// Has the side change the store, and renders what came of it.
async fn store(
    acceptor: &Acceptor,
    change: StoreChange,
    render: impl FnOnce(&ChannelDefinition) -> Reply,
) -> Result<Reply, ApiError> {
    let changed = acceptor.wish(|ticket| Wish::Change(ticket, change)).await?;
    changed.map(|definition| render(&definition)).map_err(refused)
}

/// Has the side replace the policies.
async fn permit(acceptor: &Acceptor, permissions: Permissions) -> Result<Reply, ApiError> {
    let permitted = acceptor.wish(|ticket| Wish::Permit(ticket, permissions)).await?;
    permitted.map(|now| Reply::permissions(&now)).map_err(refused)
}

/// The error of a request that the store refused.
pub(super) fn refused(refusal: StoreRefusal) -> ApiError {
    match refusal {
        StoreRefusal::Invalid(problem) => ApiError::invalid_input(problem),
        StoreRefusal::NotFound => ApiError::channel_not_found(),
        StoreRefusal::Duplicate(pattern) => ApiError::duplicate_pattern(&pattern),
        StoreRefusal::Full => ApiError::definitions_full(),
        StoreRefusal::UnknownMessage => ApiError::unknown_cursor(),
        StoreRefusal::PageTooLong => ApiError::page_too_long(),
        StoreRefusal::TooSlow => ApiError::too_slow(),
        StoreRefusal::Busy => ApiError::overloaded(),
        StoreRefusal::Failed => ApiError::store_failed(),
    }
}
