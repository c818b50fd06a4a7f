//! Runs the scenarios against a node.

#[allow(dead_code, reason = "each test program uses its part")]
mod shared;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::shared::{BINARY, Node, Running, result};

/// Runs a scenario against the floor and returns its result.
fn floor(scenario: &str, extra: &[&str]) -> Value {
    result(&Command::new(BINARY).arg(scenario).args(extra).output().expect("the binary was built"))
}

/// Publications every 5 ms: 100 in the warm-up and the measured window together.
const PACED: [&str; 10] =
    ["--rate", "200", "--warmup", "0.1", "--seconds", "0.4", "--connections", "4", "--depth", "2"];

#[test]
fn publications_without_audience_are_counted_exactly() {
    let node = Node::start();
    for extra in [&[][..], &["--ephemeral"]] {
        let result = result(&node.run("publish", &[&PACED[..], extra].concat()));
        assert_eq!(
            (&result["publications"]["sent"], &result["publications"]["accepted"]),
            (&100.into(), &100.into())
        );
        assert_eq!(result["answer_ns"]["count"], 80);
        assert!(result["window"]["server"]["total_ns"].as_u64() > Some(0));
        node.assert_nothing_is_left();
    }
    let fast = node.run("publish", &["--warmup", "0", "--seconds", "0.3", "--depth", "8"]);
    let fast = result(&fast);
    // As many as may be unanswered are sent at once.
    assert!(fast["publications"]["accepted"].as_u64() >= Some(16 * 8));
    assert_eq!(fast["publications"]["unanswered"], 0);
    let floor = floor("floor-publish", &PACED);
    assert_eq!(floor["publications"]["accepted"], 100);
}

#[test]
fn subscribers_of_many_channels_get_everything_of_theirs_and_nothing_else() {
    let node = Node::start();
    let extra = ["--channels", "30", "--subscribers", "3", "--connections-per-process", "40"];
    let extra = [&PACED[..], &extra].concat();
    let check = |result: &Value| {
        assert_eq!(result["publications"]["accepted"], 100);
        assert_eq!(result["deliveries"]["expected"], 300);
        assert_eq!(result["deliveries"]["received"], 300);
        assert_eq!(result["latency_ns"]["count"], 240);
        assert!(result["window"]["server"]["total_ns"].as_u64() > Some(0));
        for defect in ["lost", "duplicated", "reordered", "despite_refusal"] {
            assert_eq!(result["deliveries"][defect], 0, "{defect}");
        }
    };
    let more = ["--presence", "off", "--ephemeral", "--token", &node.anon_key];
    for more in [&more[..], &more[..3], &[]] {
        check(&result(&node.run("many-channels", &[&extra[..], more].concat())));
        node.assert_nothing_is_left();
    }
    check(&floor("floor-channels", &extra));
    let fast = ["--channels", "30", "--warmup", "0", "--seconds", "0.3", "--depth", "8"];
    for result in [result(&node.run("many-channels", &fast)), floor("floor-channels", &fast)] {
        let sent = result["publications"]["accepted"].as_u64().unwrap();
        assert!(sent > 100);
        assert_eq!(result["deliveries"]["received"], 2 * sent);
    }
}

#[test]
fn clients_that_do_not_read_cost_the_others_nothing() {
    let node = Node::start();
    let extra = ["-n", "8", "--slow", "4", "--payload-bytes", "300000"];
    // Slower than the others, so that clients that read keep up on a busy machine too.
    let paced = ["--rate", "50", "--warmup", "0.1", "--seconds", "1.9"];
    // Each slow client misses 30 MB, more than the buffers of a connection and the outbox hold.
    for (manner, closed) in [("close", 4), ("drop-oldest", 0), ("latest", 0)] {
        let page = node.folder.join("slow.html");
        let manner = ["--slow-consumer", manner, "--ephemeral", "--report"];
        let manner = [&manner[..], &[page.to_str().unwrap()]].concat();
        let result = result(&node.run("slow", &[&paced[..], &extra, &manner].concat()));
        let page = fs::read_to_string(&page).unwrap();
        let told = format!("Of 4 that do not read, the server closed {closed}.");
        assert!(page.contains(&told) && !page.contains("was cut off"), "{manner:?}: {told}");
        assert!(page.contains("beside 4 clients without reading"), "{manner:?}");
        assert_eq!(result["publications"]["accepted"], 100);
        assert_eq!(result["subscribers"], 4);
        assert_eq!(result["deliveries"]["received"], 400);
        assert_eq!((&result["slow"], &result["connections_lost"]), (&4.into(), &0.into()));
        assert_eq!(result["slow_closed"], closed, "{manner:?}");
        assert!(result["window"]["server"]["total_ns"].as_u64() > Some(0));
        node.assert_nothing_is_left();
    }
}

