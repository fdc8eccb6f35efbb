//! Boots `ARCH XEN KERNEL INITRD DISK WORD [QEMU]` and prints its console until it says WORD: for trying a command line by hand.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use xenlab_host::rundir::RunDir;
use xenlab_machine::{Accel, Disk, Machine, MachineSpec, Payload, StartError, StartOptions, accel, qemu};
use xenlab_model::scenario::config::AccelChoice;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    xenlab_host::child::intercept();
    xenlab_host::rundir::sweep()?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [arch, xen, kernel, initrd, disk, word, rest @ ..] = args.as_slice() else {
        return Err("usage: boot ARCH XEN KERNEL INITRD DISK WORD [QEMU]".into());
    };
    let found = Arc::new(qemu::find(arch.parse()?, rest.first().map(Path::new))?);
    let files = (Payload::of(xen)?, Payload::of(kernel)?, Payload::of(initrd)?);
    let mut spec = MachineSpec::new(found, Accel::Tcg, files.0, files.1, files.2);
    spec.disks.push(Disk::snapshot(disk));
    spec.dom0_args = ["quiet", "net.ifnames=0", "mitigations=off"].map(str::to_owned).to_vec();
    spec.xen_args.push("bootscrub=0".to_owned());
    let chosen =
        accel::choose(AccelChoice::Auto, &spec, xen, None, async { Ok::<_, StartError>(()) }).await?;
    eprintln!("{}: {}", chosen.accel, chosen.reason);
    spec.accel = chosen.accel;
    let mut machine =
        Machine::start(&spec, Arc::new(RunDir::create("boot by hand")?), StartOptions::default()).await?;
    eprintln!("{:?}", machine.argv());
    let (mut console, _typed) = machine.take_console().ok_or("no console")?;
    machine.resume().await?;
    let mut text = Vec::new();
    while !text.windows(word.len()).any(|w| w == word.as_bytes()) {
        let from = text.len();
        tokio::select! {
            n = console.read_buf(&mut text) => if n? == 0 { break },
            end = machine.ended() => { eprintln!("ended: {end:?}"); break }
        }
        std::io::stdout().write_all(&text[from..])?;
    }
    eprintln!(
        "\n{:.2?} wall, {:.2?} guest, port {:?}, end {:?}",
        machine.wall_time(),
        machine.guest_time(),
        machine.ssh_port(),
        machine.end()
    );
    if let Some(port) = machine.ssh_port() {
        let mut banner = [0; 8];
        let mut tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        let read =
            tokio::time::timeout(std::time::Duration::from_secs(10), tcp.read_exact(&mut banner)).await;
        eprintln!("on its port: {read:?} {}", String::from_utf8_lossy(&banner));
    }
    machine.stop().await;
    Ok(())
}
