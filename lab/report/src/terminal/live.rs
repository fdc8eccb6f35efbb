//! A line for each running case and each piece of work, moving; what has ended scrolls away above.

use super::{Style, outcome};
use crate::run::Run;
use crate::text::amount;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{self, Write};
use xenlab_model::escape;
use xenlab_model::event::{Event, What};

/// Redraws in a second: the display must cost next to nothing while it waits.
const HERTZ: u8 = 10;

pub(super) struct Live {
    display: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
    style: Style,
    run: Run,
}

impl Live {
    pub(super) fn new(style: Style) -> Self {
        let display = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(HERTZ));
        Live { display, bars: BTreeMap::new(), style, run: Run::default() }
    }

    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        self.run.apply(event);
        match &event.what {
            What::RunStarted { run, version, cases, .. } => {
                self.say(&format!("xenlab {}, run {}: {} cases", escape(version), escape(run), cases.len()))?;
            }
            What::ProgressEnded { task, seconds, error: Some(error) } => {
                self.say(&format!("{} failed after {seconds:.1} s: {}", escape(task), escape(error)))?;
            }
            What::Note { case, message } => {
                let case = case.as_ref().map(|c| format!("{}: ", escape(c))).unwrap_or_default();
                self.say(&format!("{} {case}{}", self.style.paint("33", "note:"), escape(message)))?;
            }
            What::CaseFinished { case, .. } => {
                if let Some(state) = self.run.cases.iter().find(|c| c.shown == *case) {
                    let line = outcome::ended(self.style, state);
                    self.say(&line)?;
                }
            }
            What::RunFinished { .. } => {
                for (_, bar) in std::mem::take(&mut self.bars) {
                    bar.finish_and_clear();
                }
                self.display.clear()?;
                // Past the display: a report may be longer than the terminal is high.
                io::stderr().write_all(outcome::report(self.style, &self.run).as_bytes())?;
                return Ok(());
            }
            _ => {}
        }
        self.tick(event.at);
        Ok(())
    }

    pub(super) fn tick(&mut self, at: f64) {
        if self.run.finished.is_some() {
            return;
        }
        let mut lines: Vec<(String, String)> = Vec::new();
        for task in &self.run.tasks {
            let amount = amount(task.done, task.total, &task.unit);
            let text = format!("{}  {amount}  {:.0} s", escape(&task.message), at - task.began);
            lines.push((format!("task {}", task.task), text));
        }
        for case in self.run.cases.iter().filter(|c| c.running()) {
            let seconds = at - case.began.unwrap_or(at);
            // What moves stands first: a narrow terminal cuts the end.
            let text = format!("{seconds:5.1} s  {:<12}  {}", escape(&case.doing()), escape(&case.shown));
            lines.push((format!("case {}", case.shown), text));
        }
        self.bars.retain(|key, bar| {
            let keep = lines.iter().any(|(k, _)| k == key);
            if !keep {
                bar.finish_and_clear();
                self.display.remove(bar);
            }
            keep
        });
        for (key, text) in lines {
            let display = &self.display;
            let bar = self.bars.entry(key).or_insert_with(|| display.add(bar()));
            bar.set_message(text);
            bar.tick();
        }
    }

    /// A line above the moving ones.
    fn say(&self, text: &str) -> io::Result<()> {
        self.display.println(text)
    }
}

/// A line that is a spinner and a message cut to the terminal's width.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}

impl Drop for Live {
    /// A run that ends before its end was told leaves no half-drawn lines behind.
    fn drop(&mut self) {
        // Nobody is left to tell of an error.
        let _ = self.display.clear();
    }
}
