# A NixOS module: what a system needs so that xenlab can boot it with `nixos:TOPLEVEL` and look into it.
#
#     imports = [ "${xenlab}/nix/nixos.nix" ];      # or inputs.xenlab.nixosModules.default
#
# It is for systems that are tested, not for those that are used: whoever gives a machine a disk of the serial number `xenlab` is root in it.
# No key is in it. Each boot's keys come on that disk, as does the shell on the lab's ports.
{
  config,
  lib,
  pkgs,
  ...
}:

{
  virtualisation.xen.enable = true;

  boot = {
    # The module of Xen asks for one of the boot loaders that it can be started by. Here the lab is the boot loader.
    loader.systemd-boot.enable = lib.mkDefault true;
    # It does without the script-based one.
    initrd.systemd.enable = true;
    # The machine's devices, and the file system that the lab makes.
    initrd.availableKernelModules = [
      "virtio_pci"
      "virtio_blk"
      "ext4"
    ];
    kernelModules = [
      "virtio_console"
      "virtio_net"
      "virtio_rng"
    ];
    kernelParams = [ "console=hvc0" ];
  };

  # The machine has one disk, labelled as is said here.
  fileSystems = lib.mkVMOverride {
    "/" = {
      device = "/dev/disk/by-label/nixos";
      fsType = "ext4";
    };
  };
  swapDevices = lib.mkVMOverride [ ];

  networking = {
    # The prompt that the lab waits for on the console has it.
    hostName = lib.mkVMOverride "xenlab";
    usePredictableInterfaceNames = lib.mkVMOverride false;
    useDHCP = lib.mkVMOverride false;
    # What QEMU's user network forwards to.
    interfaces.eth0.ipv4.addresses = [
      {
        address = "10.0.2.15";
        prefixLength = 24;
      }
    ];
  };

  services.openssh = {
    enable = true;
    settings.PermitRootLogin = lib.mkVMOverride "prohibit-password";
    hostKeys = lib.mkVMOverride [
      {
        path = "/xenlab/ssh-host-key";
        type = "ed25519";
      }
    ];
    authorizedKeysFiles = [ "/xenlab/authorized_keys" ];
  };

  # The shell on the console.
  services.getty.autologinUser = lib.mkVMOverride "root";
  programs.bash.promptInit = lib.mkVMOverride "PS1='root@xenlab:\\w# '";

  # By this the lab knows that the module is there, and which.
  environment.etc."xenlab/module".text = "1\n";

  systemd.services = {
    xenlab = {
      description = "What xenlab tells this boot";
      wantedBy = [ "sysinit.target" ];
      before = [
        "sysinit.target"
        "shutdown.target"
      ];
      after = [
        "local-fs.target"
        "systemd-modules-load.service"
      ];
      conflicts = [ "shutdown.target" ];
      unitConfig.DefaultDependencies = false;
      path = [
        pkgs.coreutils
        pkgs.gnutar
      ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
      };
      script = builtins.readFile ./nixos/seed.sh;
    };

    xenlab-port = {
      description = "The shell on xenlab's ports";
      wantedBy = [ "sysinit.target" ];
      before = [ "shutdown.target" ];
      after = [ "xenlab.service" ];
      conflicts = [ "shutdown.target" ];
      unitConfig = {
        DefaultDependencies = false;
        ConditionPathExists = "/xenlab/port";
      };
      serviceConfig = {
        ExecStart = "/xenlab/busybox sh /xenlab/port";
        # A command's pipes break as they do in a shell.
        IgnoreSIGPIPE = false;
        Restart = "always";
      };
    };

    xenlab-ready = {
      description = "Tells xenlab that dom0 is ready";
      wantedBy = [ "multi-user.target" ];
      after = [ "xenlab.service" ];
      unitConfig.ConditionPathExists = "/xenlab/nonce";
      path = [
        pkgs.coreutils
        config.virtualisation.xen.package
        config.systemd.package
      ];
      # Not one that has to end: it waits for the boot to be over, of which it is a part.
      serviceConfig.Type = "exec";
      script = builtins.readFile ./nixos/ready.sh;
    };
  };
}
