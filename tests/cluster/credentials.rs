//! Each kind of credentials, right and wrong.

use fanfare::background::cluster::credentials::Credentials;
use fanfare::background::cluster::line::{Event, Line, Reason, Settings};

use crate::keys::Operator;
use crate::owner::{down, is_refused, settings, settle, until, up};
use crate::support::nats::{Nats, Setup};

const REFUSED: &str = "the server refuses the credentials: Authorization Violation";

fn with(nats: &Nats, credentials: Credentials) -> Settings {
    Settings { credentials, ..settings(&[nats.url()]) }
}

async fn is_taken(settings: Settings) {
    let mut line = Line::new(settings);
    up(&mut line).await;
    settle(&mut line).await;
}

#[tokio::test]
async fn a_server_without_credentials_takes_any_node() {
    let nats = Nats::one();
    let mut line = Line::new(with(&nats, Credentials::None));
    let server = up(&mut line).await;
    assert_eq!(server.info.version, crate::support::nats::VERSION);
    assert!(server.info.jetstream && server.info.max_payload == 1024 * 1024);
    is_taken(with(&nats, Credentials::User("u".into(), "p".into()))).await;
}

#[tokio::test]
async fn a_user_needs_the_password() {
    let nats = Nats::with("authorization { user: node, password: \"p w\\\"d\" }");
    let user = |name: &str, password: &str| Credentials::User(name.into(), password.into());
    is_taken(with(&nats, user("node", "p w\"d"))).await;
    for wrong in [user("node", "p"), user("other", "p w\"d"), Credentials::None] {
        is_refused(with(&nats, wrong), Reason::Auth, REFUSED).await;
    }
}

#[tokio::test]
async fn a_token_must_be_the_servers() {
    let nats = Nats::with("authorization { token: \"secret-token\" }");
    is_taken(with(&nats, Credentials::Token("secret-token".into()))).await;
    for wrong in [Credentials::Token("other".into()), Credentials::None] {
        is_refused(with(&nats, wrong), Reason::Auth, REFUSED).await;
    }
}

#[tokio::test]
async fn a_credentials_file_must_be_of_an_account_that_the_server_knows() {
    let (operator, other) = (Operator::new(), Operator::new());
    let nats = Nats::set_up(Setup {
        without_streams: true,
        more: operator.configuration(),
        ..Setup::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.creds");
    let settings = with(&nats, Credentials::File(path.clone()));
    is_refused(settings.clone(), Reason::Auth, "node.creds: No such file").await;
    operator.write_user(&path, None);
    is_taken(settings.clone()).await;
    operator.write_user(&path, Some(1_600_000_000));
    is_refused(settings.clone(), Reason::Auth, REFUSED).await;
    other.write_user(&path, None);
    is_refused(settings.clone(), Reason::Auth, REFUSED).await;
    is_refused(with(&nats, Credentials::None), Reason::Auth, REFUSED).await;

    // A token may end while the line is connected.
    let soon = jsonwebtoken::get_current_timestamp() + 3;
    operator.write_user(&path, Some(soon));
    let mut line = Line::new(settings.clone());
    up(&mut line).await;
    let lost = down(&mut line).await;
    assert_eq!(lost.fault.reason, Reason::Auth, "{:?}", lost.fault);

    // A file is read for each connection: a renewed one counts from the next on.
    other.write_user(&path, None);
    let mut line = Line::new(settings);
    let fault = until(&mut line, |event| match event {
        Event::Failed { fault, .. } => Some(fault.clone()),
        _ => None,
    });
    assert_eq!(fault.await.reason, Reason::Auth);
    operator.write_user(&path, None);
    up(&mut line).await;

    let plain = Nats::one();
    let words = "the server asks for no signature";
    is_refused(with(&plain, Credentials::File(path)), Reason::Auth, words).await;
}
