//! The guests that steps name, put into them, and what only then can be said of such steps.

use super::config::Config;
use super::diagnostic::Diagnostic;
use super::tree::Node;
use crate::guest::{Guest, GuestConfig, GuestStart};
use crate::step::domain::Act;
use crate::step::vchan::{DOM0, PROGRAM, Side, Vchan};
use crate::step::{Body, Step};

/// `leaks` compares with what there was before the first guest.
pub(super) fn leaks_of_something(
    setup: &[Step],
    steps: &[Step],
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let creates = |s: &Step| matches!(&s.body, Body::Domain(d) if d.create.is_some());
    let at = steps.iter().position(|s| matches!(s.body, Body::Leaks(_)));
    let Some(at) = at.filter(|at| !setup.iter().chain(&steps[..*at]).any(creates)) else { return };
    let index = steps[at].path.trim_start_matches("steps[").trim_end_matches(']').parse::<usize>().ok();
    let origin = index.and_then(|i| node.items().get(i)).map_or(&node.origin, |n| &n.origin);
    let d = Diagnostic::new(origin, "nothing can have leaked here: no guest is created before");
    diagnostics.push(d.help("put `domain: {create: NAME}` before it, and what ends the guest"));
}

/// The guests at the ends of a `vchan` step.
fn of_vchan(
    vchan: &mut Vchan,
    config: &Config,
    body: Option<&Node>,
    list: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for side in [Side::Server, Side::Client] {
        let (word, name) = (side.word(), vchan.of(side).to_owned());
        if name == DOM0 {
            continue;
        }
        let origin = body.map_or(&list.origin, |b| b.get(word).map_or(&b.origin, |n| &n.origin));
        let mut wrong = |message: String, expected: String| {
            diagnostics.push(Diagnostic::new(origin, message).expected(expected));
        };
        let Some(of) = config.guests.get(&name) else {
            let known = config.guests.keys().map(String::as_str).chain([DOM0]);
            let expected = known.clone().collect::<Vec<_>>().join(", ");
            let d = Diagnostic::new(origin, format!("there is no guest `{name}`"));
            diagnostics.push(d.expected(expected).nearest(&name, known));
            continue;
        };
        let guest = match of.kind.on(config.arch) {
            Ok(kind) => Guest { name: name.clone(), config: GuestConfig { kind, ..of.clone() } },
            Err(why) => {
                wrong(format!("guest `{name}`: {why}"), "a type that the architecture has".to_owned());
                continue;
            }
        };
        if guest.config.start == GuestStart::Xen {
            wrong(
                format!("guest `{name}` is made by Xen when it boots"),
                "a guest with `start: xl`".to_owned(),
            );
        } else if !guest.is_tiny() {
            let expected = "a guest with `kernel: xenlab:tiny`".to_owned();
            wrong("only the lab's own guest can be an end of a vchan".to_owned(), expected);
        } else if guest.config.copies != 1 {
            wrong(
                format!("there are {} of guest `{name}`", guest.config.copies),
                "a guest that is one domain".to_owned(),
            );
        } else if !guest.config.programs.iter().any(|p| p == PROGRAM) {
            wrong(
                format!("guest `{name}` has no {PROGRAM}"),
                format!("`programs: [{PROGRAM}]` under `guests.{name}`"),
            );
        }
        vchan.guests.push(guest);
    }
}

