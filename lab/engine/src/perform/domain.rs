//! The steps `domain` and `leaks`: guests of dom0.
//!
//! What belongs to a guest lies in a folder of dom0's, so that it is still there in a clone: its configuration, and the nonce that the small
//! guest says what it says by. Its console is read from the log of Xen's console daemon, and written to where the store says that it is.

mod moved;
mod sector;

use super::device::{after, before};
use super::dom0::Dom0;
use super::scripts::{self, quote};
use super::xtf::of_guest;
use crate::hub::Hub;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;
use xenlab_console::Speaker;
use xenlab_model::device::FOLDER;
use xenlab_model::evidence::{Captured, CommandEnd, CommandResult, Loss};
use xenlab_model::fact::Facts;
use xenlab_model::guest::{Guest, files, nonce_by_xen, sector_disk, serial, with_programs};
use xenlab_model::step::Observation;
use xenlab_model::step::domain::{Act, Domain, DomainEvidence, Seen};
use xenlab_model::step::leaks::LeaksEvidence;

/// What there was before the first guest.
const BASELINE: &str = "/run/xenlab-guests/baseline";
/// As much of a guest's console as is read.
const CONSOLE: usize = 256 << 10;
/// Guest time for looking at a guest once the step's own limit has passed.
const GRACE: Duration = Duration::from_secs(10);
/// Between two looks at a console: nobody tells when a guest has written to it.
const AGAIN: Duration = Duration::from_millis(200);

/// Everything that guests use up, a line each. The store's own folder and dom0's balloon target come and go by themselves; `/vm`, `/libxl` and
/// the folder of device models are made for the first guest and stay, empty. Grants are what Xen says of them when asked by its key `g`
/// (xen/common/grant_table.c), those in use alone; between two domains that live they come and go with what is read and written.
const LIST: &str = r#"
domains=$(xl list)
echo "$domains" | awk 'NR > 1 { print "domain", $1 }'
xenstore-ls -f / | sed 's/ = .*//' | grep -v -e '^/tool/xenstored' -e '^/local/domain/0/memory' -e '^/local/domain/0/libxl' -e '^/local/domain/0/device-model$' -e '^/vm$' -e '^/libxl$' | sed 's/^/node /'
for l in /sys/block/loop*/loop/backing_file; do [ -e "$l" ] && echo "loop $(cat "$l")"; done
for n in /sys/class/net/vif* /sys/class/net/tap*; do [ -e "$n" ] && echo "interface ${n##*/}"; done
for n in /sys/bus/xen-backend/devices/*; do [ -e "$n" ] && echo "backend ${n##*/}"; done
for p in /proc/[0-9]*; do
	read -r c <"$p/comm" 2>/dev/null || continue
	case $c in xl | qemu-* | xen-qemu* | vchan-* | block | vif-*) echo "process $c" ;; esac
done
command -v lsevtchn >/dev/null && lsevtchn 0 | awk '{ print "port", $1 }'
echo "memory $(xl info free_memory)"
xl debug-keys g && xl dmesg | awk -v alive="$(echo "$domains" | awk 'NR > 1 && $(NF - 1) !~ /d/ { print $(NF - 4) }')" '
	BEGIN { n = split(alive, ids, "\n"); for (i = 1; i <= n; i++) lives[ids[i]] = 1 }
	/gnttab_usage_print_all \[/ { n = 0; whole = 0 }
	/gnttab_usage_print_all \]/ { whole = 1 }
	{
		for (i = 1; i < NF; i++) {
			to = $(i + 1)
			if ($i == "remote") { of = to; sub(/^d/, "", of) }
			if ($i ~ /^\[0x[0-9a-f]+\]$/ && (!(of in lives) || !(to in lives) || of == 0 && to == 0)) held[n++] = "d" of " by d" to
		}
	}
	END { if (whole) print "grants listed"; for (i = 0; i < n; i++) print "grant", held[i] }'
exit 0
"#;

/// The loop devices that the lab made for guests that have ended by themselves: what is still there then, somebody else holds.
const SWEEP: &str = r#"
for l in /run/xenlab-guests/*.dev; do
	[ -L "$l" ] || continue
	d=${l##*/}
	xl domid "${d%.*.dev}" >/dev/null 2>&1 && continue
	losetup -d "$(readlink "$l")"
	rm -f "$l"
done
"#;

