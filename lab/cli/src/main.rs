//! The `xenlab` binary: the command line over the library's crates.

mod args;
mod attach;
mod bench;
mod bump;
mod colour;
mod diff;
mod display;
mod doctor;
mod explain;
mod failure;
mod history;
mod host_packages;
mod images;
mod inspect;
mod plan;
mod pool;
mod recipe;
mod repeat;
mod replay;
mod run;
mod select;
mod selftest;
mod shell;
mod templates;
mod xsa;
mod xtf;

use args::{Bench, Cli, Report, SchemaOf, Verb};
use clap::{CommandFactory, Parser};
use failure::Failure;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;
use xenlab_model::exit::Exit;

fn main() -> ExitCode {
    // The hidden sub-command that starts QEMU and every helper; never returns when it is one.
    xenlab_host::child::intercept();
    let started = Instant::now();
    if let Err(e) = xenlab_host::interrupt::install() {
        eprintln!("xenlab: cannot listen to signals: {e}");
        return ExitCode::from(Exit::Lab.code());
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let code = if e.use_stderr() { Exit::BadInput } else { Exit::Passed };
            let _ = e.print();
            return ExitCode::from(code.code());
        }
    };
    start_log();
    // A panic anywhere is the lab's own fault: exit 3, whatever thread it was on.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dispatch(cli, started)));
    let exit = match outcome {
        Ok(Ok(exit)) => exit,
        Ok(Err(failure)) => {
            if !failure.message.is_empty() {
                complain(&failure.message);
            }
            failure.exit
        }
        Err(_) => {
            complain("this is a bug in xenlab; please report it with the message above");
            Exit::Lab
        }
    };
    xenlab_host::interrupt::leave();
    let exit = if xenlab_host::interrupt::requested() { exit.worse(Exit::Interrupted) } else { exit };
    ExitCode::from(exit.code())
}

fn start_log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("XENLAB_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

fn dispatch(cli: Cli, started: Instant) -> Result<Exit, Failure> {
    let global = cli.global;
    match cli.verb {
        Verb::Run(args) => repeat::repeated(&args, &global, |once| run::run(once, &global, started)),
        Verb::Xtf(args) => repeat::repeated(&args.run, &global, |once| {
            let (of, run_as) = (args.of.clone(), args.run_as.clone());
            xtf::xtf(&args::Xtf { of, run_as, list: args.list, run: once.clone() }, &global, started)
        }),
        Verb::Pool(args) => pool::pool(&args, &global),
        Verb::List(args) => plan::list(&args),
        Verb::Validate(args) => plan::validate(&args),
        Verb::Explain(args) => explain::explain(&args, &global),
        Verb::Inspect(args) => inspect::inspect(&args, &global),
        Verb::Doctor(args) => doctor::doctor(&args, &global),
        Verb::Replay(args) => replay::replay(&args),
        Verb::Bump(args) => bump::bump(&args, &global, started),
        Verb::Diff(args) => diff::diff(&args, &global),
        Verb::Console(args) => attach::console(&args),
        Verb::Ssh(args) => attach::ssh(&args),
        Verb::Gdb(args) => attach::gdb(&args),
        Verb::Shell(args) => shell::shell(&args, &global, started),
        Verb::Xsa(args) => xsa::xsa(&args, &global),
        Verb::Selftest(args) => selftest::selftest(&args, &global),
        Verb::History(args) => history::history(&args, &global),
        Verb::Image(args) => images::image(&args, &global),
        Verb::Template(args) => templates::template(&args, &global),
        Verb::Bench(Bench::Boot { of, n }) => bench::boot(&of, n, &global),
        Verb::Bench(Bench::Warm { of, n }) => bench::warm(&of, n, &global),
        Verb::Bench(Bench::Xtf { of, run_as, xen, qemu, jobs, json }) => {
            let select = args::Scenarios { xen: vec![xen], qemu, ..Default::default() };
            let run = args::Run { select, jobs, ..Default::default() };
            bench::xtf(&args::Xtf { of, run_as, list: false, run }, json, &global)
        }
        Verb::Bench(Bench::Console { json }) => bench::console(json),
        Verb::Report(Report::Merge { out, shards }) => replay::merge(&out, &shards),
        Verb::Schema { of } => {
            let schema = match of {
                SchemaOf::Scenario => xenlab_model::scenario::schema(),
                SchemaOf::Expectations => xenlab_model::scenario::expectations_schema(),
            };
            let text = serde_json::to_string_pretty(&schema).map_err(anyhow::Error::from)?;
            print(&format!("{text}\n"))
        }
        Verb::Facts { json } => plan::facts(json),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "xenlab", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// Says on stderr what went wrong. A reader that is gone is no reason to panic, which would change the exit code.
pub fn complain(message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "xenlab: {message}");
}

/// Prints to stdout. A reader that has had enough (`| head`) is no failure.
pub fn print(text: &str) -> Result<Exit, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::lab(format!("cannot write to stdout: {e}")))
        }
        _ => Ok(Exit::Passed),
    }
}

/// 64 random bits: no two runs share them.
pub fn seed() -> u64 {
    xenlab_engine::random()
}