/// The guest that a step names.
pub(super) fn of_step(
    step: &mut Body,
    path: &str,
    config: &Config,
    [setup, steps]: [&Node; 2],
    diagnostics: &mut Vec<Diagnostic>,
) {
    let kind = step.kind();
    let named = match &*step {
        Body::Domain(domain) => domain.act().map(|(act, name)| (act.word(), name.to_owned())),
        Body::Device(device) => device.act().map(|(act, name)| (act.word(), name.to_owned())),
        Body::Store(store) => store.guest.clone().map(|name| ("guest", name)),
        Body::Agent(agent) => Some(("guest", agent.guest.clone())),
        _ => None,
    };
    let (list, rest) = match path.strip_prefix("setup[") {
        Some(rest) => (setup, rest),
        None => (steps, path.trim_start_matches("steps[")),
    };
    let index = rest.trim_end_matches(']').parse::<usize>().ok();
    let body = index.and_then(|i| list.items().get(i)?.get(kind));
    if let Body::Vchan(vchan) = step {
        of_vchan(vchan, config, body, list, diagnostics);
    }
    let Some((word, name)) = named else { return };
    let origin = |key: &str| body.map_or(&list.origin, |b| b.get(key).map_or(&b.origin, |n| &n.origin));
    let known = config.guests.keys().map(String::as_str);
    let Some(of) = config.guests.get(&name) else {
        let all: Vec<&str> = known.clone().collect();
        let expected = match all.as_slice() {
            [] => "a guest that `guests:` has; it has none".to_owned(),
            some => format!("a guest that `guests:` has: {}", some.join(", ")),
        };
        let d = Diagnostic::new(origin(word), format!("there is no guest `{name}`"));
        diagnostics.push(d.expected(expected).nearest(&name, known));
        return;
    };
    let guest = match of.kind.on(config.arch) {
        Ok(kind) => Guest { name: name.clone(), config: GuestConfig { kind, ..of.clone() } },
        Err(why) => {
            let d = Diagnostic::new(origin(word), format!("guest `{name}`: {why}"));
            diagnostics.push(d.help("exclude the case, or leave `type` away"));
            return;
        }
    };
    let (tiny, copies, unheard) = (guest.is_tiny(), guest.config.copies, guest.words("").is_empty());
    if let Some(why) = guest.mistake() {
        let d = Diagnostic::new(origin(word), format!("guest `{name}`: {}", why.0));
        diagnostics.push(d.expected(why.1.to_owned()));
        return;
    }
    // Xen gives such a domain neither the store's page nor its event channel (docs/misc/arm/device-tree/booting.txt, `xen,enhanced`).
    let no_store = (of.start == GuestStart::Xen).then(|| {
        let message = format!("guest `{name}` is made by Xen when it boots, and does not see the store");
        (word, message, "a guest with `start: xl`".to_owned())
    });
    let wrong = match step {
        Body::Domain(domain) => {
            let act = domain.act().map(|(act, _)| act);
            let by_xen = |g: &GuestConfig| g.start == GuestStart::Xen;
            if by_xen(of) {
                // Xen numbers them in the order of the device tree, which is that of their names.
                let before = config.guests.iter().filter(|(other, g)| by_xen(g) && **other <= name).count();
                domain.number = u16::try_from(before).ok();
            }
            domain.guest = Some(Box::new(guest));
            match act {
                Some(act) if domain.number.is_some() && act != Act::Says => Some((
                    word,
                    format!("guest `{name}` is made by Xen when it boots, and can only be waited for"),
                    "`says`, or a guest with `start: xl`".to_owned(),
                )),
                Some(Act::Run) if !tiny => Some((
                    word,
                    "only the lab's own guest runs scripts".to_owned(),
                    "a guest with `kernel: xenlab:tiny`".to_owned(),
                )),
                Some(Act::Save | Act::Restore) if domain.file.is_some() && copies > 1 => Some((
                    "file",
                    format!("{copies} domains would be saved to one file"),
                    "no `file`: each then has its own".to_owned(),
                )),
                Some(Act::Says) if unheard && domain.has.is_empty() => Some((
                    word,
                    "nothing is waited for".to_owned(),
                    "`has`: what this guest says when it is up".to_owned(),
                )),
                _ => None,
            }
        }
        Body::Device(device) => {
            device.guest = Some(Box::new(guest));
            let own = (
                word,
                "only the lab's own guest, made by xl, can be asked about its devices".to_owned(),
                "a guest with `kernel: xenlab:tiny` and `start: xl`".to_owned(),
            );
            if tiny && of.start == GuestStart::Xl { device.mistake() } else { Some(own) }
        }
        Body::Agent(agent) => {
            agent.of = Some(Box::new(guest));
            no_store
        }
        Body::Store(store) => {
            store.of = Some(Box::new(guest));
            let expected = "a guest with `kernel: xenlab:tiny`".to_owned();
            let own =
                (word, "only the lab's own guest can be told what to ask the store".to_owned(), expected);
            no_store.or((!tiny).then_some(own))
        }
        _ => None,
    };
    if let Some((key, message, expected)) = wrong {
        diagnostics.push(Diagnostic::new(origin(key), message).expected(expected));
    }
}
