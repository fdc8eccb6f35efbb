//! Consoles: bytes in, lines and matches out; telling Xen's lines from dom0's; boot phases; panics and warnings.
//!
//! Pure: no clock, no file, no tokio. One serial line carries what the firmware, Xen, dom0 and (through Xen) guests write:
//!
//! - [`Demux`] cuts the bytes into [`Line`]s, each with whose it is; halves of lines that another speaker cut are put
//!   together again. Chunks may be cut at any byte.
//! - [`PhaseTracker`] says how far a boot has come, from lines.
//! - [`SignTracker`] recognises lines that explain a bad end, each with the code of a cause.
//! - [`Catalogue`] finds panics and warnings in a whole record, for the `console` step.
//! - [`Matcher`] looks for many patterns at once; [`PatternSet`] is the same for single lines.
//! - [`Tail`] keeps the last lines of each speaker; [`escape`] makes a guest's text safe to show.

mod bench;
mod catalogue;
mod clean;
mod crash;
mod demux;
mod escape;
mod marker;
mod matcher;
mod phase;
mod signs;
mod tail;
mod units;

pub use bench::{Bench, bench};
pub use catalogue::{Catalogue, Finding, Harmless};
pub use crash::{Crash, Who, crash};
pub use demux::{Demux, Line, MAX_LINE, Speaker, lines};
pub use escape::{escape, escape_lines};
pub use matcher::{Hit, Matcher, Pattern, PatternError, PatternSet};
pub use phase::{Phase, PhaseTracker, Transition};
pub use signs::{Class, MAX_REASON, RULES, Rule, Sign, SignTracker, explain};
pub use tail::Tail;
pub use units::failed_units;
