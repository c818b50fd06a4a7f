//! `GET /metrics` as monitoring systems use it.

use serde_json::json;

use crate::ear::{CHANNEL, Ear, TICK, loopback};
use crate::support::exposition::Exposition;
use crate::support::{Node, user_token};
use crate::tcp::{self, Tcp};

#[test]
fn the_text_is_in_the_prometheus_format() {
    let node = Node::with(|command| {
        command.args(["--workers", "2"]);
    });
    let idle = node.scrape();
    let names = |scrape: &Exposition| {
        let families = scrape.families().iter();
        families.map(|family| (family.name.clone(), family.kind.clone())).collect::<Vec<_>>()
    };
    assert_eq!(idle.plain("fanfare_workers"), 2.0);
    assert_eq!(idle.plain("fanfare_draining"), 0.0);
    assert_eq!(idle.sum("fanfare_build_info"), 1.0);
    for kind in ["counter", "gauge", "histogram"] {
        assert!(names(&idle).iter().any(|family| family.1 == kind), "there is a {kind}");
    }

    node.create_channel(CHANNEL);
    let token = user_token("crowd");
    let mut ears = Ear::on_each_transport(node.port(), &token);
    for ear in &mut ears {
        ear.ask("NONSENSE", &json!({}));
    }
    node.publish(CHANNEL, TICK, &json!({}));
    ears.iter_mut().for_each(|ear| ear.hear(1));
    let used = node.scrape();
    assert_eq!(names(&used), names(&idle), "what there is does not depend on what happened");
    assert_eq!(used.sum("fanfare_connections_opened_total"), 2.0);
    assert!(used.plain("process_cpu_seconds_total") > 0.0);
}

#[test]
fn the_reader_of_the_format_is_strict() {
    let heading = "# HELP a_total As.\n# TYPE a_total counter\n";
    Exposition::parse(&format!("{heading}a_total{{x=\"1\\n\\\"\"}} 1\n")).expect("it is fine");
    let histogram = "# HELP h Hs.\n# TYPE h histogram\n";
    let whole = "h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
    Exposition::parse(&format!("{histogram}{whole}")).expect("it is fine");
    let wrong = [
        format!("{heading}a_total 1"),
        "a_total 1\n".into(),
        "# TYPE a_total counter\na_total 1\n".into(),
        heading.into(),
        format!("{heading}b_total 1\n"),
        format!("{heading}a_total 1\na_total 1\n"),
        format!("{heading}a_total -1\n"),
        format!("{heading}a_total one\n"),
        format!("{heading}a_total{{x=\"\\t\"}} 1\n"),
        format!("{heading}a_total{{1=\"\"}} 1\n"),
        format!("{heading}a_total{{x=\"1\",x=\"2\"}} 1\n"),
        format!("{heading}a_total{{x=\"1\"}} 1\n{histogram}{whole}{heading}a_total 1\n"),
        format!("{histogram}{}", whole.replace("+Inf", "2")),
        format!("{histogram}{}", whole.replace("h_count 2", "h_count 3")),
        format!("{histogram}{}", whole.replace("\"1\"} 1", "\"1\"} 3")),
        format!("{histogram}{}", whole.replace("h_sum 3\n", "")),
    ];
    for text in wrong {
        assert!(Exposition::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn a_forced_driver_is_named_with_its_reason() {
    let node = Node::with(|command| {
        command.env("MONOIO_FORCE_LEGACY_DRIVER", "1");
    });
    let scrape = node.scrape();
    let [driver] = &scrape.family("fanfare_driver_info").samples[..] else {
        panic!("there is one")
    };
    assert_eq!((driver.labels["driver"].as_str(), driver.value), ("epoll", 1.0));
    assert!(driver.labels["reason"].contains("MONOIO_FORCE_LEGACY_DRIVER"), "{driver:?}");
}

#[test]
fn metrics_are_read_and_nothing_else() {
    let node = Node::start();
    let refused = node.request("POST", "/metrics", &[], b"{}");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    let mut tcp = Tcp::connect(loopback(node.port()));
    // Both use one connection, on which a body in the answer to HEAD would be taken for the next
    // answer.
    for method in ["HEAD", "GET"] {
        tcp.send(tcp::request(&[&format!("{method} /metrics HTTP/1.1")], ""));
        let answer = tcp.response_to(method);
        assert_eq!(answer.status, 200);
        let length =
            answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
        assert!(length > Some(1_000), "{answer:?}");
        assert_eq!(answer.text().is_empty(), method == "HEAD");
    }
}
