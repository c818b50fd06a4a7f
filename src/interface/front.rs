//! The page at `/`: what this node is, which paths it serves, and where they are documented. It
//! holds nothing of the node's configuration, because any client may read it.

use std::fmt::Write as _;
use std::sync::LazyLock;

use super::rest::{ApiError, Reply};
use crate::codec::http::{Method, Request, Response};

/// The path of the page.
const PATH: &str = "/";

const VERSION: &str = env!("CARGO_PKG_VERSION");
const TITLE: &str = "An edge node that fans events out to clients over WebSocket, long-polling \
                     and Server-Sent Events.";
const DOCUMENTATION: &str = "Documentation: README.md of the project, and \"fanfare --help\" on \
                             the machine of the node.";

/// Paths that the node serves, and their purpose. No text has a character that HTML would escape.
const SERVED: [(&str, &str); 8] = [
    ("/socket.io/", "InsForge Realtime for clients of Socket.IO"),
    ("/api/realtime/messages", "InsForge Realtime: publish, and search the history"),
    ("/api/realtime/events", "the same channels as Server-Sent Events"),
    ("/forge/realtime/v1/", "Forge Realtime: publish, WebSocket at ws, client.js and server.js"),
    ("/api/realtime/", "M2 Realtime for clients on WebSocket"),
    ("/api/realtime/resources/", "M2 Realtime: write, read and delete documents"),
    ("/api/health", "whether the node works and should be sent clients"),
    ("/api/health/live", "whether its process serves requests"),
];

/// Paths of administration, which a public listener may leave to others.
const ADMINISTERED: [(&str, &str); 2] = [
    ("/api/realtime/channels", "InsForge Realtime: definitions of channels"),
    ("/metrics", "metrics for Prometheus"),
];

/// The page of a listener, in each of its forms.
struct Page {
    text: String,
    html: String,
}

static WHOLE: LazyLock<Page> = LazyLock::new(|| Page::of(&[&SERVED[..], &ADMINISTERED].concat()));
static PUBLIC: LazyLock<Page> = LazyLock::new(|| Page::of(&SERVED));

impl Page {
    fn of(paths: &[(&str, &str)]) -> Self {
        Self { text: text(paths), html: html(paths) }
    }
}

fn text(paths: &[(&str, &str)]) -> String {
    let mut text = format!("Fanfare {VERSION}\n{TITLE}\n\n");
    for (path, purpose) in paths {
        let _ = writeln!(text, "  {path:<26}{purpose}");
    }
    text + "\n" + DOCUMENTATION + "\n"
}

fn html(paths: &[(&str, &str)]) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Fanfare</title>\n\
         <h1>Fanfare {VERSION}</h1>\n<p>{TITLE}</p>\n<dl>\n"
    );
    for (path, purpose) in paths {
        let _ = writeln!(html, "<dt><code>{path}</code></dt><dd>{purpose}</dd>");
    }
    let _ = writeln!(html, "</dl>\n<p>{DOCUMENTATION}</p>\n</html>");
    html
}

/// Returns whether a path is that of the page.
pub(super) fn is_ours(path: &str) -> bool {
    path == PATH
}

/// Returns the page: in HTML if the client accepts that, as browsers do, otherwise as plain text.
/// Other methods than `GET` and `HEAD` are refused with 405. That of a public listener leaves
/// administration out.
pub(super) fn response(request: &Request, is_public: bool) -> Response {
    if !matches!(request.method, Method::Get | Method::Head) {
        let method = request.method_name();
        return Reply::from(ApiError::method_not_allowed(method, PATH, "GET, HEAD")).into();
    }
    let page = if is_public { &*PUBLIC } else { &*WHOLE };
    let response = if accepts_html(request) {
        Response::with_type(200, "text/html; charset=utf-8", page.html.as_str())
            .header("Content-Security-Policy", "default-src 'none'")
    } else {
        Response::text(200, page.text.as_str())
    };
    response.header("Vary", "Accept")
}

fn accepts_html(request: &Request) -> bool {
    request.header_values("accept").any(|accepted| {
        let mut parts = accepted.split([',', ';']).map(str::trim);
        parts.any(|one| one.eq_ignore_ascii_case("text/html"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_would_be_escaped_in_html() {
        let texts =
            SERVED.iter().chain(&ADMINISTERED).flat_map(|(path, purpose)| [*path, *purpose]);
        for text in texts.chain([TITLE, VERSION]) {
            assert!(!text.contains(['<', '>', '&', '"']), "{text}");
        }
    }

    #[test]
    fn a_page_fits_a_terminal() {
        for page in [&*WHOLE, &*PUBLIC] {
            assert!(page.text.lines().all(|line| line.len() <= 100), "{}", page.text);
            for (path, _) in SERVED {
                assert!(page.text.contains(path) && page.html.contains(path), "{path}");
            }
            for (path, _) in ADMINISTERED {
                let is_there = page.text.contains(path) && page.html.contains(path);
                assert_eq!(is_there, std::ptr::eq(page, &*WHOLE), "{path}");
            }
        }
    }
}
