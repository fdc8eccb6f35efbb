//! The `build.*` facts of a Xen build: what plans and judges may ask for. What is not known is left out, never "false".

use crate::build::XenBuild;
use xenlab_model::fact::{FactValue, Facts};

impl XenBuild {
    /// Every `build.*` fact that is known.
    pub fn facts(&self) -> Facts {
        let mut f = Facts::default();
        let h = &self.hypervisor;
        let text = |s: &str| FactValue::Text(s.to_owned());
        let version = |s: &str| FactValue::Version(s.to_owned());
        f.set("build.spec", text(&self.subject.to_string()));
        f.set("build.provider", text(self.provider()));
        if let Some(d) = &self.declared {
            f.set("build.declared-version", version(&d.version));
            f.set("build.declared-by", text(&d.by));
        }
        if let Some(v) = h.version() {
            f.set("build.image-version", version(v));
        }
        if let Some(b) = h.branch() {
            f.set("build.branch", version(&b));
        }
        if let Some(id) = h.build_id() {
            f.set("build.build-id", text(id));
        }
        f.set("build.efi", FactValue::Flag(h.efi.is_some()));
        if let Some(id) = h.efi.as_ref().and_then(|e| e.facts.build_id.as_deref()) {
            f.set("build.efi-build-id", text(id));
        }
        if let Some(c) = h.compiler() {
            f.set("build.compiler", text(c));
        }
        if let Some(k) = &h.config {
            f.set("build.config", FactValue::Set(k.yes.clone()));
            f.set("build.shadow-paging", FactValue::Flag(k.yes.contains("SHADOW_PAGING")));
        }
        let mut parts = vec!["hypervisor"];
        if let Some(t) = &self.tools {
            parts.push("tools");
            f.set("build.programs", FactValue::Set(t.programs.keys().cloned().collect()));
            f.set("build.xenstored", FactValue::Set(t.daemons.clone()));
            if let Some(d) = t.device_model.as_ref().filter(|d| d.own) {
                f.set("build.device-model", text(&d.path.display().to_string()));
            }
            if let Some(b) = &t.branch {
                f.set("build.tools-branch", version(b));
            }
        }
        if let Some(d) = &self.development {
            parts.push("development");
            f.set("build.pkg-config", FactValue::Set(d.modules.keys().cloned().collect()));
        }
        f.set("build.parts", FactValue::Set(parts.into_iter().map(str::to_owned).collect()));
        f
    }

    /// Scheme of the hypervisor's provider.
    pub fn provider(&self) -> &'static str {
        crate::provider::of(&self.subject.hypervisor).map_or("unknown", |p| p.scheme())
    }
}
