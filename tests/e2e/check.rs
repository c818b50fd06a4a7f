//! Faults of a configuration as the operator sees them: `fanfare check` names them and changes
//! nothing, and `fanfare serve` does not start for the same reasons.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ANON_KEY, API_KEY, JWT_SECRET, Node};

/// Part of every secret in these cases, so that no message may contain it.
const SECRET: &str = "hunter2";

const RS_PEM: &str = include_str!("../../src/auth/testdata/rs256_a.pem");
const RS_PRIVATE: &str = include_str!("../../src/auth/testdata/rs256_a.key");
const RS_WEAK: &str = include_str!("../../src/auth/testdata/rs1024.pem");
const ES384_PEM: &str = include_str!("../../src/auth/testdata/es384.pem");
const JWKS: &str = include_str!("../../src/auth/testdata/jwks.json");
const ED_JWK: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"k",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

/// The input of a node and the expected lines of its output. An expected line may be only the start
/// of the actual one.
#[derive(Default)]
struct Case {
    /// Names and contents. `keys.toml` is written into the data directory.
    files: Vec<(&'static str, Vec<u8>)>,
    env: Vec<(&'static str, &'static str)>,
    args: Vec<&'static str>,
    says: Vec<&'static str>,
}

impl Case {
    fn file(mut self, name: &'static str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((name, content.into()));
        self
    }

    fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    fn args(mut self, args: &[&'static str]) -> Self {
        self.args.extend(args);
        self
    }

    fn says(mut self, lines: &[&'static str]) -> Self {
        self.says.extend(lines);
        self
    }

    /// Creates a directory with the files, in which the program runs.
    fn set_up(&self) -> TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, content) in &self.files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("it is in a directory")).expect("it is made");
            fs::write(&path, content).expect("the file is written");
            let mode = if name.ends_with("keys.toml") { 0o600 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        }
        dir
    }

    fn run(&self, command: &str, dir: &Path) -> Output {
        let mut args = vec![command];
        args.extend(&self.args);
        run(&args, &self.env, dir)
    }
}

/// Runs the program to its end. A node that serves by mistake is killed.
fn run(args: &[&str], env: &[(&str, &str)], dir: &Path) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_fanfare")]).args(args).current_dir(dir);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") {
            command.env_remove(name);
        }
    }
    command.envs(env.iter().copied()).output().expect("the binary runs")
}

/// Returns a case with the file `f.toml`.
fn toml(text: &str) -> Case {
    Case::default().file("f.toml", text).args(&["--config", "f.toml"])
}

/// Returns a case with the file `keys.toml`.
fn kept(text: impl Into<Vec<u8>>) -> Case {
    Case::default().file("fanfare-data/keys.toml", text)
}

/// Returns a case with one environment variable.
fn env(name: &'static str, value: &'static str) -> Case {
    Case::default().env(name, value)
}

/// Returns a case with these arguments.
fn args(args: &[&'static str]) -> Case {
    Case::default().args(args)
}

/// Returns a case with a PEM file that `f.toml` names.
fn pem(text: impl Into<Vec<u8>>) -> Case {
    toml("[auth]\npublic_keys_file = 'k.pem'").file("k.pem", text)
}

/// Returns a case with a JWKS file that the environment names.
fn jwks(text: impl Into<Vec<u8>>) -> Case {
    env("FANFARE_JWKS_FILE", "set.json").file("set.json", text)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the program speaks UTF-8")
}

/// Returns every path below a directory with the file's content.
fn listing(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("the directory can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            found.extend(listing(&path));
        }
        found.push((path.display().to_string(), fs::read(&path).unwrap_or_default()));
    }
    found.sort();
    found
}

