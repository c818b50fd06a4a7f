//! What container platforms do to a node's files and environment.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::disk::{Needs, has_own_mounts};
use crate::support::{ANON_KEY, API_KEY, JWT_SECRET, Node, remove_settings, sign, wait_until};

const CHANNELS: &str = "/api/realtime/channels";
const SECRET_VARIABLES: [&str; 3] = ["FANFARE_API_KEY", "FANFARE_ANON_KEY", "FANFARE_JWT_SECRET"];

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

fn open_to_group(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).expect("it is ours");
}

/// Kubernetes opens all files of a volume with `fsGroup` to the group, before each start.
#[test]
fn secrets_that_a_volume_opens_to_its_group_are_closed_again() {
    let mut node = Node::with(|command| {
        for name in SECRET_VARIABLES {
            command.env_remove(name);
        }
    });
    let keys = node.data_dir().join("keys.toml");
    let text = fs::read_to_string(&keys).expect("it is ours");
    for _ in 0..2 {
        node.kill();
        open_to_group(&keys);
        open_to_group(&node.data_dir().join("fanfare.db"));
        node.restart();
        assert_eq!(
            (mode(&keys), fs::read_to_string(&keys).expect("it is ours")),
            (0o600, text.clone())
        );
    }
    let warnings = || node.output().matches("was open to others, and its mode is 0600 now").count();
    wait_until("the log says it at each start", || warnings() == 2);
}

/// A file of a Secret that is mounted cannot be changed.
#[test]
fn secrets_that_cannot_be_closed_to_others_are_refused_with_advice() {
    let own = "containers::secrets_that_cannot_be_closed_to_others_are_refused_with_advice";
    if !has_own_mounts(own, Needs::Memory) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let keys = dir.path().join("keys.toml");
    let text = format!(
        "api_key = '{API_KEY}'\nanon_key = '{ANON_KEY}'\njwt_secret = '{JWT_SECRET}'\n\
         webhook_secret = 'whsec_{}'\n",
        "0a".repeat(32)
    );
    fs::write(&keys, text).expect("it is ours");
    open_to_group(&keys);
    for options in ["bind", "remount,bind,ro"] {
        let mut mount = Command::new("mount");
        mount.args(["-o", options]).args([&keys, &keys]);
        assert!(mount.status().expect("mount runs").success(), "{mount:?}");
    }
    for command in ["check", "serve"] {
        let mut node = Command::new("timeout");
        remove_settings(&mut node);
        node.args(["60", env!("CARGO_BIN_EXE_fanfare"), command, "--listen", "127.0.0.1:0"]);
        let refused = node.arg("--data-dir").arg(dir.path()).output().expect("the binary runs");
        let said = String::from_utf8(refused.stderr).expect("it is text");
        let expected = format!(
            "fanfare: {0}: holds secrets and is open to others (mode 0660), and its mode cannot \
             be changed (Read-only file system (os error 30)); run `chmod 600 {0}` as its owner \
             (user ",
            keys.display()
        );
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.starts_with(&expected), "{said}");
        let end = "), or configure all four secrets, so that the file is not read\n";
        assert!(said.ends_with(end), "{said}");
    }
    assert_eq!(mode(&keys), 0o660);
}

/// Kubernetes tells every container the addresses of the Services in its namespace.
#[test]
fn variables_of_services_are_no_settings() {
    let node = Node::with_env(&[
        ("FANFARE_SERVICE_HOST", "10.0.0.1"),
        ("FANFARE_SERVICE_PORT", "7130"),
        ("FANFARE_SERVICE_PORT_HTTP", "7130"),
        ("FANFARE_PORT", "tcp://10.0.0.1:7130"),
        ("FANFARE_PORT_7130_TCP", "tcp://10.0.0.1:7130"),
        ("FANFARE_PORT_7130_TCP_PROTO", "tcp"),
        ("FANFARE_PORT_7130_TCP_PORT", "7130"),
        ("FANFARE_PORT_7130_TCP_ADDR", "10.0.0.1"),
        ("FANFARE_METRICS_SERVICE_HOST", "fd00::1"),
        ("FANFARE_METRICS_PORT", "tcp://[fd00::1]:9090"),
    ]);
    assert_eq!(node.request("GET", "/api/health", &[], b"").status, 200);
}

#[test]
fn line_ends_behind_configured_secrets_do_not_count() {
    let node = Node::with(|command| {
        command.env("FANFARE_API_KEY", format!("{API_KEY}\n"));
        command.env("FANFARE_ANON_KEY", format!("{ANON_KEY}\r\n"));
        command.env("FANFARE_JWT_SECRET", format!("{JWT_SECRET}\n"));
    });
    let admin = sign(&json!({ "sub": "boss", "role": "project_admin" }));
    for credential in [("x-api-key", API_KEY), ("authorization", &format!("Bearer {admin}"))] {
        assert_eq!(node.request("GET", CHANNELS, &[credential], b"").status, 200, "{credential:?}");
    }
}