#[test]
fn what_readers_miss_under_overload_is_told_and_not_called_lost() {
    let node = Node::start();
    let load = ["-n", "8", "--slow", "4", "--payload-bytes", "300000", "--ephemeral"];
    // More than a debug node on a core with the clients can send. Others may lose nothing.
    let paced = ["--rate", "600", "--warmup", "0.1", "--seconds", "0.9"];
    for manner in ["close", "drop-oldest"] {
        let manner = ["--slow-consumer", manner];
        let output = node.run("slow", &[&paced[..], &load, &manner].concat());
        let (said, errors) =
            [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it)).into();
        let result: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        let count = |name: &str| result["deliveries"][name].as_u64().unwrap();
        assert_eq!(count("lost"), count("announced") + count("cut_off"), "{said}");
        assert_eq!(count("received") + count("lost"), count("expected"));
        assert_eq!(result["connections_lost"], result["closed_as_slow"], "{said}");
        assert!(!errors.contains("failed"), "{errors}");
        if count("lost") > 0 {
            assert_ne!(result["verdict"]["kind"], "valid", "{said}");
            assert!(matches!(output.status.code(), Some(3 | 4)), "{errors}");
        }
        node.assert_nothing_is_left();
    }
}

#[test]
fn joins_are_counted_exactly_and_do_not_fail() {
    let node = Node::start();
    let paced = ["--rate", "200", "--warmup", "0.1", "--seconds", "0.4", "--members", "5"];
    let check = |result: &Value| {
        assert_eq!(
            (&result["joins"]["succeeded"], &result["joins"]["failed"]),
            (&100.into(), &0.into())
        );
        assert_eq!(
            (&result["joins"]["lost"], &result["latency_ns"]["count"]),
            (&0.into(), &80.into())
        );
        assert!(result["window"]["server"]["total_ns"].as_u64() > Some(0));
    };
    for presence in ["full", "off"] {
        let extra = ["--anon-key", &node.anon_key, "--presence", presence];
        check(&result(&node.run("churn", &[&paced[..], &extra].concat())));
        node.assert_nothing_is_left();
    }
    check(&floor("floor-join", &paced));
    let fast = ["--warmup", "0", "--seconds", "0.3", "--underway", "8"];
    for result in [result(&node.run("churn", &fast)), floor("floor-join", &fast)] {
        assert!(result["joins"]["succeeded"].as_u64() > Some(8));
        assert_eq!(result["joins"]["failed"], 0);
    }
}

#[test]
fn after_a_storm_all_clients_are_back() {
    let node = Node::start();
    for extra in [&["--presence", "off"][..], &["--underway", "20"]] {
        let extra = [&["-n", "200"], extra].concat();
        let result = result(&node.run("reconnect-storm", &extra));
        assert_eq!((&result["clients"], &result["back"]), (&200.into(), &200.into()));
        assert_eq!(
            (&result["joins"]["succeeded"], &result["latency_ns"]["count"]),
            (&200.into(), &200.into())
        );
        assert!(result["all_back_ns"].as_u64() > Some(0));
        assert!(result["window"]["server"]["total_ns"].as_u64() > Some(0));
        node.assert_nothing_is_left();
    }
}

