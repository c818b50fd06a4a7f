//! Mistakes in configurations, and what the operator reads.

use std::collections::HashSet;
use std::fs;

use proptest::prelude::*;
use tracing::Level;

use super::*;
use crate::message::SlowConsumer;

mod cluster;
mod containers;

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Loads a file with this content, called `f.toml` in what is returned.
    fn load(&self, toml: impl AsRef<[u8]>, env: &[(&str, &str)]) -> Result<Config, String> {
        let path = self.dir.path().join("f.toml");
        fs::write(&path, toml).unwrap();
        let arguments = Arguments { config: Some(path), ..Arguments::default() };
        let loaded = Config::load(&arguments, pairs(env));
        let dir = format!("{}/", self.dir.path().display());
        loaded.map_err(|error| error.to_string().replace(&dir, ""))
    }
}

fn pairs(env: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

fn from_env(env: &[(&str, &str)]) -> Result<Config, String> {
    Config::load(&Arguments::default(), pairs(env)).map_err(|error| error.to_string())
}

fn api_key() -> String {
    format!("ik_{}", "0a".repeat(32))
}

fn readers_key() -> String {
    "!~+/0123456789abcdefghijklmnopqr".to_owned()
}

#[test]
fn told_nothing_a_node_has_its_defaults() {
    let config = from_env(&[("PATH", "/bin"), ("fanfare_listen", "x")]).unwrap();
    assert_eq!(config.listen, ["127.0.0.1:7130".parse().unwrap()]);
    assert_eq!(config.data_dir, PathBuf::from("./fanfare-data"));
    assert!((1..=crate::limits::WORKERS_MAX).contains(&config.workers));
    assert_eq!(config.acceptor_threads, 0);
    assert!(config.pin_threads && !config.conformance);
    assert_eq!(config.log, Level::INFO);
    let engine_io = EngineIo {
        ping_interval_ms: 25_000,
        ping_timeout_ms: 20_000,
        connect_timeout_ms: 45_000,
        upgrade_timeout_ms: 10_000,
        client_dir: None,
    };
    assert_eq!(config.engine_io, engine_io);
    let http = Http {
        head_timeout_ms: 10_000,
        body_timeout_ms: 30_000,
        idle_timeout_ms: 75_000,
        write_timeout_ms: 30_000,
    };
    assert_eq!(config.http, http);
    assert_eq!(config.recovery.window_ms, 0);
    assert!(!config.auth.close_expired);
    assert!(config.auth.api_key.is_none() && config.auth.jwks_file.is_none());
    let Webhooks { secret, timeout_ms, allow_private } = config.webhooks;
    assert_eq!((secret, timeout_ms, allow_private), (None, 10_000, false));
    let forge = Forge {
        replay_seconds: 60,
        linger_ms: 0,
        rate_limit: 0,
        token_lifetime_s: 3_600,
        enforce_token_expiry: false,
        payload_bytes: 262_144,
        require_scopes: false,
        slow_consumer: SlowConsumer::Close,
        trust_network: None,
    };
    assert_eq!(config.forge, forge);
    let m2 = M2 {
        require_auth: true,
        api_key: None,
        require_project: true,
        notify_deletes: true,
        subscriptions: 1_000,
    };
    assert_eq!(config.m2, m2);
}

#[test]
fn the_command_line_wins_over_the_environment_over_the_file() {
    let files = Files::new();
    let toml = "workers = 2\nlog = 'warn'\nacceptor_threads = 0x3\n[http]\nidle_timeout_ms = 1_000";
    let env = [("FANFARE_WORKERS", "3"), ("FANFARE_LOG", "trace")];
    let config = files.load(toml, &env).unwrap();
    assert_eq!((config.workers, config.log), (3, Level::TRACE));
    assert_eq!((config.acceptor_threads, config.http.idle_timeout_ms), (3, 1_000));

    let arguments = Arguments {
        config: Some(files.dir.path().join("f.toml")),
        listen: Some("[::1]:0".into()),
        data_dir: Some("/elsewhere".into()),
        workers: Some("4".into()),
        conformance: true,
    };
    let config = Config::load(&arguments, pairs(&env)).unwrap();
    assert_eq!((config.workers, config.log), (4, Level::TRACE));
    assert_eq!(config.listen, ["[::1]:0".parse().unwrap()]);
    assert_eq!(config.data_dir, PathBuf::from("/elsewhere"));
    assert!(config.conformance);
}

#[test]
fn every_key_can_be_set_by_file_and_by_environment() {
    let files = Files::new();
    for key in KEYS {
        let text = match key.name {
            "listen" | "admin.listen" => "0.0.0.0:80".to_owned(),
            "listen_mode" => "600".to_owned(),
            "log" => "debug".to_owned(),
            "log_format" => "json".to_owned(),
            "io.backend" => "direct".to_owned(),
            "io.zerocopy_bytes" => "16384".to_owned(),
            "websocket.compression" => "on".to_owned(),
            "websocket.compression_bytes" => "2048".to_owned(),
            "pin_threads" | "m2.require_auth" => "false".to_owned(),
            "m2.require_project" | "m2.notify_deletes" => "false".to_owned(),
            "m2.api_key" => readers_key(),
            "auth.close_expired" | "forge.enforce_token_expiry" => "true".to_owned(),
            "forge.require_scopes" | "forge.trust_network" => "true".to_owned(),
            "forge.replay_seconds" | "forge.rate_limit" => "61".to_owned(),
            "m2.subscriptions" => "4096".to_owned(),
            "forge.token_lifetime_s" | "forge.payload_bytes" => "2048".to_owned(),
            "forge.slow_consumer" => "drop_oldest".to_owned(),
            "recovery.log_bytes" => "1048576".to_owned(),
            "memory.client_bytes" => "33554432".to_owned(),
            "webhooks.allow_private" => "true".to_owned(),
            "webhooks.secret" => format!("whsec_{}", "5e".repeat(32)),
            "auth.api_key" => api_key(),
            "auth.anon_key" => format!("anon_{}", "AF".repeat(32)),
            "auth.previous_api_keys" => format!("ik_{}", "z.".repeat(15)),
            "auth.previous_anon_keys" => format!("anon_{}", "-~".repeat(14)),
            "auth.issuers" | "auth.jwks_url" => "https://issuer.example/keys".to_owned(),
            "auth.jwt_secret" => "s".repeat(32),
            "mailbox_publications" => "16".to_owned(),
            name if name.starts_with("limits.") => "64".to_owned(),
            "proxy.trusted" => "10.0.0.0/8".to_owned(),
            "proxy.protocol" => "true".to_owned(),
            "cors.allowed_origins" => "https://*.example.com".to_owned(),
            "cluster.nats" => "tls://nats-1.example.org:4333".to_owned(),
            "cluster.node" | "cluster.prefix" | "cluster.user" => "blue-7".to_owned(),
            "cluster.password" | "cluster.token" => "hunter2".to_owned(),
            "cluster.replicas" => "3".to_owned(),
            "cluster.storage" => "file".to_owned(),
            "cluster.polling" => "pass".to_owned(),
            "cluster.stream_bytes" => "67108864".to_owned(),
            "postgres.url" => "postgres://fanfare:hunter2@db.example.org/app".to_owned(),
            "postgres.owner" => "insforge".to_owned(),
            "cluster.tls" => "on".to_owned(),
            "cluster.private_network" => "true".to_owned(),
            name if name.ends_with("_ms") || name.contains("threads") => "64".to_owned(),
            "workers" => "250".to_owned(),
            _ => "some/path".to_owned(),
        };
        let bare = text.parse::<u64>().is_ok() || text.parse::<bool>().is_ok();
        let value = if bare { text.clone() } else { format!("{text:?}") };
        let shown = (key.name.rsplit('.').next().unwrap(), format!(" = {value}"));
        let ends = ["_key", "_keys", "secret", "password", "token", ".url"];
        let masked = ends.iter().any(|end| key.name.ends_with(end));
        let expected = if masked { " = \"[masked]\"".to_owned() } else { shown.1 };
        let file = format!("{}/f.toml:1", files.dir.path().display());
        // What the key needs.
        let also = if key.name == "proxy.protocol" { "proxy.trusted = 'unix'" } else { "" };
        for (loaded, place) in [
            (files.load(format!("{} = {value}\n{also}", key.name), &[]), file),
            (files.load(also, &[(key.env, &text)]), format!("environment variable {}", key.env)),
        ] {
            let effective = loaded.unwrap().effective();
            let line = format!("{}{expected}  # {place}\n", shown.0);
            assert!(effective.contains(&line), "{}: no {line:?} in\n{effective}", key.name);
        }
    }
}

#[test]
fn a_rate_is_a_number_or_a_name() {
    let files = Files::new();
    let given = |toml: &str| files.load(format!("[forge]\nrate_limit = {toml}"), &[]);
    for (toml, rate) in [("\"off\"", 0), ("'forge'", 50), ("1", 1), ("1_000_000", 1_000_000)] {
        assert_eq!(given(toml).unwrap().forge.rate_limit, rate, "{toml}");
    }
    let expected = "must be `off`, `forge` or a whole number from 1 to 1000000, not";
    for (toml, shown) in [("0", "0"), ("1000001", "1000001"), ("'50'", "\"50\""), ("1.5", "1.5")] {
        let error = given(toml).unwrap_err();
        assert_eq!(error, format!("f.toml:2: `forge.rate_limit` {expected} {shown}"));
    }
    for (text, rate) in [("off", 0), ("forge", 50), ("7", 7)] {
        let config = from_env(&[("FANFARE_FORGE_RATE_LIMIT", text)]).unwrap();
        assert_eq!(config.forge.rate_limit, rate);
    }
    assert!(from_env(&[("FANFARE_FORGE_RATE_LIMIT", "Off")]).is_err());
    assert!(from_env(&[("FANFARE_FORGE_SLOW_CONSUMER", "latest")]).is_err());
    let config = from_env(&[("FANFARE_FORGE_SLOW_CONSUMER", "drop_oldest")]).unwrap();
    assert_eq!(config.forge.slow_consumer, SlowConsumer::DropOldest);
}

#[test]
fn what_is_effective_is_itself_a_configuration() {
    let files = Files::new();
    let config = files.load("workers = 7\n[http]\nhead_timeout_ms = 60", &[]).unwrap();
    let again = files.load(config.effective(), &[]).unwrap();
    let values = |config: &Config| {
        let lines = config.effective();
        let lines = lines.lines().map(|line| line.split("  # ").next().unwrap().to_owned());
        lines.collect::<Vec<_>>()
    };
    assert_eq!(values(&again), values(&config));
    assert_eq!((again.workers, again.http.head_timeout_ms), (7, 60));
    assert!(config.effective().contains(
        "\n[auth]\n# api_key is kept in ./fanfare-data/keys.toml, made at first start\n"
    ));
    assert!(config.effective().contains("\n# jwks_file is not set\n"));
    assert!(config.effective().starts_with("listen = \"127.0.0.1:7130\"  # default\n"));
}

/// What a place to listen must be.
const PLACE: &str = "must be an IP address and port, such as `127.0.0.1:7130`, or a unix socket, \
                     such as `unix:/run/fanfare.sock` (up to 16, with commas between them)";

fn assert_explained(cases: &[(&str, String)]) {
    let files = Files::new();
    for (toml, expected) in cases {
        let error = files.load(toml, &[]).expect_err(toml);
        assert_eq!(&error, expected, "{toml:?}");
        assert!(!error.contains("hunter2"));
    }
}

#[test]
fn numbers_out_of_bounds_are_explained() {
    let number = |name: &str, line: u32, range: &str, given: &str| {
        format!("f.toml:{line}: `{name}` must be a whole number from {range}, not {given}")
    };
    let ping = "engine_io.ping_interval_ms";
    assert_explained(&[
        ("workers = 0", number("workers", 1, "1 to 250", "0")),
        ("\n\nworkers = 251", number("workers", 3, "1 to 250", "251")),
        ("workers = -1", number("workers", 1, "1 to 250", "-1")),
        ("workers = '4'", number("workers", 1, "1 to 250", "\"4\"")),
        ("workers = 1.5", number("workers", 1, "1 to 250", "1.5")),
        ("workers = [1]", number("workers", 1, "1 to 250", "a value of type array")),
        ("[workers]\nn = 1", number("workers", 1, "1 to 250", "a value of type table")),
        (
            "workers = 99999999999999999999",
            number("workers", 1, "1 to 250", "99999999999999999999"),
        ),
        ("acceptor_threads = 65", number("acceptor_threads", 1, "0 to 64", "65")),
        ("[engine_io]\nping_interval_ms = 49", number(ping, 2, "50 to 3600000", "49")),
        ("engine_io.ping_interval_ms = 3600001", number(ping, 1, "50 to 3600000", "3600001")),
        ("engine_io = { ping_interval_ms = 0 }", number(ping, 1, "50 to 3600000", "0")),
        (
            "workers = 0\nx = 1",
            number("workers", 1, "1 to 250", "0") + "\nf.toml:2: unknown key `x`",
        ),
    ]);
}

#[test]
fn values_of_the_wrong_form_are_explained() {
    let listen = format!("{PLACE}, not");
    let readers = "f.toml:2: `m2.api_key` must be at least 32 printable ASCII characters \
                   without blanks";
    assert_explained(&[
        ("listen = 'localhost:7130'", format!("f.toml:1: `listen` {listen} \"localhost:7130\"")),
        ("listen = '127.0.0.1'", format!("f.toml:1: `listen` {listen} \"127.0.0.1\"")),
        ("listen = 7130", format!("f.toml:1: `listen` {listen} 7130")),
        ("data_dir = ''", "f.toml:1: `data_dir` must be a path, not \"\"".into()),
        ("data_dir = true", "f.toml:1: `data_dir` must be a path, not true".into()),
        (
            "pin_threads = 'yes'",
            "f.toml:1: `pin_threads` must be `true` or `false`, not \"yes\"".into(),
        ),
        (
            "log = 'INFO'",
            "f.toml:1: `log` must be `error`, `warn`, `info`, `debug` or `trace`, not \"INFO\""
                .into(),
        ),
        (
            "[auth]\n# key\napi_key = 'ik_hunter2'",
            "f.toml:3: `auth.api_key` must be `ik_` and more, at least 32 characters of `A-Z`, `a-z`, `0-9` and `-._~+/=`".into(),
        ),
        (
            "[auth]\nanon_key = 5",
            "f.toml:2: `auth.anon_key` must be `anon_` and more, at least 32 characters of `A-Z`, `a-z`, `0-9` and `-._~+/=`".into(),
        ),
        (
            "auth.jwt_secret = 'hunter2'",
            "f.toml:1: `auth.jwt_secret` must be a text of at least 32 bytes without control characters or blanks at its ends".into(),
        ),
        (
            "[webhooks]\nsecret = 'whsec_hunter2'",
            "f.toml:2: `webhooks.secret` must be `whsec_` and more, at least 32 characters of `A-Z`, `a-z`, `0-9` and `-._~+/=`".into(),
        ),
        ("[m2]\napi_key = 'hunter2'", readers.into()),
        ("[m2]\napi_key = 'hunter2 hunter2 hunter2 hunter2 hunter2'", readers.into()),
        ("[m2]\napi_key = 'hunter2-hunter2-hunter2-hunter2-ü'", readers.into()),
        ("[m2]\napi_key = \"hunter2-hunter2-hunter2-\\nhunter2-\"", readers.into()),
        (
            "m2.subscriptions = 0",
            "f.toml:1: `m2.subscriptions` must be a whole number from 1 to 4096, not 0".into(),
        ),
    ]);
}

#[test]
fn unknown_keys_are_explained() {
    assert_explained(&[
        ("worker = 1", "f.toml:1: unknown key `worker`; did you mean `workers`?".into()),
        ("zebra = 1", "f.toml:1: unknown key `zebra`".into()),
        ("[m1]\nx = 1", "f.toml:1: unknown key `m1`; did you mean `m2`?".into()),
        ("conformance = true", "f.toml:1: unknown key `conformance`".into()),
        ("[engineio]\nx = 1", "f.toml:1: unknown key `engineio`; did you mean `engine_io`?".into()),
        (
            "[http]\n\nidle_timeout = 1",
            "f.toml:3: unknown key `http.idle_timeout`; did you mean `http.idle_timeout_ms`?"
                .into(),
        ),
        (
            "ping_interval_ms = 300",
            "f.toml:1: unknown key `ping_interval_ms`; did you mean `engine_io.ping_interval_ms`?"
                .into(),
        ),
        (
            "[http.tls]\ncert = 1",
            "f.toml:1: unknown key `http.tls`; did you mean `cluster.tls`?".into(),
        ),
        ("http = 5", "f.toml:1: `http` is a section: write `[http]` and its keys below it".into()),
        (
            "x = 1\n\"y\\u001B'\\n\" = 1",
            "f.toml:1: unknown key `x`\nf.toml:2: unknown key `y\\u{1b}'\\n`".into(),
        ),
    ]);
}

#[test]
fn what_is_not_toml_is_explained_without_being_quoted() {
    let files = Files::new();
    for (toml, place) in [
        ("workers = 1\nworkers = 2", "f.toml:2: not valid TOML: duplicate key"),
        ("[auth]\napi_key = ik_hunter2", "f.toml:2: not valid TOML: "),
        ("[auth]\njwt_secret = \"hunter2", "f.toml:2: not valid TOML: "),
        ("[http", "f.toml:1: not valid TOML: "),
        ("\n\n= 1", "f.toml:3: not valid TOML: "),
    ] {
        let error = files.load(toml, &[]).expect_err(toml);
        assert!(error.starts_with(place), "{toml:?} gave {error:?}");
        assert!(!error.contains("hunter2") && !error.contains('\n'), "{error}");
    }
    assert_eq!(
        files.load(b"\n\xFF", &[]).unwrap_err(),
        "argument --config: f.toml: line 2 is not UTF-8 text"
    );
    let long = "#".repeat(1024 * 1024 + 1);
    assert_eq!(
        files.load(long, &[]).unwrap_err(),
        "argument --config: f.toml: longer than 1048576 bytes"
    );
}

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    let files = Files::new();
    let load = |name: &str| {
        let config = Some(files.dir.path().join(name));
        let arguments = Arguments { config, ..Arguments::default() };
        Config::load(&arguments, pairs(&[])).unwrap_err().to_string()
    };
    assert!(
        load("none.toml")
            .ends_with("none.toml: cannot be read: No such file or directory (os error 2)")
    );
    assert!(load("").ends_with(": cannot be read: Is a directory (os error 21)"));
}

