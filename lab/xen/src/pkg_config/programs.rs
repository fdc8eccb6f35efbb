//! A small C program for each of Xen's modules, using its header and one function of its library.

/// (module, headers, statement).
const PROGRAMS: &[(&str, &[&str], &str)] = &[
    ("xencall", &["xencall.h"], "xencall_open(0, 0)"),
    ("xencontrol", &["xenctrl.h"], "xc_interface_open(0, 0, 0)"),
    ("xendevicemodel", &["xendevicemodel.h"], "xendevicemodel_open(0, 0)"),
    ("xenevtchn", &["xenevtchn.h"], "xenevtchn_open(0, 0)"),
    ("xenforeignmemory", &["xenforeignmemory.h"], "xenforeignmemory_open(0, 0)"),
    ("xengnttab", &["xengnttab.h"], "xengnttab_open(0, 0)"),
    ("xenguest", &["xenctrl.h", "xenguest.h"], "xc_dom_allocate(0, 0, 0)"),
    ("xenhypfs", &["xenhypfs.h"], "xenhypfs_open(0, 0)"),
    ("xenlight", &["libxl.h"], "libxl_ctx_free(0)"),
    ("xenstat", &["xenstat.h"], "xenstat_init()"),
    ("xenstore", &["xenstore.h"], "xs_open(0)"),
    ("xentoolcore", &["xentoolcore.h"], "xentoolcore_restrict_all(0)"),
    ("xentoollog", &["stdio.h", "xentoollog.h"], "xtl_createlogger_stdiostream(stderr, XTL_ERROR, 0)"),
    ("xenvchan", &["libxenvchan.h"], "libxenvchan_close(0)"),
    ("xlutil", &["stdio.h", "libxlutil.h"], "xlu_cfg_init(stderr, \"\")"),
];

/// The program, and its own headers: those that must come from the build.
pub(super) fn program(module: &str) -> (String, Vec<&'static str>) {
    let Some((_, headers, statement)) = PROGRAMS.iter().find(|(m, _, _)| *m == module) else {
        // A module nobody described: its flags and libraries must at least link.
        return ("int main(void) { return 0; }\n".into(), Vec::new());
    };
    let includes: String = headers.iter().map(|h| format!("#include <{h}>\n")).collect();
    // Never run: linking is what is asked.
    let text = format!(
        "{includes}int main(int argc, char **argv) {{ (void)argv; if (argc > 1000) (void){statement}; return 0; }}\n"
    );
    (text, headers.iter().copied().filter(|h| *h != "stdio.h").collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn programs() {
        let (text, own) = super::program("xentoollog");
        assert!(text.starts_with("#include <stdio.h>\n#include <xentoollog.h>\nint main"));
        assert_eq!(own, ["xentoollog.h"]);
        assert_eq!(super::program("other").1, [""; 0]);
    }
}
