//! What is more than running a scenario: each verb a module, over the engine's public interface.

pub mod bench;
pub mod explain;
pub mod faults;
pub mod metadata;
pub mod selftest;
pub mod xsa;
