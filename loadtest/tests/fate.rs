//! Runs the scenarios against a node that ends, stops, or is kept from its processor.

#[allow(dead_code, reason = "each test program uses its part")]
mod shared;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shared::{BINARY, Node, Running, result};

/// Runs that may be under way at once, over all tests of this program: they mostly wait.
const RUNS_MAX: usize = 4;

/// Places that no run has.
static FREE: Mutex<usize> = Mutex::new(RUNS_MAX);
static FREED: Condvar = Condvar::new();

/// This many places of runs, given back when it is dropped.
struct Places(usize);

impl Places {
    fn take(count: usize) -> Self {
        let free = FREE.lock().expect("nothing panics while it holds this");
        let mut free = FREED.wait_while(free, |free| *free < count).expect("nor does this");
        *free -= count;
        Self(count)
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        *FREE.lock().expect("nothing panics while it holds this") += self.0;
        FREED.notify_all();
    }
}

/// Does something with each of these at the same time, as far as places for their runs allow.
fn side_by_side<T: Send>(all: impl IntoIterator<Item = T>, act: impl Fn(T) + Sync) {
    let act = |one| {
        let _place = Places::take(1);
        act(one);
    };
    thread::scope(|scope| {
        for one in all {
            scope.spawn(|| act(one));
        }
    });
}

/// How a run ended: its exit code, what it said to stderr, its result, and the saved run.
struct Ended {
    code: Option<i32>,
    errors: String,
    said: String,
    saved: Value,
}

