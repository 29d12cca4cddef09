//! Who comes in: a connect, judged (base 6.3).

use crate::model::{Controller, Listener, Subsystem, Tables, nqn};
use crate::options::TransportOptions;
use std::net::SocketAddr;
use std::sync::Arc;
use tgt_nvme::fabrics::{CNTLID_ANY, Connect, ConnectData};
use tgt_nvme::zerocopy::{FromBytes, IntoBytes};
use tgt_nvme::{Command, status, text};
use tgt_status::IoStatus;

/// What a host asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Queue.
    pub qid: u16,
    /// Entries of the submission queue less one.
    pub sq_size: u16,
    /// Keep-alive timeout, ms.
    pub kato_ms: u32,
    /// No flow control of the submission queue.
    pub no_flow_control: bool,
    /// Controller.
    pub cntlid: u16,
    /// Subsystem.
    pub sub_nqn: String,
    /// Host.
    pub host_nqn: String,
    /// Host.
    pub host_id: [u8; 16],
}

/// Why it does not get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status.
    pub status: IoStatus,
    /// For wrong parameters: offset, and in bit 16 whether it is one in the data.
    pub value: u64,
    /// In words, for the log.
    pub why: &'static str,
}

/// Offsets of parameters.
mod at {
    pub(super) const QID: u64 = 42;
    pub(super) const SQ_SIZE: u64 = 44;
    const DATA: u64 = 1 << 16;
    pub(super) const CNTLID: u64 = DATA | 16;
    pub(super) const SUB_NQN: u64 = DATA | 256;
    pub(super) const HOST_NQN: u64 = DATA | 512;
}

const fn parameter(value: u64, why: &'static str) -> Refusal {
    Refusal { status: status::CONNECT_INVALID_PARAMETERS, value, why }
}

impl Refusal {
    const fn new(status: IoStatus, why: &'static str) -> Refusal {
        Refusal { status, value: 0, why }
    }
}

/// Reads a connect and its data.
///
/// # Errors
/// What is wrong with it by itself.
pub fn read(command: &Command, data: &[u8]) -> Result<Wish, Refusal> {
    let connect = Connect::read_from_bytes(command.as_bytes()).expect("64 bytes are 64 bytes");
    if connect.record_format.get() != 0 {
        return Err(Refusal::new(status::CONNECT_INCOMPATIBLE_FORMAT, "a record format other than 0"));
    }
    let Ok(told) = ConnectData::read_from_bytes(data) else {
        return Err(Refusal::new(status::DATA_SGL_LENGTH_INVALID, "data that is not 1024 bytes long"));
    };
    let sub_nqn = text(&told.sub_nqn).ok_or(parameter(at::SUB_NQN, "a subsystem's name without an end"))?;
    let host_nqn = text(&told.host_nqn).filter(|name| nqn::is_valid(name));
    let host_nqn = host_nqn.ok_or(parameter(at::HOST_NQN, "a host's name that is none"))?;
    if connect.sq_size.get() == 0 {
        return Err(parameter(at::SQ_SIZE, "a queue of one entry"));
    }
    Ok(Wish {
        qid: connect.qid.get(),
        sq_size: connect.sq_size.get(),
        kato_ms: connect.kato.get(),
        no_flow_control: connect.attributes & Connect::DISABLE_SQ_FLOW != 0,
        cntlid: told.cntlid.get(),
        sub_nqn: sub_nqn.to_owned(),
        host_nqn: host_nqn.to_owned(),
        host_id: told.host_id,
    })
}

/// The subsystem that is wished for, and its listener where the host came in.
fn subsystem(
    tables: &Tables,
    wish: &Wish,
    door: SocketAddr,
) -> Result<(Arc<Subsystem>, Option<Arc<Listener>>), Refusal> {
    let unknown = parameter(at::SUB_NQN, "there is no such subsystem");
    let subsystem = tables.subsystem(&wish.sub_nqn).ok_or(unknown)?;
    if !subsystem.admits(&wish.host_nqn) {
        return Err(Refusal::new(status::CONNECT_INVALID_HOST, "the subsystem does not let this host in"));
    }
    if subsystem.is_discovery() {
        return Ok((subsystem, None));
    }
    let elsewhere = Refusal::new(status::CONNECT_INVALID_HOST, "the subsystem does not listen there");
    let listener = subsystem.listener_at(door).ok_or(elsewhere)?;
    Ok((subsystem, Some(listener)))
}

