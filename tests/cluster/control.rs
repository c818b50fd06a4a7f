//! The streams of a cluster: made, checked and refused.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::stream::{self, DiscardPolicy, StorageType};
use fanfare::background::cluster::control::{Control, ControlError, Settings};
use fanfare::background::cluster::credentials::{Credentials, Tls, Wish};
use fanfare::background::cluster::line;
use fanfare::cluster::name::Prefix;
use fanfare::config::Storage;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use crate::certificates::{Authority, server_tls};
use crate::keys::Operator;
use crate::owner::{PATIENCE, settings};
use crate::support::nats::{Nats, Setup, Three, free_port};

const MINUTE: Duration = Duration::from_secs(60);

/// Returns settings for the streams of a cluster on these servers.
pub(crate) fn streams(urls: &[String]) -> Settings {
    Settings {
        line: settings(urls),
        prefix: Prefix::read("ff").expect("it is short"),
        replicas: 1,
        storage: Storage::Memory,
        stream_bytes: 64 * 1024 * 1024,
    }
}

/// Returns a connection to a server.
pub(crate) async fn control(nats: &Nats) -> Control {
    Control::connect(streams(&[nats.url()])).await.expect("the server takes the connection")
}

/// Returns the text of what was refused.
fn refusal<T>(refused: Result<T, ControlError>) -> String {
    match refused {
        Ok(_) => panic!("it is not refused"),
        Err(error) => error.to_string(),
    }
}

async fn config(control: &Control, stream: &str) -> stream::Config {
    control.info(stream).await.expect("the server answers").expect("the stream exists").config
}

#[tokio::test]
async fn streams_are_made_once_and_for_all_nodes() {
    let nats = Nats::one();
    let (one, other) = (control(&nats).await, control(&nats).await);
    let (made, found) = tokio::join!(one.prepare(MINUTE), other.prepare(MINUTE));
    assert_eq!((made, found), (Ok(vec![]), Ok(vec![])));
    let order = config(&one, "FF_ORD").await;
    assert_eq!(order.subjects, ["ff.in.>"]);
    assert_eq!((order.storage, order.num_replicas), (StorageType::Memory, 1));
    assert_eq!((order.max_bytes, order.discard), (64 * 1024 * 1024, DiscardPolicy::Old));
    // NATS refuses an age below the window of duplicates.
    assert_eq!((order.duplicate_window, order.max_age), (2 * MINUTE, Duration::from_secs(130)));
    assert!(order.allow_direct && order.deny_delete);
    let claims = config(&one, "FF_INT").await;
    assert_eq!(claims.subjects, ["ff.int.>"]);
    assert_eq!((claims.max_messages_per_subject, claims.max_age), (1, Duration::ZERO));
    assert!(claims.allow_message_ttl && claims.deny_purge && claims.republish.is_none());
    assert_eq!((claims.discard, claims.max_messages), (DiscardPolicy::New, 8_000_000));
}

#[tokio::test]
async fn what_is_stored_comes_live_and_a_claim_replaces_the_one_before() {
    let nats = Nats::one();
    let control = control(&nats).await;
    control.prepare(MINUTE).await.unwrap();
    let mut live = control.client().subscribe("ff.live.>").await.unwrap();
    control.context().publish("ff.in.abc", "payload".into()).await.unwrap().await.unwrap();
    let heard = timeout(PATIENCE, live.next()).await.unwrap().unwrap();
    assert_eq!((heard.subject.as_str(), &*heard.payload), ("ff.live.abc", &b"payload"[..]));
    for payload in ["1 L", "2 L"] {
        control.context().publish("ff.int.abc.n1", payload.into()).await.unwrap().await.unwrap();
    }
    let state = control.info("FF_INT").await.unwrap().unwrap().state;
    assert_eq!((state.messages, state.last_sequence), (1, 2));
    // The end of a claim expires.
    let mut headers = HeaderMap::new();
    headers.insert("Nats-TTL", "1s");
    let gone = control.context().publish_with_headers("ff.int.abc.n1", headers, "2 -".into());
    gone.await.unwrap().await.unwrap();
    let expired = async {
        while control.info("FF_INT").await.unwrap().unwrap().state.messages > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, expired).await.expect("it expires");
}

