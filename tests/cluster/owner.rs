//! The owner of a line in the tests.

use std::time::Duration;

use fanfare::background::cluster::address::Address;
use fanfare::background::cluster::credentials::{Credentials, Tls, Wish};
use fanfare::background::cluster::line::{Down, Event, Fault, Line, Reason, Server, Settings};
use fanfare::background::cluster::protocol::{Message, Publish};
use tokio::time::timeout;

/// How long an expected event may take; long, because tests run side by side on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Returns settings for these servers, without credentials and TLS.
pub(crate) fn settings(urls: &[String]) -> Settings {
    let servers = urls.iter().map(|url| url.parse::<Address>().expect("a URL of a server"));
    Settings {
        servers: servers.collect(),
        credentials: Credentials::None,
        tls: Tls { wish: Wish::Auto, ..Tls::default() },
        name: "fanfare test".into(),
    }
}

/// Returns a line to a server on this port that needs no credentials.
pub(crate) fn line_to(port: u16) -> Line {
    Line::new(settings(&[format!("nats://127.0.0.1:{port}")]))
}

/// Returns the first event that `wanted` takes. Panics if it does not come.
pub(crate) async fn until<T>(line: &mut Line, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    let mut seen = Vec::new();
    let waiting = async {
        loop {
            let event = line.next().await;
            if let Some(found) = wanted(&event) {
                return found;
            }
            if !matches!(event, Event::Message(_)) {
                seen.push(event);
            }
        }
    };
    let found = timeout(PATIENCE, waiting).await;
    found.unwrap_or_else(|_| panic!("not within {PATIENCE:?}; the line said {seen:?}"))
}

/// Waits until the line is connected.
pub(crate) async fn up(line: &mut Line) -> Server {
    until(line, |event| match event {
        Event::Up(server) => Some(server.clone()),
        _ => None,
    })
    .await
}

/// Waits until the line has lost its connection.
pub(crate) async fn down(line: &mut Line) -> Down {
    until(line, |event| match event {
        Event::Down(down) => Some(down.clone()),
        _ => None,
    })
    .await
}

/// Waits for a message.
pub(crate) async fn message(line: &mut Line) -> Message {
    until(line, |event| match event {
        Event::Message(message) => Some(message.clone()),
        Event::Down(down) => panic!("{down:?}"),
        _ => None,
    })
    .await
}

/// Returns the fault of the first connection that cannot be made. Panics if it can.
pub(crate) async fn refusal(settings: Settings) -> Fault {
    until(&mut Line::new(settings), |event| match event {
        Event::Failed { fault, .. } => Some(fault.clone()),
        event => panic!("{event:?}"),
    })
    .await
}

/// Checks that a connection cannot be made for this reason, with these words.
pub(crate) async fn is_refused(settings: Settings, reason: Reason, words: &str) {
    let fault = refusal(settings).await;
    assert!(fault.reason == reason && fault.text.contains(words), "{reason:?}, {words}: {fault:?}");
}

/// Waits until the server has taken all commands so far.
pub(crate) async fn settle(line: &mut Line) {
    let subject = format!("settle.{}", rand::random::<u64>());
    line.subscribe(&subject, u64::MAX).expect("the line is connected");
    line.publish(&Publish { subject: &subject, ..Publish::default() }).expect("it takes more");
    until(line, |event| match event {
        Event::Message(message) if message.subject() == subject.as_bytes() => Some(()),
        Event::Down(down) => panic!("{down:?}"),
        _ => None,
    })
    .await;
    line.unsubscribe(u64::MAX).expect("the line is connected");
}
