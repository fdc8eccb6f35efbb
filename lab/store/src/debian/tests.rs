//! Tests against a tiny archive.
