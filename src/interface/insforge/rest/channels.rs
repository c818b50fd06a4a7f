//! REST calls that create, change and delete channel definitions.

mod body;
mod reply;
#[cfg(test)]
mod tests;

use rand::RngExt as _;
use uuid::Uuid;

use crate::interface::http::HttpContext;
use crate::interface::rest::{ApiError, Reply};
use crate::mailbox::{Changed, StoreChange, Wish};
use crate::message::{Change, ChannelChange, ChannelDefinition};
pub(super) use body::NewChannel;
use body::check_webhooks;

/// Creates a channel definition. Runs `POST /api/realtime/channels`.
pub(super) async fn create(http: &HttpContext<'_>, new: NewChannel) -> Result<Reply, ApiError> {
    let urls = new.webhook_urls.as_deref().unwrap_or_default();
    check_webhooks(urls, &[], http.shared.config.webhooks.allow_private)?;
    let id = uuid::Builder::from_random_bytes(http.random.borrow_mut().random()).into_uuid();
    let definition = new.into_definition(id, http.now.wall);
    store(http, StoreChange::Insert(definition), Reply::channel_created).await
}

/// Changes a channel definition. Runs `PUT /api/realtime/channels/{id}`.
pub(super) async fn update(
    http: &HttpContext<'_>,
    id: Option<Uuid>,
    change: ChannelChange,
) -> Result<Reply, ApiError> {
    let id = id.ok_or_else(ApiError::channel_not_found)?;
    if let Change::Set(urls) = &change.webhook_urls {
        let definitions = http.shared.broker.definitions.load();
        let before = definitions.get(id).and_then(|before| before.webhook_urls.as_deref());
        let allow_private = http.shared.config.webhooks.allow_private;
        check_webhooks(urls, before.unwrap_or_default(), allow_private)?;
    }
    store(http, StoreChange::Update(id, change, http.now.wall), Reply::channel).await
}

/// Deletes a channel definition. Runs `DELETE /api/realtime/channels/{id}`.
pub(super) async fn delete(http: &HttpContext<'_>, id: Option<Uuid>) -> Result<Reply, ApiError> {
    let id = id.ok_or_else(ApiError::channel_not_found)?;
    store(http, StoreChange::Delete(id), |_| Reply::channel_deleted()).await
}

/// Asks the store for a change, and renders the definition with which it answers.
async fn store(
    http: &HttpContext<'_>,
    change: StoreChange,
    render: impl FnOnce(&ChannelDefinition) -> Reply,
) -> Result<Reply, ApiError> {
    let changed = http.wish(|ticket| Wish::Change(ticket, change)).await?;
    changed
        .map(|Changed { now, unconfirmed }| render(&now).unconfirmed_by(&unconfirmed))
        .map_err(ApiError::from)
}
