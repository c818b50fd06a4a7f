//! The page at `/`.

use crate::support::{API_KEY, Node, Response};

fn media_type(response: &Response) -> &str {
    response.header("content-type").expect("it has a type")
}

#[test]
fn the_page_names_the_paths_in_the_form_that_the_client_accepts() {
    let node = Node::start();
    let accept = |value: &'static str| [("accept", value)];
    let browser = accept("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
    let (html, text) = (
        node.request("GET", "/", &browser, b""),
        node.request("GET", "/?x=1", &accept("*/*"), b""),
    );
    assert_eq!((html.status, media_type(&html)), (200, "text/html; charset=utf-8"));
    assert_eq!((text.status, media_type(&text)), (200, "text/plain; charset=utf-8"));
    assert_eq!(media_type(&node.request("GET", "/", &[], b"")), media_type(&text));
    for page in [&html, &text] {
        for part in [
            env!("CARGO_PKG_VERSION"),
            "/socket.io/",
            "/api/realtime/channels",
            "/api/realtime/events",
            "/forge/realtime/v1/",
            "/api/realtime/resources/",
            "/api/health",
            "/metrics",
            "README",
            "fanfare --help",
        ] {
            assert!(page.text().contains(part), "no {part} in {}", page.text());
        }
        let varies = |name: &str| {
            let mut headers = page.headers.iter();
            headers.any(|(header, value)| header == "Vary" && value == name)
        };
        assert!(varies("Accept") && varies("Origin"), "{:?}", page.headers);
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert!(!page.text().contains(API_KEY));
    }
    let refused = node.request("POST", "/", &[], b"");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
}