#[test]
fn broken_environments_are_explained() {
    let variable = |name: &str| format!("environment variable FANFARE_{name}");
    let cases: &[(&str, &str, String)] = &[
        (
            "FANFARE_WORKERS",
            "many",
            variable("WORKERS: `workers` must be a whole number from 1 to 250, not \"many\""),
        ),
        (
            "FANFARE_WORKERS",
            "",
            variable("WORKERS: `workers` must be a whole number from 1 to 250, not \"\""),
        ),
        (
            "FANFARE_PIN_THREADS",
            "1",
            variable("PIN_THREADS: `pin_threads` must be `true` or `false`, not \"1\""),
        ),
        (
            "FANFARE_API_KEY",
            "hunter2",
            variable(
                "API_KEY: `auth.api_key` must be `ik_` and more, at least 32 characters of `A-Z`, `a-z`, `0-9` and `-._~+/=`",
            ),
        ),
        (
            "FANFARE_JWT_SECRET",
            "",
            variable(
                "JWT_SECRET: `auth.jwt_secret` must be a text of at least 32 bytes without control characters or blanks at its ends",
            ),
        ),
        (
            "FANFARE_AUTH_API_KEY",
            "",
            "unknown environment variable `FANFARE_AUTH_API_KEY`; did you mean `FANFARE_API_KEY`?"
                .into(),
        ),
        (
            "FANFARE_M2_APIKEY",
            "",
            "unknown environment variable `FANFARE_M2_APIKEY`; did you mean `FANFARE_M2_API_KEY`?"
                .into(),
        ),
        (
            "FANFARE_LISTN",
            "",
            "unknown environment variable `FANFARE_LISTN`; did you mean `FANFARE_LISTEN`?".into(),
        ),
        (
            "FANFARE_COMPLETELY_ELSE",
            "",
            "unknown environment variable `FANFARE_COMPLETELY_ELSE`".into(),
        ),
        ("FANFARE_", "", "unknown environment variable `FANFARE_`".into()),
    ];
    for (name, value, expected) in cases {
        assert_eq!(&from_env(&[(name, value)]).expect_err(name), expected);
    }
}

