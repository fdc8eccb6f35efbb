//! Which package brings a missing program here, and the exact command that installs it.

/// A package manager: `/etc/os-release`'s `ID` and `ID_LIKE` words that mean it, and how it is called.
struct Manager {
    name: &'static str,
    ids: &'static [&'static str],
    install: &'static str,
}

const MANAGERS: &[Manager] = &[
    Manager { name: "apt", ids: &["debian", "ubuntu"], install: "apt-get install" },
    Manager { name: "dnf", ids: &["fedora", "rhel", "centos"], install: "dnf install" },
    Manager { name: "pacman", ids: &["arch"], install: "pacman -S" },
    Manager { name: "zypper", ids: &["suse", "opensuse"], install: "zypper install" },
    Manager { name: "apk", ids: &["alpine"], install: "apk add" },
    Manager { name: "nix", ids: &["nixos"], install: "nix-shell -p" },
];

/// A program, and its package for each of [`MANAGERS`] in that order; empty where it is not packaged.
type Row = (&'static str, [&'static str; 6]);

#[rustfmt::skip]
const PACKAGES: &[Row] = &[
    //  program                 apt                      dnf                       pacman                     zypper                 apk                    nix
    ("qemu-system-x86_64",     ["qemu-system-x86",      "qemu-system-x86-core",   "qemu-system-x86",         "qemu-x86",            "qemu-system-x86_64",  "qemu"]),
    ("qemu-system-aarch64",    ["qemu-system-arm",      "qemu-system-aarch64-core", "qemu-system-aarch64",   "qemu-arm",            "qemu-system-aarch64", "qemu"]),
    ("dpkg-deb",               ["dpkg",                 "dpkg",                   "dpkg",                    "dpkg",                "dpkg",                "dpkg"]),
    ("apt-get",                ["apt",                  "apt",                    "apt",                     "",                    "",                    "apt"]),
    ("mmdebstrap",             ["mmdebstrap",           "mmdebstrap",             "mmdebstrap",              "",                    "mmdebstrap",          "mmdebstrap"]),
    ("mksquashfs",             ["squashfs-tools",       "squashfs-tools",         "squashfs-tools",          "squashfs",            "squashfs-tools",      "squashfsTools"]),
    ("sqfstar",                ["squashfs-tools",       "squashfs-tools",         "squashfs-tools",          "squashfs",            "squashfs-tools",      "squashfsTools"]),
    ("dropbear",               ["dropbear-bin",         "dropbear",               "dropbear",                "dropbear",            "dropbear",            "dropbear"]),
    ("sshd",                   ["openssh-server",       "openssh-server",         "openssh",                 "openssh-server",      "openssh-server",      "openssh"]),
    ("busybox",                ["busybox",              "busybox",                "busybox",                 "busybox",             "busybox",             "busybox"]),
    ("setpriv",                ["util-linux",           "util-linux",             "util-linux",              "util-linux",          "setpriv",             "util-linux"]),
    ("pgrep",                  ["procps",               "procps-ng",              "procps-ng",               "procps",              "procps",              "procps"]),
    ("mke2fs",                 ["e2fsprogs",            "e2fsprogs",              "e2fsprogs",               "e2fsprogs",           "e2fsprogs",           "e2fsprogs"]),
    ("debugfs",                ["e2fsprogs",            "e2fsprogs",              "e2fsprogs",               "e2fsprogs",           "e2fsprogs-extra",     "e2fsprogs"]),
    ("dumpe2fs",               ["e2fsprogs",            "e2fsprogs",              "e2fsprogs",               "e2fsprogs",           "e2fsprogs-extra",     "e2fsprogs"]),
    ("nix-build",              ["nix-bin",              "nix",                    "nix",                     "",                    "nix",                 "nix"]),
    ("depmod",                 ["kmod",                 "kmod",                   "kmod",                    "kmod",                "kmod",                "kmod"]),
    ("modinfo",                ["kmod",                 "kmod",                   "kmod",                    "kmod",                "kmod",                "kmod"]),
    ("pkg-config",             ["pkgconf",              "pkgconf-pkg-config",     "pkgconf",                 "pkgconf-pkg-config",  "pkgconf",             "pkg-config"]),
    ("cc",                     ["gcc libc6-dev",        "gcc",                    "gcc",                     "gcc",                 "build-base",          "gcc"]),
    ("gcc",                    ["gcc libc6-dev",        "gcc",                    "gcc",                     "gcc",                 "build-base",          "gcc"]),
    ("x86_64-linux-gnu-gcc",   ["gcc-x86-64-linux-gnu", "gcc-x86_64-linux-gnu",   "",                        "cross-x86_64-gcc14",  "",                    "pkgsCross.gnu64.buildPackages.gcc"]),
    ("aarch64-linux-gnu-gcc",  ["gcc-aarch64-linux-gnu libc6-dev-arm64-cross", "gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc", "cross-aarch64-gcc14", "gcc-aarch64-none-elf", "pkgsCross.aarch64-multiplatform.buildPackages.gcc"]),
    ("cpio",                   ["cpio",                 "cpio",                   "cpio",                    "cpio",                "cpio",                "cpio"]),
    ("xz",                     ["xz-utils",             "xz",                     "xz",                      "xz",                  "xz",                  "xz"]),
    ("zstd",                   ["zstd",                 "zstd",                   "zstd",                    "zstd",                "zstd",                "zstd"]),
    ("ssh",                    ["openssh-client",       "openssh-clients",        "openssh",                 "openssh-clients",     "openssh-client",      "openssh"]),
    ("ssh-keygen",             ["openssh-client",       "openssh",                "openssh",                 "openssh-clients",     "openssh-keygen",      "openssh"]),
    ("nix-instantiate",        ["nix-bin",              "nix",                    "nix",                     "",                    "nix",                 "nix"]),
    ("nix-store",              ["nix-bin",              "nix",                    "nix",                     "",                    "nix",                 "nix"]),
    ("patchelf",              ["patchelf", "patchelf", "patchelf", "patchelf", "patchelf", "patchelf"]),
    ("unsquashfs",            ["squashfs-tools", "squashfs-tools", "squashfs-tools", "squashfs", "squashfs-tools", "squashfsTools"]),
    ("readelf",               ["binutils", "binutils", "binutils", "binutils", "binutils", "binutils"]),
    ("nix",                    ["nix-bin",              "nix",                    "nix",                     "",                    "nix",                 "nix"]),
    ("addr2line",              ["binutils",             "binutils",               "binutils",                "binutils",            "binutils",            "binutils"]),
    ("gdb-multiarch",          ["gdb-multiarch",        "gdb",                    "gdb",                     "gdb",                 "gdb-multiarch",       "gdb"]),
    ("gdb",                    ["gdb",                  "gdb",                    "gdb",                     "gdb",                 "gdb",                 "gdb"]),
    ("bison",                  ["bison",                "bison",                  "bison",                   "bison",               "bison",               "bison"]),
    ("flex",                   ["flex",                 "flex",                   "flex",                    "flex",                "flex",                "flex"]),
    ("python3",                ["python3",              "python3",                "python",                  "python3",             "python3",             "python3"]),
    ("perl",                   ["perl",                 "perl-interpreter",       "perl",                    "perl",                "perl",                "perl"]),
    ("patch",                  ["patch",                "patch",                  "patch",                   "patch",               "patch",               "gnupatch"]),
    ("tar",                    ["tar",                  "tar",                    "tar",                     "tar",                 "tar",                 "gnutar"]),
    ("bzip2",                  ["bzip2",                "bzip2",                  "bzip2",                   "bzip2",               "bzip2",               "bzip2"]),
    ("ld",                     ["binutils",             "binutils",               "binutils",                "binutils",            "binutils",            "binutils"]),
    ("aarch64-linux-gnu-ld",   ["binutils-aarch64-linux-gnu", "binutils-aarch64-linux-gnu", "aarch64-linux-gnu-binutils", "cross-aarch64-binutils", "binutils-aarch64", "pkgsCross.aarch64-multiplatform.buildPackages.binutils"]),
    ("x86_64-linux-gnu-ld",    ["binutils-x86-64-linux-gnu", "binutils-x86_64-linux-gnu", "",                "cross-x86_64-binutils", "",                 "pkgsCross.gnu64.buildPackages.binutils"]),
    ("checkpolicy",            ["checkpolicy",          "checkpolicy",            "checkpolicy",             "checkpolicy",         "checkpolicy",         "checkpolicy"]),
    ("autoconf",               ["autoconf",             "autoconf",               "autoconf",                "autoconf",            "autoconf",            "autoconf"]),
    ("m4",                     ["m4",                   "m4",                     "m4",                      "m4",                  "m4",                  "m4"]),
    ("bash",                   ["bash",                 "bash",                   "bash",                    "bash",                "bash",                "bash"]),
    ("iasl",                   ["acpica-tools",         "acpica-tools",           "acpica",                  "acpica",              "iasl",                "acpica-tools"]),
    ("ocamlfind",              ["ocaml-findlib",        "ocaml-findlib",          "ocaml-findlib",           "ocaml-findlib",       "ocaml-findlib",       "ocamlPackages.findlib"]),
    ("ocamlopt",               ["ocaml-nox",            "ocaml",                  "ocaml",                   "ocaml",               "ocaml",               "ocaml"]),
    // Headers, as they are included: of what Xen's tools link with.
    ("uuid/uuid.h",            ["uuid-dev",             "libuuid-devel",          "util-linux-libs",         "libuuid-devel",       "util-linux-dev",      "libuuid"]),
    ("curses.h",               ["libncurses-dev",       "ncurses-devel",          "ncurses",                 "ncurses-devel",       "ncurses-dev",         "ncurses"]),
    ("zlib.h",                 ["zlib1g-dev",           "zlib-devel",             "zlib",                    "zlib-devel",          "zlib-dev",            "zlib"]),
    ("Python.h",               ["python3-dev python3-setuptools", "python3-devel python3-setuptools", "python python-setuptools", "python3-devel python3-setuptools", "python3-dev py3-setuptools", "python3"]),
    ("yajl/yajl_gen.h",        ["libyajl-dev",          "yajl-devel",             "yajl",                    "libyajl-devel",       "yajl-dev",            "yajl"]),
    ("libfdt.h",               ["libfdt-dev",           "libfdt-devel",           "dtc",                     "libfdt-devel",        "dtc-dev",             "dtc"]),
    ("ccache",                 ["ccache",               "ccache",                 "ccache",                  "ccache",              "ccache",              "ccache"]),
    ("git",                    ["git",                  "git-core",               "git",                     "git-core",            "git",                 "git"]),
    ("make",                   ["make",                 "make",                   "make",                    "make",                "make",                "gnumake"]),
];

