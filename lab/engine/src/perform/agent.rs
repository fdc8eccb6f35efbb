//! The step `agent`: what guests have published in the store is listed in dom0.

use super::dom0::Dom0;
use super::scripts::quote;
use std::time::Duration;
use xenlab_model::step::Observation;
use xenlab_model::step::agent::{Agent, AgentEvidence, Published};

/// Between two looks: a watch would tell, and cost a process that stays.
const AGAIN: Duration = Duration::from_millis(300);

impl Dom0<'_> {
    /// `agent`: looks until the contract is kept, or the limit passes.
    pub async fn agent(&mut self, step: &Agent) -> Observation {
        let mut domains = Vec::new();
        for domain in step.of.iter().flat_map(|guest| guest.domains()) {
            let limit = self.left();
            let script = format!(
                "d=$(xl domid {}) || exit\necho \"home /local/domain/$d\"\nxenstore-ls -f \"/local/domain/$d\"",
                quote(&domain)
            );
            let published = loop {
                let command = self.sh(&script).await;
                let (left, done) = (self.left(), !command.ok() || step.is_kept(&command.stdout.text));
                // What is looked at last must have time left to be listed.
                if done || left < AGAIN * 4 {
                    let timed_out = (!done || left.is_zero()).then_some(limit.as_secs_f64());
                    break Published { domain: domain.clone(), command, timed_out };
                }
                tokio::time::sleep(AGAIN).await;
            };
            domains.push(published);
        }
        Observation::Agent(AgentEvidence { domains })
    }
}
