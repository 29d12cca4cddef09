//! What the fuzz target of this crate runs: any bytes as a controller's answers to commands that are out.

use crate::codec::{self, Agreed};
use crate::engine::{Act, Queue, Want};
use tgt_nvme::pdu::{CommonHeader, DIGEST};
use tgt_nvme::zerocopy::FromBytes;

/// Takes the bytes as a stream of units, with and without digests, of a queue with commands of every kind. Each
/// stream also with the numbers of commands and the digests put right, so that what lies behind those checks is reached.
///
/// # Panics
/// If data is taken beyond a command's end, a command succeeds without its data, or a slot is lost.
pub fn answers(data: &[u8]) {
    for digests in [false, true] {
        let _ = codec::ic_resp(data, digests, digests);
        for right in [false, true] {
            stream(data, digests, right);
        }
    }
}

const WANTS: [Want; 6] = [
    Want::Nothing,
    Want::Read(512),
    Want::Read(70_000),
    Want::Write(512),
    Want::Write(70_000),
    Want::Read(8192),
];

fn stream(data: &[u8], digests: bool, right: bool) {
    let mut queue = Queue::new(8);
    queue.begin(Agreed { header_digest: digests, data_digest: digests, align: 4, data_max: 4096 });
    // What each slot got and gave, as the fuzzer counts it.
    let mut moved = [0_u64; 8];
    let slots: Vec<u16> = WANTS.iter().filter_map(|want| queue.start(*want)).collect();
    assert_eq!(slots.len(), WANTS.len());
    let mut bytes = data.to_vec();
    let mut at = 0;
    loop {
        if right {
            put_right(&mut bytes[at..], &queue, digests);
        }
        let Ok(Some((act, head))) = queue.judge(&bytes[at..]) else { return };
        assert!(head <= bytes.len() - at, "a header that is not here");
        at += head;
        let want = |slot: u16| WANTS[usize::from(slot)];
        match act {
            Act::Take { slot, offset, length, success } => {
                let Want::Read(all) = want(slot) else { panic!("data for {:?}", want(slot)) };
                assert_eq!(u64::from(offset), moved[usize::from(slot)]);
                moved[usize::from(slot)] += u64::from(length);
                assert!(moved[usize::from(slot)] <= u64::from(all));
                let behind = length as usize + codec::digest(digests);
                if bytes.len() - at < behind {
                    return;
                }
                at += behind;
                let intact = length % 2 == 0;
                if let Some(status) = queue.filled(slot, intact) {
                    assert!(success && moved[usize::from(slot)] == u64::from(all));
                    assert!(intact || !status.is_ok());
                    queue.release(slot);
                }
            }
            Act::Give { slot, offset, length, .. } => {
                let Want::Write(all) = want(slot) else { panic!("data of {:?}", want(slot)) };
                assert_eq!(u64::from(offset), moved[usize::from(slot)]);
                moved[usize::from(slot)] += u64::from(length);
                assert!(length > 0 && moved[usize::from(slot)] <= u64::from(all));
                queue.gave(slot, length);
            }
            Act::End { slot, status, .. } => {
                let all = match want(slot) {
                    Want::Nothing => 0,
                    Want::Read(all) | Want::Write(all) => u64::from(all),
                };
                assert!(!status.is_ok() || moved[usize::from(slot)] == all);
                queue.release(slot);
            }
            Act::Terminated { .. } => return,
        }
    }
}

/// Gives the unit in front the number of a command that may be out, and its digest.
fn put_right(bytes: &mut [u8], queue: &Queue, digests: bool) {
    let Ok((common, _)) = CommonHeader::read_from_prefix(bytes) else { return };
    let place = match common.kind {
        5 => 20,
        7 | 9 => 8,
        _ => return,
    };
    let end = usize::from(common.header_len);
    if end < 24 || bytes.len() < end + DIGEST {
        return;
    }
    let slot = u16::from(bytes[place]) % WANTS.len() as u16;
    bytes[place..place + 2].copy_from_slice(&queue.cid(slot).to_le_bytes());
    if digests {
        let crc = codec::crc32c(&bytes[..end]);
        bytes[end..end + DIGEST].copy_from_slice(&crc.to_le_bytes());
    }
}
