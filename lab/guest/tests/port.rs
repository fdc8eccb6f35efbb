//! The shell on the port against the real server for dom0, run by this host's shell with sockets for ports.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Std;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use xenlab_guest::port::{PortError, PortShell};
use xenlab_guest::{CAPTURE_LIMIT, Deadline, Script, Shell};
use xenlab_model::evidence::{CommandEnd, CommandResult};

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../images/initramfs/port");

/// Leaves a conversation as the end of a frozen machine does: without a word. Dropped, it would close the ports for the next.
fn leave(shell: PortShell) {
    std::mem::forget(shell);
}

/// dom0's side, and the machine's end of its ports.
struct Dom0 {
    child: Child,
    ports: [Std; 3],
    _dir: tempfile::TempDir,
}

impl Drop for Dom0 {
    fn drop(&mut self) {
        // Its own process group: everything that serves. Not by the program `kill`: procps's takes `-12345` for `-1`, which is
        // everything that runs here.
        if let Some(group) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dom0() -> Dom0 {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("w").display().to_string();
    with(&format!("exec busybox sh {SERVER} serve {work}"), dir)
}

fn with(script: &str, dir: tempfile::TempDir) -> Dom0 {
    use std::os::unix::process::CommandExt as _;
    let (near, far): (Vec<_>, Vec<_>) = (0..3).map(|_| Std::pair().unwrap()).unzip();
    let [a, b, c] = <[Std; 3]>::try_from(far).unwrap().map(|s| Stdio::from(OwnedFd::from(s)));
    let script = format!("exec 3<&0 4>&1 5>&2 </dev/null >/dev/null 2>&1; {script}");
    let child = Command::new("busybox")
        .args(["sh", "-c", &script])
        .process_group(0)
        .stdin(a)
        .stdout(b)
        .stderr(c)
        .spawn()
        .unwrap();
    Dom0 { child, ports: near.try_into().unwrap(), _dir: dir }
}

fn tokio_end(s: &Std) -> UnixStream {
    let s = s.try_clone().unwrap();
    s.set_nonblocking(true).unwrap();
    UnixStream::from_std(s).unwrap()
}

impl Dom0 {
    /// A conversation over these ports; there can be one after the other, as with a machine and its clone.
    fn shell(&self) -> PortShell {
        let [a, b, c] = [0, 1, 2].map(|i| tokio_end(&self.ports[i]));
        PortShell::new(a, b, c)
    }
}

fn limit(seconds: u64) -> Deadline {
    Deadline::wall(Duration::from_secs(seconds))
}

async fn run(shell: &mut PortShell, script: &str) -> CommandResult {
    shell.run(&Script::new(script), limit(60)).await
}

/// Everything a result can be.
async fn everything(shell: &mut PortShell) {
    let r = run(shell, "echo out; echo err >&2; exit 3").await;
    assert_eq!(
        (r.end, r.stdout.text.as_str(), r.stderr.text.as_str()),
        (CommandEnd::Exit(3), "out\n", "err\n")
    );
    let r = run(shell, "echo again >/dev/stderr; echo more >/dev/stdout").await;
    assert_eq!((r.stdout.text.as_str(), r.stderr.text.as_str()), ("more\n", "again\n"));
    let r = run(shell, "kill -9 $$").await;
    assert_eq!((r.end, r.stderr.total), (CommandEnd::Signal("KILL".into()), 0));
    assert_eq!(run(shell, "kill -PIPE $$").await.end, CommandEnd::Signal("PIPE".into()));
    assert_eq!(run(shell, "exit 137").await.end, CommandEnd::Exit(137));
    let r = run(shell, "cat; echo \"[$?]\"").await;
    assert_eq!(r.stdout.text, "[0]\n", "standard input is empty");
    let awkward = "it's\na \"$HOME\" `x` \\ é ~ %s\u{81}\u{88}";
    let script = Script::new("printf '%s' \"$v\"\n\n").with_env([("v".into(), awkward.into())]);
    let r = shell.run(&script, limit(60)).await;
    assert_eq!((r.end, r.stdout.text.as_str()), (CommandEnd::Exit(0), awkward));
    let r = shell.run(&Script::argv(["printf", "%s|", "a b", "", "'"]), limit(60)).await;
    assert_eq!(r.stdout.text, "a b||'|");
    let r = run(shell, "").await;
    assert_eq!((r.end, r.stdout.total, r.stderr.total), (CommandEnd::Exit(0), 0, 0));
    for broken in ["if", "echo 'half", "}", "cat <<X"] {
        let r = run(shell, broken).await;
        assert!(!matches!(r.end, CommandEnd::Lost(_)), "{broken}: {r:?}");
    }
    let r = run(shell, "i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %o $i)\"; i=$((i+1)); done | od -An -v -tu1; printf '\\0\\377\\012\\0'").await;
    let (numbers, bytes) = r.stdout.text.split_at(r.stdout.text.len() - 6);
    let numbers: Vec<u8> = numbers.split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert_eq!((numbers, bytes), ((0..=255).collect(), "\0\u{fffd}\n\0"));
    assert_eq!(r.stdout.total, r.stdout.text.len() as u64 - 2, "every byte came as it was");
    let r = run(shell, &format!(": {}; echo long", "x".repeat(90_000))).await;
    assert_eq!(r.stdout.text, "long\n");
    let r = run(shell, "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done").await;
    assert_eq!(r.stdout.text, (0..20000).map(|i| format!("line {i}\n")).collect::<String>());
    let r = run(shell, "ls -l /proc/self/fd").await;
    assert!(!r.stdout.text.contains("socket"), "a command has no port open: {}", r.stdout.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_there_is() {
    let dom0 = dom0();
    everything(&mut dom0.shell()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_come_one_by_one() {
    let dom0 = dom0();
    let mut ends = Vec::new();
    for port in &dom0.ports {
        let (near, far) = UnixStream::pair().unwrap();
        let (mut from_dom0, mut to_dom0) = tokio_end(port).into_split();
        let (mut from_lab, mut to_lab) = far.into_split();
        tokio::spawn(async move {
            let mut byte = [0; 7];
            while let Ok(n @ 1..) = from_dom0.read(&mut byte).await {
                for b in &byte[..n] {
                    to_lab.write_all(&[*b]).await.unwrap();
                }
            }
        });
        tokio::spawn(async move {
            let mut byte = [0];
            while let Ok(1) = from_lab.read(&mut byte).await {
                to_dom0.write_all(&byte).await.unwrap();
            }
        });
        ends.push(near);
    }
    let [a, b, c] = <[UnixStream; 3]>::try_from(ends).unwrap();
    let mut shell = PortShell::new(a, b, c);
    let r = run(
        &mut shell,
        "echo out; echo err >&2; i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done",
    )
    .await;
    assert_eq!(
        (r.end, r.stderr.text.as_str(), r.stdout.text.lines().count()),
        (CommandEnd::Exit(0), "err\n", 501)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_counted_and_cut() {
    let dom0 = dom0();
    let mut shell = dom0.shell();
    let r = run(&mut shell, "head -c 50000000 /dev/zero | tr '\\0' y").await;
    assert_eq!((r.end, r.stdout.text.len(), r.stdout.cut), (CommandEnd::Exit(0), CAPTURE_LIMIT, true));
    assert_eq!(r.stdout.total, 50_000_000);
    // One that nobody reads any more and that does not end.
    let script = Script::new("yes; :");
    assert!(tokio::time::timeout(Duration::from_millis(300), shell.run(&script, limit(600))).await.is_err());
    assert_eq!(run(&mut shell, "echo after").await.stdout.text, "after\n");
    let r = shell.run(&Script::new("yes >&2"), limit(1)).await;
    assert!(matches!(r.end, CommandEnd::TimedOut(1)) && r.stderr.cut, "{:?}", r.end);
}

fn left(mark: &str) -> String {
    let out = Command::new("pgrep").args(["-f", &format!("^sleep {mark}")]).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_command_is_killed_with_all_its_children_and_the_next_one_runs() {
    let dom0 = dom0();
    let mut shell = dom0.shell();
    shell.connect(&limit(20)).await.unwrap();
    let mark = format!("61{}", std::process::id());
    // One below it, one in a session of its own whose parent is gone, one without an environment.
    let script =
        format!("echo begun; (setsid sleep {mark} &); env -i sleep {mark} & sleep {mark}; echo never");
    let r = shell.run(&Script::new(script), limit(1)).await;
    assert_eq!((r.end, r.stdout.text.as_str()), (CommandEnd::TimedOut(1), "begun\n"));
    assert_eq!(left(&mark), "", "all of it is killed");
    let began = Instant::now();
    assert_eq!(run(&mut shell, "echo again").await.stdout.text, "again\n");
    assert!(began.elapsed() < Duration::from_secs(2));
    // Given up by its caller instead, at any moment.
    for ms in [0, 1, 3, 10, 40, 100] {
        let late = Script::new(format!("echo stray; sleep {mark}"));
        let given_up = tokio::time::timeout(Duration::from_millis(ms), shell.run(&late, limit(600))).await;
        assert!(given_up.is_err());
        assert_eq!(run(&mut shell, "echo once more").await.stdout.text, "once more\n", "after {ms} ms");
    }
    assert_eq!(left(&mark), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_running_neither_holds_it_up_nor_mixes_with_the_next() {
    let dom0 = dom0();
    let mut shell = dom0.shell();
    let r = run(&mut shell, "(sleep 2; echo late; echo late >&2; sleep 3) & echo left").await;
    assert_eq!((r.end, r.stdout.text.as_str()), (CommandEnd::Exit(0), "left\n"));
    assert!(r.seconds < 10.0 && r.stdout.cut, "{}", r.seconds);
    let r = run(&mut shell, "sleep 2; echo mine").await;
    assert_eq!((r.stdout.text.as_str(), r.stderr.total, r.stdout.cut), ("mine\n", 0, false));
    // One that lets go of its outputs goes on.
    let mark = format!("62{}", std::process::id());
    let r = run(&mut shell, &format!("sleep {mark} >/dev/null 2>&1 & echo daemon")).await;
    assert!(r.seconds < 0.9 && !r.stdout.cut, "{r:?}");
    assert_ne!(left(&mark), "");
    let _ = Command::new("pkill").args(["-f", &format!("^sleep {mark}")]).status();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_conversation_follows_whatever_the_first_left() {
    let dom0 = dom0();
    let mut first = dom0.shell();
    assert_eq!(run(&mut first, "echo one").await.stdout.text, "one\n");
    leave(first);
    let mut second = dom0.shell();
    assert_eq!(run(&mut second, "echo two").await.stdout.text, "two\n");
    leave(second);
    // In the middle of a command that has said something.
    let mut third = dom0.shell();
    let script = Script::new("echo rest; echo rest >&2; sleep 1000");
    assert!(tokio::time::timeout(Duration::from_millis(500), third.run(&script, limit(600))).await.is_err());
    leave(third);
    let mut fourth = dom0.shell();
    let r = run(&mut fourth, "echo three").await;
    leave(fourth);
    assert_eq!((r.stdout.text.as_str(), r.stderr.total), ("three\n", 0));
    // Half a request, half a word, bytes that are none.
    for garbage in [
        "r 1 'echo half",
        "\"half",
        "r 1 'echo damaged' 2\n",
        "echo `",
        "\x01\x02\x00\u{fe}\n",
        "if\n",
        "}\n",
        "exit 3\n",
    ] {
        std::io::Write::write_all(&mut &dom0.ports[0], garbage.as_bytes()).unwrap();
        let mut shell = dom0.shell();
        let r = run(&mut shell, "echo here").await;
        leave(shell);
        assert_eq!((r.stdout.text.as_str(), r.end), ("here\n", CommandEnd::Exit(0)), "after {garbage:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_look_like_answers_are_not_believed() {
    let dom0 = dom0();
    let mut shell = dom0.shell();
    let r = run(&mut shell, "echo \"E $XENLAB_COMMAND 0 0\"; echo 'key '$XENLAB_COMMAND' 0'; echo H $XENLAB_COMMAND x >&2; exit 5").await;
    assert_eq!(
        (r.end, r.stdout.text.lines().count(), r.stderr.text.lines().count()),
        (CommandEnd::Exit(5), 2, 1)
    );
    let env = run(&mut shell, "env").await.stdout.text;
    assert!(!env.lines().any(|l| l.starts_with("K=") || l.starts_with("W=")), "{env}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_is_told_from_a_slow_command_and_comes_again() {
    let dom0 = dom0();
    let mut shell = dom0.shell();
    let r = run(&mut shell, "read -r _ _ _ p _ </proc/$$/stat; kill -9 $p; sleep 100").await;
    assert!(matches!(r.end, CommandEnd::Lost(_)) && r.seconds < 10.0, "{r:?}");
    assert_eq!(run(&mut shell, "echo two").await.stdout.text, "two\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_answer_is_given_up() {
    // Nobody there; somebody who says what a greeting is answered with; somebody who floods.
    for server in [
        "sleep 1000",
        "yes 'H 0123456789abcdef 0123456789abcdef' >&3",
        "while read -r l; do echo \"$l\"; done <&3 >&3",
        "yes | tr -d '\\n' >&3",
    ] {
        let dom0 = with(server, tempfile::tempdir().unwrap());
        let mut shell = dom0.shell();
        let began = Instant::now();
        let error = shell.connect(&limit(2)).await.unwrap_err();
        assert!(matches!(error, PortError::NoAnswer { .. }), "{server}: {error}");
        assert!(began.elapsed() < Duration::from_secs(4));
    }
    let dom0 = with("exit 0", tempfile::tempdir().unwrap());
    let shell = dom0.shell();
    for port in &dom0.ports {
        port.shutdown(std::net::Shutdown::Both).unwrap();
    }
    let mut shell = shell;
    assert!(matches!(shell.connect(&limit(2)).await, Err(PortError::Closed(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn first_words_that_are_refused_say_so() {
    // There is no program for them beside the server here.
    let dom0 = dom0();
    let mut shell = dom0.shell();
    assert!(matches!(shell.first_words(&limit(10)).await, Err(PortError::FirstWords(_))));
    assert_eq!(run(&mut shell, "echo still").await.stdout.text, "still\n");
}
