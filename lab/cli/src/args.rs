//! The command line.

use crate::recipe::RecipeArgs;
use clap::{Args, Parser, Subcommand, ValueHint};
use std::path::PathBuf;

/// Boots a freshly built Xen with a real dom0 inside QEMU and says whether it is good.
///
/// Exit codes: 0 every case passed or failed as expected, 1 something was judged and failed, 2 bad input, 3 the lab itself could not do it,
/// 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "xenlab", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
    #[command(flatten)]
    pub global: Global,
}

#[derive(Debug, Args)]
pub struct Global {
    /// Use nothing but this machine and what is already in the store
    #[arg(long, global = true)]
    pub offline: bool,
    /// Use exactly what the locks name; exit 3 when an archive no longer has it
    #[arg(long, global = true)]
    pub locked: bool,
    /// The store's folder [default: $XENLAB_STORE, else xenlab below the user's cache folder]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub store: Option<PathBuf>,
    /// Install missing host packages with the system's package manager (needs root or sudo)
    #[arg(long, global = true)]
    pub install: bool,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Boot and judge every case of the scenarios
    Run(Run),
    /// Run the instances of a built XTF tree (the Xen Test Framework), each in a machine of its own
    Xtf(Xtf),
    /// Keep machines of the scenarios' templates waiting, for runs of this user to begin with
    Pool(Pool),
    /// List the cases of the scenarios, and what is planned for each
    List(List),
    /// Check scenarios and files of expectations without doing anything
    Validate(Scenarios),
    /// Say what would be built and booted, with QEMU's command line, and what would be skipped and why
    Explain(Explain),
    /// Say what a Xen build is: versions, build-id, compiler, config, EFI image, links, modules, tools, what is missing
    Inspect(Inspect),
    /// Say what this host can do, and what to install
    Doctor(Doctor),
    /// Judge a recorded run again, without QEMU
    Replay(Replay),
    /// Is the new Xen as good as the one it replaces: run the checklist of a version bump on both, and compare them
    Bump(Bump),
    /// Compare two recorded runs: what got worse, what was not checked, what was seen otherwise
    Diff(Diff),
    /// Boot or clone one case's machine and work in its dom0
    Shell(Box<Shell>),
    /// Show the console of a machine that is kept, and type on it (Ctrl-] leaves)
    Console(Attach),
    /// Log in to the dom0 of a machine that is kept, or run a command there
    Ssh(AttachSsh),
    /// Look at a machine that is kept with gdb, with Xen's symbols where the build has them
    Gdb(AttachGdb),
    /// Security advisories: which of a feed's a Xen build has the fixes of, and which are open
    Xsa(Box<Xsa>),
    /// What earlier runs came to: every case, or one over Xen builds and time
    History(History),
    /// The store: sizes, what uses what
    #[command(subcommand)]
    Image(Image),
    /// Frozen machines that cases start from: sizes, why one was made again
    #[command(subcommand)]
    Template(Template),
    /// Measure the lab itself
    #[command(subcommand)]
    Bench(Bench),
    /// Would the lab notice: plant faults in good artefacts, and see that each is caught and no good run is blamed
    Selftest(Selftest),
    /// Work on reports
    #[command(subcommand)]
    Report(Report),
    /// Print the JSON Schema of scenarios, or of files of expectations, for editors
    Schema {
        /// Of what
        #[arg(value_enum, default_value_t = SchemaOf::Scenario)]
        of: SchemaOf,
    },
    /// List the facts and key paths that conditions and matchers can name
    Facts {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// What has a schema.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum SchemaOf {
    /// Scenarios
    Scenario,
    /// Files of expectations
    Expectations,
}

/// What chooses scenarios and cases; the same for every command that takes scenarios.
#[derive(Debug, Args, Default, Clone)]
pub struct Scenarios {
    /// Scenario files [default: the shipped dom0-boot]
    #[arg(value_name = "SCENARIO", value_hint = ValueHint::FilePath)]
    pub scenarios: Vec<PathBuf>,
    #[arg(long, value_name = "SPEC",
          help = format!("The Xen build under test: {}; repeated, each in turn", xenlab_model::spec::XEN_SPEC_FORMS))]
    pub xen: Vec<String>,
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Take tools and development files from this build
    #[arg(long, value_name = "SPEC")]
    pub tools: Option<String>,
    /// The version that the build must be
    #[arg(long, value_name = "VERSION")]
    pub expect_version: Option<String>,
    /// Architecture: x86_64 or aarch64; repeated, each in turn
    #[arg(long, value_name = "ARCH")]
    pub arch: Vec<String>,
    /// Put a value at a key path, in place of the scenario's; repeated for one path, each in turn
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// The QEMU binary
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub qemu: Option<PathBuf>,
    /// Only the case with this id (as `list` prints it), or with this part of one; repeated, any of them
    #[arg(long = "case", value_name = "ID")]
    pub cases: Vec<String>,
    /// Only scenarios with this tag
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// The K-th of N parts of all cases, as 1/3
    #[arg(long, value_name = "K/N")]
    pub shard: Option<String>,
    /// A file of expectations: skips that are accepted, failures that are known; repeated, all of them count
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub expectations: Vec<PathBuf>,
}