#[test]
fn what_is_not_text_is_explained() {
    use std::os::unix::ffi::OsStringExt as _;
    let not_text = || OsString::from_vec(vec![b'/', 0xFF]);
    let load = |name: &str| {
        Config::load(&Arguments::default(), std::iter::once((OsString::from(name), not_text())))
    };
    let error = load("FANFARE_WORKERS").unwrap_err().to_string();
    assert!(error.ends_with("from 1 to 250, not \"/\u{FFFD}\""), "{error}");
    assert_eq!(load("FANFARE_DATA_DIR").unwrap().data_dir, PathBuf::from(not_text()));
}

#[test]
fn secrets_in_the_wrong_place_are_not_repeated() {
    for secret in [api_key(), "eyJhbGciOiJ.x.y".into(), "-----BEGIN PRIVATE KEY-----\nx".into()] {
        for name in ["FANFARE_LISTEN", "FANFARE_WORKERS", "FANFARE_LOG"] {
            let error = from_env(&[(name, &secret)]).unwrap_err();
            assert!(error.ends_with(", not \"[masked]\""), "{error}");
        }
    }
    let pem = "-----BEGIN PRIVATE KEY-----\nhunter2\n";
    assert_eq!(
        from_env(&[("FANFARE_JWKS_FILE", pem)]).unwrap_err(),
        "environment variable FANFARE_JWKS_FILE: `auth.jwks_file` must be a path, not \"[masked]\""
    );
}

