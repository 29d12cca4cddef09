//! Every wrong answer ends the connection, and every right one does what it says.

use super::*;
use tgt_nvme::pdu::{CapsuleResp, CommonHeader, Data, R2t, flag, kind};
use tgt_nvme::zerocopy::IntoBytes;
use tgt_nvme::zerocopy::little_endian::{U16, U32};

const DIGESTS: Agreed = Agreed { header_digest: true, data_digest: true, align: 4, data_max: 65536 };

fn common(kind: u8, flags: u8, header: usize, offset: usize, len: usize) -> CommonHeader {
    CommonHeader {
        kind,
        flags,
        header_len: header as u8,
        data_offset: offset as u8,
        len: U32::new(len as u32),
    }
}

fn response(cid: u16, status: IoStatus) -> Vec<u8> {
    let completion = Completion::new(cid, status, false);
    CapsuleResp { common: common(kind::CAPSULE_RESP, 0, 24, 0, 24), completion }.as_bytes().to_vec()
}

fn data(cid: u16, offset: u32, length: u32, flags: u8) -> Vec<u8> {
    let common = common(kind::C2H_DATA, flags, 24, 24, 24 + length as usize);
    let (cid, offset, length) = (U16::new(cid), U32::new(offset), U32::new(length));
    Data { common, cid, tag: U16::ZERO, offset, length, reserved: [0; 4] }.as_bytes().to_vec()
}

fn ready(cid: u16, tag: u16, offset: u32, length: u32) -> Vec<u8> {
    let (offset, length) = (U32::new(offset), U32::new(length));
    let (cid, tag) = (U16::new(cid), U16::new(tag));
    R2t { common: common(kind::R2T, 0, 24, 0, 24), cid, tag, offset, length, reserved: [0; 4] }
        .as_bytes()
        .to_vec()
}

fn queue() -> Queue {
    let mut queue = Queue::new(4);
    queue.begin(Agreed::NOTHING);
    queue
}

fn with(want: Want) -> (Queue, u16, u16) {
    let mut queue = queue();
    let slot = queue.start(want).expect("room");
    let cid = queue.cid(slot);
    (queue, slot, cid)
}

fn act(queue: &mut Queue, bytes: &[u8]) -> Act {
    let (act, head) = queue.judge(bytes).expect("it may come").expect("it is whole");
    assert_eq!(head, bytes.len());
    act
}

fn wrong(queue: &mut Queue, bytes: &[u8]) -> &'static str {
    queue.judge(bytes).expect_err("it may not come").why
}

#[test]
fn a_read_ends_by_completion_and_by_success_flag() {
    let (mut queue, slot, cid) = with(Want::Read(1024));
    let take = |offset, success| Act::Take { slot, offset, length: 512, success };
    assert_eq!(act(&mut queue, &data(cid, 0, 512, 0)), take(0, false));
    assert_eq!(queue.filled(slot, true), None);
    assert_eq!(act(&mut queue, &data(cid, 512, 512, flag::LAST)), take(512, false));
    assert_eq!(queue.filled(slot, true), None);
    let end = act(&mut queue, &response(cid, IoStatus::SUCCESS));
    assert!(matches!(end, Act::End { slot: at, status: IoStatus::SUCCESS, .. } if at == slot));
    queue.release(slot);
    let slot = queue.start(Want::Read(512)).expect("room");
    let cid = queue.cid(slot);
    let take = Act::Take { slot, offset: 0, length: 512, success: true };
    assert_eq!(act(&mut queue, &data(cid, 0, 512, flag::LAST | flag::SUCCESS)), take);
    assert_eq!(queue.filled(slot, true), Some(IoStatus::SUCCESS));
    queue.release(slot);
    assert_eq!(queue.in_use(), 0);
}

