//! The executor of one case, the scheduler of many, deadlines, events and bundles.

pub mod bundle;
pub mod error;
pub mod limits;
pub mod perform;

pub use error::EngineError;

/// SHA-256 in lower-case hexadecimal.
pub fn digest_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    use std::fmt::Write;
    sha2::Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}