#[test]
fn all_mistakes_are_named_in_the_order_of_their_sources() {
    let files = Files::new();
    let toml = "workers = 0\n[http]\nhead = 1\nidle_timeout_ms = 1";
    let env = [("FANFARE_WORKERS", "many"), ("FANFARE_LISTN", "")];
    let error = files.load(toml, &env).unwrap_err();
    let starts: Vec<_> = error.lines().map(|line| line.split(" `").next().unwrap()).collect();
    let expected = [
        "f.toml:1:",
        "f.toml:3: unknown key",
        "f.toml:4:",
        "unknown environment variable",
        "environment variable FANFARE_WORKERS:",
    ];
    assert_eq!(starts, expected, "{error}");
    let error = files.load("= 1", &env).unwrap_err();
    assert_eq!(error.lines().count(), 3, "what is not TOML does not hide the rest: {error}");
}

#[test]
fn broken_arguments_are_explained() {
    let load = |arguments: Arguments| {
        Config::load(&arguments, pairs(&[])).map(drop).map_err(|error| error.to_string())
    };
    let listen = Arguments { listen: Some("7130".into()), ..Arguments::default() };
    let expected = format!("argument --listen: `listen` {PLACE}, not \"7130\"");
    assert_eq!(load(listen), Err(expected));
    let workers = Arguments { workers: Some("0".into()), ..Arguments::default() };
    let expected = "argument --workers: `workers` must be a whole number from 1 to 250, not \"0\"";
    assert_eq!(load(workers), Err(expected.into()));
    let data_dir = Arguments { data_dir: Some("".into()), ..Arguments::default() };
    let expected = "argument --data-dir: `data_dir` must be a path, not \"\"";
    assert_eq!(load(data_dir), Err(expected.into()));
}

