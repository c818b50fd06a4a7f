//! The settings of a cluster, and its secrets.

use super::*;
use crate::config::Effective;
use crate::config::cluster::check;
use crate::config::secrets::{self, Origin, Secrets};

/// Returns the mistakes of settings that go wrong only together.
fn mistakes(toml: &str) -> String {
    let config = Files::new().load(format!("[cluster]\n{toml}"), &[]).expect(toml);
    let error = check(&config).map_err(|error| error.to_string()).err().unwrap_or_default();
    let names: Vec<_> = error.lines().map(|line| line.split_once("f.toml").unwrap().1).collect();
    names.join("\n")
}

const NEAR: &str = "nats = 'nats://127.0.0.1'\n";
const FAR: &str = "nats = ['nats://127.0.0.1', 'nats://nats-1']\n";

#[test]
fn urls_of_servers_are_a_text_or_an_array() {
    let files = Files::new();
    let given = |toml: &str| files.load(format!("cluster.nats = {toml}"), &[]);
    let shown = |config: &Config| {
        config.effective().lines().find(|line| line.starts_with("nats")).unwrap().to_owned()
    };
    for (toml, line) in [
        ("'nats://a'", "nats = \"nats://a:4222\""),
        ("['nats://a', 'tls://b:1']", "nats = [\"nats://a:4222\", \"tls://b:1\"]"),
        ("'nats://a, tls://b:1'", "nats = [\"nats://a:4222\", \"tls://b:1\"]"),
    ] {
        assert!(shown(&given(toml).unwrap()).starts_with(line), "{toml}");
    }
    let env = from_env(&[("FANFARE_CLUSTER_NATS", "nats://a,nats://b")]).unwrap();
    assert_eq!(env.cluster.nats.unwrap().len(), 2);
    let many: Vec<_> = (0..17).map(|n| format!("nats://n{n}")).collect();
    let many = format!("'{}'", many.join(","));
    let expected = "f.toml:1: `cluster.nats` must be 1 to 16 URLs with only host and port, such \
                    as `nats://10.0.0.5:4222` or `tls://nats.example.org`, separated by commas";
    let hunter = "'nats://user:hunter2@a'";
    for wrong in [
        "''",
        "[]",
        "1",
        "[1]",
        "'a:4222'",
        "'nats://a,'",
        "'nats://a,nats://a:4222'",
        &many,
        hunter,
    ] {
        assert_eq!(given(wrong).unwrap_err(), expected, "{wrong}");
    }
}

#[test]
fn names_and_numbers_of_a_cluster_have_bounds() {
    let plain = "must be a text without control characters or blanks at its ends";
    assert_explained(&[
        (
            "cluster.node = 'N1'",
            "f.toml:1: `cluster.node` must be 1 to 32 of `a-z`, `0-9` and `-`, not \"N1\"".into(),
        ),
        (
            "cluster.prefix = 'a-prefix-too-long'",
            "f.toml:1: `cluster.prefix` must be 1 to 16 of `a-z`, `0-9` and `-`, not \
             \"a-prefix-too-long\""
                .into(),
        ),
        ("cluster.replicas = 2", "f.toml:1: `cluster.replicas` must be 1, 3 or 5, not 2".into()),
        (
            "cluster.storage = 'disk'",
            "f.toml:1: `cluster.storage` must be `memory` or `file`, not \"disk\"".into(),
        ),
        ("cluster.user = ' '", format!("f.toml:1: `cluster.user` {plain}, not \" \"")),
        ("cluster.password = ''", format!("f.toml:1: `cluster.password` {plain}")),
        ("cluster.token = \"hunter2\\u0007\"", format!("f.toml:1: `cluster.token` {plain}")),
    ]);
}

#[test]
fn settings_of_a_cluster_go_together() {
    assert_eq!(mistakes("user = 'u'\ntls_key_file = 'k'"), "", "without a cluster nothing counts");
    for good in ["", "user = 'u'\npassword = 'p'", "token = 't'", "credentials_file = 'f'"] {
        assert_eq!(mistakes(&format!("{NEAR}{good}")), "", "{good}");
    }
    let two = |two: &str, one: &str| {
        format!("`cluster.{two}` and `cluster.{one}` are two ways to authenticate; set one of them")
    };
    for (settings, mistake) in [
        ("user = 'u'", ":3: `cluster.user` needs `cluster.password`, too".to_owned()),
        ("password = 'p'", ":3: `cluster.password` needs `cluster.user`, too".to_owned()),
        ("user = 'u'\npassword = 'p'\ntoken = 't'", format!(":5: {}", two("token", "user"))),
        (
            "token = 't'\ncredentials_file = 'f'",
            format!(":4: {}", two("credentials_file", "token")),
        ),
        (
            "tls_cert_file = 'f'",
            ":3: `cluster.tls_cert_file` needs `cluster.tls_key_file`, too".to_owned(),
        ),
        (
            "tls = 'off'\ntls_ca_file = 'f'",
            ":4: `cluster.tls_ca_file` has no effect while `cluster.tls` is off".to_owned(),
        ),
    ] {
        assert_eq!(mistakes(&format!("{NEAR}{settings}")), mistake, "{settings}");
    }
    assert_eq!(
        mistakes("nats = 'tls://127.0.0.1'\ntls = 'off'"),
        ":3: `cluster.tls` is off, but tls://127.0.0.1:4222 needs TLS"
    );
}

