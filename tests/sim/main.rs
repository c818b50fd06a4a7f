//! Simulation of a node's workers with their connections and sessions, without threads, clocks and
//! sockets. Random clients, publishers and administrators use mailboxes with few places, and a
//! model predicts what each client receives. A seed repeats a run.

mod cluster;
mod forge;
mod frames;
#[path = "../support/histories.rs"]
mod histories;
mod insforge;
mod m2;
mod memory;
mod node;
mod stream;
mod tally;
mod turns;
mod window;
mod worlds;

const WORKERS: usize = 3;
