//! A clone's first words: what it must not share with the others of its template, in one round trip.

use super::{PortError, PortShell};
use crate::Deadline;
use std::time::SystemTime;

/// Fresh bytes for the clone's random generator.
const SEED: usize = 32;

impl PortShell {
    /// Tells a machine that was just restored what a clone must not share: sets its wall clock to this host's, and makes its
    /// kernel's random generator begin anew from fresh bytes of this host's. Connects by the same words. What a process had drawn before the
    /// machine was frozen (a TLS session's secrets, a seed in its memory) stays the same in every clone.
    ///
    /// # Errors
    /// [`PortError`]: nobody answers, or dom0's kernel refuses one of the two.
    pub async fn first_words(&mut self, deadline: &Deadline) -> Result<(), PortError> {
        let mut seed = [0; SEED];
        getrandom::fill(&mut seed)
            .map_err(|e| PortError::FirstWords(format!("this host's random numbers: {e}")))?;
        let request = |nonce: &str| format!("w {nonce} '{}'", octal(&words(SystemTime::now(), &seed)));
        let status = self.greet(Some(&request), deadline).await?;
        let why = match status.as_deref() {
            Some("0") => return self.settle(deadline).await,
            Some("2") => "its kernel did not let the clock be set".to_owned(),
            Some("3" | "4") => "its kernel did not take new random bytes".to_owned(),
            other => format!("the program for it ended with status {}", other.unwrap_or("unknown")),
        };
        Err(PortError::FirstWords(why))
    }
}

/// What `port.first` reads: a `struct timespec` and a `struct rand_pool_info`, as both architectures lay them out.
fn words(now: SystemTime, seed: &[u8; SEED]) -> Vec<u8> {
    // A clock before 1970 is no clock; dom0 then begins there.
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut out = Vec::with_capacity(24 + SEED);
    out.extend(now.as_secs().to_le_bytes());
    out.extend(u64::from(now.subsec_nanos()).to_le_bytes());
    // Bits of entropy, and bytes.
    out.extend((SEED as u32 * 8).to_le_bytes());
    out.extend((SEED as u32).to_le_bytes());
    out.extend(seed);
    out
}

/// As `printf` takes it.
fn octal(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("\\{b:03o}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_words_are_what_the_program_reads() {
        let words = words(SystemTime::UNIX_EPOCH + Duration::new(258, 7), &[9; SEED]);
        assert_eq!(words.len(), 56);
        assert_eq!(words[..24], [2, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 32, 0, 0, 0]);
        assert_eq!(octal(&[0, 10, 255]), "\\000\\012\\377");
    }
}
