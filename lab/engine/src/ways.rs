//! The ways into a case's dom0, each opened when it is first needed.

use crate::hub::Hub;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use xenlab_guest::port::PortShell;
use xenlab_guest::ssh::SshShell;
use xenlab_guest::{Clock, Deadline, Script, Shell};
use xenlab_model::evidence::{Captured, CommandEnd, CommandResult, Transport};
use xenlab_model::step::{At, Body, Step};

/// The ways in, and what has been learned about them.
pub struct Ways {
    hub: Arc<Hub>,
    clock: Clock,
    ssh: SshShell,
    serial: Box<dyn Shell>,
    serial_bytes: mpsc::Sender<Bytes>,
    /// None where the machine has no such ports, or where they were given up.
    port: Option<PortShell>,
    /// Why there is none.
    no_port: String,
    /// Guest time that the port took without doing anything: it is the lab's own, and no step's.
    wasted: Duration,
    /// The way that steps use which name none.
    preferred: Option<Transport>,
    /// Asked for by the scenario: the only one to use.
    only: Option<Transport>,
    /// Why a faster way is not used, for the report.
    notes: Vec<String>,
}

impl Ways {
    /// `serial_bytes` is where the serial shell reads the console from.
    pub fn new(
        hub: Arc<Hub>,
        clock: Clock,
        ssh: SshShell,
        serial: (Box<dyn Shell>, mpsc::Sender<Bytes>),
        port: Option<PortShell>,
        only: Option<Transport>,
    ) -> Ways {
        let (serial, serial_bytes) = serial;
        let (no_port, wasted, notes) = (NO_PORT.to_owned(), Duration::ZERO, Vec::new());
        Ways { hub, clock, ssh, serial, serial_bytes, port, no_port, wasted, preferred: only, only, notes }
    }

    /// Connects by the ways that these steps will use, so that no step's time is spent on it.
    pub async fn connect_for(&mut self, steps: &[&Step]) {
        let uses = |way| uses(steps.iter().copied(), self.only, way);
        let (any, ssh, port) = (unnamed(steps.iter().copied()), uses(Transport::Ssh), uses(Transport::Port));
        if any {
            self.connect().await;
        }
        if port && self.preferred != Some(Transport::Port) {
            let _ = self.open_port().await;
        }
        if ssh && self.preferred != Some(Transport::Ssh) {
            // Steps that ask for it say what is wrong with it.
            let _ = self.ssh.open(self.trial(SSH_TRIAL)).await;
        }
    }

    /// Connects by what steps that name no way will use: the lab's own port; where nobody answers there SSH, and where that
    /// cannot be had either the serial console. Why it is not the port is in [`Self::take_notes`].
    pub async fn connect(&mut self) {
        if self.preferred.is_none() {
            match self.open_port().await {
                Ok(()) => {
                    self.preferred = Some(Transport::Port);
                    return;
                }
                Err(why) => self.notes.push(format!("{why}; SSH is used in its place")),
            }
        }
        if self.preferred.is_none_or(|way| way == Transport::Ssh) {
            self.connect_by_ssh().await;
        }
    }

    async fn connect_by_ssh(&mut self) {
        match self.ssh.open(self.trial(SSH_TRIAL)).await {
            Ok(()) => self.preferred = Some(Transport::Ssh),
            // Asked for SSH alone: its first command says what is wrong.
            Err(_) if self.only.is_some() => {}
            Err(why) => {
                self.notes.push(format!("{why}; the serial console is used in its place"));
                self.preferred = Some(Transport::Serial);
            }
        }
    }

    /// One that does not answer is given up: nobody will ever serve it.
    async fn open_port(&mut self) -> Result<(), String> {
        let (trial, begun) = (self.trial(PORT_TRIAL), self.guest());
        let port = self.port.as_mut().ok_or_else(|| self.no_port.clone())?;
        let opened = port.connect(&trial).await.map_err(|e| e.to_string());
        self.wasted += self.guest().saturating_sub(begun);
        if let Err(why) = &opened {
            self.give_up_port(why);
        }
        opened
    }

    fn give_up_port(&mut self, why: &str) -> Option<PortShell> {
        why.clone_into(&mut self.no_port);
        self.port.take()
    }

    /// A clone's first words to its dom0, over the port: the clock, and random numbers of its own.
    ///
    /// # Errors
    /// Why they could not be said.
    pub async fn first_words(&mut self) -> Result<(), String> {
        let trial = self.trial(PORT_TRIAL);
        let port = self.port.as_mut().ok_or_else(|| self.no_port.clone())?;
        port.first_words(&trial).await.map_err(|e| e.to_string())?;
        if self.preferred.is_none() {
            self.preferred = Some(Transport::Port);
        }
        Ok(())
    }

