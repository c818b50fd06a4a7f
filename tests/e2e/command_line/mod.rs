//! The command line as the operator uses it: configurations, keys, tokens, help.

mod case;
mod check;
mod help;
mod keys;
mod secrets;
mod token;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::remove_settings;

/// Runs the program to its end. A node that serves by mistake is killed.
fn run(args: &[&str], env: &[(&str, &str)], dir: &Path) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_fanfare")]).args(args).current_dir(dir);
    remove_settings(&mut command);
    command.envs(env.iter().copied()).output().expect("the binary runs")
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
