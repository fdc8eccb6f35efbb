//! Cases: the points of a scenario's matrix, and what is planned for each.

use crate::arch::Arch;
use crate::condition::{Absent, Truth};
use crate::fact::{FactValue, Facts};
use crate::place::Places;
use crate::scenario::config::{BootWay, Config, Need};
use crate::spec::Subject;
use crate::step::Step;
use serde::{Deserialize, Serialize};

/// One point of a scenario's matrix, every value resolved: enough to run it and to judge it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// `dom0-boot[arch=aarch64,boot=uefi]`: the scenario's name and every axis but the subject, in file order.
    /// The same id on two subjects is what gets compared.
    pub id: String,
    /// The scenario's name.
    pub scenario: String,
    /// The scenario's file, as the user named it.
    pub file: String,
    /// Tags of the scenario.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Every axis with this case's value, the subject's too.
    pub axes: Vec<(String, String)>,
    /// The Xen build under test.
    pub subject: Subject,
    /// Everything else.
    pub config: Config,
    /// `vars`, resolved.
    #[serde(default)]
    pub vars: std::collections::BTreeMap<String, String>,
    /// What must hold for the case to make sense; those decided at planning are not in here.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// Done before the steps.
    #[serde(default)]
    pub setup: Vec<Step>,
    /// The steps.
    pub steps: Vec<Step>,
    /// Where each key was written.
    pub places: Places,
    /// Unique to this case in this run; `${run.nonce}`.
    pub nonce: String,
    /// What planning knew.
    #[serde(default)]
    pub facts: Facts,
    /// What is planned.
    pub plan: Planned,
    /// What it may be known to come to: the entries that name it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expectations: Vec<crate::expectation::Expectation>,
}

impl Case {
    /// `id @ subject`: how a case is shown.
    pub fn shown(&self) -> String {
        format!("{} @ {}", self.id, self.subject)
    }

    /// What becomes of the case once more is known: its undecided needs against `facts` (all of them, not only the new
    /// ones). With [`Absent::Nothing`], when everything that can be known is, the answer is never [`Planned::Unknown`].
    pub fn plan(&self, facts: &Facts, absent: Absent) -> Planned {
        match &self.plan {
            Planned::Skip(because) => Planned::Skip(because.clone()),
            _ => match cannot(self.config.arch, self.setup.iter().chain(&self.steps), facts, absent) {
                Some(because) => Planned::Skip(because),
                None => plan(self.needs.clone(), facts, absent).1,
            },
        }
    }
}

/// The XTF instance that is this case's dom0, if there is one.
pub fn as_dom0<'a>(steps: impl IntoIterator<Item = &'a Step>) -> Option<&'a crate::step::xtf::Xtf> {
    steps.into_iter().find_map(|step| match &step.body {
        crate::step::Body::Xtf(xtf) if xtf.run_as == crate::step::xtf::RunAs::Dom0 => Some(xtf),
        _ => None,
    })
}

/// Why a case with these steps makes no sense, whatever its `needs` say: an XTF instance that this Xen cannot run. A step that is
/// no part of the case, or of which that is not known yet, is no reason.
pub fn cannot<'a>(
    arch: crate::Arch,
    steps: impl IntoIterator<Item = &'a Step>,
    facts: &Facts,
    absent: Absent,
) -> Option<String> {
    let part_of_case =
        |step: &&Step| step.when.as_ref().is_none_or(|when| when.evaluate(facts, absent) == Truth::Holds);
    steps.into_iter().filter(part_of_case).find_map(|step| match &step.body {
        crate::step::Body::Xtf(xtf) => xtf.cannot(arch, facts),
        crate::step::Body::Domain(domain) => domain.cannot(arch, facts),
        crate::step::Body::Device(device) => device.guest.as_ref()?.cannot(facts),
        crate::step::Body::Vchan(vchan) => vchan.cannot(facts),
        _ => None,
    })
}

/// Decides needs as far as `facts` go: those still undecided, and what is planned.
pub fn plan(needs: Vec<Need>, facts: &Facts, absent: Absent) -> (Vec<Need>, Planned) {
    let mut left = Vec::new();
    let mut unknown: Vec<String> = Vec::new();
    let mut skip = no_device_model(facts).or_else(|| no_boot_way(facts));
    for need in needs {
        let applies = need.when.as_ref().map_or(Truth::Holds, |w| w.evaluate(facts, absent));
        if let Truth::Fails(_) = applies {
            continue;
        }
        match (applies, need.require.evaluate(facts, absent)) {
            (_, Truth::Holds) => continue,
            (Truth::Holds, Truth::Fails(why)) => {
                skip.get_or_insert_with(|| format!("{} ({why})", need.because));
                continue;
            }
            // Not known whether it is needed: what would decide that is what is waited for.
            (Truth::Unknown(facts), Truth::Fails(_)) | (Truth::Holds, Truth::Unknown(facts)) => {
                unknown.extend(facts)
            }
            (Truth::Unknown(a), Truth::Unknown(b)) => unknown.extend(a.into_iter().chain(b)),
            (Truth::Fails(_), _) => continue,
        }
        left.push(need);
    }
    unknown.sort();
    unknown.dedup();
    let plan = match skip {
        Some(because) => Planned::Skip(because),
        None if unknown.is_empty() => Planned::Run,
        None => Planned::Unknown(unknown),
    };
    (left, plan)
}

/// Why nothing boots in the way that is asked for, where that is known: of a matrix over ways those are left out that are not there.
fn no_boot_way(facts: &Facts) -> Option<String> {
    let is = |name: &str| match facts.get(name) {
        Some(FactValue::Text(text)) => text.as_str(),
        _ => "",
    };
    let way = BootWay::named(is("boot.way"))?;
    if way == BootWay::Bios && is("arch") == Arch::Aarch64.name() {
        return Some("boot is bios, which only x86_64 machines have".to_owned());
    }
    if way.is_efi() && facts.get("build.efi") == Some(&FactValue::Flag(false)) {
        return Some(format!("boot is {way}, and this Xen is built without an EFI image (xen.efi)"));
    }
    let refused = is("build.no-unified-image");
    (way == BootWay::UefiUnified && !refused.is_empty())
        .then(|| format!("boot is {way}, and Xen's EFI image cannot be made one: {refused}"))
}

/// Of a matrix over both architectures the cases are left out in which nobody can do what the scenario asks for.
fn no_device_model(facts: &Facts) -> Option<String> {
    let is = |name: &str| match facts.get(name) {
        Some(FactValue::Text(text)) => text.as_str(),
        _ => "",
    };
    let asked = is("dom0.device-model");
    (is("arch") == Arch::Aarch64.name() && !asked.is_empty() && asked != "none").then(|| {
        format!(
            "dom0.device-model is {asked}: device models are for HVM guests, which only x86_64 has; \
             say `none` for aarch64, with `overrides`, to run the rest"
        )
    })
}

/// What is planned for a case while some facts are unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Planned {
    /// It will run.
    Run,
    /// It will not, because.
    Skip(String),
    /// Decided once these facts are known.
    Unknown(Vec<String>),
}