impl Dom0<'_> {
    /// `domain`
    pub async fn domain(
        &mut self,
        step: &Domain,
        facts: &Facts,
        hub: &Hub,
        nonce: &str,
    ) -> Result<Observation, Loss> {
        let begun = hub.state().next_line();
        let internal = |message: &str| Loss::Lab {
            code: xenlab_model::cause::Cause::LabInternal.code().to_owned(),
            message: message.to_owned(),
        };
        let (Some((act, _)), Some(guest)) = (step.act(), step.guest.as_ref()) else {
            return Err(internal("a step without a guest was to be performed"));
        };
        if let Some(number) = step.number {
            let nonce = nonce_by_xen(nonce, &guest.name);
            let domains = vec![self.says_by_xen(step, &guest.name, number, nonce, hub).await];
            return Ok(Observation::Domain(DomainEvidence { domains }));
        }
        let mut domains = Vec::new();
        if act == Act::Create {
            let listed = self.baseline().await;
            if !listed.ok() {
                let domain = guest.name.clone();
                let seen = Seen {
                    domain,
                    command: listed,
                    console: Captured::default(),
                    state: None,
                    id: None,
                    nonce: String::new(),
                    xen: Vec::new(),
                    timed_out: None,
                };
                return Ok(Observation::Domain(DomainEvidence { domains: vec![seen] }));
            }
        }
        for domain in guest.domains() {
            let mut seen = match act {
                Act::Create => self.create_domain(guest, &domain, facts).await,
                Act::Says => self.says(step, &domain).await,
                Act::Run => {
                    let script = step.script.as_deref().unwrap_or_default();
                    self.act(&domain, &in_guest(&domain, script)).await
                }
                Act::Pause => self.act(&domain, &format!("xl pause {}", quote(&domain))).await,
                Act::Unpause => self.act(&domain, &format!("xl unpause {}", quote(&domain))).await,
                Act::Reboot => self.act(&domain, &reboot(guest, &domain)).await,
                Act::Shutdown => self.act(&domain, &ended(guest, &domain, "shutdown -w")).await,
                Act::Destroy => self.act(&domain, &ended(guest, &domain, "destroy")).await,
                Act::Save | Act::Restore | Act::Migrate => {
                    self.act(&domain, &moved::script(act, step, guest, &domain)).await
                }
            };
            seen.xen = of_guest(hub, seen.id, begun);
            let lost = matches!(seen.command.end, CommandEnd::Lost(_) | CommandEnd::TimedOut(_));
            domains.push(seen);
            if lost {
                break;
            }
        }
        Ok(Observation::Domain(DomainEvidence { domains }))
    }

    /// `leaks`
    pub async fn leaks(&mut self) -> Observation {
        let before = self.sh(&format!("[ -e {BASELINE} ] && cat {BASELINE}; exit 0")).await;
        let after = self.sh(&format!("{SWEEP}{LIST}")).await;
        Observation::Leaks(LeaksEvidence { before, after })
    }

    /// Lists what there is, once for each dom0.
    async fn baseline(&mut self) -> CommandResult {
        let text = format!(
            "mkdir -p {FOLDER}\n[ -e {BASELINE} ] && exit 0\n( {LIST} ) >{BASELINE}.new && mv {BASELINE}.new {BASELINE}"
        );
        self.sh(&text).await
    }

    async fn create_domain(&mut self, guest: &Guest, domain: &str, facts: &Facts) -> Seen {
        let nonce = crate::random_hex(8);
        let config = guest.xl_config(domain, &nonce, facts);
        let path = format!("{FOLDER}/{domain}.cfg");
        let sector = sector::sector(&nonce);
        let mut files = vec![(path.clone(), config.as_bytes()), (nonce_file(domain), nonce.as_bytes())];
        if guest.is_sector() {
            files.push((sector_disk(domain), &sector));
        }
        let (name, log, path) = (quote(domain), quote(&log(domain)), quote(&path));
        let (serial, disk, id) =
            (quote(&serial(domain)), quote(&sector_disk(domain)), quote(&id_file(domain)));
        // What a device model that ends says of why (tools/libs/light/libxl_dm.c).
        let model = quote(&format!("/var/log/xen/qemu-dm-{domain}.log"));
        let paging = guest.paging(facts).map_or_else(String::new, |p| format!("echo paging {p}\n"));
        let last = format!(
            "{}{}rm -f {log} {serial} {id}\n[ ! -e {disk} ] || truncate -s 1M {disk}\nxl create -q {path} </dev/null >&2 || {{ s=$?; sed 's/^/qemu: /' {model} 2>/dev/null | tail -n 3 >&2; exit $s; }}\n{paging}d=$(xl domid {name})\necho \"$d\" >{id}\necho domid \"$d\"\n\
             xl list --long {name} | sed -n 's/.*\"type\": \"\\([a-z]*\\)\".*/type \\1/p' | head -n 1\n",
            before(guest, domain),
            programs(guest, domain)
        );
        let mut scripts = scripts::put_files(&files, &last);
        let last = scripts.pop().unwrap_or_default();
        for script in scripts {
            let put = self.sh(&script).await;
            if !put.ok() {
                return self.seen(domain, put).await;
            }
        }
        self.act(domain, &last).await
    }

    /// Does something and looks at what became of the domain.
    async fn act(&mut self, domain: &str, script: &str) -> Seen {
        let command = self.sh(script).await;
        self.seen(domain, command).await
    }

    async fn seen(&mut self, domain: &str, command: CommandResult) -> Seen {
        let looked = self.looked(domain).await;
        seen(domain, command, looked)
    }

    /// A look at a domain, for which there is time even where the step has none left.
    pub(super) async fn looked(&mut self, domain: &str) -> CommandResult {
        self.ways.run(&self.script(&look(domain)), GRACE).await
    }

    /// The same for a domain that Xen has made: Xen's console is its own, and `xl` knows it by its number alone.
    async fn says_by_xen(
        &mut self,
        step: &Domain,
        domain: &str,
        number: u16,
        nonce: String,
        hub: &Hub,
    ) -> Seen {
        let limit = self.left();
        // A domain of this number that xl made is another one: where Xen makes none, xl's first has its number.
        let look = format!(
            "l=$(xl list) || exit\n\
             set -- $(echo \"$l\" | awk '$(NF - 4) == {number} {{ print $1, $(NF - 3), $(NF - 2), $(NF - 1) }}')\n\
             [ $# -eq 4 ] || exit 0\n[ -e \"{FOLDER}/$1.nonce\" ] && echo xl-made \"$1\" && exit 0\n\
             echo name \"$1\"\necho memory $2\necho vcpus $3\necho state $4"
        );
        loop {
            let command = self.ways.run(&self.script(&look), GRACE).await;
            let (text, cut): (String, bool) = {
                let state = hub.state();
                let own = state.lines_from(0).filter(|l| l.speaker == Speaker::Domain(number));
                let text = own.map(|l| format!("{}\n", l.text)).collect();
                (text, state.lines_from(0).next().is_some_and(|l| l.number > 0))
            };
            let state = command.stdout.text.lines().find_map(|l| l.strip_prefix("state "));
            let mut seen = Seen {
                domain: domain.to_owned(),
                state: state.map(str::to_owned),
                id: Some(number.into()),
                console: Captured { total: text.len() as u64, text, cut },
                command,
                nonce: nonce.clone(),
                xen: Vec::new(),
                timed_out: None,
            };
            if self.is_last(step, &mut seen, limit) {
                return seen;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Nothing is waited for after this look: all has been said, the domain is no longer alive, or the limit has passed, which it then says.
    fn is_last(&self, step: &Domain, seen: &mut Seen, limit: Duration) -> bool {
        if step.satisfied(&seen.console.text, &seen.nonce) || !seen.is_alive() || !seen.command.ok() {
            return true;
        }
        let over = self.left().is_zero();
        if over {
            seen.timed_out = Some(limit.as_secs_f64());
        }
        over
    }

    /// Looks at a console until all that is waited for has been said, the domain is no longer alive or the limit passes.
    async fn says(&mut self, step: &Domain, domain: &str) -> Seen {
        let limit = self.left();
        loop {
            let looked = self.looked(domain).await;
            let mut seen =
                seen(domain, CommandResult { stdout: Captured::default(), ..looked.clone() }, looked);
            if self.is_last(step, &mut seen, limit) {
                return seen;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Makes the initramfs of a guest that is given programs of dom0.
fn programs(guest: &Guest, domain: &str) -> String {
    if guest.config.programs.is_empty() {
        return String::new();
    }
    let names: Vec<String> = guest.config.programs.iter().map(|name| quote(name)).collect();
    let (initrd, to) = (quote(&files(&guest.name).1), quote(&with_programs(domain)));
    format!("names=\"{}\" initrd={initrd} to={to}\n{}", names.join(" "), include_str!("domain/programs.sh"))
}

/// A look's output taken apart: state, number and nonce in the first three lines, then the console.
pub(super) fn seen(domain: &str, command: CommandResult, looked: CommandResult) -> Seen {
    let mut parts = looked.stdout.text.splitn(4, '\n');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let (state, id, nonce, text) = (part(), part(), part(), part());
    let said = Captured { text, ..looked.stdout };
    Seen {
        domain: domain.to_owned(),
        command,
        console: said,
        state: Some(state).filter(|s| !s.is_empty()),
        id: id.parse().ok(),
        nonce,
        xen: Vec::new(),
        timed_out: None,
    }
}

/// State, number, nonce and console of a domain. One that is gone has the number that it had last: Xen's console names it by that.
fn look(domain: &str) -> String {
    let (name, log, nonce) = (quote(domain), quote(&log(domain)), quote(&nonce_file(domain)));
    let (serial, id) = (quote(&serial(domain)), quote(&id_file(domain)));
    format!(
        "set -- $(xl list {name} 2>/dev/null | awk 'NR == 2 {{ print $2, $5 }}')\n\
         [ $# -eq 2 ] && echo \"$1\" >{id}\necho \"$2\"\nd=; [ -e {id} ] && read -r d <{id}\necho \"$d\"\n\
         n=; [ -e {nonce} ] && read -r n <{nonce}\necho \"$n\"\n\
         l={log}; [ -e {serial} ] && l={serial}\n[ -e \"$l\" ] && tail -c {CONSOLE} \"$l\"\nexit 0"
    )
}

fn log(domain: &str) -> String {
    format!("/var/log/xen/console/guest-{domain}.log")
}

/// Which number it had when it was looked at last.
fn id_file(domain: &str) -> String {
    format!("{FOLDER}/{domain}.id")
}

pub(super) fn nonce_file(domain: &str) -> String {
    format!("{FOLDER}/{domain}.nonce")
}

/// Has the small guest run a script, and prints its answer.
pub(super) fn in_guest(domain: &str, script: &str) -> String {
    let id = crate::random_hex(8);
    let (name, log, nonce) = (quote(domain), quote(&log(domain)), quote(&nonce_file(domain)));
    let text = STANDARD.encode(script);
    format!(
        "d=$(xl domid {name}) || exit 125\nread -r n <{nonce}\ntty=$(xenstore-read /local/domain/$d/console/tty) || exit 125\n\
         printf '%s\\n' '{id} {text}' >\"$tty\" || exit 125\n\
         while ! grep -a \"^xenlab-guest: ran $n {id} \" {log}; do xl domid {name} >/dev/null 2>&1 || exit 126; sleep 0.1; done"
    )
}

/// Has a domain restart itself; over when it is another domain and, where it is the small guest, up again.
fn reboot(guest: &Guest, domain: &str) -> String {
    let (name, log, nonce) = (quote(domain), quote(&log(domain)), quote(&nonce_file(domain)));
    let id = quote(&id_file(domain));
    let up = match guest.is_tiny() {
        true => "while [ \"$(ups)\" -le \"$before\" ]; do sleep 0.2; done\n",
        false => "",
    };
    format!(
        "read -r n <{nonce}\nups() {{ grep -ac \"xenlab-guest: ready $n\" {log}; }}\nbefore=$(ups)\nwas=$(xl domid {name}) || exit 125\n\
         xl reboot {name} >&2 || exit\n\
         while is=$(xl domid {name} 2>/dev/null); [ -z \"$is\" ] || [ \"$is\" = \"$was\" ]; do sleep 0.2; done\necho \"$is\" >{id}\n{up}echo was $was\necho domid $is"
    )
}

/// Ends a domain, waits until it is gone, and takes away what its devices stood on.
fn ended(guest: &Guest, domain: &str, how: &str) -> String {
    let (name, after) = (quote(domain), after(guest, domain));
    format!("xl {how} {name} >&2 || exit\nwhile xl domid {name} >/dev/null 2>&1; do sleep 0.1; done{after}")
}
