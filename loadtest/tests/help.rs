//! Checks the output of `--help`.

use std::process::Command;

const LINES_MAX: usize = 45;
const COLUMNS_MAX: usize = 100;

#[test]
fn every_help_fits_a_screen_and_has_an_example() {
    let whole = help(&[]);
    let listed = whole.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let commands: Vec<_> = listed.filter_map(|line| line.split_ascii_whitespace().next()).collect();
    let expected = [
        "fanout",
        "floor",
        "compare",
        "idle",
        "documents",
        "publish",
        "floor-publish",
        "many-channels",
        "floor-channels",
        "slow",
        "churn",
        "floor-join",
        "reconnect-storm",
        "websocket",
        "saturate",
        "soak",
        "diff",
        "help",
    ];
    assert_eq!(commands, expected);
    for command in commands.iter().filter(|command| **command != "help") {
        check(&help(&[command]));
    }
    check(&whole);
}

fn help(command: &[&str]) -> String {
    let mut loadtest = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    let output = loadtest.args(command).arg("--help").output().expect("the binary was built");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("help is UTF-8")
}

fn check(help: &str) {
    assert!(help.lines().count() <= LINES_MAX, "{} lines:\n{help}", help.lines().count());
    for line in help.lines() {
        assert!(line.chars().count() <= COLUMNS_MAX, "too wide: {line}");
    }
    assert!(help.contains("Example:\n  loadtest "), "no example:\n{help}");
}

#[test]
fn every_scenario_reads_its_credentials_from_the_environment() {
    let servers = ["fanout", "compare", "idle", "many-channels", "slow", "churn"];
    let servers = servers.iter().chain(&["reconnect-storm", "saturate", "soak"]);
    for command in servers.chain(&["publish"]) {
        let help = help(&[command]);
        assert!(help.contains("[env: LOADTEST_API_KEY]"), "{command}");
        let has_clients = *command != "publish";
        assert_eq!(help.contains("[env: LOADTEST_TOKEN]"), has_clients, "{command}");
    }
}
