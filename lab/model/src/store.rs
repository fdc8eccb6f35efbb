//! Xen's store as a client sees it: its wire protocol, a trace of requests with what the protocol's document says of each answer, the
//! playing of it, and the comparing of what two daemons answered.
//!
//! All of it is pure: who plays a trace is told what to send to whom and hands back the bytes that came.

pub mod play;
pub mod text;
pub mod trace;
pub mod wire;
