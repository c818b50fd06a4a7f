//! The REST calls of InsForge Realtime: channel definitions, messages, history, permissions, and
//! the health of the node.
//!
//! Each call checks the credential first, then the body, and only then acts.

mod channels;
mod health;
mod history;
mod messages;
mod permissions;
mod query;
mod route;

use crate::broker::received::Received;
use crate::codec::http::Request;
use crate::interface::http::{Entrance, HttpContext};
use crate::interface::rest::{ApiError, Reply};
use crate::message::ChannelChange;
use channels::NewChannel;
pub(in crate::interface) use route::is_administration;
pub use route::{HEALTH, LIVE, Route};

/// Decides how a request is served that belongs to no other interface.
pub(in crate::interface) fn entrance<S>(
    http: &HttpContext<'_>,
    request: &Request,
) -> Entrance<S, Route> {
    let line = (request.method_name(), &*request.path);
    match route::route_at(line, http.caller.entry.is_public) {
        Ok(Route::Health) => Entrance::Health(health::reply),
        Ok(Route::Live) => Entrance::Respond(health::live().into()),
        Ok(route) => Entrance::Call(route),
        Err(error) => Entrance::refuse(error),
    }
}

/// Runs a call and returns the reply, which may be an error.
pub(in crate::interface) async fn run(
    http: &HttpContext<'_>,
    request: &Request,
    route: Route,
    body: &Received,
) -> Reply {
    call(http, request, route, body).await.unwrap_or_else(Reply::from)
}

async fn call(
    http: &HttpContext<'_>,
    request: &Request,
    route: Route,
    body: &Received,
) -> Result<Reply, ApiError> {
    if route.needs_admin() {
        http.check_admin(request)?;
    }
    let (shared, query) = (http.shared, request.query.as_deref());
    match route {
        Route::Health | Route::Live => unreachable!("health is not a call"),
        Route::ListChannels => Ok(Reply::channels(shared.broker.definitions.load().all())),
        Route::GetChannel(id) => {
            let definitions = shared.broker.definitions.load();
            let found = id.and_then(|id| definitions.get(id));
            found.map(|one| Reply::channel(one)).ok_or_else(ApiError::channel_not_found)
        }
        Route::CreateChannel => channels::create(http, NewChannel::parse(body)?).await,
        Route::UpdateChannel(id) => channels::update(http, id, ChannelChange::parse(body)?).await,
        Route::DeleteChannel(id) => channels::delete(http, id).await,
        Route::GetPermissions => {
            Ok(Reply::permissions(shared.broker.policies.load().permissions()))
        }
        Route::SetPermissions => permissions::set(http, permissions::parse(body)?).await,
        Route::Publish if messages::batch::is_batch(body) => {
            // In a box, because the future of every call is as large as the largest.
            Box::pin(messages::batch::publish(http, query, body)).await
        }
        Route::Publish => messages::publish(http, query, body, body).await,
        Route::ListMessages => history::messages(http, query).await,
        Route::ClearMessages => history::clear(http, query).await,
        Route::Stats => history::stats(http, query).await,
        Route::GetConfig => history::config(http).await,
        Route::UpdateConfig => history::set_config(http, body).await,
        Route::Metadata => {
            let permissions = Reply::permissions(shared.broker.policies.load().permissions());
            Ok(Reply::metadata(shared.broker.definitions.load().all(), &permissions.body))
        }
    }
}
