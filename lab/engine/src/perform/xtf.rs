//! The `xtf` step: an instance of the Xen Test Framework, as a domain that dom0 makes or as dom0 straight on Xen.

use super::dom0::Dom0;
use super::scripts::{self, quote};
use crate::hub::{Hub, State};
use crate::wait::{Allowed, Phases, Watch};
use crate::xtf::{self, Guest};
use regex::Regex;
use std::path::Path;
use std::time::Duration;
use xenlab_console::Speaker;
use xenlab_model::cause::Cause;
use xenlab_model::evidence::{Captured, CommandEnd, CommandResult, Loss, MachineEnd, WaitEnd};
use xenlab_model::fact::Facts;
use xenlab_model::step::Observation;
use xenlab_model::step::xtf::{RunAs, Xtf, XtfEvidence};

/// Where an instance's files are in dom0.
const FOLDER: &str = "/run/xenlab-xtf";

/// Guest time for reading what a guest wrote, once its own limit has passed.
const GRACE: Duration = Duration::from_secs(10);

/// What Xen said is kept up to so many lines: a test that makes it talk says what it has to say in the first and the last.
const XEN_LINES: usize = 64;

impl Dom0<'_> {
    /// `xtf`, as a domain. `xl` stays with it (`-F`) until it has ended, and what it wrote is read from the log of Xen's console daemon, which
    /// is `xtf-runner --results-mode=logfile`.
    pub async fn xtf(
        &mut self,
        step: &Xtf,
        facts: &Facts,
        hub: &Hub,
        limit: Duration,
    ) -> Result<Observation, Loss> {
        let begun = hub.state().next_line();
        let (of, on) = (step.clone(), facts.clone());
        let guest = crate::blocking(move || xtf::guest(&of, FOLDER, &on))
            .await
            .map_err(|e| Loss::Lab { code: e.cause().code().to_owned(), message: e.to_string() })?;
        let mut evidence = XtfEvidence {
            run_as: RunAs::DomU,
            image: guest.digest.clone(),
            config: guest.config.clone(),
            caps: None,
            run: None,
            timed_out: None,
            console: Captured::default(),
            xen: Vec::new(),
        };
        // Whoever asks over this port is a PV domain on Xen: what needs no more than that can run.
        if step.known.as_ref().is_none_or(|known| known.instance.needs().iter().any(|need| *need != "pv")) {
            let caps = self.sh("xl info virt_caps && xl info xen_caps").await;
            let lacks = step.lacks(&caps, facts);
            evidence.caps = Some(caps);
            if !matches!(lacks, Ok(None)) {
                return Ok(Observation::Xtf(evidence));
            }
        }
        let name = &step.test;
        let log = format!("/var/log/xen/console/guest-{name}.log");
        let run = self.create(&guest, &log).await;
        match &run.end {
            CommandEnd::TimedOut(_) => {
                evidence.timed_out = Some(limit.as_secs_f64());
                let said = self.ways.run(&self.script(&format!("cat {}", quote(&log))), GRACE).await;
                evidence.console = said.stdout;
            }
            _ => evidence.console = run.stdout.clone(),
        }
        evidence.run = Some(CommandResult { stdout: Captured::default(), ..run });
        evidence.xen = of_xen(hub, begun);
        Ok(Observation::Xtf(evidence))
    }

    /// Puts the instance into dom0 and runs it until it has ended; its console is the standard output.
    async fn create(&mut self, guest: &Guest, log: &str) -> CommandResult {
        let config = format!("{FOLDER}/cfg");
        let mut files: Vec<(String, &[u8])> =
            guest.files.iter().map(|(name, bytes)| (format!("{FOLDER}/{name}"), bytes.as_slice())).collect();
        files.push((config.clone(), guest.config.as_bytes()));
        let (config, log) = (quote(&config), quote(log));
        // What `xl` itself says goes where its complaints go. A log of an earlier domain of that name is not this one's.
        let last = format!(
            "rm -f {log}\nxl create -F {config} >&2 </dev/null\ns=$?\n[ -e {log} ] && cat {log}\nexit $s"
        );
        let mut scripts = scripts::put_files(&files, &last);
        let last = scripts.pop().unwrap_or_default();
        for script in scripts {
            let put = self.sh(&script).await;
            if !put.ok() {
                return put;
            }
        }
        self.sh(&last).await
    }
}

