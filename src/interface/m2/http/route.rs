//! Finds the call that a request line of M2 Realtime asks for.

use super::named::Named;
use crate::codec::http::decode_segment;
use crate::interface::m2::nouns::{ResourceKind, resource_id_problem};
use crate::interface::rest::ApiError;

const RESOURCES: &str = "/api/realtime/resources/";

/// A call of M2 Realtime.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route {
    /// `GET /api/realtime/`, which upgrades to a WebSocket
    Socket,
    /// `GET /api/realtime/status`
    Status,
    /// `PUT /api/realtime/resources/{type}/{id}`
    Write(Named),
    /// `DELETE /api/realtime/resources/{type}/{id}`
    Delete(Named),
    /// `GET /api/realtime/resources/{type}/{id}`
    Look(Named),
}

/// Returns whether a path belongs to M2.
pub fn is_ours(path: &str) -> bool {
    matches!(path, "/api/realtime" | "/api/realtime/")
        || matches!(path, "/api/realtime/status" | "/api/realtime/status/")
        || path.starts_with(RESOURCES)
}

/// Returns the call that a request line asks for. The path behind the kind of a resource is its id,
/// percent-decoded, including slashes.
///
/// # Errors
/// 404 for an unknown path, 405 with the allowed methods for another method, 400 for an id that is
/// not valid.
pub fn route(method: &str, path: &str) -> Result<Route, ApiError> {
    let asked = if method == "HEAD" { "GET" } else { method };
    let Some(resource) = path.strip_prefix(RESOURCES) else {
        return match (path.trim_end_matches('/'), method) {
            ("/api/realtime/status", "GET" | "HEAD") => Ok(Route::Status),
            ("/api/realtime/status", _) => {
                Err(ApiError::method_not_allowed(method, path, "GET, HEAD"))
            }
            // No client upgrades with HEAD.
            (_, "GET") => Ok(Route::Socket),
            _ => Err(ApiError::method_not_allowed(method, path, "GET")),
        };
    };
    let (kind, id) = resource.split_once('/').unwrap_or((resource, ""));
    let kind = ResourceKind::named(kind).ok_or_else(|| ApiError::unknown_resource_kind(kind))?;
    let id = decode_segment(id);
    let id = id.map_err(|error| ApiError::invalid_input(format!("id: {error}")))?;
    if let Some(problem) = resource_id_problem(&id) {
        return Err(ApiError::invalid_input(format!("id: {problem}")));
    }
    if asked == "PUT" && matches!(&*id, "." | "..") {
        let problem =
            "clients resolve such a part of an address, so that they could not ask for it";
        return Err(ApiError::invalid_input(format!("id: {problem}")));
    }
    let named = Named { kind, id: id.into() };
    match asked {
        "PUT" => Ok(Route::Write(named)),
        "DELETE" => Ok(Route::Delete(named)),
        "GET" => Ok(Route::Look(named)),
        _ => Err(ApiError::method_not_allowed(method, path, "GET, HEAD, PUT, DELETE")),
    }
}
