//! A machine's memory that outlives it: what its template is made of.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use xenlab_model::units::Size;

/// Memory for a machine, as a file that has no place in any folder (`memfd_create(2)`): it is gone with the last process that
/// has it, a full disk does not concern it, and a guest is faster in it than in a file of a disk's file system, where each page
/// that is first written to has to be made known to the journal.
#[derive(Debug)]
pub struct Memory {
    file: File,
    size: u64,
}

impl Memory {
    /// Memory of this size, all zeroes. Takes up what is written to.
    ///
    /// # Errors
    /// What the host says.
    pub fn new(size: Size) -> io::Result<Memory> {
        let file = File::from(memfd_create("xenlab", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.set_len(size.0)?;
        Ok(Memory { file, size: size.0 })
    }

    /// What QEMU opens it by, as long as this lives ([`Backing`](crate::Backing)).
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// All zeroes again, once no machine has it.
    ///
    /// # Errors
    /// What the host says.
    pub fn clear(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.set_len(self.size)
    }

    /// Nobody can write to it from now on, this process neither. Clones of it are made page by page.
    ///
    /// # Errors
    /// What the host says: it refuses while somebody could write to it, as QEMU can until its process is gone.
    pub fn seal(&self) -> io::Result<()> {
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&self.file, seals).map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileExt as _;

    #[test]
    fn it_is_opened_by_its_path_and_holds_still_once_it_is_sealed() {
        let memory = Memory::new(Size::mib(8)).unwrap();
        let other = fs::OpenOptions::new().read(true).write(true).open(memory.path()).unwrap();
        assert_eq!(other.metadata().unwrap().len(), 8 << 20);
        other.write_all_at(b"the guest", 4 << 20).unwrap();
        memory.clear().unwrap();
        let mut bytes = [1; 9];
        memory.file().read_exact_at(&mut bytes, 4 << 20).unwrap();
        assert_eq!(bytes, [0; 9]);
        other.write_all_at(b"the guest", 4 << 20).unwrap();
        memory.seal().unwrap();
        assert!(other.write_all_at(b"something", 4 << 20).is_err() && other.set_len(1).is_err());
        // QEMU before 8.2 opens what it only copies for writing.
        let clone = fs::OpenOptions::new().read(true).write(true).open(memory.path()).unwrap();
        clone.read_exact_at(&mut bytes, 4 << 20).unwrap();
        assert_eq!(&bytes, b"the guest");
    }
}
