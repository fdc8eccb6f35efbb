# xenlab, with the programs that it starts.
{
  lib,
  rustPlatform,
  pkg-config,
  makeWrapper,
  openssl,
  zlib,
  dpkg,
  e2fsprogs,
  nix,
  openssh,
  qemu,
  squashfsTools,
}:

rustPlatform.buildRustPackage {
  pname = "xenlab";
  version = (lib.importTOML ../Cargo.toml).workspace.package.version;

  src = lib.cleanSource ../.;
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [
    "-p"
    "xenlab"
  ];

  nativeBuildInputs = [
    pkg-config
    makeWrapper
  ];
  buildInputs = [
    openssl
    zlib
  ];

  # They boot machines.
  doCheck = false;

  postInstall = ''
    wrapProgram $out/bin/xenlab --prefix PATH : ${
      lib.makeBinPath [
        dpkg
        e2fsprogs
        nix
        openssh
        qemu
        squashfsTools
      ]
    }
  '';

  meta = {
    description = "Boots a freshly built Xen hypervisor with a real dom0 inside QEMU and says whether it is good";
    license = lib.licenses.mit;
    mainProgram = "xenlab";
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
  };
}
