# `mkXenTest { xen, arch, scenario, … }`: a derivation whose build boots that Xen and judges it. No network, no root, no HOME, no KVM: dom0's
# kernel and userland are Debian's packages as the locks name them, each an input with its hash. `mkXenTest { nixos = …; }` boots a NixOS system that has
# nix/nixos.nix among its modules (`config.system.build.toplevel`), with its own Xen, kernel and userland. In `$out` are `junit.xml`, `summary.md`, `events.jsonl`
# and a bundle for each case; where a case fails the build does, with the summary in its log.
{
  lib,
  runCommand,
  fetchurl,
  closureInfo,
  e2fsprogs,
  nix,
  pkg-config,
  xenlab,
}:

{
  # The package under test, with its outputs; or
  xen ? null,
  # the system.
  nixos ? null,
  arch ? "x86_64",
  # A file in the scenario language; what it says of `xen` and `arch` is replaced.
  scenario ? if nixos == null then ../scenarios/dom0-boot.yaml else ../scenarios/nixos.yaml,
  # Debian's suite that dom0 is of.
  suite ? "bookworm",
  # Sets of packages beside those of every dom0: `systemd` for that userland, `device-model` for HVM guests.
  sets ? [ ],
  # `PATH=VALUE`, as for `xenlab run --set`; an axis of the scenario is replaced by a single value.
  set ? if nixos == null then [ "dom0.userland=minimal:${suite}" ] else [ ],
  # Where Debian's pools are.
  archive ? "mirror://debian",
  security ? "https://security.debian.org/debian-security",
}:

assert lib.elem null [ xen nixos ] && !(xen == null && nixos == null);

let
  debian =
    {
      x86_64 = "amd64";
      aarch64 = "arm64";
    }
    .${arch};

  lock =
    suite: debian: set:
    lib.importJSON (../images/locks + "/${suite}-${debian}-${set}.json");

  # What boots by firmware or GRUB needs them, and the disk is made by a program of this machine's architecture.
  firmware = [
    (lock "trixie" debian "efi-${arch}")
    (lock "trixie" "amd64" "grub")
    (lock "trixie" "amd64" "grub-mkimage")
  ];

  locks =
    map (lock suite debian) (
      # Of a system no more is taken than a busybox, for the shell on the lab's ports.
      (if nixos == null then [ "initramfs" "minimal" ] else [ "busybox" ]) ++ sets
    )
    ++ firmware;

  packages = lib.concatMap (lock: lock.packages) locks;

  file =
    package:
    fetchurl {
      url = "${if package.pocket == "security" then security else archive}/${package.file}";
      inherit (package) sha256;
    };

  # The outputs that are looked at.
  outputs = if nixos != null then [ nixos ] else map (name: xen.${name}) (
    lib.filter (
      name:
      !(lib.elem name [
        "man"
        "doc"
        "debug"
      ])
    ) (xen.outputs or [ "out" ])
  );
in

runCommand "xen-test-${if nixos == null then xen.version or "unknown" else "nixos"}-${arch}"
  {
    nativeBuildInputs = [
      # Disks of systems.
      e2fsprogs
      nix
      # For the step that uses the development files.
      pkg-config
      xenlab
    ];
    closure = closureInfo { rootPaths = outputs; };
    # Names of packages are data: a list of them is longer than an argument can be.
    packages = lib.concatMapStrings (package: "${package.sha256} ${file package}\n") packages;
    passAsFile = [ "packages" ];
    meta.timeout = 1800;
  }
  ''
    export HOME=$TMPDIR XENLAB_STORE=$TMPDIR/store XENLAB_DEBIAN_FILES=$TMPDIR/packages
    mkdir -p "$XENLAB_DEBIAN_FILES"
    while read -r sha256 path; do
      ln -sf "$path" "$XENLAB_DEBIAN_FILES/$sha256"
    done <"$packagesPath"

    # The store has no database in here; what belongs together was written down when this was instantiated.
    export NIX_STATE_DIR=$TMPDIR/nix
    nix-store --load-db <"$closure/registration"

    status=0
    xenlab run ${scenario} --offline --locked --xen ${if nixos == null then "nix" else "nixos"}:${builtins.head outputs} --arch ${arch} --report "$TMPDIR/report" ${
      lib.concatMapStringsSep " " (value: "--set ${lib.escapeShellArg value}") set
    } || status=$?
    cat "$TMPDIR/report/summary.md"
    [ "$status" = 0 ] || exit "$status"
    mkdir "$out"
    cp -r "$TMPDIR/report/." "$out"
  ''
