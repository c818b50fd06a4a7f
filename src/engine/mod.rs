//! What is left of the engine.

pub mod invocations;
