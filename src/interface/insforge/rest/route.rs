//! Finds the REST call for a request line.

use uuid::Uuid;

use crate::interface::rest::ApiError;

/// The path of [`Route::Health`].
pub const HEALTH: &str = "/api/health";

/// The path of [`Route::Live`].
pub const LIVE: &str = "/api/health/live";

/// A REST call.
///
/// An id of `None` is a path segment that is not a UUID. No channel definition has it, so the call
/// is answered with 404, but only after credential and body were checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// `GET /api/realtime/channels`
    ListChannels,
    /// `POST /api/realtime/channels`
    CreateChannel,
    /// `GET /api/realtime/channels/{id}`
    GetChannel(Option<Uuid>),
    /// `PUT /api/realtime/channels/{id}`
    UpdateChannel(Option<Uuid>),
    /// `DELETE /api/realtime/channels/{id}`
    DeleteChannel(Option<Uuid>),
    /// `POST /api/realtime/messages`
    Publish,
    /// `GET /api/realtime/permissions`
    GetPermissions,
    /// `PUT /api/realtime/permissions`
    SetPermissions,
    /// `GET /api/realtime/messages`
    ListMessages,
    /// `DELETE /api/realtime/messages`
    ClearMessages,
    /// `GET /api/realtime/messages/stats`
    Stats,
    /// `GET /api/realtime/config`
    GetConfig,
    /// `PATCH /api/realtime/config`
    UpdateConfig,
    /// `GET /api/metadata/realtime`
    Metadata,
    /// `GET /api/health`
    Health,
    /// `GET /api/health/live`
    Live,
}

impl Route {
    /// Returns whether only administrators may make the call.
    pub fn needs_admin(self) -> bool {
        !matches!(self, Self::Health | Self::Live)
    }

    /// Returns whether the call administers the node. A back end that publishes needs the others,
    /// and so does the probe of a load balancer.
    fn is_administration(self) -> bool {
        !matches!(self, Self::Publish | Self::ListMessages | Self::Health | Self::Live)
    }
}

/// Returns whether a request line asks for administration, and not for what clients, publishers and
/// probes need. So does one with another method on a path that only administrators have.
pub(in crate::interface) fn is_administration(method: &str, path: &str) -> bool {
    match route(method, path) {
        Ok(found) => found.is_administration(),
        // An unknown path has no `GET` either, and every path of administration has one.
        Err(_) => route("GET", path).is_ok_and(Route::is_administration),
    }
}

/// Returns the call for a request line. `HEAD` is routed as `GET`, and the runtime leaves out the
/// body of the response. One trailing slash of the path does not matter.
///
/// # Errors
/// 404 if the path is unknown; 405 with the allowed methods if the path has no such method.
pub(super) fn route(method: &str, path: &str) -> Result<Route, ApiError> {
    route_at((method, path), false)
}

/// Returns the call for a request line as [`route`] does. On a listener that leaves administration
/// to others, `is_public`, the allowed methods are those that it serves.
///
/// # Errors
/// As [`route`].
pub(super) fn route_at((method, path): (&str, &str), is_public: bool) -> Result<Route, ApiError> {
    let sent = path;
    let path = path.strip_suffix('/').unwrap_or(path);
    let asked = if method == "HEAD" { "GET" } else { method };
    let (found, allow) = match path {
        HEALTH => (by_method(asked, &[("GET", Route::Health)]), "GET, HEAD"),
        LIVE => (by_method(asked, &[("GET", Route::Live)]), "GET, HEAD"),
        "/api/metadata/realtime" => (by_method(asked, &[("GET", Route::Metadata)]), "GET, HEAD"),
        "/api/realtime/permissions" => {
            let routes = [("GET", Route::GetPermissions), ("PUT", Route::SetPermissions)];
            (by_method(asked, &routes), "GET, HEAD, PUT")
        }
        "/api/realtime/messages" => {
            let routes = [
                ("GET", Route::ListMessages),
                ("POST", Route::Publish),
                ("DELETE", Route::ClearMessages),
            ];
            let allow = if is_public { "GET, HEAD, POST" } else { "GET, HEAD, POST, DELETE" };
            (by_method(asked, &routes), allow)
        }
        "/api/realtime/messages/stats" => (by_method(asked, &[("GET", Route::Stats)]), "GET, HEAD"),
        "/api/realtime/config" => {
            let routes = [("GET", Route::GetConfig), ("PATCH", Route::UpdateConfig)];
            (by_method(asked, &routes), "GET, HEAD, PATCH")
        }
        "/api/realtime/channels" => {
            let routes = [("GET", Route::ListChannels), ("POST", Route::CreateChannel)];
            (by_method(asked, &routes), "GET, HEAD, POST")
        }
        _ => {
            let id = channel_id(path).ok_or_else(|| ApiError::endpoint_not_found(sent))?;
            let routes = [
                ("GET", Route::GetChannel(id)),
                ("PUT", Route::UpdateChannel(id)),
                ("DELETE", Route::DeleteChannel(id)),
            ];
            (by_method(asked, &routes), "GET, HEAD, PUT, DELETE")
        }
    };
    found.ok_or_else(|| ApiError::method_not_allowed(method, path, allow))
}

