//! The ways into a case's dom0, each opened when it is first needed.

use crate::hub::Hub;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use xenlab_guest::ssh::SshShell;
use xenlab_guest::{Clock, Deadline, Script, Shell};
use xenlab_model::evidence::{CommandResult, Transport};

/// Both ways in, and what has been learned about them.
pub struct Ways {
    hub: Arc<Hub>,
    clock: Clock,
    ssh: SshShell,
    serial: Box<dyn Shell>,
    serial_bytes: mpsc::Sender<Bytes>,
    /// The way that steps use which name none.
    preferred: Option<Transport>,
    /// Asked for by the scenario: the only one to use.
    only: Option<Transport>,
}

impl Ways {
    /// `serial_bytes` is where the serial shell reads the console from.
    pub fn new(
        hub: Arc<Hub>,
        clock: Clock,
        ssh: SshShell,
        serial: Box<dyn Shell>,
        serial_bytes: mpsc::Sender<Bytes>,
        only: Option<Transport>,
    ) -> Ways {
        Ways { hub, clock, ssh, serial, serial_bytes, preferred: only, only }
    }

    /// Connects by SSH, where steps that name no way will use it; where it cannot be had they use the serial console.
    pub async fn connect(&mut self) {
        if self.preferred.is_some_and(|way| way != Transport::Ssh) {
            return;
        }
        let deadline = Deadline::new(self.clock.clone(), SSH_TRIAL);
        match self.ssh.open(deadline).await {
            Ok(()) => self.preferred = Some(Transport::Ssh),
            // Asked for SSH alone: its first command says what is wrong.
            Err(_) if self.only.is_some() => {}
            Err(_) => self.preferred = Some(Transport::Serial),
        }
    }

    /// Guest time since power-on.
    pub fn guest(&self) -> Duration {
        (self.clock)()
    }

    /// Runs a script by this way, within so much guest time.
    pub async fn run_via(&mut self, via: Transport, script: &Script, limit: Duration) -> CommandResult {
        let deadline = Deadline::new(self.clock.clone(), limit);
        match via {
            Transport::Ssh => self.ssh.run(script, deadline).await,
            Transport::Serial => {
                self.hub.set_tap(Some(self.serial_bytes.clone()));
                // The tap must also go when this future is dropped half-way.
                let _untap = Untap(&self.hub);
                self.serial.run(script, deadline).await
            }
        }
    }

    /// Runs a script by the way that steps use which name none: SSH, the faster of the two, and the serial console
    /// where SSH cannot be had and nothing asked for it.
    pub async fn run(&mut self, script: &Script, limit: Duration) -> CommandResult {
        if self.preferred.is_none() {
            self.connect().await;
        }
        self.run_via(self.preferred.unwrap_or(Transport::Ssh), script, limit).await
    }
}

/// How long SSH may take to answer for the first time before the serial console is used instead; ten times what a slow
/// emulated dom0 was seen to need.
const SSH_TRIAL: Duration = Duration::from_secs(20);

struct Untap<'a>(&'a Hub);

impl Drop for Untap<'_> {
    fn drop(&mut self) {
        self.0.set_tap(None);
    }
}
