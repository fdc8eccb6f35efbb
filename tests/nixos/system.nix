# A NixOS system as far as xenlab can tell, made of Debian's files by a real `nix-build`: boot.json, kernel, initrd, init, etc, sw, systemd as nixpkgs lays
# them out (nixos/modules/system/activation/top-level.nix), the units and files of the lab's own NixOS module, and Xen's units under the names that
# they have in NixOS. Xen's tools run with libraries in the store. nixpkgs itself has no part in it. With `small` it has no systemd and no units: what
# stands in their place starts the daemons and runs the module's own script, so that it boots in a few seconds.
#
# What is taken from this machine the build is let see (`sandbox-paths`); nothing of it is copied into the store before.
{
  # Folder of an installed Debian Xen, for its files.
  xenTree,
  # squashfs images: a userland (`systemd`, or `minimal` where it is `small`), and the device model of HVM guests.
  userland,
  deviceModel ? "",
  # A Debian package of Linux.
  linux,
  # The lab's initramfs of that Linux, for the static busybox in it.
  initramfs,
  # The lab's NixOS module.
  module,
  small ? false,
  version ? "4.17.7",
  # What is wrong with it: the version that boot.json declares, a unit of Xen's that fails, one that is not there, the label that the initrd looks for.
  declared ? version,
  broken ? "",
  missing ? "",
  label ? "",
}:

