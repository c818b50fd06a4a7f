//! How a client is present in a channel: as its user, or as a connection of its own.

use std::sync::Arc;

use crate::message::{self, Credential, MemberId, SOCKET_ID_BYTES};

pub use crate::message::SocketKey;

/// Returns the socket id that other clients see: 20 characters.
pub fn socket_id(key: &SocketKey) -> String {
    message::socket_id(key, &mut [0; SOCKET_ID_BYTES]).to_owned()
}

/// Returns the member as which a client counts. All connections of one user are one member.
pub fn id(credential: &Arc<Credential>, socket: &SocketKey) -> MemberId {
    match credential.is_user {
        true => MemberId::User(credential.clone()),
        false => MemberId::Connection(*socket),
    }
}