fn assert_refused(cases: Vec<Case>) {
    for case in cases {
        let dir = case.set_up();
        let before = listing(dir.path());
        let checked = case.run("check", dir.path());
        let served = case.run("serve", dir.path());
        let said = text(&checked.stderr);
        let codes = (checked.status.code(), served.status.code());
        assert_eq!(codes, (Some(2), Some(2)), "{:?}: {said}", case.says);
        assert_eq!(said, text(&served.stderr), "serve says what check says");
        assert_eq!(text(&checked.stdout), "", "{said}");
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), case.says.len(), "{:?} but it said:\n{said}", case.says);
        for (line, expected) in lines.iter().zip(&case.says) {
            let line = line.strip_prefix("fanfare: ").expect("it says who speaks");
            assert!(line.starts_with(expected), "expected {expected}\nbut it said {line}");
        }
        assert!(!said.contains(SECRET), "a secret is repeated: {said}");
        assert_eq!(listing(dir.path()), before, "nothing is made or changed: {said}");
    }
}

#[test]
fn a_file_that_is_no_configuration_is_refused() {
    let config = |name| args(&["--config", name]);
    assert_refused(vec![
        config("none.toml").says(&[
            "argument --config: none.toml: cannot be read: No such file or directory (os error 2)",
        ]),
        config(".").says(&["argument --config: .: cannot be read: Is a directory (os error 21)"]),
        config("f.toml")
            .file("f.toml", b"workers = 2\nlog = '\xFF'")
            .says(&["argument --config: f.toml: line 2 is not UTF-8 text"]),
        config("f.toml")
            .file("f.toml", "#".repeat(1024 * 1024 + 1))
            .says(&["argument --config: f.toml: longer than 1048576 bytes"]),
        toml("[http").says(&["f.toml:1: not valid TOML: "]),
        toml("workers = 2\nworkers = 3").says(&["f.toml:2: not valid TOML: duplicate key"]),
        toml("[auth]\n\njwt_secret = \"hunter2").says(&["f.toml:3: not valid TOML: "]),
        toml("[auth]\napi_key = ik_hunter2").says(&["f.toml:2: not valid TOML: "]),
    ]);
}

#[test]
fn keys_that_do_not_exist_are_refused() {
    assert_refused(vec![
        toml("worker = 2").says(&["f.toml:1: unknown key `worker`; did you mean `workers`?"]),
        toml("[engine_io]\nping_intervall_ms = 300")
            .says(&["f.toml:2: unknown key `engine_io.ping_intervall_ms`; did you mean \
             `engine_io.ping_interval_ms`?"]),
        toml("# jwks\njwks_file = 'hunter2'")
            .says(&["f.toml:2: unknown key `jwks_file`; did you mean `auth.jwks_file`?"]),
        toml("[htpp]\nx = 1").says(&["f.toml:1: unknown key `htpp`; did you mean `http`?"]),
        toml("zebra = 1").says(&["f.toml:1: unknown key `zebra`"]),
        toml("auth = 'hunter2'")
            .says(&["f.toml:1: `auth` is a section: write `[auth]` and its keys below it"]),
        env("FANFARE_LISTN", "hunter2").says(&[
            "unknown environment variable `FANFARE_LISTN`; did you mean `FANFARE_LISTEN`?",
        ]),
        env("FANFARE_AUTH_API_KEY", "hunter2").says(&[
            "unknown environment variable `FANFARE_AUTH_API_KEY`; did you mean `FANFARE_API_KEY`?",
        ]),
    ]);
}

