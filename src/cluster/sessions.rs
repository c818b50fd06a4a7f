//! Sessions of Socket.IO as their stream has them: one message for each session, the last word on
//! it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::name::{NodeName, Prefix, hex};
use crate::message::{
    Channel, Credential, Encoding, Mark, MarkPlace, MessageId, RecoveryKey, Replays, Role,
    SharedChannel, SharedSession, SocketKey,
};

/// Returns the name of the stream.
pub fn stream(prefix: &Prefix) -> String {
    format!("{}_SES", prefix.as_str().to_uppercase())
}

/// Returns the subjects that it stores, with a wildcard.
pub fn stored(prefix: &Prefix) -> String {
    format!("{prefix}.ses.*")
}

/// Returns the subject of a session.
pub fn subject(prefix: &Prefix, session: &RecoveryKey) -> String {
    format!("{prefix}.ses.{}", hex(session))
}

/// The last word on a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    /// The name of the node that says it.
    pub by: Box<str>,
    /// The session; `None` while it changes.
    pub session: Option<SharedSession>,
}

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    by: Box<str>,
    session: Option<SessionText>,
}

#[derive(Serialize, Deserialize)]
struct SessionText {
    socket: SocketKey,
    client: ClientText,
    policies: Option<u64>,
    channels: Vec<ChannelText>,
    replays: [u8; Replays::BYTES],
    replayed_at: Option<[u8; MarkPlace::BYTES]>,
    before: Option<MarkText>,
}

#[derive(Serialize, Deserialize)]
struct ClientText {
    id: Box<str>,
    email: Option<Box<str>>,
    role: Box<str>,
    is_user: bool,
}

#[derive(Serialize, Deserialize)]
struct ChannelText {
    name: Box<str>,
    is_documented: bool,
    since: [u8; MarkPlace::BYTES],
}

#[derive(Serialize, Deserialize)]
enum MarkText {
    Id([u8; 16]),
    Place([u8; MarkPlace::BYTES], Option<[u8; Replays::BYTES]>),
}

/// The version of the texts that this release writes and reads.
const VERSION: u32 = 1;

/// Returns the word of a node on a session as JSON text.
pub fn encode(by: &NodeName, session: Option<&SharedSession>) -> String {
    let session = session.map(SessionText::of);
    let text = Text { version: VERSION, by: by.as_str().into(), session };
    serde_json::to_string(&text).expect("strings and numbers serialize")
}

/// Reads a word; `None` if it is not as this release writes it.
pub fn decode(text: &[u8]) -> Option<Word> {
    let Text { version, by, session } = serde_json::from_slice(text).ok()?;
    let session = match session {
        Some(session) => Some(session.read()?),
        None => None,
    };
    (version == VERSION).then_some(Word { by, session })
}

impl SessionText {
    fn of(session: &SharedSession) -> Self {
        let Credential { id, email, role, is_user, .. } = &*session.credential;
        let client = ClientText {
            id: id.clone(),
            email: email.clone(),
            role: role.name().into(),
            is_user: *is_user,
        };
        let channels = session.channels.iter().map(|one| ChannelText {
            name: one.channel.as_str().into(),
            is_documented: one.encoding == Encoding::Documented,
            since: one.since.to_bytes(),
        });
        Self {
            socket: session.socket_key,
            client,
            policies: session.policies,
            channels: channels.collect(),
            replays: session.replays.to_bytes(),
            replayed_at: session.replayed_at.map(MarkPlace::to_bytes),
            before: session.before.map(MarkText::of),
        }
    }

    fn read(self) -> Option<SharedSession> {
        let ClientText { id, email, role, is_user } = self.client;
        let role = Role::named(&role);
        let credential = Credential { id, email, role, is_user, expires_at: None };
        let channels = self.channels.into_iter().map(|one| {
            let encoding = if one.is_documented { Encoding::Documented } else { Encoding::Sdk };
            let since = MarkPlace::from_bytes(&one.since)?;
            Some(SharedChannel { channel: Channel::from(&*one.name), encoding, since })
        });
        let replayed_at = match self.replayed_at {
            Some(place) => Some(MarkPlace::from_bytes(&place)?),
            None => None,
        };
        let before = match self.before {
            Some(mark) => Some(mark.read()?),
            None => None,
        };
        Some(SharedSession {
            socket_key: self.socket,
            credential: Arc::new(credential),
            policies: self.policies,
            channels: channels.collect::<Option<_>>()?,
            replays: Replays::from_bytes(&self.replays)?,
            replayed_at,
            before,
        })
    }
}

