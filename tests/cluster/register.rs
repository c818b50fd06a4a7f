//! How nodes join a cluster, and which nodes may not.

use std::path::Path;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::stream;
use fanfare::background::cluster::control::{Control, ControlError};
use fanfare::background::cluster::entries::Register;
use fanfare::background::cluster::identity;
use fanfare::background::cluster::register::{
    Candidate, JoinError, Joined, NotJoined, Outcome, join,
};
use fanfare::cluster::health::Obstacle;
use fanfare::cluster::name::{Incarnation, NodeName, Stream};
use fanfare::cluster::wire::{Anchor, Beat, Body, Origin, VERSIONS};
use fanfare::config::{Arguments, Config, Effective, secrets};
use fanfare::limits::REGISTER_FRESH_MS;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::control::{control, streams};
use crate::fake::Fake;
use crate::owner::PATIENCE;
use crate::support::nats::{Nats, OLD_VERSION, free_port};

const WINDOW: Duration = Duration::from_secs(60);
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A node that may join, with a data directory of its own.
pub(crate) struct Node {
    folder: TempDir,
    env: Vec<(&'static str, String)>,
    pub(crate) origin: Origin,
}

impl Node {
    /// Returns a node of this name with the secret of the cluster.
    pub(crate) fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory for the node's data");
        let env = vec![
            ("FANFARE_CLUSTER_NATS", "nats://127.0.0.1:1".to_owned()),
            ("FANFARE_JWT_SECRET", SECRET.to_owned()),
        ];
        Self { folder, env, origin: origin(name) }
    }

    /// Sets a variable of the node's configuration.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.retain(|(one, _)| *one != name);
        self.env.push((name, value.into()));
        self
    }

    fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn try_join(&self, control: &Control) -> Result<Outcome, JoinError> {
        let data_dir = ("FANFARE_DATA_DIR", self.data_dir().display().to_string());
        let env = self.env.iter().cloned().chain([data_dir]);
        let config = Config::load(&Arguments::default(), env).expect("the settings are good");
        let secrets = secrets::ensure(self.data_dir(), &config).expect("a secret is set");
        let candidate = Candidate {
            origin: &self.origin,
            started: 1_795_960_920_000,
            effective: &Effective { config, secrets, public_keys: String::new() },
        };
        join(control, candidate, WINDOW).await
    }

    pub(crate) async fn joins(&self, control: &Control) -> Joined {
        match self.try_join(control).await.expect("NATS answers") {
            Outcome::Joined(joined) => *joined,
            Outcome::NotJoined(refused) => panic!("{refused}"),
        }
    }

    async fn is_refused(&self, control: &Control) -> NotJoined {
        match self.try_join(control).await.expect("NATS answers") {
            Outcome::Joined(joined) => panic!("{joined:?}"),
            Outcome::NotJoined(refused) => refused,
        }
    }

    /// Lets the node beat until the returned task is aborted.
    pub(crate) fn beats(&self, control: &Control, beat: &Beat) -> JoinHandle<()> {
        self.beats_in(control, beat, None)
    }

    /// The same in another version of messages, if there is one.
    fn beats_in(&self, control: &Control, beat: &Beat, version: Option<u32>) -> JoinHandle<()> {
        let (client, origin) = (control.client().clone(), self.origin.clone());
        let mut headers = HeaderMap::new();
        let body = Body::Beat(beat.clone());
        for (name, value) in body.headers(&origin.to_string(), None, None) {
            headers.insert(name, value);
        }
        if let Some(version) = version {
            headers.insert("Ff-V", version.to_string());
        }
        let payload = body.encode().expect("a heartbeat is short");
        tokio::spawn(async move {
            loop {
                let subject = format!("ff.in._hb.{}", origin.node);
                let sent =
                    client.publish_with_headers(subject, headers.clone(), payload.clone().into());
                sent.await.expect("the client takes it");
                sleep(Duration::from_millis(200)).await;
            }
        })
    }
}

fn origin(name: &str) -> Origin {
    let node = NodeName::read(name).expect("it is a name");
    Origin { node, incarnation: Incarnation(rand::random()) }
}

async fn entered(control: &Control) -> Vec<String> {
    let register = Register::open(control).await.expect("NATS answers");
    let nodes = register.nodes().await.expect("NATS answers");
    nodes.iter().map(|node| node.origin.node.to_string()).collect()
}

