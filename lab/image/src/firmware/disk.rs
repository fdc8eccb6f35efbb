//! The disk that firmware boots: one FAT partition, and for BIOS GRUB before it.

use crate::ImageError;
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use fscommon::{BufStream, StreamSlice};
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;

const SECTOR: u64 = 512;
/// Where the partition begins; before it there is room for GRUB, which lies behind the boot sector.
const FIRST: u64 = 2048;
/// Large, since GRUB reads cluster by cluster, each a call of the BIOS at least.
const CLUSTER: u32 = 32 << 10;
/// FAT16 has 4085 to 65524 clusters (Microsoft, FAT: General Overview of On-Disk Format).
const SMALLEST: u64 = 4200 * CLUSTER as u64;
const LARGEST: u64 = 65_000 * CLUSTER as u64;

/// Whose partition it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fat<'a> {
    /// GRUB's, with its boot sector and its image.
    Bios { boot: &'a [u8], core: &'a [u8] },
    /// An EFI system partition.
    Efi,
}

/// A stretch of a file on the disk.
#[derive(Debug, Clone)]
pub(super) enum Piece<'a> {
    Bytes(Vec<u8>),
    File(&'a Path),
    Zeroes(u64),
}

/// Files on the disk, in the order in which they are written.
#[derive(Debug, Clone, Default)]
pub(super) struct Files<'a>(Vec<(String, Vec<Piece<'a>>)>);

impl<'a> Files<'a> {
    pub(super) fn bytes(&mut self, name: &str, bytes: Vec<u8>) {
        self.pieces(name, vec![Piece::Bytes(bytes)]);
    }

    pub(super) fn file(&mut self, name: &str, path: &'a Path) {
        self.pieces(name, vec![Piece::File(path)]);
    }

    pub(super) fn pieces(&mut self, name: &str, pieces: Vec<Piece<'a>>) {
        self.0.push((name.to_owned(), pieces));
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Writes the disk; returns its size. What holds nothing is a hole.
    pub(super) fn write(&self, disk: &Path, whose: Fat<'_>) -> Result<u64, ImageError> {
        let mut files = 0;
        for (_, pieces) in &self.0 {
            for piece in pieces {
                files += piece.bytes()?;
            }
            files = files.next_multiple_of(CLUSTER.into());
        }
        self.write_sized(files, disk, whose).map_err(|e| ImageError::io("write", disk, e))
    }

    fn write_sized(&self, files: u64, disk: &Path, whose: Fat<'_>) -> io::Result<u64> {
        // The tables and folders take less than a hundredth.
        let volume = (files + files / 64 + (1 << 20)).next_multiple_of(1 << 20).max(SMALLEST);
        let (start, end) = (FIRST * SECTOR, FIRST * SECTOR + volume);
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(disk)?;
        file.set_len(end)?;
        file.write_all(&first_sector(whose, volume)?)?;
        if let Fat::Bios { core, .. } = whose {
            if core.len() as u64 > start - SECTOR {
                return Err(io::Error::other("GRUB's image does not fit before the partition"));
            }
            file.write_all(core)?;
        }
        let mut partition = StreamSlice::new(file, start, end)?;
        let options = FormatVolumeOptions::new().volume_label(*b"XENLAB     ");
        let options = if volume < LARGEST {
            options.fat_type(FatType::Fat16).bytes_per_cluster(CLUSTER)
        } else {
            options.fat_type(FatType::Fat32)
        };
        fatfs::format_volume(&mut partition, options)?;
        partition.seek(SeekFrom::Start(0))?;
        let fs = FileSystem::new(BufStream::new(partition), FsOptions::new())?;
        {
            let root = fs.root_dir();
            for (name, pieces) in &self.0 {
                let mut made = String::new();
                let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
                for folder in folders.split('/').filter(|f| !f.is_empty()) {
                    made = if made.is_empty() { folder.to_owned() } else { format!("{made}/{folder}") };
                    root.create_dir(&made)?;
                }
                let mut to = root.create_file(name)?;
                for piece in pieces {
                    piece.copy(&mut to)?;
                }
                to.flush()?;
            }
        }
        fs.unmount()?;
        Ok(end)
    }
}

impl Piece<'_> {
    fn bytes(&self) -> Result<u64, ImageError> {
        Ok(match self {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Zeroes(n) => *n,
            Piece::File(path) => std::fs::metadata(path).map_err(|e| ImageError::io("read", path, e))?.len(),
        })
    }

