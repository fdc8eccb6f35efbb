//! Child processes through the hidden sub-command. A harness of its own: its `main` has to call `intercept` first.

use libtest_mimic::{Arguments, Failed, Trial};
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};
use xenlab_host::child::{self, Command, Ended};
use xenlab_host::{ChildError, interrupt};

type Test = Result<(), Failed>;

fn main() {
    let hidden = std::env::args().nth(1).is_some_and(|a| a == child::EXEC || a == child::GUARD);
    if std::env::var("VICTIM").as_deref() == Ok("helper") && !hidden {
        // A program that does not handle the sub-commands and names one that does.
        child::set_helper(std::env::current_exe().expect("it has one"));
        victim();
    }
    child::intercept();
    // As a program of its own: starts children, tells them, and waits to be killed.
    match std::env::var("VICTIM").as_deref() {
        Ok("children") => victim(),
        Ok("interrupt") => interrupted(),
        _ => {}
    }
    let test = |name: &str, run: fn() -> Test| Trial::test(name, run);
    let trials = vec![
        test("output_is_captured_and_status_told", output),
        test("output_past_the_limit_is_cut_and_says_so", limits),
        test("a_missing_program_names_its_package", missing),
        test("a_program_that_cannot_be_executed", not_executable),
        test("a_limit_kills", limit),
        test("what_a_child_leaves_in_its_group_is_killed", leftovers),
        test("the_environment_can_be_emptied", environment),
        test("descriptors_are_inherited_only_when_asked", descriptors),
        test("dropping_kills", dropping),
        test("async_wait", async_wait),
        test("standard_output_can_be_read_as_a_stream", stream),
        test("children_die_with_the_lab_and_theirs_too", death),
        test("children_die_through_another_program_too", death_through_a_helper),
        test("the_first_signal_asks_the_second_ends", signals),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

fn alive(pid: u32) -> bool {
    // A zombie whose parent has not looked yet is dead.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| !s.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

fn gone_within(pid: u32, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if !alive(pid) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

fn output() -> Test {
    let out = sh("cat; echo err >&2; exit 3").stdin_bytes(b"in\n".to_vec()).output()?;
    assert_eq!(out.ended, Ended::Exit(3));
    assert_eq!((out.stdout.text().as_str(), out.stderr.text().as_str()), ("in\n", "err\n"));
    assert!(!out.stdout.cut && !out.stderr.cut);
    let out = sh("kill -TERM $$").output()?;
    assert_eq!(out.ended, Ended::Signal(15));
    let failed = sh("echo why >&2; exit 1").checked().unwrap_err();
    assert_eq!(failed.to_string(), "sh: exit status 1; it said:\nwhy");
    // A pipe nobody reads any more ends a writer, as it does under a shell.
    assert_eq!(sh("yes | head -1").checked()?.stdout.text(), "y\n");
    // Input that is not read does not hold anybody up.
    assert!(sh("exit 0").stdin_bytes(vec![0; 1 << 20]).output()?.ended.ok());
    Ok(())
}

fn limits() -> Test {
    let out = sh("printf abcdefgh; printf 12345678 >&2").stdout_limit(3).stderr_limit(3).output()?;
    assert_eq!((out.stdout.text().as_str(), out.stdout.total, out.stdout.cut), ("abc", 8, true));
    assert_eq!((out.stderr.text().as_str(), out.stderr.total, out.stderr.cut), ("678", 8, true));
    Ok(())
}

fn missing() -> Test {
    let error = Command::new("no-such-program").output().unwrap_err();
    assert!(
        matches!(&error, ChildError::NotFound { program, .. } if program == "no-such-program"),
        "{error}"
    );
    assert_eq!(error.cause().code(), "host.tool-missing");
    Ok(())
}

fn not_executable() -> Test {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("x");
    std::fs::write(&path, "#!/no/such/interpreter\n")?;
    assert!(matches!(Command::new(&path).output(), Err(ChildError::Exec { .. })));
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    let error = Command::new(&path).output().unwrap_err();
    assert!(
        matches!(error, ChildError::Exec { .. }) && error.to_string().contains("No such file"),
        "{error}"
    );
    assert!(matches!(Command::new(dir.path()).output(), Err(ChildError::Exec { .. })));
    Ok(())
}

fn limit() -> Test {
    let begin = Instant::now();
    let error = sh("sleep 60").limit(Duration::from_millis(100)).output().unwrap_err();
    assert!(matches!(error, ChildError::TimedOut { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(10));
    Ok(())
}

fn leftovers() -> Test {
    let out = sh("sleep 60 & echo $!").output()?;
    let pid = out.stdout.text().trim().parse()?;
    assert!(gone_within(pid, Duration::from_secs(5)));
    // Even what left the group and holds the pipe does not hold up the one who waits.
    let begin = Instant::now();
    let out = sh("setsid sleep 20 & echo $!").output()?;
    assert!(begin.elapsed() < Duration::from_secs(10));
    let pid: i32 = out.stdout.text().trim().parse()?;
    let pid = rustix::process::Pid::from_raw(pid).ok_or("no pid")?;
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    Ok(())
}

fn environment() -> Test {
    let out = sh("echo $A-$HOME-$B").env("A", "1").env_clear().env("B", "2").output()?;
    assert_eq!(out.stdout.text(), "1--2\n");
    let out = sh("pwd").cwd("/").env_remove("PWD").output()?;
    assert_eq!(out.stdout.text(), "/\n");
    Ok(())
}

fn descriptors() -> Test {
    use std::os::fd::{AsRawFd, OwnedFd};
    let file = tempfile::tempfile()?;
    let fd = file.as_raw_fd();
    let ask = format!("test -e /proc/self/fd/{fd} && echo there || echo not");
    assert_eq!(sh(&ask).output()?.stdout.text(), "not\n");
    assert_eq!(sh(&ask).keep_fd(OwnedFd::from(file)).output()?.stdout.text(), "there\n");
    Ok(())
}

fn dropping() -> Test {
    let child = sh("sleep 60").spawn()?;
    let pid = child.pid();
    assert!(alive(pid));
    drop(child);
    assert!(gone_within(pid, Duration::from_secs(5)));
    Ok(())
}

fn async_wait() -> Test {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let child = sh("echo out; exit 4").spawn()?;
    assert_eq!(runtime.block_on(child.wait())?, Ended::Exit(4));
    assert_eq!(runtime.block_on(child.wait())?, Ended::Exit(4), "it can be asked again");
    assert_eq!(child.stdout().text(), "out\n");
    Ok(())
}

fn stream() -> Test {
    let mut child = sh("printf 12345").stdout_pipe().spawn()?;
    let mut text = String::new();
    child.take_stdout().ok_or("no pipe")?.read_to_string(&mut text)?;
    assert_eq!(text, "12345");
    assert!(child.wait_blocking()?.ok());
    Ok(())
}

/// Runs this program again in a role; what it prints is read line by line.
fn again(role: &str) -> std::io::Result<std::process::Child> {
    std::process::Command::new(std::env::current_exe()?).env("VICTIM", role).stdout(Stdio::piped()).spawn()
}

fn victim() -> ! {
    let child = sh("sleep 60").spawn().expect("sh runs");
    // A script that runs a program and does not exec it, as wrappers of QEMU do.
    let mut wrapper = sh("sleep 60 & echo $!; wait").stdout_pipe().spawn().expect("sh runs");
    let mut byte = [0];
    let mut grandchild = String::new();
    let mut out = wrapper.take_stdout().expect("asked for");
    while out.read(&mut byte).is_ok_and(|n| n == 1) && byte != *b"\n" {
        grandchild.push(char::from(byte[0]));
    }
    println!("{} {} {grandchild}", child.pid(), wrapper.pid());
    std::io::stdout().flush().expect("somebody listens");
    loop {
        std::thread::park();
    }
}

fn line(from: &mut impl Read) -> std::io::Result<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while from.read(&mut byte)? == 1 && byte != *b"\n" {
        text.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn death() -> Test {
    death_of("children")
}

fn death_through_a_helper() -> Test {
    death_of("helper")
}

fn death_of(role: &str) -> Test {
    let mut victim = again(role)?;
    let told = line(victim.stdout.as_mut().ok_or("no pipe")?)?;
    let pids: Vec<u32> = told.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    assert_eq!(pids.len(), 3, "{told}");
    assert!(pids.iter().all(|p| alive(*p)));
    victim.kill()?;
    victim.wait()?;
    for pid in pids {
        assert!(gone_within(pid, Duration::from_secs(3)), "{pid} is still there");
    }
    Ok(())
}

fn interrupted() -> ! {
    interrupt::install().expect("signals can be handled");
    let run = xenlab_host::rundir::RunDir::create("interrupt test").expect("a run folder");
    let idle = sh("sleep 60").spawn().expect("sh runs");
    println!("{} {}", idle.pid(), run.path().display());
    std::io::stdout().flush().expect("somebody listens");
    let error = sh("sleep 60").output().unwrap_err();
    println!("{}", matches!(error, ChildError::Interrupted { .. }) && idle.ended().is_none());
    std::io::stdout().flush().expect("somebody listens");
    loop {
        std::thread::park();
    }
}

fn signals() -> Test {
    let mut victim = again("interrupt")?;
    let pid = rustix::process::Pid::from_child(&victim);
    let mut out = victim.stdout.take().ok_or("no pipe")?;
    let told = line(&mut out)?;
    let (idle, run) = told.split_once(' ').ok_or("two words")?;
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    assert_eq!(line(&mut out)?, "true");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    assert_eq!(victim.wait()?.code(), Some(130));
    assert!(gone_within(idle.parse()?, Duration::from_secs(3)));
    assert!(!std::path::Path::new(run).exists());
    Ok(())
}