#[tokio::test]
async fn nodes_join_one_cluster_and_leave_it() {
    let nats = Nats::one();
    let control = control(&nats).await;
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    let first = one.joins(&control).await;
    assert!(first.nodes.is_empty() && first.notes.is_empty() && first.wire == VERSIONS.0);
    assert_eq!(first.anchors, (None, None));
    let second = two.joins(&control).await;
    assert_eq!(second.cluster, first.cluster);
    assert!(second.revision > first.revision);
    let known: Vec<_> = second.nodes.iter().map(|node| (&node.origin, node.revision)).collect();
    assert_eq!(known, [(&one.origin, first.revision)]);
    assert_eq!(second.nodes[0].entry.version, env!("CARGO_PKG_VERSION"));
    for node in [&one, &two] {
        assert_eq!(identity::cluster_id(node.data_dir()).unwrap().as_ref(), Some(&first.cluster));
    }
    assert!(control.info("FF_ORD").await.unwrap().is_some());
    let text = serde_json::to_string(&second.nodes[0].entry).unwrap();
    assert!(!text.contains(SECRET) && !text.contains("whsec_"), "{text}");

    first.register.remove(&one.origin.node, first.revision).await.unwrap();
    assert_eq!(entered(&control).await, ["n2"]);
    let again = one.joins(&control).await;
    assert!(again.revision > second.revision && again.cluster == first.cluster);
    first.register.remove(&one.origin.node, first.revision).await.unwrap();
    assert_eq!(entered(&control).await, ["n1", "n2"], "a later start of the node stays");
}

#[tokio::test]
async fn a_name_is_free_when_its_node_is_dead() {
    let nats = Nats::one();
    let control = control(&nats).await;
    let (one, other) = (Node::new("n1"), Node::new("n1"));
    let first = one.joins(&control).await;
    let beating = one.beats(&control, &Beat::default());
    let refused = other.is_refused(&control).await;
    assert_eq!(refused.obstacle, Obstacle::Name(one.origin.node.clone()));
    let expected = format!(
        "not joined: the name n1 is in use by another node; it runs on {} since \
         2026-11-29T14:02:00Z; set cluster.node to a name of its own",
        identity::host()
    );
    assert_eq!(refused.to_string(), expected);
    assert_eq!(first.register.nodes().await.unwrap()[0].origin, one.origin);
    beating.abort();
    let _ = beating.await;
    let second = other.joins(&control).await;
    assert!(second.revision > first.revision && second.nodes.is_empty());
    assert_eq!(first.register.nodes().await.unwrap()[0].origin, other.origin);
}

#[tokio::test]
async fn a_node_with_other_secrets_does_not_join() {
    let nats = Nats::one();
    let control = control(&nats).await;
    let one = Node::new("n1");
    one.joins(&control).await;
    let beating = one.beats(&control, &Beat::default());
    let anon_key = format!("anon_{}", "0d".repeat(32));
    let others = [
        (Node::new("n2").with("FANFARE_ANON_KEY", &*anon_key), &["auth.anon_key"][..]),
        (
            Node::new("n3")
                .with("FANFARE_JWT_SECRET", "x".repeat(32))
                .with("FANFARE_ANON_KEY", &*anon_key),
            &["auth.jwt_secret", "auth.anon_key"],
        ),
    ];
    let secrets = |keys: &[&str]| Obstacle::Secrets(keys.iter().map(|key| (*key).into()).collect());
    for (node, keys) in &others {
        // An entry, even for a moment, would keep out others that have the right secrets.
        let never_entered = async {
            loop {
                assert_eq!(entered(&control).await, ["n1"]);
                sleep(Duration::from_millis(20)).await;
            }
        };
        let refused = tokio::select! {
            refused = node.is_refused(&control) => refused,
            () = never_entered => unreachable!("it does not end"),
        };
        assert_eq!(refused.obstacle, secrets(keys));
        let (text, keys) = (refused.to_string(), keys.join(", "));
        assert!(text.starts_with(&format!("not joined: {keys} differ")), "{text}");
        assert!(text.contains(" of the other nodes; n1 on "), "{text}");
        let end = format!(" has other values: set {keys} alike on all nodes");
        assert!(text.ends_with(&end), "{text}");
    }
    // An entry that is no longer new counts as long as its node is heard.
    sleep(Duration::from_millis(REGISTER_FRESH_MS)).await;
    let refused = others[0].0.is_refused(&control).await;
    assert_eq!(refused.obstacle, secrets(&["auth.anon_key"]));
    beating.abort();
    let _ = beating.await;
    // When the others have ended, secrets can be changed.
    let end = Instant::now() + PATIENCE;
    while let Outcome::NotJoined(refused) = others[0].0.try_join(&control).await.unwrap() {
        assert!(Instant::now() < end, "{refused}");
    }
}

