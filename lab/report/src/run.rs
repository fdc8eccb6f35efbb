//! The state of a run, built from its events: what most reporters show.

use xenlab_model::case::Planned;
use xenlab_model::event::{Event, What};
use xenlab_model::exit::Exit;
use xenlab_model::expectation::{Expected, Kind};
use xenlab_model::verdict::{CaseVerdict, StepVerdict, Verdict};

/// A run as its events tell it so far.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Identifies it.
    pub id: String,
    /// The lab's version.
    pub version: String,
    /// Start, as RFC 3339 in UTC.
    pub started: String,
    /// Every case, in the order of the plan.
    pub cases: Vec<CaseState>,
    /// Work that goes on and is no case's own.
    pub tasks: Vec<Task>,
    /// What the user was told, with the case it concerns.
    pub notes: Vec<(Option<String>, String)>,
    /// The end: exit code and seconds.
    pub finished: Option<(Exit, f64)>,
    /// It was interrupted.
    pub interrupted: bool,
    /// The last event's time.
    pub at: f64,
}

/// One case of a run.
#[derive(Debug, Clone)]
pub struct CaseState {
    /// `id @ subject`.
    pub shown: String,
    /// What was planned.
    pub planned: Planned,
    /// When it began.
    pub began: Option<f64>,
    /// The last boot phase reached.
    pub phase: Option<String>,
    /// The step that is being done: path and title.
    pub step: Option<(String, String)>,
    /// Steps judged so far.
    pub steps: Vec<StepVerdict>,
    /// Its bundle; empty when there is none.
    pub bundle: String,
    /// Its verdict.
    pub verdict: Option<CaseVerdict>,
    /// The command that does it again.
    pub reproduce: String,
}

impl CaseState {
    pub(crate) fn new(shown: &str, planned: Planned) -> Self {
        CaseState {
            shown: shown.to_owned(),
            planned,
            began: None,
            phase: None,
            step: None,
            steps: Vec::new(),
            bundle: String::new(),
            verdict: None,
            reproduce: String::new(),
        }
    }

    /// It has begun and not ended.
    pub fn running(&self) -> bool {
        self.began.is_some() && self.verdict.is_none()
    }

    /// The scenario's name: the id without its axes.
    pub fn scenario(&self) -> &str {
        let id = self.id_and_subject().0;
        id.split_once('[').map_or(id, |(name, _)| name)
    }

    /// The two parts of `id @ subject`. An id has no ` @ `, a subject may.
    pub fn id_and_subject(&self) -> (&str, &str) {
        self.shown.split_once(" @ ").unwrap_or((&self.shown, ""))
    }

    /// What it is doing, in a few words.
    pub fn doing(&self) -> String {
        match (&self.step, &self.phase) {
            (Some((_, title)), _) => title.clone(),
            (None, Some(phase)) => format!("boot: {phase}"),
            (None, None) => "preparing".into(),
        }
    }
}

/// Work that is no case's own.
#[derive(Debug, Clone)]
pub struct Task {
    /// Identifies it.
    pub task: String,
    /// What is being done now.
    pub message: String,
    /// So much done.
    pub done: u64,
    /// Of so much; 0 when not known.
    pub total: u64,
    /// `bytes`, or what the pieces are called.
    pub unit: String,
    /// When it began.
    pub began: f64,
}

impl Run {
    /// Takes the next event.
    pub fn apply(&mut self, event: &Event) {
        self.at = event.at;
        match &event.what {
            What::RunStarted { run, version, started, cases } => {
                (self.id, self.version, self.started) = (run.clone(), version.clone(), started.clone());
                for (shown, planned) in cases {
                    self.case(shown).planned = planned.clone();
                }
            }
            What::Progress { task, message, done, total, unit } => {
                let began = self.tasks.iter().find(|t| t.task == *task).map_or(event.at, |t| t.began);
                let new = Task {
                    task: task.clone(),
                    message: message.clone(),
                    done: *done,
                    total: *total,
                    unit: unit.clone(),
                    began,
                };
                match self.tasks.iter_mut().find(|t| t.task == *task) {
                    Some(old) => *old = new,
                    None => self.tasks.push(new),
                }
            }
            What::ProgressEnded { task, .. } => self.tasks.retain(|t| t.task != *task),
            What::Note { case, message } => self.notes.push((case.clone(), message.clone())),
            What::CaseStarted { case, bundle } => {
                let state = self.case(case);
                state.began = Some(event.at);
                state.bundle = bundle.clone();
            }
            What::Phase { case, phase, .. } => self.case(case).phase = Some(phase.clone()),
            // How long each part of the lab's work took is for `bench`, which reads events.jsonl.
            What::Stage { .. } => {}
            What::StepStarted { case, step, title } => {
                self.case(case).step = Some((step.clone(), title.clone()));
            }
            What::StepFinished { case, verdict } => {
                let state = self.case(case);
                if state.step.as_ref().is_some_and(|(path, _)| *path == verdict.step) {
                    state.step = None;
                }
                state.steps.push(verdict.clone());
            }
            What::CaseFinished { case, bundle, verdict, reproduce } => {
                let state = self.case(case);
                state.bundle = bundle.clone();
                state.reproduce = reproduce.clone();
                state.verdict = Some((**verdict).clone());
            }
            What::RunFinished { exit, seconds, interrupted, lab: _ } => {
                self.finished = Some((*exit, *seconds));
                self.interrupted = *interrupted;
            }
        }
    }