/// Returns the error of `--conformance` on this address.
fn refused(listen: &str) -> String {
    format!(
        "argument --conformance: serves without authentication and is refused on {listen}: listen \
         on a loopback address such as 127.0.0.1:7130"
    )
}

#[test]
fn conformance_is_for_loopback_addresses_only() {
    let load = |listen: &str| {
        let listen = Some(listen.into());
        let arguments = Arguments { listen, conformance: true, ..Arguments::default() };
        Config::load(&arguments, pairs(&[]))
    };
    for listen in ["127.0.0.1:0", "127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(load(listen).unwrap().conformance, "{listen}");
    }
    for listen in ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "[::ffff:10.0.0.1]:1"] {
        let error = load(listen).unwrap_err();
        assert_eq!(error.to_string(), refused(listen));
    }
    // The address may come from another source.
    let arguments = Arguments { conformance: true, ..Arguments::default() };
    assert!(Config::load(&arguments, pairs(&[("FANFARE_LISTEN", "0.0.0.0:1")])).is_err());
}

#[test]
fn m2_without_authentication_is_for_loopback_addresses_only() {
    let files = Files::new();
    let toml = |listen: &str| format!("listen = '{listen}'\n[m2]\nrequire_auth = false");
    for listen in ["127.0.0.1:0", "127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(!files.load(toml(listen), &[]).unwrap().m2.require_auth, "{listen}");
    }
    for listen in ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "[::ffff:10.0.0.1]:1"] {
        let error = files.load(toml(listen), &[]).unwrap_err();
        let expected = format!(
            "f.toml:3: `m2.require_auth` = false serves M2 without authentication and is refused \
             on {listen}: set `listen` to a loopback address such as 127.0.0.1:7130, or \
             `m2.require_auth` to true"
        );
        assert_eq!(error, expected);
        let lifted = files.load(toml(listen), &[("FANFARE_M2_REQUIRE_AUTH", "true")]);
        assert!(lifted.unwrap().m2.require_auth, "what is in effect counts");
        let moved = files.load(toml(listen), &[("FANFARE_LISTEN", "127.0.0.1:1")]);
        assert!(!moved.unwrap().m2.require_auth, "what is in effect counts");
    }
    let env = [("FANFARE_M2_REQUIRE_AUTH", "false")];
    let listen = Some("0.0.0.0:1".into());
    let arguments = Arguments { listen, conformance: true, ..Arguments::default() };
    let error = Config::load(&arguments, pairs(&env)).unwrap_err().to_string();
    let (conformance, m2) = error.split_once('\n').unwrap();
    assert_eq!(conformance, refused("0.0.0.0:1"));
    let place = "environment variable FANFARE_M2_REQUIRE_AUTH: `m2.require_auth` = false ";
    assert!(m2.starts_with(place) && !m2.contains('\n'), "{m2}");
}

