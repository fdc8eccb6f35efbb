//! Xen builds: where they come from, and every fact that can be read off one.

pub mod image;
