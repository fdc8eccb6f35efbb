//! `junit.xml`: a test suite for each scenario, a test case for each case.

use crate::run::{CaseState, Run};
use crate::{ReportError, Reporter, file};
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;
use xenlab_model::case::Planned;
use xenlab_model::cause::Cause;
use xenlab_model::escape_lines;
use xenlab_model::event::{Event, What};
use xenlab_model::verdict::{CaseVerdict, Verdict};

/// Writes the file anew at the start, at each case's end and at the run's end. Until a case has a verdict it stands there as an error of
/// type `lab.interrupted`, which is what it is if the run is killed.
pub struct JUnit {
    path: PathBuf,
    run: Run,
}

impl JUnit {
    /// Writes to this file.
    pub fn new(path: PathBuf) -> Self {
        JUnit { path, run: Run::default() }
    }
}

impl Reporter for JUnit {
    fn name(&self) -> String {
        "junit.xml".into()
    }

    fn event(&mut self, event: &Event) -> Result<(), ReportError> {
        self.run.apply(event);
        match event.what {
            What::RunStarted { .. } | What::CaseFinished { .. } | What::RunFinished { .. } => {
                file::replace(&self.path, xml(&self.run)?.as_bytes())
            }
            _ => Ok(()),
        }
    }
}

/// The whole report.
fn xml(run: &Run) -> Result<String, ReportError> {
    let mut report = Report::new("xenlab");
    if let Some((_, seconds)) = run.finished {
        report.set_time(duration(seconds));
    }
    let mut names: Vec<&str> = Vec::new();
    for case in &run.cases {
        if !names.contains(&case.scenario()) {
            names.push(case.scenario());
        }
    }
    for name in names {
        let mut suite = TestSuite::new(name);
        suite.add_property(Property::new("xenlab.version", &run.version));
        suite.add_property(Property::new("xenlab.run", &run.id));
        suite.add_property(Property::new("xenlab.started", &run.started));
        let cases = || run.cases.iter().filter(|c| c.scenario() == name);
        suite.set_time(duration(cases().filter_map(|c| Some(c.verdict.as_ref()?.seconds)).sum()));
        suite.add_test_cases(cases().map(test_case));
        report.add_test_suite(suite);
    }
    report.to_string().map_err(|e| ReportError::Format { name: "junit.xml", message: e.to_string() })
}

fn test_case(case: &CaseState) -> TestCase {
    let Some(verdict) = &case.verdict else {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_type(Cause::Interrupted.code());
        status.set_message("the run ended, or was killed, before this case had a verdict");
        let mut test = TestCase::new(&case.shown, status);
        test.set_classname(case.scenario());
        return test;
    };
    let expected = verdict.as_expected();
    let mut status = match verdict.verdict {
        // Whoever reads the report must not take it for a failure, nor for a pass.
        _ if expected.is_some() => TestCaseStatus::skipped(),
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Verdict::Error | Verdict::NotReached => TestCaseStatus::non_success(NonSuccessKind::Error),
        Verdict::Skip => TestCaseStatus::skipped(),
    };
    if verdict.verdict != Verdict::Pass {
        let message = match (&verdict.message, &case.planned) {
            (m, Planned::Skip(because)) if m.is_empty() => because,
            (m, _) => m,
        };
        status.set_message(match expected {
            Some(entry) => {
                let word = verdict.verdict.word();
                escape_lines(&format!("{word}, expected: {}: {message}", entry.reason()))
            }
            None => escape_lines(message),
        });
        if let Some(cause) = verdict.cause {
            status.set_type(cause.code());
        }
        status.set_description(details(case, verdict));
    }
    let mut test = TestCase::new(&case.shown, status);
    test.set_classname(case.scenario());
    test.set_time(duration(verdict.seconds));
    test.set_assertions(verdict.steps.iter().map(|s| s.checks.len()).sum());
    let mut steps = steps(verdict);
    if let Some(expected) = &verdict.expected {
        let _ = writeln!(steps, "{}", escape_lines(&expected.said(verdict)));
    }
    if !steps.is_empty() {
        test.set_system_out(steps);
    }
    test
}

/// Whose fault, the control boot, the bundle, and how to do it again.
fn details(case: &CaseState, verdict: &CaseVerdict) -> String {
    let mut out = escape_lines(&verdict.message);
    out.push('\n');
    if let Some(cause) = verdict.cause {
        // What was expected blames nobody but whom the expectation does.
        let fault = match verdict.as_expected() {
            Some(_) => String::new(),
            None => format!(" ({})", crate::text::fault(verdict.blame)),
        };
        let _ = writeln!(out, "{cause}{fault}: {}", cause.meaning());
    }
    if let Some(control) = &verdict.control {
        let _ = writeln!(out, "control: {} ({}) {}", control.subject, control.because, control.outcome());
    }
    if let Some(expected) = &verdict.expected {
        let _ = writeln!(out, "expectation: {}", escape_lines(&expected.said(verdict)));
    }
    if !case.bundle.is_empty() {
        let _ = writeln!(out, "bundle: {}", case.bundle);
    }
    if !case.reproduce.is_empty() {
        let _ = writeln!(out, "again: {}", case.reproduce);
    }
    out
}

/// Every step and every check, a line each, and the values shown.
fn steps(verdict: &CaseVerdict) -> String {
    let mut out = String::new();
    for step in &verdict.steps {
        let title = escape_lines(&step.title);
        let on = step.origin.words().map(|on| format!(", {on}")).unwrap_or_default();
        let _ = writeln!(out, "{} {} {title} ({:.2} s{on})", step.verdict.word(), step.step, step.seconds);
        for check in &step.checks {
            let cause = check.cause.map(|c| format!(" [{c}]")).unwrap_or_default();
            let (name, message) = (escape_lines(&check.name), escape_lines(&check.message));
            let _ = writeln!(out, "  {} {name}{cause}: {message}", check.verdict.word());
            for (label, value) in &check.shown {
                let _ = writeln!(out, "    {label}: {}", escape_lines(value));
            }
        }
    }
    out
}

/// A number of seconds from outside: never negative, never beyond what a report can hold.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