/// What Xen wrote to its console since the line of that number.
pub(super) fn of_xen(hub: &Hub, since: u64) -> Vec<String> {
    of_guest(hub, None, since)
}

/// The same, and whatever it wrote before that names the domain of that number: one that ends has often done so a step ago.
pub(super) fn of_guest(hub: &Hub, id: Option<u32>, since: u64) -> Vec<String> {
    let names =
        id.and_then(|id| Regex::new(&format!(r"\b(?:d{id}(?:v\d+)?|[Dd]om(?:ain)?[ #]?{id})\b")).ok());
    let state = hub.state();
    let lines = state.lines_from(0).filter(|l| {
        l.speaker == Speaker::Xen
            && (l.number >= since || names.as_ref().is_some_and(|names| names.is_match(&l.text)))
    });
    shortened(lines.map(|l| l.text.clone()).collect())
}

/// No more than [`XEN_LINES`]: the first and the last.
fn shortened(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > XEN_LINES {
        let left_out = lines.len() - XEN_LINES;
        let rest = lines.split_off(lines.len() - XEN_LINES / 2);
        lines.truncate(XEN_LINES / 2);
        lines.push(format!("({left_out} lines left out)"));
        lines.extend(rest);
    }
    lines
}

/// `xtf`, as dom0 straight on Xen: it has ended when Xen says that dom0 has. `image` is the SHA-256 of its kernel.
pub async fn as_dom0(
    image: String,
    watch: &Watch<'_>,
    limit: Duration,
    record: &Path,
    ended: impl Future<Output = MachineEnd>,
) -> Result<Observation, Loss> {
    // Xen's last word on a dom0: nothing that matters comes after it.
    let over = |state: &State| {
        let mut lines = state.lines_from(0);
        lines.any(|l| l.speaker == Speaker::Xen && l.text.contains("Hardware Dom0 "))
    };
    let end = watch.until(Allowed { limit, phases: Phases::None }, ended, over).await;
    let mut timed_out = None;
    match end {
        WaitEnd::Reached => {}
        // As a domain it would have crashed, or been ended by `on_reboot`; the host would have stood.
        WaitEnd::Failed { code, .. } if code.starts_with("dom0.") => {}
        WaitEnd::Failed { code, line } => return Err(Loss::Guest { code, line, told: Vec::new() }),
        WaitEnd::Ended(end) => return Err(Loss::Machine(end)),
        WaitEnd::Interrupted => return Err(Loss::Interrupted),
        WaitEnd::TimedOut { .. } | WaitEnd::Stalled { .. } => timed_out = Some(limit.as_secs_f64()),
    }
    let internal = |message: String| Loss::Lab { code: Cause::LabInternal.code().to_owned(), message };
    let bytes = std::fs::read(record).map_err(|e| internal(format!("{}: {e}", record.display())))?;
    let total = watch.hub.state().total;
    let lines = xenlab_console::lines(&bytes);
    // What comes before Xen's first line is firmware's.
    let lines = lines.iter().skip_while(|l| l.speaker != Speaker::Xen);
    let (xen, own): (Vec<_>, Vec<_>) = lines.partition(|l| l.speaker == Speaker::Xen);
    let text: String = own.iter().flat_map(|l| [&*l.text, "\n"]).collect();
    let cut = u64::try_from(bytes.len()).is_ok_and(|kept| kept < total);
    // Of Xen's own boot nothing is said; of the end of dom0, all.
    let boot = xen.iter().rposition(|l| l.text.contains("init memory")).map_or(0, |at| at + 1);
    Ok(Observation::Xtf(XtfEvidence {
        run_as: RunAs::Dom0,
        image,
        config: String::new(),
        caps: None,
        run: None,
        timed_out,
        console: Captured { total: text.len() as u64, text, cut },
        xen: shortened(xen.iter().skip(boot).map(|l| l.text.to_string()).collect()),
    }))
}
