//! URLs that are never called.

use super::*;

fn strict() -> Bench {
    Bench::new(Settings { allow_private: false, ..settings() })
}

#[test]
fn an_address_that_is_not_public_is_not_connected_to() {
    let receiver = Receiver::always(Answer::Status(200));
    let bench = strict();
    for host in ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "0", "[::ffff:127.0.0.1]"] {
        assert!(!bench.carry(call(&[&format!("http://{host}:{}/", receiver.port)])), "{host}");
    }
    assert_eq!((bench.attempts(), bench.outcomes()), (0, [0, 0, 6, 0]));
    assert_eq!(receiver.connections(), 0);
}

#[test]
fn a_name_of_an_address_that_is_not_public_is_not_connected_to() {
    let receiver = Receiver::always(Answer::Status(200));
    let url = format!("http://localhost:{}/", receiver.port);
    let bench = strict();
    assert!(!bench.carry(call(&[&url])));
    assert_eq!((bench.attempts(), bench.outcomes()), (1, [0, 0, 1, 0]));
    assert_eq!(receiver.connections(), 0);
    // Without the restriction the receiver is reached.
    assert!(Bench::new(settings()).carry(call(&[&url])));
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn redirects_are_not_followed() {
    let beyond = Receiver::always(Answer::Status(200));
    let location = format!("Location: {}", beyond.url()).leak();
    for (status, location) in [
        (301, &*location),
        (302, &*location),
        (307, &*location),
        (308, &*location),
        (302, "Location: http://169.254.169.254/latest/meta-data/"),
    ] {
        let receiver = Receiver::always(Answer::With(status, location));
        let bench = Bench::new(settings());
        assert!(!bench.carry(call(&[&receiver.url()])), "{status} {location}");
        assert_eq!((bench.attempts(), bench.outcomes()), (1, [0, 1, 0, 0]));
    }
    assert_eq!(beyond.connections(), 0);
}

#[test]
fn only_http_is_spoken() {
    let receiver = Receiver::always(Answer::Status(200));
    let bench = Bench::new(settings());
    for url in [
        format!("ftp://127.0.0.1:{}/", receiver.port),
        format!("ws://127.0.0.1:{}/", receiver.port),
        "javascript:1".to_owned(),
        "not a URL".to_owned(),
    ] {
        assert!(!bench.carry(call(&[&url])), "{url}");
    }
    assert_eq!((bench.attempts(), bench.outcomes()), (0, [0, 0, 4, 0]));
    assert_eq!(receiver.connections(), 0);
}
