//! A warm machine: restored, told what a clone must not share, asked something so that what it will do next is translated, and paused.
//!
//! Its console is not read: what it says while it is warmed lies in the socket until a case has it, and paused it says nothing.

use super::said::Said;
use crate::EngineError;
use crate::boot;
use crate::template::Ready;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use xenlab_guest::port::PortShell;
use xenlab_guest::{Deadline, Script, Shell};
use xenlab_host::rundir::RunDir;
use xenlab_machine::{Machine, StartOptions};
use xenlab_model::cause::Cause;

/// How long a machine may take for a word of the lab's, wall time. It takes hundredths of a second; on a host that is too busy for this
/// the case restores a machine of its own.
const ANSWER: Duration = Duration::from_secs(8);

/// How long QEMU may take to say that a machine is as it was left, wall time.
const THERE: Duration = Duration::from_secs(1);

/// How often a machine that waits in a pool is asked something and told the first words again, so that the emulator has translated
/// what both lead over. Its first command then took 0.053 s, with one round 0.074 to 0.09 s (medians of 10, both architectures, 2 cores).
pub const ROUNDS: usize = 3;

/// See the module.
pub struct Warm {
    /// Paused.
    pub machine: Machine,
    /// Connected.
    pub port: PortShell,
    /// What its monitor said.
    pub said: Arc<Said>,
    /// Where it comes from, in words.
    pub from: String,
}

/// A warm machine that was taken: it runs, and its clock is right.
pub struct Started(pub Warm);

fn unusable(why: impl std::fmt::Display) -> EngineError {
    EngineError::part(Cause::TemplateUnusable, why)
}

impl Warm {
    /// Makes one; warmed for so many [rounds](ROUNDS).
    ///
    /// # Errors
    /// The lab's own. What is wrong with the template is found out, and told, by the case that restores it for itself.
    pub async fn make(ready: &Ready, from: String, rounds: usize) -> Result<Warm, EngineError> {
        let dir = RunDir::create(&from).map_err(|e| EngineError::part(Cause::LabInternal, e))?;
        let said = Said::new(Vec::new());
        let options = StartOptions { tap: said.tap(), ..Default::default() };
        let ground = ready.ground();
        let restored = Machine::restore(&ground.spec, &ready.state, Arc::new(dir), options).await;
        let mut machine = restored.map_err(|e| EngineError::part(e.cause(), &e))?;
        boot::as_asked(&ground.spec, &machine).await?;
        let ports = machine.take_ports().ok_or_else(|| unusable("it has no ports"))?;
        let mut port = PortShell::new(ports.shell, ports.stdout, ports.stderr);
        machine.go_on().await.map_err(unusable)?;
        first_words(&machine, &mut port).await?;
        // All that a command's way leads over, and the words it will be told when it is taken.
        for _ in 0..rounds {
            let answer = port.run(&Script::new("echo"), Deadline::wall(ANSWER)).await;
            if !answer.ok() {
                return Err(unusable(format!("its first command: {:?}", answer.end)));
            }
            first_words(&machine, &mut port).await?;
        }
        machine.pause().await.map_err(unusable)?;
        Ok(Warm { machine, port, said, from })
    }

    /// Has it go on, for a case: its clocks begin here. Its wall clock stood since it was paused, and is set again.
    ///
    /// # Errors
    /// It is not there any more, or does not answer. Nothing of it was recorded.
    pub async fn start(mut self) -> Result<Started, EngineError> {
        let Warm { machine, port, .. } = &mut self;
        let status =
            machine.qmp().execute_within("query-status", json!({}), THERE).await.map_err(unusable)?;
        if status["status"] != "paused" {
            return Err(unusable(format!("it is {} and not paused", status["status"])));
        }
        machine.resume().await.map_err(unusable)?;
        first_words(machine, port).await?;
        Ok(Started(self))
    }
}

async fn first_words(machine: &Machine, port: &mut PortShell) -> Result<(), EngineError> {
    let deadline = Deadline::wall(ANSWER);
    tokio::select! {
        said = port.first_words(&deadline) => said.map_err(unusable),
        end = machine.ended() => Err(unusable(format!("it ended: {end:?}"))),
        () = xenlab_host::interrupt::wait() => Err(EngineError::Interrupted),
    }
}