/// How to install `program` here: "install it with: …", or the most that can be said.
pub fn hint(program: &str) -> String {
    let os = ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|p| std::fs::read_to_string(p).ok());
    let root = rustix::process::geteuid().is_root();
    hint_for(program, &os.unwrap_or_default(), root)
}

/// The packages that bring these programs with this system's package manager, and the one command that installs all
/// of them; None when the system or one of the programs is not known.
pub fn install_command(programs: &[&str]) -> Option<String> {
    let os =
        ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|p| std::fs::read_to_string(p).ok())?;
    let index = manager(&os)?;
    let mut packages: Vec<&str> = Vec::new();
    for program in programs {
        for package in package(program, index)?.split(' ') {
            if !packages.contains(&package) {
                packages.push(package);
            }
        }
    }
    Some(command(index, &packages.join(" "), rustix::process::geteuid().is_root()))
}

fn command(index: usize, packages: &str, root: bool) -> String {
    let manager = &MANAGERS[index];
    let sudo = if root || manager.name == "nix" { "" } else { "sudo " };
    format!("{sudo}{} {packages}", manager.install)
}

fn package(program: &str, manager: usize) -> Option<&'static str> {
    let (_, packages) = PACKAGES.iter().find(|(p, _)| *p == program)?;
    Some(packages[manager]).filter(|p| !p.is_empty())
}

