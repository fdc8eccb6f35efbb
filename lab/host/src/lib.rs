//! The machine the lab runs on: child processes (the one way to start, watch and end them), signals, run folders,
//! the budget that labs share, the guest clock, and what this host can do.
//!
//! Nothing else in the workspace starts a process, installs a signal handler or writes outside the store and the
//! report folder.

pub mod budget;
pub mod child;
pub mod clock;
pub mod interrupt;
pub mod packages;
pub mod parent;
pub mod passing;
pub mod probe;
pub mod resources;
pub mod rundir;

pub use child::{ChildError, Command};
