//! What a patch or a commit changes, to be compared: which lines of which files, whatever stands around them and wherever they are.
//!
//! What is not understood for certain is no change at all, and then equals nothing: renames, modes, binary files, hunks that are cut off.

use std::collections::BTreeMap;

/// A mode that files have where nothing is said.
const PLAIN: &[u8] = b"100644";

/// A change, by file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    files: BTreeMap<Vec<u8>, File>,
}

/// A file's part in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct File {
    /// The mode, of one that it makes.
    made: Option<Vec<u8>>,
    /// It removes the file.
    removed: bool,
    /// Lines with their sign, in runs between which something stays as it is. Two runs are not one: what stays between them may matter.
    runs: Vec<Vec<Vec<u8>>>,
}

impl Change {
    /// That of a patch, whatever is written above it and below.
    pub fn read(patch: &[u8]) -> Option<Change> {
        Reader::new(patch).change(|_| false)
    }

    /// Those of commits, as `git diff-tree --stdin --patch` prints them: each after a line that is its hash.
    pub fn of_commits(text: &[u8]) -> BTreeMap<String, Change> {
        let mut reader = Reader::new(text);
        let mut changes = BTreeMap::new();
        while let Some(line) = reader.next() {
            if !is_hash(line) {
                continue;
            }
            let hash = String::from_utf8_lossy(line).into_owned();
            if let Some(change) = reader.change(is_hash) {
                changes.insert(hash, change);
            }
        }
        changes
    }
}

fn is_hash(line: &[u8]) -> bool {
    matches!(line.len(), 40 | 64) && line.iter().all(|b| b.is_ascii_hexdigit())
}

/// The file in a line `--- a/FILE`, as `-p1` has it; none for `/dev/null`. An error is a name that cannot be compared.
fn named(header: &[u8]) -> Result<Option<Vec<u8>>, ()> {
    let name = header.split(|b| *b == b'\t').next().unwrap_or(header).trim_ascii_end();
    if name == b"/dev/null" {
        return Ok(None);
    }
    // git quotes names that are not plain.
    let slash = name.iter().position(|b| *b == b'/').filter(|_| !name.starts_with(b"\"")).ok_or(())?;
    Ok(Some(name[slash + 1..].to_vec()))
}

/// How many lines a hunk has of the old file and of the new one.
fn counts(header: &[u8]) -> Option<(usize, usize)> {
    let text = std::str::from_utf8(header.strip_prefix(b"@@ ")?.split(|b| *b == b'@').next()?).ok()?;
    let mut ranges = text.split_whitespace();
    let mut count = |sign: char| {
        let range = ranges.next()?.strip_prefix(sign)?;
        range.split_once(',').map_or(Some(1), |(_, count)| count.parse().ok())
    };
    Some((count('-')?, count('+')?))
}