#[test]
fn values_that_do_not_fit_are_refused() {
    let timeout = "must be a whole number from 50 to 3600000, not";
    let timeout =
        |start: &str, given: &str| -> &'static str { format!("{start} {timeout} {given}").leak() };
    assert_refused(vec![
        toml("workers = 0")
            .says(&["f.toml:1: `workers` must be a whole number from 1 to 250, not 0"]),
        toml("workers = 'four'")
            .says(&["f.toml:1: `workers` must be a whole number from 1 to 250, not \"four\""]),
        toml("\n\nacceptor_threads = 65")
            .says(&["f.toml:3: `acceptor_threads` must be a whole number from 0 to 64, not 65"]),
        toml("mailbox_publications = 1.5").says(&[
            "f.toml:1: `mailbox_publications` must be a whole number from 1 to 65536, not 1.5",
        ]),
        toml("[http]\nhead_timeout_ms = 49")
            .says(&[timeout("f.toml:2: `http.head_timeout_ms`", "49")]),
        toml("engine_io = { ping_timeout_ms = [] }")
            .says(&[timeout("f.toml:1: `engine_io.ping_timeout_ms`", "a value of type array")]),
        toml("listen = 'localhost:7130'").says(&[
            "f.toml:1: `listen` must be an IP address and port, such as `127.0.0.1:7130`, not \
             \"localhost:7130\"",
        ]),
        toml("[webhooks]\ntimeout_ms = 0").says(&[timeout("f.toml:2: `webhooks.timeout_ms`", "0")]),
        toml("pin_threads = 'yes'")
            .says(&["f.toml:1: `pin_threads` must be `true` or `false`, not \"yes\""]),
        toml("log_format = 'xml'")
            .says(&["f.toml:1: `log_format` must be `text` or `json`, not \"xml\""]),
        toml("data_dir = ''").says(&["f.toml:1: `data_dir` must be a path, not \"\""]),
        toml("[auth]\napi_key = 'ik_hunter2'")
            .says(&["f.toml:2: `auth.api_key` must be `ik_` and 64 hexadecimal digits"]),
        toml("workers = 'ik_hunter2'")
            .says(&["f.toml:1: `workers` must be a whole number from 1 to 250, not \"[masked]\""]),
    ]);
}

#[test]
fn what_the_environment_and_the_command_line_say_is_refused() {
    assert_refused(vec![
        env("FANFARE_WORKERS", "").says(&[
            "environment variable FANFARE_WORKERS: `workers` must be a whole number from 1 to 250, \
             not \"\"",
        ]),
        env("FANFARE_LOG", "INFO").says(&[
            "environment variable FANFARE_LOG: `log` must be `error`, `warn`, `info`, `debug` or \
             `trace`, not \"INFO\"",
        ]),
        env("FANFARE_ANON_KEY", "hunter2").says(&[
            "environment variable FANFARE_ANON_KEY: `auth.anon_key` must be `anon_` and 64 \
             hexadecimal digits",
        ]),
        env("FANFARE_JWT_SECRET", "hunter2").says(&[
            "environment variable FANFARE_JWT_SECRET: `auth.jwt_secret` must be a text of at least \
             32 bytes",
        ]),
        env("FANFARE_WEBHOOKS_SECRET", "hunter2").says(&[
            "environment variable FANFARE_WEBHOOKS_SECRET: `webhooks.secret` must be `whsec_` and \
             64 hexadecimal digits",
        ]),
        env("FANFARE_M2_API_KEY", "hunter2").says(&[
            "environment variable FANFARE_M2_API_KEY: `m2.api_key` must be at least 32 printable \
             ASCII characters",
        ]),
        env("FANFARE_M2_REQUIRE_AUTH", "false").args(&["--listen", "0.0.0.0:0"]).says(&[
            "environment variable FANFARE_M2_REQUIRE_AUTH: `m2.require_auth` = false serves M2 \
             without authentication and is refused on 0.0.0.0:0: set `listen` to a loopback",
        ]),
        env("FANFARE_JWKS_FILE", "-----BEGIN PRIVATE KEY-----\nhunter2\n").says(&[
            "environment variable FANFARE_JWKS_FILE: `auth.jwks_file` must be a path, not \
             \"[masked]\"",
        ]),
        args(&["--workers", "-1"]).says(&[
            "argument --workers: `workers` must be a whole number from 1 to 250, not \"-1\"",
        ]),
        args(&["--listen", ":7130"])
            .says(&["argument --listen: `listen` must be an IP address and port, such as \
             `127.0.0.1:7130`, not \":7130\""]),
        args(&["--data-dir", ""]).says(&["argument --data-dir: `data_dir` must be a path"]),
        args(&["--conformance"]).env("FANFARE_LISTEN", "0.0.0.0:0").says(&[
            "argument --conformance: serves without authentication and is refused on 0.0.0.0:0",
        ]),
    ]);
}