fn by_method(asked: &str, routes: &[(&str, Route)]) -> Option<Route> {
    routes.iter().find(|(method, _)| *method == asked).map(|&(_, route)| route)
}

/// Returns the id in the path of a channel definition; `None` if the path has another form,
/// `Some(None)` if the id is not a UUID.
fn channel_id(path: &str) -> Option<Option<Uuid>> {
    let id = path.strip_prefix("/api/realtime/channels/")?;
    if id.is_empty() || id.contains('/') {
        return None;
    }
    Some(Uuid::try_parse(id).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::rest::Reply;

    const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

    #[test]
    fn every_route_is_found() {
        let id = Some(Uuid::try_parse(ID).unwrap());
        let one = format!("/api/realtime/channels/{ID}");
        let table = [
            ("GET", "/api/realtime/channels", Route::ListChannels),
            ("HEAD", "/api/realtime/channels", Route::ListChannels),
            ("GET", "/api/realtime/channels/", Route::ListChannels),
            ("POST", "/api/realtime/channels", Route::CreateChannel),
            ("GET", &one, Route::GetChannel(id)),
            ("HEAD", &one, Route::GetChannel(id)),
            ("PUT", &one, Route::UpdateChannel(id)),
            ("DELETE", &one, Route::DeleteChannel(id)),
            ("GET", "/api/realtime/channels/x", Route::GetChannel(None)),
            ("PUT", "/api/realtime/channels/x", Route::UpdateChannel(None)),
            ("POST", "/api/realtime/messages", Route::Publish),
            ("GET", "/api/realtime/permissions", Route::GetPermissions),
            ("PUT", "/api/realtime/permissions/", Route::SetPermissions),
            ("GET", "/api/realtime/messages", Route::ListMessages),
            ("DELETE", "/api/realtime/messages", Route::ClearMessages),
            ("GET", "/api/realtime/messages/stats", Route::Stats),
            ("GET", "/api/realtime/config", Route::GetConfig),
            ("PATCH", "/api/realtime/config", Route::UpdateConfig),
            ("GET", "/api/metadata/realtime", Route::Metadata),
            ("GET", "/api/health", Route::Health),
            ("HEAD", "/api/health", Route::Health),
            ("GET", "/api/health/live", Route::Live),
            ("HEAD", "/api/health/live/", Route::Live),
        ];
        for (method, path, expected) in table {
            assert_eq!(route(method, path).unwrap(), expected, "{method} {path}");
            assert_eq!(expected.needs_admin(), !path.starts_with("/api/health"));
        }
    }

    #[test]
    fn another_method_is_answered_with_those_to_choose_from() {
        let one = format!("/api/realtime/channels/{ID}");
        let table = [
            ("PUT", "/api/realtime/channels", "GET, HEAD, POST"),
            ("POST", &one, "GET, HEAD, PUT, DELETE"),
            ("DELETE", "/api/realtime/permissions", "GET, HEAD, PUT"),
            ("PUT", "/api/realtime/messages", "GET, HEAD, POST, DELETE"),
            ("POST", "/api/realtime/messages/stats", "GET, HEAD"),
            ("PUT", "/api/realtime/config", "GET, HEAD, PATCH"),
            ("POST", "/api/metadata/realtime", "GET, HEAD"),
            ("POST", "/api/health", "GET, HEAD"),
            ("get", "/api/health", "GET, HEAD"),
            ("POST", "/api/health/live", "GET, HEAD"),
        ];
        for (method, path, allow) in table {
            let reply = Reply::from(route(method, path).unwrap_err());
            assert_eq!((reply.status, reply.allow), (405, Some(allow)), "{method} {path}");
            assert!(reply.body.contains(r#""error":"METHOD_NOT_ALLOWED""#), "{}", reply.body);
        }
    }

    #[test]
    fn an_unknown_path_is_answered_as_documented() {
        let reply = Reply::from(route("GET", "/api/nothing").unwrap_err());
        assert_eq!(reply.status, 404);
        assert_eq!(
            reply.body,
            r#"{"error":"NOT_FOUND","message":"Endpoint /api/nothing not found","#.to_owned()
                + r#""statusCode":404,"nextActions":"#
                + r#""Please check the API documentation for available endpoints"}"#
        );
        let others = [
            "",
            "/",
            "/api/realtime",
            "/api/realtime/channels/a/b",
            "/api/health/x",
            "/api/health/live/x",
        ];
        for path in others {
            assert_eq!(route("GET", path).unwrap_err().status(), 404, "{path}");
        }
    }
}
