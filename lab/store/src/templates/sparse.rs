//! Large files that are mostly holes.

use crate::{StoreError, hex};
use rustix::fs::{SeekFrom, seek, statvfs};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use xenlab_host::interrupt;

/// Memory is hashed in pieces of this size.
const PIECE: u64 = 64 << 10;
/// And copied in pieces of this one.
const COPIED: u64 = 128 << 10;
/// What is told apart as zeroes or not: a guest's page.
const PAGE: usize = 4 << 10;
/// Kept free beside what is to be written.
const SPARE: u64 = 64 << 20;

/// That there is room for this much in the folder.
pub(super) fn room(folder: &Path, length: u64) -> Result<(), StoreError> {
    let fs = statvfs(folder).map_err(|e| StoreError::io("look for room in", folder, e.into()))?;
    if fs.f_bavail.saturating_mul(fs.f_frsize) < length.saturating_add(SPARE) {
        return Err(StoreError::DiskFull { path: folder.to_owned() });
    }
    Ok(())
}

/// Writes what is not all zeroes of `from` to the same places of `to`, and makes it as long.
///
/// # Errors
/// What the host says, and an interrupt.
pub fn copy_memory(from: &File, to: &File) -> std::io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut buffer = vec![0; COPIED as usize];
    for (begin, end) in data(from, length)? {
        let mut at = begin;
        while at < end {
            if interrupt::requested() {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            let piece = &mut buffer[..COPIED.min(end - at) as usize];
            from.read_exact_at(piece, at)?;
            // Of memory that was ever written to, half is zeroes: firmware and kernels clear what they take.
            let pages: Vec<&[u8]> = piece.chunks(PAGE).collect();
            let mut place = at;
            for run in pages.chunk_by(|a, b| zero(a) == zero(b)) {
                let bytes: usize = run.iter().map(|page| page.len()).sum();
                if !zero(run[0]) {
                    let offset = (place - at) as usize;
                    to.write_all_at(&piece[offset..offset + bytes], place)?;
                }
                place += bytes as u64;
            }
            at = place;
        }
    }
    Ok(())
}

fn zero(page: &[u8]) -> bool {
    const ZEROES: [u8; PAGE] = [0; PAGE];
    *page == ZEROES[..page.len()]
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
