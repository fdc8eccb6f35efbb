//! Pass 3: from the tree of a file to its cases. Every value keeps the place it came from.

use super::config::{Config, Need};
use super::de::from_node;
use super::diagnostic::Diagnostic;
use super::guests;
use super::interpolate::{Names, environment_name};
use super::parts::{apply, defaults, has_bad, nonce, shown, variables, without};
use super::read::{Axis, Scenario};
use super::schema::Schemas;
use super::tree::{Kind, Node};
use super::walk::Walk;
use super::{Settings, known};
use crate::case::{Case, Planned};
use crate::condition::{Absent, Condition, Truth};
use crate::fact::{FactValue, Facts};
use crate::place::{Place, Places};
use crate::recipe::Recipe;
use crate::spec::Subject;
use crate::step::xtf::Known;
use crate::step::{At, Body, Step, xtf};
use std::collections::{BTreeMap, BTreeSet};

/// More points than this are a mistake in the matrix.
const MOST_CASES: usize = 10_000;

/// Makes the cases. Mistakes are appended to `diagnostics`; many are found once per case, and told apart by the caller.
pub(crate) fn cases(
    scenario: &Scenario,
    settings: &Settings,
    facts: &Facts,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Case> {
    let points = scenario.axes.iter().try_fold(1_usize, |n, axis| n.checked_mul(axis.values.len()));
    if points.is_none_or(|n| n > MOST_CASES) {
        let d = Diagnostic::new(&scenario.origin, "the matrix has too many points");
        diagnostics.push(d.expected(format!("at most {MOST_CASES}")));
        return Vec::new();
    }
    let mut cases: Vec<Case> = Vec::new();
    let mut point = vec![0; scenario.axes.len()];
    let mut excluded = 0;
    loop {
        let chosen: Vec<(&Axis, &Node)> =
            scenario.axes.iter().zip(&point).map(|(a, &i)| (a, &a.values[i])).collect();
        let mut maker = Maker {
            scenario,
            settings,
            facts,
            chosen: &chosen,
            diagnostics: Vec::new(),
            frozen: BTreeSet::new(),
        };
        match maker.case() {
            Made::Case(case) => cases.push(*case),
            Made::Excluded => excluded += 1,
            Made::Nothing => {}
        }
        diagnostics.append(&mut maker.diagnostics);
        if !advance(&mut point, &scenario.axes) {
            break;
        }
    }
    if diagnostics.is_empty() {
        twins(scenario, &cases, diagnostics);
    }
    if cases.is_empty() && excluded > 0 && diagnostics.is_empty() {
        let origin = scenario.exclude.first().map_or(&scenario.origin, |e| &e.origin);
        diagnostics.push(
            Diagnostic::new(origin, "`exclude` leaves no case").help("an empty selection is never a pass"),
        );
    }
    cases
}

/// The next point; the last axis turns fastest. False: there is none.
fn advance(point: &mut [usize], axes: &[Axis]) -> bool {
    for (at, axis) in point.iter_mut().zip(axes).rev() {
        *at += 1;
        if *at < axis.values.len() {
            return true;
        }
        *at = 0;
    }
    false
}

/// Two cases that cannot be told apart.
fn twins(scenario: &Scenario, cases: &[Case], diagnostics: &mut Vec<Diagnostic>) {
    let mut seen = BTreeSet::new();
    for case in cases {
        let subject = (case.subject.to_string(), case.subject.expect_version.clone());
        if !seen.insert((case.id.clone(), subject)) {
            let origin = scenario.axes.last().map_or(&scenario.origin, |a| &a.key.origin);
            let d = Diagnostic::new(origin, format!("two cases are called {}", case.shown()));
            diagnostics.push(d.help("take the repeated value out of its axis"));
        }
    }
}

enum Made {
    Case(Box<Case>),
    Excluded,
    Nothing,
}

struct Maker<'a> {
    scenario: &'a Scenario,
    settings: &'a Settings,
    facts: &'a Facts,
    chosen: &'a [(&'a Axis, &'a Node)],
    diagnostics: Vec<Diagnostic>,
    /// Names of the templates its set-up takes.
    frozen: BTreeSet<String>,
}