#[test]
fn a_data_directory_that_cannot_be_one_is_refused() {
    assert_refused(vec![
        Case::default()
            .file("fanfare-data", "")
            .says(&["default: `data_dir`: ./fanfare-data: is not a directory"]),
        toml("data_dir = 'f.toml/below'").says(&[
            "f.toml:1: `data_dir`: f.toml/below: cannot be used: Not a directory (os error 20)",
        ]),
        env("FANFARE_DATA_DIR", "/dev/null").says(&[
            "environment variable FANFARE_DATA_DIR: `data_dir`: /dev/null: is not a directory",
        ]),
        args(&["--data-dir", "/dev/null/a/b"])
            .says(&["argument --data-dir: `data_dir`: /dev/null/a/b: cannot be used: "]),
    ]);
}

#[test]
fn broken_secrets_in_the_data_directory_are_refused() {
    let advice = "is missing; add it, or move the file away for the next start to make new keys";
    let missing = |name: &str| -> &'static str {
        format!("./fanfare-data/keys.toml: `{name}` {advice}").leak()
    };
    let anon_key = format!("anon_key = '{ANON_KEY}'\n");
    assert_refused(vec![
        kept("").says(&[missing("api_key"), missing("anon_key"), missing("jwt_secret")]),
        kept(anon_key.clone()).env("FANFARE_API_KEY", API_KEY).says(&[missing("jwt_secret")]),
        kept(format!("{anon_key}api_key = 'ik_hunter2'\njwt_secret = 'hunter2'")).says(&[
            "./fanfare-data/keys.toml:2: `api_key` must be `ik_` and 64 hexadecimal digits",
            "./fanfare-data/keys.toml:3: `jwt_secret` must be a text of at least 32 bytes",
        ]),
        kept(format!("{anon_key}password = 'hunter2'"))
            .says(&["./fanfare-data/keys.toml:2: unknown key `password`"]),
        kept("api_key = hunter2").says(&["./fanfare-data/keys.toml:1: not valid TOML: "]),
        kept(b"\xFFhunter2").says(&["./fanfare-data/keys.toml: line 1 is not UTF-8 text"]),
        Case::default()
            .file("fanfare-data/keys.toml/x", "")
            .says(&["./fanfare-data/keys.toml: cannot be read: Is a directory (os error 21)"]),
    ]);
}

#[test]
fn secrets_that_others_may_read_are_refused() {
    let case = kept("jwt_secret = 'hunter2'");
    let dir = case.set_up();
    let keys = dir.path().join("fanfare-data/keys.toml");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).expect("it is ours");
    for command in ["check", "serve"] {
        let output = case.run(command, dir.path());
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(
            text(&output.stderr),
            "fanfare: ./fanfare-data/keys.toml: holds secrets and is open to others (mode 0644); \
             run `chmod 600 ./fanfare-data/keys.toml`\n"
        );
    }
}