    fn copy(&self, to: &mut impl io::Write) -> io::Result<()> {
        match self {
            Piece::Bytes(bytes) => to.write_all(bytes),
            Piece::Zeroes(n) => io::copy(&mut io::Read::take(io::repeat(0), *n), to).map(drop),
            Piece::File(path) => {
                let mut chunks = io::BufReader::with_capacity(1 << 20, File::open(path)?);
                loop {
                    let chunk = io::BufRead::fill_buf(&mut chunks)?;
                    if chunk.is_empty() {
                        return Ok(());
                    }
                    let read = chunk.len();
                    to.write_all(chunk)?;
                    io::BufRead::consume(&mut chunks, read);
                }
            }
        }
    }
}

/// The first sector: GRUB's code, if it is GRUB's disk, and a table with the one partition (UEFI specification, 5.2.1). What GRUB's boot
/// sector has where the table is, is for floppies, which have none.
fn first_sector(whose: Fat<'_>, volume: u64) -> io::Result<Vec<u8>> {
    let (code, kind): (&[u8], u8) = match whose {
        Fat::Bios { boot, .. } => (boot, 0x0c),
        Fat::Efi => (&[], 0xef),
    };
    let mut sector = code.to_vec();
    sector.resize(SECTOR as usize, 0);
    let sectors =
        u32::try_from(volume / SECTOR).map_err(|_| io::Error::other("more than a disk can hold"))?;
    sector[440..].fill(0);
    sector[446] = 0x80;
    // Heads and cylinders nobody counts: the values that say so.
    sector[447..450].copy_from_slice(&[0xfe, 0xff, 0xff]);
    sector[450] = kind;
    sector[451..454].copy_from_slice(&[0xfe, 0xff, 0xff]);
    sector[454..458].copy_from_slice(&(FIRST as u32).to_le_bytes());
    sector[458..462].copy_from_slice(&sectors.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    Ok(sector)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    /// What lies in a file of a disk.
    fn read(disk: &Path, name: &str) -> Vec<u8> {
        let file = File::open(disk).unwrap();
        let end = file.metadata().unwrap().len();
        let partition = StreamSlice::new(file, FIRST * SECTOR, end).unwrap();
        let fs = FileSystem::new(partition, FsOptions::new()).unwrap();
        let mut bytes = Vec::new();
        fs.root_dir().open_file(name).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_put_on_it_is_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, large) = (dir.path().join("disk"), dir.path().join("large"));
        let content: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&large, &content).unwrap();
        let mut files = Files::default();
        files.file("EFI/BOOT/BOOTX64.EFI", &large);
        files.bytes("EFI/BOOT/BOOTX64.CFG", b"[global]\n".to_vec());
        files.pieces("whole", vec![Piece::Bytes(vec![1]), Piece::Zeroes(5), Piece::File(&large)]);
        let bytes = files.write(&disk, Fat::Efi).unwrap();
        assert_eq!(bytes, std::fs::metadata(&disk).unwrap().len());
        assert_eq!(read(&disk, "EFI/BOOT/BOOTX64.EFI"), content);
        assert_eq!(read(&disk, "efi/boot/bootx64.cfg"), b"[global]\n", "case does not count");
        assert_eq!(read(&disk, "whole"), [&[1, 0, 0, 0, 0, 0], content.as_slice()].concat());
        let first = std::fs::read(&disk).unwrap()[..512].to_vec();
        assert_eq!((first[450], &first[510..]), (0xef, &[0x55, 0xaa][..]));
    }

    #[test]
    fn grub_lies_before_the_partition() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        let (boot, core) = (vec![0xeb; 512], vec![0x52; 100_000]);
        let mut files = Files::default();
        files.bytes("grub/grub.cfg", b"boot\n".to_vec());
        files.write(&disk, Fat::Bios { boot: &boot, core: &core }).unwrap();
        let all = std::fs::read(&disk).unwrap();
        assert_eq!(&all[..440], &boot[..440]);
        assert_eq!(&all[462..510], [0; 48], "no partition but the first");
        assert_eq!(&all[512..512 + core.len()], core);
        assert_eq!(read(&disk, "grub/grub.cfg"), b"boot\n");
        let core = vec![0; 2 << 20];
        let error = files.write(&disk, Fat::Bios { boot: &boot, core: &core }).unwrap_err();
        assert!(error.to_string().contains("does not fit"), "{error}");
    }
}
