//! Golden diagnostics: what a user is shown for each mistake.

use super::{cases, settings, shown};
use crate::fact::Facts;

const HEAD: &str = "xenlab: 1\nname: t\n";
const SUBJECT: &str = "arch: x86_64\nxen: debian:trixie\n";
const STEPS: &str = "steps:\n  - phase: dom0-ready\n";

/// A sound scenario but for what is put in.
fn with(what: &str) -> String {
    format!("{HEAD}{SUBJECT}{what}{STEPS}")
}

/// The same, as its steps.
fn steps(what: &str) -> String {
    format!("{HEAD}{SUBJECT}steps:\n{what}")
}

macro_rules! golden {
    ($($name:ident: $text:expr $(, $set:expr)*;)*) => { $(
        #[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), shown(&$text, &[$($set),*]));
        }
    )* };
}

golden! {
    not_yaml: "xenlab: 1\nname: [t\nsteps: }";
    tab_indentation: "xenlab: 1\nname: t\nxen:\n\tbuild: debian:trixie\n";
    empty_file: "# nothing\n";
    a_list: "- xenlab: 1\n";
    two_documents: format!("{}---\nxenlab: 1\n", with(""));
    tag_anchor_alias_and_merge_key: with("tags: [!!str a]\nmachine: &m {cpus: 2}\ndom0: *m\nlimits: {<<: {boot: 1s}}\n");
    duplicate_key: with("name: again\n");
    null_and_no_value: with("description: ~\ndom0:\nlimits: {boot: null}\n");
    version_of_another_language: "xenlab: 2\nname: t\narch: x86_64\nxen: debian:trixie\nsteps: [{under-xen: {}}]\n";
    version_not_first: "name: t\nxenlab: 1\narch: x86_64\nxen: debian:trixie\nsteps: [{under-xen: {}}]\n";
    missing_keys: "xenlab: 1\narch: x86_64\nxen: debian:trixie\nneeds: [{require: {host.kvm: true}}]\n";
    nothing_said_of_arch_and_xen: format!("{HEAD}{STEPS}");
    unknown_key: with("matrx: {arch: [x86_64]}\n");
    unknown_key_below: with("machine: {cpu: max, memroy: 2G}\n");
    guests_that_are_none: with("guests: {g1: {type: vmx, memory: much, colour: red, kernel: debian}}\n");
    guests_that_steps_name: format!("{HEAD}arch: aarch64\nxen: debian:trixie\nguests: {{g1: {{type: pv}}, g2: {{kernel: 'file:/k'}}}}\nsteps:\n  - domain: {{create: g1}}\n  - domain: {{create: gl}}\n  - domain: {{run: g2, script: x}}\n  - domain: {{says: g2}}\n  - domain: {{says: g2, has: x*, script: y}}\n");
    channels_between_nobodies: format!("{HEAD}arch: aarch64\nxen: debian:trixie\nguests: {{g1: {{programs: [vchan-socket-proxy]}}, g2: {{}}, g3: {{kernel: 'file:/k'}}}}\nsteps:\n  - domain: {{create: g1}}\n  - vchan: {{server: dom0, client: g2}}\n  - vchan: {{server: g1, client: g1}}\n  - vchan: {{server: g9, client: g3}}\n  - vchan: {{server: dom0, client: g1, kill: both}}\n");
    domains_that_xen_makes: format!("{HEAD}arch: aarch64\nxen: debian:trixie\nguests: {{d1: {{start: xen, copies: 2, config: ['a = 1']}}, d2: {{start: xen}}}}\nsteps:\n  - domain: {{create: d2}}\n  - domain: {{run: d2, script: x}}\n  - domain: {{says: d2}}\n  - device: {{resize: d2, vcpus: 1}}\n  - vchan: {{server: dom0, client: d2}}\n");
    leaks_of_nothing: steps("  - leaks: {}\n");
    unknown_architecture: format!("{HEAD}arch: arm64\nxen: debian:trixie\n{STEPS}");
    unknown_provider: format!("{HEAD}arch: x86_64\nxen: debain:trixie\n{STEPS}");
    unknown_boot_way: with("boot: bois\n");
    unknown_device_model: with("dom0: {device-model: debain}\n");
    unknown_userland: with("dom0: sytemd\n");
    wrong_types: with("machine: {cpus: many, accel: [tcg]}\ndom0: {memory: 1Q, vcpus: -1}\nlimits: {boot: 30}\ntags: {a: b}\n");
    yes_is_no_flag: steps("  - xenstored: {daemon: any, self-test: yes}\n");
    devices_of_wrong_types: with("guests: {g1: {disks: {xvda: {backend: nbd}}, vifs: {net1: {}}}}\n");
    devices_that_are_none: with("guests: {g1: {disks: {sda: phy, xvdb: {backend: file, size: 4K}}, vifs: {net0: 'a bridge', '../net': br0}}}\n");
    devices_that_steps_name: format!("{HEAD}arch: x86_64\nxen: debian:trixie\nguests: {{g1: {{disks: {{xvda: phy, xvdb: {{backend: qdisk, plugged: false}}}}}}, g2: {{kernel: 'file:/k', vifs: {{net0: br0}}}}}}\nsteps:\n  - domain: {{create: g1}}\n  - device: {{attach: g1, disk: xvdc}}\n  - device: {{attach: g1, disk: xvdb}}\n  - device: {{attach: g1, vif: net0}}\n  - device: {{transfer: g2, vif: net0}}\n  - device: {{transfer: g3, vif: net0}}\n  - device: {{resize: g1, memory: 1G}}\n  - device: {{attach: g1}}\n  - device: {{resize: g1, memory: 64M, vcpus: 1}}\n");
    zeroes: with("guests: {g1: {copies: 0, vcpus: 0, memory: 0}}\nmachine: {cpus: 0}\ndom0: {vcpus: 0, memory: 0}\nlimits: {boot: 0s, case: 0ms}\n");
    all_memory_is_dom0s: with("machine: {memory: 512M}\ndom0: {memory: 1G}\n");
    a_name_that_is_none: "xenlab: 1\nname: a b/c\narch: x86_64\nxen: debian:trixie\ntags: ['-x']\nsteps: [{under-xen: {}}]\n";
    empty_axis: with("matrix: {dom0.userland: []}\n");
    axis_that_is_no_list: with("matrix: {dom0.userland: minimal}\n");
    axis_at_no_path: with("matrix: {dom0.userlnad: [minimal], steps: [a], name: [b]}\n");
    axis_of_a_strange_variable: with("matrix: {vars.a b: [x], vars.: [y], vars.c.d: [z], vars.e: [[f]]}\n");
    axis_twice: with("matrix: {xen: [debian:sid], xen.build: [debian:trixie]}\n");
    axis_of_wrong_values: with("matrix: {dom0.memory: [1G, big], arch: [x86_64, riscv64]}\n");
    the_same_case_twice: with("matrix: {dom0.memory: [1G, 2G, 1G]}\n");
    everything_excluded: with("exclude: [{arch: x86_64}]\n");
    exclude_by_what_is_not_known: with("exclude: [{build.efi: true}]\noverrides: [{when: {machine.accel: tcg}, set: {dom0.memory: 2G}}]\n");
    overrides: with("overrides:\n  - set: {dom0.memroy: 2G, dom0.vcpus: two}\n  - add: {dom0.memory: [1G], xen.args: {a: b}}\n  - when: {arch: x86_64}\n");
    conditions: with("needs:\n  - {require: {host.kmv: true}, because: a}\n  - {require: {build.xenstored: {at-least: 4.20}}, because: b}\n  - {require: {arch: x86}, because: c}\n  - {require: {}, because: d}\n  - {require: {host.cores: {at-leest: 4}}, because: e}\n  - {require: {host.cores: few}, because: f}\n  - {require: {dom0.memory: {below: much}}, because: g}\n  - {require: {build.config: {same-as: build.build-id}}, because: h}\n  - {require: {build.image-version: {same-as: build.version}}, because: i}\n");
    matchers: with("vars: {n: 4}\nneeds:\n  - {require: {vars.n: {at-least: 3}}, because: a}\n  - {require: {build.config: {matches: x}}, because: b}\n  - {require: {host.kvm: {contains: r}}, because: c}\n  - {require: {build.compiler: {matches: ''}}, because: d}\n  - {require: {build.compiler: {present: false, contains: gcc}}, because: e}\n  - {require: {qemu.version: {at-least: new}}, because: f}\n  - {require: {host.cores: {contains: 4, any-of: []}}, because: g}\n  - {require: {arch: []}, because: h}\n  - {require: {arch: {}}, because: i}\n  - {require: {host.kvm: {present: yes}}, because: j}\n  - {require: [arch], because: k}\n");
    freeze_out_of_place: format!("{HEAD}{SUBJECT}setup:\n  - freeze: one\n  - freeze: one\n  - freeze: a b\nsteps:\n  - freeze: two\n  - under-xen: {{}}\n");
    step_without_kind: steps("  - name: nothing\n  - {}\n");
    step_of_two_kinds: steps("  - under-xen: {}\n    xl-info: {}\n");
    step_of_unknown_kind: steps("  - xlinfo: {}\n  - under_xen: {}\n");
    unknown_phase: steps("  - phase: dom0-redy\n");
    no_steps: format!("{HEAD}{SUBJECT}steps: []\n");
    bad_patterns: steps("  - console: {has: ['(', panic, '.*'], lacks: ['[z-a]']}\n  - run: {script: a, stdout: {matches: '+'}}\n");
    console_of_nothing: steps("  - console: {of: xen}\n");
    script_and_argv: steps("  - run: {script: a, argv: [b]}\n  - run: {via: [ssh, ssh]}\n  - run: {argv: [a], exit: {matches: '0'}}\n  - run: {script: '', via: telnet}\n");
    fields_of_xl_info: steps("  - xl-info: {xen_caps: {at-least: 3}, free_memory: {contains: 6}, nr_cpus: many, xen_version: {at-leat: 4.17}, xen_new_field: {present: true}}\n");
    files: steps("  - file: proc/cmdline\n  - file: {path: /a, mode: rwx}\n  - file: {path: /b, present: false, content: x}\n  - file: {type: pipe}\n");
    nothing_named: steps("  - process: []\n  - service: {}\n  - pkg-config: {modules: []}\n");
    a_wait_of_nothing: steps("  - under-xen: {}\n    within: 0s\n  - under-xen: {}\n    within: 3\n");
    a_script_is_not_interpolated: format!("{HEAD}{SUBJECT}vars: {{word: hello}}\nsteps:\n  - run: {{script: 'echo ${{vars.word}} ${{HOME}}'}}\n");
    undefined: format!("{HEAD}{SUBJECT}vars: {{word: a}}\nsteps:\n  - run: {{argv: [echo, '${{vars.wrod}}', '${{machine.cpu}}', '${{xen.args}}', '${{oops']}}\n");
    defined_by_itself: format!("{HEAD}{SUBJECT}vars: {{a: '${{vars.b}}', b: '${{vars.a}}'}}\nsteps:\n  - run: {{argv: [echo, '${{vars.a}}']}}\n");
    required_variable: format!("{HEAD}{SUBJECT}vars:\n  tree: {{required: true, help: 'a built XTF tree'}}\n  a: {{required: true, default: x}}\n  b.c: d\n{STEPS}");
    required_variable_and_more: format!("{HEAD}{SUBJECT}vars: {{tree: {{required: true}}}}\nsteps:\n  - run: {{argv: ['${{vars.tree}}/a', '${{vars.treee}}'], exit: many}}\n  - console: {{has: '('}}\n");
    nonce_in_an_axis: format!("{HEAD}{SUBJECT}matrix: {{vars.x: ['${{run.nonce}}']}}\n{STEPS}");
    expected_version: with("").replace("xen: debian:trixie", "xen: {build: debian:trixie, expect-version: v4}");
    every_step_gone: steps("  - under-xen: {}\n    when: {arch: aarch64}\n");
    command_line: with("vars: {word: a}\n"), "xen.toools=dir:/x", "dom0.memory=1Q", "xen.args=[a, b", "vars.wrod=b", "dom0.userland=sytemd";
    a_composed_build: with("").replace("xen: debian:trixie", "xen: {hypervisor: 'file:x', tools: debian:trixie}");
    declarations_are_not_interpolated: "xenlab: 1\nname: '${arch}'\narch: x86_64\nxen: debian:trixie\nvars: {a: {required: '${vars.b}'}}\nsteps: [{under-xen: {}}]\n";
    several_at_once: "xenlab: 1\nname: t\nmatrx: {}\narch: x86_65\nxen: debain:trixie\ndom0: {memory: 1Q}\nsteps:\n  - phase: dom0-redy\n  - run: {script: a, argv: [b]}\n    within: 3\n  - console: {has: ['('], lack: x}\n    when: {build.xenstored: {at-least: 3}}\n";
    control_characters: "xenlab: 1\nname: \"a\\e[31m\"\narch: x86_64\nxen: debian:trixie\nsteps: [{under-xen: {}}]\n";
    unicode_before_the_mistake: "xenlab: 1\nname: t\ndescription: {größe: 'ä', 日本: 語}\narch: x86_64\nxen: debian:trixie\nsteps: [{under-xen: {}}]\n";
}

