//! What dom0's systemd says of units that did not start, while it boots (`systemd.show_status`; src/core/unit.c unit_status_emit_starting_stopping(),
//! src/core/job.c job_print_done_status_message()).

use crate::demux::{Line, Speaker};

/// Units that are told.
const UNITS: usize = 8;

/// What systemd prints in brackets before what did not go well.
const STATES: &[&str] = &["[FAILED] ", "[DEPEND] ", "[ TIME ] ", "[ASSERT] "];

/// What it said of them, the first few in their order, each once.
pub fn failed_units(lines: &[Line<'_>]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in lines.iter().filter(|l| l.speaker == Speaker::Dom0) {
        let text = line.text.trim();
        let Some(said) = STATES.iter().find_map(|state| text.strip_prefix(state)).or_else(|| logged(text))
        else {
            continue;
        };
        let said = said.trim().trim_end_matches('.');
        if !said.is_empty() && !found.iter().any(|f| f == said) {
            found.push(said.to_owned());
        }
        if found.len() == UNITS {
            break;
        }
    }
    found
}

/// The same where systemd says it by the kernel's log: `[   12.345678] systemd[1]: Dependency failed for …`.
fn logged(text: &str) -> Option<&str> {
    const WORDS: &[&str] =
        &["Failed to start ", "Failed to mount ", "Dependency failed for ", "Timed out waiting for "];
    let (_, said) =
        text.split_once("systemd[1]: ").filter(|(stamp, _)| stamp.is_empty() || stamp.ends_with("] "))?;
    WORDS.iter().any(|words| said.starts_with(words)).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demux::lines;

    #[test]
    fn what_failed_is_told_and_what_went_well_is_not() {
        let record = "(XEN) Xen\n[  OK  ] Started a.service - A.\r\n[\x1b[0;1;31mFAILED\x1b[0m] Failed to mount \x1b[0;1;39mdata.mount\x1b[0m - /data.\r\n\
            [\x1b[0;1;33mDEPEND\x1b[0m] Dependency failed for local-fs.target - Local File Systems.\n(XEN) [FAILED] not systemd's\n\
            [FAILED] Failed to mount data.mount - /data.\n[FAILED]\nlog: [FAILED] quoted\n\
            [   12.345678] systemd[1]: Timed out waiting for device dev-vdz.device - /dev/vdz.\n[   12.4] systemd[1]: Started x.\n";
        assert_eq!(
            failed_units(&lines(record.as_bytes())),
            [
                "Failed to mount data.mount - /data",
                "Dependency failed for local-fs.target - Local File Systems",
                "Timed out waiting for device dev-vdz.device - /dev/vdz"
            ]
        );
    }
}
