//! The server's side of the protocols that all interfaces share: WebSocket frames (RFC 6455),
//! HTTP/1.1 (RFC 9110 and 9112), JSON envelopes, base58, TLS and the PROXY protocol.
//!
//! The functions take bytes and return bytes and borrowed messages. This room uses no socket, clock
//! or thread, and does not know what a message means. It trusts no input: each length is bounded,
//! memory grows with the bytes received and never with a length that was only announced, and input
//! that two parsers could read differently is refused.
//!
//! - [`websocket`] decodes a client's frames, builds the server's, checks opening handshakes, and
//!   compresses messages;
//! - [`http`] reads request heads and bodies and writes responses;
//! - [`json`] reads the members of an envelope and leaves the payload as it was sent;
//! - [`base58`] decodes the headers that a browser sends in a subprotocol;
//! - [`tls`] opens and seals the records of connections that are encrypted;
//! - [`proxy_header`] reads the header in which a proxy names the client of a connection.
//!
//! A new connection begins with [`http::parse_head`]. A plain request continues with
//! [`http::BodyDecoder`] and an [`http::Response`]. An upgrade continues with
//! [`websocket::handshake::check`], [`websocket::handshake::response`] and a
//! [`websocket::Decoder`]. Bytes after a head or body belong to the next request, or to the
//! WebSocket.

pub mod base58;
pub mod http;
pub mod json;
pub mod proxy_header;
pub mod tls;
pub mod websocket;
