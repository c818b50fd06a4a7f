//! TLS: whom a node trusts, what it shows, and when it does without.

use fanfare::background::cluster::credentials::{Tls, Wish};
use fanfare::background::cluster::line::{Line, Reason, Settings};

use crate::certificates::{Authority, server_tls};
use crate::owner::{is_refused, settings, settle, up};
use crate::support::nats::Nats;

fn with(url: String, tls: Tls) -> Settings {
    Settings { tls, ..settings(&[url]) }
}

async fn is_taken(settings: Settings) {
    let mut line = Line::new(settings);
    let server = up(&mut line).await;
    assert!(server.info.tls_required || server.info.tls_available);
    settle(&mut line).await;
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_and_name() {
    let (authority, other) = (Authority::new(), Authority::new());
    let nats = Nats::with(&server_tls(&authority.sign(&["127.0.0.1", "localhost"]), ""));
    is_taken(with(nats.url(), authority.trusted(Wish::Auto))).await;
    let names = [nats.url().replace("127.0.0.1", "localhost"), nats.url().replace("nats:", "tls:")];
    for name in names {
        is_taken(with(name, authority.trusted(Wish::On))).await;
    }
    let unknown = "invalid peer certificate: UnknownIssuer";
    is_refused(with(nats.url(), other.trusted(Wish::Auto)), Reason::Tls, unknown).await;
    let off = "the server requires TLS, and it is off here";
    is_refused(with(nats.url(), authority.trusted(Wish::Off)), Reason::Tls, off).await;

    let nats = Nats::with(&server_tls(&authority.sign(&["nats.example.org"]), ""));
    let name = "certificate not valid for name";
    is_refused(with(nats.url(), authority.trusted(Wish::Auto)), Reason::Tls, name).await;
}

#[tokio::test]
async fn a_server_may_ask_for_the_nodes_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let verify = format!("ca_file: {:?}\nverify: true", authority.file());
    let nats = Nats::with(&server_tls(&authority.sign(&["127.0.0.1"]), &verify));
    let own = |own| Tls { own, ..authority.trusted(Wish::Auto) };
    is_taken(with(nats.url(), own(Some(authority.sign(&["node"]))))).await;
    is_refused(with(nats.url(), own(None)), Reason::Tls, "alert").await;
    is_refused(with(nats.url(), own(Some(other.sign(&["node"])))), Reason::Tls, "alert").await;
}

#[tokio::test]
async fn a_node_that_wants_tls_does_not_go_on_without_it() {
    let authority = Authority::new();
    let nats = Nats::one();
    let words = "the server offers no TLS, and the connection must not go on without it";
    is_refused(with(nats.url(), authority.trusted(Wish::On)), Reason::Tls, words).await;
    let url = nats.url().replace("nats:", "tls:");
    is_refused(with(url.clone(), authority.trusted(Wish::Auto)), Reason::Tls, words).await;
    let off = "the server's URL says tls, and TLS is off";
    is_refused(with(url, authority.trusted(Wish::Off)), Reason::Tls, off).await;
    let mut line = Line::new(with(nats.url(), authority.trusted(Wish::Auto)));
    up(&mut line).await;
}

#[tokio::test]
async fn a_server_that_leaves_tls_to_clients_gets_it_if_the_node_wants_it() {
    let authority = Authority::new();
    let lines = server_tls(&authority.sign(&["127.0.0.1"]), "");
    let nats = Nats::with(&format!("{lines}\nallow_non_tls: true"));
    is_taken(with(nats.url(), authority.trusted(Wish::On))).await;
    is_taken(with(nats.url().replace("nats:", "tls:"), authority.trusted(Wish::Auto))).await;
    is_taken(with(nats.url(), authority.trusted(Wish::Auto))).await;
    is_taken(with(nats.url(), authority.trusted(Wish::Off))).await;
}
