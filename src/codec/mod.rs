//! Bytes of the protocols that all interfaces share: WebSocket frames (RFC 6455), HTTP/1.1 (RFC
//! 9110 and 9112), JSON envelopes and base58, from the server's side.
//!
//! Bytes go in, bytes and borrowed messages come out. Nothing here reads a socket, a clock or a
//! thread, and nothing knows what a message means. Everything that arrives is foreign: each length
//! is bounded, memory grows with the bytes that came and never with a length that was merely
//! claimed, and whatever two parsers could understand differently is refused.
//!
//! - [`websocket`] takes a client's frames apart, builds the server's, and turns a request into a
//!   WebSocket;
//! - [`http`] reads request heads and bodies and writes responses;
//! - [`json`] takes envelopes apart without touching what they carry.
//!
//! The way of a new connection: [`http::parse_head`], then either [`http::BodyDecoder`] and a
//! [`http::Response`], or [`websocket::handshake::check`], [`websocket::handshake::response`] and
//! from there on a [`websocket::Decoder`]. Bytes that came behind a head or a body belong to what
//! follows it.

pub mod base58;
pub mod http;
pub mod json;
pub mod websocket;
