//! Steps: each kind is one file here that says what it takes, what it observes and how that is judged.
//!
//! To add a kind: write its file with a type that implements [`StepKind`], add its line to `steps!` below, and give the
//! engine its one place that performs it (`lab/engine/src/perform/`).

use crate::condition::Condition;
use crate::fact::Facts;
use crate::place::{Place, Places};
use crate::units::GuestDuration;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

pub mod agent;
pub mod boot_files;
pub mod console;
pub mod device;
pub mod domain;
pub mod file;
pub mod freeze;
pub mod leaks;
pub mod phase;
pub mod pkg_config;
pub mod process;
#[cfg(test)]
mod real;
pub mod run;
mod say;
pub mod service;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;
pub mod under_xen;
pub mod vchan;
pub mod xenstored;
pub mod xl_info;
pub mod xtf;

/// Where a step does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum At {
    /// On the host, on the files of the Xen build; runs beside the boot and is reported even if nothing boots.
    Build,
    /// On the machine's consoles and phases.
    Boot,
    /// In dom0, through a shell.
    Dom0,
}

/// What a judge may look at besides the evidence. Pure data.
pub struct JudgeContext<'a> {
    /// Everything known of host, QEMU, machine and build.
    pub facts: &'a Facts,
    /// Where each key of the scenario was written.
    pub places: &'a Places,
    /// This step's key path, `steps[3]`.
    pub step: &'a str,
    /// The architecture of the case: what every file of the build must be for.
    pub arch: crate::arch::Arch,
}

impl JudgeContext<'_> {
    /// Where the key at `path` below this step's body was written, or the nearest key above it that was.
    /// `path` is like `xen_version`; the empty path is the body itself.
    pub fn place(&self, kind: &str, path: &str) -> Option<Place> {
        let mut full = format!("{}.{kind}", self.step);
        if !path.is_empty() {
            full.push('.');
            full.push_str(path);
        }
        loop {
            if let Some(place) = self.places.get(&full) {
                return Some(place.clone());
            }
            let cut = full.rfind(['.', '['])?;
            full.truncate(cut);
        }
    }
}

/// A kind of step: what it takes, what it observes, and how the one is judged by the other.
pub trait StepKind:
    Serialize + for<'de> Deserialize<'de> + schemars::JsonSchema + Clone + std::fmt::Debug + PartialEq
{
    /// The key in a scenario.
    const NAME: &'static str;
    /// Where it works.
    const AT: At;
    /// It changes the machine: when it fails the case ends. Others only observe: when one fails the rest go on.
    const ACTS: bool = false;
    /// Where this one works, if not all of its kind do in one place.
    fn at(&self) -> At {
        Self::AT
    }
    /// This step changes the machine; where one of a kind that does only looks, it says so.
    fn changes(&self) -> bool {
        Self::ACTS
    }
    /// The key that a scalar in the body's place stands for, if there is one.
    const PRIMARY: Option<&'static str> = None;
    /// What it observes.
    type Evidence: Serialize + for<'de> Deserialize<'de> + Clone + std::fmt::Debug + PartialEq;

    /// What is wrong with a body that its type cannot say: a pattern that is no regular expression, two keys that
    /// exclude each other. Told before anything boots.
    fn check(&self) -> Vec<Complaint> {
        Vec::new()
    }

    /// Judges evidence. Pure: the same input gives the same checks, live and in a replay.
    /// An empty result means that nothing was judged, which is a Skip.
    fn judge(&self, evidence: &Self::Evidence, cx: &JudgeContext<'_>) -> Vec<Check>;
}

/// A mistake in a step's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The key path below the body: `has[1]`; empty for the body itself.
    pub path: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What was expected.
    pub expected: Option<String>,
}

impl Complaint {
    /// A mistake at a key path.
    pub fn new(path: impl Into<String>, message: impl Into<String>, expected: impl Into<String>) -> Self {
        Complaint { path: path.into(), message: message.into(), expected: Some(expected.into()) }
    }
}