#[test]
fn a_write_succeeds_only_when_its_data_was_asked_for_and_has_left() {
    let (mut queue, slot, cid) = with(Want::Write(4096));
    assert!(wrong(&mut queue, &response(cid, IoStatus::SUCCESS)).contains("before its data has left"));
    let give = Act::Give { slot, tag: 7, offset: 0, length: 1024 };
    assert_eq!(act(&mut queue, &ready(cid, 7, 0, 1024)), give);
    queue.gave(slot, 1024);
    assert!(wrong(&mut queue, &response(cid, IoStatus::SUCCESS)).contains("before its data has left"));
    let give = Act::Give { slot, tag: 8, offset: 1024, length: 3072 };
    assert_eq!(act(&mut queue, &ready(cid, 8, 1024, 3072)), give);
    assert!(wrong(&mut queue, &response(cid, IoStatus::SUCCESS)).contains("before its data has left"));
    queue.gave(slot, 3072);
    assert!(matches!(
        act(&mut queue, &response(cid, IoStatus::SUCCESS)),
        Act::End { status: IoStatus::SUCCESS, .. }
    ));
    let (mut queue, _, cid) = with(Want::Write(4096));
    let refused = act(&mut queue, &response(cid, IoStatus::WRITE_PROTECTED));
    assert!(
        matches!(refused, Act::End { status: IoStatus::WRITE_PROTECTED, .. }),
        "before it asked for data"
    );
}

#[test]
fn data_that_is_short_late_doubled_or_anothers_ends_the_connection() {
    let (mut queue, slot, cid) = with(Want::Read(1024));
    assert!(wrong(&mut queue, &response(cid, IoStatus::SUCCESS)).contains("data missing"));
    assert!(wrong(&mut queue, &data(cid, 512, 512, 0)).contains("not the next"));
    assert!(wrong(&mut queue, &data(cid, 0, 1536, 0)).contains("more data"));
    let early = data(cid, 0, 512, flag::LAST | flag::SUCCESS);
    assert!(wrong(&mut queue, &early).contains("data missing"));
    assert!(wrong(&mut queue, &data(cid + 1, 0, 512, 0)).contains("not out"));
    assert!(wrong(&mut queue, &data(cid, 0, 512, flag::SUCCESS)).contains("before the last"));
    let _ = act(&mut queue, &data(cid, 0, 512, flag::LAST));
    assert!(wrong(&mut queue, &data(cid, 512, 512, 0)).contains("not out"), "while it is being filled");
    queue.filled(slot, true);
    assert!(wrong(&mut queue, &data(cid, 0, 512, 0)).contains("behind the last"));
    assert!(wrong(&mut queue, &response(cid, IoStatus::SUCCESS)).contains("data missing"));
    // An error needs no data.
    let failed = act(&mut queue, &response(cid, IoStatus::UNRECOVERED_READ_ERROR));
    assert!(matches!(failed, Act::End { status: IoStatus::UNRECOVERED_READ_ERROR, .. }));
    assert!(wrong(&mut queue, &response(cid, IoStatus::SUCCESS)).contains("not out"), "a second answer");
    queue.release(slot);
    let slot = queue.start(Want::Read(1024)).expect("room");
    assert_ne!(queue.cid(slot), cid, "another use of the slot has another number");
    assert!(wrong(&mut queue, &response(cid, IoStatus::SUCCESS)).contains("not out"), "of an old use");
    assert!(wrong(&mut queue, &data(cid, 0, 1024, 0)).contains("not out"));
}

#[test]
fn data_is_only_asked_for_of_who_has_it_and_once() {
    for want in [Want::Nothing, Want::Read(4096)] {
        let (mut queue, _, cid) = with(want);
        assert!(wrong(&mut queue, &ready(cid, 0, 0, 512)).contains("no command has"));
    }
    for want in [Want::Nothing, Want::Write(4096)] {
        let (mut queue, _, cid) = with(want);
        assert!(wrong(&mut queue, &data(cid, 0, 512, 0)).contains("reads nothing"));
    }
    let (mut queue, _, cid) = with(Want::Write(4096));
    for (offset, length) in [(0, 0), (0, 4097), (0, u32::MAX), (512, 512), (u32::MAX, 512)] {
        assert!(queue.judge(&ready(cid, 0, offset, length)).is_err(), "{length} at {offset}");
    }
    let _ = act(&mut queue, &ready(cid, 0, 0, 4096));
    assert!(queue.judge(&ready(cid, 0, 0, 4096)).is_err(), "the same again");
    assert!(queue.judge(&ready(cid, 0, 4096, 1)).is_err(), "behind the end");
}

