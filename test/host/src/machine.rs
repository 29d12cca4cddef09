//! A machine made of files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::root;

/// Bytes of a namespace: enough for signatures.
const DISK_BYTES: u64 = 1 << 20;

/// A tree of files that looks like a machine to `setup.sh`. Functions panic: a test that cannot be set up has failed.
#[derive(Debug)]
pub struct Machine {
    dir: TempDir,
}

/// How a run of the script ended.
#[derive(Debug)]
pub struct Run {
    /// Whether its exit status was 0.
    pub success: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Machine {
    /// A machine with two NUMA nodes, drivers, no controllers, and ten hugepages.
    #[must_use]
    pub fn new() -> Machine {
        let machine = Machine { dir: TempDir::new().expect("a folder") };
        for dir in [
            "sys/bus/pci/devices",
            "sys/bus/pci/drivers/nvme",
            "sys/bus/pci/drivers/vfio-pci",
            "sys/block",
            "dev",
        ] {
            fs::create_dir_all(machine.path(dir)).expect("a folder");
        }
        machine.write("sys/bus/pci/drivers_probe", "");
        machine.write("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
        machine.write("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 100 0 -2\n");
        for pool in ["kernel/mm", "devices/system/node/node0", "devices/system/node/node1"] {
            for (file, pages) in [("nr", "10"), ("free", "4")] {
                machine.write(&format!("sys/{pool}/hugepages/hugepages-2048kB/{file}_hugepages"), pages);
            }
        }
        machine
    }

    /// One with the controllers `BDFS[0]` and `BDFS[1]`, each with one empty namespace, in IOMMU groups of their own.
    #[must_use]
    pub fn with_two_controllers() -> Machine {
        let machine = Machine::new();
        machine.add_controller(Machine::BDFS[0], 0);
        machine.add_controller(Machine::BDFS[1], 1);
        machine
    }

    /// The controllers of [`Machine::with_two_controllers`]: `nvme0n1` and `nvme1n1`.
    pub const BDFS: [&str; 2] = ["0000:01:00.0", "0000:02:00.0"];

    /// A controller `nvme<number>` with the empty namespace 1, in IOMMU group `number`.
    pub fn add_controller(&self, bdf: &str, number: u32) {
        let device = format!("sys/bus/pci/devices/{bdf}");
        let entries = [
            ("class", "0x010802"),
            ("vendor", "0x1b36"),
            ("device", "0x0010"),
            ("numa_node", "0"),
            ("driver_override", ""),
        ];
        for (file, text) in entries {
            self.write(&format!("{device}/{file}"), text);
        }
        let controller = format!("{device}/nvme/nvme{number}");
        self.write(&format!("{controller}/state"), "live");
        fs::create_dir_all(self.path(&format!("{controller}/nvme{number}n1"))).expect("a folder");
        self.link(&format!("{device}/driver"), "../../drivers/nvme");
        let group = format!("sys/kernel/iommu_groups/{number}");
        fs::create_dir_all(self.path(&format!("{group}/devices"))).expect("a folder");
        self.link(&format!("{group}/devices/{bdf}"), &format!("../../../../bus/pci/devices/{bdf}"));
        self.link(&format!("{device}/iommu_group"), &format!("../../../../kernel/iommu_groups/{number}"));
        self.add_disk(&format!("nvme{number}n1"), number);
    }

    /// The block device `name` with its node, empty.
    pub fn add_disk(&self, name: &str, minor: u32) {
        self.write(&format!("sys/block/{name}/dev"), format!("259:{minor}"));
        let node = fs::File::create(self.path(&format!("dev/{name}"))).expect("a node");
        node.set_len(DISK_BYTES).expect("its size");
    }

    /// Partition 1 of `disk`.
    pub fn add_partition(&self, disk: &str) {
        self.write(&format!("sys/block/{disk}/{disk}p1/partition"), "1");
        self.write(&format!("sys/block/{disk}/{disk}p1/dev"), "259:100");
    }

    /// Writes a file of the tree, with its folders.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }

    /// Writes `bytes` at `offset` of a disk's node.
    pub fn write_disk(&self, disk: &str, offset: u64, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        let node = fs::File::options().write(true).open(self.path(&format!("dev/{disk}"))).expect("a node");
        node.write_all_at(bytes, offset).expect("room");
    }

    /// A symbolic link of the tree.
    pub fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        symlink(target, path).expect("a link");
    }

    /// A process `pid` named `comm` that has `/dev/<node>` open.
    pub fn add_opener(&self, pid: u32, comm: &str, node: &str) {
        self.write(&format!("proc/{pid}/comm"), comm);
        self.link(&format!("proc/{pid}/fd/7"), &format!("/dev/{node}"));
    }

    /// A file or folder of the tree.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// A file of the tree, trimmed; empty if it is not there.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default().trim().to_owned()
    }

    /// The driver of a controller.
    #[must_use]
    pub fn driver(&self, bdf: &str) -> Option<String> {
        let target = fs::read_link(self.path(&format!("sys/bus/pci/devices/{bdf}/driver"))).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Pages in the pool of all nodes.
    #[must_use]
    pub fn hugepages(&self) -> String {
        self.read("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    }

    /// What was written to sysfs so far, one line each.
    #[must_use]
    pub fn writes(&self) -> String {
        self.read("writes")
    }

    /// Runs `setup.sh` with a command line and variables, `A=1 B=2`.
    #[must_use]
    pub fn setup(&self, command: &str, variables: &[(&str, &str)]) -> Run {
        let script = root().join("scripts/setup.sh");
        let kernel = root().join("test/host/src/kernel.sh");
        let mut bash = Command::new("timeout");
        bash.args(["--kill-after=5", "60", "bash", "-c", ". \"$1\"; . \"$2\"; main $3", "setup.sh"]);
        bash.arg(script).arg(kernel).arg(command).env_clear();
        bash.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        for (name, path) in
            [("SYSFS", "sys"), ("PROC", "proc"), ("DEV", "dev"), ("STATE", "run/state"), ("WRITES", "writes")]
        {
            bash.env(name, self.path(path));
        }
        bash.env("HUGEMEM", "0").envs(variables.iter().copied()).stdin(Stdio::null());
        let output = bash.output().expect("bash, and coreutils' timeout");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Run { success: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Whether the real `program` is on this machine, for tests that need it.
    #[must_use]
    pub fn has_program(program: &str) -> bool {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|dir| Path::new(dir).join(program).is_file())
    }
}

impl Default for Machine {
    fn default() -> Self {
        Machine::new()
    }
}

impl Run {
    /// Panics unless the run succeeded.
    #[track_caller]
    pub fn expect_success(self) -> Run {
        assert!(self.success, "{self:?}");
        self
    }

    /// The line about `bdf`, without its name.
    #[must_use]
    pub fn about(&self, bdf: &str) -> String {
        let line = self.out.lines().find_map(|line| line.strip_prefix(bdf)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("nothing about {bdf}: {self:?}")).to_owned()
    }
}
