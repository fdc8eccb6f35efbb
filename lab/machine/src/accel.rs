//! Which accelerator a machine gets, and why.
