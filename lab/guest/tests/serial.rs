//! The serial shell against real shells on a pseudo-terminal, with what a real console does to it.

use bytes::Bytes;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use xenlab_guest::serial::{Login, SerialShell};
use xenlab_guest::{CAPTURE_LIMIT, Deadline, Script, Shell};
use xenlab_model::evidence::{CommandEnd, CommandResult};

/// What the console does to what is shown.
#[derive(Clone, Copy, Default)]
struct Noise {
    /// One in so many bytes has a line of Xen's before it; 0: none.
    xen: u64,
    /// One in so many bytes is lost; 0: none.
    lost: u64,
    /// So long passes before each read.
    pause: Duration,
}

struct Console {
    child: Child,
    shell: SerialShell<tokio::io::DuplexStream>,
    /// What somebody else types.
    hand: File,
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn console(argv: &[&str], noise: Noise, login: Login) -> Console {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let end = || Stdio::from(File::options().read(true).write(true).open(&name).unwrap());
    let child = Command::new(argv[0])
        .args(&argv[1..])
        .env("PS1", "# ")
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    let (tx, rx) = mpsc::channel(64);
    let mut source = File::from(master.try_clone().unwrap());
    std::thread::spawn(move || {
        let mut seed: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut chance = |n: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            n > 0 && seed.is_multiple_of(n)
        };
        let mut buffer = [0; 1024];
        while let Ok(n) = source.read(&mut buffer) {
            std::thread::sleep(noise.pause);
            let mut shown = Vec::new();
            for &b in &buffer[..n] {
                if chance(noise.xen) {
                    shown.extend_from_slice(b"(XEN) [   12.345678] d0v1 Unhandled: vec 13, #GP[0000]\r\n");
                }
                if !chance(noise.lost) {
                    shown.push(b);
                }
            }
            if n == 0 || tx.blocking_send(Bytes::from(shown)).is_err() {
                return;
            }
        }
    });
    let (typed, mut keys) = tokio::io::duplex(4096);
    let hand = File::from(master.try_clone().unwrap());
    tokio::spawn(async move {
        let mut master = File::from(master);
        let mut buffer = [0; 256];
        while let Ok(n @ 1..) = keys.read(&mut buffer).await {
            master.write_all(&buffer[..n]).unwrap();
        }
    });
    Console { child, shell: SerialShell::new(rx, typed, login), hand }
}

fn limit(seconds: u64) -> Deadline {
    Deadline::wall(Duration::from_secs(seconds))
}

impl Console {
    async fn run(&mut self, script: &str) -> CommandResult {
        self.shell.run(&Script::new(script), limit(60)).await
    }
}

/// Everything a result can be, by one shell.
async fn everything(mut c: Console) {
    let r = c.run("echo out; echo err >&2; exit 3").await;
    assert_eq!(
        (r.end, r.stdout.text.as_str(), r.stderr.text.as_str()),
        (CommandEnd::Exit(3), "out\n", "err\n")
    );
    let r = c.run("kill -9 $$").await;
    assert_eq!(r.end, CommandEnd::Signal("KILL".into()));
    let r = c.run("exit 137").await;
    assert_eq!(r.end, CommandEnd::Exit(137));
    let r = c.run("cat; echo \"[$?]\"").await;
    assert_eq!(r.stdout.text, "[0]\n", "standard input is empty");
    let awkward = "it's\na \"$HOME\" `x` \\ é ~ %s";
    let script = Script::new("printf '%s' \"$v\"\n\n").with_env([("v".into(), awkward.into())]);
    let r = c.shell.run(&script, limit(60)).await;
    assert_eq!((r.end, r.stdout.text.as_str()), (CommandEnd::Exit(0), awkward));
    let r = c.shell.run(&Script::argv(["printf", "%s|", "a b", "", "'"]), limit(60)).await;
    assert_eq!(r.stdout.text, "a b||'|");
    let r = c.run("").await;
    assert_eq!((r.end, r.stdout.total, r.stderr.total), (CommandEnd::Exit(0), 0, 0));
    let r = c.run("if").await;
    assert!(matches!(r.end, CommandEnd::Exit(n) if n != 0) && !r.stderr.text.is_empty(), "{r:?}");
    let r = c.run("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done").await;
    assert_eq!(r.stdout.text, (0..2000).map(|i| format!("line {i}\n")).collect::<String>());
}

