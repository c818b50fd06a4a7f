//! Members of channels: the clients that are present there.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Credential, Millis, Role};

/// Names a connection to other clients. It is random, and not derived from a secret of the session.
pub type SocketKey = [u8; 15];

/// The length of a socket id, which is a key in base64.
pub const SOCKET_ID_BYTES: usize = 20;

/// A member of a channel, in 16 bytes: a channel may have a hundred thousand.
#[derive(Clone, Debug)]
pub enum MemberId {
    /// The user with the id of this credential. It may have many connections.
    User(Arc<Credential>),
    /// A connection that is a member of its own.
    Connection(SocketKey),
}

impl MemberId {
    /// Creates the id of a user on another node, of whom presence needs no more than this.
    pub fn user(id: &str) -> Self {
        let role = Role::Authenticated;
        let credential =
            Credential { id: id.into(), email: None, role, is_user: true, expires_at: None };
        Self::User(Arc::new(credential))
    }

    /// Creates the id of a connection from its socket id; `None` if no socket id is written like
    /// that.
    pub fn connection(socket_id: &str) -> Option<Self> {
        let mut key = SocketKey::default();
        let length = (socket_id.len() == SOCKET_ID_BYTES)
            .then(|| URL_SAFE_NO_PAD.decode_slice(socket_id, &mut key).ok())??;
        (length == key.len()).then_some(Self::Connection(key))
    }

    /// Returns whether the member is a signed-in user, and not an anonymous connection.
    pub fn is_user(&self) -> bool {
        matches!(self, Self::User(_))
    }

    /// Returns the id that other clients see: the user's id, or the socket id of the connection,
    /// which is written into `place`.
    pub fn text<'a>(&'a self, place: &'a mut [u8; SOCKET_ID_BYTES]) -> &'a str {
        match self {
            Self::User(credential) => &credential.id,
            Self::Connection(key) => socket_id(key, place),
        }
    }
}

impl PartialEq for MemberId {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::User(one), Self::User(other)) => one.id == other.id,
            (Self::Connection(one), Self::Connection(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for MemberId {}

impl Hash for MemberId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::User(credential) => credential.id.hash(state),
            // Equal keys have equal length, so that it need not be hashed.
            Self::Connection(key) => state.write(key),
        }
    }
}

/// Writes a socket id, as other clients see it, into `place`.
pub fn socket_id<'a>(key: &SocketKey, place: &'a mut [u8; SOCKET_ID_BYTES]) -> &'a str {
    let length = URL_SAFE_NO_PAD.encode_slice(key, place).expect("15 bytes make 20 digits");
    str::from_utf8(&place[..length]).expect("base64 is ASCII")
}

/// A member of a channel, as presence shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Names the member.
    pub id: MemberId,
    /// When the first of the member's connections joined.
    pub joined_at: Millis,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str, email: &str) -> MemberId {
        MemberId::User(Arc::new(Credential {
            id: id.into(),
            email: Some(email.into()),
            role: Role::Authenticated,
            is_user: true,
            expires_at: None,
        }))
    }

    #[test]
    fn a_member_is_small() {
        // The memory of anonymous subscribers depends on it.
        assert_eq!((size_of::<MemberId>(), size_of::<Member>()), (16, 24));
    }

    #[test]
    fn a_user_is_known_by_its_id_alone() {
        let hash = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default();
        let [one, newer] = ["a", "b"].map(|email| user("u", email));
        let hashes = [&one, &newer].map(|id| std::hash::BuildHasher::hash_one(&hash, id));
        assert_eq!((&one, hashes[0]), (&newer, hashes[1]));
        assert_ne!(one, user("v", "a"));
        let id = "AAAAAAAAAAAAAAAAAAAA";
        assert_ne!(user(id, "a"), MemberId::Connection([0; 15]), "it has a user's id, but is none");
        assert_eq!(MemberId::Connection([0; 15]).text(&mut [0; SOCKET_ID_BYTES]), id);
    }
}
