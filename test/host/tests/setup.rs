//! `scripts/setup.sh` on machines made of files: what it takes, what it leaves alone and why, hugepages, the way back.

use test_host::{Machine, Run, root, skip};

const A: &str = Machine::BDFS[0];
const B: &str = Machine::BDFS[1];

/// The whole of a run with the two controllers, of which `A` was changed by `spoil`.
fn config(spoil: impl Fn(&Machine), variables: &[(&str, &str)]) -> (Machine, Run) {
    let machine = Machine::with_two_controllers();
    spoil(&machine);
    let run = machine.setup("config", variables);
    (machine, run)
}

#[test]
fn free_controllers_are_bound_once_and_reset_brings_them_back() {
    let (machine, run) = config(|_| (), &[]);
    let run = run.expect_success();
    assert!(
        run.about(A).starts_with("bound to vfio-pci (was: nvme); undo: PCI_ALLOWED=0000:01:00.0 "),
        "{run:?}"
    );
    assert_eq!([A, B].map(|bdf| machine.driver(bdf)), [Some("vfio-pci".into()), Some("vfio-pci".into())]);
    assert_eq!(machine.read("run/state"), format!("{A}\n{B}"));

    let writes = machine.writes();
    let again = machine.setup("config", &[]).expect_success();
    assert_eq!(again.about(A), "left alone: bound to vfio-pci");
    assert_eq!(machine.writes(), writes, "a second run changes nothing");

    let reset = machine.setup("reset", &[]).expect_success();
    assert_eq!(reset.about(B), "given back to nvme");
    assert!(reset.out.contains("hugepages: 10 of 2048 KiB stay"), "{reset:?}");
    assert_eq!([A, B].map(|bdf| machine.driver(bdf)), [Some("nvme".into()), Some("nvme".into())]);
    assert_eq!(machine.read("run/state"), "");
    assert_eq!(machine.read(&format!("sys/bus/pci/devices/{A}/driver_override")), "");
    let writes = machine.writes();
    let _ = machine.setup("reset", &[]).expect_success();
    assert_eq!(machine.writes(), writes, "a second reset changes nothing");
}