let
  # The functions of nixpkgs that the module takes, as far as it uses them.
  evaluated = import module {
    lib = {
      mkDefault = value: value;
      mkVMOverride = value: value;
    };
    pkgs = {
      coreutils = "COREUTILS";
      gnutar = "GNUTAR";
    };
    config = {
      virtualisation.xen.package = "XEN";
      systemd.package = "SYSTEMD";
    };
  };

  run =
    name: attrs: script:
    derivation (
      {
        inherit name;
        system = "x86_64-linux";
        builder = "/bin/sh";
        args = [
          "-euc"
          script
        ];
        PATH = "/usr/sbin:/usr/bin:/sbin:/bin";
      }
      // attrs
    );

  concat = builtins.concatStringsSep;
  text = value: if builtins.isBool value then (if value then "yes" else "no") else toString value;
  lines = attrs: concat "" (map (name: "${name}=${text attrs.${name}}\n") (builtins.attrNames attrs));

  # A unit as NixOS writes it of an attribute set (nixos/lib/systemd-lib.nix).
  unit =
    name: of:
    builtins.toFile "${name}.service" ''
      [Unit]
      Description=${of.description}
      Before=${concat " " (of.before or [ ])}
      After=${concat " " (of.after or [ ])}
      Conflicts=${concat " " (of.conflicts or [ ])}
      ${lines (of.unitConfig or { })}
      [Service]
      Environment=PATH=/run/current-system/sw/bin:/run/current-system/sw/sbin
      ${lines of.serviceConfig}
      ${if of ? script then "ExecStart=/bin/sh -e ${builtins.toFile "${name}.sh" of.script}" else ""}
    '';

  services = evaluated.systemd.services;
  root = evaluated.fileSystems."/";

  # What stands in systemd's place where it is small.
  starts = ''
    export PATH=/run/current-system/sw/bin:/run/current-system/sw/sbin
    mkdir -p /run/xen /run/xenstored
    while read -r name; do modprobe $name 2>/dev/null; done </etc/modules-load.d/nixos.conf
    sh -e ${builtins.toFile "xenlab.sh" services.xenlab.script} >/dev/hvc0 2>&1
    mount -t xenfs xenfs /proc/xen
    ${services.xenlab-port.serviceConfig.ExecStart} </dev/null >/dev/null 2>&1 &
    oxenstored --pid-file /run/xen/xenstored.pid
    until [ -S /run/xenstored/socket ]; do usleep 50000; done
    xen-init-dom0 >/dev/hvc0 2>&1
    xenconsoled --log=all --pid-file=/run/xen/xenconsoled.pid
    printf '\nxenlab: ready %s\n' "$(cat /xenlab/nonce)" >/dev/hvc0
    while :; do wait; sleep 3600; done
  '';

  # What a unit of the module is made of, and which targets want it: a line each.
  units = concat "" (
    map (name: "${name} ${unit name services.${name}} ${concat " " services.${name}.wantedBy}\n") (
      builtins.attrNames services
    )
  );

  busybox = run "busybox" { inherit initramfs; } ''
    mkdir -p $out
    cd $out
    busybox cpio -i -d bin/busybox <$initramfs
    chmod 555 bin/busybox
  '';

  kernel = run "linux-debian" { inherit linux; } ''
    mkdir t
    dpkg-deb --fsys-tarfile $linux | tar -x -C t ./boot ./lib/modules
    release=$(ls t/lib/modules)
    mkdir -p $out/lib/modules/$release
    cp t/boot/vmlinuz-$release $out/bzImage
    depmod -b $PWD/t $release
    for name in virtio_pci virtio_blk virtio_net virtio_console virtio-rng ext4 crc32c_generic xenfs xen-privcmd xen-evtchn \
      xen-gntdev xen-gntalloc xen-blkback xen-netback xen-pciback xen-acpi-processor tun loop bridge autofs4; do
      modprobe -d $PWD/t -S $release --show-depends $name | sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | sort -u | while read -r path; do
      to=$out/lib/modules/$release/''${path#$PWD/t/lib/modules/$release/}
      mkdir -p ''${to%/*}
      cp $path $to
    done
    cp t/lib/modules/$release/modules.builtin* t/lib/modules/$release/modules.order $out/lib/modules/$release/
    depmod -b $out $release
  '';

  # Stage 1: finds the root by its label, and hands over to what the kernel's command line names.
  initrd = run "initrd-linux-debian" {
    inherit kernel;
    inherit busybox;
    label = if label != "" then label else builtins.replaceStrings [ "/dev/disk/by-label/" ] [ "" ] root.device;
    early = concat " " (evaluated.boot.initrd.availableKernelModules ++ [ "crc32c_generic" "xenfs" ]);
  } ''
    mkdir -p t/bin t/proc t/sys t/dev t/sysroot $out
    cp $busybox/bin/busybox t/bin/busybox
    cp -r $kernel/lib t/lib
    cat >t/init <<END
    #!/bin/busybox sh
    bb=/bin/busybox
    \$bb mount -t proc proc /proc
    \$bb mount -t sysfs sys /sys
    \$bb mount -t devtmpfs dev /dev
    \$bb modprobe -a $early
    init=
    for word in \$(\$bb cat /proc/cmdline); do
      case \$word in init=*) init=\''${word#init=} ;; esac
    done
    tries=0
    until root=\$(\$bb findfs LABEL=$label 2>/dev/null); do
      tries=\$((tries + 1))
      [ \$tries -gt 100 ] && echo "no file system of the label $label" >/dev/console && exit 1
      \$bb usleep 50000
    done
    \$bb mount -t ${root.fsType} \$root /sysroot || exit 1
    for part in proc sys dev; do \$bb mount --move /\$part /sysroot/\$part; done
    exec \$bb switch_root /sysroot \$init
    END
    chmod 555 t/init
    (cd t && find . | $busybox/bin/busybox cpio -o -H newc 2>/dev/null) >$out/initrd
  '';

  glibc = run "glibc-2.36" { inherit userland; } ''
    arch=x86_64-linux-gnu
    unsquashfs -q -n -f -d t "$userland" usr/lib/$arch >/dev/null
    mkdir -p $out/lib
    for lib in ld-linux-x86-64.so.2 libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1; do
      cp -L t/usr/lib/$arch/$lib $out/lib/
    done
  '';

  # What Xen's programs need of Debian's libraries beside the C library.
  deps = run "xen-deps" { inherit userland glibc xenTree; } ''
    arch=x86_64-linux-gnu
    unsquashfs -q -n -f -d t "$userland" usr/lib/$arch >/dev/null
    mkdir -p $out/lib xen
    cp $xenTree/usr/bin/xenstore* xen/
    cp -f $xenTree/usr/lib/xen-4.17/bin/* xen/
    find $xenTree -name 'libxen*.so.*' -exec cp -n {} xen/ \; -o -name 'libxl*.so.*' -exec cp -n {} xen/ \;
    needed() { for f in "$@"; do readelf -d "$f" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; done | sort -u; }
    more=1
    while [ $more = 1 ]; do
      more=0
      for lib in $(needed xen/* $out/lib/*); do
        [ -e xen/$lib ] || [ -e $glibc/lib/$lib ] || [ -e $out/lib/$lib ] || { cp -L t/usr/lib/$arch/$lib $out/lib/; more=1; }
      done
    done
    chmod -R u+w $out
    for f in $out/lib/*; do patchelf --set-rpath $out/lib:$glibc/lib $f; done
  '';

  xen = run "xen-${version}" {
    inherit glibc deps xenTree;
    outputs = [
      "out"
      "boot"
    ];
  } ''
    mkdir -p $out/bin $out/lib $boot
    # Names that are wrappers in Debian lead to the programs themselves here.
    cp $xenTree/usr/bin/xenstore* $out/bin/ 2>/dev/null || true
    cp -f $xenTree/usr/lib/xen-4.17/bin/* $out/bin/
    find $xenTree \( -name 'libxen*.so.*' -o -name 'libxl*.so.*' \) -exec cp -an {} $out/lib/ \;
    cp -a $xenTree/etc $out/etc
    cp -a $xenTree/boot $boot/boot
    ln -s xen-4.17-amd64.gz $boot/boot/xen.gz
    ln -s xen-4.17-amd64.efi $boot/boot/xen.efi
    chmod -R u+w $out $boot
    for f in $out/bin/* $out/lib/*; do
      { [ ! -L "$f" ] && readelf -h "$f" >/dev/null 2>&1; } || continue
      patchelf --set-rpath $out/lib:$deps/lib:$glibc/lib "$f"
      if readelf -l "$f" | grep -q interpreter; then
        patchelf --set-interpreter $glibc/lib/ld-linux-x86-64.so.2 "$f"
      fi
    done
  '';

  # What `/run/current-system/sw` is: here a whole root of Debian's programs, with Xen's among them.
  sw = run "system-path" { inherit userland deviceModel xen; } ''
    unsquashfs -q -n -f -d t "$userland" >/dev/null
    [ -z "$deviceModel" ] || unsquashfs -q -n -f -d t "$deviceModel" >/dev/null
    mkdir $out
    mv t/usr $out/usr
    ln -s usr/bin $out/bin
    ln -s usr/sbin $out/sbin
    chmod -R u+w $out/usr
    ln -sf $xen/bin/* $out/usr/bin/
    # The device model is Debian's, and wants Xen's libraries where Debian has them.
    for lib in $xen/lib/*.so.*; do ln -sf $lib $out/usr/lib/x86_64-linux-gnu/; done
    rm -rf $out/usr/lib/modules
    ln -s /run/booted-system/kernel-modules/lib/modules $out/usr/lib/modules
  '';

  etc = run "etc" {
    inherit
      userland
      xen
      units
      small
      broken
      missing
      ;
    fstab = "${root.device} / ${root.fsType} x-initrd.mount 0 1";
    moduleFile = evaluated.environment.etc."xenlab/module".text;
    kernelModules = concat "\n" (
      evaluated.boot.kernelModules
      ++ [
        "xen-evtchn"
        "xen-gntdev"
        "xen-gntalloc"
        "xen-blkback"
        "xen-netback"
        "tun"
        "xen-privcmd"
        "xenfs"
      ]
    );
    hostKey = (builtins.head evaluated.services.openssh.hostKeys).path;
    authorizedKeys = builtins.head evaluated.services.openssh.authorizedKeysFiles;
    rootLogin = evaluated.services.openssh.settings.PermitRootLogin;
    prompt = evaluated.programs.bash.promptInit;
    host = evaluated.networking.hostName;
    user = evaluated.services.getty.autologinUser;
  } ''
    unsquashfs -q -n -f -d t "$userland" etc >/dev/null
    mkdir -p $out
    mv t/etc $out/etc
    chmod -R u+w $out/etc
    cd $out/etc
    echo "$fstab" >fstab
    echo "$host" >hostname
    mkdir -p xenlab modules-load.d
    printf %s "$moduleFile" >xenlab/module
    echo "$kernelModules" >modules-load.d/nixos.conf
    echo "$prompt" >profile
    mkdir -p ssh
    cat >ssh/sshd_config <<END
    HostKey $hostKey
    AuthorizedKeysFile $authorizedKeys
    PermitRootLogin $rootLogin
    UsePAM no
    UseDNS no
    END
    rm -rf xen
    ln -s $xen/etc/xen xen

    [ -z "$small" ] || exit 0
    # The lab's own units of that userland go, but for the network; those of the module come.
    cd systemd/system
    rm -f xenlab-init.service xenlab-ready.service xenlab-xen.service */xenlab-init.service */xenlab-ready.service
    printf '[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin %s --noclear --noissue --nohostname --keep-baud 115200 %%I dumb\n' "$user" \
      >serial-getty@.service.d/xenlab.conf
    echo "$units" | while read -r name file targets; do
      [ -n "$name" ] || continue
      cp $file $name.service
      for target in $targets; do
        mkdir -p $target.wants
        ln -s ../$name.service $target.wants/
      done
    done

    # What takes time under emulation and does nothing here.
    for unit in modprobe@.service systemd-journal-flush.service systemd-sysctl.service; do ln -sf /dev/null $unit; done

    # Xen's, each doing what its namesake in NixOS does.
    wants=multi-user.target.wants
    xens() {
      cat >$1
      [ ''${1%.service} != "$broken" ] || sed -i 's:^ExecStart=.*:ExecStart=/bin/false:; /^PIDFile/d; /^ExecStartPost/d; s:^Type=.*:Type=oneshot:' $1
      [ ''${1%.service} != "$missing" ] || rm $1
      [ ! -e $1 ] || ln -s ../$1 $wants/
    }
    xens proc-xen.mount <<END
    [Unit]
    Description=Xen's file system
    ConditionPathExists=/proc/xen
    [Mount]
    What=xenfs
    Where=/proc/xen
    Type=xenfs
    END
    xens xenstored.service <<END
    [Unit]
    Description=The store
    Requires=proc-xen.mount
    After=proc-xen.mount
    [Service]
    Type=forking
    PIDFile=/run/xen/xenstored.pid
    ExecStartPre=/bin/mkdir -p /run/xen /run/xenstored /var/lib/xen /var/lib/xenstored /var/log/xen
    ExecStart=$xen/bin/oxenstored --pid-file /run/xen/xenstored.pid
    ExecStartPost=/bin/sh -c 'until [ -S /run/xenstored/socket ]; do sleep 0.1; done'
    END
    xens xen-init-dom0.service <<END
    [Unit]
    Description=dom0's entries in the store
    Requires=xenstored.service
    After=xenstored.service
    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart=$xen/bin/xen-init-dom0
    END
    xens xenconsoled.service <<END
    [Unit]
    Description=The console daemon
    Requires=xenstored.service
    After=xenstored.service
    [Service]
    ExecStartPre=/bin/mkdir -p /var/log/xen/console
    ExecStart=$xen/bin/xenconsoled -i --log=all
    END
    xens xen-qemu-dom0-disk-backend.service <<END
    [Unit]
    Description=QEMU for dom0's own disks
    Requires=xenstored.service
    After=xen-init-dom0.service
    [Service]
    Type=forking
    PIDFile=/run/xen/qemu-dom0.pid
    ExecStart=/usr/libexec/xen-qemu-system-i386 -xen-domid 0 -xen-attach -name dom0 -nographic -M xenpv -daemonize -monitor /dev/null \
     -serial /dev/null -parallel /dev/null -nodefaults -no-user-config -pidfile /run/xen/qemu-dom0.pid
    END
    xens xendomains.service <<END
    [Unit]
    Description=Domains that start with the machine
    Requires=xenstored.service
    After=xen-init-dom0.service xenconsoled.service xen-qemu-dom0-disk-backend.service
    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart=/bin/sh -ec 'for config in /etc/xen/auto/*; do [ ! -e "\$config" ] || $xen/bin/xl create "\$config"; done'
    END
    xens xen-watchdog.service <<END
    [Unit]
    Description=Xen's watchdog, fed
    Requires=xenstored.service
    After=xendomains.service
    [Service]
    Type=forking
    ExecStart=$xen/bin/xenwatchdogd 30 15
    KillSignal=USR1
    END
  '';
in

run "nixos-system-xenlab" {
  inherit kernel initrd xen sw etc declared busybox;
  xenBoot = xen.boot;
  start = if small then starts else "exec /run/current-system/systemd/systemd \"$@\"";
  kernelParams = concat "\", \"" (evaluated.boot.kernelParams ++ [ "root=fstab" "loglevel=4" "net.ifnames=0" ]);
} ''
  mkdir $out
  ln -s $kernel/bzImage $out/kernel
  ln -s $initrd/initrd $out/initrd
  ln -s $kernel $out/kernel-modules
  ln -s $etc/etc $out/etc
  ln -s $sw $out/sw
  [ ! -e $sw/usr/lib/systemd ] || ln -s $sw/usr/lib/systemd $out/systemd
  printf %s x86_64-linux >$out/system

  # Stage 2: what makes a root of a closure, and starts systemd.
  cat >$out/init <<END
  #!$busybox/bin/busybox sh
  bb=$busybox/bin/busybox
  \$bb mount -t tmpfs -o mode=0755 run /run
  \$bb rmdir /bin /usr
  for name in bin sbin lib lib64; do \$bb ln -sfn usr/\$name /\$name; done
  \$bb ln -sfn $sw/usr /usr
  \$bb ln -sfn $out /run/current-system
  \$bb ln -sfn $out /run/booted-system
  \$bb cp -a $etc/etc/. /etc/
  [ ! -e /etc/shadow ] || \$bb chmod 640 /etc/shadow
  \$bb mkdir -p /var/log/xen/console /var/lib/xen /var/lib/xenstored /var/lib/systemd /var/lib/dbus /var/tmp /run/lock
  \$bb ln -sfn /run /var/run
  \$bb ln -sfn /run/lock /var/lock
  END
  printf '%s\n' "$start" >>$out/init
  chmod 555 $out/init

  cat >$out/boot.json <<END
  {
    "org.nixos.bootspec.v1": {
      "init": "$out/init", "initrd": "$initrd/initrd", "kernel": "$kernel/bzImage", "kernelParams": ["$kernelParams"],
      "label": "Debian, laid out as NixOS is", "system": "x86_64-linux", "toplevel": "$out"
    },
    "org.nixos.specialisation.v1": {},
    "org.xenproject.bootspec.v2": {
      "efiPath": "$xenBoot/boot/xen.efi", "multibootPath": "$xenBoot/boot/xen.gz", "params": ["loglvl=all"], "version": "$declared"
    }
  }
  END
''