/// A controller for an admin queue that came in by `door`.
///
/// # Errors
/// Why not.
pub fn admin(
    tables: &Tables,
    options: &TransportOptions,
    wish: &Wish,
    door: SocketAddr,
) -> Result<Arc<Controller>, Refusal> {
    let (subsystem, listener) = subsystem(tables, wish, door)?;
    if wish.sq_size >= options.max_aq_depth {
        return Err(parameter(at::SQ_SIZE, "an admin queue longer than max_aq_depth"));
    }
    if wish.cntlid != CNTLID_ANY {
        return Err(parameter(at::CNTLID, "a controller of the host's choice"));
    }
    let host = (wish.host_nqn.clone(), wish.host_id);
    let busy = Refusal::new(status::CONNECT_CONTROLLER_BUSY, "no controller is left");
    subsystem.add_controller(host, listener).ok_or(busy)
}

/// The controller of an IO queue that came in by `door`.
///
/// # Errors
/// Why not.
pub fn io(
    tables: &Tables,
    options: &TransportOptions,
    wish: &Wish,
    door: SocketAddr,
) -> Result<Arc<Controller>, Refusal> {
    let (subsystem, _) = subsystem(tables, wish, door)?;
    if wish.sq_size >= options.max_queue_depth {
        return Err(parameter(at::SQ_SIZE, "an IO queue longer than max_queue_depth"));
    }
    let gone = parameter(at::CNTLID, "there is no such controller");
    let controller = subsystem.controller(wish.cntlid).filter(|it| !it.is_dead()).ok_or(gone)?;
    if controller.host_nqn != wish.host_nqn || controller.host_id != wish.host_id {
        return Err(parameter(at::HOST_NQN, "a controller of another host"));
    }
    if subsystem.is_discovery() {
        return Err(parameter(at::QID, "a discovery controller has no IO queues"));
    }
    if !controller.is_enabled() {
        return Err(parameter(at::QID, "the controller is not enabled"));
    }
    if wish.qid > options.max_io_qpairs_per_ctrlr {
        return Err(parameter(at::QID, "a number beyond max_io_qpairs_per_ctrlr"));
    }
    Ok(controller)
}

