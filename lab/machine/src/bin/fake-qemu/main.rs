//! A QEMU that is none: takes the same command line, connects to the lab's sockets, speaks QMP, and plays what a script
//! says, well behaved or not. The harness is tested on it without a machine.
//!
//! The script is the JSON file named by the variable `FAKE_QEMU`:
//!
//! ```json
//! {"version": [10, 0, 2], "arch": "x86_64", "start": "ok", "stderr": "", "then": [{"write": "(XEN) hello\n"}, "hold"]}
//! ```
//!
//! `start`: `ok`; `refuse` (say `stderr`, exit 1); `abort` (say it, die of SIGABRT); `deaf` (never connect); `mute`
//! (connect, never greet); `foreign` (greet with something else). `then` is done one after the other from `cont` on; what
//! there is: see [`Act`]. A machine that was restored does `restored` in its place, if there is such a list.

mod migration;

use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// What a script is made of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default = "ten")]
    version: [u32; 3],
    #[serde(default = "x86_64")]
    arch: String,
    #[serde(default = "ok")]
    start: String,
    #[serde(default)]
    stderr: String,
    /// Commands that are never answered.
    #[serde(default)]
    unanswered: Vec<String>,
    /// How it writes a template's state, and how it loads one: see [`migration`].
    #[serde(default = "ok")]
    freeze: String,
    #[serde(default = "ok")]
    load: String,
    #[serde(default)]
    then: Vec<Act>,
    restored: Option<Vec<Act>>,
}

/// One thing it does.
#[derive(Deserialize, Clone)]
#[serde(rename_all = "kebab-case")]
enum Act {
    /// Writes to the console.
    Write(String),
    /// Plays a recorded console, so many bytes at a time (0: all at once).
    Play { file: String, chop: usize },
    /// Writes so many bytes to the console, as fast as they are taken.
    Flood(usize),
    /// The same with a text of one's own, over and over.
    FloodOf { text: String, bytes: usize },
    /// Writes a line of dom0's init: `xenlab: WORD NONCE REST` of `WORD REST`, the nonce taken from the case's layer in the
    /// initramfs, as dom0 does.
    Say(String),
    /// From now on this host's shell is at the console, as dom0's would be, in namespaces of its own.
    Shell,
    /// From now on this host's shell serves the ports, as dom0's would: the script is run as `sh FILE` in namespaces of its own
    /// with the ports as descriptors 3, 4 and 5.
    Ports(String),
    /// Waits until this was typed on the console.
    Expect(String),
    /// From now on writes back what is typed.
    Echo,
    /// Says an event.
    Event { name: String, data: Value },
    /// Says this on the monitor as it stands.
    Garbage(String),
    /// Is in this run state from now on, and says STOP.
    Stop(String),
    /// Milliseconds.
    Sleep(u64),
    /// Closes the console.
    HangUp,
    /// Closes the monitor.
    CloseMonitor,
    /// Exits with this status.
    Exit(i32),
    /// Dies of SIGABRT.
    Abort,
    /// Ends as QEMU does on SIGTERM.
    Terminated,
    /// Does nothing more until it is ended.
    Hold,
}

