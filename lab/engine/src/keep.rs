//! What a user does with a machine when its case is over: looks at one that failed and stays frozen (`run --keep`), works in its dom0
//! (`xenlab shell`).

use crate::boot::Running;
use crate::door::{Behind, Door, Kept, Typed};
use crate::exec::Done;
use crate::hub::Hub;
use crate::work::Work;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use xenlab_guest::ssh::SshConfig;
use xenlab_machine::Machine;
use xenlab_model::event::What;
use xenlab_model::evidence::MachineEnd;
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

impl Keep {
    /// Machines are kept as they were when their case was over.
    pub(crate) fn frozen(&self) -> bool {
        matches!(self, Keep::Failed | Keep::All)
    }
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

/// Returns when QEMU is gone.
async fn gone(machine: &Machine, by_guest: bool) {
    if by_guest {
        machine.qmp().lost().await;
    } else {
        machine.ended().await;
    }
}

/// A machine that may stay, without what of it cannot be shared with another thread.
pub(crate) struct Staying {
    machine: Arc<Machine>,
    hub: Arc<Hub>,
    typed: Typed,
    record: PathBuf,
    ssh: SshConfig,
}

impl Staying {
    pub(crate) fn of(running: &Running) -> Staying {
        Staying {
            machine: running.machine.clone(),
            hub: running.hub.clone(),
            typed: running.typed.clone(),
            record: running.record.clone(),
            ssh: running.ssh.clone(),
        }
    }
}

impl Work<'_> {
    /// Keeps the machine, if it is to be kept and is still there: frozen where it stands, with a [`Door`] for whoever looks. The run owns
    /// it: it ends with an interrupt, by `kill` in the debugger, or after an hour, and leaves nothing.
    pub(crate) async fn keep(&self, done: &Done, of: &Staying) {
        let so_far = || judge::case(self.case, &done.evidence, &done.facts, None);
        let passed = || so_far().verdict == Verdict::Pass;
        let machine = &of.machine;
        let note = |message| self.lab.sink.emit(What::Note { case: Some(self.shown.to_owned()), message });
        let wanted = match &self.lab.keep {
            Keep::Visited(visit) if passed() => {
                let path = self.prepared.dom0.layout.path.clone();
                let dir = machine.rundir().path().to_owned();
                // Where others cannot come in beside, the visitor can.
                let door = self.door(of, false).await.map_err(note).ok();
                visit(Login { ssh: of.ssh.clone(), path, dir }).await;
                if let Some(door) = door {
                    door.shut().await;
                }
                return;
            }
            Keep::None | Keep::Visited(_) => false,
            Keep::Failed => !passed(),
            Keep::All => true,
        };
        if !wanted || xenlab_host::interrupt::requested() {
            return;
        }
        // One that its guest has ended is still there: QEMU was asked to stop and not to leave.
        let by_guest = match machine.end() {
            None => false,
            Some(MachineEnd::GuestReset | MachineEnd::GuestPowerOff | MachineEnd::GuestPanicked) => true,
            Some(_) => return note("its machine is gone and cannot be kept".to_owned()),
        };
        let ready = async {
            machine.pause().await.map_err(|e| e.to_string())?;
            self.door(of, true).await
        };
        let door = match ready.await {
            Ok(door) => door,
            Err(_) if by_guest => return note("its machine is gone and cannot be kept".to_owned()),
            Err(why) => return note(format!("cannot be kept: {why}")),
        };
        let verdict = so_far();
        if verdict.verdict != Verdict::Pass {
            let cause = verdict.cause.as_ref().map(|c| format!(" {}:", c.code())).unwrap_or_default();
            note(format!("so far {}:{cause} {}", verdict.verdict.word(), verdict.message));
        }
        for line in self.ways_in(&door.kept) {
            note(line);
        }
        let case = self.shown.to_owned();
        self.lab.sink.emit(What::StepStarted { case, step: "kept".to_owned(), title: "kept".to_owned() });
        tokio::select! {
            () = xenlab_host::interrupt::wait() => {}
            () = gone(machine, by_guest) => note("the machine that was kept has ended".to_owned()),
            () = tokio::time::sleep(LONGEST) => note("was kept for an hour, and ends".to_owned()),
        }
        door.shut().await;
    }

    async fn door(&self, of: &Staying, frozen: bool) -> Result<Door, String> {
        Door::open(Behind {
            case: self.shown.to_owned(),
            arch: self.case.config.arch,
            frozen,
            machine: &of.machine,
            hub: &of.hub,
            typed: &of.typed,
            record: &of.record,
            ssh: &of.ssh,
            path: self.prepared.dom0.layout.path.clone(),
            symbols: xenlab_xen::symbols(&self.prepared.build),
        })
        .await
    }

    /// What to type, line by line.
    fn ways_in(&self, kept: &Kept) -> Vec<String> {
        let socket = kept.gdb.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
        let mut lines = vec![
            "its machine is kept, frozen where it stands, for an hour at most; Ctrl-C ends it, and the run".to_owned(),
            "from another terminal: `xenlab console` shows its console, `xenlab gdb` where Xen stands, `xenlab ssh` logs in to dom0 (a frozen \
             machine goes on then)"
                .to_owned(),
            format!("its stub for debuggers, as gdb takes it: target remote {socket}"),
            format!("its consoles so far: {}", self.bundle.dir().join("console").display()),
        ];
        if kept.symbols.is_none() {
            lines.push("this build has no symbols for gdb; one from source has (xen-syms)".to_owned());
        }
        lines
    }
}
