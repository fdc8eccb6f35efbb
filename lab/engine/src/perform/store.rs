//! The step `store`: a trace is played on the store daemon's own socket in dom0, and on a guest's connection to it.
//!
//! In dom0 each connection is a process that joins the socket with a FIFO and a file (`nc -U`; busybox's has no such option). Who plays
//! the trace says what to send and reads what has come; dom0 knows nothing of the protocol. A guest has its kernel's device for it.

use super::dom0::Dom0;
use super::domain::in_guest;
use super::scripts::{FIND_XENSTORED, quote};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use xenlab_model::evidence::CommandResult;
use xenlab_model::step::Observation;
use xenlab_model::step::store::{NO_CLIENT, Store, StoreEvidence};
use xenlab_model::store::play::{Player, Turn};
use xenlab_model::store::trace::{GUEST, shipped};
use xenlab_model::store::wire::HEADER;

/// Where a connection's files are.
const FOLDER: &str = "/run/xenlab-store";
/// The daemon's socket, where each version of Xen's tools has it, and what joins it with standard input and output.
const JOIN: &str = r#"
socket=/run/xenstored/socket
[ -S "$socket" ] || socket=/var/run/xenstored/socket
[ -S "$socket" ] || { echo "there is no socket /run/xenstored/socket" >&2; exit 1; }
if command -v nc.openbsd >/dev/null; then join() { exec nc.openbsd -U "$socket"; }
elif command -v ncat >/dev/null; then join() { exec ncat -U "$socket"; }
elif command -v socat >/dev/null; then join() { exec socat - "UNIX-CONNECT:$socket"; }
else exit 119; fi
"#;
/// Looks that a script takes for bytes that have not come yet, and microseconds between two.
const LOOKS: (u32, u32) = (40, 20_000);

impl Dom0<'_> {
    /// `store`
    pub async fn store(&mut self, step: &Store) -> Observation {
        let found = self.sh(FIND_XENSTORED).await;
        let nothing = |found, failed| StoreEvidence {
            found,
            seen: Vec::new(),
            strays: Vec::new(),
            domid: None,
            failed: Some(Box::new(failed)),
        };
        let domain = step.of.as_ref().and_then(|g| g.domains().into_iter().next());
        let mut domid = None;
        if let Some(domain) = &domain {
            let asked = self.sh(&format!("xl domid {}", quote(domain))).await;
            domid = asked.stdout.text.trim().parse().ok();
            if domid.is_none() {
                return Observation::Store(nothing(found, asked));
            }
        }
        // A trace that cannot be read is told by who judges.
        let Ok(trace) = shipped() else { return Observation::Store(nothing(found.clone(), found)) };
        let nonce = crate::random_hex(8);
        let folder = format!("{FOLDER}/{nonce}");
        let mut player = Player::new(trace, &format!("/xenlab-{nonce}"), domid);
        // Bytes that have been read of each connection to the socket that is open.
        let mut open: BTreeMap<String, usize> = BTreeMap::new();
        let mut failed = None;
        while let Some(turn) = player.turn() {
            let command = match (&domain, turn.on.as_str()) {
                (Some(domain), GUEST) => self.sh(&in_guest(domain, &by_guest(&turn))).await,
                _ => {
                    let script = by_dom0(&folder, &turn, open.get(&turn.on).copied());
                    open.entry(turn.on.clone()).or_default();
                    self.sh(&script).await
                }
            };
            if !command.ok() {
                failed = Some(Box::new(command));
                break;
            }
            if turn.close {
                open.remove(&turn.on);
                continue;
            }
            let Some((bytes, closed)) = heard(&turn.on, &command) else {
                failed = Some(Box::new(command));
                break;
            };
            if let Some(read) = open.get_mut(&turn.on) {
                *read += bytes.len();
            }
            player.received(&turn.on, &bytes, closed);
        }
        let gone = format!(
            "for p in {folder}/*.pid; do read -r p <\"$p\" && kill $p; done 2>/dev/null; rm -rf {folder}"
        );
        self.sh(&gone).await;
        let (seen, strays) = player.finish();
        Observation::Store(StoreEvidence { found, seen, strays, domid, failed })
    }
}

