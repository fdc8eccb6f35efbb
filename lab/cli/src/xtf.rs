//! `xenlab xtf`: the shipped scenario over the instances of a built XTF tree.

use crate::args::{Global, Xtf};
use crate::failure::Failure;
use crate::select::{self, Shipped};
use std::time::Instant;
use xenlab_engine::facts;
use xenlab_model::arch::Arch;
use xenlab_model::case::Case;
use xenlab_model::exit::Exit;
use xenlab_model::xtf::{Instance, Selection, Tree, Unknown};

/// The scenario.
const SHIPPED: Shipped =
    Shipped { file: "scenarios/xtf.yaml", text: include_str!("../../../scenarios/xtf.yaml") };

/// `xenlab xtf`
pub fn xtf(args: &Xtf, global: &Global, started: Instant) -> Result<Exit, Failure> {
    if args.list {
        let names: Vec<String> = instances(args)?.1.iter().map(Instance::to_string).collect();
        return crate::print(&(names.join("\n") + "\n"));
    }
    let cases = cases(args)?;
    crate::run::cases(&args.run, global, cases, &command(args), started)
}

/// The words that make the same selection again.
fn command(args: &Xtf) -> Vec<String> {
    let mut words = vec!["xtf".to_owned(), args.of.tree.display().to_string()];
    let lists = [
        ("--category", &args.of.category),
        ("--environment", &args.of.environment),
        ("--test", &args.of.test),
    ];
    for (flag, values) in lists {
        words.extend(values.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
    }
    if let Some(run_as) = &args.run_as {
        words.extend(["--as".to_owned(), run_as.clone()]);
    }
    words
}

/// The cases of the chosen instances.
pub fn cases(args: &Xtf) -> Result<Vec<Case>, Failure> {
    let (tree, instances) = instances(args)?;
    let mut select = args.run.select.clone();
    // What the tree has nothing for is said once, not once for each of its instances.
    let has = |arch: Arch| instances.iter().any(|i| i.arch() == Some(arch));
    if select.arch.is_empty() {
        select.arch = Arch::ALL.into_iter().filter(|a| has(*a)).map(|a| a.name().to_owned()).collect();
    } else {
        for name in &select.arch {
            let Ok(arch) = name.parse::<Arch>() else { continue };
            if !has(arch) {
                let environments: Vec<&str> = tree.environments().into_iter().collect();
                return Err(Failure::bad_input(format!(
                    "--arch {name}: this tree has no tests for {arch}: its environments are {}",
                    environments.join(", ")
                )));
            }
        }
    }
    let mut sets = vec![format!("vars.tree={}", absolute(args)?)];
    sets.extend(instances.iter().map(|instance| format!("vars.test={instance}")));
    if let Some(run_as) = &args.run_as {
        sets.push(format!("vars.run-as={run_as}"));
    }
    sets.append(&mut select.sets);
    select.sets = sets;
    let cases = select::cases_of(&select, &SHIPPED, &facts::host())?;
    Ok(cases)
}

fn absolute(args: &Xtf) -> Result<String, Failure> {
    let tree = &args.of.tree;
    let path =
        std::path::absolute(tree).map_err(|e| Failure::bad_input(format!("{}: {e}", tree.display())))?;
    // A scenario is text.
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::bad_input(format!("{}: expected a path that is UTF-8", tree.display())))
}

fn instances(args: &Xtf) -> Result<(std::sync::Arc<Tree>, Vec<Instance>), Failure> {
    let path = absolute(args)?;
    let tree = xenlab_engine::xtf::tree(&path).map_err(|message| {
        Failure::bad_input(format!(
            "{message}; expected the folder of a built XTF tree, with tests/NAME/info.json"
        ))
    })?;
    let split = |values: &[String]| -> Vec<String> {
        values.iter().flat_map(|v| v.split(',')).filter(|v| !v.is_empty()).map(str::to_owned).collect()
    };
    let selection = Selection {
        tree: path,
        category: split(&args.of.category),
        environment: split(&args.of.environment),
        test: split(&args.of.test),
    };
    let instances = tree.select(&selection).map_err(|unknown| {
        let lines: Vec<String> = unknown.iter().map(told).collect();
        Failure::bad_input(lines.join("\n"))
    })?;
    if instances.is_empty() {
        return Err(Failure::bad_input(
            "no instance of the tree is left by --category, --environment and --test; without --category and --test it is \
             functional and xsa, --category all is every one",
        ));
    }
    Ok((tree, instances))
}

fn told(unknown: &Unknown) -> String {
    if let Some(near) = &unknown.near {
        return format!("--{}: {}; did you mean `{near}`?", unknown.key, unknown.message);
    }
    let known = if unknown.known.len() <= 12 {
        format!("; expected one of {}", unknown.known.join(", "))
    } else {
        "; `xenlab xtf DIR --list --category all` has them all".to_owned()
    };
    format!("--{}: {}{known}", unknown.key, unknown.message)
}
