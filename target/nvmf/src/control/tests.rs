use super::connect::{self, Wish};
use super::*;
use crate::model::{AnaState, Identity, Listener, Namespace, Subsystem, SubsystemSpec};
use tgt_bdev::{Bdevs, Mode};
use tgt_nvme::fabrics::{CNTLID_ANY, DISCOVERY_NQN};
use tgt_nvme::feature::event;
use tgt_nvme::identify::{self, cns};
use tgt_nvme::log::{AnaGroup, AnaHead, Commands, DiscoveryEntry, DiscoveryHead, Smart, id};
use tgt_nvme::register::CC;
use tgt_nvme::zerocopy::FromBytes;
use tgt_nvme::zerocopy::little_endian::U32;
use tgt_nvme::{Sgl, text};
use uuid::Uuid;

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";
const HOST: &str = "nqn.2014-08.org.example:host";
const ENABLE: u64 = 0x0046_0001;

/// A subsystem with two namespaces, 1 and 3, and a controller of a host.
struct World {
    tables: Arc<Tables>,
    options: TransportOptions,
    controller: Arc<Controller>,
    admin: Admin,
    _bdevs: Arc<Bdevs>,
}

fn door() -> SocketAddr {
    ([127, 0, 0, 1], 4420).into()
}

impl World {
    fn new(ana_reporting: bool) -> World {
        let (tables, bdevs) = (Tables::new(1), Bdevs::new());
        let spec = SubsystemSpec { ana_reporting, serial: "S1".to_owned(), ..SubsystemSpec::new(NQN) };
        let subsystem = Subsystem::new(spec, true).expect("a subsystem");
        subsystem.state().listeners.push(Arc::new(Listener::new(door(), 32, AnaState::Optimized)));
        for nsid in [1, 3] {
            let name = format!("M{nsid}");
            let bdev = test_bdevs::world::disk(&bdevs, &name, 2048);
            let desc = bdevs.open(&name, "test", Mode::Write).expect("it opens");
            let (uuid, eui64) = (bdev.uuid(), [0; 8]);
            let identity = Identity { uuid, nguid: *uuid.as_bytes(), eui64 };
            subsystem.state().namespaces.insert(nsid, Namespace::new(nsid, identity, nsid, desc));
        }
        tables.add_subsystem(subsystem).expect("the first");
        World::connect(tables, bdevs, NQN)
    }

    fn connect(tables: Arc<Tables>, bdevs: Arc<Bdevs>, sub_nqn: &str) -> World {
        let options = TransportOptions::default();
        let wish = Wish {
            qid: 0,
            sq_size: 31,
            kato_ms: 15_000,
            no_flow_control: false,
            cntlid: CNTLID_ANY,
            sub_nqn: sub_nqn.to_owned(),
            host_nqn: HOST.to_owned(),
            host_id: [7; 16],
        };
        let controller = connect::admin(&tables, &options, &wish, door()).expect("a controller");
        let around = Around { controller: &controller, options: &options, tables: &tables, local: door() };
        let mut admin = Admin::new(around, options.kato(wish.kato_ms));
        admin.registers.set(CC, false, ENABLE).expect("it can be enabled");
        World { tables, options, controller, admin, _bdevs: bdevs }
    }

    fn command(&mut self, command: &Command, data: &[u8]) -> Answer {
        let World { tables, options, controller, admin, .. } = self;
        admin.on_command(Around { controller, options, tables, local: door() }, command, data)
    }

    fn identify(&mut self, what: u8, nsid: u32) -> Result<Vec<u8>, IoStatus> {
        let mut command = Command::new(admin::IDENTIFY, 1, nsid);
        command.cdw10 = U32::new(what.into());
        command.sgl = Sgl::new(Sgl::TRANSPORT, 4096);
        data_of(self.command(&command, &[]))
    }

    fn log(&mut self, page: u8, offset: u32, len: u32) -> Result<Vec<u8>, IoStatus> {
        let mut command = Command::new(admin::GET_LOG_PAGE, 1, 0);
        command.cdw10 = U32::new(u32::from(page) | (len / 4 - 1) << 16);
        command.cdw12 = U32::new(offset);
        command.sgl = Sgl::new(Sgl::TRANSPORT, len);
        data_of(self.command(&command, &[]))
    }

    fn feature(&mut self, opcode: u8, id: u8, value: u32) -> Answer {
        let mut command = Command::new(opcode, 1, 0);
        (command.cdw10, command.cdw11) = (U32::new(id.into()), U32::new(value));
        self.command(&command, &[])
    }
}

