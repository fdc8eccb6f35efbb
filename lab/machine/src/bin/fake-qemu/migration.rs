//! Templates of the fake QEMU: it writes a state and loads one, as QEMU does it or as a test asks.
//!
//! `freeze`: `ok`; `refuse` (the command is an error); `fail` (half the state, then a failed migration); `hang` (never connects);
//! `abort` (dies with half the state written); `close-monitor` (with half the state written, and lives on). `load`: `ok`; `fail` (says so by
//! an event and lives on); `hang` (listens and never reads); `abort` (dies while it reads); `terminated` (as by SIGTERM); `close-monitor`.

use super::{Monitor, Script, die};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

/// A state: this, so many bytes that say nothing, and its end.
const BEGIN: &[u8] = b"FAKE";
const END: &[u8] = b"!";

fn state() -> Vec<u8> {
    [BEGIN, &[b'.'; 300_000], END].concat()
}

fn status(monitor: &Monitor, status: &str) {
    monitor.event("MIGRATION", &json!({"status": status}));
}

fn path(arguments: &Value) -> String {
    let uri = arguments["uri"].as_str().unwrap_or_default();
    uri.strip_prefix("unix:").unwrap_or_else(|| die(&format!("no socket in {uri:?}"))).to_owned()
}

/// `migrate`.
pub fn freeze(script: &Script, monitor: &Monitor, arguments: &Value) -> Result<Value, Value> {
    if script.freeze == "refuse" {
        let desc = "State blocked by non-migratable device '0000:00:04.0/coffee-maker'";
        return Err(json!({"class": "GenericError", "desc": desc}));
    }
    let (how, monitor, path) = (script.freeze.clone(), monitor.clone(), path(arguments));
    std::thread::spawn(move || {
        if how == "hang" {
            return;
        }
        let mut stream = UnixStream::connect(&path).unwrap_or_else(|e| die(&format!("{path}: {e}")));
        status(&monitor, "setup");
        status(&monitor, "active");
        let state = state();
        let written = stream.write_all(&state[..state.len() / 2]).is_ok();
        match how.as_str() {
            "fail" => return status(&monitor, "failed"),
            "abort" => std::process::abort(),
            "close-monitor" => return monitor.close(),
            _ => {}
        }
        let written = written && stream.write_all(&state[state.len() / 2..]).is_ok();
        status(&monitor, if written { "completed" } else { "failed" });
    });
    Ok(json!({}))
}

/// `migrate-incoming`: listens before it answers, as QEMU does.
pub fn load(script: &Script, monitor: &Monitor, arguments: &Value) -> Result<Value, Value> {
    let path = path(arguments);
    let listener = UnixListener::bind(&path).unwrap_or_else(|e| die(&format!("{path}: {e}")));
    let (how, monitor) = (script.load.clone(), monitor.clone());
    status(&monitor, "setup");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap_or_else(|e| die(&e.to_string()));
        status(&monitor, "active");
        if how == "hang" {
            super::hold();
        }
        let mut read = vec![0; 1000];
        let _ = stream.read_exact(&mut read);
        match how.as_str() {
            "abort" => std::process::abort(),
            "terminated" => {
                eprintln!("fake-qemu: terminating on signal 15 from pid 1 (init)");
                std::process::exit(0);
            }
            "close-monitor" => return monitor.close(),
            "fail" => return status(&monitor, "failed"),
            _ => {}
        }
        let _ = stream.read_to_end(&mut read);
        if !read.starts_with(BEGIN) {
            die("load of migration failed: Invalid argument");
        }
        if read.len() != state().len() || !read.ends_with(END) {
            die("load of migration failed: Input/output error");
        }
        *monitor.status.lock().expect("no thread panics") = "paused".to_owned();
        status(&monitor, "completed");
    });
    Ok(json!({}))
}
