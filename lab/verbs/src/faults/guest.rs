//! A dom0 that lies or is not well: its real init with something in it changed.

/// The `minimal` userland's init as it ships.
const INIT: &str = include_str!("../../../../images/minimal/init");

/// Where it lies in dom0 (lab/image/src/userland.rs).
pub(super) const PATH: &str = "/usr/sbin/xenlab-init";

/// What dom0's init does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liar {
    /// Says every word that the lab waits for, without the case's nonce, and then nothing more.
    SaysAllAndHangs,
    /// Says all that first, and then boots as it should.
    SaysAllAndBoots,
    /// Says that it has begun, and then nothing more.
    HangsAfterInit,
    /// On bare Linux: says what Xen says, and that it is ready, with the case's nonce.
    PretendsXen,
    /// Starts no SSH server.
    NoSsh,
    /// Writes what it says to where nobody reads it; all else is as it should be.
    ConsoleToNull,
    /// Floods its console before it becomes ready.
    Floods,
}

/// What is wrong with dom0's shells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// Each command over SSH takes seconds to begin, and the shell on the console as long to come.
    Slow,
    /// Nobody serves the lab's own port.
    NoPort,
    /// Who serves the lab's own port has it open, and neither answers nor reads.
    PortHangs,
}

/// What serves the lab's own port, as the initramfs has it (images/initramfs/init); the case's own files take its place.
pub(super) const PORT: &str = "/xenlab/port";

/// Nothing in its place.
pub(super) const NO_PORT: &str = "exit 0\n";

/// One that holds the three ports open.
pub(super) const PORT_HANGS: &str = "\
set -- /dev/vport*
while [ $# -lt 3 ]; do
	/xenlab/busybox usleep 50000
	set -- /dev/vport*
done
exec 3<>$1 4<>$2 5<>$3
while :; do /xenlab/busybox sleep 1000; done
";

/// Every word the lab waits for, without the one that only this boot knows.
const WORDS: &str = r#"for word in init ready; do
	echo "xenlab: $word"
	echo "xenlab: $word 00000000000000000000000000000000"
	echo "xenlab: $word \$nonce"
	echo "(XEN) xenlab: $word $nonce"
done
echo "xenlab: failed 0123456789abcdef store"
echo "(XEN) Xen version 9.99.9 (nobody@nowhere) (gcc 1) debug=n  Thu Jan  1 00:00:00 UTC 1970"
echo "The log says: Kernel panic - not syncing: Attempted to kill init!"
echo "and before that: (XEN) Panic on CPU 0:"
echo "dom0 login: root"
echo "Password: "
echo "root@dom0:~# "
"#;

/// Where the init says that it has begun.
const BEGUN: &str = "echo \"xenlab: init $nonce\"\n";

/// Where it says that it is ready.
const READY: &str = "echo \"xenlab: ready $nonce\"\n";

/// The init, changed.
pub(super) fn init(how: Liar) -> Result<String, String> {
    let hang = "while :; do sleep 1000; done\n";
    match how {
        Liar::SaysAllAndHangs => replaced(BEGUN, &format!("{WORDS}{hang}")),
        Liar::SaysAllAndBoots => replaced(BEGUN, &format!("{WORDS}{BEGUN}")),
        Liar::HangsAfterInit => replaced(BEGUN, &format!("{BEGUN}{hang}")),
        Liar::PretendsXen => {
            let speech = "echo '(XEN) Xen version 4.17.7'\necho '(XEN) *** Building a PV Dom0 ***'\n";
            let to = format!("{speech}{BEGUN}");
            let text = replaced(BEGUN, &to)?;
            let mount = "mount -t xenfs xenfs /proc/xen 2>/dev/null || stay no-xen\n";
            once(&text, mount, &format!("{READY}stay\n"))
        }
        Liar::NoSsh => replaced("daemon dropbear dropbear -F -E -B -s -r /xenlab/host-key\n", ""),
        Liar::ConsoleToNull => {
            replaced("exec </dev/null >$con 2>&1\n", "con=/dev/null\nexec </dev/null >$con 2>&1\n")
        }
        // About 600 kB, more than the lab keeps of a console's lines.
        Liar::Floods => replaced(
            READY,
            &format!("n=0; while [ $n -lt 150 ]; do printf '%04000d\\n' $n; n=$((n + 1)); done\n{READY}"),
        ),
    }
}

/// The init with a shell on its console that takes its time.
pub(super) fn slow_console() -> Result<String, String> {
    replaced("\t\t\texec sh $con\"\n", "\t\t\tsleep 5\n\t\t\texec sh $con\"\n")
}

/// What goes before a public key so that each command over it begins late.
pub(super) const SLOW_SSH: &str = "command=\"/usr/sbin/slow-shell\" ";

/// The program that it names.
pub(super) const SLOW_SHELL: (&str, &str) =
    ("/usr/sbin/slow-shell", "#!/bin/sh\nsleep 3\nexec sh -c \"$SSH_ORIGINAL_COMMAND\"\n");

fn replaced(from: &str, to: &str) -> Result<String, String> {
    once(INIT, from, to)
}

/// The text with `from`, which must be there once, replaced.
fn once(text: &str, from: &str, to: &str) -> Result<String, String> {
    match text.matches(from).count() {
        1 => Ok(text.replacen(from, to, 1)),
        n => Err(format!("`{}` is {n} times in the init", from.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_fits_the_init_that_ships() {
        for how in [
            Liar::SaysAllAndHangs,
            Liar::SaysAllAndBoots,
            Liar::HangsAfterInit,
            Liar::PretendsXen,
            Liar::NoSsh,
            Liar::ConsoleToNull,
            Liar::Floods,
        ] {
            let text = init(how).unwrap_or_else(|e| panic!("{how:?}: {e}"));
            assert_ne!(text, INIT, "{how:?}");
        }
        assert_ne!(slow_console().unwrap(), INIT);
    }
}
