//! rust-vmm's front end, as cloud-hypervisor uses it: another reading of the protocol.

use super::*;
use test_vhost::PATIENCE;
use vhost::VhostBackend;
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight};
use vhost::vhost_user::{Frontend, VhostUserFrontend};

fn connect(rig: &Rig) -> Frontend {
    let stream = std::os::unix::net::UnixStream::connect(rig.path("c")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    Frontend::from_stream(stream, 64)
}

#[test]
fn rust_vmms_front_end_agrees_on_everything_that_is_offered() {
    let rig = Rig::new(1);
    let mut front = connect(&rig);
    front.set_owner().expect("accepted");
    let features = front.get_features().expect("an answer");
    front.set_features(features).expect("accepted");
    let protocol = front.get_protocol_features().expect("an answer");
    front.set_protocol_features(protocol).expect("accepted");
    front.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    assert_eq!(front.get_queue_num().expect("an answer"), 64);
    assert_eq!(front.get_max_mem_slots().expect("an answer"), 32);
    let space = front.get_config(0, 60, VhostUserConfigFlags::WRITABLE, &[0; 60]).expect("an answer").1;
    assert_eq!(space[..8], SECTORS.to_le_bytes());
    let asked = VhostUserInflight::new(0, 0, 2, 128);
    let (made, file) = front.get_inflight_fd(&asked).expect("an answer");
    assert_eq!(made.mmap_size, file.metadata().expect("a file").len());
    for queue in 0..2 {
        front.set_vring_num(queue, 128).expect("accepted");
        front.set_vring_base(queue, 5).expect("accepted");
        assert_eq!(front.get_vring_base(queue).expect("an answer") & 0xffff, 5);
        front.set_vring_enable(queue, true).expect("accepted");
    }
    // Refused with an acknowledgement, and the connection goes on.
    assert!(front.set_vring_num(1, 4096).is_err());
    assert_eq!(front.get_features().expect("an answer"), features);
    front.reset_owner().expect("accepted");
}
