//! The scenario language: text → tree with places → checked against the schema → cases.
//!
//! See docs/SCENARIO.md for the grammar.

pub mod config;

pub use config::Config;
