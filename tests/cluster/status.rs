//! `fanfare cluster status` and the other commands, on the program itself.

use std::process::{Command, Output};

use fanfare::cluster::wire::Beat;

use crate::control::control;
use crate::fake::Fake;
use crate::register::{Node, SECRET};
use crate::support::nats::{Nats, VERSION, free_port};

/// Runs the program with the settings of a cluster on this server and further variables.
fn run(arguments: &[&str], url: &str, env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments).env_clear().env("NO_COLOR", "1");
    command.env("FANFARE_DATA_DIR", "/nonexistent/data").env("FANFARE_CLUSTER_NATS", url);
    command.env("FANFARE_JWT_SECRET", SECRET).envs(env.iter().copied());
    command.output().expect("the program starts")
}

/// Returns the exit code, and what was printed to standard output and to standard error.
fn status(url: &str, env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = run(&["cluster", "status"], url, env);
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    (status.code(), text(stdout), text(stderr))
}

async fn status_of(
    nats: &Nats,
    env: &[(&'static str, &'static str)],
) -> (Option<i32>, String, String) {
    let (url, env) = (nats.url(), env.to_vec());
    // Heartbeats of the test go on meanwhile.
    tokio::task::spawn_blocking(move || status(&url, &env)).await.expect("it does not panic")
}

#[tokio::test]
async fn a_cluster_is_shown_with_its_nodes_and_streams() {
    let nats = Nats::one();
    let (code, text, _) = status_of(&nats, &[]).await;
    let url = nats.url();
    assert_eq!(code, Some(1));
    assert!(text.starts_with(&format!("no cluster on {url}, prefix ff\nservers  test-")), "{text}");
    assert!(text.ends_with("\nnot healthy: no node has joined yet\n"), "{text}");

    let control = control(&nats).await;
    let (one, two) = (Node::new("n1"), Node::new("n2").with("FANFARE_FORGE_REPLAY_SECONDS", "61"));
    let joined = one.joins(&control).await;
    let beat = Beat { heard: 1_000_000, attached: 40_002, ..Beat::default() };
    let _beating = one.beats(&control, &beat);
    let (code, text, errors) = status_of(&nats, &[]).await;
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{text}");
    let lines: Vec<_> = text.lines().collect();
    let id = joined.cluster.as_str();
    assert_eq!(lines[0], format!("cluster {id} on {url}, prefix ff, 1 node, epoch not begun"));
    assert!(lines[1].starts_with("stream   FF_ORD  memory R1"), "{text}");
    assert!(
        lines[1].contains(" messages  ") && lines[1].contains(" of 67.2 MB  oldest "),
        "{text}"
    );
    assert!(lines[2].starts_with("stream   FF_INT  memory R1"), "{text}");
    assert!(lines[3].starts_with("stream   KV_ff_doc  file R1"), "{text}");
    assert!(lines[4].ends_with(&format!(" {VERSION}")), "{text}");
    assert!(lines[5].starts_with("node  version  host"), "{text}");
    let row: Vec<_> = lines[6].split_whitespace().collect();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!([row[0], row[1], row[3], row[4]], ["n1", version, "up", "0"], "{text}");
    assert_eq!([row[5], row[6]], ["40,002", "2026-11-29T14:02:00Z"], "{text}");
    assert_eq!(lines.len(), 7, "{text}");

    two.joins(&control).await;
    let (code, text, _) = status_of(&nats, &[]).await;
    assert_eq!(code, Some(1));
    assert!(
        text.contains("\nsettings that differ from this configuration: n2 forge.replay_seconds\n")
    );
    assert!(text.contains("\nnot healthy: the node n2 is entered and not heard: "), "{text}");

    let other = (
        "FANFARE_ANON_KEY",
        "anon_0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d",
    );
    let (code, text, _) = status_of(&nats, &[other]).await;
    let line = "not healthy: auth.anon_key of this configuration differs from that of n1\n";
    assert!(code == Some(1) && text.contains(line), "{text}");
    let another = ("FANFARE_JWT_SECRET", "another secret of thirty-two bytes");
    let (_, text, _) = status_of(&nats, &[other, another]).await;
    let line = "not healthy: auth.jwt_secret, auth.anon_key of this configuration differ from \
                those of n1\n";
    assert!(text.contains(line), "{text}");
    assert!(!text.contains(SECRET) && !text.contains(other.1), "{text}");
}

#[test]
fn exit_codes_tell_settings_from_servers() {
    let down = format!("nats://127.0.0.1:{}", free_port());
    let (code, text, errors) = status(&down, &[]);
    assert_eq!((code, errors.as_str()), (Some(1), ""), "{text}");
    let start = format!(
        "cluster on {down}, prefix ff: it cannot be read\nservers  {down} is not reached\n"
    );
    assert!(text.starts_with(&start), "{text}");
    let last = text.lines().last().expect("a line");
    let start = format!("not healthy: no NATS server can be used ({down}): ");
    assert!(last.starts_with(&start), "{text}");
    let old = Fake::with_info(&serde_json::json!({ "version": "2.9.10", "headers": true }));
    assert_eq!(status(&old.url(), &[]).0, Some(1));

    let far = "nats://10.0.0.5";
    for command in [&["cluster", "status"][..], &["check"], &["serve"]] {
        let output = run(command, far, &[]);
        let errors = String::from_utf8_lossy(&output.stderr);
        let start = "fanfare: environment variable FANFARE_CLUSTER_NATS: `cluster.nats` names \
                     nats://10.0.0.5:4222, which is not on this machine, without credentials";
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.starts_with(start) && output.stdout.is_empty(), "{errors}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    let output = command.args(["cluster", "status"]).env_clear().output();
    let output = output.expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(errors, "fanfare: `cluster.nats` is not set: there is no cluster to show\n");
}

#[test]
fn files_of_credentials_and_certificates_are_checked_before_the_start() {
    let near = "nats://127.0.0.1";
    let missing = "/nonexistent/file";
    for (variable, key, what) in [
        ("FANFARE_CLUSTER_CREDENTIALS_FILE", "credentials_file", "credentials file"),
        ("FANFARE_CLUSTER_TLS_CA_FILE", "tls_ca_file", "file of authorities"),
    ] {
        let output = run(&["check"], near, &[(variable, missing)]);
        let errors = String::from_utf8_lossy(&output.stderr);
        let expected = format!(
            "fanfare: environment variable {variable}: `cluster.{key}` cannot be used: the {what} \
             {missing}: No such file or directory (os error 2)\n"
        );
        assert_eq!((output.status.code(), &*errors), (Some(2), &*expected));
    }
}

#[test]
fn a_node_of_a_cluster_makes_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let env = [("FANFARE_DATA_DIR", data.as_str())];
    let near = "nats://127.0.0.1";
    assert_eq!(run(&["check"], near, &env).status.code(), Some(0));
    let env = [env[0], ("FANFARE_JWT_SECRET", "")];
    for command in ["check", "serve"] {
        let output = run(&[command], near, &env);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command}: {errors}");
        assert!(errors.contains("`auth.jwt_secret` must be"), "{command}: {errors}");
    }
    assert!(!folder.path().join("data/keys.toml").exists(), "nothing is made");
}
