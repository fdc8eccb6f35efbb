//! Lines, for CI logs and pipes: each event that matters is one, and while something goes on there is never long nothing.

use super::{Style, outcome};
use crate::run::Run;
use crate::text::amount;
use std::io::{self, Write};
use xenlab_model::case::Planned;
use xenlab_model::escape;
use xenlab_model::event::{Event, What};

/// Seconds without a line, while something goes on, after which there is one. With the tick of the fan that is below 2 s.
const QUIET: f64 = 1.8;

pub(super) struct Plain {
    to: Box<dyn Write + Send>,
    style: Style,
    run: Run,
    /// When the last line was written.
    last: f64,
}

impl Plain {
    pub(super) fn new(to: Box<dyn Write + Send>, style: Style) -> Self {
        Plain { to, style, run: Run::default(), last: 0.0 }
    }

    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        let known = |run: &Run, task: &str| run.tasks.iter().any(|t| t.task == task);
        let before = matches!(&event.what, What::Progress { task, .. } if known(&self.run, task));
        self.run.apply(event);
        match &event.what {
            What::RunStarted { run, version, cases, .. } => {
                let skipped = cases.iter().filter(|(_, p)| matches!(p, Planned::Skip(_))).count();
                let skipped =
                    if skipped > 0 { format!(", {skipped} of them skipped") } else { String::new() };
                let line = format!(
                    "xenlab {}, run {}: {} cases{skipped}",
                    escape(version),
                    escape(run),
                    cases.len()
                );
                self.line(event.at, &line)
            }
            // The first of each piece of work; how far it is comes with the lines that say what goes on.
            What::Progress { message, .. } if !before => self.line(event.at, &escape(message)),
            What::Progress { .. } => self.tick(event.at),
            What::ProgressEnded { task, seconds, error } => {
                let end = match error {
                    Some(error) => format!("failed after {seconds:.1} s: {}", escape(error)),
                    None if *seconds < 0.1 => return Ok(()),
                    None => format!("done ({seconds:.1} s)"),
                };
                self.line(event.at, &format!("{}: {end}", escape(task)))
            }
            What::Note { case, message } => {
                let case = case.as_ref().map(|c| format!("{}: ", escape(c))).unwrap_or_default();
                self.line(event.at, &format!("note: {case}{}", escape(message)))
            }
            What::CaseStarted { case, .. } => self.line(event.at, &format!("{}: started", escape(case))),
            What::Phase { case, phase, seconds } => {
                self.line(event.at, &format!("{}: {} after {seconds:.1} s", escape(case), escape(phase)))
            }
            What::StepStarted { .. } | What::Stage { .. } => self.tick(event.at),
            What::StepFinished { case, verdict } => {
                let line = format!(
                    "{}: {} {} {} ({:.1} s{})",
                    escape(case),
                    verdict.verdict.word(),
                    verdict.step,
                    escape(&verdict.title),
                    verdict.seconds,
                    verdict.origin.words().map(|on| format!(", {on}")).unwrap_or_default()
                );
                self.line(event.at, &line)
            }
            What::CaseFinished { case, .. } => {
                let line =
                    self.run.cases.iter().find(|c| c.shown == *case).map(|c| outcome::ended(self.style, c));
                self.line(event.at, &line.unwrap_or_default())
            }
            What::RunFinished { .. } => {
                self.last = event.at;
                let report = outcome::report(self.style, &self.run);
                self.to.write_all(report.as_bytes())?;
                self.to.flush()
            }
        }
    }

    /// Says what goes on, when nothing was said for a while.
    pub(super) fn tick(&mut self, at: f64) -> io::Result<()> {
        if at - self.last < QUIET || self.run.finished.is_some() {
            return Ok(());
        }
        let mut doing: Vec<String> = Vec::new();
        for task in &self.run.tasks {
            let amount = amount(task.done, task.total, &task.unit);
            let gap = if amount.is_empty() { "" } else { " " };
            doing.push(format!("{}{gap}{amount} ({:.0} s)", escape(&task.message), at - task.began));
        }
        for case in self.run.cases.iter().filter(|c| c.running()) {
            let seconds = at - case.began.unwrap_or(at);
            doing.push(format!("{}: {} ({seconds:.0} s)", escape(&case.shown), escape(&case.doing())));
        }
        if doing.is_empty() {
            // Between two pieces of work: planning, or waiting for room.
            let left = self.run.cases.iter().filter(|c| c.verdict.is_none()).count();
            let cases = if left == 1 { "case" } else { "cases" };
            doing.push(if left > 0 {
                format!("{left} {cases} left")
            } else {
                format!("working ({at:.0} s)")
            });
        }
        for line in doing {
            self.line(at, &format!("… {line}"))?;
        }
        Ok(())
    }

    fn line(&mut self, at: f64, text: &str) -> io::Result<()> {
        self.last = at;
        // One write, so that lines of other programs do not end up inside.
        let line = format!("{} {text}\n", self.style.paint("2", &format!("[{at:7.1} s]")));
        self.to.write_all(line.as_bytes())?;
        self.to.flush()
    }
}