#[test]
fn the_table_of_keys_holds_together() {
    let names: HashSet<_> = KEYS.iter().map(|key| key.name).collect();
    let variables: HashSet<_> = KEYS.iter().map(|key| key.env).collect();
    assert_eq!((names.len(), variables.len()), (KEYS.len(), KEYS.len()));
    for key in KEYS {
        let name = key.name.strip_prefix("auth.").unwrap_or(key.name);
        let expected = format!("FANFARE_{}", name.to_uppercase().replace('.', "_"));
        assert_eq!(key.env, expected);
    }
}

#[test]
fn the_readme_table_has_a_row_for_each_key() {
    let table = markdown_table();
    assert_eq!(table.lines().count(), KEYS.len() + 2);
    assert!(table.lines().all(|line| line.matches('|').count() == 6));
    assert!(table.contains(
        "| `workers` | `FANFARE_WORKERS` | one per core | a whole number from 1 to 250 | Worker \
         threads. |\n"
    ));
    assert!(table.contains("| `auth.api_key` | `FANFARE_API_KEY` | made at first start |"));
}

#[test]
fn secrets_are_masked_wherever_a_configuration_is_printed() {
    let secret = "correct horse battery staple, twice";
    let config = from_env(&[
        ("FANFARE_JWT_SECRET", secret),
        ("FANFARE_API_KEY", &api_key()),
        ("FANFARE_M2_API_KEY", &readers_key()),
        ("FANFARE_CLUSTER_PASSWORD", "hunter2"),
        ("FANFARE_CLUSTER_TOKEN", "hunter2"),
    ]);
    let config = config.unwrap();
    assert_eq!(config.auth.jwt_secret.as_ref().unwrap().expose(), secret);
    for printed in [format!("{config:?}"), format!("{config:#?}"), config.effective()] {
        assert!(!printed.contains("horse") && !printed.contains(&api_key()), "{printed}");
        assert!(!printed.contains(&readers_key()) && !printed.contains("hunter2"), "{printed}");
    }
}

