//! Large files that are mostly holes.

use crate::{StoreError, hex};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, fstatvfs, seek};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Memory is hashed in pieces of this size.
const PIECE: u64 = 64 << 10;
/// Kept free where room cannot be reserved but only looked at.
const SPARE: u64 = 64 << 20;

/// Makes a file of this length with all its room reserved: a guest that writes to memory for which the disk has no room left
/// kills QEMU by SIGBUS, which would look like a fault of QEMU's.
pub(super) fn reserve(path: &Path, length: u64) -> Result<(), StoreError> {
    let io = |e| StoreError::io("reserve room for", path, e);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| StoreError::io("make", path, e))?;
    match fallocate(&file, FallocateFlags::empty(), 0, length) {
        Ok(()) => return Ok(()),
        // Not every file system can.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(e) => return Err(io(e.into())),
    }
    let fs = fstatvfs(&file).map_err(|e| io(e.into()))?;
    if fs.f_bavail.saturating_mul(fs.f_frsize) < length.saturating_add(SPARE) {
        return Err(StoreError::DiskFull { path: path.to_owned() });
    }
    file.set_len(length).map_err(io)
}

/// The ranges of a file that hold data, as the file system knows them.
fn data(file: &File, length: u64) -> Result<Vec<(u64, u64)>, Errno> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < length {
        let from = match seek(file, SeekFrom::Data(at)) {
            Ok(from) => from,
            // No more of it.
            Err(Errno::NXIO) => break,
            // A file system that does not know of holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                ranges.push((at, length));
                break;
            }
            Err(e) => return Err(e),
        };
        let to = seek(file, SeekFrom::Hole(from))?.min(length);
        ranges.push((from, to));
        at = to;
    }
    Ok(ranges)
}

/// Gives back the room that was reserved and never written to.
pub(super) fn punch(path: &Path) -> Result<(), StoreError> {
    let io = |e: std::io::Error| StoreError::io("look for holes in", path, e);
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut at = 0;
    for (from, to) in data(&file, length).map_err(|e| io(e.into()))?.into_iter().chain([(length, length)]) {
        if at < from {
            match fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, from - at) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(e) => return Err(io(e.into())),
            }
        }
        at = to;
    }
    Ok(())
}

/// SHA-256 of a machine's memory: over its length and every piece of 64 KiB that is not all zeroes, each with its place. It does not
/// depend on where the file has holes, and holes are not read.
///
/// # Errors
/// When the file cannot be read, or the user interrupts.
pub fn hash_memory(path: &Path) -> Result<String, StoreError> {
    let io = |e: std::io::Error| StoreError::io("read", path, e);
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut hash = Sha256::new();
    hash.update(length.to_le_bytes());
    let mut buffer = vec![0; PIECE as usize];
    let mut next = 0;
    for (from, to) in data(&file, length).map_err(|e| io(e.into()))? {
        let mut at = (from / PIECE * PIECE).max(next);
        while at < to {
            crate::run::check_interrupted()?;
            let piece = &mut buffer[..PIECE.min(length - at) as usize];
            file.read_exact_at(piece, at).map_err(io)?;
            if piece.iter().any(|b| *b != 0) {
                hash.update(at.to_le_bytes());
                hash.update(&*piece);
            }
            at += PIECE;
        }
        next = at;
    }
    Ok(hex(&hash.finalize()))
}