#[derive(Debug, Args, Default, Clone)]
pub struct Run {
    #[command(flatten)]
    pub select: Scenarios,
    /// How many cases side by side at most [default: as many as cores]; XENLAB_BUDGET says how many machines all labs on this
    /// host may run: off, or any of cores=N, memory=SIZE, dir=PATH with commas between [default: what the host has]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Write junit.xml, events.jsonl, summary.md and the bundles into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub report: Option<PathBuf>,
    /// Do not boot a Xen known to be good when the one under test never speaks
    #[arg(long)]
    pub no_control: bool,
    /// Boot every case from power-on, in place of starting clones of machines that have booted once
    #[arg(long)]
    pub cold: bool,
    /// Leave the machine of a case that failed frozen, for gdb, until Ctrl-C or for an hour; every case boots from power-on
    #[arg(long, value_enum, value_name = "failed|all|none", default_value_t = Keep::None, hide_possible_values = true,
          hide_default_value = true)]
    pub keep: Keep,
    /// Run every case so often, and say how often it passed; with --report in folders 1, 2, …
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = repeats)]
    pub repeat: usize,
    /// Break this on purpose (a row of verbs::faults), to see that it is caught; brings its own scenario
    #[arg(long, value_name = "ROW", hide = true, conflicts_with_all = ["scenarios", "xen"])]
    pub plant: Option<String>,
    /// With --plant: only the row's scenario, with nothing planted and no limit that is short because of it
    #[arg(long, hide = true, requires = "plant")]
    pub unplanted: bool,
}

/// Which machines stay when their case is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Keep {
    /// Those of cases that did not pass
    Failed,
    /// All
    All,
    /// None
    #[default]
    None,
}

/// How often, at least once.
fn repeats(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1000) => Ok(n),
        _ => Err("expected a number from 1 to 1000".to_owned()),
    }
}

