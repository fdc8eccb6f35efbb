//! What a userland looks like from inside, as data: nothing that uses dom0 needs to know which userland it is.

use serde::{Deserialize, Serialize};

/// A userland from inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// `minimal`, `systemd` or `tar`.
    pub userland: String,
    /// Who starts services.
    pub init: Init,
    /// It prints `xenlab: ready NONCE`; without it, being ready is that a shell answers.
    pub marks_ready: bool,
    /// What `service: xen` stands for.
    pub xen_services: Vec<String>,
    /// User to log in as.
    pub user: String,
    /// Port of the SSH server.
    pub ssh_port: u16,
    /// From dom0 becoming ready to a shell on its console.
    pub login: Vec<Dance>,
    /// How the shell on the console behaves.
    pub console: Console,
    /// Prepended to `PATH` where a shell does not have it: where this build's tools are.
    pub path: Vec<String>,
}

/// Who starts services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// `systemctl` knows them.
    Systemd,
    /// `images/minimal/init`: a file of KEY=VALUE lines each in `/run/xenlab/services`.
    Xenlab,
    /// Not known: the user's own root.
    Unknown,
}

/// The shell on dom0's console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Console {
    /// Reads commands, no echo, no prompt, no line editing, bytes as they are.
    Raw,
    /// An interactive shell on a terminal: it echoes and prompts until it is told not to.
    Terminal,
}

/// A step of the way to a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dance {
    /// Wait until this (a regular expression) is on the console.
    Wait(String),
    /// Write this.
    Write(String),
}

impl Layout {
    /// Of the `minimal` userland.
    pub fn minimal(path: Vec<String>) -> Layout {
        Layout {
            userland: "minimal".into(),
            init: Init::Xenlab,
            marks_ready: true,
            xen_services: ["xenstored", "xen-init-dom0", "xenconsoled"].map(String::from).into(),
            user: "root".into(),
            ssh_port: 22,
            login: Vec::new(),
            console: Console::Raw,
            path,
        }
    }
}