impl MarkText {
    fn of(mark: Mark) -> Self {
        match mark {
            Mark::Id(id) => Self::Id(id.into_bytes()),
            Mark::Place(place) => Self::Place(place.to_bytes(), None),
            Mark::Replays(place, replays) => {
                Self::Place(place.to_bytes(), Some(replays.to_bytes()))
            }
        }
    }

    fn read(self) -> Option<Mark> {
        match self {
            Self::Id(id) => Some(Mark::Id(MessageId::from_bytes(id))),
            Self::Place(place, replays) => {
                let place = MarkPlace::from_bytes(&place)?;
                match replays {
                    None => Some(Mark::Place(place)),
                    Some(replays) => Some(Mark::Replays(place, Replays::from_bytes(&replays)?)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        let by = NodeName::read("n1").expect("a name");
        let place = MarkPlace::new(u32::MAX, 1 << 60);
        let credential = Credential {
            id: "alice".into(),
            email: Some("a@b".into()),
            role: Role::Unknown("driver".into()),
            is_user: true,
            expires_at: None,
        };
        let channels = [Encoding::Sdk, Encoding::Documented].map(|encoding| SharedChannel {
            channel: Channel::from("a \"b\".*>"),
            encoding,
            since: place,
        });
        let id = Mark::Id(MessageId::from_u128(9));
        let replays = Replays::default().next();
        let marks = [Mark::Place(place), Mark::Replays(place, replays), id].map(Some);
        for before in marks.into_iter().chain([None]) {
            let session = SharedSession {
                socket_key: [255; 15],
                credential: Arc::new(credential.clone()),
                policies: before.map(|_| u64::MAX),
                channels: channels.to_vec(),
                replays,
                replayed_at: before.map(|_| place),
                before,
            };
            let text = encode(&by, Some(&session));
            let word = Word { by: by.as_str().into(), session: Some(session) };
            assert_eq!(decode(text.as_bytes()), Some(word), "{text}");
        }
        let changing = Word { by: by.as_str().into(), session: None };
        assert_eq!(decode(encode(&by, None).as_bytes()), Some(changing));
        assert_eq!(decode(br#"{"version":2,"by":"n1","session":null}"#), None);
        assert_eq!(decode(b""), None);
    }

    #[test]
    fn the_texts_never_change() {
        // All nodes and all versions must agree on them, and streams keep them.
        let by = NodeName::read("n1").expect("a name");
        let place = MarkPlace::new(1, 2);
        let credential = Credential {
            id: "alice".into(),
            email: Some("a@b".into()),
            role: Role::Authenticated,
            is_user: true,
            expires_at: None,
        };
        let channel = SharedChannel {
            channel: Channel::from("room"),
            encoding: Encoding::Documented,
            since: place,
        };
        let mut session = SharedSession {
            socket_key: [7; 15],
            credential: Arc::new(credential),
            policies: Some(3),
            channels: [channel].into(),
            replays: Replays::default(),
            replayed_at: Some(place),
            before: Some(Mark::Place(place)),
        };
        let place = "[0,0,0,1,0,0,0,0,0,0,0,2]";
        let text = |before: &str| {
            let client = r#"{"id":"alice","email":"a@b","role":"authenticated","is_user":true}"#;
            let channel = format!(r#"{{"name":"room","is_documented":true,"since":{place}}}"#);
            let session = format!(
                r#""socket":[{}],"client":{client},"policies":3,"channels":[{channel}]"#,
                ["7"; 15].join(",")
            );
            let told = format!(r#""replays":[0,0],"replayed_at":{place},"before":{before}"#);
            format!(r#"{{"version":1,"by":"n1","session":{{{session},{told}}}}}"#)
        };
        let is_at = format!(r#"{{"Place":[{place},null]}}"#);
        assert_eq!(encode(&by, Some(&session)), text(&is_at));
        session.before = Some(Mark::Id(MessageId::from_u128(9)));
        let is_id = r#"{"Id":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,9]}"#;
        assert_eq!(encode(&by, Some(&session)), text(is_id));
        session.before = Some(Mark::Replays(MarkPlace::new(1, 2), Replays::default().next()));
        let is_replay = format!(r#"{{"Place":[{place},[0,1]]}}"#);
        assert_eq!(encode(&by, Some(&session)), text(&is_replay));
        assert_eq!(encode(&by, None), r#"{"version":1,"by":"n1","session":null}"#);
    }

    #[test]
    fn a_session_has_a_subject_of_its_own() {
        let prefix = Prefix::read("ff").expect("a prefix");
        let session = std::array::from_fn(|at| u8::try_from(at).expect("it is small"));
        let expected = "ff.ses.000102030405060708090a0b0c0d0e";
        assert_eq!(
            (subject(&prefix, &session), stream(&prefix)),
            (expected.into(), "FF_SES".into())
        );
    }
}