proptest! {
    // Each case reads a file for every key.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_file_panics(toml in any::<String>(), value in "[-0-9a-z\"'\\[\\]{}.=\n ]{0,40}") {
        let files = Files::new();
        let _loaded = files.load(toml, &[]);
        for key in KEYS {
            let _loaded = files.load(format!("{} = {value}", key.name), &[(key.env, &value)]);
        }
    }
}

#[test]
fn the_readme_has_the_table_of_keys() {
    let readme = include_str!("README.md");
    let table = markdown_table();
    assert!(readme.contains(&table), "put this into src/config/README.md:\n{table}");
}

/// Whether a line of the example is a setting: explanations have a space behind the `#`.
fn is_setting(line: &str) -> bool {
    line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
}

/// Returns the example with every key set.
fn example_with_every_key_set() -> String {
    let lines = include_str!("example.toml").lines();
    let set = lines.map(|line| line.strip_prefix('#').filter(|_| is_setting(line)).unwrap_or(line));
    // Secrets have placeholders, which a node refuses.
    let text = set.collect::<Vec<_>>().join("\n").replace("_…", &format!("_{}", "0".repeat(64)));
    let secret = "x".repeat(32);
    text.replace("at least 32 bytes", &secret).replace("at least 32 characters", &secret)
}