/// Rewrites the entry of a node as another release might have, which reads these messages.
async fn rewrite_entry(control: &Control, node: &str, wire: (u32, u32)) {
    let register = control.context().get_key_value("ff_node").await.expect("it was made");
    let key = format!("node.{node}");
    let text = register.get(&key).await.expect("NATS answers").expect("the node is entered");
    let mut entry: Value = serde_json::from_slice(&text).expect("it is JSON");
    entry["wire"] = json!(wire);
    entry["later"] = json!({ "more": [1] });
    register.put(&key, entry.to_string().into()).await.expect("NATS answers");
}

#[tokio::test]
async fn releases_without_a_common_version_of_messages_refuse_each_other() {
    let nats = Nats::one();
    let control = control(&nats).await;
    let (one, two) = (Node::new("n1"), Node::new("n2"));
    one.joins(&control).await;
    let later = VERSIONS.1 + 1;
    for (wire, version) in [((later, later + 1), later), ((1, 1), 1)] {
        rewrite_entry(&control, "n1", wire).await;
        let refused = two.is_refused(&control).await;
        assert_eq!(refused.obstacle, Obstacle::Messages(one.origin.node.clone()));
        // An entry that is no longer new counts as long as its node is heard, in whatever version.
        let beating = one.beats_in(&control, &Beat::default(), Some(version));
        sleep(Duration::from_millis(REGISTER_FRESH_MS)).await;
        let refused = two.is_refused(&control).await.to_string();
        let expected = format!(
            "not joined: the node n1 reads other versions of messages; n1 on {} reads {} to {}, \
             and this node {} to {}: update the older of the two releases",
            identity::host(),
            wire.0,
            wire.1,
            VERSIONS.0,
            VERSIONS.1
        );
        assert_eq!(refused, expected);
        assert_eq!(entered(&control).await, ["n1"]);
        beating.abort();
        let _ = beating.await;
    }
    // When the nodes of the other release have ended, this one joins.
    let end = Instant::now() + PATIENCE;
    while let Outcome::NotJoined(refused) = two.try_join(&control).await.unwrap() {
        assert!(Instant::now() < end, "{refused}");
    }
}

#[tokio::test]
async fn a_later_release_that_reads_the_same_messages_is_joined() {
    let nats = Nats::one();
    let control = control(&nats).await;
    Node::new("n1").joins(&control).await;
    rewrite_entry(&control, "n1", (VERSIONS.0, VERSIONS.1 + 1)).await;
    let joined = Node::new("n2").joins(&control).await;
    assert_eq!((joined.wire, joined.nodes.len()), (VERSIONS.0, 1));
}

#[tokio::test]
async fn settings_that_differ_are_told() {
    let nats = Nats::one();
    let control = control(&nats).await;
    Node::new("n1").joins(&control).await;
    let other = Node::new("n2").with("FANFARE_FORGE_REPLAY_SECONDS", "61");
    let joined = other.joins(&control).await;
    assert_eq!(joined.notes, ["settings that differ from those of n1: forge.replay_seconds"]);
}