/// A turn of a connection to the socket: opens it where it is not, sends, waits a moment for what comes of it, and prints it in base64; with
/// `end` where the daemon has closed it.
fn by_dom0(folder: &str, turn: &Turn, open: Option<usize>) -> String {
    let at = format!("{folder}/{}", turn.on);
    let read = open.unwrap_or_default();
    if turn.close {
        return format!("read -r p <{at}.pid && kill $p; rm -f {at}.*");
    }
    let mut script = String::new();
    if open.is_none() {
        // The FIFO is held open for reading and writing, so that it has no end before the connection has.
        script.push_str(&format!(
            "mkdir -p {folder}\n{JOIN}\nmkfifo {at}.in && : >{at}.out || exit\n\
             ( exec 3<>{at}.in; ( join ) <&3 3>&- >{at}.out 2>{at}.err & echo $! >{at}.pid; wait $!; echo $? >{at}.end ) </dev/null >/dev/null 2>&1 &\n\
             n=0; until [ -s {at}.pid ]; do usleep 5000; n=$((n + 1)); [ $n -gt 400 ] && exit 1; done\n"
        ));
    }
    for message in &turn.send {
        script.push_str(&format!("{} >{at}.in\n", printf(message)));
    }
    let (looks, pause) = LOOKS;
    if turn.replies > 0 {
        // No answer is shorter than its header: whoever looks before that would have to look again.
        let enough = read + HEADER * turn.replies;
        script.push_str(&format!(
            "n=0; while [ \"$(stat -c %s {at}.out)\" -lt {enough} ] && [ ! -e {at}.end ] && [ $n -lt {looks} ]; do n=$((n + 1)); usleep {pause}; done\n"
        ));
    }
    script.push_str(&format!(
        "e=; [ -e {at}.end ] && e=end\ntail -c +{} {at}.out | base64 | tr -d '\\n'\necho \" $e\"",
        read + 1
    ));
    script
}

/// A guest's turn: each request through its kernel's device, each answer read before the next.
fn by_guest(turn: &Turn) -> String {
    let mut script = String::from("exec 9<>/dev/xen/xenbus || exit 1\n");
    for message in &turn.send {
        script.push_str(&format!("{} >&9 && dd bs=8192 count=1 <&9 2>/dev/null\n", printf(message)));
    }
    script.push_str("exit 0\n");
    script
}

/// A command that writes these bytes at once. Long runs of `0` are written short: a guest reads its commands from a slow console.
fn printf(bytes: &[u8]) -> String {
    let (mut format, mut arguments) = (String::new(), String::new());
    let mut rest = bytes;
    while let Some(&byte) = rest.first() {
        let run = rest.iter().take_while(|b| **b == b'0').count();
        if run > 16 {
            format.push_str(&format!("%0{run}d"));
            arguments.push_str(" 0");
            rest = &rest[run..];
            continue;
        }
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'_' | b'@' => format.push(char::from(byte)),
            other => format.push_str(&format!("\\{other:03o}")),
        }
        rest = &rest[1..];
    }
    format!("printf '{format}'{arguments}")
}

/// What a turn's script printed: bytes, and whether the connection is closed.
fn heard(on: &str, command: &CommandResult) -> Option<(Vec<u8>, bool)> {
    let text = command.stdout.text.as_str();
    if on == GUEST {
        // `xenlab-guest: ran NONCE ID STATUS STDOUT STDERR`
        let words: Vec<&str> = text.split_whitespace().collect();
        let [_, "ran", _, _, "0", out, _] = words.as_slice() else { return None };
        return match *out {
            "-" => Some((Vec::new(), false)),
            packed => Some((STANDARD.decode(packed).ok()?, false)),
        };
    }
    let (packed, end) = text.trim_end_matches('\n').rsplit_once(' ')?;
    Some((STANDARD.decode(packed.trim()).ok()?, end == "end"))
}

const _: () = assert!(NO_CLIENT == 119);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// What a shell writes is what was to be written.
        #[test]
        fn bytes_are_written_as_they_are(parts in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40), (0usize..300).prop_map(|n| vec![b'0'; n]),
        ], 0..6)) {
            let bytes = parts.concat();
            let out = std::process::Command::new("sh").arg("-c").arg(printf(&bytes)).output().unwrap();
            prop_assert_eq!(out.stdout, bytes);
        }
    }
}