fn data_of(answer: Answer) -> Result<Vec<u8>, IoStatus> {
    match answer {
        Answer::Data(data) => Ok(data),
        Answer::Failed(status) => Err(status),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_controller_and_its_namespaces_identify_themselves() {
    let mut world = World::new(false);
    let page = world.identify(cns::CONTROLLER, 0).expect("a page");
    let page = identify::Controller::read_from_bytes(&page).expect("4096 bytes");
    assert_eq!((&page.sn, page.cntlid.get(), page.nn.get()), (b"S1                  ", 1, 32));
    assert_eq!((page.mdts, page.sqes, page.cqes, page.vwc), (5, 0x66, 0x44, 5));
    assert_eq!((page.ioccsz.get(), page.kas.get(), page.cmic), (260, 100, 3));
    assert_eq!((text(&page.subnqn), page.oncs.get()), (Some(NQN), 0b1000_1101));
    let list = world.identify(cns::NAMESPACES, 0).expect("a list");
    assert_eq!(list[..12], [1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(world.identify(cns::NAMESPACES, 1).expect("a list")[..8], [3, 0, 0, 0, 0, 0, 0, 0]);
    let page = world.identify(cns::NAMESPACE, 3).expect("a page");
    let page = identify::Namespace::read_from_bytes(&page).expect("4096 bytes");
    assert_eq!((page.nsze.get(), page.lbaf[0].get(), page.noiob.get()), (2048, 9 << 16, 8));
    assert_eq!(world.identify(cns::NAMESPACE, 2), Ok(vec![0; 4096]), "not active");
    for nsid in [0, 33, u32::MAX] {
        assert_eq!(world.identify(cns::NAMESPACE, nsid), Err(status::INVALID_NAMESPACE));
    }
    let ids = world.identify(cns::DESCRIPTORS, 3).expect("descriptors");
    let uuid = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"M3");
    assert_eq!((&ids[..4], &ids[4..20]), (&[2, 16, 0, 0][..], &uuid.as_bytes()[..]));
    assert_eq!((&ids[20..24], &ids[24..40]), (&[3, 16, 0, 0][..], &uuid.as_bytes()[..]));
    assert_eq!(world.identify(cns::DESCRIPTORS, 2), Err(status::INVALID_NAMESPACE));
    assert_eq!(world.identify(0x42, 1), Err(IoStatus::INVALID_FIELD));
}

#[test]
fn nothing_is_answered_before_the_controller_is_enabled() {
    let mut world = World::new(false);
    world.admin.registers.set(CC, false, 0).expect("it can be disabled");
    assert_eq!(world.identify(cns::CONTROLLER, 0), Err(status::COMMAND_SEQUENCE_ERROR));
}

#[test]
fn log_pages_can_be_read_in_parts_and_not_beyond_their_end() {
    let mut world = World::new(false);
    let whole = world.log(id::COMMANDS, 0, 4096).expect("a page");
    let rest = world.log(id::COMMANDS, 1024, 1024).expect("a part");
    assert_eq!(rest, whole[1024..2048]);
    let page = Commands::read_from_bytes(&whole).expect("4096 bytes");
    assert_eq!((page.io[1].get(), page.io[2].get(), page.io[3].get()), (3, 1, 0));
    assert_eq!(world.log(id::COMMANDS, 4100, 4), Err(IoStatus::INVALID_FIELD));
    assert_eq!(world.log(id::COMMANDS, 2, 4), Err(IoStatus::INVALID_FIELD));
    assert_eq!(world.log(id::ANA, 0, 16), Err(status::INVALID_LOG_PAGE));
    assert_eq!(world.log(id::DISCOVERY, 0, 1024), Err(status::INVALID_LOG_PAGE));
    let smart = world.log(id::SMART, 0, 512).expect("a page");
    assert_eq!(Smart::read_from_bytes(&smart).expect("512 bytes").spare, 100);
    let long = options_limit(&mut world);
    assert_eq!(long, Err(IoStatus::INVALID_FIELD));
}

/// A page longer than the longest transfer.
fn options_limit(world: &mut World) -> Result<Vec<u8>, IoStatus> {
    world.log(id::COMMANDS, 0, TransportOptions::default().max_io_size + 4)
}

#[test]
fn namespaces_that_changed_are_listed_once_and_the_event_is_told_again_after_that() {
    let mut world = World::new(false);
    world.admin.events.request(9).expect("room");
    world.admin.events.request(10).expect("room");
    for nsid in [3, 1] {
        world.controller.note(event::NAMESPACE, Some(nsid));
        let news = world.controller.take_news();
        world.admin.events.raise(news);
    }
    assert_eq!(world.admin.events.take_next(), Some((9, 0x4_0002)));
    assert_eq!(world.admin.events.take_next(), None);
    let list = world.log(id::CHANGED_NAMESPACES, 0, 4096).expect("a list");
    assert_eq!(list[..12], [1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(world.log(id::CHANGED_NAMESPACES, 0, 4096), Ok(vec![0; 4096]));
    world.controller.note(event::NAMESPACE, Some(1));
    let news = world.controller.take_news();
    world.admin.events.raise(news);
    assert_eq!(world.admin.events.take_next(), Some((10, 0x4_0002)));
}

#[test]
fn asymmetric_access_is_told_by_group() {
    let mut world = World::new(true);
    let listener = world.controller.listener.clone().expect("it came in by one");
    listener.set(Some(3), AnaState::Inaccessible);
    let page = world.log(id::ANA, 0, 4096).expect("a page");
    let (head, rest) = AnaHead::read_from_prefix(&page).expect("a head");
    assert_eq!(head.groups.get(), 2);
    let (first, rest) = AnaGroup::read_from_prefix(rest).expect("a group");
    assert_eq!((first.id.get(), first.namespaces.get(), first.state), (1, 1, 1));
    let (second, rest) = AnaGroup::read_from_prefix(&rest[4..]).expect("a group");
    assert_eq!((second.id.get(), second.state, &rest[..4]), (3, 3, &[3, 0, 0, 0][..]));
}

#[test]
fn features_are_granted_within_limits_and_refused_beyond() {
    let mut world = World::new(false);
    let (get, set) = (admin::GET_FEATURES, admin::SET_FEATURES);
    assert_eq!(world.feature(set, feature::NUMBER_OF_QUEUES, 7 << 16 | 9), Answer::Done(7 << 16 | 7));
    assert_eq!(world.feature(get, feature::NUMBER_OF_QUEUES, 0), Answer::Done(7 << 16 | 7));
    let most = world.feature(set, feature::NUMBER_OF_QUEUES, 0xfff0_fff0);
    assert_eq!(most, Answer::Done(126 << 16 | 126));
    let wrong = world.feature(set, feature::NUMBER_OF_QUEUES, 0xffff_0001);
    assert_eq!(wrong, Answer::Failed(IoStatus::INVALID_FIELD));
    assert_eq!(world.feature(set, feature::KEEP_ALIVE_TIMER, 1), Answer::Done(10_000));
    assert_eq!(
        (world.admin.kato_ms(), world.feature(get, feature::KEEP_ALIVE_TIMER, 0)),
        (10_000, Answer::Done(10_000))
    );
    assert_eq!(world.feature(get, feature::VOLATILE_WRITE_CACHE, 0), Answer::Done(1));
    let off = world.feature(set, feature::VOLATILE_WRITE_CACHE, 0);
    assert_eq!(off, Answer::Failed(status::FEATURE_NOT_CHANGEABLE));
    assert_eq!(world.feature(get, feature::HOST_IDENTIFIER, 1), Answer::Data(vec![7; 16]));
    assert_eq!(world.feature(get, 0x7f, 0), Answer::Failed(IoStatus::INVALID_FIELD));
    assert_eq!(world.feature(set, feature::TEMPERATURE_THRESHOLD, 333), Answer::Done(0));
    assert_eq!(world.feature(get, feature::TEMPERATURE_THRESHOLD, 0), Answer::Done(333));
}

#[test]
fn discovery_tells_hosts_of_what_they_may_use_and_no_more() {
    let World { tables, _bdevs: bdevs, .. } = World::new(false);
    let hidden = Subsystem::new(SubsystemSpec::new("nqn.2016-06.io.spdk:hidden"), false).expect("one");
    hidden.state().listeners.push(Arc::new(Listener::new(door(), 32, AnaState::Optimized)));
    tables.add_subsystem(hidden).expect("the second");
    let mut world = World::connect(tables, bdevs, DISCOVERY_NQN);
    let page = world.log(id::DISCOVERY, 0, 4096).expect("a page");
    let (head, rest) = DiscoveryHead::read_from_prefix(&page).expect("a head");
    assert_eq!(head.records.get(), 1);
    let (entry, _) = DiscoveryEntry::read_from_prefix(rest).expect("an entry");
    assert_eq!((text(&entry.sub_nqn), entry.transport, entry.family, entry.subtype), (Some(NQN), 3, 1, 2));
    assert!(entry.address.starts_with(b"127.0.0.1 ") && entry.service.starts_with(b"4420 "));
    let page = world.identify(cns::CONTROLLER, 0).expect("a page");
    assert_eq!(identify::Controller::read_from_bytes(&page).expect("4096 bytes").cntrltype, 2);
    assert_eq!(world.identify(cns::NAMESPACES, 0), Err(IoStatus::INVALID_FIELD));
    assert_eq!(world.log(id::SMART, 0, 512), Err(status::INVALID_LOG_PAGE));
    let config = world.feature(admin::GET_FEATURES, feature::ASYNC_EVENT_CONFIG, 0);
    assert_eq!(config, Answer::Done(event::DISCOVERY.into()));
}