#[test]
fn damaged_data_fails_its_command_alone() {
    for flags in [0, flag::SUCCESS] {
        let (mut queue, slot, cid) = with(Want::Read(512));
        let _ = act(&mut queue, &data(cid, 0, 512, flag::LAST | flags));
        let ended = queue.filled(slot, false);
        if flags == 0 {
            assert_eq!(ended, None);
            let Act::End { status, .. } = act(&mut queue, &response(cid, IoStatus::SUCCESS)) else {
                panic!("it has ended")
            };
            assert_eq!(status, tgt_nvme::status::TRANSIENT_TRANSPORT_ERROR);
        } else {
            assert_eq!(ended, Some(tgt_nvme::status::TRANSIENT_TRANSPORT_ERROR));
        }
    }
}

#[test]
fn headers_that_cannot_be_end_the_connection() {
    let (mut queue, _, cid) = with(Want::Read(512));
    let good = response(cid, IoStatus::SUCCESS);
    for (at, value) in
        [(0, 0), (0, 1), (0, 4), (0, 6), (0, 8), (0, 0xff), (1, 1), (1, 4), (2, 23), (4, 25), (5, 1)]
    {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert!(queue.judge(&bytes).is_err(), "byte {at} is {value}");
    }
    let good = data(cid, 0, 512, 0);
    for (at, value) in [(1, 2), (1, 0x10), (2, 16), (3, 20), (3, 26), (4, 0), (5, 0), (17, 0), (17, 3)] {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert!(queue.judge(&bytes).is_err(), "byte {at} is {value}");
    }
    for cut in 0..24 {
        assert!(queue.judge(&good[..cut]).expect("so far it may come").is_none(), "{cut} bytes");
    }
    assert!(queue.judge(&good).expect("untouched by all that").is_some());
}

#[test]
fn a_header_with_a_wrong_digest_is_not_believed() {
    let mut queue = Queue::new(4);
    queue.begin(DIGESTS);
    let slot = queue.start(Want::Nothing).expect("room");
    let cid = queue.cid(slot);
    let mut bytes = response(cid, IoStatus::SUCCESS);
    assert!(queue.judge(&bytes).is_err(), "without a digest");
    (bytes[1], bytes[4]) = (flag::HEADER_DIGEST, 28);
    bytes.extend(codec::crc32c(&bytes).to_le_bytes());
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let judged = queue.judge(&damaged);
        // A length that is damaged upwards waits for more at most.
        assert!(!matches!(judged, Ok(Some(_))), "bit {bit}");
    }
    assert!(matches!(act(&mut queue, &bytes), Act::End { status: IoStatus::SUCCESS, .. }));
}

#[test]
fn an_ic_resp_that_is_not_what_was_asked_for_is_refused() {
    let good = {
        let mut bytes = vec![0; 128];
        (bytes[0], bytes[2], bytes[4], bytes[11]) = (kind::IC_RESP, 128, 128, 3);
        bytes[12..16].copy_from_slice(&131_072_u32.to_le_bytes());
        bytes
    };
    let agreed = codec::ic_resp(&good, true, true).expect("right").expect("whole");
    assert_eq!((agreed.data_max, agreed.align), (131_072, 4));
    assert!(codec::ic_resp(&good[..127], true, true).expect("so far").is_none());
    assert!(codec::ic_resp(&good, false, true).is_err());
    for (at, value) in [
        (0, kind::CAPSULE_RESP),
        (1, 1),
        (2, 127),
        (4, 129),
        (8, 1),
        (10, 32),
        (11, 0),
        (11, 7),
        (12, 1),
        (14, 0),
    ] {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert!(codec::ic_resp(&bytes, true, true).is_err(), "byte {at} is {value}");
    }
}

#[test]
fn a_queue_takes_as_many_as_it_has_room_for() {
    let mut queue = queue();
    let slots: Vec<_> = std::iter::from_fn(|| queue.start(Want::Nothing)).collect();
    assert_eq!((slots.len(), queue.has_room(), queue.in_use()), (4, false, 4));
    let cids: Vec<_> = slots.iter().map(|slot| queue.cid(*slot)).collect();
    queue.begin(Agreed::NOTHING);
    assert!(queue.has_room() && queue.in_use() == 0);
    for cid in cids {
        assert!(queue.judge(&response(cid, IoStatus::SUCCESS)).is_err(), "of the last connection");
    }
}