impl Ended {
    fn verdict(&self) -> &str {
        self.saved["verdict"]["kind"].as_str().expect("a verdict")
    }
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

/// Starts a run, calls `act` when its progress says that deliveries, answers or joins come, and
/// returns how the run ended.
fn during(node: &Node, scenario: &str, extra: &[&str], act: impl FnOnce(u32)) -> Ended {
    let [run, page] = ["json", "html"].map(|kind| node.folder.join(format!("{scenario}.{kind}")));
    let mut command = match scenario {
        // It has no --api-key.
        "documents" => Command::new(BINARY),
        _ => node.command(scenario, &[]),
    };
    if scenario == "documents" {
        command.args([scenario, "--url", &node.url]);
    }
    command.args(extra).arg("--save").arg(&run).arg("--report").arg(&page);
    let started = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut running = Running(started.expect("the binary was built"));
    let mut progress = BufReader::new(running.0.stderr.take().expect("it is piped")).lines();
    let is_at_work = |line: &String| line.contains(" left") && !line.contains(": 0 of ");
    let line = progress.find(|line| line.as_ref().is_ok_and(is_at_work));
    assert!(line.is_some(), "{scenario} ended");
    act(running.0.id());
    let errors: Vec<_> = progress.map(|line| line.expect("it is UTF-8")).collect();
    let mut said = String::new();
    let mut output = running.0.stdout.take().expect("it is piped");
    output.read_to_string(&mut said).expect("it is UTF-8");
    let code = running.0.wait().expect("it was started").code();
    let errors = errors.join("\n");
    let saved = fs::read_to_string(&run);
    let saved = saved.unwrap_or_else(|error| panic!("{scenario} saved nothing: {error}\n{errors}"));
    assert!(fs::read_to_string(&page).is_ok_and(|page| page.contains("</html>")), "{scenario}");
    Ended { code, errors, said, saved: serde_json::from_str(&saved).expect("it is JSON") }
}

#[test]
fn the_end_of_the_server_ends_every_scenario_with_the_summary_so_far() {
    let paced = ["-n", "5", "--rate", "20", "--seconds", "3600"];
    let documents = ["--clients", "5", "--resources", "50", "--rate", "20", "--seconds", "3600"];
    let scenarios = [
        ("fanout", &paced[..]),
        ("publish", &["--seconds", "3600"]),
        ("many-channels", &["--channels", "3", "--seconds", "3600"]),
        ("slow", &[&paced[..], &["--slow", "1"]].concat()),
        ("soak", &paced),
        ("churn", &["--underway", "2", "--seconds", "3600"]),
        ("saturate", &["-n", "5", "--seconds", "3600"]),
        ("idle", &["-n", "5", "--seconds", "3600"]),
        ("documents", &documents),
    ];
    side_by_side(scenarios, |(scenario, extra)| {
        let mut node = Node::start();
        let tokens = ["m2", "m2-writer"].map(|kind| node.token(kind));
        let credentials = ["--m2-token", &tokens[0], "--m2-writer", &tokens[1]];
        let credentials = credentials.iter().filter(|_| scenario == "documents");
        let extra: Vec<_> = extra.iter().chain(credentials).copied().collect();
        let start = Instant::now();
        let ended = during(&node, scenario, &extra, |_| signal(node.process.id(), "KILL"));
        let errors = &ended.errors;
        assert_eq!(ended.code, Some(1), "{scenario}: {errors}");
        assert_eq!(ended.verdict(), "server_ended", "{scenario}: {errors}");
        assert!(errors.contains("failed: the server ended "), "{scenario}: {errors}");
        assert!(!errors.contains("/proc/"), "{scenario}: {errors}");
        assert!(ended.said.contains("the server ended"), "{scenario}: {}", ended.said);
        assert!(start.elapsed() < Duration::from_secs(60), "{scenario}");
        node.process.wait().unwrap();
    });
}

#[test]
fn a_stopped_server_is_no_valid_run_and_its_pause_counts() {
    // Behind four seconds of pause comes the rest of the window, if any is left.
    let times = ["--seconds", "7", "--warmup", "0.5"];
    let scenarios = [
        ("churn", &["--underway", "4"][..]),
        ("churn", &["--rate", "50"]),
        ("publish", &[]),
        ("many-channels", &["--channels", "3"]),
        ("slow", &["-n", "5", "--slow", "1", "--rate", "20"]),
        ("fanout", &["-n", "5", "--rate", "20"]),
    ];
    side_by_side(scenarios, |(scenario, extra)| {
        let node = Node::start();
        let ended = during(&node, scenario, &[&times[..], extra].concat(), |_| {
            signal(node.process.id(), "STOP");
            thread::sleep(Duration::from_secs(4));
            signal(node.process.id(), "CONT");
        });
        let (what, errors) = (format!("{scenario} {extra:?}"), &ended.errors);
        assert!(matches!(ended.code, Some(3 | 4)), "{what}: {:?} {errors}", ended.code);
        assert_ne!(ended.verdict(), "valid", "{what}");
        let evidence = ended.saved["verdict"]["evidence"].to_string();
        assert!(evidence.contains("the server answered nothing"), "{what}: {evidence}");
        let window = &ended.saved["result"]["window"];
        if scenario == "fanout" {
            return;
        }
        assert!(window["longest_pause_ns"].as_u64() > Some(3_800_000_000), "{what}: {window}");
        // Rates are over the time that passed.
        let (count, wall_ns) = (&window["count"], &window["wall_ns"]);
        let rate = count.as_f64().unwrap() / (wall_ns.as_f64().unwrap() / 1e9);
        assert!((window["per_second"].as_f64().unwrap() / rate - 1.0).abs() < 1e-6, "{window}");
        assert!(wall_ns.as_f64().unwrap() >= 6.99e9, "{window}");
        if extra.contains(&"--rate") {
            // Each was due at its time, so that four seconds of seven are late.
            let p90 = ended.saved["result"]["latency_ns"]["p90"].as_u64();
            assert!(p90 > Some(1_000_000_000), "{what}: {p90:?}");
        }
    });
}

#[test]
fn a_server_that_stays_stopped_is_named_with_the_figures_so_far() {
    let _place = Places::take(1);
    let node = Node::start();
    let ended = during(&node, "publish", &["--seconds", "3600", "--depth", "2"], |_| {
        signal(node.process.id(), "STOP");
    });
    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    assert_eq!(ended.verdict(), "server_stuck");
    let fault = "failed: the server stopped answering: for 10 s no answer came to any of 32 ";
    assert!(ended.errors.contains(fault), "{}", ended.errors);
    assert!(ended.saved["result"]["window"]["count"].as_u64() > Some(0));
}

#[test]
fn what_is_unanswered_at_the_end_is_waited_for_only_briefly() {
    // Its times must be kept.
    let _places = Places::take(RUNS_MAX / 2);
    let node = Node::start();
    // A debug node commits some hundreds of these a second, because one waits for the other.
    let load = ["--connections", "1", "--depth", "20000"];
    let mut pressed = None;
    let ended = during(&node, "publish", &[&load[..], &["--seconds", "3600"]].concat(), |pid| {
        signal(pid, "INT");
        pressed = Some(Instant::now());
    });
    let elapsed = pressed.expect("it was pressed").elapsed();
    assert_eq!(ended.code, Some(130), "{}", ended.errors);
    // The longest part of it is what a busy machine takes.
    assert!(elapsed < Duration::from_secs(4), "{elapsed:?}");
    assert_eq!(ended.saved["interrupted"], true);
    let publications = &ended.saved["result"]["publications"];
    assert!(publications["unanswered"].as_u64() > Some(0), "{publications}");
    let start = Instant::now();
    let output = node.run("publish", &[&load[..], &["--seconds", "2", "--warmup", "0"]].concat());
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{errors}{said}");
    let fault = "publications were not answered, although they were waited for 5 s";
    assert!(errors.contains(fault), "{errors}");
    assert!(errors.lines().any(|line| line.contains(" s behind")), "no progress: {errors}");
}

#[test]
fn a_server_without_a_processor_is_not_measured() {
    let _places = Places::take(RUNS_MAX / 2);
    let node = Node::start();
    // As much as the node can do, so that it always wants its processor.
    let load = ["--ephemeral", "--depth", "16", "--seconds", "3", "--server-cpu", "0"];
    let spin = || {
        let mut command = Command::new("taskset");
        let spinning = command.args(["-c", "0", "sh", "-c", "while :; do :; done"]).spawn();
        Running(spinning.expect("taskset is installed"))
    };
    let spinning: Vec<_> = (0..4).map(|_| spin()).collect();
    let output = node.run("publish", &load);
    drop(spinning);
    let run = result(&output);
    let evidence = run["verdict"]["evidence"].to_string();
    assert_eq!(run["verdict"]["kind"], "server_starved", "{evidence}");
    assert_eq!(output.status.code(), Some(3), "{evidence}");
    assert!(evidence.contains("A thread of the server (worker-0) ran for "), "{evidence}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("the server was kept from its processor."), "{said}");
}
