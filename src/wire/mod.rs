//! What stands on the wire, as bytes: WebSocket frames (RFC 6455) and HTTP/1.1 (RFC 9110 and 9112),
//! both from the server's side, and the JSON envelopes in them.
//!
//! Bytes go in, bytes and borrowed messages come out. Nothing here reads a socket, a clock or a
//! thread, and nothing knows what a message means. Everything that arrives is foreign: each length
//! is bounded, memory grows with the bytes that came and never with a length that was merely
//! claimed, and whatever two parsers could understand differently is refused.
//!
//! - [`frame`] takes a client's frames apart and builds the server's;
//! - [`http`] reads request heads and bodies and writes responses;
//! - [`handshake`] turns a request into a WebSocket;
//! - [`json`] takes envelopes apart without touching what they carry.
//!
//! The way of a new connection: [`http::parse_head`], then either [`http::BodyDecoder`] and a
//! [`http::Response`], or [`handshake::check`], [`handshake::response`] and from there on a
//! [`frame::Decoder`]. Bytes that came behind a head or a body belong to what follows it.

pub mod frame;
pub mod handshake;
pub mod http;
pub mod json;
mod mask;
