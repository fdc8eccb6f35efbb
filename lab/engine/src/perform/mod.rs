//! One place a kind of step is performed: what is done in dom0, on the consoles or on the build, and what is seen.

pub mod scripts;