/// What chooses instances of XTF.
#[derive(Debug, Args, Clone)]
pub struct XtfOf {
    /// The tree, built
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub tree: PathBuf,
    /// Only tests of this category, or of all [default: functional and xsa, or what --test names]
    #[arg(long, value_name = "CATEGORY")]
    pub category: Vec<String>,
    /// Only in this environment, as pv64; pv and hvm stand for all that begin so
    #[arg(long, value_name = "ENVIRONMENT")]
    pub environment: Vec<String>,
    /// Only this test or instance: NAME, ENVIRONMENT-NAME, with ~VARIATION or without
    #[arg(long, value_name = "TEST")]
    pub test: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Xtf {
    #[command(flatten)]
    pub of: XtfOf,
    /// As what instances run: domU, as xtf-runner runs them; or auto: straight on Xen in dom0's place where that was measured to be
    /// the same test [default: auto]
    #[arg(long = "as", value_name = "domU|auto", value_parser = ["domU", "auto", "dom0"], hide_possible_values = true)]
    pub run_as: Option<String>,
    /// Print the chosen instances and do nothing
    #[arg(long)]
    pub list: bool,
    #[command(flatten)]
    pub run: Run,
}

#[derive(Debug, Args)]
pub struct Pool {
    #[command(flatten)]
    pub select: Scenarios,
    /// How many machines of each template wait
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub size: usize,
    /// End when nobody has taken a machine for so long, as 90s or 10m
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    pub idle: String,
}

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    pub select: Scenarios,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    pub select: Scenarios,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// The Xen build
    pub spec: String,
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Its tools, where they are another build's
    #[arg(long, value_name = "SPEC")]
    pub tools: Option<String>,
    /// Architecture [default: each that the build is for]
    #[arg(long, value_name = "ARCH")]
    pub arch: Vec<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Also boot: try each accelerator with a real Xen
    #[arg(long)]
    pub deep: bool,
    /// With --install: what the project's tests need, too
    #[arg(long, hide = true)]
    pub tests: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Replay {
    /// A bundle: a folder below `bundles/` of a report
    #[arg(required = true, value_hint = ValueHint::DirPath)]
    pub bundles: Vec<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Bump {
    #[arg(value_name = "OLD", help = format!("The Xen build that is in use: {}", xenlab_model::spec::XEN_SPEC_FORMS))]
    pub old: String,
    /// The Xen build that is to replace it
    #[arg(value_name = "NEW")]
    pub new: String,
    /// Take the old build's tools and development files from this build
    #[arg(long, value_name = "SPEC")]
    pub old_tools: Option<String>,
    /// The same for the new build
    #[arg(long, value_name = "SPEC")]
    pub new_tools: Option<String>,
    /// Architecture: x86_64 or aarch64; repeated, each in turn [default: those that the new build is for]
    #[arg(long, value_name = "ARCH")]
    pub arch: Vec<String>,
    /// The version that the new build must be
    #[arg(long, value_name = "VERSION")]
    pub expect_version: Option<String>,
    // What is one change to one source is compared with what it changes.
    #[command(flatten, next_help_heading = "To the new build alone")]
    pub recipe: RecipeArgs,
    /// Another scenario than the shipped one; steps whose names begin with a number are for that point of the checklist
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub scenario: Option<PathBuf>,
    /// A built XTF tree: its instances are run on both sides too, on x86_64
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub xtf: Option<PathBuf>,
    /// Hold the new build against this feed of security advisories, as xenlab xsa does
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub feed: Option<PathBuf>,
    /// With --feed: a clone of Xen's repository, for the history of a build that is not one itself
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "feed")]
    pub history: Option<PathBuf>,
    /// Hold the package's metadata in this checkout of nixpkgs against the new build
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub nixpkgs: Option<PathBuf>,
    /// With --nixpkgs: which package it is
    #[arg(long, value_name = "ATTRIBUTE", default_value = "xen")]
    pub nixpkgs_attr: String,
    /// Put a value at a key path, in place of the scenario's, on both sides
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// The QEMU binary
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub qemu: Option<PathBuf>,
    /// A file of expectations: skips that are accepted, failures that are known; repeated, all of them count
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub expectations: Vec<PathBuf>,
    /// How many cases side by side at most [default: as many as cores]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Write bump.md, bump.json and the reports of both runs, in old/ and new/, into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub report: Option<PathBuf>,
    /// Run every case of both sides so often: what comes out now one way, now the other is flaky
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = repeats)]
    pub repeat: usize,
    /// Boot nothing: compare what an earlier bump left in the folder of --report
    #[arg(long, requires = "report")]
    pub recorded: bool,
    /// Do not run the old build: it was run before, and this is the record of that, as new/ of an earlier bump's report
    #[arg(long, value_name = "RUN", value_hint = ValueHint::DirPath, conflicts_with = "recorded")]
    pub old_run: Option<PathBuf>,
    /// Do not boot a Xen known to be good when the one under test never speaks
    #[arg(long)]
    pub no_control: bool,
    /// As JSON, in place of Markdown
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// The old run: the folder that `--report` wrote, or one of bundles
    #[arg(value_name = "OLD", value_hint = ValueHint::DirPath)]
    pub old: PathBuf,
    /// The new run
    #[arg(value_name = "NEW", value_hint = ValueHint::DirPath, required_unless_present = "along")]
    pub new: Option<PathBuf>,
    /// Compare the cases of one run with each other: those of the first value of this axis with those of the second
    #[arg(long, value_name = "PATH[=VALUE,VALUE]", conflicts_with_all = ["new", "new_xen"])]
    pub along: Option<String>,
    /// The Xen build of the old run, where it has several
    #[arg(long, value_name = "SPEC")]
    pub old_xen: Option<String>,
    /// The Xen build of the new run, where it has several
    #[arg(long, value_name = "SPEC")]
    pub new_xen: Option<String>,
    /// As Markdown, for a pull request
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// As JSON, with what is the same
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Shell {
    #[command(flatten)]
    pub select: Scenarios,
    /// Boot it from power-on, in place of starting a clone of one that has booted once
    #[arg(long)]
    pub cold: bool,
}

/// A machine that `run --keep` or `shell` holds in another terminal.
#[derive(Debug, Args)]
pub struct Attach {
    /// The case whose machine it is, where several are kept: its name or a part of it
    #[arg(long = "case", value_name = "ID")]
    pub case: Option<String>,
}

