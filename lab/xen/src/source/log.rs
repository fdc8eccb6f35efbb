//! Reading what make writes: how far it is, and what went wrong first.

use regex::Regex;
use std::sync::LazyLock;

/// The object that a line of make's says it is making; of the quiet form (`  CC      common/kernel.o`) and of whole commands.
pub(super) fn object(line: &str) -> Option<(String, bool)> {
    static QUIET: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^  ([A-Z][A-Z0-9_]+(?: \(?[a-z]+\)?)?) +(\S+)$").ok());
    static WHOLE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?:^|/)\S*gcc\s.*\s-c\s.*-o\s+(\S+)").ok());
    if let Some(found) = QUIET.as_ref()?.captures(line) {
        let compiled = matches!(&found[1], "CC" | "AS");
        return Some((format!("{} {}", &found[1], &found[2]), compiled));
    }
    WHOLE.as_ref()?.captures(line).map(|found| (format!("CC {}", &found[1]), true))
}

/// The first thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct First {
    /// With its context, some lines.
    pub(super) text: String,
    /// It is the compiler's or the linker's word on a file of the source.
    pub(super) of_source: bool,
    /// It is a program that is not there.
    pub(super) program: Option<String>,
}

/// Lines of context that are shown at most.
const MOST: usize = 14;

/// Finds it in a log.
pub(super) fn first_error(log: &str) -> First {
    let lines: Vec<&str> = log.lines().collect();
    if let Some(program) = lines.iter().find_map(|l| missing(l)) {
        let text = lines.iter().find(|l| missing(l).is_some()).copied().unwrap_or_default().trim().to_owned();
        return First { text, of_source: false, program: Some(program) };
    }
    let of_source = |l: &&str| {
        // configure speaks of the host.
        if l.starts_with("configure: error: ") {
            return false;
        }
        let word = l.contains(": error: ") || l.contains(": fatal error: ");
        let linker = l.contains("undefined reference to") || l.contains("multiple definition of");
        let asm = l.contains(": Error: ");
        word || linker || asm
    };
    let of_make = |l: &&str| {
        l.contains("*** ")
            || l.starts_with("configure: error: ")
            || l.starts_with("make") && l.contains("Error ")
            || l.contains(": error")
            || l.contains(": cannot ")
    };
    let at = lines.iter().position(of_source);
    let Some(at_any) = at.or_else(|| lines.iter().position(of_make)) else {
        let tail = &lines[lines.len().saturating_sub(8)..];
        return First { text: tail.join("\n"), of_source: false, program: None };
    };
    // What leads to it, and what the compiler draws below it.
    let mut from = at_any;
    while from > 0 && at_any - from < 5 && leads(lines[from - 1]) {
        from -= 1;
    }
    let mut to = at_any + 1;
    while to < lines.len() && to - from < MOST && drawn(lines[to]) {
        to += 1;
    }
    if at.is_none() {
        // Of make's own failures the reason stands before.
        from = at_any.saturating_sub(4);
    }
    First { text: lines[from..to].join("\n"), of_source: at.is_some(), program: None }
}

fn leads(line: &str) -> bool {
    line.starts_with("In file included from")
        || line.starts_with("                 from")
        || line.contains(": In function")
}

fn drawn(line: &str) -> bool {
    let at = line.trim_start();
    line.starts_with(' ')
        && (at.starts_with('|') || at.split(' ').next().is_some_and(|n| n.parse::<u32>().is_ok()))
        || line.contains(": note: ")
}

/// `sh: 1: bison: not found`, `make[3]: flex: No such file or directory`, `/bin/sh: line 1: x: command not found`.
fn missing(line: &str) -> Option<String> {
    static SHELL: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^\S+: (?:line )?\d+: ([\w.+-]+): (?:command )?not found$").ok());
    static MAKE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"^(?:make(?:\[\d+\])?|\S*env): ['‘]?([\w.+-]+)['’]?: No such file or directory$").ok()
    });
    static CONFIGURE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^configure: error: Unable to find ([\w.+-]+), please install").ok());
    [&SHELL, &MAKE, &CONFIGURE].iter().find_map(|r| Some(r.as_ref()?.captures(line.trim())?[1].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects() {
        assert_eq!(object("  CC      common/kernel.o"), Some(("CC common/kernel.o".into(), true)));
        assert_eq!(object("  LD      prelink.o"), Some(("LD prelink.o".into(), false)));
        assert_eq!(object("  WRAP    arch/x86/include/asm/div64.h").map(|o| o.1), Some(false));
        assert_eq!(object("gcc -Wall -c kernel.c -o kernel.o"), Some(("CC kernel.o".into(), true)));
        assert_eq!(object("make[1]: Entering directory '/x'"), None);
    }

    #[test]
    fn the_first_error_with_its_context() {
        let log = "  CC      common/a.o\n  CC      common/b.o\nIn file included from x.h:1,\n                 from common/a.c:3:\n\
            common/a.c: In function 'f':\ncommon/a.c:10:5: error: 'x' undeclared\n   10 |     x = 1;\n      |     ^\n\
            common/a.c:10:5: note: each is reported once\n  CC      common/c.o\ncommon/c.c:1:1: error: other\nmake[2]: *** [Rules.mk:1: a.o] Error 1\n";
        let first = first_error(log);
        assert!(first.of_source && first.program.is_none());
        assert!(first.text.starts_with("In file included from x.h:1"), "{}", first.text);
        assert!(first.text.ends_with("each is reported once"), "{}", first.text);
        let first = first_error(
            "ld: prelink.o: in function `f':\na.c:(.text+0x1): undefined reference to `g'\nmake: *** x\n",
        );
        assert!(first.of_source && first.text.contains("undefined reference to `g'"), "{}", first.text);
    }

    #[test]
    fn what_is_not_the_compilers_word() {
        let first =
            first_error("  GEN x\nmake[1]: *** No rule to make target 'gone.h', needed by 'a.o'.  Stop.\n");
        assert!(!first.of_source && first.text.contains("gone.h"), "{first:?}");
        for (log, program) in [
            ("/bin/sh: 1: bison: not found\nmake: *** [x] Error 127\n", "bison"),
            ("make[3]: flex: No such file or directory\n", "flex"),
            ("bash: line 2: python3: command not found\n", "python3"),
            ("tools/x.sh: 8: m4: not found\n", "m4"),
            ("/usr/bin/env: 'python': No such file or directory\n", "python"),
            ("configure: error: Unable to find iasl, please install iasl\n", "iasl"),
        ] {
            assert_eq!(first_error(log).program.as_deref(), Some(program));
        }
        let first =
            first_error("checking for yajl_alloc in -lyajl... no\nconfigure: error: Could not find yajl\n");
        assert!(!first.of_source && first.text.ends_with("Could not find yajl"), "{first:?}");
        assert_eq!(first_error("hello\n").text, "hello");
    }
}
