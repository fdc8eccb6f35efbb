//! The `systemd` userland: a whole distribution's dom0, from packages that were only unpacked.

use crate::ImageError;
use crate::recipe::Recipe;
use crate::tree::Squash;
use crate::{Console, Init, Layout};
use xenlab_store::debian::Deb;

pub(crate) fn write(_squash: &mut Squash, _recipe: &Recipe, _debs: &[Deb]) -> Result<(), ImageError> {
    Ok(())
}

pub(crate) fn layout() -> Layout {
    Layout {
        userland: "systemd".into(),
        init: Init::Systemd,
        marks_ready: true,
        xen_services: vec!["xen".into()],
        user: "root".into(),
        ssh_port: 22,
        login: Vec::new(),
        console: Console::Terminal,
        path: Vec::new(),
    }
}
