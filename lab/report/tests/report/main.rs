//! The reporters and the merging of shards, from outside.

mod common;
mod expected;
mod merging;
mod reporters;
mod xtf;
