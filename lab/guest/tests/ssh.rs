//! The SSH shell against real servers on this host: dropbear, and OpenSSH's. Needs the packages `dropbear-bin` and `openssh-server`.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use xenlab_guest::ssh::{SshConfig, SshError, SshShell};
use xenlab_guest::{CAPTURE_LIMIT, Deadline, Script, Shell};
use xenlab_model::cause::Cause;
use xenlab_model::evidence::{CommandEnd, CommandResult};

struct Server {
    child: Child,
    config: SshConfig,
    argv: Vec<String>,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn ok(command: &mut Command) {
    let out = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}; is it installed?"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn keygen(path: &Path) {
    ok(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(path));
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A server of one's own for the user who runs the tests, with keys in a folder of its own.
fn serve(openssh: bool) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    keygen(&at("user"));
    keygen(&at("host"));
    let addr = free_port();
    let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
    std::fs::create_dir(at("auth")).unwrap();
    std::fs::set_permissions(at("auth"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(at("auth/authorized_keys"), read("user.pub")).unwrap();
    std::fs::set_permissions(at("auth/authorized_keys"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let path = |name: &str| at(name).to_str().unwrap().to_owned();
    let argv = if openssh {
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nUsePAM no\nStrictModes no\nAuthorizedKeysFile {}\n",
            addr.port(),
            path("host"),
            path("auth/authorized_keys")
        );
        std::fs::write(at("config"), config).unwrap();
        // Its folder of privilege separation, which the init script would make.
        let _ = std::fs::create_dir("/run/sshd");
        vec!["/usr/sbin/sshd".into(), "-D".into(), "-e".into(), "-f".into(), path("config")]
    } else {
        ok(Command::new("dropbearconvert").args(["openssh", "dropbear", &path("host"), &path("dropbear")]));
        let port = format!("127.0.0.1:{}", addr.port());
        let help = Command::new("/usr/sbin/dropbear").arg("-h").output().unwrap();
        let own_folder = String::from_utf8_lossy(&help.stderr).contains("\n-D");
        let mut argv: Vec<String> = Vec::new();
        if !own_folder {
            // Before 2024 it reads the user's own folder and no other, that of the password database: give it one of its own, in a mount
            // namespace.
            std::fs::create_dir(at("auth/.ssh")).unwrap();
            std::fs::set_permissions(at("auth/.ssh"), std::fs::Permissions::from_mode(0o700)).unwrap();
            std::fs::rename(at("auth/authorized_keys"), at("auth/.ssh/authorized_keys")).unwrap();
            let script = "mount --bind \"$0\" \"$(getent passwd \"$(id -u)\" | cut -d: -f6)\" && exec \"$@\"";
            argv.extend(["unshare", "-m", "sh", "-c", script, &path("auth")].map(str::to_owned));
        }
        argv.extend(
            ["/usr/sbin/dropbear", "-F", "-E", "-r", &path("dropbear"), "-p", &port].map(str::to_owned),
        );
        if own_folder {
            argv.extend(["-D".to_owned(), path("auth")]);
        }
        argv
    };
    let user =
        String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned();
    let config = SshConfig { addr, user, private_key: read("user"), host_key: read("host.pub") };
    Server { child: start(&argv), config, argv, _dir: dir }
}

fn start(argv: &[String]) -> Child {
    use std::os::unix::process::CommandExt;
    Command::new(&argv[0]).args(&argv[1..]).stderr(Stdio::null()).process_group(0).spawn().unwrap()
}

impl Server {
    /// Kills it and the processes of its connections.
    fn stop(&mut self) {
        let pid = self.child.id().to_string();
        let children = Command::new("pgrep").args(["-P", &pid]).output().unwrap();
        let _ = Command::new("kill")
            .args(["-9", &pid])
            .args(String::from_utf8_lossy(&children.stdout).split_whitespace())
            .output();
        let _ = self.child.wait();
    }

    async fn connect(&self) -> SshShell {
        SshShell::connect(self.config.clone(), limit(30)).await.unwrap()
    }
}

fn limit(seconds: u64) -> Deadline {
    Deadline::wall(Duration::from_secs(seconds))
}

async fn run(shell: &mut SshShell, script: &str) -> CommandResult {
    shell.run(&Script::new(script), limit(30)).await
}

async fn everything(server: Server) {
    let mut shell = server.connect().await;
    let r = run(&mut shell, "echo out; echo err >&2; exit 3").await;
    assert_eq!(
        (r.end, r.stdout.text.as_str(), r.stderr.text.as_str()),
        (CommandEnd::Exit(3), "out\n", "err\n")
    );
    assert_eq!(run(&mut shell, "kill -9 $$").await.end, CommandEnd::Signal("KILL".into()));
    assert_eq!(run(&mut shell, "exit 137").await.end, CommandEnd::Exit(137));
    assert_eq!(run(&mut shell, "cat; echo \"[$?]\"").await.stdout.text, "[0]\n");
    let r = run(&mut shell, "head -c 3000000 /dev/zero | tr '\\0' e >&2").await;
    assert_eq!((r.stdout.total, r.stderr.total, r.stderr.cut), (0, 3_000_000, true), "only standard error");
    let awkward = "it's\na \"$HOME\" `x` \\ é ~ %s";
    let script = Script::new("printf '%s' \"$v\"").with_env([("v".into(), awkward.into())]);
    assert_eq!(shell.run(&script, limit(30)).await.stdout.text, awkward);
    let long = Script::new(format!("# {}\necho \"$v\" end", "x".repeat(40_000)))
        .with_env([("v".into(), "the".into())]);
    assert_eq!(shell.run(&long, limit(30)).await.stdout.text, "the end\n");
    let r = run(&mut shell, "if").await;
    assert!(matches!(r.end, CommandEnd::Exit(n) if n != 0) && !r.stderr.text.is_empty(), "{r:?}");
    // A flood that never ends, beside a command of another's.
    let mut other = shell.clone();
    let flood = tokio::spawn(async move { other.run(&Script::new("yes"), limit(3)).await });
    assert_eq!(run(&mut shell, "sleep 1; echo beside").await.stdout.text, "beside\n");
    let r = flood.await.unwrap();
    assert_eq!((r.end, r.stdout.text.len(), r.stdout.cut), (CommandEnd::TimedOut(3), CAPTURE_LIMIT, true));
    // Late: killed with its whole process group, then the session is used again.
    let mark = format!("60{}", std::process::id());
    let r = shell.run(&Script::new(format!("echo begun; sleep {mark}; :")), limit(1)).await;
    assert_eq!((r.end, r.stdout.text.as_str()), (CommandEnd::TimedOut(1), "begun\n"));
    let left = Command::new("pgrep").args(["-f", &format!("^sleep {mark}")]).output().unwrap();
    assert!(left.stdout.is_empty(), "the whole process group is killed");
    let since = Instant::now();
    assert_eq!(run(&mut shell, "echo again").await.stdout.text, "again\n");
    assert!(since.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropbear() {
    everything(serve(false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh() {
    everything(serve(true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_key_and_a_refused_user_are_final() {
    let server = serve(false);
    let strange = SshConfig { host_key: serve(false).config.host_key.clone(), ..server.config.clone() };
    let error = SshShell::connect(strange, limit(30)).await.err().unwrap();
    assert!(matches!(error, SshError::HostKey { .. }) && error.cause() == Cause::SshDead, "{error}");
    let stranger =
        SshConfig { private_key: serve(false).config.private_key.clone(), ..server.config.clone() };
    let error = SshShell::connect(stranger, limit(30)).await.err().unwrap();
    assert!(matches!(error, SshError::Refused { .. }), "{error}");
    let broken = SshConfig { private_key: "no key".into(), ..server.config.clone() };
    assert!(matches!(SshShell::connect(broken, limit(30)).await, Err(SshError::Key { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_and_comes_back() {
    let mut server = serve(false);
    let mut shell = server.connect().await;
    let mut other = shell.clone();
    let running =
        tokio::spawn(async move { other.run(&Script::new("echo begun; sleep 20"), limit(30)).await });
    assert_eq!(run(&mut shell, "echo up").await.stdout.text, "up\n");
    server.stop();
    let r = running.await.unwrap();
    assert!(matches!(r.end, CommandEnd::Lost(_)), "{r:?}");
    let r = shell.run(&Script::new("echo nobody"), limit(1)).await;
    let CommandEnd::Lost(why) = r.end else { panic!("{r:?}") };
    assert!(why.contains("no SSH server answered"), "{why}");
    // It comes back while somebody is trying already, as one that is booting does.
    let argv = server.argv.clone();
    let back = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(700)).await;
        start(&argv)
    });
    assert_eq!(run(&mut shell, "echo back").await.stdout.text, "back\n");
    server.child = back.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_or_talkative_stranger_hangs_nobody() {
    let server = serve(false);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept: Vec<TcpStream> = Vec::new();
        for (n, stream) in listener.incoming().flatten().enumerate() {
            let mut stream = stream;
            if n % 2 == 0 {
                let _ = stream.write_all(b"SSH-2.0-nothing\r\n\0\0\0");
            }
            kept.push(stream);
        }
    });
    let since = Instant::now();
    let config = SshConfig { addr, ..server.config.clone() };
    let error = SshShell::connect(config, limit(3)).await.err().unwrap();
    assert!(matches!(error, SshError::NoAnswer { .. }), "{error}");
    assert!(since.elapsed() < Duration::from_secs(6));
}

#[tokio::test]
async fn a_connection_that_is_made_early_does_not_make_a_command_late() {
    // Accepts and says nothing, as QEMU does for a dom0 that has no server.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    keygen(&dir.path().join("key"));
    let key = std::fs::read_to_string(dir.path().join("key")).unwrap();
    let public = std::fs::read_to_string(dir.path().join("key.pub")).unwrap();
    let config = SshConfig {
        addr: mute.local_addr().unwrap(),
        user: "root".into(),
        private_key: key,
        host_key: public,
    };
    let mut shell = SshShell::new(config).unwrap();
    let early = shell.clone();
    let opening = tokio::spawn(async move { early.open(Deadline::wall(Duration::from_secs(120))).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    let result = shell.run(&Script::new("true"), Deadline::wall(Duration::from_secs(1))).await;
    assert!(matches!(result.end, CommandEnd::Lost(_)), "{:?}", result.end);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(matches!(opening.await.unwrap(), Err(SshError::NoAnswer { .. })));
}
