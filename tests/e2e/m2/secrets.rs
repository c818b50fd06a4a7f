//! Credentials must not appear in the log or in messages to clients.

use super::handshakes::shake;
use super::subprotocols::{PLACE, base58, offer, user_of};
use crate::support::{API_KEY, Node, wait_until};

/// At the most verbose level, with accepted and refused credentials.
#[test]
fn no_credential_is_ever_logged_or_told() {
    let node = Node::with_env(&[("FANFARE_LOG", "trace")]);
    let good = user_of("o");
    let (secret, signature) = ("hunter2hunter2", good.rsplit_once('.').expect("three parts").1);
    let values = [
        format!("{PLACE}\nauthorization:{good}\nx-api-key:{API_KEY}"),
        format!("{PLACE}\nauthorization:Bearer {secret}"),
        format!("{PLACE}\nx-api-key:{secret}"),
        format!("{PLACE}\nx-api-key:a\nx-api-key:{secret}"),
        format!("x-m2-organization:o\nauthorization:Bearer {secret}"),
        format!("x-m2-organization:other\nx-m2-project:p\nauthorization:{good}"),
        format!("x-m2-organization:o\tauthorization:{secret}\nx-m2-project:p"),
        format!("authorization:{secret}\nno line"),
    ];
    let encoded = values.each_ref().map(base58);
    let is_clean = |text: &str| {
        let words = [secret, signature, &API_KEY[3..]].into_iter();
        words.chain(encoded.iter().map(String::as_str)).all(|word| !text.contains(word))
    };
    for (value, text) in encoded.iter().zip(&values) {
        let response = shake(&node, &offer(&[value]));
        assert!(response.status == 101 || is_clean(response.text()), "{}", response.text());
        let lines = text.replace('\n', "\r\n").replace("no line", "x: y") + "\r\n";
        let response = shake(&node, &lines);
        assert!(response.status == 101 || is_clean(response.text()), "{}", response.text());
    }
    let says_much = || node.output().contains("callers were refused");
    wait_until("the log says what the node refuses", says_much);
    node.metric("fanfare_connections");
    let said = node.output();
    assert!(is_clean(&said), "{said}");
}
