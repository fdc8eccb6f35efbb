//! `cargo run -p xenlab-report --example show events.jsonl [SPEED]`: what the terminal showed of a recorded run, in its own time or SPEED
//! times as fast.

use std::time::Duration;
use xenlab_model::event::{Event, Sink};
use xenlab_report::{Fan, Terminal};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("name an events.jsonl")?;
    let speed: f64 = args.next().map_or(Ok(1.0), |s| s.parse())?;
    let fan = Fan::start(vec![Box::new(Terminal::stderr())]);
    let mut at = 0.0;
    for line in std::fs::read_to_string(path)?.lines() {
        let event: Event = serde_json::from_str(line)?;
        std::thread::sleep(Duration::from_secs_f64((event.at - at).max(0.0) / speed));
        at = event.at;
        fan.emit(event.what);
    }
    fan.finish();
    Ok(())
}
