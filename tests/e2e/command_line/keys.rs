//! `fanfare keys`: the keys of a node, for a shell.

use std::path::Path;

use super::{listing, run, text};
use crate::support::{ANON_KEY, API_KEY, Node};

const CONFIGURED: [(&str, &str); 2] =
    [("FANFARE_API_KEY", API_KEY), ("FANFARE_ANON_KEY", ANON_KEY)];

#[test]
fn before_the_first_start_there_are_no_keys_and_none_are_made() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for env in [&[][..], &CONFIGURED[..1]] {
        let refused = run(&["keys"], env, dir.path());
        assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(2), ""));
        assert_eq!(
            text(&refused.stderr),
            "fanfare: ./fanfare-data/keys.toml: there are no keys yet; start the node first, or \
             set FANFARE_API_KEY and FANFARE_ANON_KEY\n"
        );
    }
    let wrong = run(&["keys"], &[("FANFARE_LISTEN", "here")], dir.path());
    assert_eq!((wrong.status.code(), text(&wrong.stdout)), (Some(2), ""));
    assert_eq!(listing(dir.path()), []);
}

#[test]
fn configured_keys_are_printed_for_a_shell() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let printed = run(&["keys"], &CONFIGURED, dir.path());
    assert_eq!((printed.status.code(), text(&printed.stderr)), (Some(0), ""));
    let expected = format!("API_KEY='{API_KEY}'\nANON_KEY='{ANON_KEY}'\n");
    assert_eq!(text(&printed.stdout), expected);
    assert_eq!(listing(dir.path()), []);
}

#[test]
fn the_keys_of_a_data_directory_are_printed_and_configured_ones_win() {
    let node = Node::with(|command| {
        command.env_remove("FANFARE_API_KEY").env_remove("FANFARE_ANON_KEY");
    });
    let dir = node.data_dir().to_str().expect("it is text");
    let kept = std::fs::read_to_string(node.data_dir().join("keys.toml")).expect("it is ours");
    let kept = |name: &str| {
        let mut lines = kept.lines().filter_map(|line| line.split_once(" = "));
        let (_, value) = lines.find(|(key, _)| *key == name).expect("it is kept");
        value.trim_matches('"').to_owned()
    };
    let keys = |env: &[(&str, &str)]| {
        let printed = run(&["keys", "--data-dir", dir], env, Path::new("/"));
        assert_eq!((printed.status.code(), text(&printed.stderr)), (Some(0), ""));
        text(&printed.stdout).to_owned()
    };
    let (api_key, anon_key) = (kept("api_key"), kept("anon_key"));
    assert_eq!(keys(&[]), format!("API_KEY='{api_key}'\nANON_KEY='{anon_key}'\n"));
    let mixed = format!("API_KEY='{API_KEY}'\nANON_KEY='{anon_key}'\n");
    assert_eq!(keys(&CONFIGURED[..1]), mixed);
    let listed = node.request("GET", "/api/realtime/channels", &[("x-api-key", &api_key)], b"");
    assert_eq!(listed.status, 200);
}
