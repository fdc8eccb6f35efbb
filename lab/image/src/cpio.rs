//! Writing cpio archives of the `newc` kind, as the kernel unpacks them (Documentation/driver-api/early-userspace/buffer-format.rst).

/// An archive being written. Times and owners are 0, inode numbers count up: the same files give the same bytes.
pub(crate) struct Cpio {
    out: Vec<u8>,
    inode: u32,
    dirs: std::collections::BTreeSet<String>,
}

impl Cpio {
    pub(crate) fn new() -> Cpio {
        Cpio { out: Vec::new(), inode: 0, dirs: std::collections::BTreeSet::new() }
    }

    fn member(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let nlink = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        let fields =
            [self.inode, mode, 0, 0, nlink, 0, content.len() as u32, 0, 0, 0, 0, path.len() as u32 + 1, 0];
        self.out.extend_from_slice(b"070701");
        for f in fields {
            self.out.extend_from_slice(format!("{f:08X}").as_bytes());
        }
        self.out.extend_from_slice(path.as_bytes());
        self.out.push(0);
        self.pad();
        self.out.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.out.resize(self.out.len().next_multiple_of(4), 0);
    }

    fn parents(&mut self, path: &str) {
        for (i, _) in path.match_indices('/') {
            self.dir(&path[..i], 0o755);
        }
    }

    /// A folder; those above it come along.
    pub(crate) fn dir(&mut self, path: &str, mode: u32) {
        if !self.dirs.contains(path) {
            self.parents(path);
            self.dirs.insert(path.to_owned());
            self.member(path, 0o040_000 | mode, b"");
        }
    }

    /// A file.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.parents(path);
        self.member(path, 0o100_000 | mode, content);
    }

    /// A link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.member(path, 0o120_777, target.as_bytes());
    }

    /// The archive, with its end mark; another one may follow it.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.inode = u32::MAX;
        self.member_end();
        self.out
    }

    fn member_end(&mut self) {
        self.inode = 0;
        self.member("TRAILER!!!", 0, b"");
        // The next archive, and QEMU's and Xen's copying, like whole blocks.
        self.out.resize(self.out.len().next_multiple_of(512), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_aligned_and_folders_come_first_and_once() {
        let mut c = Cpio::new();
        c.file("a/b/c", 0o644, b"hello");
        c.file("a/b/d", 0o755, b"");
        c.link("a/l", "b/c");
        let bytes = c.finish();
        assert_eq!(bytes.len() % 512, 0);
        // Read again by the format's own rules.
        let (mut at, mut names) = (0, Vec::new());
        loop {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |n: usize| {
                usize::from_str_radix(
                    std::str::from_utf8(&bytes[at + 6 + n * 8..at + 14 + n * 8]).unwrap(),
                    16,
                )
                .unwrap()
            };
            let (size, name_len) = (field(6), field(11));
            let name = String::from_utf8(bytes[at + 110..at + 110 + name_len - 1].to_vec()).unwrap();
            if name == "TRAILER!!!" {
                break;
            }
            at = (at + 110 + name_len).next_multiple_of(4);
            if name == "a/b/c" {
                assert_eq!(&bytes[at..at + size], b"hello");
            }
            at = (at + size).next_multiple_of(4);
            names.push(name);
        }
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/b/d", "a/l"]);
    }
}