#[test]
fn a_wrong_value_of_an_override_that_never_applies_is_told() {
    let text = with("overrides: [{when: {arch: aarch64}, set: {dom0.memory: big}}]\n");
    assert!(shown(&text, &[]).contains("`big` is not a size"));
}

#[test]
fn colours_only_when_asked_for() {
    let mistakes = super::load("xenlab: 1\n", "t.yaml", &settings(&[]), &Facts::default()).unwrap_err();
    assert!(!super::render(&mistakes, false).contains('\x1b'));
    assert!(super::render(&mistakes, true).contains('\x1b'));
}

#[test]
fn in_one_line() {
    let mistakes =
        super::load(&with("dom0: sytemd\n"), "dir/t.yaml", &settings(&[]), &Facts::default()).unwrap_err();
    assert_eq!(
        mistakes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "dir/t.yaml:5:7: no userland is called `sytemd`; expected minimal[:SUITE], systemd[:SUITE] or tar:FILE; did you mean `systemd`?"
        ]
    );
}

#[test]
fn columns_count_characters() {
    let text = with("tags: [ä日, '-x']\n");
    let mistakes = super::load(&text, "t.yaml", &settings(&[]), &Facts::default()).unwrap_err();
    assert_eq!(
        mistakes.iter().map(|d| d.place.to_string()).collect::<Vec<_>>(),
        ["t.yaml:5:8", "t.yaml:5:12"]
    );
}

#[test]
fn a_value_does_not_grow_without_end() {
    let doubled: String =
        (1..60).map(|i| format!("v{i}: '${{vars.v{}}}${{vars.v{}}}', ", i - 1, i - 1)).collect();
    let text = with(&format!("vars: {{v0: a, {doubled}}}\n"));
    assert!(shown(&text, &[]).contains("this value grows too large"));
}

#[test]
fn what_is_repaired_loads() {
    assert_eq!(cases(&with(""), &[]).len(), 1);
    assert_eq!(cases(&steps("  - run: {script: a}\n"), &[]).len(), 1);
}
