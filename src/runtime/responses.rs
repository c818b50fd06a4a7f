//! Responses that do not depend on the interface: refusals of requests that could not be read, and
//! the headers with which browsers let pages of other origins read responses (CORS).

use super::http_connection::{End, HttpConnection};
use crate::codec::http::{Date, HttpError, Request, Response};
use crate::interface::rest::{ApiError, Reply};
use crate::limits::HTTP_BODY_BYTES_MAX;
use crate::metrics::Counters;

/// Ends a connection whose next request could not be read. Sends the reason if the client can be
/// answered. `complete` adds the headers that depend on the request; `None` without a request.
pub(super) async fn refuse(
    (counters, date): (&Counters, Date),
    mut connection: Box<HttpConnection>,
    complete: Option<&dyn Fn(Response) -> Response>,
    end: End,
) {
    let error = match end {
        // The responses to the requests before it are still to be sent.
        End::Gone | End::HalfClosed | End::Sealed | End::Uncertified => {
            return drop(connection.flush().await);
        }
        End::Handshakes => {
            counters.refused_tls_handshakes.add(1);
            return drop(connection.flush().await);
        }
        End::Slow(has_request) => {
            counters.http_timeouts.add(1);
            if !has_request {
                return;
            }
            ApiError::http(408, "The request did not arrive in time")
        }
        End::NoMemory => {
            counters.refused_overloaded.add(1);
            ApiError::overloaded()
        }
        End::Header(fault) => {
            counters.refused_proxy_headers.add(1);
            ApiError::http(fault.status(), fault.to_string())
        }
        End::Broken(HttpError::BodyTooLong) => {
            counters.http_refused.add(1);
            counters.refused_too_large.add(1);
            ApiError::payload_too_large(HTTP_BODY_BYTES_MAX)
        }
        End::Broken(error) => {
            counters.http_refused.add(1);
            ApiError::http(error.status(), error.to_string())
        }
    };
    let mut response = Response::from(Reply::from(error));
    if let Some(complete) = complete {
        response = complete(response);
    }
    self::end(connection, &response, date).await;
}

/// Sends the last response of a connection and closes it.
pub(super) async fn end(mut connection: Box<HttpConnection>, response: &Response, date: Date) {
    if connection.respond(response, date, false, false).await.is_ok()
        && connection.flush().await.is_ok()
    {
        connection.finish().await;
    }
}

/// Counts a refusal by its status. 429 and 503 are counted where the limit was reached.
pub(super) fn count_refusal(counters: &Counters, status: u16) {
    match status {
        401 | 403 => counters.refused_unauthorized.add(1),
        413 => counters.refused_too_large.add(1),
        429 => {}
        400..500 => counters.refused_invalid.add(1),
        _ => {}
    }
}

/// Answers a CORS preflight, in which a browser asks whether a page may send a request.
pub(super) fn preflight(request: &Request) -> Response {
    let mut response = Response::empty(204)
        .header("Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE");
    if let Some(headers) = request.header("access-control-request-headers") {
        response = response.header("Access-Control-Allow-Headers", headers.to_owned());
    }
    response.header("Vary", "Origin, Access-Control-Request-Headers")
}
