use super::*;
use crate::evidence::CommandEnd;
use crate::step::testing::{bad, cut, ended, facts, judge, ran, said};

const LIST: &str = include_str!("../../../../../fixtures/dom0/xl-list.txt");
const WRAPPER_BARE: &str = include_str!("../../../../../fixtures/dom0/xl-wrapper-bare-linux.stderr");

fn good() -> UnderXenEvidence {
    UnderXenEvidence {
        hypervisor_type: ran("cat /sys/hypervisor/type", 0, "xen\n", ""),
        capabilities: ran("cat /proc/xen/capabilities", 0, "control_d\n", ""),
        list: ran("xl list", 0, LIST, ""),
    }
}

#[test]
fn a_control_domain() {
    assert_eq!(bad(&judge(&UnderXen {}, &good(), &facts())), Vec::<String>::new());
}

#[test]
fn a_bare_linux_fails_in_all_three() {
    let absent =
        |path: &str| ran("cat", 1, "", &format!("cat: can't open '{path}': No such file or directory\n"));
    let bare = UnderXenEvidence {
        hypervisor_type: absent("/sys/hypervisor/type"),
        capabilities: absent("/proc/xen/capabilities"),
        list: ran("xl list", 1, "", WRAPPER_BARE),
    };
    assert_eq!(
        bad(&judge(&UnderXen {}, &bare, &facts())),
        [
            "/sys/hypervisor/type FAIL dom0.not-under-xen",
            "/proc/xen/capabilities FAIL dom0.not-under-xen",
            "xl list FAIL dom0.not-under-xen",
        ]
    );
}

#[test]
fn each_alone() {
    let with = |change: fn(&mut UnderXenEvidence)| {
        let mut e = good();
        change(&mut e);
        bad(&judge(&UnderXen {}, &e, &facts()))
    };
    assert_eq!(
        with(|e| e.hypervisor_type = ran("cat", 0, "kvm\n", "")),
        ["/sys/hypervisor/type FAIL dom0.not-under-xen"]
    );
    // A guest that booted in dom0's place.
    assert_eq!(
        with(|e| e.capabilities = ran("cat", 0, "\n", "")),
        ["/proc/xen/capabilities FAIL dom0.not-under-xen"]
    );
    assert_eq!(
        with(|e| e.capabilities = ran("cat", 0, "uncontrol_d\n", "")),
        ["/proc/xen/capabilities FAIL dom0.not-under-xen"]
    );
    assert_eq!(
        with(|e| e.list = ran("xl list", 0, "Name ID Mem VCPUs State Time(s)\n", "")),
        ["xl list FAIL dom0.not-under-xen"]
    );
    assert_eq!(
        with(|e| e.list = ran("xl list", 0, "Name ID\nDomain-0 7\n", "")),
        ["xl list FAIL dom0.not-under-xen"]
    );
    assert_eq!(with(|e| e.list = cut(ran("xl list", 0, "Name ID\n", ""))), ["xl list FAIL capture.cut"]);
    assert_eq!(
        with(|e| e.list = ended("xl list", CommandEnd::TimedOut(30), "", "")),
        ["xl list FAIL step.timeout"]
    );
    let mut e = good();
    e.list = ran("xl list", 0, "Name    ID   Mem\n(null)   0   768\n", "");
    assert!(said(&judge(&UnderXen {}, &e, &facts()), "xl list").contains("has xen-init-dom0 run?"));
}