    /// The case of that name; one that the plan did not have is added rather than lost.
    fn case(&mut self, shown: &str) -> &mut CaseState {
        let at = match self.cases.iter().position(|c| c.shown == shown) {
            Some(at) => at,
            None => {
                self.cases.push(CaseState::new(shown, Planned::Run));
                self.cases.len() - 1
            }
        };
        &mut self.cases[at]
    }

    /// How many cases have each verdict, those that were expected apart, and how many have none.
    pub fn counts(&self) -> [(&'static str, usize); 9] {
        let verdicts = || self.cases.iter().filter_map(|c| c.verdict.as_ref());
        let count = |v: Verdict, expected: bool| {
            verdicts().filter(|x| x.verdict == v && x.as_expected().is_some() == expected).count()
        };
        let (of, expected) = (|v| count(v, false), |v| count(v, true));
        [
            ("passed", of(Verdict::Pass)),
            ("failed as expected", expected(Verdict::Fail)),
            ("with an error as expected", expected(Verdict::Error)),
            ("skipped as expected", expected(Verdict::Skip)),
            ("failed", of(Verdict::Fail)),
            ("with an error", of(Verdict::Error)),
            ("skipped", of(Verdict::Skip)),
            ("not reached", of(Verdict::NotReached)),
            ("without a verdict", self.cases.iter().filter(|c| c.verdict.is_none()).count()),
        ]
    }

    /// `4 cases: 3 passed, 1 failed`.
    pub fn tally(&self) -> String {
        let parts: Vec<String> =
            self.counts().iter().filter(|(_, n)| *n > 0).map(|(word, n)| format!("{n} {word}")).collect();
        let cases = if self.cases.len() == 1 { "case" } else { "cases" };
        if parts.is_empty() {
            "no cases".into()
        } else {
            format!("{} {cases}: {}", self.cases.len(), parts.join(", "))
        }
    }

    /// Cases that came to what was expected of them.
    pub fn as_expected(&self) -> impl Iterator<Item = (&CaseState, &CaseVerdict, &Expected)> {
        self.expected().filter(|(_, _, expected)| expected.kind == Kind::AsExpected)
    }

    /// Cases of which something else was expected, or was until a day that is over.
    pub fn otherwise(&self) -> impl Iterator<Item = (&CaseState, &CaseVerdict, &Expected)> {
        self.expected().filter(|(_, _, expected)| expected.kind != Kind::AsExpected)
    }

    fn expected(&self) -> impl Iterator<Item = (&CaseState, &CaseVerdict, &Expected)> {
        self.cases.iter().filter_map(|c| {
            let verdict = c.verdict.as_ref()?;
            Some((c, verdict, verdict.expected.as_ref()?))
        })
    }

    /// The exit code that these verdicts make, by the rule of all commands: a case without a verdict is the lab's loss, and
    /// nothing that passed or failed as expected is no success.
    pub fn exit(&self) -> Exit {
        let none = self.cases.iter().any(|c| c.verdict.is_none()).then_some(Exit::Lab);
        let interrupted = self.interrupted.then_some(Exit::Interrupted);
        let verdicts = self.cases.iter().filter_map(|c| c.verdict.as_ref()?.exit());
        verdicts.chain(none).chain(interrupted).reduce(Exit::worse).unwrap_or(Exit::Lab)
    }
}
