//! The Linux kernel's NVMe/TCP host against the binary, in a guest. Skipped in one line where there are no guests.

#![allow(clippy::expect_used, missing_docs)]

mod common;

use common::{Client, Process};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Instant;
use test_vm::Guest;

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";

/// What the guest's scripts begin with. There is no nvme-cli in the guest: a connection is a line written to the
/// kernel's `/dev/nvme-fabrics`. Waits are bounded by a count.
const SHELL: &str = r#"
set -e
until_there() { tries=0; until [ -e "$1" ]; do tries=$((tries + 1)); [ $tries -lt 200 ] || { echo "no $1"; dmesg | tail -20; exit 90; }; sleep 0.1; done; }
until_gone() { tries=0; while [ -e "$1" ]; do tries=$((tries + 1)); [ $tries -lt 200 ] || { echo "still $1"; exit 91; }; sleep 0.1; done; }
connect() { echo "transport=tcp,traddr=10.0.2.2,trsvcid=$PORT,hostnqn=$HOST,hostid=$HOSTID,$1" > /dev/nvme-fabrics || { dmesg | tail -20; exit 92; }; }
HOST=nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555
HOSTID=11111111-2222-4333-8444-555555555555
"#;

/// A target with a subsystem, a namespace of 64 MiB in memory, and a listener on a port of its own.
fn target() -> (Process, Client, u16) {
    // Other tests have targets on this core as well.
    let cores = format!("[{}]", common::core());
    let process = Process::start(&["-m", &cores, "--disable-cpumask-locks", "--no-huge", "-s", "512"]);
    let mut client = process.client();
    assert_eq!(client.get("framework_wait_init"), json!(true));
    let mut call = |method: &str, params: Value| client.call(method, params);
    call("bdev_malloc_create", json!({"name": "M1", "num_blocks": 131_072, "block_size": 512}));
    call("nvmf_create_transport", json!({"trtype": "TCP"}));
    let params = json!({"nqn": NQN, "serial_number": "RMR0001", "model_number": "rmr", "allow_any_host": true, "ana_reporting": true});
    call("nvmf_create_subsystem", params);
    call("nvmf_subsystem_add_ns", json!({"nqn": NQN, "namespace": {"bdev_name": "M1"}}));
    let port = listen(&mut client);
    (process, client, port)
}

/// Listens at a port that was free a moment ago, and still is.
fn listen(client: &mut Client) -> u16 {
    for _ in 0..20 {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let port = free.expect("a port").port();
        let params = json!({"nqn": NQN, "listen_address": address(port)});
        if client.ask("nvmf_subsystem_add_listener", Some(&params)).get("error").is_none() {
            return port;
        }
    }
    panic!("no port stays free");
}

fn address(port: u16) -> Value {
    json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port.to_string()})
}

fn guest() -> Option<Guest> {
    let guest = Guest::or_skip()?;
    Some(guest.network().module("nvme-tcp").module("ext4"))
}

#[test]
fn linux_connects_verifies_makes_a_file_system_and_leaves() {
    let Some(guest) = guest() else { return };
    let (process, mut client, port) = target();
    // With digests: random writes that fio verifies, a file system, deallocation. Without: once more through the cache.
    let script = format!(
        r#"PORT={port}
{SHELL}
connect "nqn={NQN},hdr_digest,data_digest,nr_io_queues=2"
until_there /dev/nvme0n1
cat /sys/class/nvme/nvme0/serial /sys/class/nvme/nvme0/model /sys/class/nvme/nvme0/state | tr -d ' ' | tr '\n' ' '
cat /sys/block/nvme0n1/size
if command -v fio > /dev/null; then
    fio --name=v --filename=/dev/nvme0n1 --rw=randwrite --bsrange=512-128k --size=4m --ioengine=libaio --iodepth=16 \
        --direct=1 --verify=crc32c --do_verify=1 --randseed=7 --output=/run/share/fio 2>&1 || {{ cat /run/share/fio; exit 93; }}
    echo verified
else
    dd if=/dev/urandom of=/run/share/random bs=64k count=64 2> /dev/null
    dd if=/run/share/random of=/dev/nvme0n1 bs=64k oflag=direct 2> /dev/null
    dd if=/dev/nvme0n1 bs=64k count=64 iflag=direct 2> /dev/null | cmp - /run/share/random && echo verified
fi
/run/bed/busybox mke2fs /dev/nvme0n1 > /dev/null 2>&1
mount -t ext4 /dev/nvme0n1 /mnt
cp -r /etc/security /etc/apt /mnt/ 2> /dev/null || cp /etc/passwd /mnt/
sync; umount /mnt
e2fsck -fn /dev/nvme0n1 > /run/share/fsck 2>&1 && echo clean || {{ cat /run/share/fsck; exit 94; }}
blkdiscard -f -o 1048576 -l 1048576 /dev/nvme0n1 && echo discarded
echo 1 > /sys/class/nvme/nvme0/delete_controller
until_gone /dev/nvme0n1
connect "nqn={NQN},nr_io_queues=1"
until_there /dev/nvme0n1
e2fsck -fn /dev/nvme0n1 > /dev/null 2>&1 && echo clean again
dd if=/dev/zero of=/dev/nvme0n1 bs=1M count=16 oflag=direct 2> /dev/null
[ "$(head -c 16777216 /dev/nvme0n1 | tr -d '\0' | wc -c)" = 0 ] && echo zeroes
echo 1 > /sys/class/nvme/nvme0/delete_controller
until_gone /dev/nvme0n1
"#
    );
    let outcome = guest.run(&script).expect("an outcome");
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(outcome.status, 0, "{said}");
    for words in ["RMR0001 rmr live 131072", "verified", "clean", "discarded", "clean again", "zeroes"] {
        assert!(outcome.stdout.contains(words), "{words}: {said}");
    }
    let end = Instant::now() + common::BOUND;
    while client.call("nvmf_subsystem_get_controllers", json!({"nqn": NQN})) != json!([]) {
        assert!(Instant::now() < end, "the host has gone, its controller has not");
        std::thread::yield_now();
    }
    let log = process.stop();
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
}

