//! What the tests of the harness share.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes it by another process: a file this one has open for writing cannot be executed by a child that another test is
/// forking right then.
pub fn write_executable(path: &Path, text: &str) {
    let mut sh = std::process::Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    sh.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(sh.wait().unwrap().success());
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o755);
}
