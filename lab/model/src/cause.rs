//! Causes: stable codes for everything that can go wrong, each with whose fault it is. Tests assert codes, not sentences.

mod advice;
mod said;

pub use said::{of_qemu, of_xl};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Whose fault a Fail or an Error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// The hypervisor.
    Xen,
    /// The Xen build as a set of files: packaging, versions, development files, tools.
    Build,
    /// dom0's kernel or userland.
    Dom0,
    /// What the scenario asked for.
    Scenario,
    /// QEMU.
    Qemu,
    /// The host.
    Host,
    /// xenlab itself.
    Lab,
}

macro_rules! causes {
    ($($id:ident = $code:literal, $blame:ident, $text:literal;)*) => {
        /// A stable code, `AREA.WHAT`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Cause { $(#[doc = $text] $id,)* }

        impl Cause {
            /// Every cause, in the order of the table.
            pub const ALL: &'static [Cause] = &[$(Cause::$id),*];
            /// The code.
            pub fn code(self) -> &'static str { match self { $(Cause::$id => $code),* } }
            /// Whose fault it is, unless a verdict knows better.
            pub fn blame(self) -> Blame { match self { $(Cause::$id => Blame::$blame),* } }
            /// What it means, in one line.
            pub fn meaning(self) -> &'static str { match self { $(Cause::$id => $text),* } }
        }
    };
}