macro_rules! steps {
    ($($variant:ident: $ty:ty;)*) => {
        /// A step's body, of one kind.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[expect(missing_docs, reason = "each variant is documented at its type")]
        #[expect(clippy::large_enum_variant, reason = "a case has a few dozen of them, made once")]
        pub enum Body { $($variant($ty),)* }

        /// What a step of each kind observed.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[expect(missing_docs, reason = "each variant is documented at its type")]
        pub enum Observation { $($variant(<$ty as StepKind>::Evidence),)* }

        /// Every kind of step.
        pub fn kinds() -> Vec<KindInfo> {
            vec![$(KindInfo {
                name: <$ty as StepKind>::NAME,
                at: <$ty as StepKind>::AT,
                acts: <$ty as StepKind>::ACTS,
                primary: <$ty as StepKind>::PRIMARY,
                schema: |g| g.subschema_for::<$ty>(),
            },)*]
        }

        impl Body {
            /// The key in a scenario.
            pub fn kind(&self) -> &'static str { match self { $(Body::$variant(_) => <$ty as StepKind>::NAME),* } }
            /// Where it works.
            pub fn at(&self) -> At { match self { $(Body::$variant(b) => b.at()),* } }
            /// It changes the machine.
            pub fn acts(&self) -> bool { match self { $(Body::$variant(b) => b.changes()),* } }

            /// See [`StepKind::check`].
            pub fn check(&self) -> Vec<Complaint> { match self { $(Body::$variant(b) => b.check()),* } }

            /// Reads the body of the kind called `name`; `None` when there is no such kind.
            pub fn read<'de, D: serde::Deserializer<'de>>(name: &str, d: D) -> Option<Result<Body, D::Error>> {
                $(if name == <$ty as StepKind>::NAME { return Some(<$ty>::deserialize(d).map(Body::$variant)); })*
                None
            }

            /// Judges what was observed; `None` when the observation is of another kind.
            pub fn judge(&self, seen: &Observation, cx: &JudgeContext<'_>) -> Option<Vec<Check>> {
                match (self, seen) {
                    $((Body::$variant(b), Observation::$variant(e)) => Some(b.judge(e, cx)),)*
                    _ => None,
                }
            }
        }
    };
}

steps! {
    Phase: phase::Phase;
    Console: console::Console;
    UnderXen: under_xen::UnderXen;
    XlInfo: xl_info::XlInfo;
    Xenstored: xenstored::Xenstored;
    Run: run::Run;
    Service: service::Service;
    Process: process::Process;
    File: file::File;
    PkgConfig: pkg_config::PkgConfig;
    BootFiles: boot_files::BootFiles;
    Freeze: freeze::Freeze;
    Xtf: xtf::Xtf;
    Domain: domain::Domain;
    Device: device::Device;
    Vchan: vchan::Vchan;
    Leaks: leaks::Leaks;
    Store: store::Store;
    Agent: agent::Agent;
}

/// A kind, for the schema, for messages and for `explain`.
#[derive(Clone, Copy)]
pub struct KindInfo {
    /// The key in a scenario.
    pub name: &'static str,
    /// Where it works.
    pub at: At,
    /// It changes the machine.
    pub acts: bool,
    /// See [`StepKind::PRIMARY`].
    pub primary: Option<&'static str>,
    /// Its JSON Schema.
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
}

/// A step of a case, every value resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// `steps[3]` or `setup[0]`: its key path in the file.
    pub path: String,
    /// Its name in the scenario, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Still undecided when the case was planned; decided once the build is known. False: not part of the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// Its limit, in place of `limits.step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<GuestDuration>,
    /// What it does.
    pub body: Body,
}

impl Step {
    /// That dom0 becomes ready: the one step of a machine that others begin with.
    pub fn dom0_ready() -> Step {
        Step {
            path: "steps[0]".to_owned(),
            name: None,
            when: None,
            within: None,
            body: Body::Phase(phase::Phase { reach: xenlab_console::Phase::Dom0Ready }),
        }
    }

    /// What reports call it.
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.body.kind())
    }
}

/// Fields of step bodies that take one or many.
pub(crate) fn one_or_many<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    d: D,
) -> Result<Vec<T>, D::Error> {
    struct V<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for V<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a value or a list of values")
        }
        fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Vec<T>, E> {
            T::deserialize(serde::de::value::StrDeserializer::new(v)).map(|one| vec![one])
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))
        }
    }
    d.deserialize_any(V(std::marker::PhantomData))
}
