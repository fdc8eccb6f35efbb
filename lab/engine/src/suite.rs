//! Of which Debian suite dom0 is, where nobody says it, and what does not go together.

use xenlab_image::Dom0Request;
use xenlab_model::spec::{DeviceModelSpec, Subject, UserlandSpec, XenSpec};
use xenlab_xen::XenBuild;

/// Suites that a userland can be of, oldest first, and their C library's version (package libc6).
const SUITES: &[(&str, (u32, u32))] = &[("bookworm", (2, 36)), ("trixie", (2, 41)), ("sid", (u32::MAX, 0))];

/// What is wrong with a device model of a later suite than the userland's: it would not start, for want of its C library.
pub fn too_new(request: &Dom0Request) -> Option<String> {
    let DeviceModelSpec::Debian { suite: Some(model) } = &request.device_model else { return None };
    let userland = match &request.userland {
        UserlandSpec::Minimal { suite } | UserlandSpec::Systemd { suite } => {
            suite.as_ref().unwrap_or(&request.suite)
        }
        UserlandSpec::Tar(_) => return None,
    };
    let age = |suite: &str| SUITES.iter().position(|(name, _)| *name == suite);
    (age(model)? > age(userland)?).then(|| {
        format!(
            "dom0.device-model is of {model}, whose C library the userland of {userland} has not; leave its suite out, \
             or have a userland of {model}: `dom0.userland: minimal:{model}`"
        )
    })
}

/// The suite of dom0's userland and kernel where the scenario names none: that of the packages under test; for a build from
/// elsewhere the oldest whose C library its tools can use.
pub fn suite(subject: &Subject, build: &XenBuild) -> String {
    let named = [subject.tools.as_ref(), build.borrowed.as_ref(), Some(&subject.hypervisor)];
    for spec in named.into_iter().flatten() {
        if let XenSpec::Debian { suite, .. } = spec {
            return suite.clone();
        }
    }
    // What brings its own C library asks nothing of the userland's.
    let needs = build.tools.as_ref().filter(|t| !own_libc(t)).map_or((0, 0), glibc_needed);
    let fits = SUITES.iter().find(|(_, has)| *has >= needs);
    fits.map_or("sid", |(suite, _)| suite).to_owned()
}

/// What is wrong with tools that name a C library later than that of the userland the scenario names: none of them would start.
pub fn libc_too_old(request: &Dom0Request, build: &XenBuild) -> Option<String> {
    let (UserlandSpec::Minimal { suite } | UserlandSpec::Systemd { suite }) = &request.userland else {
        return None;
    };
    let suite = suite.as_ref()?;
    let has = SUITES.iter().find(|(name, _)| name == suite)?.1;
    let tools = build.tools.as_ref().filter(|tools| !own_libc(tools))?;
    let needs = glibc_needed(tools);
    (needs > has).then(|| {
        format!(
            "the tools of {} name version {}.{} of the C library, and the userland of {suite} has {}.{}: leave its suite out, \
             or have a later one",
            tools.from, needs.0, needs.1, has.0, has.1
        )
    })
}

/// They bring their own C library.
fn own_libc(tools: &xenlab_xen::Tools) -> bool {
    let loader = tools.interpreter.as_ref().and_then(|path| path.strip_prefix(&tools.mount).ok());
    loader.is_some_and(|loader| tools.files.iter().any(|f| f == loader))
}

/// The highest `GLIBC_2.N` symbol version that the tools' programs name.
fn glibc_needed(tools: &xenlab_xen::Tools) -> (u32, u32) {
    const MARK: &[u8] = b"GLIBC_";
    let mut highest = (0, 0);
    for path in tools.programs.values() {
        let relative = path.strip_prefix(&tools.mount).unwrap_or(path);
        let relative = relative.strip_prefix("/").unwrap_or(relative);
        let Ok(bytes) = std::fs::read(tools.root.join(relative)) else { continue };
        let mut rest = bytes.as_slice();
        while let Some(at) = rest.windows(MARK.len()).position(|w| w == MARK) {
            rest = &rest[at + MARK.len()..];
            let end = rest.iter().position(|b| !b.is_ascii_digit() && *b != b'.').unwrap_or(0);
            let mut numbers =
                std::str::from_utf8(&rest[..end]).unwrap_or_default().split('.').map(str::parse::<u32>);
            if let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) {
                highest = highest.max((major, minor));
            }
        }
    }
    highest
}

#[cfg(test)]
mod tests {
    use super::*;
    use xenlab_model::Arch;

    #[test]
    fn a_device_model_is_no_newer_than_the_userland() {
        let wrong = |userland: &str, device_model: &str| {
            let request = Dom0Request {
                arch: Arch::X86_64,
                userland: userland.parse().unwrap(),
                kernel: None,
                device_model: device_model.parse().unwrap(),
                guests: Vec::new(),
                tools: None,
                suite: "bookworm".to_owned(),
            };
            too_new(&request)
        };
        let message = wrong("minimal", "debian:trixie").unwrap();
        assert!(
            message.contains("`dom0.userland: minimal:trixie`") && message.contains("bookworm"),
            "{message}"
        );
        assert!(wrong("systemd:bookworm", "debian:sid").is_some());
        for (userland, model) in [
            ("minimal", "none"),
            ("minimal", "debian"),
            ("minimal", "debian:bookworm"),
            ("minimal:trixie", "debian:bookworm"),
            ("systemd:trixie", "debian:trixie"),
            ("tar:/root.tar", "debian:trixie"),
        ] {
            assert_eq!(wrong(userland, model), None, "{userland} {model}");
        }
    }
}