#[test]
fn servers_beyond_this_machine_need_credentials_and_tls() {
    let lacks = |what: &str| {
        format!(
            ":2: `cluster.nats` names nats://nats-1:4222, which is not on this machine, without \
             {what}; add what is missing, or set `cluster.private_network` to true if only the \
             cluster can reach that network"
        )
    };
    let credentials = "credentials (`cluster.user`, `cluster.token` or `cluster.credentials_file`)";
    let tls = "TLS (`cluster.tls` = \"on\", or a URL that begins with tls://)";
    let both = "credentials (such as `cluster.user`) and TLS (`cluster.tls` = \"on\")";
    assert_eq!(mistakes(FAR), lacks(both));
    assert_eq!(mistakes(&format!("{FAR}tls = 'on'")), lacks(credentials));
    assert_eq!(mistakes(&format!("{FAR}token = 't'")), lacks(tls));
    assert_eq!(mistakes(&format!("{FAR}token = 't'\ntls = 'auto'")), lacks(tls));
    assert_eq!(mistakes(&format!("{FAR}token = 't'\ntls = 'on'")), "");
    assert_eq!(mistakes(&format!("{FAR}private_network = true")), "");
    assert_eq!(mistakes("nats = 'nats://127.0.0.1,tls://nats-1'\ntoken = 't'"), "");
    let certificate = "tls_cert_file = 'c'\ntls_key_file = 'k'\ntls = 'on'";
    assert_eq!(mistakes(&format!("{FAR}{certificate}")), "", "a certificate is a credential");
}

fn clustered(env: &[(&str, &str)]) -> Config {
    let nats = [("FANFARE_CLUSTER_NATS", "nats://127.0.0.1")];
    from_env(&[&nats[..], env].concat()).unwrap()
}

const SECRET: (&str, &str) = ("FANFARE_JWT_SECRET", "0123456789abcdef0123456789abcdef");

fn ensured(data_dir: &Path, env: &[(&str, &str)]) -> Result<Secrets, String> {
    secrets::ensure(data_dir, &clustered(env)).map_err(|error| error.to_string())
}

#[test]
fn a_cluster_makes_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let error = ensured(dir.path(), &[]).unwrap_err();
    let expected = "`auth.jwt_secret` must be set, because `cluster.nats` is: all nodes \
                    of a cluster need the same secret, so that none is made";
    assert_eq!(error, expected);
    let config = Config { data_dir: dir.path().to_owned(), ..clustered(&[]) };
    assert_eq!(secrets::inspect(&config).unwrap_err().to_string(), expected);
    let given = ensured(dir.path(), &[SECRET]).unwrap();
    assert!(!given.created && fs::read_dir(dir.path()).unwrap().count() == 0);
    // All nodes and all versions must agree on them.
    assert_eq!(
        [&given.api_key, &given.anon_key, &given.webhook_secret].map(Secret::expose),
        [
            "ik_799ff8c3f7336395227dfaa5b011b9ea6bd5138542230798d7d30fa727ed232a",
            "anon_2447ac6f1e40295a7b6c82633de9634fe872877cefdebce56f814f710f7e090b",
            "whsec_512e381c207356c2eedf15eb543087dd6ca759abe74cfff9be0cb960f05c901d"
        ]
    );
    let from = [Origin::Derived, Origin::Derived, Origin::Configured, Origin::Derived];
    assert_eq!(given.origins, from);
    let config = Config { data_dir: dir.path().to_owned(), ..clustered(&[SECRET]) };
    assert_eq!(secrets::client_keys(&config), Ok((given.api_key.clone(), given.anon_key.clone())));
    let again = secrets::read_again(dir.path(), &config).unwrap();
    assert_eq!(again.webhook_secret, given.webhook_secret);
    let lines = config.effective();
    assert!(lines.contains("\n# api_key is in keys.toml, or else derived from auth.jwt_secret\n"));

    let other = ensured(dir.path(), &[("FANFARE_JWT_SECRET", &"x".repeat(32))]).unwrap();
    assert_ne!(other.api_key, given.api_key);
}

