//! The realtime APIs of a node. What differs between them is here, one file each: what a client
//! says, how what it hears is read, the request of a publication, and what the floor says where it
//! stands in for a node.

mod forge;
mod insforge;

use std::fmt;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::publisher::Schedule;
use crate::stamp::Template;
use crate::target::Target;
use crate::upgrade::Upgrade;

/// The smallest payload that holds a stamp in every API.
pub(crate) const PAYLOAD_BYTES_MIN: usize = insforge::PAYLOAD_BYTES_MIN;

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Api {
    /// Socket.IO, and REST.
    #[value(name = "insforge")]
    InsForge,
    /// JSON over WebSocket, and HTTP with an invocation.
    Forge,
}

/// How a server is approached: in which API, and with which credentials. They have no `Debug`, so
/// that they get into no message.
#[derive(Clone)]
pub(crate) struct Access {
    /// The API.
    pub(crate) api: Api,
    /// What clients present: a CONNECT payload, or a context token.
    pub(crate) client: Option<String>,
    /// What publishers present: an API key, or an invocation.
    pub(crate) publisher: Option<String>,
}

/// What every client says and waits for, in this order.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Script {
    /// The API.
    pub(crate) api: Api,
    /// How it comes.
    pub(crate) upgrade: Upgrade,
    /// What follows it; a client that has done them all only listens.
    pub(crate) steps: Vec<Step>,
}

/// One thing to wait for, and what is said then.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Step {
    /// What the server has to say.
    pub(crate) awaited: Word,
    /// What the client says to it.
    pub(crate) answer: Option<String>,
}

/// What a server says to a client that is on its way to listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// The transport is ready.
    Open,
    /// The credential is taken.
    Connected,
    /// Publications follow.
    Subscribed,
}

/// A message from a server.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Packet<'a> {
    /// What a step waits for.
    Word(Word),
    /// An event, with a stamp if it is one of our publications.
    Event(&'a [u8]),
    /// Something went wrong, which the connection outlives.
    Complaint(&'a [u8]),
    /// A heartbeat, which is owed this answer.
    Heartbeat(&'static [u8]),
    /// What the client asked for is refused, for this reason.
    Refused(&'a [u8]),
    /// The server ends the session.
    Closed,
    /// Anything else, which a client may ignore.
    Other,
}

/// What the floor answers to a client.
pub(crate) struct Reply {
    /// The message.
    pub(crate) text: String,
    /// Whether publications follow.
    pub(crate) subscribes: bool,
}

impl Access {
    /// Without credentials, for the floor.
    pub(crate) fn anonymous(api: Api) -> Self {
        Self { api, client: None, publisher: None }
    }

    /// The script of clients, which only connect where there is no channel.
    pub(crate) fn script(&self, target: &Target, channel: Option<&str>) -> Result<Script> {
        let client = self.client.as_deref();
        match self.api {
            Api::InsForge => Ok(insforge::script(target, client, channel)),
            Api::Forge => forge::script(target, client, channel),
        }
    }

    /// Makes the server take subscribers on this channel, where it does not by itself. Without a
    /// publisher's credential that is somebody else's work.
    pub(crate) fn prepare(&self, target: &Target, channel: &str) -> Result<()> {
        match (self.api, &self.publisher) {
            (Api::InsForge, Some(api_key)) => insforge::ensure_channel(target, channel, api_key),
            (Api::InsForge, None) | (Api::Forge, _) => Ok(()),
        }
    }

    /// The request of a publication, to be stamped.
    pub(crate) fn request(&self, target: &Target, schedule: &Schedule) -> Result<Template> {
        let publisher = self.publisher.as_deref().context("no credential to publish with")?;
        match self.api {
            Api::InsForge => insforge::request(target, publisher, schedule),
            Api::Forge => forge::request(target, publisher, schedule),
        }
    }
}

impl Api {
    /// Sorts a message from the server.
    pub(crate) fn read(self, text: &[u8]) -> Packet<'_> {
        match self {
            Self::InsForge => insforge::read(text),
            Self::Forge => forge::read(text),
        }
    }

    /// Whether the answer to a publication says that nobody is subscribed.
    pub(crate) fn reached_nobody(self, answer: &[u8]) -> bool {
        match self {
            Self::InsForge => false,
            Self::Forge => forge::reached_nobody(answer),
        }
    }

    /// A publication as subscribers get it, for the floor to stamp.
    pub(crate) fn delivered(self, schedule: &Schedule) -> Result<Template> {
        match self {
            Self::InsForge => insforge::delivered(schedule),
            Self::Forge => forge::delivered(schedule),
        }
    }

    /// What the floor says first.
    pub(crate) fn greeting(self) -> &'static str {
        match self {
            Self::InsForge => insforge::GREETING,
            Self::Forge => forge::GREETING,
        }
    }

    /// What the floor says to a message.
    pub(crate) fn reply(self, text: &[u8]) -> Option<Reply> {
        match self {
            Self::InsForge => insforge::reply(text),
            Self::Forge => forge::reply(text),
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InsForge => "InsForge",
            Self::Forge => "Forge",
        })
    }
}
