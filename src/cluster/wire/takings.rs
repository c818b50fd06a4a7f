//! What nodes have taken from buckets that all share, as they tell one another.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Origin;
use crate::cluster::name::space_letter;
use crate::limits::{CHANNEL_BYTES_MAX, TAKINGS_TOLD_MAX};
use crate::message::{Channel, Taking};

/// What a node has taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Took {
    /// The node.
    pub from: Origin,
    /// The tokens of each bucket.
    pub takings: Vec<Taking>,
}

#[derive(Serialize, Deserialize)]
struct Text<'a> {
    from: String,
    /// The letter of the namespace of a bucket's name, the name, the rate and the tokens.
    #[serde(borrow)]
    took: Vec<(char, Cow<'a, str>, u32, u32)>,
}

impl Took {
    /// Returns the body of the message.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let part = |taking: &Taking| {
            let letter = space_letter(taking.channel.space()).chars().next()?;
            let name = Cow::Owned(taking.channel.as_str().to_owned());
            Some((letter, name, taking.rate, taking.count))
        };
        let took = self.takings.iter().map(part).collect::<Option<_>>()?;
        serde_json::to_vec(&Text { from: self.from.to_string(), took }).ok()
    }

    /// Reads the body; `None` if it is not one that a node writes.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let Text { from, took } = serde_json::from_slice(body).ok()?;
        if took.len() > TAKINGS_TOLD_MAX {
            return None;
        }
        let part = |(letter, name, rate, count): (char, Cow<'_, str>, u32, u32)| {
            let is_valid = name.len() <= CHANNEL_BYTES_MAX && rate > 0;
            let channel = match letter {
                'c' => Channel::from(&*name),
                't' => Channel::topic(&name),
                'r' => Channel::resource(&name),
                _ => return None,
            };
            is_valid.then_some(Taking { channel, rate, count })
        };
        let takings = took.into_iter().map(part).collect::<Option<_>>()?;
        Some(Self { from: Origin::read(&from)?, takings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::name::{Incarnation, NodeName};

    #[test]
    fn what_was_written_is_read() {
        let node = NodeName::read("n1").unwrap();
        let from = Origin { node, incarnation: Incarnation(7) };
        let all =
            [Channel::from("a \"b"), Channel::topic("installation:1"), Channel::resource("r")];
        let takings = all.map(|channel| Taking { channel, rate: 100, count: 3 }).to_vec();
        let took = Took { from, takings };
        assert_eq!(Took::decode(&took.encode().unwrap()), Some(took));
    }

    #[test]
    fn what_no_node_writes_is_refused() {
        let read = |part: &str| {
            let text = format!(r#"{{"from":"n1.0000000000000007","took":[{part}]}}"#);
            Took::decode(text.as_bytes()).is_some()
        };
        let long = format!(r#"["c","{}",1,1]"#, "x".repeat(CHANNEL_BYTES_MAX + 1));
        let many = vec![r#"["c","a",1,1]"#; TAKINGS_TOLD_MAX + 1].join(",");
        assert!(read(r#"["c","a",1,1]"#));
        for bad in [r#"["x","a",1,1]"#, r#"["c","a",0,1]"#, r#"["c","a",1,-1]"#, &long, &many] {
            assert!(!read(bad), "{bad}");
        }
    }
}
