use super::*;

#[test]
fn flags() {
    assert_eq!(split("-L/a\\ b -lxenctrl  -lxencall\n"), ["-L/a b", "-lxenctrl", "-lxencall"]);
    assert_eq!(split(""), [""; 0]);
}

#[test]
fn requirements() {
    assert_eq!(
        requirement_names("xencall >= 1.0, xentoollog xenstore"),
        ["xencall", "xentoollog", "xenstore"]
    );
    assert_eq!(requirement_names(" "), [""; 0]);
}