/// A way in which controller `A` is in use, and what is said of it.
type Use = (&'static str, fn(&Machine));

/// These stay, whatever is forced.
const USES: &[Use] = &[
    ("nvme0n1 is mounted on /data", |m| {
        m.write("proc/self/mountinfo", "5 1 259:0 / /data rw - ext4 /dev/x rw\n")
    }),
    ("nvme0n1 is mounted on /pool", |m| {
        m.write("proc/self/mountinfo", "5 1 0:44 / /pool rw shared:1 master:2 - btrfs /dev/nvme0n1 rw\n");
    }),
    ("nvme0n1 is mounted on /in/a/container", |m| {
        m.write("proc/4711/mountinfo", "5 1 259:0 / /in/a/container rw - ext4 /dev/x rw\n");
    }),
    ("nvme0n1p1 is mounted on /data", |m| {
        m.add_partition("nvme0n1");
        m.write("proc/self/mountinfo", "5 1 259:100 / /data rw - ext4 /dev/x rw\n");
    }),
    ("nvme0n1p1 is swap", |m| {
        m.add_partition("nvme0n1");
        m.write("proc/swaps", "Filename Type\n/dev/nvme0n1p1 partition\n");
    }),
    ("nvme0n1 is part of dm-3 (vg-root)", |m| {
        m.write("sys/block/dm-3/dm/name", "vg-root\n");
        m.link("sys/block/nvme0n1/holders/dm-3", "../../dm-3");
    }),
    ("nvme0n1p1 is part of md127", |m| {
        m.add_partition("nvme0n1");
        m.link("sys/block/nvme0n1/nvme0n1p1/holders/md127", "../../../md127");
    }),
    ("nvme0n1 is part of a mounted btrfs", |m| m.link("sys/fs/btrfs/some-uuid/devices/nvme0n1", "../../x")),
    ("nvme0n1 is used by block/loop0/loop/backing_file", |m| {
        m.write("sys/block/loop0/loop/backing_file", "/dev/nvme0n1\n");
    }),
    ("nvme0n1 is used by kernel/config/nvmet/subsystems/nqn/namespaces/1/device_path", |m| {
        m.write("sys/kernel/config/nvmet/subsystems/nqn/namespaces/1/device_path", "/dev/nvme0n1\n");
    }),
    ("nvme0n1 is open in 77(postgres)", |m| m.add_opener(77, "postgres\n", "nvme0n1")),
    ("ng0n1 is open in 78(fio)", |m| m.add_opener(78, "fio\n", "ng0n1")),
    ("its driver is xen-pciback, which is not nvme", |m| relink(m, "xen-pciback")),
    ("no IOMMU: boot with intel_iommu=on or amd_iommu=on, or set DRIVER_OVERRIDE=uio_pci_generic", |m| {
        std::fs::remove_file(m.path(&format!("sys/bus/pci/devices/{A}/iommu_group"))).expect("it was there");
    }),
    ("shares its IOMMU group with 0000:09:00.0 (e1000e), so vfio would refuse it", |m| {
        m.link("sys/kernel/iommu_groups/0/devices/0000:09:00.0", "../../../../bus/pci/devices/0000:09:00.0");
        m.link("sys/bus/pci/devices/0000:09:00.0/driver", "../../drivers/e1000e");
        std::fs::create_dir_all(m.path("sys/bus/pci/drivers/e1000e")).expect("a folder");
    }),
];

/// These are taken when they are forced.
const VALUES: &[Use] = &[
    ("nvme0n1 has partitions", |m| m.add_partition("nvme0n1")),
    ("nvme0n1 holds dos", |m| {
        m.write_disk("nvme0n1", 446, &[0, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 64, 0, 0, 0]);
        m.write_disk("nvme0n1", 510, &[0x55, 0xaa]);
    }),
    ("nvme0n1 holds crypto_LUKS", |m| m.write_disk("nvme0n1", 0, b"LUKS\xba\xbe\0\x01")),
    ("nvme0n1 cannot be read", |m| std::fs::remove_file(m.path("dev/nvme0n1")).expect("it was there")),
    ("its state is 'connecting', so what it holds cannot be seen", |m| {
        m.write(&format!("sys/bus/pci/devices/{A}/nvme/nvme0/state"), "connecting");
    }),
    ("it has no driver, so what it holds cannot be seen", |m| {
        std::fs::remove_file(m.path(&format!("sys/bus/pci/devices/{A}/driver"))).expect("it was there");
    }),
];

fn relink(machine: &Machine, driver: &str) {
    let link = format!("sys/bus/pci/devices/{A}/driver");
    std::fs::remove_file(machine.path(&link)).expect("it was there");
    std::fs::create_dir_all(machine.path(&format!("sys/bus/pci/drivers/{driver}"))).expect("a folder");
    machine.link(&link, &format!("../../drivers/{driver}"));
}

#[test]
fn what_is_in_use_is_left_alone_also_when_it_is_forced() {
    for (why, spoil) in USES {
        for variables in [&[][..], &[("PCI_FORCE", A)]] {
            let (machine, run) = config(spoil, variables);
            let run = run.expect_success();
            assert_eq!(run.about(A), format!("left alone: {why}"));
            assert!(!machine.writes().contains(A), "{why}: {}", machine.writes());
            assert_eq!(machine.driver(B).as_deref(), Some("vfio-pci"), "the other one is free");
        }
    }
}

#[test]
fn what_may_hold_data_is_left_alone_unless_it_is_forced_by_name() {
    if !Machine::has_program("blkid") {
        return skip("no blkid");
    }
    for (why, spoil) in VALUES {
        for variables in [&[][..], &[("PCI_FORCE", B)]] {
            let (machine, run) = config(spoil, variables);
            let run = run.expect_success();
            assert_eq!(run.about(A), format!("left alone: {why}; PCI_FORCE=\"{A}\" takes it all the same"));
            assert!(!machine.writes().contains(A), "{why}");
        }
        let (machine, run) = config(spoil, &[("PCI_FORCE", A)]);
        assert!(run.expect_success().about(A).starts_with("bound to vfio-pci"), "{why}");
        assert_eq!(machine.driver(A).as_deref(), Some("vfio-pci"), "{why}");
    }
}

#[test]
fn without_blkid_nothing_with_a_disk_is_taken() {
    let machine = Machine::with_two_controllers();
    let tools = machine.path("tools");
    std::fs::create_dir(&tools).expect("a folder");
    for tool in [
        "cat", "basename", "readlink", "sort", "awk", "grep", "find", "wc", "head", "timeout", "dirname",
        "mkdir", "bash",
    ] {
        let real = ["/usr/bin", "/bin"]
            .iter()
            .map(|dir| std::path::Path::new(dir).join(tool))
            .find(|path| path.exists());
        std::os::unix::fs::symlink(real.expect("an ordinary tool"), tools.join(tool)).expect("a link");
    }
    let run = machine.setup("config", &[("PATH", &format!("{}:/nowhere", tools.display()))]);
    let why = "left alone: it cannot be told what nvme0n1 holds: no blkid (util-linux)";
    assert!(run.about(A).starts_with(why), "{run:?}");
    assert_eq!(machine.writes(), "");
}

#[test]
fn lists_say_which_controllers_are_meant() {
    let both = format!("{A} {B}");
    for (variables, taken) in [
        (vec![("PCI_ALLOWED", A)], vec![A]),
        (vec![("PCI_BLOCKED", A)], vec![B]),
        (vec![("PCI_ALLOWED", both.as_str()), ("PCI_BLOCKED", B)], vec![A]),
        (vec![("PCI_ALLOWED", "none")], vec![]),
    ] {
        let (machine, run) = config(|_| (), &variables);
        let _ = run.expect_success();
        for bdf in [A, B] {
            let expect = if taken.contains(&bdf) { "vfio-pci" } else { "nvme" };
            assert_eq!(machine.driver(bdf).as_deref(), Some(expect), "{variables:?}");
        }
    }
}

#[test]
fn mistakes_are_refused_before_anything_is_changed() {
    for (command, variable, value, said) in [
        ("config", "PCI_BLOCKED", "01:00.0", "01:00.0: no such PCI device; write it as 0000:01:00.0"),
        ("config", "PCI_FORCE", "0000:ff:00.0", "0000:ff:00.0: no such PCI device"),
        (
            "config",
            "DRIVER_OVERRIDE",
            "igb_uio",
            "DRIVER_OVERRIDE=igb_uio: it takes vfio-pci or uio_pci_generic",
        ),
        ("config", "NRHUGE", "many", "NRHUGE=many is no number"),
        ("config", "HUGEMEM", "1G", "HUGEMEM=1G is no number"),
        ("config", "HUGENODE", "0,x", "HUGENODE=x is no number"),
        ("confgi", "HUGEMEM", "0", "no command 'confgi'"),
    ] {
        let machine = Machine::with_two_controllers();
        let run = machine.setup(command, &[(variable, value)]);
        assert!(!run.success && run.err.contains(said), "{variable}={value}: {run:?}");
        assert_eq!(machine.writes(), "", "{variable}={value}");
    }
}

#[test]
fn a_driver_that_does_not_take_the_controller_loses_it_again() {
    let refuse = |machine: &Machine| machine.write(&format!("sys/bus/pci/devices/{A}/refuses"), "vfio-pci\n");
    let (machine, run) = config(refuse, &[]);
    assert!(!run.success && run.err.contains("vfio-pci does not take it; giving it back to nvme"), "{run:?}");
    assert_eq!(machine.driver(A).as_deref(), Some("nvme"));
    assert_eq!(machine.read("run/state"), B, "only the other one is bound");
}

#[test]
fn uio_is_used_when_it_is_asked_for_and_needs_no_iommu() {
    let machine = Machine::with_two_controllers();
    std::fs::create_dir(machine.path("sys/bus/pci/drivers/uio_pci_generic")).expect("a folder");
    std::fs::remove_file(machine.path(&format!("sys/bus/pci/devices/{A}/iommu_group")))
        .expect("it was there");
    let run = machine.setup("config", &[("DRIVER_OVERRIDE", "uio_pci_generic")]).expect_success();
    assert!(run.about(A).starts_with("bound to uio_pci_generic"), "{run:?}");
    let _ = machine.setup("reset", &[]).expect_success();
    assert_eq!(machine.driver(A).as_deref(), Some("nvme"));
}

#[test]
fn reset_takes_nothing_from_a_program_and_nothing_that_others_have_bound() {
    let (machine, _) = config(|machine| relink(machine, "vfio-pci"), &[]);
    machine.add_opener(99, "rmr_tgt\n", "vfio/1");
    let run = machine.setup("reset", &[]);
    assert!(
        !run.success && run.err.contains(&format!("{B}: in use by 99(rmr_tgt); stop that first")),
        "{run:?}"
    );
    assert_eq!(machine.driver(A).as_deref(), Some("vfio-pci"), "not bound here: not touched");
    std::fs::remove_dir_all(machine.path("proc/99")).expect("the program ends");
    let _ = machine.setup("reset", &[]).expect_success();
    assert_eq!(machine.driver(B).as_deref(), Some("nvme"));
    let _ = machine.setup("reset", &[("PCI_ALLOWED", A)]).expect_success();
    assert_eq!(machine.driver(A).as_deref(), Some("nvme"), "by name it is given back");
}

#[test]
fn a_disk_with_several_paths_is_known_by_its_own_name() {
    let (machine, run) = config(
        |machine| {
            let controller = format!("sys/bus/pci/devices/{A}/nvme/nvme0");
            std::fs::remove_dir(machine.path(&format!("{controller}/nvme0n1"))).expect("it was there");
            std::fs::create_dir(machine.path(&format!("{controller}/nvme3c0n12"))).expect("a path");
            machine.add_disk("nvme3n12", 40);
            machine.write("proc/swaps", "Filename Type\n/dev/nvme3n12 partition\n");
        },
        &[],
    );
    assert_eq!(run.expect_success().about(A), "left alone: nvme3n12 is swap");
    assert!(!machine.writes().contains(A));
}

#[test]
fn hugepages_are_raised_and_never_lowered() {
    for (variables, pages, said) in [
        (vec![("NRHUGE", "64")], "64", "hugepages: 10 raised to 64 of 2048 KiB; undo: echo 10 > "),
        (vec![("HUGEMEM", "25")], "13", "hugepages: 10 raised to 13"),
        (vec![("HUGEMEM", "4096"), ("NRHUGE", "12")], "12", "hugepages: 10 raised to 12"),
        (vec![("NRHUGE", "10")], "10", "hugepages: 10 of 2048 KiB, 10 wanted: enough"),
        (vec![("NRHUGE", "0")], "10", "hugepages: 10 of 2048 KiB, 0 wanted: enough"),
    ] {
        let machine = Machine::new();
        let run = machine.setup("config", &variables).expect_success();
        assert!(run.out.contains(said), "{variables:?}: {run:?}");
        assert_eq!(machine.hugepages(), pages, "{variables:?}");
    }
}

#[test]
fn hugepages_go_to_the_nodes_that_are_named() {
    let pages = |machine: &Machine| {
        let node = |n: u32| {
            machine.read(&format!("sys/devices/system/node/node{n}/hugepages/hugepages-2048kB/nr_hugepages"))
        };
        [node(0), node(1), machine.hugepages()]
    };
    for (nodes, expect) in [
        ("1", ["10", "32", "10"]),
        ("0,1", ["32", "32", "10"]),
        ("nodes_hp[0]=16,nodes_hp[1]", ["16", "32", "10"]),
    ] {
        let machine = Machine::new();
        let _ = machine.setup("config", &[("HUGENODE", nodes), ("NRHUGE", "32")]).expect_success();
        assert_eq!(pages(&machine), expect, "{nodes}");
    }
    let run = Machine::new().setup("config", &[("HUGENODE", "7"), ("NRHUGE", "32")]);
    assert!(!run.success && run.err.contains("hugepages on node 7: no pool of 2048 KiB pages"), "{run:?}");
}

#[test]
fn too_few_hugepages_are_a_failure_that_says_so() {
    let machine = Machine::new();
    machine.write("sys/kernel/mm/hugepages/hugepages-2048kB/most", "20");
    let run = machine.setup("config", &[("NRHUGE", "64")]);
    assert!(!run.success && run.err.contains("the kernel gave 20 of 64"), "{run:?}");
}

#[test]
fn status_says_what_would_be_done_and_changes_nothing() {
    let machine = Machine::with_two_controllers();
    machine.write("proc/swaps", "Filename Type\n/dev/nvme1n1 partition\n");
    let run = machine.setup("status", &[]).expect_success();
    let lines: Vec<Vec<&str>> = run.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1], [A, "1b36:0010", "0", "nvme", "nvme0n1", "-", "(config", "binds", "it)"]);
    assert_eq!(lines[2], [B, "1b36:0010", "0", "nvme", "nvme1n1", "nvme1n1", "is", "swap"]);
    assert_eq!(run.out.lines().last(), Some("hugepages of 2048 KiB: 10, free 4"));
    assert_eq!(machine.writes(), "");
    assert!(!machine.path("run").exists());
}

#[test]
fn help_names_every_variable() {
    let run = Machine::new().setup("help", &[]).expect_success();
    for name in [
        "HUGEMEM",
        "NRHUGE",
        "HUGENODE",
        "HUGEPGSZ",
        "PCI_ALLOWED",
        "PCI_BLOCKED",
        "PCI_FORCE",
        "DRIVER_OVERRIDE",
    ] {
        assert!(run.out.contains(name), "{name}");
    }
}

#[test]
fn shellcheck_has_nothing_to_say() {
    if !Machine::has_program("shellcheck") {
        return skip("no shellcheck");
    }
    let check = std::process::Command::new("shellcheck").arg(root().join("scripts/setup.sh")).output();
    let check = check.expect("it starts");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}
