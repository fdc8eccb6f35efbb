//! The reporters and the merging of shards, from outside.

mod common;
mod merging;
mod reporters;