#[test]
fn a_server_is_loaded_by_templates_of_its_messages() {
    let node = Node::start();
    let connect = format!("40{{\"token\":\"{}\"}}", node.anon_key);
    let url = format!("ws{}/socket.io/?EIO=4&transport=websocket", &node.url["http".len()..]);
    node.definitions("POST", r#"{"pattern":"load"}"#);
    let path = format!("{}/api/realtime/messages", node.url);
    let credential = format!("X-API-Key: {}", node.api_key);
    let over_http = [
        "--publish-template",
        r#"{"channel":"{channel}","event":"load","payload":{payload}}"#,
        "--publish-url",
        &path,
        "--publish-header",
        &credential,
    ];
    let over_socket = [
        "--publish-template",
        r#"42["REALTIME_PUBLISH",{"channel":"{channel}","event":"load","payload":{payload}}]"#,
    ];
    for publish in [&over_http[..], &over_socket] {
        let mut command = Command::new(BINARY);
        command.args(["websocket", "--url", &url, "-n", "20"]);
        command.args(["--subscribe-template", &connect]);
        command
            .args(["--subscribe-template", r#"420["realtime:subscribe",{"channel":"{channel}"}]"#]);
        command.args(["--ready-when", r#"430[{"ok":true"#]).args(PACED).args(publish);
        let output = command.output().unwrap();
        let result = result(&output);
        assert_eq!(result["publications"]["accepted"], 100);
        assert_eq!(result["deliveries"]["expected"], 2_000);
        assert_eq!(result["deliveries"]["received"], 2_000);
        assert_eq!(result["latency_ns"]["count"], 1_600);
        assert!(result["window"]["server"]["total_ns"].as_u64() > Some(0));
    }
}

#[test]
fn the_highest_sustained_rate_is_found_below_one_that_cannot_be() {
    let node = Node::start();
    // A latency below a microsecond cannot be sustained, and one of a minute always is.
    let extra = ["-n", "20", "--from", "50", "--warmup", "0.1", "--seconds", "0.3", "--ephemeral"];
    let easy = ["--most", "200", "--p99-ms", "60000"];
    let result = result(&node.run("saturate", &[&extra[..], &easy].concat()));
    assert_eq!((&result["sustained"]["rate"], &result["stopped"]), (&200.0.into(), &Value::Null));
    let rates: Vec<_> = result["steps"].as_array().unwrap().iter().map(|it| &it["rate"]).collect();
    assert_eq!(rates, [50.0, 100.0, 200.0]);
    let hard = ["--p99-ms", "0.0001", "--halvings", "1"];
    let failed = node.run("saturate", &[&extra[..], &hard].concat());
    assert_eq!(failed.status.code(), Some(1));
    let text = String::from_utf8(failed.stdout).unwrap();
    assert!(text.contains("at 25.0/s: p99 latency is"), "{text}");
    node.assert_nothing_is_left();
}

#[test]
fn a_soak_fails_on_growth_and_samples_each_interval() {
    let node = Node::start();
    let extra =
        ["-n", "20", "--interval", "0.2", "--warmup", "0.2", "--seconds", "1.8", "--rate", "50"];
    let good = node.run("soak", &[&extra[..], &["--max-memory-growth", "1000"]].concat());
    let result = result(&good);
    assert_eq!(result["deliveries"]["received"], 2_000);
    let intervals = result["intervals"].as_array().unwrap();
    // A busy machine may make one longer, which takes the place of two.
    assert!((4..=9).contains(&intervals.len()), "{intervals:?}");
    let delivered: u64 = intervals.iter().map(|it| it["deliveries"].as_u64().unwrap()).sum();
    assert!(delivered <= 2_000 && intervals[0]["p99_ns"].as_u64() > Some(0));
    node.assert_nothing_is_left();
}

#[test]
fn a_soak_has_as_many_intervals_as_its_time_holds() {
    let node = Node::start();
    let load = ["-n", "5", "--rate", "20", "--warmup", "0.1", "--max-memory-growth", "1000"];
    let at = |times: &[&str]| {
        let run = result(&node.run("soak", &[&load[..], times].concat()));
        let intervals = run["intervals"].as_array().unwrap().clone();
        assert!(run["growth_percent"]["memory"].is_number(), "{run}");
        intervals
    };
    let intervals = at(&["--seconds", "4", "--interval", "1"]);
    assert_eq!(intervals.len(), 4, "{intervals:?}");
    for interval in &intervals {
        let seconds = interval["seconds"].as_f64().unwrap();
        assert!((0.5..1.5).contains(&seconds), "{intervals:?}");
    }
    // Without --interval it is a tenth of so short a time.
    assert_eq!(at(&["--seconds", "5"]).len(), 10);
    node.assert_nothing_is_left();
}

/// A scenario that can save its runs, and what is to be seen of it.
struct Saving<'a> {
    scenario: &'a str,
    extra: Vec<&'a str>,
    /// Whether it is run at the node. The floors bring their own server.
    at_node: bool,
    /// A figure of the saved run.
    figure: &'a str,
    /// Number of drawings on its page.
    charts: &'a str,
}

impl Saving<'_> {
    /// Runs it twice, with a page of the first run. Returns the saved runs.
    fn check(&self, node: &Node) -> [Value; 2] {
        let Self { scenario, figure, .. } = self;
        let file = |name: &str| {
            let path = node.folder.join(format!("{scenario}-{name}"));
            path.to_str().expect("it is UTF-8").to_owned()
        };
        let (paths, page) = (["a.json", "b.json"].map(file), file("a.html"));
        let runs = [(&paths[0], Some(&page)), (&paths[1], None)].map(|(path, page)| {
            let mut command = if self.at_node {
                node.command(scenario, &self.extra)
            } else {
                let mut command = Command::new(BINARY);
                command.arg(scenario).args(&self.extra);
                command
            };
            command.args(["--save", path]);
            command.args(page.iter().flat_map(|page| ["--report", page]));
            let printed = result(&command.output().expect("the binary was built"));
            let text = fs::read_to_string(path).expect("it was saved");
            let saved: Value = serde_json::from_str(&text).expect("it is JSON");
            assert_eq!((&saved["result"], &saved["scenario"]), (&printed, &(*scenario).into()));
            let text = saved["settings"].to_string();
            assert!(!text.contains(&node.api_key), "{scenario} saves a credential: {text}");
            assert!(value(&saved, figure) > 0.0, "{scenario}");
            saved
        });
        let compared = Command::new(BINARY).arg("diff").args(&paths).output();
        let compared = compared.expect("the binary was built");
        let table = String::from_utf8_lossy(&compared.stdout);
        assert!(compared.status.success() && table.contains(figure), "{scenario}: {table}");
        assert!(!table.contains("differs"), "{scenario}: {table}");
        let page_test = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients");
        // The harness of these programs wants a node, which this one does not use.
        let unused = ["FANFARE_URL", "FANFARE_API_KEY", "FANFARE_ANON_KEY", "FANFARE_JWT_SECRET"];
        let looked = Command::new("node")
            .arg(page_test.join("report_page.mjs"))
            .args([&page, &paths[0], self.charts])
            .envs(unused.map(|name| (name, "unused")))
            .output()
            .expect("node is installed, as tests/run does");
        let errors = String::from_utf8_lossy(&looked.stderr);
        assert!(looked.status.success(), "{scenario}: {errors}");
        runs
    }
}

/// Returns a figure of a saved run.
fn value(run: &Value, name: &str) -> f64 {
    let figures = run["figures"].as_array().expect("a list");
    let figure = figures.iter().find(|figure| figure["name"] == name);
    figure.and_then(|figure| figure["value"].as_f64()).unwrap_or_else(|| panic!("no {name}"))
}

/// Checks the course of a saved run that counted these units.
fn assert_has_a_course(run: &Value, unit: &str) {
    let what = &run["scenario"];
    let series = &run["series"];
    assert_eq!(series["unit"], unit, "{what}");
    assert!(series["interval_s"].as_f64() > Some(0.0));
    let points = series["points"].as_array().expect("a list");
    assert!(!points.is_empty(), "{what}");
    let cores = run["machine"]["cores"].as_f64().expect("a number");
    let number = |point: &Value, name: &str| point[name].as_f64().unwrap_or(f64::NAN);
    let mut end_s = 0.0;
    let mut sum = 0.0;
    for point in points {
        let (at_s, length_s) = (number(point, "at_s"), number(point, "length_s"));
        assert!(at_s >= end_s - 1e-6 && length_s > 0.0, "{what}: {point}");
        end_s = at_s + length_s;
        sum += number(point, "delivered") * length_s;
        for name in ["sent", "delivered", "offered", "refused", "lost", "connections_lost"] {
            assert!(number(point, name) >= 0.0, "{what}: {name} in {point}");
        }
        for name in ["server_cores", "client_cores"] {
            assert!((0.0..=cores + 0.5).contains(&number(point, name)), "{what}: {point}");
        }
        assert!(number(point, "rss_bytes") > 1e5, "{what}: {point}");
        if !point["latency"].is_null() {
            let latency = &point["latency"];
            let at = ["p50", "p99", "max"].map(|name| latency[name].as_u64().expect("a number"));
            assert!(0 < at[0] && at[0] <= at[1] && at[1] <= at[2], "{what}: {point}");
        }
    }
    assert!(points.iter().any(|point| !point["latency"].is_null()), "{what} has no latency");
    // The course also has the units that came behind the window.
    let counted = run["result"]["window"]["count"].as_f64();
    let counted = counted.or_else(|| run["result"]["window"]["deliveries"].as_f64());
    let counted = counted.expect("the window counts its units");
    assert!(sum >= counted * 0.9 - 20.0 && sum <= counted * 1.5 + 20.0, "{what}: {sum} {counted}");
    assert!(number(&points[0], "client_cores") > 0.0, "{what}");
}

#[test]
fn every_scenario_saves_its_course_and_shows_it() {
    let node = Node::start();
    let joins = ["--rate", "100", "--warmup", "0.1", "--seconds", "0.4"];
    let channels = [&PACED[..], &["--channels", "5"]].concat();
    let slow = [&PACED[..], &["-n", "5", "--slow", "1"]].concat();
    let soak = ["-n", "5", "--interval", "0.1", "--seconds", "0.9", "--max-memory-growth", "1000"];
    let full_speed = ["--warmup", "0", "--seconds", "1.2"];
    for (scenario, extra, at_node, unit, charts) in [
        ("publish", PACED.to_vec(), true, "publications", "6"),
        ("publish", full_speed.to_vec(), true, "publications", "6"),
        ("floor-publish", PACED.to_vec(), false, "publications", "6"),
        ("many-channels", channels.clone(), true, "deliveries", "6"),
        ("floor-channels", channels, false, "deliveries", "6"),
        ("slow", slow, true, "deliveries", "6"),
        ("churn", joins.to_vec(), true, "joins", "6"),
        ("floor-join", joins.to_vec(), false, "joins", "6"),
        ("soak", soak.to_vec(), true, "deliveries", "6"),
    ] {
        let figure = &format!("{unit} per second");
        for run in (Saving { scenario, extra, at_node, figure, charts }).check(&node) {
            assert_has_a_course(&run, unit);
            assert_eq!(value(&run, figure), run["result"]["window"]["per_second"]);
            assert!(run["result"]["window"]["server"]["total_ns"].as_u64() > Some(0));
        }
    }
    node.assert_nothing_is_left();
}

#[test]
fn a_storm_saves_its_course_by_the_tenth_of_a_second() {
    let node = Node::start();
    let extra = vec!["-n", "300"];
    let figure = "joins per second";
    // If it is over within a tenth of a second, latency over time has a drawing, too.
    let page = Saving { scenario: "reconnect-storm", extra, at_node: true, figure, charts: "5" };
    for run in page.check(&node) {
        assert_has_a_course(&run, "joins");
        assert_eq!(run["series"]["interval_s"], 0.1);
    }
}

#[test]
fn a_run_at_any_server_saves_its_course_and_no_credential() {
    let node = Node::start();
    let connect = format!("40{{\"token\":\"{}\"}}", node.anon_key);
    let url = format!("ws{}/socket.io/?EIO=4&transport=websocket", &node.url["http".len()..]);
    node.definitions("POST", r#"{"pattern":"load"}"#);
    let subscribe = r#"420["realtime:subscribe",{"channel":"{channel}"}]"#;
    let publish =
        r#"42["REALTIME_PUBLISH",{"channel":"{channel}","event":"load","payload":{payload}}]"#;
    let extra = ["--url", &url, "-n", "20", "--subscribe-template", &connect];
    let more = ["--subscribe-template", subscribe, "--ready-when", r#"430[{"ok":true"#];
    let extra = [&extra[..], &more, &["--publish-template", publish], &PACED].concat();
    let figure = "deliveries per second";
    let saving = Saving { scenario: "websocket", extra, at_node: false, figure, charts: "6" };
    for run in saving.check(&node) {
        assert_has_a_course(&run, "deliveries");
        assert!(!run.to_string().contains(&node.anon_key));
    }
}

#[test]
fn saturate_saves_each_step_and_why_it_stopped() {
    let node = Node::start();
    // A latency of a minute is always kept. A step must deliver 95 % of its deliveries within its
    // window, of which a busy machine may keep the last tenth of a second or two: that is little of
    // four seconds, and nothing of a steady delay if the warm-up is longer than that.
    let load = ["-n", "20", "--from", "10", "--most", "20", "--warmup", "0.5", "--seconds", "4"];
    let extra = [&load[..], &["--ephemeral", "--p99-ms", "60000"]].concat();
    let figure = "sustained publications";
    let saving = Saving { scenario: "saturate", extra, at_node: true, figure, charts: "6" };
    for run in saving.check(&node) {
        assert_eq!(value(&run, figure), 20.0);
        assert_has_a_course(&json_of_step(&run), "deliveries");
        let steps = run["runs"].as_array().unwrap();
        let rates: Vec<_> = steps.iter().map(|step| &step["settings"]["rate"]).collect();
        assert_eq!(rates, [10.0, 20.0]);
        for step in steps {
            assert_has_a_course(step, "deliveries");
            assert_eq!((value(step, "offered") / 20.0).fract(), 0.0);
            assert_eq!(step["exceeded"], Value::Array(Vec::new()));
        }
        let reasons = run["verdict"]["evidence"].to_string();
        assert!(reasons.contains("20 is the highest rate that is tried."), "{reasons}");
    }
    // The limits of the highest step that is sustained fail the run.
    for limit in [["--min-rate", "21"], ["--max-p99-ms", "0.000001"], ["--max-cpu-us", "0.000001"]]
    {
        let one_step = ["-n", "20", "--from", "20", "--most", "20", "--halvings", "0"];
        let timed = ["--warmup", "0.5", "--seconds", "2", "--ephemeral", "--p99-ms", "60000"];
        let failed = node.run("saturate", &[&one_step[..], &timed, &limit].concat());
        let errors = String::from_utf8_lossy(&failed.stderr);
        assert!(errors.contains("failed: "), "{limit:?}: {errors}");
        assert!(matches!(failed.status.code(), Some(1 | 3)), "{limit:?}: {errors}");
    }
    // A latency below a microsecond cannot be kept.
    let path = node.folder.join("none.json");
    let hard = ["--p99-ms", "0.0001", "--halvings", "0", "--save", path.to_str().unwrap()];
    let failed = node.run("saturate", &[&load[..], &hard].concat());
    assert_eq!(failed.status.code(), Some(1));
    let saved: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let reasons = saved["runs"][0]["exceeded"].to_string();
    assert!(reasons.contains("p99 latency is"), "{reasons}");
    node.assert_nothing_is_left();
}

/// Returns what a saved run of `saturate` says of its highest sustained step, with that step's result.
fn json_of_step(run: &Value) -> Value {
    let mut step = run.clone();
    step["result"] = run["result"]["sustained"].clone();
    step
}

#[test]
fn compare_saves_the_runs_of_both_servers() {
    let node = Node::start();
    let extra = ["-n", "20", "--rate", "100", "--warmup", "0.1", "--seconds", "0.5"];
    let extra = [&extra[..], &["--pairs", "2", "--settle", "0.1", "--token", &node.anon_key]];
    let extra = extra.concat();
    let saving = Saving { scenario: "compare", extra, at_node: true, figure: "ratio", charts: "4" };
    for run in saving.check(&node) {
        let runs = run["runs"].as_array().unwrap();
        let scenarios: Vec<_> = runs.iter().map(|run| run["scenario"].as_str().unwrap()).collect();
        assert_eq!(scenarios, ["fanout", "floor", "floor", "fanout"], "the order alternates");
        for one in runs {
            let mut one = one.clone();
            // The floor does not count what it has sent.
            for point in one["series"]["points"].as_array_mut().unwrap() {
                point["sent"] = point["sent"].as_f64().unwrap_or_default().into();
            }
            assert_has_a_course(&one, "deliveries");
        }
        assert!(value(&run, "node CPU per delivery") > 0.0);
        assert!(value(&run, "floor CPU per delivery") > 0.0);
        assert_eq!(value(&run, "lost"), 0.0);
    }
    for limit in [["--max-ratio", "0.0001"], ["--max-p99-ms", "0.000001"]] {
        let failed = node.run("compare", &[&saving.extra[..], &limit].concat());
        let errors = String::from_utf8_lossy(&failed.stderr);
        assert!(errors.contains(limit[0]), "{errors}");
        assert!(matches!(failed.status.code(), Some(1 | 3)), "{limit:?}: {errors}");
    }
    node.assert_nothing_is_left();
}

#[test]
fn ctrl_c_ends_every_scenario_and_leaves_nothing_behind() {
    let node = Node::start();
    let few = ["-n", "5", "--seconds", "3600"];
    let scenarios = [
        // The first that is interrupted, because it would end by itself.
        ("reconnect-storm", &["-n", "1000"][..]),
        ("publish", &["--rate", "50", "--seconds", "3600"]),
        ("many-channels", &["--channels", "5", "--rate", "50", "--seconds", "3600"]),
        ("slow", &["-n", "5", "--slow", "1", "--rate", "10", "--seconds", "3600"]),
        ("churn", &["--underway", "2", "--rate", "50", "--seconds", "3600"]),
        ("saturate", &few),
        ("soak", &few),
    ];
    let start = |(scenario, extra): &(&str, &[&str])| {
        let mut command = node.command(scenario, extra);
        let run = command.args(["--channel", scenario]).stdout(Stdio::piped());
        Running(run.stderr(Stdio::piped()).spawn().expect("the binary was built"))
    };
    let runs: Vec<_> = scenarios.iter().map(start).collect();
    for ((scenario, _), mut run) in scenarios.iter().zip(runs) {
        let run = &mut run.0;
        let mut progress = BufReader::new(run.stderr.take().expect("it is piped")).lines();
        let is_at_work = |line: &String| match *scenario {
            "reconnect-storm" => line.starts_with("connecting"),
            _ => line.contains(" left") && !line.contains(": 0 of "),
        };
        let line = progress.find(|line| line.as_ref().is_ok_and(is_at_work));
        assert!(line.is_some(), "{scenario} ended");
        let pid = run.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let rest: Vec<_> = progress.map(Result::unwrap).collect();
        let mut text = String::new();
        run.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(130), "{scenario}: {rest:?}");
        assert!(rest.iter().any(|line| line.contains("interrupted")), "{scenario}: {rest:?}");
        if !matches!(*scenario, "saturate" | "reconnect-storm") {
            let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
            assert_eq!(last["interrupted"], true, "{scenario}: {text}");
        }
    }
    node.assert_nothing_is_left();
}

#[test]
fn a_run_that_fails_leaves_nothing_behind_either() {
    let node = Node::start();
    let extra = ["--channel", "load:x", "--seconds", "0.1", "--warmup", "0", "--max-cpu-us", "0"];
    let failed = node.run("publish", &extra);
    let errors = String::from_utf8_lossy(&failed.stderr);
    assert!(errors.contains("failed: the server's CPU for each of the"), "{errors}");
    // On a busy machine the node may have waited for its processor in so short a window.
    assert!(matches!(failed.status.code(), Some(1 | 3)), "{errors}");
    node.assert_nothing_is_left();
    let extra = ["--token", &node.anon_key, "-n", "3", "--seconds", "0.3", "--rate", "20"];
    result(&node.run("fanout", &extra));
    node.assert_nothing_is_left();
}
