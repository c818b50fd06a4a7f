//! Runs the program and looks at what it says of its runs, and at how it ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_loadtest");

/// A folder for the files of one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("loadtest-{name}-{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("the target folder can be written");
        Self(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("the path is UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns a command with the floor and 50 subscribers.
fn floor(seconds: &str, extra: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["floor", "-n", "50", "--rate", "40", "--warmup", "0.25", "--seconds", seconds]);
    command.args(extra);
    command
}

fn saved(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("it was saved")).expect("it is JSON")
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn figure(run: &Value, name: &str) -> f64 {
    let figures = run["figures"].as_array().expect("a list");
    let figure = figures.iter().find(|figure| figure["name"] == name);
    figure.and_then(|figure| figure["value"].as_f64()).unwrap_or_else(|| panic!("no {name}"))
}

fn diff(before: &str, after: &str) -> Output {
    Command::new(BINARY).args(["diff", before, after]).output().expect("the binary was built")
}

#[test]
fn a_saved_run_has_its_course_and_figures_that_agree() {
    let folder = Folder::new("saved");
    let path = folder.file("run.json");
    let output = floor("3", &["--save", &path]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let run = saved(&path);
    assert_eq!((&run["format"], &run["version"]), (&"loadtest-run".into(), &1.into()));
    assert_eq!((&run["scenario"], &run["settings"]["rate"]), (&"floor".into(), &40.0.into()));
    assert_eq!(run["verdict"]["kind"], "valid");
    assert!(run["machine"]["cores"].as_u64() > Some(0));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(run["versions"]["loadtest"], version);
    let printed: Value =
        serde_json::from_str(text(&output.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(run["result"], printed);

    let points = run["series"]["points"].as_array().unwrap();
    assert!((3..=5).contains(&points.len()), "{points:?}");
    let number = |point: &Value, name: &str| point[name].as_f64().unwrap();
    let delivered: f64 =
        points.iter().map(|point| number(point, "delivered") * number(point, "length_s")).sum();
    // Deliveries of the warm-up may still be under way when the window begins.
    assert!((5_950.0..=6_100.0).contains(&delivered.round()), "{delivered}");
    for point in points {
        assert!(number(point, "length_s") > 0.0 && number(point, "client_cores") >= 0.0);
        assert!(number(point, "server_cores") >= 0.0 && point["rss_bytes"].as_u64() > Some(0));
        assert_eq!(point["lost"], 0);
    }
    let offered: Vec<_> = points.iter().map(|point| number(point, "offered").round()).collect();
    assert_eq!(offered[..3], [2_000.0; 3]);
    let buckets = run["latency"]["buckets"].as_array().unwrap();
    let count: u64 = buckets.iter().map(|bucket| bucket[1].as_u64().unwrap()).sum();
    assert_eq!(count, 6_000);
    assert_eq!(figure(&run, "lost"), 0.0);
    assert!(figure(&run, "latency p50") <= figure(&run, "latency p99"));
    assert!(figure(&run, "latency p99") <= figure(&run, "latency max"));
}

#[test]
fn two_saved_runs_are_compared_and_different_scenarios_refused() {
    let folder = Folder::new("diff");
    let [before, after] = [folder.file("a.json"), folder.file("b.json")];
    for extra in [&["--save", &before][..], &["--save", &after, "--payload-bytes", "256"]] {
        // Their verdicts are not compared, and a busy machine is enough for a bad one.
        let code = floor("1", extra).status().unwrap().code();
        assert!(matches!(code, Some(0 | 3 | 4)), "{code:?}");
    }
    let compared = diff(&before, &after);
    assert!(compared.status.success());
    let table = text(&compared.stdout);
    assert!(table.contains("warning: payload_bytes differs: 128 in A, 256 in B"), "{table}");
    let row = table.lines().find(|line| line.contains("expected deliveries")).unwrap();
    assert!(row.ends_with("2,500        2,500    1.000"), "{table}");

    let mut other = saved(&after);
    other["scenario"] = "fanout".into();
    fs::write(&after, other.to_string()).unwrap();
    let refused = diff(&before, &after);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("failed: the runs cannot be compared"));
}

#[test]
fn each_threshold_names_its_figure_and_its_bound() {
    for (flag, figure) in [
        ("--max-p99-ms", "the 99th percentile of latency"),
        ("--max-cpu-us-per-delivery", "the server's processor time per delivery"),
        ("--max-bytes-per-connection", "the server's memory per connection"),
    ] {
        let output = floor("1", &[flag, "0.000001"]).output().unwrap();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let sentence = format!("failed: {figure} is ");
        let bound = format!(", more than 0.000001 ({flag})");
        assert!(errors.contains(&sentence) && errors.contains(&bound), "{errors}");
    }
}

#[test]
fn the_first_ctrl_c_gives_the_summary_so_far() {
    // The clients are once in this process and once in others.
    for processes in [&[][..], &["--connections-per-process", "20"]] {
        let folder = Folder::new("interrupted");
        let path = folder.file("run.json");
        let mut command = floor("3600", &["--save", &path]);
        let run = command.args(processes).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut run = run.spawn().unwrap();
        let mut progress = BufReader::new(run.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("p99") {
            line.clear();
            assert!(progress.read_line(&mut line).unwrap() > 0, "the run ended");
        }
        assert!(line.contains(" of 3601 s, "), "{line}");
        let pid = run.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let output = run.wait_with_output().unwrap();
        let rest: Vec<_> = progress.lines().map(Result::unwrap).collect();
        assert_eq!(output.status.code(), Some(130), "{rest:?}");
        assert!(rest.iter().any(|line| line.starts_with("interrupted: ")), "{rest:?}");
        assert!(text(&output.stdout).contains("floor on load:1"));
        let saved = saved(&path);
        assert_eq!(
            (&saved["interrupted"], &saved["defects"]),
            (&true.into(), &Value::Array(vec![]))
        );
        let seconds = saved["seconds"].as_f64().unwrap();
        assert!((3.0..60.0).contains(&seconds), "{seconds}");
        assert!(figure(&saved, "expected deliveries") >= 40.0 * 50.0 * 3.0);
    }
}

#[test]
fn a_run_that_is_interrupted_before_it_measures_says_so() {
    let output = Command::new(BINARY)
        .args(["floor", "-n", "5", "--warmup", "3600", "--seconds", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|mut run| {
            let mut line = String::new();
            let mut progress = BufReader::new(run.stderr.take().expect("it is piped"));
            while !line.contains("left") {
                line.clear();
                progress.read_line(&mut line)?;
            }
            Command::new("kill").args(["-INT", &run.id().to_string()]).status()?;
            let rest: Result<Vec<_>, _> = progress.lines().collect();
            Ok((run.wait_with_output()?, rest?))
        });
    let (output, rest) = output.unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(rest.join("\n").contains("interrupted before the measured window began"), "{rest:?}");
    assert!(output.stdout.is_empty());
}

#[test]
fn the_page_shows_the_saved_figures_in_a_browser() {
    let folder = Folder::new("page");
    let [run, page] = [folder.file("run.json"), folder.file("run.html")];
    let output = floor("3", &["--save", &run, "--report", &page]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients");
    // The harness of these programs wants a node, which this one does not use.
    let unused = ["FANFARE_URL", "FANFARE_API_KEY", "FANFARE_ANON_KEY", "FANFARE_JWT_SECRET"];
    let looked = Command::new("node")
        .arg(clients.join("report_page.mjs"))
        .args([&page, &run, "6"])
        .envs(unused.map(|name| (name, "unused")))
        .output()
        .expect("node is installed, as tests/run does");
    assert!(looked.status.success(), "{}{}", text(&looked.stdout), text(&looked.stderr));
}

#[test]
fn wrong_usage_is_exit_code_2_before_anything_is_done() {
    let template = ["--publish-template", "{payload}", "--url", "ws://127.0.0.1:1/"];
    for (scenario, extra) in [
        ("slow", &["-n", "5", "--slow", "5"][..]),
        ("slow", &["-n", "5", "--slow", "6"]),
        ("saturate", &["--from", "100", "--most", "50"]),
        ("saturate", &["--rate", "5"]),
        ("soak", &["--seconds", "10", "--interval", "10"]),
        ("soak", &["--interval", "0"]),
        ("publish", &["--seconds", "0"]),
        ("churn", &["--seconds", "0"]),
        ("reconnect-storm", &["--patience", "0"]),
        ("publish", &["--save", "/nowhere/run.json"]),
        ("churn", &["--report", "/nowhere/run.html"]),
        ("publish", &["--server-cpu", "1000"]),
        ("publish", &["--client-cpu", "1000"]),
        ("websocket", &template),
    ] {
        let mut command = Command::new(BINARY);
        // Nothing listens there: a run that began would fail with 1.
        command.arg(scenario).env("LOADTEST_API_KEY", "ik_1").args(extra);
        let url = ["--url", "http://127.0.0.1:1"];
        command.args(url.iter().filter(|_| scenario != "websocket"));
        let output = command.output().unwrap();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{scenario} {extra:?}: {errors}");
        assert!(errors.starts_with("error: ") && output.stdout.is_empty(), "{errors}");
    }
}
