//! dom0 over its console.
