//! What to boot: memory, disks, network, modules.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::running::{Outcome, Running};
use crate::tools::quoted;
use crate::{Bed, Disk, Error};

/// Where the guest sees the share.
pub const SHARE: &str = "/run/share";

/// What the machine is asked for by default. The kernel and what is unpacked take 150 MiB.
const MEMORY_MIB: u32 = 512;
/// A boot takes 5 s on an idle machine, and ten times that on one that is fought over.
const LIMIT: Duration = Duration::from_secs(120);
/// First busybox's tools for modules, see `init.sh`.
const PATH: &str = "/run/bed:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// No needless work under an interpreter; a panic ends QEMU.
const KERNEL: &str = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check audit=0 apparmor=0";

/// A guest to be started, once or several times.
#[derive(Clone, Debug)]
pub struct Guest {
    bed: Bed,
    memory_mib: u32,
    disks: Vec<Disk>,
    modules: Vec<String>,
    network: bool,
    forwards: Vec<(u16, u16)>,
    iommu: bool,
    systemd: bool,
    kernel: String,
    qemu: Vec<OsString>,
    limit: Duration,
}

impl Guest {
    /// A guest on this machine's bed. [`Error::Missing`] where there is none: a reason to skip.
    pub fn new() -> Result<Guest, Error> {
        Ok(Guest::on(Bed::find()?))
    }

    /// As [`Guest::new`] for tests: none, with one line that says why, where this machine has no guests.
    #[must_use]
    pub fn or_skip() -> Option<Guest> {
        match Guest::new() {
            Ok(guest) => Some(guest),
            Err(why) if why.is_missing() => {
                crate::tell_skipped(&why);
                None
            }
            Err(why) => panic!("{why}"),
        }
    }

    /// A guest on `bed`.
    #[must_use]
    pub fn on(bed: Bed) -> Guest {
        Guest {
            bed,
            memory_mib: MEMORY_MIB,
            disks: Vec::new(),
            modules: Vec::new(),
            network: false,
            forwards: Vec::new(),
            iommu: false,
            systemd: false,
            kernel: KERNEL.to_owned(),
            qemu: Vec::new(),
            limit: LIMIT,
        }
    }

    /// Memory in MiB; 512 by default.
    #[must_use]
    pub fn memory(self, mib: u32) -> Guest {
        Guest { memory_mib: mib, ..self }
    }