#[test]
fn configured_secrets_win_over_the_file_over_derived_ones() {
    let dir = tempfile::tempdir().unwrap();
    let alone = secrets::ensure(dir.path(), &Config::defaults()).unwrap();
    assert_eq!(alone.origins, [Origin::File; 4]);
    let kept = ensured(dir.path(), &[]).unwrap();
    assert_eq!((&kept.jwt_secret, kept.origins), (&alone.jwt_secret, [Origin::File; 4]));
    let mixed = ensured(dir.path(), &[SECRET, ("FANFARE_API_KEY", &api_key())]).unwrap();
    assert_eq!((mixed.api_key.expose(), &mixed.anon_key), (&*api_key(), &alone.anon_key));
    let from = [Origin::Configured, Origin::File, Origin::Configured, Origin::File];
    assert_eq!(mixed.origins, from);
    // A file of a cluster need not have all.
    fs::write(dir.path().join("keys.toml"), format!("api_key = '{}'", api_key())).unwrap();
    let partial = ensured(dir.path(), &[SECRET]).unwrap();
    let from = [Origin::File, Origin::Derived, Origin::Configured, Origin::Derived];
    assert_eq!((partial.api_key.expose(), partial.origins), (&*api_key(), from));
}

fn fingerprints(env: &[(&str, &str)], keys: &str, cluster: &str) -> Fingerprints {
    let dir = tempfile::tempdir().unwrap();
    let config = clustered(env);
    let secrets = ensured(dir.path(), env).unwrap();
    Fingerprints::new(&Effective { config, secrets, public_keys: keys.into() }, cluster)
}

#[test]
fn fingerprints_tell_which_secret_differs_and_no_more() {
    let own = fingerprints(&[SECRET], "k", "c1");
    assert!(own.differing_secrets(&fingerprints(&[SECRET], "k", "c1")).is_empty());
    let anon_key = format!("anon_{}", "0d".repeat(32));
    let readers = readers_key();
    let secret = format!("whsec_{}", "0e".repeat(32));
    for (env, keys, differs) in [
        (("FANFARE_API_KEY", api_key()), "k", "auth.api_key"),
        (("FANFARE_ANON_KEY", anon_key), "k", "auth.anon_key"),
        (("FANFARE_WEBHOOKS_SECRET", secret), "k", "webhooks.secret"),
        (("FANFARE_M2_API_KEY", readers), "k", "m2.api_key"),
        (("FANFARE_LOG", "debug".to_owned()), "l", "auth.public_keys_file or auth.jwks_file"),
    ] {
        let other = fingerprints(&[SECRET, (env.0, &env.1)], keys, "c1");
        assert_eq!(own.differing_secrets(&other), [differs]);
        assert_eq!(other.differing_secrets(&own), [differs]);
    }
    // With another key, what follows from it is not named, and what is set is.
    let other_secret = ("FANFARE_JWT_SECRET", &*"x".repeat(32));
    let other = fingerprints(&[other_secret], "k", "c1");
    assert_eq!(own.differing_secrets(&other), ["auth.jwt_secret"]);
    let other = fingerprints(&[other_secret, ("FANFARE_API_KEY", &api_key())], "l", "c1");
    let all = ["auth.jwt_secret", "auth.api_key", "auth.public_keys_file or auth.jwks_file"];
    assert_eq!(
        (own.differing_secrets(&other), other.differing_secrets(&own)),
        (all.into(), all.into())
    );
    // An entry of an earlier build lacks what is compared then.
    let earlier = Fingerprints { alone: std::collections::BTreeMap::new(), ..other };
    assert_eq!(own.differing_secrets(&earlier), ["auth.jwt_secret"]);
    // The same secret has another fingerprint in another cluster and under another key.
    let elsewhere = fingerprints(&[SECRET], "k", "c2");
    assert!(own.secrets.iter().all(|(key, one)| elsewhere.secrets[key] != *one));
    assert_ne!(own.alone["auth.jwt_secret"], elsewhere.alone["auth.jwt_secret"]);
    let same = format!("ik_{}", "0a".repeat(32));
    let (one, two) = (
        fingerprints(&[SECRET, ("FANFARE_API_KEY", &same)], "k", "c1"),
        fingerprints(&[SECRET, ("FANFARE_M2_API_KEY", &same)], "k", "c1"),
    );
    assert_ne!(one.secrets["auth.api_key"], two.secrets["m2.api_key"]);
    assert!(own.secrets.values().all(|one| one.len() == 32));
}

#[test]
fn settings_that_clients_notice_are_compared() {
    let own = fingerprints(&[SECRET], "k", "c");
    let env = [
        SECRET,
        ("FANFARE_CLUSTER_POLLING", "pass"),
        ("FANFARE_FORGE_REPLAY_SECONDS", "61"),
        ("FANFARE_RECOVERY_WINDOW_MS", "5"),
    ];
    let other = fingerprints(&env, "k", "c");
    let all = ["cluster.polling", "forge.replay_seconds", "recovery.window_ms"];
    assert_eq!(own.differing_settings(&other), all);
    let log = fingerprints(&[SECRET, ("FANFARE_WORKERS", "3")], "k", "c");
    assert_eq!(own.differing_settings(&log), Vec::<&str>::new());
    let text = format!("{own:?}");
    assert!(!own.settings.contains_key("m2.api_key") && text.contains("auth.close_expired"));
    // An older release knows fewer.
    let mut older = other;
    older.settings.remove("forge.replay_seconds");
    assert_eq!(own.differing_settings(&older), ["cluster.polling", "recovery.window_ms"]);
}
