//! Makes a dom0 and boots it under QEMU with a given Xen, by hand: for trying images out without the rest of the lab.
//!
//! `boot ARCH USERLAND SUITE XEN TOOLS_ROOT BIN_DIR [MODE]`: XEN is what QEMU's `-kernel` takes, TOOLS_ROOT a tree of Xen's tools
//! that lies at `/` in dom0. MODE: `run` (default; prints when dom0 is ready, then `xl info` over SSH), `bare` (without Xen),
//! `nodisk`, `print` (only the command line).

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use xenlab_image::{CaseLayer, Dom0Request, HostKey, ToolsTree, prepare, write_initrd};
use xenlab_model::Arch;
use xenlab_model::event::{Sink, What};
use xenlab_model::spec::DeviceModelSpec;
use xenlab_store::{Options, Store};

struct Stderr;

impl Sink for Stderr {
    fn emit(&self, what: What) {
        match what {
            What::Note { message, .. } => eprintln!("note: {message}"),
            What::ProgressEnded { task, seconds, error } => eprintln!("{task}: {seconds:.2} s {error:?}"),
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    xenlab_host::child::intercept();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [arch, userland, suite, xen, tools, bin, rest @ ..] = &args[..] else {
        return Err("see the source".into());
    };
    let mode = rest.first().map_or("run", String::as_str);
    let arch: Arch = arch.parse()?;
    let store = Store::open(Options { sink: Arc::new(Stderr), ..Options::default() })?;
    let request = Dom0Request {
        arch,
        userland: userland.parse()?,
        kernel: None,
        device_model: DeviceModelSpec::None,
        guests: Vec::new(),
        tools: Some(ToolsTree {
            root: tools.into(),
            mount: "/".into(),
            key: tools.clone(),
            bin_dirs: vec![bin.clone(), "/usr/sbin".into(), "/usr/bin".into()],
            lib_dirs: vec![format!("/usr/lib/{}", arch.triplet())],
            files: None,
            empty_dirs: Vec::new(),
            needs: Vec::new(),
            device_model: None,
            own_device_model: false,
        }),
        suite: suite.clone(),
    };
    prepare(&request, &store)?;
    let began = Instant::now();
    let dom0 = prepare(&request, &store)?;
    eprintln!("unchanged: {:.4} s; {:?}", began.elapsed().as_secs_f64(), dom0.disks);
    let dir = std::env::temp_dir().join(format!("xenlab-boot-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let user = HostKey::generate()?;
    let key = dir.join("key");
    std::fs::write(&key, &user.openssh)?;
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let case = CaseLayer {
        nonce: "n0nce".into(),
        authorized_keys: vec![user.public],
        host_key: HostKey::generate()?,
        store: std::env::var("DAEMON").ok().map(|d| serde_json::from_value(d.into())).transpose()?,
        settings: Default::default(),
        files: Vec::new(),
    };
    let initrd = dir.join("initrd");
    write_initrd(&dom0, &case, &initrd)?;
    let (kernel, initrd) = (dom0.kernel.display().to_string(), initrd.display().to_string());
    let port = 20000 + std::process::id() % 20000;
    let memory = std::env::var("DOM0_MEM").unwrap_or("1024M".into());
    let mut qemu = Command::new(format!("qemu-system-{arch}"));
    qemu.args([
        "-accel",
        "tcg,thread=multi",
        "-m",
        "1536",
        "-smp",
        "2",
        "-nodefaults",
        "-no-reboot",
        "-display",
        "none",
        "-serial",
        "stdio",
    ]);
    match (arch, mode) {
        (Arch::X86_64, "bare") => qemu.args([
            "-M",
            "q35",
            "-cpu",
            "max,smap=off,la57=off",
            "-kernel",
            xen,
            "-initrd",
            &initrd,
            "-append",
            "console=ttyS0 quiet",
        ]),
        (Arch::X86_64, _) => qemu
            .args(["-M", "q35", "-cpu", "max,smap=off,la57=off,rdtscp=off", "-kernel", xen])
            .args(["-initrd", &format!("{kernel} console=hvc0 net.ifnames=0 mitigations=off quiet,{initrd}")])
            .args([
                "-append",
                &format!("console=com1 com1=115200,8n1 dom0_mem={memory} noreboot bootscrub=0 spec-ctrl=no"),
            ]),
        (Arch::Aarch64, "bare") => qemu.args([
            "-M",
            "virt",
            "-cpu",
            "cortex-a57",
            "-kernel",
            &kernel,
            "-initrd",
            &initrd,
            "-append",
            "console=ttyAMA0 quiet",
        ]),
        (Arch::Aarch64, _) => qemu
            .args(["-M", "virt,virtualization=on,gic-version=3", "-cpu", "cortex-a57", "-kernel", xen])
            .args(["-append", &format!("console=dtuart dom0_mem={memory} bootscrub=0")])
            .args([
                "-device",
                &format!(
                    "guest-loader,addr=0x49000000,kernel={kernel},bootargs=console=hvc0 quiet net.ifnames=0"
                ),
            ])
            .args(["-device", &format!("guest-loader,addr=0x50000000,initrd={initrd}")]),
    };
    for (n, disk) in dom0.disks.iter().enumerate() {
        if mode == "nodisk" {
            break;
        }
        qemu.args(["-drive", &format!("file={},format=raw,if=none,id=d{n},readonly=on", disk.display())]);
        qemu.args(["-device", &format!("virtio-blk-pci,drive=d{n}")]);
    }
    qemu.args([
        "-netdev",
        &format!("user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
        "-device",
        "virtio-net-pci,netdev=n0,romfile=",
    ]);
    if mode == "print" {
        println!("{qemu:?}");
        return Ok(());
    }
    let began = Instant::now();
    let mut child = qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut out = child.stdout.take().ok_or("no stdout")?;
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = out.read(&mut buffer) {
            if tx.send(buffer[..n].to_vec()).is_err() {
                break;
            }
        }
    });
    let limit = Duration::from_secs(std::env::var("LIMIT").ok().and_then(|l| l.parse().ok()).unwrap_or(60));
    let mut text = String::new();
    let mut done = 0;
    while began.elapsed() < limit {
        let Ok(bytes) = rx.recv_timeout(Duration::from_millis(200)) else { continue };
        text.push_str(&String::from_utf8_lossy(&bytes));
        while let Some(n) = text[done..].find('\n') {
            let line = &text[done..done + n];
            println!("{:7.2} {}", began.elapsed().as_secs_f64(), line.trim_end().escape_default());
            done += n + 1;
        }
        if text.contains("xenlab: ready n0nce") || text.contains("xenlab: failed n0nce") {
            break;
        }
    }
    println!("{:7.2} s: the wait ended", began.elapsed().as_secs_f64());
    if mode == "run" && text.contains("ready n0nce") {
        use std::io::Write as _;
        let script = std::env::var("SCRIPT")
            .unwrap_or("xl info | grep -E 'xen_version|build_id'; cat /run/xenlab/services/xenstored".into());
        let ssh = Command::new("ssh")
            .args([
                "-i",
                &key.display().to_string(),
                "-p",
                &port.to_string(),
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args(["-o", "LogLevel=ERROR", "root@127.0.0.1", &script])
            .output()?;
        println!(
            "{:7.2} ssh: {}\n{}{}",
            began.elapsed().as_secs_f64(),
            ssh.status,
            String::from_utf8_lossy(&ssh.stdout),
            String::from_utf8_lossy(&ssh.stderr)
        );
        if let Some(mut stdin) = child.stdin.take() {
            writeln!(
                stdin,
                "{}",
                std::env::var("SERIAL").unwrap_or("echo serial-$((40+2)); id; tty; xl list".into())
            )?;
            stdin.flush()?;
            let until = Instant::now() + Duration::from_secs(4);
            while Instant::now() < until {
                if let Ok(bytes) = rx.recv_timeout(Duration::from_millis(200)) {
                    print!("{}", String::from_utf8_lossy(&bytes));
                }
            }
        }
    }
    child.kill()?;
    child.wait()?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