    /// One more disk. Disks of one kind are numbered in the order in which they were added.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Guest {
        self.disks.push(disk);
        self
    }

    /// Loads a module before the command runs; what it depends on is loaded with it. The command may `modprobe` more.
    #[must_use]
    pub fn module(mut self, name: &str) -> Guest {
        self.modules.push(name.to_owned());
        self
    }

    /// A network card with the address 10.0.2.15; the host's 127.0.0.1 is 10.0.2.2, and nothing else is reached.
    #[must_use]
    pub fn network(self) -> Guest {
        Guest { network: true, ..self }
    }

    /// As [`Guest::network`], and TCP connections to `host` on the host's 127.0.0.1 arrive at the guest's port `guest`.
    #[must_use]
    pub fn forward(mut self, host: u16, guest: u16) -> Guest {
        self.forwards.push((host, guest));
        self.network()
    }

    /// An IOMMU: without one nothing can be bound to vfio-pci.
    #[must_use]
    pub fn iommu(self) -> Guest {
        Guest { iommu: true, ..self }
    }

    /// The host's systemd as process 1, with the command as its only unit; the command may `systemctl start` others.
    #[must_use]
    pub fn systemd(self) -> Guest {
        Guest { systemd: true, ..self }
    }

    /// More of the kernel's command line.
    #[must_use]
    pub fn kernel_args(mut self, args: &str) -> Guest {
        self.kernel = format!("{} {args}", self.kernel);
        self
    }

    /// More of QEMU's arguments, as they are.
    #[must_use]
    pub fn qemu_args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Guest {
        self.qemu.extend(args.into_iter().map(Into::into));
        self
    }

    /// How long QEMU may run, boot included; 120 s by default.
    #[must_use]
    pub fn limit(self, limit: Duration) -> Guest {
        Guest { limit, ..self }
    }

    /// Boots, runs `command` in the host's `/bin/sh` as root in `/root`, and waits for its end.
    pub fn run(&self, command: &str) -> Result<Outcome, Error> {
        self.start(command)?.wait()
    }

    /// As [`Guest::run`], but does not wait: the test talks to the guest, or cuts its power.
    pub fn start(&self, command: &str) -> Result<Running, Error> {
        Running::start(self, command)
    }

    pub(crate) fn bed(&self) -> &Bed {
        &self.bed
    }

    pub(crate) fn time_limit(&self) -> Duration {
        self.limit
    }

    /// What `init.sh` reads.
    pub(crate) fn settings(&self) -> String {
        let modules = self.bed.modules();
        let card = if self.network { Some("virtio_net") } else { None };
        let load: Vec<&str> = card.into_iter().chain(self.modules.iter().map(String::as_str)).collect();
        let network = if self.network { "yes" } else { "" };
        let systemd = if self.systemd { "yes" } else { "" };
        let lines = [
            ("MODULES", modules.to_string_lossy().into_owned()),
            ("LOAD", load.join(" ")),
            ("NETWORK", network.to_owned()),
            ("SYSTEMD", systemd.to_owned()),
            ("GUEST_PATH", PATH.to_owned()),
        ];
        lines.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect()
    }

    /// QEMU's arguments for a run with files in `scratch`, the share in `share`, and the console's output in `console`.
    pub(crate) fn args(&self, scratch: &Path, share: &Path, console: &Path) -> Result<Vec<OsString>, Error> {
        let machine = if self.iommu { "q35,kernel-irqchip=split" } else { "q35" };
        let kernel = if self.iommu { format!("{} intel_iommu=on", self.kernel) } else { self.kernel.clone() };
        let memory = self.memory_mib.to_string();
        let mut args: Vec<OsString> = [
            "-accel",
            "tcg",
            "-cpu",
            "max",
            "-smp",
            "1",
            "-machine",
            machine,
            "-m",
            &memory,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-append",
            &kernel,
        ]
        .map(OsString::from)
        .to_vec();
        args.extend(["-kernel".into(), self.bed.kernel().into()]);
        args.extend(["-initrd".into(), scratch.join("initramfs").into()]);
        args.extend(["-serial".into(), prefixed("file:", console)]);
        args.extend(["-virtfs".into(), shared(Path::new("/"), "root", ",readonly=on,multidevs=remap")]);
        args.extend(["-virtfs".into(), shared(share, "share", "")]);
        if self.iommu {
            args.extend(["-device".into(), "intel-iommu,intremap=on,caching-mode=on,device-iotlb=on".into()]);
        }
        if self.network {
            let ports = self.forwards.iter();
            let ports: String =
                ports.map(|(host, guest)| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}")).collect();
            let card = "virtio-net-pci,netdev=n0,romfile=";
            args.extend([
                "-netdev".into(),
                format!("user,id=n0{ports}").into(),
                "-device".into(),
                card.into(),
            ]);
        }
        for (number, disk) in self.disks.iter().enumerate() {
            args.extend(disk.args(number, scratch)?);
        }
        args.extend(self.qemu.iter().cloned());
        Ok(args)
    }
}

/// A folder of the host that the guest mounts as `tag`.
fn shared(folder: &Path, tag: &str, more: &str) -> OsString {
    let folder = folder.to_string_lossy().replace(',', ",,");
    format!("local,path={folder},mount_tag={tag},security_model=none{more}").into()
}

fn prefixed(prefix: &str, path: &Path) -> OsString {
    let mut text = OsString::from(prefix);
    text.push(path);
    text
}
