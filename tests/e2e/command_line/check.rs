//! Faults of a configuration as the operator sees them: `fanfare check` names them and changes
//! nothing, and `fanfare serve` does not start for the same reasons.

use std::path::Path;

use super::case::{Case, RS_PEM, SECRET, args, assert_refused, env, jwks, kept, pem, toml};
use super::{listing, run, text};
use crate::support::{ANON_KEY, API_KEY, JWT_SECRET, Node};

const JWKS: &str = include_str!("../../../src/auth/testdata/jwks.json");

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
fn a_folder_without_the_client_is_refused() {
    let client_dir = |name| toml("[engine_io]\nclient_dir = 'dist'").file(name, "no version");
    let old = toml("[engine_io]\nclient_dir = 'dist'");
    assert_refused(vec![
        toml("[engine_io]\nclient_dir = 'nowhere'").says(&[
            "f.toml:2: `engine_io.client_dir`: nowhere: has no socket.io.js of the Socket.IO \
             client: name the folder `dist` of the npm package socket.io-client",
        ]),
        client_dir("dist/other.js")
            .says(&["f.toml:2: `engine_io.client_dir`: dist: has no socket.io.js"]),
        client_dir("dist/socket.io.js")
            .says(&["f.toml:2: `engine_io.client_dir`: dist: has no socket.io.js"]),
        old.file("dist/socket.io.js", "/*!\n * Socket.IO v2.5.0\n */").says(&[
            "f.toml:2: `engine_io.client_dir`: dist: has version 2.5.0 of the client, which cannot \
             connect: take 3 or 4",
        ]),
        env("FANFARE_ENGINE_IO_CLIENT_DIR", "f.js")
            .file("f.js", "")
            .says(&["environment variable FANFARE_ENGINE_IO_CLIENT_DIR: `engine_io.client_dir`: \
             f.js/socket.io.js: cannot be read: Not a directory (os error 20)"]),
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
            "f.toml:1: `listen` must be an IP address and port, such as `127.0.0.1:7130`, or a \
             unix socket, such as `unix:/run/fanfare.sock` (up to 16, with commas between them), \
             not \"localhost:7130\"",
        ]),
        toml("[webhooks]\ntimeout_ms = 0").says(&[timeout("f.toml:2: `webhooks.timeout_ms`", "0")]),
        toml("pin_threads = 'yes'")
            .says(&["f.toml:1: `pin_threads` must be `true` or `false`, not \"yes\""]),
        toml("log_format = 'xml'")
            .says(&["f.toml:1: `log_format` must be `text` or `json`, not \"xml\""]),
        toml("data_dir = ''").says(&["f.toml:1: `data_dir` must be a path, not \"\""]),
        toml("[auth]\napi_key = 'ik_hunter2'")
            .says(&["f.toml:2: `auth.api_key` must be `ik_` and more, at least 32 characters of `A-Z`, `a-z`, `0-9` and `-._~+/=`"]),
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
            "environment variable FANFARE_ANON_KEY: `auth.anon_key` must be `anon_` and more, \
             at least 32 characters",
        ]),
        env("FANFARE_JWT_SECRET", "hunter2").says(&[
            "environment variable FANFARE_JWT_SECRET: `auth.jwt_secret` must be a text of at least \
             32 bytes",
        ]),
        env("FANFARE_WEBHOOKS_SECRET", "hunter2").says(&[
            "environment variable FANFARE_WEBHOOKS_SECRET: `webhooks.secret` must be `whsec_` and \
             more, at least 32 characters",
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
        args(&["--listen", ":7130"]).says(&[
            "argument --listen: `listen` must be an IP address and port, such as \
             `127.0.0.1:7130`, or a unix socket, such as `unix:/run/fanfare.sock` (up to 16, with \
             commas between them), not \":7130\"",
        ]),
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