#[test]
fn pem_files_without_good_public_keys_are_refused() {
    let at = "f.toml:2: `auth.public_keys_file`: k.pem:";
    let at = |reason: &str| -> &'static str { format!("{at} {reason}").leak() };
    let hidden = RS_PRIVATE.lines().nth(1).expect("a key has a body");
    let private = format!("# the next line is a secret: {SECRET}\n{RS_PRIVATE}");
    assert_refused(vec![
        toml("[auth]\npublic_keys_file = 'k.pem'")
            .says(&[at("cannot be read: No such file or directory (os error 2)")]),
        pem("hunter2").says(&[at("no PEM block found: expected `-----BEGIN PUBLIC KEY-----`")]),
        pem(b"\n\n\xFF").says(&[at("line 3 is not UTF-8 text")]),
        pem(private.clone()).says(&[at("line 2: a private key; give the node the public one")]),
        pem(format!("{RS_PEM}{ES384_PEM}"))
            .says(&[at("line 10: not an RSA, P-256 or Ed25519 key")]),
        pem(RS_WEAK).says(&[at("line 1: the RSA modulus must have 2048 to 8192 bits")]),
        pem(RS_PEM.replace("END PUBLIC", "END RSA PUBLIC"))
            .says(&[at("line 1: BEGIN and END name different things")]),
        pem(RS_PEM.repeat(33)).says(&[at("more than 32 public keys")]),
    ]);
    let case = pem(private);
    let said = case.run("check", case.set_up().path()).stderr;
    assert!(!text(&said).contains(hidden));
}

