//! The real binary, driven from outside: by stock clients and over HTTP.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod channels;
mod clients;
mod driver;
mod publish;
mod restart;
mod upgrade;