#[tokio::test(flavor = "multi_thread")]
async fn dash_on_a_quiet_console() {
    everything(console(&["dash", "-i"], Noise::default(), Login::none())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_with_line_editing() {
    everything(console(&["bash", "--norc", "-i"], Noise::default(), Login::none())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn busybox_where_xen_writes_between_any_two_bytes() {
    let noise = Noise { xen: 400, ..Noise::default() };
    everything(console(&["busybox", "sh", "-i"], noise, Login::none())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn busybox_alone() {
    // Nothing but applets, and no cksum among them, each under a name of its own: some builds of busybox know them without, others do not.
    let dir = tempfile::tempdir().unwrap();
    for name in ["busybox", "sh", "cat"] {
        std::os::unix::fs::symlink("/bin/busybox", dir.path().join(name)).unwrap();
    }
    let path = format!("PATH={}", dir.path().display());
    everything(console(&["env", "-i", &path, "/bin/busybox", "sh"], Noise::default(), Login::none())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_get_lost() {
    let noise = Noise { xen: 900, lost: 1500, ..Noise::default() };
    let mut c = console(&["sh", "-i"], noise, Login::none());
    let r = c.run("i=0; while [ $i -lt 1000 ]; do echo line $i; echo e$i >&2; i=$((i+1)); done").await;
    assert_eq!(r.end, CommandEnd::Exit(0));
    assert_eq!(r.stdout.text, (0..1000).map(|i| format!("line {i}\n")).collect::<String>());
    assert_eq!(r.stderr.text, (0..1000).map(|i| format!("e{i}\n")).collect::<String>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_shell_is_waited_for() {
    let noise = Noise { pause: Duration::from_millis(40), ..Noise::default() };
    let mut c = console(&["sh", "-c", "sleep 3; exec sh -i"], noise, Login::none());
    let r = c.run("sleep 3; echo slow").await;
    assert_eq!((r.end, r.stdout.text.as_str()), (CommandEnd::Exit(0), "slow\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_counted_and_cut() {
    let mut c = console(&["sh", "-i"], Noise::default(), Login::none());
    let r = c.run("head -c 50000000 /dev/zero | tr '\\0' y").await;
    assert_eq!((r.end, r.stdout.text.len(), r.stdout.cut), (CommandEnd::Exit(0), CAPTURE_LIMIT, true));
    assert_eq!(r.stdout.total, 50_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_command_is_killed_and_the_next_one_runs() {
    let mut c = console(&["sh", "-i"], Noise::default(), Login::none());
    c.shell.connect(&limit(60)).await.unwrap();
    let mark = format!("60{}", std::process::id());
    let r = c.shell.run(&Script::new(format!("echo begun; sleep {mark}")), limit(2)).await;
    assert_eq!((r.end, r.stdout.text.as_str()), (CommandEnd::TimedOut(2), "begun\n"));
    let left = Command::new("pgrep").args(["-f", &format!("^sleep {mark}")]).output().unwrap();
    assert!(left.stdout.is_empty(), "the whole process group is killed");
    assert_eq!(c.run("echo again").await.stdout.text, "again\n");
    // Given up by its caller instead.
    let late = Script::new("echo stray; sleep 1000");
    let given_up = tokio::time::timeout(Duration::from_secs(1), c.shell.run(&late, limit(600))).await;
    assert!(given_up.is_err());
    assert_eq!(c.run("echo once more").await.stdout.text, "once more\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_running_does_not_hold_it_up() {
    let mut c = console(&["sh", "-i"], Noise::default(), Login::none());
    let r = c.run("sleep 30 & echo left").await;
    assert_eq!((r.end, r.stdout.text.as_str()), (CommandEnd::Exit(0), "left\n"));
    assert!(r.seconds < 20.0, "{}", r.seconds);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_for_a_name_and_a_password() {
    let getty = "while :; do printf 'dom0 login: '; read -r u; [ \"$u\" ] || continue; printf 'Password: '; stty -echo; read -r p; \
        stty echo; [ \"$u,$p\" = root,secret ] && exec sh -i; echo 'Login incorrect'; done";
    let mut c = console(&["sh", "-c", getty], Noise::default(), Login::getty("root", Some("secret")));
    assert_eq!(c.run("echo in").await.stdout.text, "in\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_agent_is_started_anew() {
    let mut c = console(&["sh", "-i"], Noise::default(), Login::none());
    assert_eq!(c.run("echo one").await.stdout.text, "one\n");
    // The agent is the parent of the shell that waits for the script.
    let script = "read -r _ _ _ p _ </proc/$$/stat; read -r _ _ _ a _ </proc/$p/stat; kill -9 $a; kill -9 $p";
    let r = c.shell.run(&Script::new(script), limit(6)).await;
    assert!(matches!(r.end, CommandEnd::Lost(_)), "{r:?}");
    assert_eq!(c.run("echo two").await.stdout.text, "two\n");
}

/// The console of the small userland: a shell that reads the terminal as a script, in blocks, and comes again when it ends.
const SCRIPTED: &str = "stty -echo -icanon -isig; while :; do busybox sh /proc/self/fd/0; sleep 0.2; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_given_up_at_any_moment_does_not_spoil_the_next() {
    let mut c = console(&["sh", "-c", SCRIPTED], Noise::default(), Login::none());
    for ms in [1, 3, 10, 30, 60, 100, 200, 400] {
        // Whatever has been typed by then stays typed.
        let _ = tokio::time::timeout(Duration::from_millis(ms), c.shell.connect(&limit(60))).await;
    }
    assert_eq!(c.run("echo here").await.stdout.text, "here\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_left_inside_a_quote_is_brought_back() {
    for half in ["echo \"half", "D=$(echo \"a"] {
        let mut c = console(&["sh", "-c", SCRIPTED], Noise::default(), Login::none());
        c.hand.write_all(format!("{half}\n").as_bytes()).unwrap();
        assert_eq!(c.run("echo back").await.stdout.text, "back\n", "after {half}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_console_is_not_a_slow_command() {
    let mut c = console(&["sleep", "1000"], Noise::default(), Login::none());
    let r = c.shell.run(&Script::new("echo x"), limit(3)).await;
    let CommandEnd::Lost(why) = r.end else { panic!("{r:?}") };
    assert!(why.contains("no shell answered"), "{why}");
}
