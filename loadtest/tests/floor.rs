//! Runs the program against the floor, which needs no node.

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_loadtest");

/// Returns a command with 50 publications for 50 subscribers.
fn floor(extra: &[&str]) -> Command {
    run("1", extra)
}

fn endless_floor() -> Running {
    let mut command = run("3600", &["--connections-per-process", "20"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    Running(Some(child.expect("the binary was built")))
}

fn run(seconds: &str, extra: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["floor", "-n", "50", "--rate", "40", "--warmup", "0.25", "--seconds", seconds]);
    command.args(extra);
    command
}

/// A run that is killed when its test ends.
struct Running(Option<Child>);

impl Running {
    fn id(&self) -> u32 {
        self.0.as_ref().expect("it is taken only by what consumes this").id()
    }

    fn output(mut self) -> Output {
        let child = self.0.take().expect("it is taken only by what consumes this");
        child.wait_with_output().expect("the run ends")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().expect("it was not waited for");
            child.wait().expect("it was killed");
        }
    }
}

/// Returns the result of a good run.
fn result(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    printed(output)
}

/// Returns the result of a run that lost nothing, even if the verdict is that a side fell behind: a
/// busy machine is enough for that.
fn complete(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 3 | 4)), "{text}\n{errors}");
    printed(output)
}

/// Returns the line of JSON, which is the last line of the output.
fn printed(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().expect("a good run says something");
    serde_json::from_str(last).expect("it is JSON")
}

fn assert_all_arrived(result: &Value) {
    assert_eq!(result["scenario"], "floor");
    assert_eq!(result["publications"]["accepted"], 50);
    let deliveries = &result["deliveries"];
    assert_eq!((&deliveries["expected"], &deliveries["received"]), (&2_500.into(), &2_500.into()));
    for defect in ["lost", "duplicated", "reordered", "despite_refusal"] {
        assert_eq!(deliveries[defect], 0, "{defect}");
    }
    // The warm-up's ten publications are delivered, but not timed.
    assert_eq!(result["latency_ns"]["count"], 2_000);
    assert!(result["latency_ns"]["p50"].as_u64() > Some(0));
    assert!(result["window"]["server"]["total_ns"].as_u64() > Some(0));
}

#[test]
fn the_floor_delivers_everything_once_and_in_order() {
    let result = result(&floor(&["--threads", "2"]).output().unwrap());
    assert_all_arrived(&result);
    assert_eq!(result["client_processes"], 1);
}

#[test]
fn however_it_sends_it_delivers_everything_once_and_in_order() {
    for sends in ["plain", "coalescing", "ring"] {
        let extra = ["--sends", sends, "--publications"];
        for publications in ["clock", "http"] {
            let extra = [&extra[..], &[publications]].concat();
            assert_all_arrived(&complete(&floor(&extra).output().unwrap()));
        }
    }
}

#[test]
fn above_what_it_can_do_it_delivers_everything_later() {
    for sends in ["plain", "coalescing", "ring"] {
        for source in [&["--turn-max", "3"][..], &["--publications", "http"]] {
            let mut command = Command::new(BINARY);
            command.args(["floor", "-n", "20", "--rate", "100000", "--warmup", "0"]);
            command.args(["--seconds", "0.05", "--payload-bytes", "2000", "--sends", sends]);
            let result = complete(&command.args(source).output().unwrap());
            let deliveries = &result["deliveries"];
            assert_eq!(deliveries["received"], 20 * 5_000, "{sends} {source:?}");
            for defect in ["lost", "duplicated", "reordered"] {
                assert_eq!(deliveries[defect], 0, "{sends} {source:?}: {defect}");
            }
        }
    }
}

