//! Where in the source a Xen that died was, by the call trace on its console and the symbols of the same build.

use crate::build::XenBuild;
use crate::image;
use addr2line::gimli::{self, SectionId};
use object::{Object as _, ObjectSection as _};
use regex::Regex;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Frames that are told.
const FRAMES: usize = 3;

/// A line of a call trace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    address: u64,
    /// As Xen names it, without offsets.
    function: String,
}

/// `FUNCTION (FILE:LINE) < FUNCTION …`, innermost first, of the first call trace on a console; lines only where the build has symbols
/// with debugging information, and nothing where there is no trace.
pub fn locate(build: &XenBuild, console: &[u8]) -> Option<String> {
    let frames = frames(&String::from_utf8_lossy(console));
    if frames.is_empty() {
        return None;
    }
    let lines = symbols(build).and_then(|syms| lines(&syms, &frames)).unwrap_or_default();
    let told: Vec<String> = frames
        .iter()
        .enumerate()
        .map(|(at, f)| match lines.get(at).and_then(Option::as_ref) {
            Some(line) => format!("{} ({line})", f.function),
            None => f.function.clone(),
        })
        .collect();
    Some(told.join(" < "))
}

/// The first trace; the functions that only tell of a panic are left out.
fn frames(console: &str) -> Vec<Frame> {
    static FRAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"^\(XEN\)\s+\[<([0-9a-f]{8,16})>\]\s+(?:[RSF]\s+)?([\w.#/-]+)\+0x[0-9a-f]+").ok()
    });
    // What Xen only warns of has a trace as well, and it goes on after it.
    let mut warned = false;
    let mut lines = console.lines().skip_while(|l| {
        warned |= l.contains("Xen WARN at ");
        let trace = l.contains("Xen call trace:");
        !trace || std::mem::take(&mut warned)
    });
    lines.next();
    lines
        .map_while(|l| {
            let found = FRAME.as_ref()?.captures(l.trim_end())?;
            let address = u64::from_str_radix(&found[1], 16).ok()?;
            Some(Frame { address, function: found[2].rsplit('#').next().unwrap_or_default().to_owned() })
        })
        .filter(|f| {
            !["panic", "panic_exception", "__bug", "do_unexpected_trap"].contains(&f.function.as_str())
        })
        .take(FRAMES)
        .collect()
}

/// `xen-syms` of this very build: beside the image in a source tree, below `lib/debug` where it was installed.
pub fn symbols(build: &XenBuild) -> Option<PathBuf> {
    let original = &build.hypervisor.original;
    let dir = original.parent()?;
    let mut candidates = vec![dir.join("xen-syms")];
    for base in ["usr/lib/debug", "usr/local/lib/debug", "lib/debug"] {
        let folder = dir.parent()?.join(base);
        let items = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
        candidates.extend(items.filter(|p| is_symbols(p)));
    }
    let id = build.hypervisor.build_id()?;
    candidates.into_iter().find(|path| {
        // Those of another build would give lines that look right.
        std::fs::read(path).is_ok_and(|data| image::read(&data).0.build_id.as_deref() == Some(id))
    })
}

fn is_symbols(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    name.starts_with("xen-syms") && !name.ends_with(".map")
}

/// The line of each frame, as far as it is known.
fn lines(syms: &Path, frames: &[Frame]) -> Option<Vec<Option<String>>> {
    let data = std::fs::read(syms).ok()?;
    let file = object::File::parse(&*data).ok()?;
    let section = |id: SectionId| -> Result<Cow<'_, [u8]>, gimli::Error> {
        let found = file.section_by_name(id.name()).and_then(|s| s.uncompressed_data().ok());
        Ok(found.unwrap_or_default())
    };
    let sections = gimli::DwarfSections::load(section).ok()?;
    // Both architectures are little-endian.
    let dwarf = sections.borrow(|data| gimli::EndianSlice::new(data, gimli::LittleEndian));
    let context = addr2line::Context::from_dwarf(dwarf).ok()?;
    let line = |(at, frame): (usize, &Frame)| {
        // All but the first are where a call returns to: the call is before it.
        let found = context.find_location(frame.address.checked_sub(u64::from(at > 0))?).ok()??;
        let (file, line) = (found.file?, found.line.filter(|n| *n > 0)?);
        // Below the tree's own folder xen/, wherever that was built.
        let short = file.rsplit_once("/src/xen/").map_or(file, |(_, short)| short);
        Some(format!("{short}:{line}"))
    };
    Some(frames.iter().enumerate().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A debugging Xen warns of what QEMU's processor is before it fails for another reason.
    #[test]
    fn the_trace_of_a_warning_is_not_that_of_the_failure() {
        let console = include_str!("../../../fixtures/console/x86_64-xen-bug.raw");
        assert!(console.contains("Xen WARN at"));
        let functions: Vec<String> = frames(console).into_iter().map(|f| f.function).collect();
        assert_eq!(functions, ["break_here", "__start_xen", "__high_start"]);
        // One that fails without a trace has none.
        assert!(frames(include_str!("../../../fixtures/console/x86_64-xen-double-fault.raw")).is_empty());
        assert!(frames(include_str!("../../../fixtures/console/x86_64-xen-warn.raw")).is_empty());
    }

    #[test]
    fn traces_of_both_architectures() {
        let x86 = "(XEN) Xen call trace:\r\n(XEN)    [<ffff82d04027de30>] R mwait_idle_with_hints+0xd0/0xe0\r\n\
                   (XEN)    [<ffff82d04027e412>] S arch/x86/acpi/cpu_idle.c#acpi_processor_idle+0x322/0x660\r\n(XEN)\r\n\
                   (XEN)    [<ffff82d04027e999>] S late+0x1/0x2\r\n";
        let names = |text: &str| frames(text).into_iter().map(|f| f.function).collect::<Vec<_>>();
        assert_eq!(names(x86), ["mwait_idle_with_hints", "acpi_processor_idle"]);
        let arm = "(XEN) Xen call trace:\n(XEN)    [<000000000026a2e4>] panic+0x9c/0x9c (PC)\n\
                   (XEN)    [<00000a0000207e1c>] do_initcalls+0x10/0x40 (LR)\n";
        assert_eq!(frames(arm), [Frame { address: 0xa00_0020_7e1c, function: "do_initcalls".into() }]);
        assert!(frames("(XEN) Panic on CPU 0:\n").is_empty());
        assert!(
            frames(&String::from_utf8_lossy(include_bytes!(
                "../../../fixtures/console/x86_64-xen-panic.raw"
            )))
            .len()
                == 3
        );
    }
}
