//! Two Xen builds compared by their files. Pure: what is compared was read before.

use crate::Library;
use crate::describe::Description;
use std::collections::BTreeSet;
use xenlab_model::compare::{Class, Line, line, members};

/// What differs between two builds for one architecture and is not among a run's facts: packages, Kconfig's values, sizes, sonames,
/// symbols of stable libraries, programs, options of the command line.
pub fn differ(old: &Description, new: &Description) -> Vec<Line> {
    let mut all = identity(old, new);
    all.extend(kconfig_values(old, new));
    all.extend(options(old, new));
    all.extend(libraries(old, new));
    all.extend(tools(old, new));
    all.extend(sizes(old, new));
    for line in &mut all {
        line.of.insert(new.arch.clone());
    }
    all
}

fn identity(old: &Description, new: &Description) -> Vec<Line> {
    let (a, b) = (&old.hypervisor, &new.hypervisor);
    let flag = |f: Option<bool>| f.map(|f| if f { "yes" } else { "no" });
    let mut all = Vec::new();
    for (name, x, y) in [
        ("package", a.package_version.as_deref(), b.package_version.as_deref()),
        ("changeset", a.compile.changeset.as_deref(), b.compile.changeset.as_deref()),
        ("built by", a.compile.by.as_deref(), b.compile.by.as_deref()),
        ("debug build", flag(a.compile.debug), flag(b.compile.debug)),
        ("kind of image", Some(a.kind.as_str()), Some(b.kind.as_str())),
    ] {
        if x.is_some() || y.is_some() {
            all.push(line("version", name, x, y, Class::Changed));
        }
    }
    all
}

fn kconfig_values(old: &Description, new: &Description) -> Vec<Line> {
    let (Some(a), Some(b)) = (&old.config, &new.config) else { return Vec::new() };
    let names: BTreeSet<&String> = a.values.keys().chain(b.values.keys()).collect();
    // The compiler's version is told as the compiler.
    let names = names.into_iter().filter(|n| !matches!(n.as_str(), "GCC_VERSION" | "CLANG_VERSION"));
    let of = |values: &std::collections::BTreeMap<String, String>, name: &String| values.get(name).cloned();
    names
        .map(|n| {
            let (x, y) = (of(&a.values, n), of(&b.values, n));
            line("Kconfig", &format!("{n}="), x.as_deref(), y.as_deref(), Class::Changed)
        })
        .collect()
}

fn options(old: &Description, new: &Description) -> Vec<Line> {
    const TOPIC: &str = "options of Xen's command line";
    match (&old.options, &new.options) {
        (Some(a), Some(b)) => {
            let lines = members(TOPIC, a, b, Class::Changed).into_iter();
            let gone = "gone: Xen says of it that it is not known, and does nothing";
            lines.map(|l| if l.new.is_none() { l.noted(gone) } else { l }).collect()
        }
        (a, b) => {
            let side = match (a, b) {
                (None, None) => "neither image",
                (None, _) => "the old image",
                _ => "the new image",
            };
            let mut one = line(TOPIC, "all", None, None, Class::Changed);
            one.class = Class::NotChecked;
            one.note = Some(format!("they were not found in {side}"));
            vec![one]
        }
    }
}

/// `1` of `libxencall.so.1`.
fn number(library: &Library) -> &str {
    library.soname.split_once(".so.").map_or(library.soname.as_str(), |(_, number)| number)
}

fn libraries(old: &Description, new: &Description) -> Vec<Line> {
    let names: BTreeSet<&String> = old.libraries.keys().chain(new.libraries.keys()).collect();
    let branch = |d: &Description| d.tools.as_ref().and_then(|t| t.branch.clone());
    let mut all = Vec::new();
    for name in names {
        let (a, b) = (old.libraries.get(name), new.libraries.get(name));
        let one = line("sonames", &format!("{name}.so"), a.map(number), b.map(number), Class::Regression);
        let moves = |l: Option<&Library>, d| l.is_some() && l.map(number) == branch(d).as_deref();
        let moved = moves(a, old) && moves(b, new);
        all.push(if a.is_none() || b.is_none() {
            one
        } else if moved {
            one.noted("moves with the branch: what links to it must be built again")
        } else {
            one.noted("another soname: what links to it must be built again")
        });
        let (Some(a), Some(b)) = (a, b) else { continue };
        if let (Some(x), Some(y)) = (&a.exports, &b.exports) {
            // With another soname nothing is promised of the old names.
            let kept = a.soname == b.soname;
            let loss = if kept { Class::Regression } else { Class::Changed };
            let lines = members(&format!("symbols of {}", a.soname), x, y, loss);
            let gone = "gone from a stable library that kept its soname";
            all.extend(lines.into_iter().map(|l| if kept && l.new.is_none() { l.noted(gone) } else { l }));
        }
    }
    all
}

fn tools(old: &Description, new: &Description) -> Vec<Line> {
    let (Some(a), Some(b)) = (&old.tools, &new.tools) else { return Vec::new() };
    let programs = |t: &crate::describe::ToolsDescription| t.programs.keys().cloned().collect();
    // What a library of dom0 is called says nothing bad; that one more is needed has to be known.
    let needs = |t: &crate::describe::ToolsDescription| t.needs.iter().cloned().collect();
    let mut all = members("programs of Xen", &programs(a), &programs(b), Class::Regression);
    all.extend(members("libraries that dom0 must have", &needs(a), &needs(b), Class::Changed));
    all
}

fn sizes(old: &Description, new: &Description) -> Vec<Line> {
    let mut all = Vec::new();
    let mut one = |name: &str, a: Option<u64>, b: Option<u64>| {
        let text = |n: Option<u64>| n.map(|n| format!("{n}"));
        let mut line = line("sizes, in bytes", name, text(a).as_deref(), text(b).as_deref(), Class::Changed);
        if let (Some(a), Some(b), Class::Changed) = (a, b, line.class)
            && a > 0
        {
            line.note = Some(format!("{:+.1} %", (b as f64 / a as f64 - 1.0) * 100.0));
        }
        if a.is_some() || b.is_some() {
            all.push(line);
        }
    };
    one("hypervisor", Some(old.hypervisor.size), Some(new.hypervisor.size));
    let efi = |d: &Description| d.efi.as_ref().map(|e| e.size);
    one("EFI image", efi(old), efi(new));
    let libraries = |d: &Description| Some(d.libraries.values().map(|l| l.size).sum()).filter(|n| *n > 0);
    one("libraries", libraries(old), libraries(new));
    let files = |d: &Description| d.tools.as_ref().map(|t| t.files as u64);
    let number = line(
        "number of files",
        "for dom0",
        files(old).map(|n| n.to_string()).as_deref(),
        files(new).map(|n| n.to_string()).as_deref(),
        Class::Changed,
    );
    if files(old).is_some() || files(new).is_some() {
        all.push(number);
    }
    all
}

#[cfg(test)]
mod tests;