#[test]
fn clients_that_read_slowly_get_everything_from_a_ring_too() {
    // Together they are sent 120 MB, more than the floor queues.
    let mut command = Command::new(BINARY);
    command.args(["floor", "-n", "5", "--rate", "40", "--warmup", "0", "--seconds", "1"]);
    command.args(["--payload-bytes", "600000", "--lazy-ms", "40", "--sends", "ring"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "the client fell behind, because it was told to");
    let result = printed(&output);
    let deliveries = &result["deliveries"];
    assert_eq!((&deliveries["received"], &deliveries["lost"]), (&200.into(), &0.into()));
}

#[test]
fn clients_in_several_processes_add_up_to_the_same() {
    let result = result(&floor(&["--connections-per-process", "20"]).output().unwrap());
    assert_all_arrived(&result);
    assert_eq!(result["client_processes"], 4, "three with clients and the one that conducts");
}

#[test]
fn clients_of_forge_get_everything_too() {
    let result = result(&floor(&["--api", "forge", "--payload-bytes", "300"]).output().unwrap());
    assert_all_arrived(&result);
    assert_eq!(result["api"], "forge");
    // A frame has a header of 4 bytes, 144 bytes around the payload, and the payload.
    assert_eq!(result["frame_bytes"], 4 + 144 + 300);
}

#[test]
fn clients_of_m2_get_everything_too() {
    let result = result(&floor(&["--api", "m2", "--payload-bytes", "300"]).output().unwrap());
    assert_all_arrived(&result);
    assert_eq!(result["api"], "m2");
    assert_eq!(result["frame_bytes"], 4 + 104 + 300);
}

#[test]
fn streams_get_everything_too() {
    let extra = ["--api", "events", "--payload-bytes", "300", "--connections-per-process", "20"];
    let result = result(&floor(&extra).output().unwrap());
    assert_all_arrived(&result);
    assert_eq!(result["api"], "events");
    // 173 bytes are around the payload.
    assert_eq!(result["frame_bytes"], 173 + 300);
    assert_eq!(result["client_processes"], 4);
}

#[test]
fn clients_that_read_slowly_get_everything_in_the_end() {
    // Each client receives 24 MB, more than the buffers of a connection hold.
    let mut command = Command::new(BINARY);
    command.args(["floor", "-n", "5", "--rate", "40", "--warmup", "0", "--seconds", "1"]);
    command.args(["--payload-bytes", "600000", "--lazy-ms", "40"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "the client fell behind, because it was told to");
    let result = printed(&output);
    assert_eq!(result["verdict"]["kind"], "client_fell_behind");
    let deliveries = &result["deliveries"];
    assert_eq!((&deliveries["received"], &deliveries["lost"]), (&200.into(), &0.into()));
}

#[test]
fn a_broken_threshold_is_exit_code_1_and_wrong_usage_2() {
    let slow = floor(&["--max-p99-ms", "0.000001"]).output().unwrap();
    assert_eq!(slow.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&slow.stderr).contains("failed: the 99th percentile of latency is")
    );
    let wrong = floor(&["--rate", "none"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_client_process_that_dies_is_a_fault_and_ends_the_run_soon() {
    // The first time is while clients connect, the second while publishing.
    for after_ms in [0, 2_000] {
        let run = endless_floor();
        let clients = await_helper(&run, "clients");
        thread::sleep(Duration::from_millis(after_ms));
        let start = Instant::now();
        assert!(Command::new("kill").args(["-KILL", &clients]).status().unwrap().success());
        let output = run.output();
        assert_eq!(output.status.code(), Some(1));
        let errors = String::from_utf8_lossy(&output.stderr);
        let fault = format!("(pid {clients}) ended before it was done");
        assert!(errors.contains("client process") && errors.contains(&fault), "{errors}");
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn a_floor_that_dies_is_a_fault_too() {
    let run = endless_floor();
    let floor = await_helper(&run, "floor-server");
    assert!(Command::new("kill").args(["-KILL", &floor]).status().unwrap().success());
    let output = run.output();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("failed: "), "{errors}");
}

#[test]
fn helpers_end_with_the_process_that_started_them() {
    let run = endless_floor();
    let helpers = [await_helper(&run, "clients"), await_helper(&run, "floor-server")];
    drop(run);
    let start = Instant::now();
    while helpers.iter().any(|pid| is_running(pid)) {
        assert!(start.elapsed() < Duration::from_secs(20), "a helper is still there");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the pid of the child of `run` that was started with this subcommand.
fn await_helper(run: &Running, subcommand: &str) -> String {
    let start = Instant::now();
    let children = format!("/proc/{0}/task/{0}/children", run.id());
    loop {
        let pids = fs::read_to_string(&children).unwrap_or_default();
        let found = pids.split_ascii_whitespace().find(|pid| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line == format!("loadtest\0{subcommand}\0")
        });
        if let Some(pid) = found {
            return pid.to_owned();
        }
        assert!(start.elapsed() < Duration::from_secs(20), "no {subcommand} was started");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A zombie has ended, even if its parent has not read its exit code yet.
fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
