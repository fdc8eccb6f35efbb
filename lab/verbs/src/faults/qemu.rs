//! A QEMU that breaks every boot: a program that stands before the real one. Asked what it is, it answers as the real one does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrapper {
    /// Ends before the machine is there.
    Exits,
    /// Ends well, and before the machine is there.
    ExitsWell,
    /// Asks for a processor that cannot run Xen.
    WrongProcessor,
    /// Leaves out the kernel and all that belongs to it.
    DropsKernel,
    /// Leaves out the machine's serial port.
    DropsSerial,
    /// Gives the machine less memory than was asked for.
    LittleMemory,
    /// Kills QEMU so many tenths of a second after its start.
    Kills(u32),
    /// Stops QEMU's process a second after its start.
    Stops,
}

/// Goes through the arguments, `$a` each with its value as `$1`, and puts together those that QEMU gets.
fn rewriting(cases: &str) -> String {
    format!(
        "n=$#\nwhile [ $n -gt 0 ]; do\n\ta=$1; shift; n=$((n - 1))\n\tcase $a in\n{cases}\t*) set -- \"$@\" \"$a\" ;;\n\tesac\ndone\nexec \"$real\" \"$@\"\n"
    )
}

/// Takes an option's value from the arguments, and puts this one in its place.
fn instead(option: &str, value: &str) -> String {
    format!("\t{option}) shift; n=$((n - 1)); set -- \"$@\" {option} {value} ;;\n")
}

/// Takes an option and its value away.
fn without(options: &str) -> String {
    format!("\t{options}) shift; n=$((n - 1)) ;;\n")
}

/// Writes the program.
pub(super) fn write(how: Wrapper, real: &Path, to: &Path) -> Result<PathBuf, String> {
    let body = match how {
        Wrapper::Exits => "echo 'qemu: something is wrong here' >&2\nexit 1\n".to_owned(),
        Wrapper::ExitsWell => "exit 0\n".to_owned(),
        // A 32-bit processor of either architecture.
        Wrapper::WrongProcessor => rewriting(&instead("-cpu", "$cpu32")),
        Wrapper::DropsKernel => rewriting(&format!(
            "{}\t-device)\n\t\tcase $1 in guest-loader,*) ;; *) set -- \"$@\" -device \"$1\" ;; esac\n\t\tshift; n=$((n - 1)) ;;\n",
            without("-kernel|-append|-initrd")
        )),
        Wrapper::DropsSerial => rewriting(&instead("-serial", "null")),
        // An emulated machine's memory has an object of its own, which says its size once more.
        Wrapper::LittleMemory => rewriting(&format!(
            "{}\tmemory-backend-ram,*) set -- \"$@\" 'memory-backend-ram,id=ram,size=224M,share=on' ;;\n",
            instead("-m", "224M")
        )),
        Wrapper::Kills(tenths) => {
            format!(
                "( sleep {}.{}; kill -9 $$ ) </dev/null >/dev/null 2>&1 &\nexec \"$real\" \"$@\"\n",
                tenths / 10,
                tenths % 10
            )
        }
        Wrapper::Stops => {
            "( sleep 1; kill -STOP $$ ) </dev/null >/dev/null 2>&1 &\nexec \"$real\" \"$@\"\n".to_owned()
        }
    };
    let real = real.to_str().ok_or("QEMU's path is not UTF-8")?.replace('\'', r"'\''");
    let text = format!(
        "#!/bin/sh\nreal='{real}'\ncase \" $* \" in *' -kernel '*) ;; *) exec \"$real\" \"$@\" ;; esac\n\
        case \"$real\" in *aarch64*) cpu32=cortex-a15 ;; *) cpu32=486 ;; esac\n{body}"
    );
    fs::write(to, text)
        .and_then(|()| fs::set_permissions(to, fs::Permissions::from_mode(0o755)))
        .map_err(|e| format!("{}: {e}", to.display()))?;
    Ok(to.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What the real QEMU would have been given.
    fn given(how: Wrapper, args: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("it's real");
        fs::write(&real, "#!/bin/sh\nfor a; do printf '<%s>' \"$a\"; done\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).unwrap();
        let script = write(how, &real, &dir.path().join("wrapper")).unwrap();
        // Written and run at once by many threads: another's fork may hold it open for a moment (ETXTBSY).
        let output = Command::new("/bin/sh").arg(&script).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn arguments_that_are_not_meant_stay_as_they_are() {
        let boot = [
            "-cpu",
            "max",
            "-kernel",
            "/x y",
            "-append",
            "a 'b' $c",
            "-m",
            "1024M",
            "-object",
            "memory-backend-ram,id=ram,size=1024M,share=on",
            "-device",
            "guest-loader,addr=1",
            "-device",
            "nic",
        ];
        assert_eq!(
            given(Wrapper::WrongProcessor, &boot),
            "<-cpu><486><-kernel></x y><-append><a 'b' $c><-m><1024M>\
             <-object><memory-backend-ram,id=ram,size=1024M,share=on><-device><guest-loader,addr=1><-device><nic>"
        );
        assert_eq!(
            given(Wrapper::DropsKernel, &boot),
            "<-cpu><max><-m><1024M><-object><memory-backend-ram,id=ram,size=1024M,share=on><-device><nic>"
        );
        assert!(
            given(Wrapper::LittleMemory, &boot)
                .contains("<-m><224M><-object><memory-backend-ram,id=ram,size=224M,share=on>")
        );
    }

    #[test]
    fn asked_what_it_is_it_answers() {
        for how in [Wrapper::Exits, Wrapper::DropsKernel, Wrapper::Kills(1)] {
            assert_eq!(given(how, &["-version"]), "<-version>");
        }
    }
}