#[test]
fn jwk_sets_without_good_public_keys_are_refused() {
    let at = "environment variable FANFARE_JWKS_FILE: `auth.jwks_file`: set.json:";
    let at = |reason: &str| -> &'static str { format!("{at} {reason}").leak() };
    let set = |key: &str| jwks(format!(r#"{{"keys":[{key}]}}"#));
    assert_refused(vec![
        jwks("hunter2").says(&[at("not a JWK set: expected value at line 1 column 1")]),
        jwks("{\"keys\":\n[").says(&[at("not a JWK set: EOF while parsing a list at line 2")]),
        jwks(r#"{"keys":"hunter2"}"#)
            .says(&[at("not a JWK set: expected an object with an array `keys` at line 1")]),
        jwks(ED_JWK).says(&[at("not a JWK set: expected an object with an array `keys`")]),
        set("").says(&[at("not a JWK set: it has no keys")]),
        set(r#"{"kty":"oct","k":"hunter2"}"#)
            .says(&[at("keys[0]: a symmetric key does not belong among public keys")]),
        set(&ED_JWK.replace("{", r#"{"d":"hunter2","#))
            .says(&[at("keys[0] (`k`): a private key; remove `d` and the other private members")]),
        set(r#"{"kty":"EC","crv":"P-384"}"#)
            .says(&[at("keys[0]: not an RSA, P-256 or Ed25519 key")]),
        set(r#"{"kty":"RSA","alg":"PS256"}"#)
            .says(&[at("keys[0]: its `alg` is not RS256, ES256 or EdDSA")]),
        set(r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#)
            .says(&[at("keys[0]: the RSA modulus must have 2048 to 8192 bits")]),
        set(&format!("{ED_JWK},{ED_JWK}"))
            .says(&[at("keys[1] (`k`): a key before it has the same `kid`")]),
    ]);
}

#[test]
fn all_mistakes_are_named_at_once() {
    let values = toml("workers = 0\n[auth]\njwks = 'x'\napi_key = 'hunter2'")
        .env("FANFARE_LISTEN", "here")
        .args(&["--workers", "many"]);
    let files = pem("").env("FANFARE_JWKS_FILE", "none").file("fanfare-data/keys.toml", "x = 1");
    assert_refused(vec![
        values.says(&[
            "f.toml:1: `workers` must be",
            "f.toml:3: unknown key `auth.jwks`",
            "f.toml:4: `auth.api_key` must be",
            "environment variable FANFARE_LISTEN: `listen` must be",
            "argument --workers: `workers` must be",
        ]),
        files.says(&[
            "./fanfare-data/keys.toml:1: unknown key `x`",
            "f.toml:2: `auth.public_keys_file`: k.pem: no PEM block found",
            "environment variable FANFARE_JWKS_FILE: `auth.jwks_file`: none: cannot be read",
        ]),
    ]);
}

#[test]
fn good_configurations_are_printed_with_their_sources() {
    let kept_keys = format!(
        "api_key = '{API_KEY}'\nanon_key = '{ANON_KEY}'\njwt_secret = '{JWT_SECRET}{SECRET}'\n"
    );
    let long_secret = "hunter2 is not long enough by itself";
    // Here `says` is compared with the standard output.
    let cases = [
        Case::default().says(&[
            "listen = \"127.0.0.1:7130\"  # default",
            "# api_key is kept in ./fanfare-data/keys.toml, made at first start",
            "# jwks_file is not set",
        ]),
        kept(kept_keys.clone()).says(&["data_dir = \"./fanfare-data\"  # default"]),
        pem(RS_PEM).says(&["public_keys_file = \"k.pem\"  # f.toml:2"]),
        jwks(JWKS).says(&["jwks_file = \"set.json\"  # environment variable FANFARE_JWKS_FILE"]),
        toml("workers = 3\nlog = 'warn'")
            .env("FANFARE_LOG", "trace")
            .env("FANFARE_JWT_SECRET", long_secret)
            .args(&["--workers", "4", "--data-dir", "not/there/yet"])
            .says(&[
                "workers = 4  # argument --workers",
                "log = \"trace\"  # environment variable FANFARE_LOG",
                "data_dir = \"not/there/yet\"  # argument --data-dir",
                "jwt_secret = \"[masked]\"  # environment variable FANFARE_JWT_SECRET",
            ]),
        args(&["--conformance"])
            .says(&["# --conformance: no authentication, for test suites only"]),
        toml("[m2]\nrequire_auth = false\napi_key = 'hunter2-hunter2-hunter2-hunter2-hunter2'")
            .says(&["require_auth = false  # f.toml:2", "api_key = \"[masked]\"  # f.toml:3"]),
    ];
    for case in cases {
        let dir = case.set_up();
        let before = listing(dir.path());
        let checked = case.run("check", dir.path());
        let printed = text(&checked.stdout);
        assert_eq!((checked.status.code(), text(&checked.stderr)), (Some(0), ""));
        for line in &case.says {
            assert!(printed.lines().any(|printed| printed == *line), "no {line} in\n{printed}");
        }
        assert!(!printed.contains(SECRET), "a secret is printed:\n{printed}");
        assert_eq!(listing(dir.path()), before, "nothing is made or changed");
    }
}

#[test]
fn a_directory_in_use_can_be_checked() {
    let node = Node::start();
    let dir = node.data_dir().to_str().expect("it is text");
    let checked = run(&["check", "--data-dir", dir], &[], Path::new("/"));
    assert_eq!((checked.status.code(), text(&checked.stderr)), (Some(0), ""));
}

#[test]
fn a_token_is_printed_alone_and_makes_no_keys() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let refused = run(&["token", "user"], &[], dir.path());
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(2), ""));
    assert_eq!(
        text(&refused.stderr),
        "fanfare: ./fanfare-data/keys.toml: no keys are there yet; start the node first, or set \
         FANFARE_JWT_SECRET\n"
    );
    assert_eq!(listing(dir.path()), []);

    let node = Node::start();
    let secret = [("FANFARE_JWT_SECRET", JWT_SECRET)];
    for (kind, status) in [("user", 403), ("admin", 200)] {
        let printed = run(&["token", kind, "--sub", "somebody"], &secret, dir.path());
        assert_eq!((printed.status.code(), text(&printed.stderr)), (Some(0), ""));
        let token = text(&printed.stdout).strip_suffix('\n').expect("it ends its line");
        assert!(!token.contains(char::is_whitespace));
        let headers = [("authorization", &*format!("Bearer {token}"))];
        let answer = node.request("GET", "/api/realtime/channels", &headers, b"");
        assert_eq!(answer.status, status, "{kind}");
    }
    assert_eq!(listing(dir.path()), []);
}

#[test]
fn tokens_of_forge_are_printed_alone_and_prove_nothing_to_insforge() {
    let node = Node::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let secret = [("FANFARE_JWT_SECRET", JWT_SECRET)];
    let place = ["--installation", "inst-1", "--module", "panel", "--sub", "account"];
    let entities = ["--extension", r#"{"issue":{"id":"1"}}"#, "--scopes", "a,b"];
    let cases = [
        ("forge-context", [&place[..], &entities].concat(), "realtime", 900),
        ("forge-invocation", [&place[..], &["--no-ui"]].concat(), "realtime-invocation", 900),
        ("forge-service", place[..2].to_vec(), "realtime-service", 3_600),
    ];
    for (kind, options, audience, lifetime) in cases {
        let printed = run(&[&["token", kind], &options[..]].concat(), &secret, dir.path());
        assert_eq!((printed.status.code(), text(&printed.stderr)), (Some(0), ""), "{kind}");
        let token = text(&printed.stdout).strip_suffix('\n').expect("it ends its line");
        assert!(!token.contains(char::is_whitespace));
        let claims = token.split('.').nth(1).expect("it has three parts");
        let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64url");
        let mut claims: Value = serde_json::from_slice(&claims).expect("JSON");
        let (exp, iat) = (claims["exp"].as_u64(), claims["iat"].as_u64());
        assert_eq!(exp.expect("a date") - iat.expect("a date"), lifetime, "{kind}");
        let members = claims.as_object_mut().expect("an object");
        members.retain(|name, _| !matches!(name.as_str(), "exp" | "iat"));
        let mut expected = json!({"aud": audience, "installationId": "inst-1"});
        if kind != "forge-service" {
            expected["moduleKey"] = json!("panel");
            expected["sub"] = json!("account");
        }
        if kind == "forge-context" {
            expected["extension"] = json!({"issue": {"id": "1"}});
            expected["scopes"] = json!(["a", "b"]);
        }
        if kind == "forge-invocation" {
            expected["ui"] = json!(false);
        }
        assert_eq!(claims, expected, "{kind}");
        let headers = [("authorization", &*format!("Bearer {token}"))];
        assert_eq!(node.request("GET", "/api/realtime/channels", &headers, b"").status, 401);
    }
    assert_eq!(listing(dir.path()), []);
}

#[test]
fn tokens_of_m2_are_printed_alone_and_prove_nothing_to_insforge() {
    let node = Node::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let secret = [("FANFARE_JWT_SECRET", JWT_SECRET)];
    let organization = ["--organization", "org-1"];
    let cases = [
        ("m2", &["--user", "alice"][..], json!({"user_id": "alice"})),
        ("m2-writer", &[], json!({"aud": "m2-writer"})),
    ];
    for (kind, options, mut expected) in cases {
        let printed =
            run(&[&["token", kind], options, &organization].concat(), &secret, dir.path());
        assert_eq!((printed.status.code(), text(&printed.stderr)), (Some(0), ""), "{kind}");
        let token = text(&printed.stdout).strip_suffix('\n').expect("it ends its line");
        assert!(!token.contains(char::is_whitespace));
        let claims = token.split('.').nth(1).expect("it has three parts");
        let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64url");
        let claims: Value = serde_json::from_slice(&claims).expect("JSON");
        let (exp, iat) = (claims["exp"].as_u64(), claims["iat"].as_u64());
        assert_eq!(exp.expect("a date") - iat.expect("a date"), 3_600, "{kind}");
        expected["organization_id"] = json!("org-1");
        (expected["exp"], expected["iat"]) = (json!(exp), json!(iat));
        assert_eq!(claims, expected, "{kind}");
        let headers = [("authorization", &*format!("Bearer {token}"))];
        assert_eq!(node.request("GET", "/api/realtime/channels", &headers, b"").status, 401);
    }
    assert_eq!(listing(dir.path()), []);
}

#[test]
fn what_is_wrong_with_a_token_is_said() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let place = ["--installation", "i", "--module", "m"];
    let long = "x".repeat(256);
    let m2 = ["--user", "u", "--organization", "o"];
    let cases: [(&str, &[&str], &str); 17] = [
        ("forge-context", &[&place[..], &["--expires-in", "901"]].concat(), "at most 900 seconds"),
        ("forge-invocation", &[&place[..], &["--expires-in", "901"]].concat(), "at most 900"),
        ("forge-context", &[&place[..], &["--extension", "{"]].concat(), "not a JSON object: EOF"),
        ("forge-context", &[&place[..], &["--extension", "[]"]].concat(), "not a JSON object: inv"),
        ("forge-context", &[&place[..], &["--no-ui"]].concat(), "unexpected argument '--no-ui'"),
        ("forge-context", &place[..2], "--module <KEY>"),
        ("forge-context", &place[2..], "--installation <ID>"),
        ("forge-context", &["--installation", "", "--module", "m"], "a value is required"),
        ("forge-service", &place, "unexpected argument '--module'"),
        ("user", &place, "unexpected argument '--installation'"),
        ("m2", &m2[..2], "--organization <ID>"),
        ("m2", &m2[2..], "--user <USER>"),
        ("m2", &["--user", "", "--organization", "o"], "a value is required"),
        ("m2", &["--user", &long, "--organization", "o"], "a user has 1 to 255 bytes"),
        ("m2-writer", &["--organization", &long], "an organization has 1 to 255 bytes"),
        ("m2-writer", &m2, "unexpected argument '--user'"),
        ("m2-writer", &[], "--organization <ID>"),
    ];
    for (kind, options, said) in cases {
        let args = [&["token", kind], options].concat();
        let output = run(&args, &[("FANFARE_JWT_SECRET", JWT_SECRET)], dir.path());
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{args:?}");
        assert!(text(&output.stderr).contains(said), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn each_kind_of_token_shows_its_own_options() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let has = |kind: &str, option: &str| {
        text(&run(&["token", kind, "--help"], &[], dir.path()).stdout).contains(option)
    };
    let of_forge = ["--installation", "--module ", "--extension", "--no-ui"];
    let options = [&["--sub ", "--user ", "--organization "][..], &of_forge].concat();
    let kinds = [
        ("user", &options[..1]),
        ("admin", &options[..1]),
        ("forge-context", &["--sub ", "--installation", "--module ", "--extension"]),
        ("forge-invocation", &[&["--sub "][..], &of_forge].concat()),
        ("forge-service", &of_forge[..1]),
        ("m2", &options[1..3]),
        ("m2-writer", &options[2..3]),
    ];
    for (kind, expected) in kinds {
        for option in &options {
            assert_eq!(has(kind, option), expected.contains(option), "{kind} {option}");
        }
    }
}

#[test]
fn help_fits_a_screen_and_has_an_example() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let of_forge = ["forge-context", "forge-invocation", "forge-service"];
    let kinds = [&["user", "admin", "m2", "m2-writer"][..], &of_forge].concat();
    let kinds: Vec<_> = kinds.into_iter().map(|kind| ["token", kind]).collect();
    let kinds = kinds.iter().map(|kind| &kind[..]);
    for command in [&[][..], &["serve"], &["token"], &["check"]].into_iter().chain(kinds) {
        let help = run(&[command, &["--help"]].concat(), &[], dir.path());
        assert_eq!((help.status.code(), text(&help.stderr)), (Some(0), ""));
        let help = text(&help.stdout);
        assert!(help.lines().count() <= 40, "{help}");
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{command:?} has a long line: {line}");
        }
        let command = if command.is_empty() { &["serve"] } else { command };
        let example = format!("fanfare {}", command.join(" "));
        let (_, examples) = help.split_once("Example:\n").expect("it has an example");
        assert!(examples.contains(&example), "{help}");
        assert!(help.contains("\nExit codes: 0 "), "{help}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for args in [&["nonsense"][..], &["serve", "--port", "1"], &["token"], &["token", "nobody"]] {
        let output = run(args, &[], dir.path());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains("error: "), "{args:?}");
    }
    assert_eq!(listing(dir.path()), []);
}
