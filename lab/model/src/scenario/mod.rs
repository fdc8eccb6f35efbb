//! The scenario language: text → tree with places → checked against the schema → cases.
//!
//! See docs/SCENARIO.md for the grammar.

pub mod config;
pub mod diagnostic;
pub mod file;
pub mod tree;

pub use config::Config;
pub use diagnostic::{Diagnostic, render};

#[test]
fn dump() {
    let g = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    println!("{}", serde_json::to_string_pretty(&g.into_root_schema_for::<file::ScenarioFile>()).unwrap());
}
