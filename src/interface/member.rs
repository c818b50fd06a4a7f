//! How a client is present in a channel: as its user, or as a connection of its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::broker::presence::MemberKey;
use crate::message::Credential;

/// Names a connection to other clients. It is random, and not derived from a secret of the session.
pub type SocketKey = [u8; 15];

/// Returns the socket id that other clients see: 20 characters.
pub fn socket_id(key: &SocketKey) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// Returns the member as which a client counts. All connections of one user are one member.
pub fn key(credential: &Credential, socket: &SocketKey) -> MemberKey {
    let Credential { id, is_user, .. } = credential;
    let id = if *is_user { id.clone() } else { socket_id(socket).into() };
    MemberKey { is_user: *is_user, id }
}
