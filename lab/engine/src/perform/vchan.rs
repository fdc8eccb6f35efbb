//! The step `vchan`: an end of a channel in each of two domains, what goes through it, and its end.

use super::dom0::Dom0;
use super::domain::{in_guest, nonce_file, seen};
use super::scripts::quote;
use super::xtf::of_guest;
use crate::hub::Hub;
use std::collections::BTreeMap;
use std::time::Duration;
use xenlab_model::cause::Cause;
use xenlab_model::evidence::Loss;
use xenlab_model::step::Observation;
use xenlab_model::step::vchan::{BYTES, DOM0, PROGRAM, Part, Side, Vchan, VchanEvidence, What};

/// A wait for the other end may take this part of the step's limit: there are four of them.
const WAITS: u32 = 5;

#[derive(Clone)]
/// What the scripts of one channel have in common.
struct Channel {
    /// Its folder in each domain, and its node, are named by it.
    id: String,
    /// The domains' numbers.
    domids: BTreeMap<String, u32>,
    /// How long is waited for the other end.
    seconds: u64,
}

impl Channel {
    /// In its own domain the server may write: a guest under `data`, which libxl makes for that, dom0 anywhere.
    fn node(&self, step: &Vchan) -> String {
        let domid = self.domid(&step.server);
        match step.server.as_str() {
            DOM0 => format!("/local/domain/{domid}/vchan-{}", self.id),
            _ => format!("/local/domain/{domid}/data/vchan-{}", self.id),
        }
    }

    fn domid(&self, domain: &str) -> u32 {
        self.domids.get(domain).copied().unwrap_or_default()
    }

    fn script(&self, step: &Vchan, what: What) -> String {
        let node = quote(&self.node(step));
        let variables = format!(
            "folder={} node={node} seconds={}\n{}",
            self.folder(),
            self.seconds,
            include_str!("wait.sh")
        );
        let end = |how: &str| format!("{variables}end={how}\n{}", include_str!("vchan/end.sh"));
        match what {
            What::Domains => String::new(),
            What::Start(side) => format!(
                "{variables}program={PROGRAM} mode={} peer={} bytes={BYTES}\n{}",
                side.word(),
                self.domid(step.of(side.other())),
                include_str!("vchan/start.sh")
            ),
            What::Nodes => format!("{variables}{}", include_str!("vchan/nodes.sh")),
            What::Receive(_) => format!("{variables}bytes={BYTES}\n{}", include_str!("vchan/receive.sh")),
            What::End(_) => end(if step.kill.is_some() { "kill" } else { "close" }),
            What::Notice(_) => end("none"),
            What::Left => format!("{variables}{}", include_str!("vchan/left.sh")),
        }
    }

    fn clear(&self) -> String {
        format!("folder={}\n{}", self.folder(), include_str!("vchan/clear.sh"))
    }

    fn folder(&self) -> String {
        format!("/tmp/vchan-{}", self.id)
    }
}

/// Where a part is done, and in which order.
fn order(step: &Vchan) -> [(What, Option<Side>); 8] {
    let first = step.first();
    let at = |what: fn(Side) -> What, side| (what(side), Some(side));
    [
        at(What::Start, Side::Server),
        (What::Nodes, None),
        at(What::Start, Side::Client),
        at(What::Receive, Side::Client),
        at(What::Receive, Side::Server),
        at(What::End, first),
        at(What::Notice, first.other()),
        (What::Left, None),
    ]
}

