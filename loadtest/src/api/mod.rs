//! The realtime APIs of a node, one file each: the messages of a client, the classification of
//! messages from the server, the request of a publication, and the answers of the floor.

mod base58;
mod events;
mod forge;
pub(crate) mod insforge;
pub(crate) mod m2;
mod payload;

use std::fmt;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::insforge::{Definition, Options};
use self::m2::{Caller, Scope};
pub(crate) use self::payload::{PAYLOAD_BYTES_MIN, payload};
use crate::handshake::Handshake;
use crate::publisher::Schedule;
use crate::stamp::Template;
use crate::target::Target;

/// A realtime API that clients and publishers speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Api {
    /// Socket.IO for clients, REST for publishers.
    #[value(name = "insforge")]
    InsForge,
    /// JSON over WebSocket for clients, HTTP with an invocation for publishers.
    Forge,
    /// Documents over WebSocket for clients, HTTP requests that write them.
    M2,
    /// InsForge's channels: Server-Sent Events for clients, REST for publishers.
    Events,
}

/// The API and the credentials of clients and publishers. It has no `Debug`, so that credentials do
/// not get into messages.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) api: Api,
    /// The clients' credential: a CONNECT payload, a context token, or a JWT or key.
    pub(crate) client: Option<String>,
    /// The publishers' credential: an API key, an invocation, or a JWT.
    pub(crate) publisher: Option<String>,
    /// M2: organization and project of the resources.
    pub(crate) scope: Scope,
}

/// The messages of a client and those that it waits for, in order.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Script {
    pub(crate) api: Api,
    /// The request that opens the connection.
    pub(crate) handshake: Handshake,
    /// The first message, if the client and not the server speaks first.
    pub(crate) opening: Option<String>,
    /// The steps that follow. A client that has finished them only listens.
    pub(crate) steps: Vec<Step>,
    /// What a client of a plain WebSocket does instead of following the messages of the API.
    pub(crate) plain: Option<Plain>,
}

/// A client of a server whose messages are given on the command line.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Plain {
    /// The messages that the client sends when the connection is open.
    pub(crate) opening: Vec<String>,
    /// The client is ready when a message contains this text; `None` for as soon as it is open.
    pub(crate) ready_when: Option<String>,
}

/// One message to wait for and the answer to it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Step {
    /// The message from the server.
    pub(crate) awaited: Word,
    /// The client's answer, if any.
    pub(crate) answer: Option<String>,
}

/// A message from a server to a client that has not finished its script.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// The transport is ready.
    Open,
    /// The credential is accepted.
    Connected,
    /// The subscription is acknowledged, so publications follow.
    Subscribed,
}