causes! {
    XenPanic = "xen.panic", Xen, "Xen panicked";
    XenPageFault = "xen.page-fault", Xen, "Xen touched memory that is not there, and died";
    XenBug = "xen.bug", Xen, "a check in Xen's own source failed, and Xen ended itself";
    XenMemory = "xen.memory", Scenario, "Xen has too little memory to start";
    XenIommu = "xen.iommu", Scenario, "Xen was asked for something that needs an IOMMU, and found none";
    XenSilent = "xen.silent", Xen, "Xen never wrote to its console";
    XenHung = "xen.hung", Xen, "Xen started and then fell silent";
    XenReset = "xen.reset", Xen, "the machine was reset while Xen ran";
    XenPowerOff = "xen.power-off", Xen, "the machine powered off before dom0 was ready";
    XenWarning = "xen.warning", Xen, "Xen warned on its console";
    BootRefused = "boot.refused", Xen, "firmware or boot loader did not take Xen's image, or its EFI loader gave up";
    BootException = "boot.exception", Xen, "Xen's EFI image ran into an exception before it had taken the machine over";
    ImageTruncated = "build.image-truncated", Build, "the hypervisor image is shorter than its headers say";
    ImageInvalid = "build.image-invalid", Build, "the hypervisor image is not one";
    WrongArchitecture = "build.wrong-architecture", Build, "a file of the build is for another architecture";
    BuildFailed = "build.compile", Build, "the source does not build";
    SourceInvalid = "build.source", Scenario, "the source, a patch or an option is not what a build can be made of";
    VersionMismatch = "build.version-mismatch", Build, "declared, carried and running version do not agree";
    BuildIdMismatch = "build.build-id-mismatch", Build, "the running Xen is not the artefact under test";
    ToolsMismatch = "build.tools-mismatch", Build, "the tools belong to another Xen than the hypervisor";
    ToolsFailed = "build.tools-failed", Build, "the tools do not work on the hypervisor";
    PkgConfigMissing = "build.pkg-config-missing", Build, "a pkg-config module is missing";
    PkgConfigVersion = "build.pkg-config-version", Build, "a pkg-config module has the wrong version";
    PkgConfigLibrary = "build.pkg-config-library", Build, "a pkg-config module names a library that is not right";
    PkgConfigRequires = "build.pkg-config-requires", Build, "a pkg-config module requires one that is not there";
    PkgConfigCompile = "build.pkg-config-compile", Build, "a program using a pkg-config module does not compile and link";
    PkgConfigInvalid = "build.pkg-config-invalid", Build, "pkg-config cannot read a module";
    BootFileMissing = "build.boot-file-missing", Build, "a boot file or link is missing";
    BootFileWrong = "build.boot-file-wrong", Build, "a boot file or link is not what it should be";
    Bootspec = "build.bootspec", Build, "a NixOS system's boot.json does not say how its Xen boots, or says what is not so";
    PartMissing = "build.part-missing", Build, "the build lacks a part the scenario needs";
    Dom0Panic = "dom0.panic", Dom0, "dom0's kernel panicked";
    Dom0InitDied = "dom0.init-died", Dom0, "the first program in dom0 ended or could not be started, and its kernel gave up";
    Dom0AskedToCrash = "dom0.asked-to-crash", Scenario, "something asked dom0's kernel to crash";
    ScenarioInput = "scenario.input", Scenario, "what a machine is to be made of is not there or cannot be used";
    Dom0TooOld = "dom0.too-old", Scenario, "the userland has an older C library than what is to run in it";
    Dom0Memory = "dom0.memory", Scenario, "dom0 has too little memory";
    Dom0NoRoot = "dom0.no-root", Dom0, "dom0's kernel found no root file system";
    Dom0NoInitramfs = "dom0.no-initramfs", Dom0, "dom0's kernel was given no initramfs";
    Dom0KernelInvalid = "dom0.kernel-invalid", Dom0, "dom0's kernel is missing, or not one that Xen can load";
    Dom0Silent = "dom0.silent", Dom0, "dom0 never wrote to its console";
    Dom0Hung = "dom0.hung", Dom0, "dom0 started and then fell silent";
    Dom0NotReady = "dom0.not-ready", Dom0, "dom0 runs but did not become ready in time";
    Dom0Reset = "dom0.reset", Dom0, "dom0 reset the machine";
    Dom0PowerOff = "dom0.power-off", Dom0, "dom0 shut the machine down";
    Dom0NotUnderXen = "dom0.not-under-xen", Dom0, "this is not a control domain on Xen";
    Dom0Warning = "dom0.warning", Dom0, "dom0 warned on its console";
    StoreAbsent = "store.absent", Dom0, "no xenstore daemon runs or answers";
    StoreWrongDaemon = "store.wrong-daemon", Dom0, "the xenstore daemon is not the one asked for";
    StoreSeveral = "store.several", Dom0, "more than one xenstore daemon runs";
    StorePidFile = "store.pid-file", Dom0, "the store's pid file names another process";
    StoreSelfTest = "store.self-test", Build, "test-xenstore failed";
    StoreAnswer = "store.answer", Build, "the store answers otherwise than its protocol says";
    StoreEvent = "store.event", Build, "a watch event of the store is missing, or one too many";
    StoreSilent = "store.silent", Build, "the store does not answer a request";
    StoreClient = "store.client", Dom0, "dom0 has nothing that can speak to the store's socket";
    ServiceMissing = "service.missing", Dom0, "a service that must run does not exist";
    ServiceFailed = "service.failed", Dom0, "a service is not in the state it must be in";
    ServiceUnknown = "service.unknown", Dom0, "the state of a service could not be read";
    ProcessMissing = "process.missing", Dom0, "a process that must run does not";
    FileWrong = "file.wrong", Dom0, "a file in dom0 is not what it should be";
    SshDead = "dom0.ssh", Dom0, "dom0 cannot be reached over SSH while its console lives";
    SerialDead = "dom0.serial", Dom0, "dom0's console takes no commands";
    Dom0Unreachable = "dom0.unreachable", Dom0, "dom0 cannot be reached by any way in";
    CommandKilled = "step.signal", Dom0, "a command was killed by a signal";
    CommandTimeout = "step.timeout", Dom0, "a command did not end in time";
    CheckFailed = "check.failed", Xen, "something is not what the scenario expects";
    ConsoleLacks = "console.missing", Xen, "an expected line never appeared on a console";
    ConsoleHas = "console.unwanted", Xen, "an unwanted line appeared on a console";
    CaptureCut = "capture.cut", Scenario, "output was cut, so its absence cannot be shown";
    XtfFailure = "xtf.failure", Xen, "an XTF test says that what it tests is not as it should be";
    XtfError = "xtf.error", Scenario, "an XTF test says that something is wrong with itself";
    XtfCrash = "xtf.crash", Xen, "an XTF test ended without a result";
    XtfTimeout = "xtf.timeout", Xen, "an XTF test had not ended when its limit passed";
    XtfNoDomain = "xtf.no-domain", Build, "the domain of an XTF test could not be made";
    GuestNotCreated = "guest.not-created", Build, "a guest could not be created";
    GuestMemory = "guest.memory", Scenario, "there is too little memory for a guest";
    GuestKernelInvalid = "guest.kernel-invalid", Scenario, "a guest's kernel is not one that Xen can load";
    GuestConfig = "guest.config", Scenario, "xl cannot read a guest's configuration, or a file that it names is not there";
    GuestDeviceModel = "guest.device-model", Build, "the device model of an HVM guest is missing or did not start";
    GuestFirmware = "guest.firmware", Build, "the firmware of an HVM guest is missing or cannot be loaded";
    GuestNoRoot = "guest.no-root", Scenario, "a guest's kernel found no root or no first program, and gave up";
    GuestCrashed = "guest.crashed", Xen, "a guest crashed";
    GuestTripleFault = "guest.triple-fault", Xen, "a guest ended by a triple fault";
    GuestGone = "guest.gone", Xen, "a guest ended that should live";
    GuestSilent = "guest.silent", Xen, "a guest did not say or do in time what it should";
    GuestSaid = "guest.said", Xen, "a guest said what it should not";
    GuestState = "guest.state", Xen, "a guest is not what or as it should be";
    GuestLeak = "guest.leak", Build, "something of a guest is left behind";
    GuestNotSaved = "guest.not-saved", Build, "a guest could not be saved";
    GuestNotRestored = "guest.not-restored", Build, "a guest could not be restored from what it was saved to";
    GuestNotMigrated = "guest.not-migrated", Build, "a guest could not be migrated";
    GuestNotTheSame = "guest.not-the-same", Xen, "a guest that was restored or migrated is not the one that it was before";
    DeviceNotAttached = "device.not-attached", Build, "a device could not be attached to a guest";
    DeviceNotDetached = "device.not-detached", Build, "a device could not be detached from a guest";
    DeviceData = "device.data", Xen, "what comes out of a device is not what went in";
    DeviceState = "device.state", Xen, "a guest has not the memory or processors that it was given";
    VchanNotConnected = "vchan.not-connected", Build, "two domains could not be connected by a vchan";
    VchanData = "vchan.data", Xen, "what comes out of a vchan is not what went in";
    VchanEnd = "vchan.end", Build, "an end of a vchan did not see that the other end is gone";
    AgentMissing = "agent.missing", Scenario, "a guest does not publish in the store what its agent's contract says";
    AgentValue = "agent.value", Scenario, "what a guest publishes in the store is not what its agent's contract says";
    XtfNotBuilt = "xtf.not-built", Scenario, "the XTF tree has no such file";
    QemuMissing = "qemu.missing", Host, "there is no QEMU for this architecture";
    QemuRefused = "qemu.refused", Qemu, "QEMU refused to start";
    QemuOption = "qemu.option", Scenario, "QEMU does not know, or cannot do, something that the machine is to be made of";
    QemuKilled = "qemu.killed", Qemu, "QEMU was killed by a signal";
    QemuExited = "qemu.exited", Qemu, "QEMU ended by itself";
    QemuInternalError = "qemu.internal-error", Qemu, "QEMU stopped with an internal error";
    QemuProtocol = "qemu.protocol", Qemu, "QEMU's monitor did not answer as it should";
    AcceleratorUnusable = "host.accelerator", Host, "the accelerator asked for cannot run Xen here";
    ControlFailed = "host.control-failed", Host, "a Xen known to be good does not boot here either";
    HostMemory = "host.memory", Host, "the host has too little memory for the machine";
    HostDisk = "host.disk-full", Host, "no space is left on the device";
    HostTool = "host.tool-missing", Host, "a program the lab needs is not installed";
    HostNetwork = "host.network", Host, "something could not be downloaded";
    ArchiveMoved = "host.archive-moved", Host, "the archive no longer has what the lock names";
    ArchiveExpired = "host.archive-expired", Host, "the archive's Release file has expired";
    InputChanged = "lab.input-changed", Lab, "an input of the machine changed while it was used";
    CloneDiffers = "lab.clone-differs", Lab, "a clone and a boot from power-on disagree";
    TemplateUnusable = "lab.template", Lab, "a machine could not be restored from its template";
    LabPanic = "lab.panic", Lab, "xenlab itself panicked";
    LabInternal = "lab.internal", Lab, "xenlab could not do its work";
    PortDead = "lab.port", Lab, "the lab\'s own shell in dom0 does not answer on its port";
    Interrupted = "lab.interrupted", Lab, "the run was interrupted";
}

impl Cause {
    /// The cause with this code.
    pub fn from_code(code: &str) -> Option<Cause> {
        Cause::ALL.iter().copied().find(|c| c.code() == code)
    }

    /// What a cause makes of a step: what is wrong with the subject, or with what the scenario asks for, was judged; what is
    /// wrong with QEMU, the host or the lab says nothing of it.
    pub fn verdict(self) -> crate::verdict::Verdict {
        match self.blame() {
            Blame::Xen | Blame::Build | Blame::Dom0 | Blame::Scenario => crate::verdict::Verdict::Fail,
            Blame::Qemu | Blame::Host | Blame::Lab => crate::verdict::Verdict::Error,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl Serialize for Cause {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Cause {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let code = String::deserialize(d)?;
        Cause::from_code(&code).ok_or_else(|| serde::de::Error::custom(format!("unknown cause `{code}`")))
    }
}
