//! Encrypted connections to the database.

use super::{health, hear_numbers, installed, listen, publish, wait_until_capturing};
use crate::support::encrypted::Authority;
use crate::support::{Node, wait_until};

fn node(url: String, authority: &Authority) -> Node {
    let file = authority.file();
    let node = Node::with(move |command| {
        command.env("FANFARE_POSTGRES_URL", &url).env("FANFARE_POSTGRES_TLS_CA_FILE", &file);
    });
    node.create_channel("orders");
    node
}

#[test]
fn the_certificate_of_the_database_is_verified() {
    let ours = Authority::new();
    let mut postgres = installed();
    postgres.encrypt(&ours.pair("database", &["127.0.0.1"]));
    let url = |mode: &str| format!("{}?sslmode={mode}", postgres.url());
    let node_of_ours = node(url("verify-full"), &ours);
    wait_until_capturing(&node_of_ours);
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE ssl AND application_name = 'fanfare'";
    assert_eq!(postgres.sql(encrypted), "3");
    let mut stream = listen(&node_of_ours, &["orders"]);
    postgres.sql(&publish("orders", 1));
    assert_eq!(hear_numbers(&mut stream, 1), [1]);
    drop(node_of_ours);

    let node_of_others = node(url("require"), &Authority::new());
    wait_until("health says so", || {
        health(&node_of_others).1["degraded"].to_string().contains("certificate")
    });
    assert_eq!(postgres.sql(encrypted), "0");
    drop(node_of_others);

    // A certificate for another name.
    postgres.encrypt(&ours.pair("database", &["elsewhere.example.org"]));
    let url = format!("{}?sslmode=require", postgres.url());
    let misnamed = node(url, &ours);
    wait_until("health says so", || {
        health(&misnamed).1["degraded"].to_string().contains("certificate")
    });
}
