//! What all HTTP requests of the node have in common.

use std::error::Error as _;

use reqwest::{Client, ClientBuilder, redirect};

/// The longest cause that the log repeats, in characters.
const CAUSE_CHARS_MAX: usize = 200;

/// Returns a client whose requests go to their URL and nowhere else: neither a proxy nor an answer
/// may send them on. The caller alone decides whether a request is tried again.
pub(super) fn client() -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("fanfare/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
}

/// Returns why there is no connection, in the words of the system or of TLS: the errors around them
/// repeat the URL. A certificate's words are a stranger's, so they are cut short and escaped.
pub(super) fn first_cause(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text.chars().take(CAUSE_CHARS_MAX).flat_map(char::escape_debug).collect()
}
