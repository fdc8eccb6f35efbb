//! Steps that work in dom0, through a shell.

use super::scripts;
use crate::ways::Ways;
use std::time::Duration;
use xenlab_guest::Script;
use xenlab_image::{Init, Layout};
use xenlab_model::evidence::CommandResult;
use xenlab_model::step::{Observation, file, process, run, service, under_xen, xenstored, xl_info};

/// What a dom0 step has at hand.
pub struct Dom0<'a> {
    /// The ways in.
    pub ways: &'a mut Ways,
    /// What this userland looks like from inside.
    pub layout: &'a Layout,
    /// Environment every script gets: the path of this build's tools.
    pub env: &'a [(String, String)],
    /// When the step is over, all its commands together, as [`Ways::of_steps`] counts.
    pub until: Duration,
}

impl Dom0<'_> {
    /// A script with the environment that every one gets.
    pub(super) fn script(&self, text: &str) -> Script {
        Script::new(text).with_env(self.env.iter().cloned())
    }

    /// Runs a script within what is left of the step.
    pub(super) async fn sh(&mut self, text: &str) -> CommandResult {
        let script = self.script(text);
        self.ways.run(&script, self.left()).await
    }

    /// What the step may still take.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_sub(self.ways.of_steps())
    }

    /// `under-xen`
    pub async fn under_xen(&mut self) -> Observation {
        Observation::UnderXen(under_xen::UnderXenEvidence {
            hypervisor_type: self.sh("cat /sys/hypervisor/type").await,
            capabilities: self.sh("cat /proc/xen/capabilities").await,
            list: self.sh("xl list").await,
        })
    }

    /// `xl-info`
    pub async fn xl_info(&mut self) -> Observation {
        Observation::XlInfo(xl_info::XlInfoEvidence { command: self.sh("xl info").await })
    }

    /// `xenstored`
    pub async fn xenstored(&mut self, step: &xenstored::Xenstored) -> Observation {
        let found = self.sh(scripts::FIND_XENSTORED).await;
        let answers = self.sh(scripts::STORE_ANSWERS).await;
        let self_test = if step.self_test { Some(self.sh(scripts::TEST_XENSTORE).await) } else { None };
        Observation::Xenstored(xenstored::XenstoredEvidence { found, answers, self_test })
    }

    /// `run`
    pub async fn run(&mut self, step: &run::Run) -> Observation {
        let script = match &step.script {
            Some(text) => Script::new(text.clone()),
            None => Script::argv(&step.argv),
        }
        .with_env(self.env.iter().cloned().chain(step.env.clone()));
        let mut results = Vec::new();
        if step.via.is_empty() {
            let left = self.left();
            results.push(self.ways.run(&script, left).await);
        }
        for &via in &step.via {
            let left = self.left();
            results.push(self.ways.run_via(via, &script, left).await);
        }
        Observation::Run(run::RunEvidence { results })
    }

    /// `service`; `xen` in a list stands for the services that this layout's Xen has.
    pub async fn service(&mut self, step: &service::Service) -> Observation {
        let names = step.active.iter().flat_map(|name| match name.as_str() {
            "xen" => self.layout.xen_services.clone(),
            other => vec![other.to_owned()],
        });
        let mut services = Vec::new();
        for name in names.collect::<Vec<_>>() {
            let script = match self.layout.init {
                Init::Xenlab => scripts::small_init_service(&name),
                Init::Systemd | Init::Unknown => scripts::systemd_unit(&name),
            };
            let result = self.sh(&script).await;
            services.push((name, result));
        }
        let failed = match (&step.failed, self.layout.init) {
            (None, _) => None,
            (Some(_), Init::Xenlab) => Some(self.sh(scripts::SMALL_INIT_FAILED).await),
            // A root of the user's own has systemd or has no services that the lab could ask about; the command says which.
            (Some(_), Init::Systemd | Init::Unknown) => Some(self.sh(scripts::SYSTEMD_FAILED).await),
        };
        let init = match self.layout.init {
            Init::Systemd => "systemd",
            Init::Xenlab => "xenlab",
            Init::Unknown => "unknown",
        };
        Observation::Service(service::ServiceEvidence { init: init.into(), services, failed })
    }

    /// `process`
    pub async fn process(&mut self) -> Observation {
        Observation::Process(process::ProcessEvidence { table: self.sh(scripts::PROCESSES).await })
    }

    /// `file`
    pub async fn file(&mut self, step: &file::File) -> Observation {
        let path = scripts::quote(&step.path);
        let stat = self.sh(&format!("stat -c '%f %s' -- {path}")).await;
        let target =
            if step.target.is_some() { Some(self.sh(&format!("readlink -- {path}")).await) } else { None };
        let content =
            if step.content.is_some() { Some(self.sh(&format!("cat -- {path}")).await) } else { None };
        Observation::File(file::FileEvidence { stat, target, content })
    }
}