#[test]
fn linux_hears_of_namespaces_paths_and_the_end() {
    let Some(guest) = guest() else { return };
    let (process, mut client, port) = target();
    let script = format!(
        r#"PORT={port}
{SHELL}
connect "nqn=nqn.2014-08.org.nvmexpress.discovery"
until_there /sys/class/nvme/nvme0
cat /sys/class/nvme/nvme0/cntrltype
echo 1 > /sys/class/nvme/nvme0/delete_controller
until_gone /sys/class/nvme/nvme0
connect "nqn={NQN},keep_alive_tmo=5,reconnect_delay=1,ctrl_loss_tmo=60"
until_there /dev/nvme0n1
touch /run/share/connected
until_there /dev/nvme0n2
echo came; touch /run/share/came
until_gone /dev/nvme0n2
echo went; touch /run/share/went
ana() {{ cat /sys/class/nvme/nvme0/nvme0*n1/ana_state 2> /dev/null || cat /sys/block/nvme0*n1/ana_state; }}
tries=0; until ana | grep -q inaccessible; do tries=$((tries + 1)); [ $tries -lt 200 ] || {{ ana; exit 95; }}; sleep 0.1; done
echo inaccessible; touch /run/share/inaccessible
tries=0; until ana | grep -q ^optimized; do tries=$((tries + 1)); [ $tries -lt 200 ] || {{ ana; exit 96; }}; sleep 0.1; done
dd if=/dev/nvme0n1 of=/dev/null bs=4k count=16 iflag=direct 2> /dev/null && echo readable
touch /run/share/readable
tries=0; until grep -q connecting /sys/class/nvme/nvme0/state; do tries=$((tries + 1)); [ $tries -lt 400 ] || exit 97; sleep 0.05; done
touch /run/share/lost
tries=0; until grep -q live /sys/class/nvme/nvme0/state; do tries=$((tries + 1)); [ $tries -lt 300 ] || exit 98; sleep 0.1; done
dd if=/dev/nvme0n1 of=/dev/null bs=4k count=16 iflag=direct 2> /dev/null && echo back
echo 1 > /sys/class/nvme/nvme0/delete_controller
"#
    );
    let mut running = guest.start(&script).expect("a guest");
    let mut wait = |what: &str| {
        if let Err(why) = running.wait_for(what) {
            panic!("{what}: {why}");
        }
    };
    wait("connected");
    client.call("bdev_null_create", json!({"name": "N2", "num_blocks": 8192, "block_size": 4096}));
    client.call("nvmf_subsystem_add_ns", json!({"nqn": NQN, "namespace": {"bdev_name": "N2", "nsid": 2}}));
    wait("came");
    client.call("bdev_null_delete", json!({"name": "N2"}));
    wait("went");
    let set = |client: &mut Client, state: &str| {
        let params = json!({"nqn": NQN, "listen_address": address(port), "ana_state": state});
        client.call("nvmf_subsystem_listener_set_ana_state", params);
    };
    set(&mut client, "inaccessible");
    wait("inaccessible");
    set(&mut client, "optimized");
    wait("readable");
    client.call("nvmf_subsystem_remove_listener", json!({"nqn": NQN, "listen_address": address(port)}));
    wait("lost");
    client.call("nvmf_subsystem_add_listener", json!({"nqn": NQN, "listen_address": address(port)}));
    let outcome = running.wait().expect("an outcome");
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(outcome.status, 0, "{said}");
    for words in ["discovery", "came", "went", "inaccessible", "readable", "back"] {
        assert!(outcome.stdout.contains(words), "{words}: {said}");
    }
    process.stop();
}