#[test]
fn the_example_changes_nothing_as_it_stands() {
    let config = Files::new().load(include_str!("example.toml"), &[]).unwrap();
    assert_eq!(config.effective(), from_env(&[]).unwrap().effective());
}

#[test]
fn the_example_names_every_key_with_its_default() {
    let config = Files::new().load(example_with_every_key_set(), &[]).unwrap();
    let names = KEYS.iter().map(|key| key.name);
    let unnamed: Vec<_> = names.filter(|name| config.place(name) == Place::Default).collect();
    assert!(unnamed.is_empty(), "put these into src/config/example.toml: {unnamed:?}");
    let values = |config: &Config| {
        let effective = config.effective();
        let lines = effective.lines().filter_map(|line| line.split_once("  # "));
        lines.map(|(value, _)| value.to_owned()).collect::<HashSet<_>>()
    };
    let example = values(&config);
    let defaults = values(&from_env(&[]).unwrap());
    let missing: Vec<_> = defaults.difference(&example).collect();
    let is_of_the_machine =
        |line: &str| line.starts_with("workers = ") || line.starts_with("client_bytes = ");
    let others: Vec<_> = missing.iter().filter(|line| !is_of_the_machine(line)).collect();
    assert!(others.is_empty(), "src/config/example.toml has other values than {others:?}");
}

#[test]
fn public_keys_are_fetched_from_where_nobody_else_can_answer() {
    let taken = |url: &str| from_env(&[("FANFARE_JWKS_URL", url)]).is_ok();
    for url in [
        "https://issuer.example/keys",
        "https://issuer.example:8443/a?b=c",
        "http://127.0.0.2:8080/keys",
        "http://[::1]/keys",
        "http://localhost:3000/.well-known/jwks.json",
    ] {
        assert!(taken(url), "{url}");
    }
    for url in [
        "http://issuer.example/keys",
        "http://localhost.example/keys",
        "ftp://127.0.0.1/keys",
        "https://user:hunter2@issuer.example/",
        "https://issuer.example/a b",
        "issuer.example",
        "https://",
        "",
    ] {
        assert!(!taken(url), "{url}");
    }
}
