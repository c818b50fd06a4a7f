//! Environment variables that a container platform makes for other containers, and that are no
//! settings: those of Kubernetes for each Service, and those of Docker for each link.
//!
//! A Service named `fanfare-x` has variables that begin with `FANFARE_X_`. Name and value must both
//! have the platform's form, so that a misspelt setting is still found.

use std::net::{IpAddr, SocketAddr};

/// The protocols of a Service's ports.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// Returns whether a platform makes a variable of this name with this value, for a Service or a
/// link whose variables begin with `prefix`.
pub(super) fn is_service_link(name: &str, value: &str, prefix: &str) -> bool {
    let Some(rest) = name.strip_prefix(prefix) else { return false };
    // The name of the Service may go on behind the prefix: each place where it may end is tried.
    let ends = rest.match_indices('_').map(|(at, _)| &rest[at + 1..]);
    std::iter::once(rest).chain(ends).any(|rest| has_form(rest, value))
}

/// Returns whether `rest`, which follows the Service's name, and the value have one of the forms.
fn has_form(rest: &str, value: &str) -> bool {
    match rest {
        "SERVICE_HOST" => is_address(value),
        "SERVICE_PORT" => is_port(value),
        "PORT" => is_url(value),
        // Docker's name of a link: `/this-container/alias`.
        "NAME" => value.strip_prefix('/').is_some_and(|names| names.contains('/')),
        _ => {
            let named = rest.strip_prefix("SERVICE_PORT_").is_some_and(is_word);
            named && is_port(value) || is_port_form(rest, value)
        }
    }
}

/// Returns whether this is `PORT_<number>_<protocol>` with a URL, or that with one of the URL's
/// parts.
fn is_port_form(rest: &str, value: &str) -> bool {
    let mut parts = rest.split('_');
    let (Some("PORT"), Some(port), Some(protocol)) = (parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let protocol = protocol.to_ascii_lowercase();
    if !is_port(port) || !PROTOCOLS.contains(&protocol.as_str()) {
        return false;
    }
    match (parts.next(), parts.next()) {
        (None, _) => is_url(value),
        (Some("PROTO"), None) => value == protocol,
        (Some("PORT"), None) => value == port,
        (Some("ADDR"), None) => is_address(value),
        _ => false,
    }
}

/// Returns whether this is a URL such as `tcp://10.0.0.1:7130`.
fn is_url(value: &str) -> bool {
    let Some((protocol, address)) = value.split_once("://") else { return false };
    PROTOCOLS.contains(&protocol) && address.parse::<SocketAddr>().is_ok()
}

fn is_address(value: &str) -> bool {
    value.parse::<IpAddr>().is_ok()
}

fn is_port(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_digit()) && value.parse::<u16>().is_ok()
}

fn is_word(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    !name.is_empty() && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_link((name, value): (&str, &str)) -> bool {
        is_service_link(name, value, "FANFARE_")
    }

    #[test]
    fn the_variables_of_services_and_links_are_known() {
        for service in ["FANFARE_", "FANFARE_EDGE_", "FANFARE_PORT_", "FANFARE_A_B_2_"] {
            for (rest, value) in [
                ("SERVICE_HOST", "10.0.0.1"),
                ("SERVICE_HOST", "fd00::1"),
                ("SERVICE_PORT", "7130"),
                ("SERVICE_PORT_HTTP", "7130"),
                ("SERVICE_PORT_HTTP_2", "7130"),
                ("PORT", "tcp://10.0.0.1:7130"),
                ("PORT", "udp://[fd00::1]:53"),
                ("PORT_7130_TCP", "tcp://10.0.0.1:7130"),
                ("PORT_7130_TCP_PROTO", "tcp"),
                ("PORT_7130_TCP_PORT", "7130"),
                ("PORT_7130_TCP_ADDR", "10.0.0.1"),
                ("PORT_53_UDP_PROTO", "udp"),
                ("NAME", "/web/fanfare"),
            ] {
                assert!(is_link((&format!("{service}{rest}"), value)), "{service}{rest}={value}");
            }
        }
    }

    #[test]
    fn other_names_and_values_are_mistakes() {
        for other in [
            ("FANFARE_PORT", "7130"),
            ("FANFARE_PORT", "http://10.0.0.1:7130"),
            ("FANFARE_PORT", "tcp://10.0.0.1"),
            ("FANFARE_PORT", ""),
            ("FANFARE_SERVICE_HOST", "localhost"),
            ("FANFARE_SERVICE_PORT", "65536"),
            ("FANFARE_SERVICE_PORT_", "7130"),
            ("FANFARE_SERVICE_PORT_http", "7130"),
            ("FANFARE_SERVICE_NAME", "fanfare"),
            ("FANFARE_PORT_7130", "tcp://10.0.0.1:7130"),
            ("FANFARE_PORT_7130_TCP_PORT", "7131"),
            ("FANFARE_PORT_7130_TCP_PROTO", "udp"),
            ("FANFARE_PORT_7130_TCP_HOST", "10.0.0.1"),
            ("FANFARE_PORT_7130_TCP_ADDR_X", "10.0.0.1"),
            ("FANFARE_PORT_x_TCP", "tcp://10.0.0.1:7130"),
            ("FANFARE_NAME", "fanfare"),
            ("FANFARE_LISTN", "127.0.0.1:7130"),
            ("FANFARESERVICE_HOST", "10.0.0.1"),
            ("OTHER_SERVICE_HOST", "10.0.0.1"),
        ] {
            assert!(!is_link(other), "{other:?}");
        }
    }
}