#[tokio::test]
async fn the_age_is_raised_and_never_lowered() {
    let nats = Nats::one();
    let control = control(&nats).await;
    let age = async || config(&control, "FF_ORD").await.max_age;
    assert!(refusal(control.keep(MINUTE).await).starts_with("the stream FF_ORD is gone"));
    control.prepare(10 * MINUTE).await.unwrap();
    assert_eq!(age().await, Duration::from_secs(610));
    control.keep(60 * MINUTE).await.unwrap();
    assert_eq!(age().await, Duration::from_secs(3_610));
    control.keep(MINUTE).await.unwrap();
    control.prepare(MINUTE).await.unwrap();
    assert_eq!(age().await, Duration::from_secs(3_610));
    let order = config(&control, "FF_ORD").await;
    assert!(order.republish.is_some() && order.subjects == ["ff.in.>"], "nothing else changes");
}

#[tokio::test]
async fn a_weaker_stream_is_refused_and_a_stronger_one_is_told() {
    let nats = Nats::one();
    control(&nats).await.prepare(MINUTE).await.unwrap();
    let with = async |change: fn(&mut Settings)| {
        let mut settings = streams(&[nats.url()]);
        change(&mut settings);
        Control::connect(settings).await.unwrap().prepare(MINUTE).await
    };
    assert_eq!(
        refusal(with(|settings| settings.stream_bytes *= 2).await),
        "the stream FF_ORD has less than `cluster.stream_bytes` = 134217728 asks for: 67108864; \
         set `cluster.stream_bytes` as on the other nodes, or change the stream (`nats stream \
         edit FF_ORD --max-bytes 134217728`)"
    );
    let error = refusal(with(|settings| settings.replicas = 3).await);
    assert!(error.contains("`cluster.replicas` = 3 asks for: 1; set"), "{error}");
    let error = refusal(with(|settings| settings.storage = Storage::File).await);
    assert!(error.contains("`cluster.storage` = file asks for: memory; set"), "{error}");
    let told = with(|settings| settings.stream_bytes /= 2).await.unwrap();
    let more =
        "the stream FF_ORD has more than `cluster.stream_bytes` = 33554432 asks for: 67108864";
    assert_eq!(told, [more]);
}

#[tokio::test]
async fn a_stream_of_another_program_is_refused() {
    let nats = Nats::one();
    let control = control(&nats).await;
    let foreign = |name: &str, subject: &str| stream::Config {
        name: name.into(),
        subjects: vec![subject.into()],
        ..stream::Config::default()
    };
    control.context().create_stream(foreign("FF_INT", "orders.>")).await.unwrap();
    let error = refusal(control.prepare(MINUTE).await);
    let start = "the stream FF_INT exists and was not made by a node of this release (it has other \
                 subjects, ";
    assert!(error.starts_with(start) && error.contains("another `cluster.prefix`"), "{error}");
    control.context().delete_stream("FF_INT").await.unwrap();
    control.context().create_stream(foreign("OTHER", "ff.int.orders")).await.unwrap();
    assert_eq!(
        refusal(control.prepare(MINUTE).await),
        "create the stream FF_INT: subjects overlap with an existing stream (10065); another \
         program uses these subjects: choose another `cluster.prefix`"
    );
}

#[tokio::test]
async fn invocations_are_not_kept_in_a_bucket_of_another_form() {
    let nats = Nats::one();
    let control = control(&nats).await;
    let bucket = stream::Config {
        name: "KV_ff_inv".into(),
        subjects: vec!["$KV.ff_inv.>".into()],
        max_messages_per_subject: 1,
        allow_direct: true,
        discard: DiscardPolicy::New,
        ..stream::Config::default()
    };
    control.context().create_stream(bucket).await.unwrap();
    let error = refusal(control.prepare(MINUTE).await);
    let start = "the stream KV_ff_inv exists and was not made by a node of this release (it has \
                 direct reads, no expiry of single messages)";
    assert!(error.starts_with(start), "{error}");
}

