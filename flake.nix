{
  description = "Boots a freshly built Xen hypervisor with a real dom0 inside QEMU and says whether it is good";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      each = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: rec {
        xenlab = pkgs.callPackage ./nix/package.nix { };
        default = xenlab;
      });

      # For a system that is to be booted with `nixos:TOPLEVEL`.
      nixosModules.default = ./nix/nixos.nix;

      # A derivation that boots a Xen and fails where the lab does: for `passthru.tests` of a package. `pkgs` is what it is built with.
      lib.mkXenTest =
        {
          pkgs ? nixpkgs.legacyPackages.x86_64-linux,
          ...
        }@args:
        pkgs.callPackage ./nix/xen-test.nix { xenlab = pkgs.callPackage ./nix/package.nix { }; } (
          removeAttrs args [ "pkgs" ]
        );
    };
}