fn manager(os_release: &str) -> Option<usize> {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches(['"', '\'']).to_owned())
    };
    let words = [value("ID"), value("ID_LIKE")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    words.split_whitespace().find_map(|w| {
        MANAGERS.iter().position(|m| {
            m.ids.iter().any(|id| w == *id || w.strip_prefix(id).is_some_and(|r| r.starts_with('-')))
        })
    })
}

fn hint_for(program: &str, os_release: &str, root: bool) -> String {
    let unknown = || format!("install what brings `{program}` on this system and put it in PATH");
    let Some(index) = manager(os_release) else { return unknown() };
    match package(program, index) {
        Some(packages) => format!("install it with: {}", command(index, packages, root)),
        None => unknown(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_on_systems() {
        let seen: Vec<String> = [
            "ID=debian\n",
            "NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n",
            "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
            "ID=arch\n",
            "ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n",
            "ID=alpine\n",
            "ID=nixos\n",
            "ID=plan9\n",
            "",
        ]
        .iter()
        .map(|os| hint_for("qemu-system-aarch64", os, false))
        .collect();
        insta::assert_snapshot!(seen.join("\n"), @r"
        install it with: sudo apt-get install qemu-system-arm
        install it with: sudo apt-get install qemu-system-arm
        install it with: sudo dnf install qemu-system-aarch64-core
        install it with: sudo pacman -S qemu-system-aarch64
        install it with: sudo zypper install qemu-arm
        install it with: sudo apk add qemu-system-aarch64
        install it with: nix-shell -p qemu
        install what brings `qemu-system-aarch64` on this system and put it in PATH
        install what brings `qemu-system-aarch64` on this system and put it in PATH
        ");
        assert_eq!(
            hint_for("qemu-system-x86_64", "ID=debian", true),
            "install it with: apt-get install qemu-system-x86"
        );
        assert!(hint_for("frobnicate", "ID=debian", true).contains("frobnicate"));
        assert!(hint_for("apt-get", "ID=alpine", true).contains("on this system"));
    }

    #[test]
    fn every_package_name_is_one() {
        for (program, packages) in PACKAGES {
            for package in packages.iter().filter(|p| !p.is_empty()) {
                assert!(
                    package.chars().all(|c| c.is_ascii_alphanumeric() || "-_. +".contains(c)),
                    "{program}: {package}"
                );
            }
        }
    }
}
