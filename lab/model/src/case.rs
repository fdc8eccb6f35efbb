//! Cases: the points of a scenario's matrix, and what is planned for each.

use crate::fact::Facts;
use crate::place::Places;
use crate::scenario::config::{Config, Need};
use crate::spec::Subject;
use crate::step::Step;
use serde::{Deserialize, Serialize};

/// One point of a scenario's matrix, every value resolved: enough to run it and to judge it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// `dom0-boot[arch=aarch64,boot=uefi]`: the scenario's name and every axis but the subject, in file order.
    /// The same id on two subjects is what gets compared.
    pub id: String,
    /// The scenario's name.
    pub scenario: String,
    /// The scenario's file, as the user named it.
    pub file: String,
    /// Tags of the scenario.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Every axis with this case's value, the subject's too.
    pub axes: Vec<(String, String)>,
    /// The Xen build under test.
    pub subject: Subject,
    /// Everything else.
    pub config: Config,
    /// `vars`, resolved.
    #[serde(default)]
    pub vars: std::collections::BTreeMap<String, String>,
    /// What must hold for the case to make sense; those decided at planning are not in here.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// Done before the steps.
    #[serde(default)]
    pub setup: Vec<Step>,
    /// The steps.
    pub steps: Vec<Step>,
    /// Where each key was written.
    pub places: Places,
    /// Unique to this case in this run; `${run.nonce}`.
    pub nonce: String,
    /// What planning knew.
    #[serde(default)]
    pub facts: Facts,
    /// What is planned.
    pub plan: Planned,
}

impl Case {
    /// `id @ subject`: how a case is shown.
    pub fn shown(&self) -> String {
        format!("{} @ {}", self.id, self.subject)
    }
}

/// What is planned for a case while some facts are unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Planned {
    /// It will run.
    Run,
    /// It will not, because.
    Skip(String),
    /// Decided once these facts are known.
    Unknown(Vec<String>),
}