/// Goes through a text by lines, looking one ahead.
struct Reader<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a [u8]) -> Reader<'a> {
        Reader { rest: Some(text) }
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        self.next_if(|_| true)
    }

    fn next_if(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Option<&'a [u8]> {
        let text = self.rest?;
        let (line, rest) = match text.iter().position(|b| *b == b'\n') {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        wanted(line).then(|| {
            self.rest = rest;
            line
        })
    }

    /// Reads up to the end, or to a line between files that ends it.
    fn change(&mut self, ends: fn(&[u8]) -> bool) -> Option<Change> {
        let mut files = BTreeMap::new();
        // What `diff --git` and the lines after it say of the file to come.
        let mut section: Option<File> = None;
        let mut whole = true;
        while let Some(line) = self.next_if(|l| !ends(l)) {
            if line.starts_with(b"diff --git ") {
                // One before it without hunks is an empty file, a mode, or binary.
                whole &= section.is_none();
                section = Some(File::default());
            } else if let Some(old) = line.strip_prefix(b"--- ").filter(|l| !l.trim_ascii().is_empty()) {
                let header = section.take().unwrap_or_default();
                match self.file(old, header) {
                    Some((name, file)) => whole &= files.insert(name, file).is_none(),
                    None => whole = false,
                }
            } else if let Some(of) = section.as_mut() {
                if let Some(mode) = line.strip_prefix(b"new file mode ") {
                    of.made = Some(mode.to_vec());
                } else if !line.starts_with(b"index ") && !line.starts_with(b"deleted file mode ") {
                    whole = false;
                }
            } else if line.starts_with(b"@@ ") || line.starts_with(b"+++ ") {
                whole = false;
            }
        }
        whole &= section.is_none() && !files.is_empty();
        whole.then_some(Change { files })
    }

    /// What follows a line `--- a/FILE`.
    fn file(&mut self, old: &[u8], mut file: File) -> Option<(Vec<u8>, File)> {
        let new = self.next_if(|l| l.starts_with(b"+++ "))?.strip_prefix(b"+++ ")?;
        let name = match (named(old).ok()?, named(new).ok()?) {
            (Some(old), Some(new)) if old == new && file.made.is_none() => new,
            (None, Some(new)) => {
                file.made.get_or_insert_with(|| PLAIN.to_vec());
                new
            }
            (Some(old), None) if file.made.is_none() => {
                file.removed = true;
                old
            }
            _ => return None,
        };
        while let Some(header) = self.next_if(|l| l.starts_with(b"@@ ")) {
            self.hunk(counts(header)?, &mut file.runs)?;
        }
        (!file.runs.is_empty()).then_some((name, file))
    }

    fn hunk(&mut self, (mut old, mut new): (usize, usize), runs: &mut Vec<Vec<Vec<u8>>>) -> Option<()> {
        let mut run: Vec<Vec<u8>> = Vec::new();
        loop {
            // It belongs to the line before it, and comes after the last one, too.
            let no_newline = self.next_if(|l| l.starts_with(b"\\ ")).is_some();
            if no_newline && !run.is_empty() {
                run.push(b"\\".to_vec());
            }
            if (old, new) == (0, 0) {
                break;
            }
            let line = self.next()?;
            match line.first() {
                Some(b'-') => old = old.checked_sub(1)?,
                Some(b'+') => new = new.checked_sub(1)?,
                // Mail loses the blank of an empty line.
                Some(b' ') | None => {
                    (old, new) = (old.checked_sub(1)?, new.checked_sub(1)?);
                    if !run.is_empty() {
                        runs.push(std::mem::take(&mut run));
                    }
                    continue;
                }
                Some(_) => return None,
            }
            run.push(line.to_vec());
        }
        if !run.is_empty() {
            runs.push(run);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A patch of two files: as mail has it, with its hunks in the midst of other lines.
    const MAIL: &str = "From: x\nSubject: made up\n\nA word. -- or two\n---\nnotes\n\ndiff --git a/xen/a.c b/xen/a.c\nindex 1..2 100644\n\
        --- a/xen/a.c\n+++ b/xen/a.c\n@@ -1,4 +1,4 @@ f\n one\n-two\n+two in\n\n four\n@@ -20,3 +20,5 @@\n x\n+y\n z\n+v\n w\n\
        diff --git a/xen/new.c b/xen/new.c\nnew file mode 100644\nindex 0..3\n--- /dev/null\n+++ b/xen/new.c\n@@ -0,0 +1 @@\n+--- x\n\
        \\ No newline at end of file\n-- \n2.40\n";
    /// The same without anything around it, elsewhere in the files.
    const BARE: &str = "diff --git a/xen/a.c b/xen/a.c\nindex 4..5 100644\n--- a/xen/a.c\n+++ b/xen/a.c\n@@ -12 +12 @@ g\n-two\n+two in\n\
        @@ -35,0 +36 @@\n+y\n@@ -36,0 +38 @@\n+v\ndiff --git a/xen/new.c b/xen/new.c\nnew file mode 100644\nindex 0..3\n--- /dev/null\n+++ b/xen/new.c\n\
        @@ -0,0 +1 @@\n+--- x\n\\ No newline at end of file\n";

    fn read(text: &str) -> Option<Change> {
        Change::read(text.as_bytes())
    }

    #[test]
    fn what_stands_around_and_where_does_not_count() {
        let mail = read(MAIL).expect("a change");
        assert_eq!(read(BARE), Some(mail.clone()));
        // As quilt writes it, by hand, and with names of another kind before the slash.
        let quilt = BARE
            .lines()
            .filter(|l| !["diff", "new ", "inde"].iter().any(|s| l.starts_with(s)))
            .map(|l| {
                if l.starts_with("--- a/") {
                    "--- xen.orig/xen/a.c\t2030-01-01\n".into()
                } else {
                    format!("{l}\n")
                }
            })
            .collect::<String>();
        assert_eq!(read(&quilt), Some(mail));
    }

    #[test]
    fn everything_else_does() {
        let mail = read(MAIL).expect("a change");
        for (from, to) in [
            ("+two in\n", "+two  in\n"),
            ("-two\n", "-2\n"),
            ("+two in\n", "+two in\r\n"),
            ("\\ No newline at end of file\n", ""),
            ("new file mode 100644", "new file mode 100755"),
            ("xen/new.c", "xen/other.c"),
            ("@@ -12 +12 @@ g\n-two\n+two in\n", "@@ -12 +12,2 @@ g\n-two\n+two in\n+three\n"),
            // The same lines in two places, and in one; and in another order.
            ("@@ -12 +12 @@ g\n-two\n+two in\n@@ -35,0 +36 @@\n+y\n", "@@ -12 +12,2 @@\n-two\n+two in\n+y\n"),
            (
                "@@ -12 +12 @@ g\n-two\n+two in\n@@ -35,0 +36 @@\n+y\n",
                "@@ -2,0 +3 @@\n+y\n@@ -12 +12 @@\n-two\n+two in\n",
            ),
            ("@@ -35,0 +36 @@\n+y\n", ""),
        ] {
            let other = BARE.replace(from, to);
            assert_ne!(other, BARE, "{from}");
            let other = read(&other).expect(to);
            assert_ne!(other, mail, "{from} is not {to}");
        }
        let removed = read("--- a/xen/a.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n");
        assert!(removed.is_some() && removed != read("--- a/xen/a.c\n+++ b/xen/a.c\n@@ -1 +0,0 @@\n-x\n"));
        // Bytes that are no text are what they are.
        let bytes =
            |b: u8| Change::read(&[b"--- a/x\n+++ b/x\n@@ -0,0 +1 @@\n+", [b].as_slice(), b"\n"].concat());
        assert!(bytes(0xe4).is_some() && bytes(0xe4) != bytes(0xf6));
    }

    #[test]
    fn what_cannot_be_compared_is_no_change() {
        let hunk = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n";
        assert!(read(hunk).is_some());
        for other in [
            String::new(),
            "Subject: nothing but words\n".into(),
            format!("{hunk}diff --git a/y b/y\nold mode 100644\nnew mode 100755\n"),
            format!("diff --git a/x b/x\nold mode 100644\nnew mode 100755\n{hunk}"),
            format!("{hunk}diff --git a/y b/y\nindex 1..2 100644\nGIT binary patch\nliteral 1\nIcmZ\n"),
            format!("{hunk}diff --git a/y b/y\nindex 1..2 100644\nBinary files a/y and b/y differ\n"),
            format!("{hunk}diff --git a/y b/z\nsimilarity index 100%\nrename from y\nrename to z\n"),
            format!("{hunk}diff --git a/y b/y\nnew file mode 100644\nindex 0..1\n"),
            format!("{hunk}{hunk}"),
            format!("{hunk}some words\n@@ -5 +5 @@\n-c\n+d\n"),
            format!("*** a/y\n--- b/y\n***************\n*** 1 ****\n{hunk}"),
            "--- a/x\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n".into(),
            "--- x\n+++ x\n@@ -1 +1 @@\n-a\n+b\n".into(),
            "--- \"a/\\303\"\n+++ \"b/\\303\"\n@@ -1 +1 @@\n-a\n+b\n".into(),
            "--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n-a\n+b\n".into(),
            "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n-b\n+b\n".into(),
            "--- a/x\n+++ b/x\n@@ -1 +1,one @@\n-a\n+b\n".into(),
            "--- a/x\n+++ b/x\n".into(),
        ] {
            assert_eq!(read(&other), None, "{other}");
        }
    }

    #[test]
    fn changes_of_commits() {
        let (one, two, three) = ("1".repeat(40), "2".repeat(40), "3".repeat(40));
        // A line that looks like a commit's hash is none within a hunk.
        let hash = format!("--- a/x\n+++ b/x\n@@ -0,0 +1 @@\n+{three}\n");
        let mode = "diff --git a/y b/y\nold mode 100644\nnew mode 100755\n";
        let read_all = Change::of_commits(format!("{one}\n{BARE}{two}\n{mode}{three}\n{hash}").as_bytes());
        assert_eq!(read_all.keys().collect::<Vec<_>>(), [&one, &three], "a change of modes is none");
        assert_eq!(read_all.get(&one), read(MAIL).as_ref());
        assert_eq!(read_all.get(&three), read(&hash).as_ref());
    }
}