#[derive(Debug, Args)]
pub struct AttachSsh {
    #[command(flatten)]
    pub machine: Attach,
    /// Run this in dom0, in place of a shell
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct AttachGdb {
    #[command(flatten)]
    pub machine: Attach,
    /// More arguments for gdb, such as `-batch -ex bt`
    #[arg(last = true, value_name = "ARG")]
    pub more: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Xsa {
    #[arg(value_name = "SPEC", help = format!("The Xen build: {}", xenlab_model::spec::XEN_SPEC_FORMS))]
    pub spec: String,
    /// The folder with xsa.json, and with xsaN.meta and patches beside it, as https://xenbits.xen.org/xsa/ has them
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub feed: PathBuf,
    /// A clone of Xen's repository, for the history of a build that is not one itself: by the commit in its version, or its release
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub history: Option<PathBuf>,
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Architecture, for a build that is not made here [default: the first that it is for]
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,
    /// The build's version, where it cannot be told
    #[arg(long, value_name = "VERSION")]
    pub expect_version: Option<String>,
    /// Do not fail because nothing tells how an advisory stands: any, or these only
    #[arg(long, value_name = "NUMBER", num_args = 0.., require_equals = true, value_delimiter = ',')]
    pub allow_unknown: Option<Vec<u32>>,
    /// Say of every advisory why it stands as it does
    #[arg(long)]
    pub all: bool,
    /// As Markdown, for a pull request
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// As JSON, every advisory
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Selftest {
    /// Architecture: x86_64 or aarch64; repeated, each of them [default: both]
    #[arg(long, value_name = "ARCH")]
    pub arch: Vec<String>,
    /// Only the trial with this name (as --list prints it), or with this part of one; repeated, any of them
    #[arg(long, value_name = "TRIAL")]
    pub only: Vec<String>,
    /// Print the trials and do nothing
    #[arg(long)]
    pub list: bool,
    /// How many side by side at most [default: as many as cores]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Write selftest.json, and what each trial that went wrong left, into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub report: Option<PathBuf>,
    /// The QEMU binary
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub qemu: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Plant nothing: what a lab that notices nothing would score
    #[arg(long, hide = true)]
    pub unplanted: bool,
}

#[derive(Debug, Args)]
pub struct History {
    /// A case's id, with `@ SUBJECT` or without, or a part of one [default: a line for each case]
    #[arg(value_name = "CASE")]
    pub case: Option<String>,
    /// At most so many runs of it, the latest
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<usize>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Image {
    /// List the store's entries
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make everything the scenarios need, without booting
    Build {
        #[command(flatten)]
        select: Box<Scenarios>,
    },
    /// Remove what has not been used for long, templates as well
    Gc {
        /// Days since the last use
        #[arg(long, default_value_t = 30)]
        days: u64,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum Template {
    /// List the templates: room on the disk, when made and used, why one was made again
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove templates that have not been used for long, and nothing else
    Gc {
        /// Days since the last use
        #[arg(long, default_value_t = 30)]
        days: u64,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
}

/// What the benches that boot are asked.
#[derive(Debug, Args)]
pub struct BenchOf {
    /// Architecture; repeated, each in turn [default: both]
    #[arg(long, value_name = "ARCH")]
    pub arch: Vec<String>,
    /// The Xen build
    #[arg(long, value_name = "SPEC", default_value = "debian:bookworm")]
    pub xen: String,
    /// The QEMU binary
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub qemu: Option<PathBuf>,
    /// The machine's processors [default: as a scenario's]
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// As JSON, alone on stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// The lab's cost over a bare boot of the same artefacts
    Boot {
        #[command(flatten)]
        of: BenchOf,
        /// Boots of each kind
        #[arg(short, default_value_t = 10)]
        n: usize,
    },
    /// What a clone of a machine that has booted once saves over booting it, and what its template costs
    Warm {
        #[command(flatten)]
        of: BenchOf,
        /// Clones of each kind; a quarter as many boots, at least three
        #[arg(short, default_value_t = 20)]
        n: usize,
    },
    /// XTF instances a minute
    Xtf {
        #[command(flatten)]
        of: XtfOf,
        /// As what they run
        #[arg(long = "as", value_name = "domU|auto", value_parser = ["domU", "auto", "dom0"], hide_possible_values = true)]
        run_as: Option<String>,
        /// The Xen build
        #[arg(long, value_name = "SPEC", default_value = "debian:bookworm")]
        xen: String,
        /// The QEMU binary
        #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
        qemu: Option<PathBuf>,
        /// How many side by side at most [default: as many as cores]
        #[arg(short, long, value_name = "N")]
        jobs: Option<usize>,
        /// As JSON, alone on stdout
        #[arg(long)]
        json: bool,
    },
    /// Bytes a second through the console's matcher
    Console {
        /// As JSON, alone on stdout
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum Report {
    /// Make one report of the shards of a run
    Merge {
        /// Where to
        out: PathBuf,
        /// The shards' report folders
        #[arg(required = true)]
        shards: Vec<PathBuf>,
    },
}