    /// The first words were said before: this is the port they were said over.
    pub fn said_first_words(&mut self) {
        self.preferred = self.preferred.or(Some(Transport::Port));
    }

    /// Leaves dom0 as a clone of it must find it: the shell on the port waits for a command.
    ///
    /// # Errors
    /// Nobody serves the port, so a clone could not be told anything.
    pub async fn rest(&mut self) -> Result<(), String> {
        self.open_port().await
    }

    fn trial(&self, limit: Duration) -> Deadline {
        Deadline::new(self.clock.clone(), limit)
    }

    /// Guest time since power-on.
    pub fn guest(&self) -> Duration {
        (self.clock)()
    }

    /// Guest time since power-on without what the lab's own port took and gave nothing for.
    pub fn of_steps(&self) -> Duration {
        self.guest().saturating_sub(self.wasted)
    }

    /// What there is to say about the ways in, once.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Runs a script by this way, within so much guest time.
    pub async fn run_via(&mut self, via: Transport, script: &Script, limit: Duration) -> CommandResult {
        let deadline = Deadline::new(self.clock.clone(), limit);
        match via {
            Transport::Ssh => self.ssh.run(script, deadline).await,
            Transport::Port => self.run_on_port(script, limit).await,
            Transport::Serial => {
                self.hub.set_tap(Some(self.serial_bytes.clone()));
                // The tap must also go when this future is dropped half-way.
                let _untap = Untap(&self.hub);
                self.serial.run(script, deadline).await
            }
        }
    }

    /// A port that does not answer takes [`PORT_TRIAL`] once, whatever the command's limit is.
    async fn run_on_port(&mut self, script: &Script, limit: Duration) -> CommandResult {
        if let Err(why) = self.open_port().await {
            return lost(Transport::Port, script, why);
        }
        let (deadline, begun) = (self.trial(limit), self.guest());
        let Some(port) = &mut self.port else { return lost(Transport::Port, script, self.no_port.clone()) };
        let result = port.run(script, deadline).await;
        if matches!(result.end, CommandEnd::Lost(_)) {
            self.wasted += self.guest().saturating_sub(begun);
        }
        result
    }

    /// Runs a script by the way that steps use which name none: see [`Self::connect`]. A port that is lost before it has said
    /// how a command ended is left for SSH, once and for all. A command that was sent is not run again: it may have done half its
    /// work.
    pub async fn run(&mut self, script: &Script, limit: Duration) -> CommandResult {
        if self.preferred.is_none() {
            self.connect().await;
        }
        let way = self.preferred.unwrap_or(Transport::Ssh);
        let result = self.run_via(way, script, limit).await;
        if way == Transport::Port
            && self.only.is_none()
            && let CommandEnd::Lost(why) = &result.end
        {
            self.notes.push(format!("{why}; SSH is used in its place from now on"));
            let why = why.clone();
            let sent = self.give_up_port(&why).is_some_and(|port| port.sent());
            self.preferred = None;
            self.connect_by_ssh().await;
            if sent {
                return result;
            }
            return self.run_via(self.preferred.unwrap_or(Transport::Ssh), script, limit).await;
        }
        result
    }
}

/// Some step in dom0 leaves the way in to the lab.
fn unnamed<'a>(mut steps: impl Iterator<Item = &'a Step>) -> bool {
    steps.any(|step| match &step.body {
        Body::Run(run) => run.via.is_empty(),
        body => body.at() == At::Dom0,
    })
}

/// Steps will use this way: one names it, or one names none and this is the only one to use.
pub fn uses<'a>(
    steps: impl Iterator<Item = &'a Step> + Clone,
    only: Option<Transport>,
    way: Transport,
) -> bool {
    let named = |step: &Step| matches!(&step.body, Body::Run(run) if run.via.contains(&way));
    steps.clone().any(named) || (only == Some(way) && unnamed(steps))
}

const NO_PORT: &str = "the machine has no port for the lab's own shell";

/// How long the port may take to answer for the first time. It is served before dom0's userland begins, and answers in
/// milliseconds: what takes longer than this does not serve.
const PORT_TRIAL: Duration = Duration::from_secs(8);

/// How long SSH may take to answer for the first time before the serial console is used instead; ten times what a slow
/// emulated dom0 was seen to need.
const SSH_TRIAL: Duration = Duration::from_secs(20);

struct Untap<'a>(&'a Hub);

impl Drop for Untap<'_> {
    fn drop(&mut self) {
        self.0.set_tap(None);
    }
}

/// The result of a command that could not be run.
fn lost(via: Transport, script: &Script, why: String) -> CommandResult {
    CommandResult {
        via,
        script: script.text.clone(),
        end: CommandEnd::Lost(why),
        stdout: Captured::default(),
        stderr: Captured::default(),
        seconds: 0.0,
    }
}