fn ten() -> [u32; 3] {
    [10, 0, 2]
}
fn x86_64() -> String {
    "x86_64".to_owned()
}
fn ok() -> String {
    "ok".to_owned()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let path = std::env::var("FAKE_QEMU").unwrap_or_else(|_| die("FAKE_QEMU does not name a script"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| die(&format!("{path}: {e}")));
    let script: Script = serde_json::from_str(&text).unwrap_or_else(|e| die(&format!("{path}: {e}")));
    let probing = args.windows(2).any(|w| w[0] == "-machine" && w[1] == "none");
    if probing {
        let monitor = Monitor::new(Box::new(std::io::stdout()));
        monitor.greet(&script);
        serve(std::io::stdin(), &monitor, &script, &args, mpsc::channel().0);
        return;
    }
    match script.start.as_str() {
        "refuse" => die(&script.stderr),
        "abort" => {
            eprintln!("{}", script.stderr);
            std::process::abort();
        }
        "deaf" => hold(),
        _ => {}
    }
    let connect = |id: &str| {
        let chardev = format!("socket,id={id},server=off,path=");
        let path = args
            .iter()
            .find_map(|a| a.strip_prefix(&chardev))
            .unwrap_or_else(|| die(&format!("no chardev {id}")));
        UnixStream::connect(path.replace(",,", ",")).unwrap_or_else(|e| die(&format!("{path}: {e}")))
    };
    let (qmp, console) = (connect("qmp"), connect("console"));
    let ports = ["port0", "port1", "port2"].map(connect);
    match script.start.as_str() {
        "mute" => hold(),
        "foreign" => {
            let _ = (&qmp).write_all(b"220 mail.example.org ESMTP\r\n");
            hold();
        }
        _ => {}
    }
    let writer = qmp.try_clone().unwrap_or_else(|e| die(&e.to_string()));
    let monitor = Monitor { socket: Arc::new(qmp.try_clone().ok()), ..Monitor::new(Box::new(writer)) };
    monitor.greet(&script);
    let (resume, resumed) = mpsc::channel();
    let player = Player { monitor: monitor.clone(), console, ports, qmp: qmp.try_clone().ok() };
    let restored = script.restored.as_ref().filter(|_| args.iter().any(|a| a == "-incoming"));
    let acts = restored.unwrap_or(&script.then).clone();
    std::thread::spawn(move || {
        if resumed.recv().is_ok() {
            player.play(acts);
        }
        // Its script is at its end and the machine goes on.
        hold();
    });
    serve(qmp, &monitor, &script, &args, resume);
    // The monitor was closed: QEMU does not end for that.
    hold();
}

/// The case's nonce, from the layer at the end of the initramfs, which lies in the run folder; QEMU's working directory is that.
fn nonce() -> String {
    const NAME: &[u8] = b"xenlab/nonce\0";
    let bytes = std::fs::read("initrd").unwrap_or_default();
    let Some(at) = bytes.windows(NAME.len()).rposition(|w| w == NAME) else { return "unknown".to_owned() };
    let rest = bytes[at + NAME.len()..].iter().skip_while(|b| **b == 0).take_while(|b| **b != b'\n');
    rest.map(|b| char::from(*b)).collect()
}

fn die(why: &str) -> ! {
    eprintln!("fake-qemu: {why}");
    std::process::exit(1)
}

fn hold() -> ! {
    loop {
        std::thread::park();
    }
}

/// The monitor's sending side, and the run state.
#[derive(Clone)]
struct Monitor {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    /// The connection, where there is one.
    socket: Arc<Option<UnixStream>>,
    status: Arc<Mutex<String>>,
}

impl Monitor {
    fn new(out: Box<dyn Write + Send>) -> Monitor {
        Monitor {
            out: Arc::new(Mutex::new(out)),
            socket: Arc::new(None),
            status: Arc::new(Mutex::new("prelaunch".to_owned())),
        }
    }
    fn close(&self) {
        if let Some(socket) = &*self.socket {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
    fn say(&self, text: &str) {
        let mut out = self.out.lock().expect("no thread panics");
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
    fn send(&self, message: &Value) {
        self.say(&format!("{message}\r\n"));
    }
    fn event(&self, name: &str, data: &Value) {
        self.send(&json!({"timestamp": {"seconds": 1, "microseconds": 0}, "event": name, "data": data}));
    }
    fn greet(&self, script: &Script) {
        self.send(&json!({"QMP": {"version": version(script), "capabilities": ["oob"]}}));
    }
}

fn version(script: &Script) -> Value {
    let [major, minor, micro] = script.version;
    json!({"qemu": {"major": major, "minor": minor, "micro": micro}, "package": "fake"})
}

/// Answers commands until the monitor is closed.
fn serve(from: impl Read, monitor: &Monitor, script: &Script, args: &[String], resume: mpsc::Sender<()>) {
    let cpus = args.windows(2).find(|w| w[0] == "-smp").and_then(|w| w[1].parse().ok()).unwrap_or(1);
    let board = if script.arch == "x86_64" { "q35" } else { "virt" };
    let kind = if script.arch == "x86_64" { "pc-q35" } else { "virt" };
    let tid = std::process::id();
    for line in BufReader::new(from).lines().map_while(Result::ok).filter(|l| !l.trim().is_empty()) {
        let message: BTreeMap<String, Value> = serde_json::from_str(&line).unwrap_or_default();
        let command = message.get("execute").and_then(Value::as_str).unwrap_or_default().to_owned();
        if script.unanswered.contains(&command) {
            continue;
        }
        let answer = match command.as_str() {
            "qmp_capabilities" => Ok(json!({})),
            "query-version" => Ok(version(script)),
            "query-target" => Ok(json!({"arch": script.arch})),
            "query-machines" => {
                let name = format!("{kind}-{}.{}", script.version[0], script.version[1]);
                Ok(json!([{"name": "none"}, {"name": name, "alias": board, "new-in-some-version": true}]))
            }
            "query-cpus-fast" => {
                Ok((0..cpus).map(|i| json!({"cpu-index": i, "thread-id": tid, "target": "new"})).collect())
            }
            "query-status" => Ok(json!({"status": *monitor.status.lock().expect("no thread panics")})),
            "human-monitor-command" if typed(&message).starts_with("gdbserver unix:") => {
                Ok(json!(stub(&typed(&message))))
            }
            "human-monitor-command" => Ok(json!(
                " TCP[HOST_FORWARD]  13  127.0.0.1 40022  10.0.2.15  22  0  0\r\n \
                UDP[HOST_FORWARD]  14  127.0.0.1 40009  10.0.2.15  9  0  0\r\n"
            )),
            "cont" | "quit" | "migrate_cancel" | "migrate-set-capabilities" => Ok(json!({})),
            "stop" => {
                *monitor.status.lock().expect("no thread panics") = "paused".to_owned();
                monitor.event("STOP", &Value::Null);
                Ok(json!({}))
            }
            "migrate" => migration::freeze(script, monitor, &arguments(&message)),
            "migrate-incoming" => migration::load(script, monitor, &arguments(&message)),
            "query-migrate" => Ok(json!({"status": "failed", "error-desc": "the fake was asked to fail"})),
            _ => Err(
                json!({"class": "CommandNotFound", "desc": format!("The command {command} has not been found")}),
            ),
        };
        let mut reply = match answer {
            Ok(value) => json!({"return": value}),
            Err(error) => json!({"error": error}),
        };
        if let Some(id) = message.get("id") {
            reply["id"] = id.clone();
        }
        if command == "cont" {
            *monitor.status.lock().expect("no thread panics") = "running".to_owned();
            monitor.event("RESUME", &Value::Null);
        }
        monitor.send(&reply);
        match command.as_str() {
            "cont" => drop(resume.send(())),
            "quit" => {
                monitor.event("SHUTDOWN", &json!({"guest": false, "reason": "host-qmp-quit"}));
                std::process::exit(0);
            }
            _ => {}
        }
    }
}

fn arguments(message: &BTreeMap<String, Value>) -> Value {
    message.get("arguments").cloned().unwrap_or_default()
}

struct Player {
    monitor: Monitor,
    console: UnixStream,
    ports: [UnixStream; 3],
    qmp: Option<UnixStream>,
}

impl Player {
    fn write(&self, bytes: &[u8]) {
        // Nobody reads any more: QEMU goes on without.
        let _ = (&self.console).write_all(bytes);
    }

    fn flood(&self, text: &str, bytes: usize) {
        let block = text.repeat(1 + (8 << 10) / text.len().max(1)).into_bytes();
        let mut left = bytes;
        while left > 0 {
            let n = left.min(block.len());
            self.write(&block[..n]);
            left -= n;
        }
    }

    fn shell(&self) {
        inside("mount -t tmpfs none /run; exec sh", [&self.console, &self.console, &self.console]);
    }

    fn serve_ports(&self, file: &str) {
        let [shell, stdout, stderr] = &self.ports;
        let script = format!(
            "exec 3<&0 4>&1 5>&2 </dev/null >/dev/null 2>&1; mount -t tmpfs none /run; exec sh '{file}'"
        );
        inside(&script, [shell, stdout, stderr]);
    }

    fn play(&self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Write(text) => self.write(text.as_bytes()),
                Act::Play { file, chop } => {
                    let bytes = std::fs::read(&file).unwrap_or_else(|e| die(&format!("{file}: {e}")));
                    let chop = if chop == 0 { bytes.len().max(1) } else { chop };
                    bytes.chunks(chop).for_each(|piece| self.write(piece));
                }
                Act::Flood(bytes) => {
                    self.flood("(XEN) the same line over and over, as a guest gone mad writes it\r\n", bytes);
                }
                Act::FloodOf { text, bytes } => self.flood(&text, bytes),
                Act::Say(words) => {
                    let (word, rest) = words.split_once(' ').unwrap_or((&words, ""));
                    self.write(
                        format!("{}\r\n", format!("xenlab: {word} {} {rest}", nonce()).trim_end()).as_bytes(),
                    );
                }
                Act::Shell => self.shell(),
                Act::Ports(file) => self.serve_ports(&file),
                Act::Expect(text) => {
                    let mut typed = Vec::new();
                    let mut byte = [0];
                    while !typed.ends_with(text.as_bytes())
                        && matches!((&self.console).read(&mut byte), Ok(1))
                    {
                        typed.push(byte[0]);
                    }
                }
                Act::Echo => {
                    if let (Ok(mut read), Ok(mut write)) =
                        (self.console.try_clone(), self.console.try_clone())
                    {
                        std::thread::spawn(move || std::io::copy(&mut read, &mut write));
                    }
                }
                Act::Event { name, data } => self.monitor.event(&name, &data),
                Act::Garbage(text) => self.monitor.say(&text),
                Act::Stop(state) => {
                    *self.monitor.status.lock().expect("no thread panics") = state;
                    self.monitor.event("STOP", &Value::Null);
                }
                Act::Sleep(millis) => std::thread::sleep(Duration::from_millis(millis)),
                Act::HangUp => drop(self.console.shutdown(std::net::Shutdown::Both)),
                Act::CloseMonitor => drop(self.qmp.as_ref().map(|q| q.shutdown(std::net::Shutdown::Both))),
                Act::Exit(status) => std::process::exit(status),
                Act::Abort => std::process::abort(),
                Act::Terminated => {
                    eprintln!("fake-qemu: terminating on signal 15 from pid 1 (init)");
                    self.monitor.event("SHUTDOWN", &json!({"guest": false, "reason": "host-signal"}));
                    std::process::exit(0);
                }
                Act::Hold => return,
            }
        }
    }
}

/// This host's shell in namespaces of its own, with these as its standard input and outputs. As in a machine: its processes end
/// with it, whatever they did, and what it writes below /run is its own.
fn inside(script: &str, ends: [&UnixStream; 3]) {
    let [stdin, stdout, stderr] = ends.map(|end| {
        let end = end.try_clone().unwrap_or_else(|e| die(&e.to_string()));
        std::process::Stdio::from(std::os::fd::OwnedFd::from(end))
    });
    let mut machine = std::process::Command::new("unshare");
    machine
        .args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", script]);
    if let Err(e) = machine.stdin(stdin).stdout(stdout).stderr(stderr).spawn() {
        die(&format!("unshare: {e}"));
    }
}

/// The line for the human monitor.
fn typed(message: &BTreeMap<String, Value>) -> String {
    arguments(message)["command-line"].as_str().unwrap_or_default().to_owned()
}

/// A stub for debuggers, on whose socket nobody answers; what the monitor says of it.
fn stub(line: &str) -> String {
    let path = line.trim_start_matches("gdbserver unix:").split(',').next().unwrap_or_default();
    match std::os::unix::net::UnixListener::bind(path) {
        Ok(listener) => {
            // It stays as long as the process does.
            std::mem::forget(listener);
            String::new()
        }
        Err(e) => format!("{path}: {e}"),
    }
}