#[tokio::test]
async fn two_clusters_do_not_share_a_prefix() {
    let nats = Nats::one();
    let control = control(&nats).await;
    let (one, two, stranger) = (Node::new("n1"), Node::new("n2"), Node::new("n3"));
    let first = one.joins(&control).await;
    two.joins(&control).await;
    let elsewhere = Nats::one();
    let other = crate::control::control(&elsewhere).await;
    let foreign = stranger.joins(&other).await;
    assert_ne!(foreign.cluster, first.cluster);
    let refused = stranger.is_refused(&control).await;
    assert_eq!(refused.obstacle, Obstacle::Prefix("ff".into()));
    let text = refused.to_string();
    let start = format!(
        "not joined: another cluster uses the prefix ff; this node belongs to the cluster {}, and \
         NATS has {}: choose another cluster.prefix or other servers, or remove /",
        foreign.cluster.as_str(),
        first.cluster.as_str()
    );
    assert!(text.starts_with(&start) && text.ends_with("/cluster-id to move the node"), "{text}");
    assert_eq!(entered(&control).await, ["n1", "n2"]);
    // If NATS has lost the register, the nodes bring the id back.
    control.context().delete_key_value("ff_node").await.unwrap();
    assert_eq!(two.joins(&control).await.cluster, first.cluster);
    assert_eq!(one.joins(&control).await.cluster, first.cluster);
}

#[tokio::test]
async fn every_configured_server_is_asked_for_its_version() {
    let nats = Nats::one();
    let old = Fake::with_info(&json!({ "version": "2.9.10", "headers": true }));
    let mixed = Control::connect(streams(&[nats.url(), old.url()])).await.unwrap();
    let refused = Node::new("n1").is_refused(&mixed).await;
    let text = format!(
        "not joined: NATS at {} is 2.9.10, 2.11 or newer is needed; older ones break the order of \
         a channel",
        old.url()
    );
    assert_eq!(refused.to_string(), text);
    let down = format!("nats://127.0.0.1:{}", free_port());
    let control = Control::connect(streams(&[nats.url(), down.clone()])).await.unwrap();
    let joined = Node::new("n1").joins(&control).await;
    assert_eq!(joined.notes.len(), 1);
    let start = format!("NATS at {down} cannot be asked: 127.0.0.1:");
    assert!(joined.notes[0].starts_with(&start), "{:?}", joined.notes);
}

#[tokio::test]
#[ignore = "needs an older server, which `tests/run long` installs"]
async fn a_real_server_that_is_too_old_is_not_joined() {
    let (nats, old) = (Nats::one(), Nats::old());
    let control = Control::connect(streams(&[old.url(), nats.url()])).await.unwrap();
    let refused = Node::new("n1").is_refused(&control).await;
    let version = Obstacle::Version(old.url().into(), OLD_VERSION.into());
    assert_eq!(refused.obstacle, version);
}

#[tokio::test]
async fn a_server_with_small_messages_is_refused() {
    let nats = Nats::with("max_payload: 65536");
    let control = control(&nats).await;
    let error = Node::new("n1").try_join(&control).await.unwrap_err().to_string();
    let text = format!(
        "NATS at {} takes messages of 65536 bytes at most, and a cluster needs 1048576 \
         (`max_payload`)",
        nats.url()
    );
    assert_eq!(error, text);
}

#[tokio::test]
async fn a_node_that_cannot_have_its_streams_is_not_entered() {
    let nats = Nats::one();
    let control = control(&nats).await;
    let foreign = stream::Config {
        name: "FF_INT".into(),
        subjects: vec!["x.>".into()],
        ..stream::Config::default()
    };
    control.context().create_stream(foreign).await.unwrap();
    let error = Node::new("n1").try_join(&control).await.unwrap_err();
    assert!(matches!(error, JoinError::Control(ControlError::Stream { .. })), "{error}");
    assert!(entered(&control).await.is_empty());
}

#[tokio::test]
async fn anchors_are_kept_and_never_replaced_by_earlier_ones() {
    let nats = Nats::one();
    let control = control(&nats).await;
    let register = Register::open(&control).await.unwrap();
    let anchor = |number| Anchor { nonce: u128::from(number) << 100 | 7, number };
    for stream in [Stream::Order, Stream::Claims] {
        assert_eq!(register.remembered(stream).await.unwrap(), None);
    }
    let all = (3..9).map(|number| register.remember(Stream::Order, anchor(number)));
    for kept in timeout(PATIENCE, futures_util::future::join_all(all)).await.unwrap() {
        kept.unwrap();
    }
    register.remember(Stream::Order, anchor(2)).await.unwrap();
    assert_eq!(register.remembered(Stream::Order).await.unwrap(), Some(anchor(8)));
    assert_eq!(register.remembered(Stream::Claims).await.unwrap(), None);
}
