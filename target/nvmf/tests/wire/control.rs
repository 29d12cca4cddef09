//! Connects, admin commands, events, over the wire.

use crate::host::{Queue, on_blocks};
use crate::{NQN, Target};
use tgt_nvme::command::{admin, nvm};
use tgt_nvme::fabrics::DISCOVERY_NQN;
use tgt_nvme::zerocopy::little_endian::U32;
use tgt_nvme::{Command, Sgl, status};
use tgt_nvmf::model::{AnaState, SubsystemSpec};
use tgt_nvmf::{NamespaceSpec, TransportOptions};
use tgt_status::IoStatus;

fn log(queue: &mut Queue, page: u8, len: u32) -> Vec<u8> {
    let mut command = Command::new(admin::GET_LOG_PAGE, 0, 0);
    command.cdw10 = U32::new(u32::from(page) | (len / 4 - 1) << 16);
    command.sgl = Sgl::new(Sgl::TRANSPORT, len);
    let (completion, data) = queue.call(command, &[]);
    assert!(completion.status().is_ok(), "{}", completion.status());
    data
}

fn ask_for_event(queue: &mut Queue) -> u16 {
    let cid = queue.next_cid();
    queue.submit(&Command::new(admin::ASYNC_EVENT_REQUEST, cid, 0), &[]);
    cid
}

#[test]
fn a_controller_is_connected_to_enabled_and_identified() {
    let target = Target::new();
    let mut admin = target.admin(true);
    let cap = admin.property(false, 0, 0);
    assert_eq!(cap.dw0.get() & 0xffff, 127);
    assert_eq!(admin.property(false, 0x1c, 0).dw0.get(), 0);
    let mut identify = Command::new(admin::IDENTIFY, 0, 0);
    (identify.cdw10, identify.sgl) = (U32::new(1), Sgl::new(Sgl::TRANSPORT, 4096));
    assert_eq!(admin.call(identify, &[]).0.status(), status::COMMAND_SEQUENCE_ERROR, "not enabled");
    admin.enable();
    assert_eq!(admin.property(false, 0x1c, 0).dw0.get(), 1);
    let (completion, page) = admin.call(identify, &[]);
    assert!(completion.status().is_ok() && page.len() == 4096);
    assert_eq!(page[78..80], admin.cntlid.to_le_bytes());
    assert_eq!(admin.property(true, 0x1c, 0).status(), IoStatus::INVALID_FIELD);
}

#[test]
fn queues_are_spread_over_reactors_and_share_what_they_write() {
    let target = Target::with(2, TransportOptions::default());
    let (admin, mut first) = target.queues(false);
    let mut queues: Vec<Queue> = (2..6).map(|qid| target.io(&admin, qid, qid % 2 == 0)).collect();
    for (at, queue) in queues.iter_mut().enumerate() {
        let data = vec![at as u8 + 1; 4096];
        let lba = at as u64 * 8;
        assert!(queue.call(on_blocks(nvm::WRITE, lba, 8), &data).0.status().is_ok());
        assert!(first.call(on_blocks(nvm::READ, lba, 8), &[]).1 == data);
    }
    let counts = target.nvmf.counts().expect("answers");
    let now: Vec<u64> = counts.iter().map(|(_, counts)| counts.io_now + counts.admin_now).collect();
    assert_eq!(now, [3, 3]);
}

#[test]
fn a_queue_that_may_not_come_is_refused_and_another_number_is_taken() {
    let target = Target::new();
    let (admin, _io) = target.queues(false);
    let mut second = Queue::open(target.address, false);
    let invalid = status::CONNECT_INVALID_PARAMETERS;
    assert_eq!(second.connect(NQN, 1, admin.cntlid, 0), Err((invalid, 42)), "the number is in use");
    assert_eq!(second.connect(NQN, 2, 99, 0), Err((invalid, 1 << 16 | 16)));
    let nowhere = second.connect("nqn.2016-06.io.spdk:none", 0, 0xffff, 0);
    assert_eq!(nowhere, Err((invalid, 1 << 16 | 256)));
    assert_eq!(second.connect(NQN, 2, admin.cntlid, 0), Ok(()));
    target.nvmf.allow_any_host(NQN, false).expect("it can be closed");
    let mut stranger = Queue::open(target.address, false);
    assert_eq!(stranger.connect(NQN, 0, 0xffff, 0), Err((status::CONNECT_INVALID_HOST, 0)));
    target.nvmf.add_host(NQN, crate::host::HOST).expect("it can be added");
    assert_eq!(stranger.connect(NQN, 0, 0xffff, 0), Ok(()));
}

