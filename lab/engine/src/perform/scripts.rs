//! The scripts that steps run in dom0: POSIX sh, and nothing that a busybox userland lacks.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;

/// Quotes a word for sh.
pub fn quote(word: &str) -> String {
    if !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./=:@%+,".contains(&b)) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Base64 that one script may carry: what dom0's shell takes less room for the commands around it.
const CARRIED: usize = xenlab_guest::SCRIPT_LIMIT - (8 << 10);

/// Scripts that put files into dom0 and then do `last`: as few as their sizes allow, since each costs a process under emulation. The
/// folders must be absolute; the last script is the one that ends with `last`.
pub fn put_files(files: &[(String, &[u8])], last: &str) -> Vec<String> {
    let mut scripts = Vec::new();
    let mut script = String::from("set -e\n");
    let mut room = CARRIED.saturating_sub(last.len());
    for (path, bytes) in files {
        let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
        let (to, packed) = (quote(path), quote(&format!("{path}.gz")));
        let text = STANDARD.encode(gzip(bytes));
        script.push_str(&format!("mkdir -p {}\n: >{packed}\n", quote(folder)));
        let mut rest = text.as_str();
        while !rest.is_empty() {
            if room < 4 << 10 {
                scripts.push(std::mem::replace(&mut script, String::from("set -e\n")));
                room = CARRIED.saturating_sub(last.len());
            }
            // Whole groups of four, so that each part can be decoded by itself.
            let (part, more) = rest.split_at(rest.len().min(room / 4 * 4));
            script.push_str(&format!("base64 -d >>{packed} <<'E'\n{part}\nE\n"));
            room = room.saturating_sub(part.len() + packed.len() + 64);
            rest = more;
        }
        script.push_str(&format!("gunzip -c {packed} >{to}\nrm {packed}\n"));
        room = room.saturating_sub(2 * (to.len() + packed.len()) + 128);
    }
    script.push_str("set +e\n");
    script.push_str(last);
    scripts.push(script);
    scripts
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

/// One line for each process that could be the store daemon: by the pid files that Xen's init scripts and units use
/// (tools/hotplug/Linux/launch-xenstore.in, Debian's xen.init), and by the process table. A process costs 10 ms and more under
/// emulation, so one `ls` reads all links.
pub const FIND_XENSTORED: &str = r#"
links=$(ls -l /proc/[0-9]*/exe 2>/dev/null)
show() { read -r c <"/proc/$1/comm" || c=; echo "pid=$1 exe=$2 comm=$c from=$3"; }
old=; [ -L /var/run ] || old='/var/run/xen/xenstored.pid /var/run/xenstored.pid'
for f in /run/xen/xenstored.pid /run/xenstored.pid /run/xen/oxenstored.pid $old; do
    [ -s "$f" ] || continue
    p=; read -r p <"$f" || :
    e=$(readlink "/proc/$p/exe" 2>/dev/null)
    show "$p" "$e" "pidfile:$f"
done
echo "$links" | while read -r line; do
    e=${line#* -> }
    [ "$e" = "$line" ] && continue
    e=${e% (deleted)}
    p=${line% -> *}; p=${p%/exe}; p=${p##*/}
    case ${e##*/} in
        xenstored|oxenstored) show "$p" "$e" proc ;;
    esac
done
:
"#;

/// The store answers a read of what xen-init-dom0 writes.
pub const STORE_ANSWERS: &str = "xenstore-read /local/domain/0/domid";

/// Xen's own test of the store, wherever this build's layout keeps it.
pub const TEST_XENSTORE: &str = r#"
for d in $(echo "$PATH" | tr : ' ') /usr/lib/xen-*/bin /usr/lib/xen/bin /usr/lib/xen/tests /usr/local/lib/xen/bin /usr/local/lib/xen/tests /usr/libexec/xen/bin /usr/local/libexec/xen/bin; do
    [ -x "$d/test-xenstore" ] && exec "$d/test-xenstore"
done
echo 'test-xenstore: not found in any directory of this build' >&2
exit 127
"#;

/// `PID EXE COMM` of every process that runs a file; see [`FIND_XENSTORED`] on why by one `ls`.
pub const PROCESSES: &str = r#"
ls -l /proc/[0-9]*/exe 2>/dev/null | while read -r line; do
    e=${line#* -> }
    [ "$e" = "$line" ] && e=-
    p=${line% -> *}; p=${p%/exe}; p=${p##*/}
    c=; read -r c 2>/dev/null <"/proc/$p/comm" || continue
    echo "$p $e $c"
done
:
"#;

/// State of a systemd unit as `Key=Value` lines.
pub fn systemd_unit(name: &str) -> String {
    format!(
        "systemctl show --property=Id,LoadState,ActiveState,SubState,Result,Type,ExecMainStartTimestampMonotonic -- {0}; rc=$?; \
         systemctl is-active --quiet -- {0} || journalctl --unit={0} --lines={LOG} --no-pager --output=cat 2>/dev/null | sed 's/^/log: /'; \
         exit $rc",
        quote(name)
    )
}

/// Lines of the log of a service that is not active.
const LOG: u32 = 8;

/// State of a service of the small init as `Key=Value` lines.
pub fn small_init_service(name: &str) -> String {
    format!(
        "f=/run/xenlab/services/{0}; if [ -e \"$f\" ]; then cat \"$f\"; \
         grep -q '^ActiveState=active$' \"$f\" || tail -n {LOG} /run/xenlab/{0}.log 2>/dev/null | sed 's/^/log: /'; else echo LoadState=not-found; echo ActiveState=inactive; fi",
        quote(name)
    )
}

/// Names of failed systemd units, one a line.
pub const SYSTEMD_FAILED: &str = "systemctl list-units --state=failed --plain --no-legend --no-pager | while read -r u r; do echo \"$u\"; done";

/// Names of failed services of the small init, one a line.
pub const SMALL_INIT_FAILED: &str = r#"for f in /run/xenlab/services/*; do [ -e "$f" ] && grep -q '^ActiveState=failed$' "$f" && echo "${f##*/}"; done; :"#;

#[cfg(test)]
mod tests {
    use super::{put_files, quote};

    /// What is put into dom0 is what it was, in whatever number of scripts it takes, and no script is longer than one may be.
    #[test]
    fn files_arrive_whole() {
        let dir = tempfile::tempdir().unwrap();
        // What gzip cannot make smaller.
        let mut state = 1_u64;
        let mut noise = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        let large: Vec<u8> = (0..300_000).map(|_| noise()).collect();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let files: [(String, &[u8]); 4] = [
            (path("a b/large"), &large),
            (path("empty"), b""),
            (path("small"), b"E\nx\n"),
            (path("more"), &large[..90_000]),
        ];
        let scripts = put_files(&files, "echo it is done");
        assert!(scripts.len() > 4, "{}", scripts.len());
        for script in &scripts {
            assert!(xenlab_guest::Script::new(script.clone()).check().is_ok(), "{}", script.len());
            let did = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
            assert!(did.status.success(), "{}", String::from_utf8_lossy(&did.stderr));
            let last = script == scripts.last().unwrap();
            assert_eq!(did.stdout == b"it is done\n", last);
        }
        for (path, bytes) in &files {
            assert!(std::fs::read(path).unwrap() == **bytes, "{path}");
        }
        let small = put_files(&files[1..3], ":");
        assert_eq!(small.len(), 1);
    }

    #[test]
    fn quoting() {
        assert_eq!(quote("xl"), "xl");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote("$HOME;rm"), "'$HOME;rm'");
    }
}
