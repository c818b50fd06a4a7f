//! Renders the replies to `GET /api/health` and `GET /api/health/live`.

use serde::Serialize;

use crate::interface::http::NodeHealth;
use crate::interface::rest::Reply;
use crate::message::iso_millis;

/// The name that the node gives itself in its health.
const SERVICE: &str = "fanfare";

/// Renders the health of the node. The status is 503 if the node has problems or is stopping, which
/// makes a load balancer stop sending clients to it.
pub(super) fn reply(health: &NodeHealth<'_>) -> Reply {
    render(env!("CARGO_PKG_VERSION"), health)
}

fn render(version: &str, health: &NodeHealth<'_>) -> Reply {
    let NodeHealth { now, is_stopping, problems, degraded, is_bare } = *health;
    let (status, word) = match (problems, is_stopping, degraded) {
        ([], false, None) => (200, "ok"),
        ([], false, Some(_)) => (200, "degraded"),
        ([], true, _) => (503, "draining"),
        _ => (503, "failing"),
    };
    let timestamp = iso_millis(now);
    let (problems, degraded) = (health.told_problems(), degraded.filter(|_| !is_bare));
    let health = Health { status: word, version, service: SERVICE, timestamp, problems, degraded };
    Reply::json(status, &health)
}

/// Renders the answer of a process that serves requests. It depends on nothing else, so that a
/// supervisor does not restart a node that drains, joins its cluster or waits for its store.
pub(super) fn live() -> Reply {
    Reply::json(200, &Live { status: "live", version: env!("CARGO_PKG_VERSION"), service: SERVICE })
}

#[derive(Serialize)]
struct Live {
    status: &'static str,
    version: &'static str,
    service: &'static str,
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    version: &'a str,
    service: &'static str,
    timestamp: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    problems: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(now: u64, is_stopping: bool, problems: &[String]) -> Reply {
        let (degraded, is_bare) = (None, false);
        render("1.2.3", &NodeHealth { now, is_stopping, problems, degraded, is_bare })
    }

    #[test]
    fn health_is_rendered() {
        let reply = health(1_777_136_400_123, false, &[]);
        assert_eq!(reply.status, 200);
        let rest = r#""service":"fanfare","timestamp":"2026-04-25T17:00:00.123Z"}"#;
        assert_eq!(reply.body, r#"{"status":"ok","version":"1.2.3","#.to_owned() + rest);
    }

    #[test]
    fn what_is_expected_to_work_again_leaves_the_node_in_service() {
        let problems = &["worker 1 is late".to_owned()];
        let (is_stopping, degraded) = (false, Some("x"));
        let health = NodeHealth { now: 0, is_stopping, problems: &[], degraded, is_bare: false };
        let reply = render("1.2.3", &health);
        assert_eq!(reply.status, 200);
        assert!(reply.body.starts_with(r#"{"status":"degraded","#), "{}", reply.body);
        assert!(reply.body.ends_with(r#""degraded":"x"}"#), "{}", reply.body);
        let bare = render("1.2.3", &NodeHealth { is_bare: true, ..health });
        assert!(bare.status == 200 && !bare.body.contains(r#""degraded":"x""#), "{}", bare.body);
        assert_eq!(render("1.2.3", &NodeHealth { problems, ..health }).status, 503);
        let bare = render("1.2.3", &NodeHealth { problems, is_bare: true, ..health });
        assert!(bare.status == 503 && !bare.body.contains("worker"), "{}", bare.body);
        assert_eq!(render("1.2.3", &NodeHealth { is_stopping: true, ..health }).status, 503);
    }

    #[test]
    fn a_node_that_should_be_left_alone_says_so() {
        let stopping = health(0, true, &[]);
        assert_eq!(stopping.status, 503);
        assert!(stopping.body.starts_with(r#"{"status":"draining","#), "{}", stopping.body);
        let failing = health(0, true, &["worker 1 is late".to_owned()]);
        assert_eq!(failing.status, 503);
        assert!(failing.body.starts_with(r#"{"status":"failing","#), "{}", failing.body);
        assert!(failing.body.ends_with(r#""problems":["worker 1 is late"]}"#), "{}", failing.body);
    }
}