#[test]
fn hosts_hear_of_namespaces_that_come_grow_and_go() {
    let target = Target::new();
    let (mut admin, mut io) = target.queues(false);
    test_bdevs::world::disk(&target.world.bdevs, "M2", 64);
    let cid = ask_for_event(&mut admin);
    let spec = NamespaceSpec { bdev: "M2".to_owned(), nsid: Some(5), ..NamespaceSpec::default() };
    assert_eq!(target.nvmf.add_namespace(NQN, &spec).expect("a namespace"), 5);
    let told = admin.completion();
    assert_eq!((told.cid.get(), told.dw0.get()), (cid, 0x4_0002));
    assert_eq!(log(&mut admin, 4, 4096)[..8], [5, 0, 0, 0, 0, 0, 0, 0]);
    let on_five = |opcode, lba| Command { nsid: U32::new(5), ..on_blocks(opcode, lba, 8) };
    assert!(io.call(on_five(nvm::READ, 56), &[]).0.status().is_ok());
    ask_for_event(&mut admin);
    target.world.bdevs.get("M2").expect("a bdev").resize(32);
    assert_eq!(admin.completion().dw0.get(), 0x4_0002);
    assert_eq!(log(&mut admin, 4, 4096)[..4], [5, 0, 0, 0]);
    assert_eq!(io.call(on_five(nvm::READ, 56), &[]).0.status(), IoStatus::LBA_OUT_OF_RANGE);
    ask_for_event(&mut admin);
    target.world.bdevs.remove("M2").expect("the target lets it go");
    assert_eq!(admin.completion().dw0.get(), 0x4_0002);
    assert_eq!(io.call(on_five(nvm::READ, 0), &[]).0.status(), status::INVALID_NAMESPACE);
    assert!(io.call(on_blocks(nvm::READ, 0, 8), &[]).0.status().is_ok(), "the other one");
}

#[test]
fn a_path_that_is_inaccessible_is_told_and_refuses_commands() {
    let target = Target::new();
    let (mut admin, mut io) = target.queues(false);
    ask_for_event(&mut admin);
    let set = |state| target.nvmf.set_ana_state(NQN, target.address, None, state).expect("it listens");
    set(AnaState::Inaccessible);
    assert_eq!(admin.completion().dw0.get(), 0xc_0302);
    let page = log(&mut admin, 0x0c, 1024);
    assert_eq!((page[8], page[16], page[32]), (1, 1, 3));
    let (completion, _) = io.call(on_blocks(nvm::READ, 0, 8), &[]);
    assert_eq!((completion.status(), completion.do_not_retry()), (status::ANA_INACCESSIBLE, false));
    set(AnaState::NonOptimized);
    assert!(io.call(on_blocks(nvm::READ, 0, 8), &[]).0.status().is_ok());
}

#[test]
fn discovery_follows_what_is_made_and_deleted() {
    let target = Target::new();
    let mut discovery = Queue::open(target.address, true);
    discovery.connect(DISCOVERY_NQN, 0, 0xffff, 0).expect("any listener leads there");
    discovery.enable();
    let records = |queue: &mut Queue| log(queue, 0x70, 1024)[8];
    assert_eq!(records(&mut discovery), 1);
    ask_for_event(&mut discovery);
    let second = "nqn.2016-06.io.spdk:cnode2";
    target.nvmf.create_subsystem(SubsystemSpec::new(second), true).expect("a subsystem");
    assert_eq!(discovery.completion().dw0.get(), 0x70_f002);
    target.nvmf.add_listener(second, target.address, AnaState::Optimized).expect("a listener");
    assert_eq!(records(&mut discovery), 2);
    target.nvmf.delete_subsystem(second).expect("it can be deleted");
    assert_eq!(records(&mut discovery), 1);
    let mut io = Queue::open(target.address, false);
    let refused = io.connect(DISCOVERY_NQN, 1, discovery.cntlid, 0);
    assert_eq!(refused, Err((status::CONNECT_INVALID_PARAMETERS, 42)));
}

#[test]
fn event_requests_are_limited_and_can_be_aborted() {
    let target = Target::new();
    let (mut admin, _io) = target.queues(false);
    let first = ask_for_event(&mut admin);
    for _ in 0..3 {
        ask_for_event(&mut admin);
    }
    let fifth = ask_for_event(&mut admin);
    let refused = admin.completion();
    assert_eq!((refused.cid.get(), refused.status()), (fifth, status::EVENT_LIMIT_EXCEEDED));
    let mut abort = Command::new(admin::ABORT, 900, 0);
    abort.cdw10 = U32::new(u32::from(first) << 16);
    admin.submit(&abort, &[]);
    let (request, answer) = (admin.completion(), admin.completion());
    assert_eq!((request.cid.get(), request.status()), (first, IoStatus::ABORTED));
    assert_eq!((answer.cid.get(), answer.dw0.get()), (900, 0));
    abort.cdw10 = U32::new(77 << 16 | 1);
    assert_eq!(admin.call(abort, &[]).0.dw0.get(), 1, "nothing to abort");
}
