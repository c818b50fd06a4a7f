//! Servers that a cluster cannot use.

use fanfare::background::cluster::line::Reason;
use serde_json::json;

use crate::fake::Fake;
use crate::owner::{is_refused, settings};
use crate::support::nats::{Nats, OLD_VERSION, free_port};

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_with_its_version() {
    for version in ["2.9.10", "2.10.25", "1.4.1"] {
        let fake = Fake::with_info(&json!({ "version": version, "headers": true }));
        let words = format!("the server is NATS {version}, and a cluster needs 2.11 or newer");
        is_refused(settings(&[fake.url()]), Reason::Version, &words).await;
    }
    for info in [json!({ "headers": true }), json!({ "version": "", "headers": true })] {
        let fake = Fake::with_info(&info);
        let words = "the server is NATS of no version";
        is_refused(settings(&[fake.url()]), Reason::Version, words).await;
    }
    let fake = Fake::with_info(&json!({ "version": "2.15.1" }));
    is_refused(settings(&[fake.url()]), Reason::Version, "without headers").await;
}

#[tokio::test]
#[ignore = "needs an older server, which `tests/run long` installs"]
async fn a_real_server_that_is_too_old_is_refused_with_its_version() {
    let nats = Nats::old();
    let words = format!("the server is NATS {OLD_VERSION}, and a cluster needs 2.11 or newer");
    is_refused(settings(&[nats.url()]), Reason::Version, &words).await;
}

#[tokio::test]
async fn what_is_not_a_nats_server_is_told() {
    let cases = [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", Reason::Error, "does not keep to the protocol"),
        ("PING\r\n", Reason::Error, "what listens there is not a NATS server"),
        ("INFO {]\r\n", Reason::Error, "an INFO that is not its JSON"),
        ("-ERR 'maximum connections exceeded'\r\n", Reason::Error, "maximum connections exceeded"),
    ];
    for (greeting, reason, words) in cases {
        let fake = Fake::new(greeting, "");
        is_refused(settings(&[fake.url()]), reason, words).await;
    }
    let url = format!("nats://127.0.0.1:{}", free_port());
    is_refused(settings(&[url]), Reason::Unreachable, "cannot be connected to").await;
    let url = "nats://no-such-host.invalid".to_owned();
    is_refused(settings(&[url]), Reason::Unreachable, "no-such-host.invalid is not found").await;
}
