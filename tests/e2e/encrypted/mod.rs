//! TLS of clients, and the places where a node listens.

mod again;
mod certificates;
mod clients;
mod faults;
mod places;
