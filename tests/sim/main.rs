//! Workers with their connections and sessions as they run in a node, without threads, clocks and
//! sockets: random clients, publishers and administrators meet mailboxes with few places, and a
//! model knows what each client must have heard. A seed repeats a run.

mod forge;
mod frames;
mod insforge;
mod m2;
mod node;
mod stream;
mod tally;
mod turns;
mod window;
mod worlds;

const WORKERS: usize = 3;