#[tokio::test]
async fn what_the_servers_lack_is_told_with_what_to_do() {
    let nats = Nats::one();
    let three = Settings { replicas: 3, ..streams(&[nats.url()]) };
    let error = refusal(Control::connect(three).await.unwrap().prepare(MINUTE).await);
    let advice = "; `cluster.replicas` must not be more than the servers with JetStream";
    assert!(error.starts_with("create the stream FF_ORD: ") && error.ends_with(advice), "{error}");

    let nats = Nats::set_up(Setup { without_streams: true, ..Setup::default() });
    let error = refusal(control(&nats).await.prepare(MINUTE).await);
    assert!(error.contains("enable JetStream (`jetstream {}`"), "{error}");
    assert!(error.starts_with("look at the stream FF_ORD: "), "{error}");

    let more = "jetstream { max_memory_store: 32MB }".to_owned();
    let nats = Nats::set_up(Setup { without_streams: true, more, ..Setup::default() });
    let error = refusal(control(&nats).await.prepare(MINUTE).await);
    assert!(error.contains("; lower `cluster.stream_bytes`, which is reserved at once"), "{error}");

    let url = format!("nats://127.0.0.1:{}", free_port());
    let error = refusal(Control::connect(streams(std::slice::from_ref(&url))).await);
    assert!(error.starts_with(&format!("no NATS server can be used ({url}): ")), "{error}");
}

fn with(nats: &Nats, credentials: Credentials) -> Settings {
    let streams = streams(&[nats.url()]);
    Settings { line: line::Settings { credentials, ..streams.line.clone() }, ..streams }
}

#[tokio::test]
async fn it_shows_the_credentials_of_the_line() {
    let refused = "the server refuses the credentials; set cluster.user";
    let is_taken = async |settings: Settings| {
        let control = Control::connect(settings).await.unwrap();
        assert_eq!(control.info("FF_ORD").await, Ok(None));
    };
    let is_refused = async |settings: Settings, words: &str| {
        let error = refusal(Control::connect(settings).await);
        assert!(error.contains(words), "{error}");
    };
    let nats = Nats::with("authorization { user: node, password: \"p w\\\"d\" }");
    is_taken(with(&nats, Credentials::User("node".into(), "p w\"d".into()))).await;
    is_refused(with(&nats, Credentials::User("node".into(), "p".into())), refused).await;
    is_refused(with(&nats, Credentials::None), refused).await;
    let nats = Nats::with("authorization { token: \"secret-token\" }");
    is_taken(with(&nats, Credentials::Token("secret-token".into()))).await;
    is_refused(with(&nats, Credentials::Token("other".into())), refused).await;

    let operator = Operator::new();
    let more = operator.configuration();
    let nats = Nats::set_up(Setup { without_streams: true, more, ..Setup::default() });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.creds");
    let file = Credentials::File(path.clone());
    is_refused(with(&nats, file.clone()), "the credentials file ").await;
    operator.write_user(&path, None);
    Control::connect(with(&nats, file.clone())).await.unwrap();
    Operator::new().write_user(&path, None);
    is_refused(with(&nats, file), refused).await;
}

#[tokio::test]
async fn it_uses_the_tls_of_the_line() {
    let (authority, other) = (Authority::new(), Authority::new());
    let verify = format!("ca_file: {:?}\nverify: true", authority.file());
    let nats = Nats::with(&server_tls(&authority.sign(&["127.0.0.1"]), &verify));
    let tls = |tls: Tls| {
        let streams = streams(&[nats.url()]);
        Settings { line: line::Settings { tls, ..streams.line.clone() }, ..streams }
    };
    let own = Some(authority.sign(&["node"]));
    let good = Tls { own: own.clone(), ..authority.trusted(Wish::Auto) };
    let control = Control::connect(tls(good)).await.unwrap();
    assert_eq!(control.prepare(MINUTE).await, Ok(vec![]));
    let unknown = Tls { own, ..other.trusted(Wish::On) };
    let error = refusal(Control::connect(tls(unknown)).await);
    assert!(error.contains("UnknownIssuer"), "{error}");
    let missing = Tls { authorities: Some("/nonexistent".into()), ..Tls::default() };
    let error = refusal(Control::connect(tls(authority.trusted(Wish::Off))).await);
    assert!(error.contains("requires TLS, and `cluster.tls` is off here"), "{error}");
    let error = refusal(Control::connect(tls(missing)).await);
    assert!(error.contains("the file of authorities /nonexistent: No such file"), "{error}");
}

#[tokio::test]
async fn three_servers_keep_three_copies() {
    let three = Three::start();
    let urls: Vec<_> = three.servers.iter().map(Nats::url).collect();
    let control = Control::connect(Settings { replicas: 3, ..streams(&urls) }).await.unwrap();
    assert_eq!(control.prepare(MINUTE).await, Ok(vec![]));
    let cluster = control.info("FF_ORD").await.unwrap().unwrap().cluster.unwrap();
    assert_eq!(cluster.replicas.len(), 2);
    control.register().await.unwrap();
}