impl Dom0<'_> {
    /// `vchan`
    pub async fn vchan(&mut self, step: &Vchan, hub: &Hub, limit: Duration) -> Result<Observation, Loss> {
        let begun = hub.state().next_line();
        let (domids, found) = self.numbers(step).await;
        let known = found.is_well("")
            && [Side::Server, Side::Client].iter().all(|s| domids.contains_key(step.of(*s)));
        let seconds = (limit / WAITS).as_secs().max(1);
        let channel = Channel { id: crate::random_hex(8), domids, seconds };
        let mut done = vec![found];
        let nonces = self.nonces(step).await;
        if known {
            for (what, side) in order(step) {
                let domain = side.map_or(DOM0, |side| step.of(side));
                let part = self.part(step, &channel, what, domain).await;
                let nonce = nonces.get(domain).map_or("", String::as_str);
                let well = part.is_well(nonce) && step.goes_on(&part, nonce);
                let offered = step.offered(&part);
                done.push(part);
                if !offered {
                    // Why, the server may know.
                    let asked = Channel { seconds: 0, ..channel.clone() };
                    done.push(
                        self.part(step, &asked, What::Receive(Side::Server), step.of(Side::Server)).await,
                    );
                    break;
                }
                if !well {
                    break;
                }
            }
            self.clear(step, &channel).await;
        }
        let mut looks = Vec::new();
        for guest in &step.guests {
            let looked = self.looked(&guest.name).await;
            let mut seen = seen(&guest.name, looked.clone(), looked);
            // What it printed is the state, the nonce and the console, which are in it already.
            seen.command.stdout = Default::default();
            seen.xen = of_guest(hub, seen.id, begun);
            looks.push(seen);
        }
        if !known && done[0].command.ok() {
            let message = "the domains of a vchan have no numbers".to_owned();
            return Err(Loss::Lab { code: Cause::LabInternal.code().to_owned(), message });
        }
        Ok(Observation::Vchan(VchanEvidence { done, seen: looks }))
    }

    async fn part(&mut self, step: &Vchan, channel: &Channel, what: What, domain: &str) -> Part {
        let script = channel.script(step, what);
        let guest = (domain != DOM0).then(|| domain.to_owned());
        let script = if guest.is_some() { in_guest(domain, &script) } else { script };
        Part { what, guest, command: self.sh(&script).await }
    }

    /// The numbers of the domains, by name.
    async fn numbers(&mut self, step: &Vchan) -> (BTreeMap<String, u32>, Part) {
        let guests = step.guests.iter().map(|g| quote(&g.name));
        let ask: String = guests.map(|g| format!("d=$(xl domid {g}) || exit\necho {g} $d\n")).collect();
        let command = self.sh(&format!("{ask}:")).await;
        let line =
            |l: &str| l.split_once(' ').and_then(|(name, d)| Some((name.to_owned(), d.trim().parse().ok()?)));
        let mut domids: BTreeMap<String, u32> = command.stdout.text.lines().filter_map(line).collect();
        domids.insert(DOM0.to_owned(), 0);
        (domids, Part { what: What::Domains, guest: None, command })
    }

    /// What each guest says what it says by.
    async fn nonces(&mut self, step: &Vchan) -> BTreeMap<String, String> {
        let mut nonces = BTreeMap::new();
        for guest in &step.guests {
            let nonce = self.sh(&format!("cat {}", quote(&nonce_file(&guest.name)))).await;
            nonces.insert(guest.name.clone(), nonce.stdout.text.trim().to_owned());
        }
        nonces
    }

    /// Takes away what is left of a channel at both ends. How that goes is nobody's business: what stays is seen by `leaks`.
    async fn clear(&mut self, step: &Vchan, channel: &Channel) {
        for side in [Side::Server, Side::Client] {
            let script = channel.clear();
            match step.of(side) {
                DOM0 => self.sh(&script).await,
                guest => self.sh(&in_guest(guest, &script)).await,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is put together for each part is a script, and for a guest still is with what carries it there.
    #[test]
    fn every_part_is_a_script() {
        for kill in [None, Some(Side::Server), Some(Side::Client)] {
            let step = Vchan { server: "g1".into(), client: DOM0.into(), kill, guests: Vec::new() };
            let domids = [("g1".to_owned(), 7), (DOM0.to_owned(), 0)].into();
            let channel = Channel { id: "0123".into(), domids, seconds: 10 };
            assert_eq!(channel.node(&step), "/local/domain/7/data/vchan-0123");
            for script in
                order(&step).into_iter().map(|(what, _)| channel.script(&step, what)).chain([channel.clear()])
            {
                for script in [in_guest("g1", &script), script] {
                    let checked =
                        std::process::Command::new("sh").args(["-n", "-c", &script]).output().unwrap();
                    assert!(
                        checked.status.success(),
                        "{}\n{script}",
                        String::from_utf8_lossy(&checked.stderr)
                    );
                    assert!(xenlab_guest::Script::new(script.clone()).check().is_ok(), "{}", script.len());
                }
            }
        }
    }
}