impl Maker<'_> {
    fn case(&mut self) -> Made {
        let scenario = self.scenario;
        let mut base = defaults();
        base.merge(scenario.base.clone());
        for entry in &scenario.overrides {
            let applies = match entry.get("when") {
                Some(when) => self.holds(when, &self.over(&base)),
                None => Some(true),
            };
            if applies == Some(true) {
                apply(&mut base, entry);
            }
        }
        let mut tree = self.over(&base);
        for condition in &scenario.exclude {
            if self.holds(condition, &tree) == Some(true) {
                return Made::Excluded;
            }
        }
        self.required(&mut tree);

        let names = Names::new(&tree, None);
        let axes: Vec<(String, String)> = self
            .chosen
            .iter()
            .map(|(axis, value)| (axis.key.text.clone(), shown(&names.resolve(value))))
            .collect();
        let mut undefined = names.diagnostics.into_inner();
        let outside: Vec<String> = self
            .chosen
            .iter()
            .zip(&axes)
            .filter(|((axis, _), _)| !axis.subject)
            .map(|(_, (k, v))| format!("{k}={v}"))
            .collect();
        let id = if outside.is_empty() {
            scenario.name.clone()
        } else {
            format!("{}[{}]", scenario.name, outside.join(","))
        };
        let nonce = nonce(self.settings.seed, &id, &axes, &tree);

        let names = Names::new(&tree, Some(&nonce));
        let mut resolved = names.resolve(&tree);
        let mut setup = names.resolve(&scenario.setup);
        let mut steps = names.resolve(&scenario.steps);
        let mut needs = names.resolve(&scenario.needs);
        undefined.append(&mut names.diagnostics.into_inner());
        self.diagnostics.append(&mut undefined);

        let vars = variables(&mut resolved);
        let config = self.config(&mut resolved);
        let mut facts = self.facts.clone();
        let subject = config.as_ref().map(|config| Subject {
            hypervisor: config.xen.build.clone(),
            tools: config.xen.tools.clone(),
            expect_version: config.xen.expect_version.clone(),
            recipe: Recipe { patches: config.xen.patches.clone(), options: config.xen.options.clone() },
        });
        facts.extend(&known::facts_of(&resolved, &vars, subject.as_ref()));
        let mut environment: BTreeMap<String, String> = vars
            .iter()
            .map(|(name, value)| (environment_name(&format!("vars.{name}")), value.clone()))
            .collect();
        environment.insert("RUN_NONCE".to_owned(), nonce.clone());
        if let Some(arch) = resolved.get("arch").and_then(Node::text) {
            environment.insert("ARCH".to_owned(), arch.to_owned());
        }
        // Looked at even without a configuration: every mistake is told at once.
        let mut typed_setup = self.steps(&mut setup, "setup", &environment, &facts);
        let mut typed_steps = self.steps(&mut steps, "steps", &environment, &facts);
        let (needs_left, plan) = self.needs(&mut needs, &facts);
        let said = |path: &str| resolved.at(path).filter(|n| n.origin.place != Place::Default);
        let cpus = said("machine.cpus").and_then(Node::text).and_then(|n| n.parse().ok());
        self.settle_run_as(&typed_setup, &mut typed_steps, &steps, cpus);
        let (Some(mut config), Some(subject)) = (config, subject) else { return Made::Nothing };
        if let Some(test) = crate::case::as_dom0(&typed_steps) {
            // Nobody needs the room that a Linux would, and a processor more is one more for Xen to start.
            if said("machine.cpus").is_none() {
                config.machine.cpus = crate::xtf::same_as_dom0(&test.test).unwrap_or(1);
                facts.set("machine.cpus", FactValue::Integer(i64::from(config.machine.cpus)));
            }
            if said("dom0.memory").is_none() {
                config.dom0.memory = xtf::DOM0_MEMORY;
                facts.set("dom0.memory", FactValue::Size(xtf::DOM0_MEMORY.0));
            }
        }
        for step in typed_setup.iter_mut().chain(&mut typed_steps) {
            guests::of_step(&mut step.body, &step.path, &config, [&setup, &steps], &mut self.diagnostics);
        }
        guests::leaks_of_something(&typed_setup, &typed_steps, &steps, &mut self.diagnostics);
        if !self.diagnostics.is_empty() {
            return Made::Nothing;
        }
        let plan = match crate::case::cannot(
            config.arch,
            typed_setup.iter().chain(&typed_steps),
            &facts,
            Absent::Unknown,
        ) {
            Some(why) => Planned::Skip(why),
            None => plan,
        };
        if typed_steps.is_empty() && !scenario.steps.items().is_empty() && self.diagnostics.is_empty() {
            let d = Diagnostic::new(&scenario.steps.origin, format!("no step is left in case {id}"));
            self.diagnostics
                .push(d.help("every step's `when` is false there: exclude the case, or give it a step"));
        }
        let mut places = Places::new();
        for (root, node) in [("", &resolved), ("setup", &setup), ("steps", &steps), ("needs", &needs)] {
            node.visit(root, &mut |path, node| {
                if !path.is_empty() {
                    places.insert(path.to_owned(), node.origin.place.clone());
                }
            });
        }
        Made::Case(Box::new(Case {
            id,
            scenario: scenario.name.clone(),
            file: scenario.file.clone(),
            tags: scenario.tags.clone(),
            axes,
            subject,
            config,
            vars,
            needs: needs_left,
            setup: typed_setup,
            steps: typed_steps,
            places,
            nonce,
            facts,
            plan,
            expectations: Vec::new(),
        }))
    }

    /// What was put over the file and its overrides: the axes' values, then the command line's.
    fn over(&self, base: &Node) -> Node {
        let mut tree = base.clone();
        for (axis, value) in self.chosen.iter().filter(|(axis, _)| !axis.from_command_line) {
            tree.put(&axis.path, (*value).clone());
        }
        for (path, value) in &self.scenario.sets {
            tree.put(path, value.clone());
        }
        for (axis, value) in self.chosen.iter().filter(|(axis, _)| axis.from_command_line) {
            tree.put(&axis.path, (*value).clone());
        }
        tree
    }

    /// Whether a condition over what planning knows holds in a configuration; `None` when it has a mistake, which
    /// is told elsewhere.
    fn holds(&mut self, condition: &Node, tree: &Node) -> Option<bool> {
        let names = Names::new(tree, None);
        let condition = from_node::<Condition>(&names.resolve(condition)).ok();
        // Only what it asks for: elsewhere there may be a `${run.nonce}`, which nothing here can know.
        let mut asked = Node::empty(tree.origin.clone());
        for (name, matcher) in condition.iter().flat_map(|c| &c.0) {
            for name in matcher.fact_names().into_iter().chain([name.as_str()]) {
                let path =
                    if name.starts_with("build.") { "xen.build" } else { Schemas::get().canonical(name) };
                if let Some(node) = tree.at(path) {
                    asked.put(path, names.resolve(node));
                }
            }
        }
        self.diagnostics.append(&mut names.diagnostics.into_inner());
        let vars = variables(&mut asked);
        let facts = known::facts_of(&asked, &vars, None);
        Some(condition?.evaluate(&facts, Absent::Nothing) == Truth::Holds)
    }

    /// Complains of variables that nobody gave, and marks them, so that the rest can be looked at.
    fn required(&mut self, tree: &mut Node) {
        for var in &self.scenario.vars {
            let path = format!("vars.{}", var.key.text);
            if var.required && tree.at(&path).is_none() {
                self.diagnostics.push(var.not_given());
                tree.put(&path, Node { origin: var.key.origin.clone(), kind: Kind::Bad });
            }
        }
    }

    fn config(&mut self, tree: &mut Node) -> Option<Config> {
        let before = self.diagnostics.len();
        let missing = |what: &str, key: &str, how: &str| {
            Diagnostic::new(&self.scenario.origin, format!("{what} is not said"))
                .help(format!("add `{key}` to the file, make it an axis of `matrix`, or give {how}"))
        };
        let mut lacks = Vec::new();
        if tree.get("arch").is_none() {
            lacks.push(missing("the architecture", "arch: x86_64", "--arch x86_64"));
        }
        if tree.at("xen.build").is_none() {
            lacks.push(missing("which Xen build to boot", "xen: debian:bookworm", "--xen debian:bookworm"));
        }
        if !lacks.is_empty() {
            // A section with a mistake of its own may well have been meant to say it.
            if !self.scenario.mistakes {
                self.diagnostics.append(&mut lacks);
            }
            return None;
        }
        let mut walk = Walk::resolved(&self.scenario.variables);
        walk.value(tree, &walk.schemas.config, "");
        self.diagnostics.append(&mut walk.diagnostics);
        let sound = self.diagnostics.len() == before && !has_bad(tree);
        let rest = if sound { None } else { Some(without(tree, &self.diagnostics)) };
        let tree = rest.as_ref().unwrap_or(tree);
        match from_node::<Config>(tree) {
            Ok(config) => {
                super::semantic::config(&config, tree, &mut self.diagnostics);
                sound.then_some(config)
            }
            Err(e) => {
                if sound {
                    self.diagnostics.push(e.diagnostic(&tree.origin));
                }
                None
            }
        }
    }

    /// The steps that are part of the case, in order; `node` gets its shorthands written out.
    fn steps(
        &mut self,
        node: &mut Node,
        root: &str,
        environment: &BTreeMap<String, String>,
        facts: &Facts,
    ) -> Vec<Step> {
        let Kind::List(items) = &mut node.kind else { return Vec::new() };
        let mut steps = Vec::new();
        for (i, item) in items.iter_mut().enumerate() {
            if let Some(step) = self.step(item, format!("{root}[{i}]"), environment, facts) {
                steps.push(step);
            }
        }
        steps
    }

    fn step(
        &mut self,
        node: &mut Node,
        path: String,
        environment: &BTreeMap<String, String>,
        facts: &Facts,
    ) -> Option<Step> {
        let before = self.diagnostics.len();
        let mut walk = Walk::resolved(&self.scenario.variables);
        let schema = serde_json::json!({"$ref": "#/$defs/Step"});
        walk.value(node, &schema, "steps");
        self.diagnostics.append(&mut walk.diagnostics);
        let sound = self.diagnostics.len() == before && !has_bad(node);
        // What is left of a step with mistakes is looked at too: its patterns may be wrong as well.
        let rest = if sound { None } else { Some(without(node, &self.diagnostics)) };
        let node = rest.as_ref().unwrap_or(node);
        let (key, body) =
            node.entries().iter().find(|(k, _)| !super::file::STEP_KEYS.contains(&k.text.as_str()))?;
        let mut body = match Body::read(&key.text, body)? {
            Ok(typed) => {
                super::semantic::step(&typed, key, body, sound, &mut self.diagnostics);
                typed
            }
            Err(e) => {
                if sound {
                    self.diagnostics.push(e.diagnostic(&key.origin));
                }
                return None;
            }
        };
        if let Body::Run(run) = &mut body
            && run.script.is_some()
        {
            run.env = environment.clone();
            if path.starts_with("setup") {
                // What a template depends on: cases that differ in what its set-up does not look at share it.
                let script = run.script.as_deref().unwrap_or_default();
                run.env.retain(|name, _| script.contains(name.as_str()));
            }
        }
        if let Body::Xtf(xtf) = &mut body {
            let body = node.get(&key.text).unwrap_or(node);
            self.known(xtf, body);
        }
        if let Body::Freeze(freeze) = &body {
            self.freeze(&freeze.name, &path, key);
        }
        let when = node.get("when").and_then(|n| from_node::<Condition>(n).ok());
        let within = node.get("within").and_then(|n| from_node::<crate::units::GuestDuration>(n).ok());
        if let Some(origin) = within.filter(|w| w.0.is_zero()).and(node.get("within")).map(|n| &n.origin) {
            self.diagnostics.push(
                Diagnostic::new(origin, "`within` is 0: the step could never end in time")
                    .expected("more than 0"),
            );
        }
        let when = match when.as_ref().map(|w| w.evaluate(facts, Absent::Unknown)) {
            None | Some(Truth::Holds) => None,
            Some(Truth::Fails(_)) => return None,
            Some(Truth::Unknown(_)) => when,
        };
        Some(Step {
            path,
            name: node.get("name").and_then(Node::text).map(str::to_owned),
            when,
            within,
            body,
        })
    }

    /// As what XTF instances run, where that is not said; one that is dom0 leaves no dom0 to other steps.
    fn settle_run_as(&mut self, setup: &[Step], steps: &mut [Step], node: &Node, cpus: Option<u32>) {
        let on_machine = setup.iter().chain(steps.iter()).filter(|s| s.body.at() != At::Build).count();
        for step in steps {
            let Body::Xtf(body) = &mut step.body else { continue };
            body.run_as = body.settled(on_machine == 1, cpus);
            if body.run_as == xtf::RunAs::Dom0 && on_machine != 1 {
                let index = step.path.trim_start_matches("steps[").trim_end_matches(']').parse::<usize>();
                let own = index.ok().and_then(|i| node.items().get(i)?.get("xtf"));
                let at = own.map_or(&node.origin, |n| n.get("run-as").map_or(&n.origin, |n| &n.origin));
                let d =
                    Diagnostic::new(at, "an instance that runs as dom0 leaves no dom0 to the other steps");
                self.diagnostics.push(d.help("`run-as: domU`, or a scenario of its own"));
            }
        }
    }

    /// What the tree says of an instance.
    fn known(&mut self, xtf: &mut xtf::Xtf, body: &Node) {
        let at = |key: &str| body.get(key).map_or(&body.origin, |n| &n.origin);
        let Some(tree) = self.settings.trees.read(&xtf.tree, at("tree"), &mut self.diagnostics) else {
            return;
        };
        match tree.find(&xtf.test) {
            Some((instance, test)) => {
                xtf.known = Some(Known { instance, category: test.category.clone() });
            }
            None => {
                let d = Diagnostic::new(at("test"), format!("this tree has no instance `{}`", xtf.test));
                let known: Vec<String> = tree.instances().iter().map(|(i, _)| i.to_string()).collect();
                self.diagnostics.push(
                    d.expected("test-ENVIRONMENT-NAME, and ~VARIATION where the test has some")
                        .nearest(&xtf.test, known.iter().map(String::as_str)),
                );
            }
        }
    }

    /// A `freeze` is in place in `setup`, once for each name.
    fn freeze(&mut self, name: &str, path: &str, key: &super::tree::Key) {
        let wrong = if !path.starts_with("setup") {
            Some(
                Diagnostic::new(&key.origin, "`freeze` takes a template of what cases start from")
                    .help("put it into `setup`"),
            )
        } else if !self.frozen.insert(name.to_owned()) {
            Some(
                Diagnostic::new(&key.origin, format!("there is a template `{name}` already"))
                    .expected("another name"),
            )
        } else {
            None
        };
        self.diagnostics.extend(wrong);
    }

    /// The needs that cannot be decided yet, and what is planned.
    fn needs(&mut self, node: &mut Node, facts: &Facts) -> (Vec<Need>, Planned) {
        let mut walk = Walk::resolved(&self.scenario.variables);
        let schema = serde_json::json!({"type": "array", "items": {"$ref": "#/$defs/Need"}});
        walk.value(node, &schema, "needs");
        let sound = walk.diagnostics.is_empty() && !has_bad(node);
        self.diagnostics.append(&mut walk.diagnostics);
        match from_node::<Vec<Need>>(node) {
            Ok(needs) if sound => crate::case::plan(needs, facts, Absent::Unknown),
            _ => (Vec::new(), Planned::Run),
        }
    }
}
