//! What xenlab talks about, and how it judges: the scenario language, the plan made of it, evidence, verdicts, events.
//!
//! Pure: no file is read, no process started, no clock asked. Everything here is tested without a machine.
//!
//! Data flows one way: scenario text → [`scenario`] → [`case::Case`]s → (engine: machine, steps) →
//! [`evidence::Evidence`] → [`verdict::StepVerdict`] → [`event::Event`]s → reporters.

pub mod agent;
pub mod arch;
pub mod bundle;
pub mod case;
pub mod cause;
pub mod compare;
pub mod condition;
pub mod date;
pub mod device;
pub mod event;
pub mod evidence;
pub mod exit;
pub mod expectation;
pub mod fact;
pub mod guest;
pub mod judge;
pub mod matcher;
pub mod metadata;
pub mod place;
pub mod recipe;
pub mod scenario;
pub mod spec;
pub mod step;
pub mod store;
pub mod units;
pub mod verdict;
pub mod version;
pub mod xsa;
pub mod xtf;

pub use arch::Arch;
pub use exit::Exit;
/// Making a guest's text safe to show: whoever shows it knows this crate, not the one that reads consoles.
pub use xenlab_console::{escape, escape_lines};
