//! Replies and errors of M2's calls.

use serde::Serialize;

use crate::interface::http::NodeHealth;
use crate::interface::rest::{ApiError, Reply};
use crate::limits::DOCUMENTS_MAX;
use crate::message::{Durability, Millis, iso_millis};

impl Reply {
    /// 200: the document was written or deleted, with this version and durability.
    pub fn document_written(version: Millis, durability: Durability) -> Self {
        let (version, durability) = (iso_millis(version), durability.name());
        Self::json(200, &Written { version, durability })
    }

    /// 200 with a document in JSON.
    pub fn document(json: String) -> Self {
        Self::of(200, json)
    }

    /// 409: the version of the write is not later than `current`, the latest one.
    pub fn document_stale(current: Millis) -> Self {
        let version = iso_millis(current);
        let body = Stale {
            error: "STALE_VERSION",
            message: format!("The write was dropped: its version is not later than {version}"),
            status_code: 409,
            version,
        };
        Self::json(409, &body)
    }

    /// The state of the service: 200, or 503 if clients should use another node.
    pub fn m2_status(health: &NodeHealth<'_>) -> Self {
        let (code, status) = match (health.problems, health.is_stopping) {
            (_, true) => (503, "draining"),
            ([], false) => (200, "ok"),
            _ => (503, "unavailable"),
        };
        Self::json(code, &Status { status, problems: health.told_problems() })
    }
}

impl ApiError {
    /// 404: no kind of resource has this name.
    pub(super) fn unknown_resource_kind(kind: &str) -> Self {
        let message = format!("There are no resources of the type {kind:?}");
        Self::new(404, "NOT_FOUND", message).advise("Use kvStore, collection or liveConfig")
    }

    /// 404: the resource has no document. `title` is the name of its kind.
    pub(super) fn document_not_found(title: &str) -> Self {
        Self::new(404, "NOT_FOUND", format!("{title} resource doesn't currently exist"))
    }

    /// 507: the store has [`DOCUMENTS_MAX`] documents.
    pub(super) fn documents_full() -> Self {
        let message = format!("There are {DOCUMENTS_MAX} documents, the most allowed");
        Self::new(507, "LIMIT_REACHED", message).advise("Delete documents that are no longer used")
    }
}

#[derive(Serialize)]
struct Written {
    version: String,
    durability: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stale {
    error: &'static str,
    message: String,
    status_code: u16,
    version: String,
}

#[derive(Serialize)]
struct Status<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    problems: &'a [String],
}