/// A message from a server, classified.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Packet<'a> {
    /// A message that a step may wait for.
    Word(Word),
    /// An event; with a stamp if it is one of our publications.
    Event(&'a [u8]),
    /// An error that does not end the connection.
    Complaint(&'a [u8]),
    /// A heartbeat and the answer that it requires, if any.
    Heartbeat(Option<&'static [u8]>),
    /// The refusal of a request, with its reason.
    Refused(&'a [u8]),
    /// The server ends the session.
    Closed,
    /// Any other message, which the client ignores.
    Other,
}

/// The floor's answer to a client.
pub(crate) struct Reply {
    pub(crate) text: String,
    /// Whether the client receives publications from now on.
    pub(crate) subscribes: bool,
}

impl Access {
    /// Returns access without credentials, as for the floor.
    pub(crate) fn anonymous(api: Api) -> Self {
        Self { api, client: None, publisher: None, scope: Scope::default() }
    }

    /// Returns the script of a client. Without a channel it only connects.
    pub(crate) fn script(&self, target: &Target, channel: Option<&str>) -> Result<Script> {
        let client = self.client.as_deref();
        match self.api {
            Api::InsForge => Ok(insforge::script(target, client, channel)),
            Api::Forge => forge::script(target, client, channel),
            Api::M2 => m2::script(target, self.caller(client), false, channel),
            Api::Events => events::script(target, client, channel),
        }
    }

    /// Makes sure that the server accepts subscribers on this channel. In InsForge that needs the
    /// publisher's credential; without it, the channel must exist already. What was made for that is
    /// removed when the returned value is dropped.
    pub(crate) fn prepare(&self, target: &Target, channel: &str) -> Result<Option<Definition>> {
        match (self.api, &self.publisher) {
            (Api::InsForge | Api::Events, Some(api_key)) => {
                Definition::make(target, channel, api_key, &Options::default())
            }
            (Api::M2, _) => m2::ensure_ready(target).map(|()| None),
            (Api::InsForge | Api::Events, None) | (Api::Forge, _) => Ok(None),
        }
    }

    /// Returns the request of a publication, to be stamped.
    pub(crate) fn request(&self, target: &Target, schedule: &Schedule) -> Result<Template> {
        let publisher = self.publisher.as_deref().context("no credential to publish with")?;
        match self.api {
            Api::InsForge | Api::Events => insforge::request(target, publisher, schedule),
            Api::Forge => forge::request(target, publisher, schedule),
            Api::M2 => m2::request(target, self.caller(Some(publisher)), schedule),
        }
    }

    fn caller<'a>(&'a self, credential: Option<&'a str>) -> Caller<'a> {
        Caller { scope: &self.scope, credential }
    }
}

impl Api {
    /// Classifies a message from the server.
    pub(crate) fn read(self, text: &[u8]) -> Packet<'_> {
        match self {
            Self::InsForge => insforge::read(text),
            Self::Forge => forge::read(text),
            Self::M2 => m2::read(text),
            Self::Events => events::read(text),
        }
    }

    /// Returns whether the answer to a publication says that the channel has no subscriber.
    pub(crate) fn reached_nobody(self, answer: &[u8]) -> bool {
        match self {
            Self::InsForge | Self::M2 | Self::Events => false,
            Self::Forge => forge::reached_nobody(answer),
        }
    }

    /// Returns how many publications a complaint says were left out: `Some(None)` if it is a gap
    /// notice that gives no number, `None` if the complaint is no gap notice.
    pub(crate) fn gap(self, complaint: &[u8]) -> Option<Option<u64>> {
        match self {
            Self::InsForge => insforge::gap(complaint),
            Self::Forge => forge::gap(complaint),
            Self::M2 => None,
            Self::Events => events::gap(complaint),
        }
    }

    /// Whether clients receive states: the present one when they subscribe, and later only the
    /// newest one if they do not keep up.
    pub(crate) fn tells_states(self) -> bool {
        self == Self::M2
    }

    /// Whether publishers are those of InsForge.
    pub(crate) fn is_insforge(self) -> bool {
        matches!(self, Self::InsForge | Self::Events)
    }

    /// Whether messages are Server-Sent Events, and not those of a WebSocket.
    pub(crate) fn is_stream(self) -> bool {
        self == Self::Events
    }

    /// Returns a publication as subscribers receive it, for the floor to stamp.
    pub(crate) fn delivered(self, schedule: &Schedule) -> Result<Template> {
        match self {
            Self::InsForge => insforge::delivered(schedule),
            Self::Forge => forge::delivered(schedule),
            Self::M2 => m2::delivered(schedule),
            Self::Events => events::delivered(schedule),
        }
    }

    /// Returns the floor's first message, if the server speaks first.
    pub(crate) fn greeting(self) -> Option<&'static str> {
        match self {
            Self::InsForge => Some(insforge::GREETING),
            Self::Forge => Some(forge::GREETING),
            Self::M2 => None,
            Self::Events => Some(events::GREETING),
        }
    }

    /// Returns the floor's answer to a message; `None` if it needs none.
    pub(crate) fn reply(self, text: &[u8]) -> Option<Reply> {
        match self {
            Self::InsForge => insforge::reply(text),
            Self::Forge => forge::reply(text),
            Self::M2 => m2::reply(text),
            Self::Events => None,
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InsForge => "InsForge",
            Self::Forge => "Forge",
            Self::M2 => "M2",
            Self::Events => "Server-Sent Events",
        })
    }
}

/// Checks that a credential cannot end its header. The error does not show the credential.
fn header_value<'a>(credential: &'a str, name: &str) -> Result<&'a str> {
    let credential = credential.trim();
    ensure!(!credential.is_empty(), "the {name} is empty");
    let fits = credential.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(fits, "the {name} contains characters that a header cannot");
    Ok(credential)
}

/// Encodes the bytes that a path segment or a value of a query may not contain or that would end
/// it.
fn percent_encoded(id: &str) -> String {
    let encoded = id.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    });
    encoded.collect()
}
