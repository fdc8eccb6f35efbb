//! A tree laid out as XTF's is, of the guest in fixtures/xtf: a test for each way to end.

use std::path::Path;
use std::process::Command;

/// Ways to end, as `guest.c` calls them.
pub const ENDS: [&str; 10] =
    ["SUCCESS", "WARNINGS", "SKIP", "ERROR", "FAILURE", "SILENT", "AFTER", "CRASH", "HANG", "HOST"];

/// Makes a tree in `root` with a test of each of these ways, named like them in lower case, in these environments (`pv64`, `hvm32`).
/// The category is `functional`, that of `FAILURE` and what comes after it `xsa`.
///
/// # Panics
/// The compiler is missing or complains, or a file cannot be written.
pub fn tree(root: &Path, ends: &[&str], environments: &[&str]) {
    let source = crate::root().join("fixtures/xtf");
    for (i, end) in ends.iter().enumerate() {
        let name = end.to_lowercase();
        let folder = root.join("tests").join(&name);
        std::fs::create_dir_all(&folder).expect("a folder of the tree");
        let category = if i < 4 { "functional" } else { "xsa" };
        let quoted: Vec<String> = environments.iter().map(|e| format!("{e:?}")).collect();
        let info = format!(
            r#"{{"name": "{name}", "category": "{category}", "environments": [{}], "variations": []}}"#,
            quoted.join(", ")
        );
        std::fs::write(folder.join("info.json"), info).expect("info.json");
        for environment in environments {
            let image = format!("test-{environment}-{name}");
            compile(&source, end, environment.starts_with("pv"), &folder.join(&image));
            // A folder that the tree is not in: it may have been built elsewhere.
            let kernel = format!("/nowhere/tests/{name}/{image}");
            let kind = if environment.starts_with("pv") {
                format!("type=\"pv\"\nkernel=\"{kernel}\"\n")
            } else {
                format!("type=\"hvm\"\nfirmware_override=\"{kernel}\"\non_reboot=\"destroy\"\n")
            };
            let config = format!("name=\"{image}\"\n\nvcpus=1\nmemory=32\n{kind}");
            std::fs::write(folder.join(format!("{image}.cfg")), config).expect("the configuration");
        }
    }
}

fn compile(source: &Path, end: &str, pv: bool, to: &Path) {
    let mut cc = Command::new("cc");
    cc.args(if pv { ["-m64", "-mno-red-zone"] } else { ["-m32", "-march=i686"] });
    cc.args(["-Os", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-pic", "-fno-pie", "-no-pie"]);
    cc.args(["-fno-stack-protector", "-fcf-protection=none", "-mno-sse", "-nostdlib", "-static"]);
    cc.arg(format!("-Wl,-T,{}", source.join("guest.ld").display())).arg("-Wl,--build-id=none");
    cc.arg(format!("-DEND={end}")).arg(source.join("guest.c")).arg(source.join("start.S"));
    let did = cc.arg("-o").arg(to).output().expect("the C compiler starts");
    assert!(did.status.success(), "{}", String::from_utf8_lossy(&did.stderr));
}