/// The controller has a queue of this number, or has ended.
pub const QUEUE_IN_USE: Refusal = parameter(at::QID, "the controller has a queue of this number, or ends");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AnaState, SubsystemSpec};
    use tgt_nvme::put_text;
    use tgt_nvme::zerocopy::FromZeros;
    use tgt_nvme::zerocopy::little_endian::U16;

    const NQN: &str = "nqn.2016-06.io.spdk:cnode1";
    const HOST: &str = "nqn.2014-08.org.example:host";

    fn door() -> SocketAddr {
        ([127, 0, 0, 1], 4420).into()
    }

    fn tables() -> Arc<Tables> {
        let tables = Tables::new(1);
        let subsystem = Subsystem::new(SubsystemSpec::new(NQN), false).expect("a subsystem");
        let listener = Arc::new(Listener::new(door(), 32, AnaState::Optimized));
        subsystem.state().listeners.push(listener);
        subsystem.state().hosts.push(HOST.to_owned());
        tables.add_subsystem(subsystem).expect("the first");
        tables
    }

    fn wish() -> Wish {
        Wish {
            qid: 0,
            sq_size: 31,
            kato_ms: 0,
            no_flow_control: false,
            cntlid: CNTLID_ANY,
            sub_nqn: NQN.to_owned(),
            host_nqn: HOST.to_owned(),
            host_id: [3; 16],
        }
    }

    fn data() -> ConnectData {
        let mut data = ConnectData::new_zeroed();
        data.cntlid = U16::new(CNTLID_ANY);
        put_text(&mut data.sub_nqn, NQN, 0);
        put_text(&mut data.host_nqn, HOST, 0);
        data
    }

    fn connect(change: impl FnOnce(&mut Connect)) -> Command {
        let mut connect = Connect::new_zeroed();
        connect.sq_size = U16::new(31);
        change(&mut connect);
        Command::read_from_bytes(connect.as_bytes()).expect("64 bytes")
    }

    #[test]
    fn a_connect_is_read_and_what_is_wrong_is_named_by_its_offset() {
        let good = read(&connect(|_| ()), data().as_bytes()).expect("a good one");
        assert_eq!((good.sub_nqn.as_str(), good.host_nqn.as_str(), good.cntlid), (NQN, HOST, CNTLID_ANY));
        let refused = |command: &Command, data: &ConnectData| {
            let refusal = read(command, data.as_bytes()).expect_err("refused");
            (refusal.status, refusal.value)
        };
        let format = connect(|connect| connect.record_format = U16::new(1));
        assert_eq!(refused(&format, &data()), (status::CONNECT_INCOMPATIBLE_FORMAT, 0));
        let size = connect(|connect| connect.sq_size = U16::ZERO);
        assert_eq!(refused(&size, &data()), (status::CONNECT_INVALID_PARAMETERS, 44));
        let mut endless = data();
        endless.sub_nqn.fill(b'x');
        assert_eq!(refused(&connect(|_| ()), &endless).1, 1 << 16 | 256);
        let mut nameless = data();
        nameless.host_nqn.fill(0);
        assert_eq!(refused(&connect(|_| ()), &nameless).1, 1 << 16 | 512);
        let short = read(&connect(|_| ()), &data().as_bytes()[..1023]).expect_err("refused");
        assert_eq!(short.status, status::DATA_SGL_LENGTH_INVALID);
    }

    #[test]
    fn hosts_come_in_only_where_and_as_whom_they_may() {
        let (tables, options) = (tables(), TransportOptions::default());
        let refused = |wish: Wish, door| {
            let refusal = admin(&tables, &options, &wish, door).expect_err("refused");
            (refusal.status, refusal.value)
        };
        let stranger = Wish { host_nqn: "nqn.2014-08.org.example:other".to_owned(), ..wish() };
        assert_eq!(refused(stranger, door()), (status::CONNECT_INVALID_HOST, 0));
        let elsewhere = ([127, 0, 0, 1], 4421).into();
        assert_eq!(refused(wish(), elsewhere), (status::CONNECT_INVALID_HOST, 0));
        let nowhere = Wish { sub_nqn: "nqn.2016-06.io.spdk:cnode2".to_owned(), ..wish() };
        assert_eq!(refused(nowhere, door()), (status::CONNECT_INVALID_PARAMETERS, 1 << 16 | 256));
        assert_eq!(refused(Wish { sq_size: 128, ..wish() }, door()).1, 44);
        assert_eq!(refused(Wish { cntlid: 5, ..wish() }, door()).1, 1 << 16 | 16);
        assert!(admin(&tables, &options, &wish(), door()).is_ok());
    }

    #[test]
    fn an_io_queue_joins_an_enabled_controller_of_its_own_host() {
        let (tables, options) = (tables(), TransportOptions::default());
        let controller = admin(&tables, &options, &wish(), door()).expect("a controller");
        let queue = Wish { qid: 1, cntlid: controller.cntlid, ..wish() };
        let refused = |wish: Wish| io(&tables, &options, &wish, door()).expect_err("refused").value;
        assert_eq!(refused(queue.clone()), 42, "not enabled");
        controller.set_enabled(true);
        assert!(Arc::ptr_eq(&io(&tables, &options, &queue, door()).expect("its controller"), &controller));
        assert_eq!(refused(Wish { qid: 128, ..queue.clone() }), 42);
        assert_eq!(refused(Wish { sq_size: 128, ..queue.clone() }), 44);
        assert_eq!(refused(Wish { cntlid: 77, ..queue.clone() }), 1 << 16 | 16);
        assert_eq!(refused(Wish { host_id: [4; 16], ..queue.clone() }), 1 << 16 | 512);
        assert!(controller.end().is_empty());
        assert_eq!(refused(queue), 1 << 16 | 16, "it has ended");
    }
}
