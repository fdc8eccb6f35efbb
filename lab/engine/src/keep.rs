//! What a user does with a machine when its case is over: looks at one that failed and stays frozen (`run --keep`), works in its dom0
//! (`xenlab shell`).

use crate::exec::Done;
use crate::perform;
use crate::work::Work;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use xenlab_guest::ssh::SshConfig;
use xenlab_machine::Machine;
use xenlab_model::Arch;
use xenlab_model::event::What;
use xenlab_model::judge;
use xenlab_model::verdict::Verdict;

/// Nobody leaves a machine for longer than this on purpose: it ends, and the run goes on.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Which machines stay when their case is over.
#[derive(Clone, Default)]
pub enum Keep {
    /// None.
    #[default]
    None,
    /// Those of cases that did not pass.
    Failed,
    /// All.
    All,
    /// Not frozen: one whose dom0 is ready runs on until its visitor leaves.
    Visited(Visit),
}

/// What is done in a dom0 that is ready.
pub type Visit = Arc<dyn Fn(Login) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// How to get into a dom0.
#[derive(Debug, Clone)]
pub struct Login {
    /// Address, user and keys.
    pub ssh: SshConfig,
    /// Folders with this build's tools, for `PATH`.
    pub path: Vec<String>,
    /// The machine's run folder, which is gone when it ends.
    pub dir: PathBuf,
}

impl Work<'_> {
    /// Keeps the machine, if it is to be kept and is still there: frozen where it stands, with QEMU's stub for debuggers on a socket in its
    /// run folder. The run owns it: it ends with an interrupt, by `kill` in the debugger, or after an hour, and leaves nothing.
    pub(crate) async fn keep(&self, done: &Done, machine: &Machine, ssh: &SshConfig) {
        let passed = || judge::case(self.case, &done.evidence, &done.facts, None).verdict == Verdict::Pass;
        let wanted = match &self.lab.keep {
            Keep::Visited(visit) if passed() => {
                let path = self.prepared.dom0.layout.path.clone();
                let dir = machine.rundir().path().to_owned();
                return visit(Login { ssh: ssh.clone(), path, dir }).await;
            }
            Keep::None | Keep::Visited(_) => false,
            Keep::Failed => !passed(),
            Keep::All => true,
        };
        if !wanted || xenlab_host::interrupt::requested() {
            return;
        }
        let note = |message| self.lab.sink.emit(What::Note { case: Some(self.shown.to_owned()), message });
        if machine.end().is_some() {
            return note("its machine is gone and cannot be kept".to_owned());
        }
        let socket = machine.rundir().path().join("gdb");
        let stub = format!("gdbserver unix:{},server=on,wait=off", socket.display());
        let ready = async {
            machine.pause().await.map_err(|e| e.to_string())?;
            let said = machine.qmp().human(&stub).await.map_err(|e| e.to_string())?;
            // It has no error of its own, only words.
            if socket.exists() { Ok(()) } else { Err(format!("QEMU has no stub for debuggers: {said}")) }
        };
        if let Err(why) = ready.await {
            return note(format!("cannot be kept: {why}"));
        }
        for line in self.ways_in(&socket.display().to_string()) {
            note(line);
        }
        tokio::select! {
            () = xenlab_host::interrupt::wait() => {}
            _ = machine.ended() => note("the machine that was kept has ended".to_owned()),
            () = tokio::time::sleep(LONGEST) => note("was kept for an hour, and ends".to_owned()),
        }
    }

    /// What to type, line by line.
    fn ways_in(&self, socket: &str) -> Vec<String> {
        let arch = self.case.config.arch;
        let name = match arch {
            Arch::X86_64 => "i386:x86-64",
            Arch::Aarch64 => "aarch64",
        };
        // A distribution's gdb knows its own architecture alone.
        let gdb = if arch.name() == std::env::consts::ARCH { "gdb" } else { "gdb-multiarch" };
        let symbols = xenlab_xen::symbols(&self.prepared.build);
        let file =
            symbols.as_ref().map(|path| format!(" {}", perform::scripts::quote(&path.display().to_string())));
        let mut lines = vec![
            "is kept, frozen where it stands, for an hour at most; Ctrl-C ends it, and the run".to_owned(),
            format!(
                "{gdb}{} -ex 'set architecture {name}' -ex 'target remote {socket}'",
                file.unwrap_or_default()
            ),
            "in gdb `continue` lets it run, `kill` ends it".to_owned(),
            format!("its consoles so far: {}", self.bundle.dir().join("console").display()),
        ];
        if symbols.is_none() {
            lines.push("this build has no symbols for gdb; one from source has (xen-syms)".to_owned());
        }
        lines
    }
}
