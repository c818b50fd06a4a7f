//! The realtime APIs of a node. What differs between them is here, one file each: what a client
//! says, how what it hears is read, the request of a publication, and what the floor says where it
//! stands in for a node.

mod base58;
mod forge;
mod insforge;
pub(crate) mod m2;
mod payload;

use std::fmt;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::m2::{Caller, Scope};
pub(crate) use self::payload::PAYLOAD_BYTES_MIN;
use crate::publisher::Schedule;
use crate::stamp::Template;
use crate::target::Target;
use crate::upgrade::Upgrade;

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Api {
    /// Socket.IO, and REST.
    #[value(name = "insforge")]
    InsForge,
    /// JSON over WebSocket, and HTTP with an invocation.
    Forge,
    /// Documents over WebSocket, and HTTP that writes them.
    M2,
}

/// How a server is approached: in which API, and with which credentials. They have no `Debug`, so
/// that they get into no message.
#[derive(Clone)]
pub(crate) struct Access {
    /// The API.
    pub(crate) api: Api,
    /// What clients present: a CONNECT payload, a context token, or a JWT or key.
    pub(crate) client: Option<String>,
    /// What publishers present: an API key, an invocation, or a JWT.
    pub(crate) publisher: Option<String>,
    /// In M2, where resources are.
    pub(crate) scope: Scope,
}

/// What every client says and waits for, in this order.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Script {
    /// The API.
    pub(crate) api: Api,
    /// How it comes.
    pub(crate) upgrade: Upgrade,
    /// What it says first, where the server says nothing before.
    pub(crate) opening: Option<String>,
    /// What follows; a client that has done them all only listens.
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
        Self { api, client: None, publisher: None, scope: Scope::default() }
    }

    /// The script of clients, which only connect where there is no channel.
    pub(crate) fn script(&self, target: &Target, channel: Option<&str>) -> Result<Script> {
        let client = self.client.as_deref();
        match self.api {
            Api::InsForge => Ok(insforge::script(target, client, channel)),
            Api::Forge => forge::script(target, client, channel),
            Api::M2 => m2::script(target, self.caller(client), false, channel),
        }
    }

    /// Makes the server take subscribers on this channel, where it does not by itself. Without a
    /// publisher's credential that is somebody else's work.
    pub(crate) fn prepare(&self, target: &Target, channel: &str) -> Result<()> {
        match (self.api, &self.publisher) {
            (Api::InsForge, Some(api_key)) => insforge::ensure_channel(target, channel, api_key),
            (Api::M2, _) => m2::ensure_ready(target),
            (Api::InsForge, None) | (Api::Forge, _) => Ok(()),
        }
    }

    /// The request of a publication, to be stamped.
    pub(crate) fn request(&self, target: &Target, schedule: &Schedule) -> Result<Template> {
        let publisher = self.publisher.as_deref().context("no credential to publish with")?;
        match self.api {
            Api::InsForge => insforge::request(target, publisher, schedule),
            Api::Forge => forge::request(target, publisher, schedule),
            Api::M2 => m2::request(target, self.caller(Some(publisher)), schedule),
        }
    }

    fn caller<'a>(&'a self, credential: Option<&'a str>) -> Caller<'a> {
        Caller { scope: &self.scope, credential }
    }
}

impl Api {
    /// Sorts a message from the server.
    pub(crate) fn read(self, text: &[u8]) -> Packet<'_> {
        match self {
            Self::InsForge => insforge::read(text),
            Self::Forge => forge::read(text),
            Self::M2 => m2::read(text),
        }
    }

    /// Whether the answer to a publication says that nobody is subscribed.
    pub(crate) fn reached_nobody(self, answer: &[u8]) -> bool {
        match self {
            Self::InsForge | Self::M2 => false,
            Self::Forge => forge::reached_nobody(answer),
        }
    }

    /// Whether clients hear the state of something: the one that there is when they subscribe, and
    /// later only the newest, where they do not keep up.
    pub(crate) fn tells_states(self) -> bool {
        self == Self::M2
    }

    /// A publication as subscribers get it, for the floor to stamp.
    pub(crate) fn delivered(self, schedule: &Schedule) -> Result<Template> {
        match self {
            Self::InsForge => insforge::delivered(schedule),
            Self::Forge => forge::delivered(schedule),
            Self::M2 => m2::delivered(schedule),
        }
    }

    /// What the floor says first.
    pub(crate) fn greeting(self) -> Option<&'static str> {
        match self {
            Self::InsForge => Some(insforge::GREETING),
            Self::Forge => Some(forge::GREETING),
            Self::M2 => None,
        }
    }

    /// What the floor says to a message.
    pub(crate) fn reply(self, text: &[u8]) -> Option<Reply> {
        match self {
            Self::InsForge => insforge::reply(text),
            Self::Forge => forge::reply(text),
            Self::M2 => m2::reply(text),
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InsForge => "InsForge",
            Self::Forge => "Forge",
            Self::M2 => "M2",
        })
    }
}

/// Neither may a credential end its header, nor may what is wrong with it be shown.
fn header_value<'a>(credential: &'a str, name: &str) -> Result<&'a str> {
    let credential = credential.trim();
    ensure!(!credential.is_empty(), "the {name} is empty");
    let fits = credential.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(fits, "the {name} holds what a header cannot");
    Ok(credential)
}
