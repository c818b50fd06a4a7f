//! Whether a node can serve the cluster's channels, in words for the operator.

use std::fmt;

use super::name::{NodeName, Stream};
use crate::message::Millis;

/// The condition of a node in its cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Publications and subscribes are served.
    Healthy,
    /// Something that was received is being read again, or is behind.
    CatchingUp,
    /// The line has been down, or not answered, for this many milliseconds.
    NoAnswer(Millis),
    /// The node's own heartbeats have not come back for this many milliseconds.
    Deaf(Millis),
    /// The stream has no leader, so that nothing can be stored.
    NoLeader(Stream),
    /// The stream has lost something, and its new epoch has not begun.
    NoEpoch,
    /// Another node of the same name was registered later.
    Displaced(NodeName),
    /// The node may not join the cluster.
    NotJoined(Obstacle),
}

/// Why a node may not join its cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Obstacle {
    /// It has not asked yet.
    Pending,
    /// It cannot ask, or is not answered, for this reason.
    Failing(Box<str>),
    /// These secrets, keys of the configuration, are not those of the other nodes.
    Secrets(Box<[Box<str>]>),
    /// The server at this address has this version, which is too old.
    Version(Box<str>, Box<str>),
    /// Another node of this name is alive.
    Name(NodeName),
    /// Another cluster uses the prefix.
    Prefix(Box<str>),
    /// This node, which is alive, reads no version of messages that the node reads.
    Messages(NodeName),
}

impl Condition {
    /// Returns whether publications and subscribes on the cluster's channels are served. If not,
    /// they are refused, because they could not be ordered.
    pub fn is_serving(&self) -> bool {
        matches!(self, Self::Healthy | Self::CatchingUp)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cluster: ")?;
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::CatchingUp => f.write_str("this node reads what it has missed"),
            Self::NoAnswer(..1_000) => {
                f.write_str("NATS does not answer; publications are refused")
            }
            Self::NoAnswer(ms) => {
                let seconds = ms / 1_000;
                write!(f, "no answer from NATS for {seconds} s; publications are refused")
            }
            Self::Deaf(..1_000) => {
                f.write_str("this node hears nothing (its own heartbeat does not come back)")
            }
            Self::Deaf(ms) => {
                let seconds = ms / 1_000;
                write!(
                    f,
                    "this node hears nothing (its own heartbeat has not come back for {seconds} s)"
                )
            }
            Self::NoLeader(stream) => {
                let stream = match stream {
                    Stream::Order => "publications",
                    Stream::Claims => "claims",
                };
                write!(f, "no leader for the stream of {stream}; publications are refused")
            }
            Self::NoEpoch => f.write_str(
                "publications are refused until the nodes agree on the epoch of the stream",
            ),
            Self::Displaced(name) => write!(
                f,
                "another node has taken the name {name}; give each node a name of its own"
            ),
            Self::NotJoined(obstacle) => write!(f, "not joined: {obstacle}"),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("this node has not registered yet"),
            Self::Failing(reason) => f.write_str(reason),
            Self::Secrets(keys) => f.write_str(&differ(keys, "", "the other nodes")),
            Self::Version(url, version) => {
                write!(f, "NATS at {url} is {version}, 2.11 or newer is needed")
            }
            Self::Name(name) => write!(f, "the name {name} is in use by another node"),
            Self::Prefix(prefix) => write!(f, "another cluster uses the prefix {prefix}"),
            Self::Messages(name) => write!(f, "the node {name} reads other versions of messages"),
        }
    }
}

/// Says that these keys differ from those of `others`. `whose` follows the keys, from a blank on.
pub fn differ(keys: &[impl AsRef<str>], whose: &str, others: &str) -> String {
    let all: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
    let (differ, those) = if all.len() == 1 { ("differs", "that") } else { ("differ", "those") };
    format!("{}{whose} {differ} from {those} of {others}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_reads_what_is_wrong_and_what_to_do() {
        let name = NodeName::read("n1").unwrap();
        let not_joined = Condition::NotJoined;
        for (condition, expected) in [
            (Condition::NoAnswer(999), "NATS does not answer; publications are refused"),
            (Condition::Deaf(0), "this node hears nothing (its own heartbeat does not come back)"),
            (Condition::NoAnswer(2_400), "no answer from NATS for 2 s; publications are refused"),
            (
                Condition::Deaf(2_000),
                "this node hears nothing (its own heartbeat has not come back for 2 s)",
            ),
            (
                Condition::NoLeader(Stream::Order),
                "no leader for the stream of publications; publications are refused",
            ),
            (
                Condition::Displaced(name.clone()),
                "another node has taken the name n1; give each node a name of its own",
            ),
            (not_joined(Obstacle::Failing("it is full".into())), "not joined: it is full"),
            (
                not_joined(Obstacle::Secrets(["auth.anon_key".into()].into())),
                "not joined: auth.anon_key differs from that of the other nodes",
            ),
            (
                not_joined(Obstacle::Secrets(
                    ["auth.jwt_secret".into(), "m2.api_key".into()].into(),
                )),
                "not joined: auth.jwt_secret, m2.api_key differ from those of the other nodes",
            ),
            (
                not_joined(Obstacle::Version("nats://10.0.0.5:4222".into(), "2.9.10".into())),
                "not joined: NATS at nats://10.0.0.5:4222 is 2.9.10, 2.11 or newer is needed",
            ),
            (not_joined(Obstacle::Name(name)), "not joined: the name n1 is in use by another node"),
            (
                not_joined(Obstacle::Messages(NodeName::read("n2").unwrap())),
                "not joined: the node n2 reads other versions of messages",
            ),
            (
                not_joined(Obstacle::Prefix("ff".into())),
                "not joined: another cluster uses the prefix ff",
            ),
        ] {
            assert_eq!(condition.to_string(), format!("the cluster: {expected}"));
            assert!(!condition.is_serving());
        }
        assert!(Condition::Healthy.is_serving() && Condition::CatchingUp.is_serving());
    }
}
