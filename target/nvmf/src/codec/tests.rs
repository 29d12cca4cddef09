use super::encode::{self, Agreed};
use super::*;
use tgt_nvme::Completion;
use tgt_nvme::command::nvm;
use tgt_nvme::pdu::{CapsuleResp, R2t};
use tgt_nvme::zerocopy::little_endian::{U16, U32};
use tgt_nvme::zerocopy::{FromZeros, IntoBytes};

const PLAIN: Expect =
    Expect { fresh: false, header_digest: false, data_digest: false, capsule_max: 4096, data_max: 8192 };
const DIGESTS: Expect = Expect { header_digest: true, data_digest: true, ..PLAIN };

fn ic_req() -> IcReq {
    let mut request = IcReq::new_zeroed();
    request.common.header_len = 128;
    request.common.len = U32::new(128);
    request
}

/// A unit with its digests, as a host makes it.
fn unit(kind: u8, expect: &Expect, header: &[u8], data: &[u8]) -> Vec<u8> {
    let bare = 8 + header.len() + digest(expect.header_digest);
    let digested = expect.data_digest && !data.is_empty();
    let total = bare + data.len() + digest(digested);
    let mut flags = if expect.header_digest { flag::HEADER_DIGEST } else { 0 };
    flags |= if digested { flag::DATA_DIGEST } else { 0 };
    let mut bytes = vec![kind, flags, 8 + header.len() as u8, if data.is_empty() { 0 } else { bare as u8 }];
    bytes.extend((total as u32).to_le_bytes());
    bytes.extend(header);
    if expect.header_digest {
        bytes.extend(crc32c(&bytes).to_le_bytes());
    }
    bytes.extend(data);
    if digested {
        bytes.extend(crc32c(data).to_le_bytes());
    }
    bytes
}

fn capsule(expect: &Expect, data: &[u8]) -> Vec<u8> {
    unit(kind::CAPSULE_CMD, expect, Command::new(nvm::WRITE, 5, 1).as_bytes(), data)
}

fn h2c_data(expect: &Expect, length: u32, data: &[u8]) -> Vec<u8> {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&[5, 0, 3, 0]);
    header[8..12].copy_from_slice(&length.to_le_bytes());
    unit(kind::H2C_DATA, expect, &header, data)
}

#[track_caller]
fn fault(bytes: &[u8], expect: &Expect, error: FatalError, info: u32) {
    match open(bytes, expect) {
        Err(fault) => assert_eq!((fault.error, fault.info), (error, info), "{}", fault.why),
        Ok(opened) => panic!("taken as {opened:?}"),
    }
}

fn changed(mut bytes: Vec<u8>, at: usize, to: u8) -> Vec<u8> {
    bytes[at] = to;
    bytes
}

#[test]
fn units_are_taken_apart_with_and_without_digests() {
    for expect in [PLAIN, DIGESTS] {
        let bare = 72 + digest(expect.header_digest);
        let Ok(Opened::Capsule { command, head, data }) = open(&capsule(&expect, &[]), &expect) else {
            panic!("a capsule without data")
        };
        assert_eq!((command.cid.get(), head, data), (5, bare, 0));
        let Ok(Opened::Capsule { head, data, .. }) = open(&capsule(&expect, &[1; 512]), &expect) else {
            panic!("a capsule with data")
        };
        assert_eq!((head, data), (bare, 512));
        let Ok(Opened::Data { data, head }) = open(&h2c_data(&expect, 100, &[1; 100]), &expect) else {
            panic!("data")
        };
        assert_eq!((data.cid.get(), data.tag.get(), data.length.get()), (5, 3, 100));
        assert_eq!(head, 24 + digest(expect.header_digest));
    }
    assert!(matches!(open(ic_req().as_bytes(), &Expect::fresh(4096)), Ok(Opened::IcReq(_))));
}

#[test]
fn every_front_of_a_unit_asks_for_more_until_its_header_is_there() {
    for expect in [PLAIN, DIGESTS] {
        for bytes in [capsule(&expect, &[7; 64]), h2c_data(&expect, 64, &[7; 64])] {
            let head = usize::from(bytes[3]);
            for len in 0..bytes.len() {
                let opened = open(&bytes[..len], &expect).expect("no fault");
                assert_eq!(matches!(opened, Opened::More), len < head, "{len} bytes");
            }
        }
    }
    let request = ic_req();
    for len in 0..128 {
        assert!(matches!(open(&request.as_bytes()[..len], &Expect::fresh(4096)), Ok(Opened::More)));
    }
}

#[test]
fn what_comes_at_the_wrong_point_is_a_sequence_error() {
    use FatalError::SequenceError;
    fault(ic_req().as_bytes(), &PLAIN, SequenceError, 0);
    fault(&capsule(&PLAIN, &[]), &Expect::fresh(4096), SequenceError, 0);
    fault(&h2c_data(&PLAIN, 4, &[0; 4]), &Expect::fresh(4096), SequenceError, 0);
}

#[test]
fn types_that_no_host_sends_are_refused() {
    let known = [kind::IC_REQ, kind::H2C_TERM_REQ, kind::CAPSULE_CMD, kind::H2C_DATA];
    for expect in [PLAIN, Expect::fresh(4096)] {
        for kind in (0..=255).filter(|kind| !known.contains(kind)) {
            fault(&changed(capsule(&PLAIN, &[]), 0, kind), &expect, FatalError::InvalidHeaderField, at::KIND);
        }
    }
}

#[test]
fn fields_of_the_common_header_must_fit_the_type() {
    use FatalError::InvalidHeaderField as Invalid;
    for expect in [PLAIN, DIGESTS] {
        for good in [capsule(&expect, &[1; 16]), h2c_data(&expect, 16, &[1; 16])] {
            for header_len in (0..=255).filter(|len| *len != good[2]) {
                fault(&changed(good.clone(), 2, header_len), &expect, Invalid, at::HEADER_LEN);
            }
            for flags in [flag::HEADER_DIGEST, flag::DATA_DIGEST] {
                fault(&changed(good.clone(), 1, good[1] ^ flags), &expect, Invalid, at::FLAGS);
            }
            for offset in [0, 8, good[3] - 4, good[3] + 1, good[3] + 2] {
                fault(&changed(good.clone(), 3, offset), &expect, Invalid, at::DATA_OFFSET);
            }
            // Behind the end of the unit.
            fault(&changed(good.clone(), 3, 252), &expect, Invalid, at::LEN);
        }
        for len in [0, 7, 71] {
            let bytes = changed(capsule(&expect, &[]), 4, len);
            fault(&bytes, &expect, Invalid, at::LEN);
        }
        fault(&changed(h2c_data(&expect, 16, &[1; 16]), 4, 20), &expect, Invalid, at::LEN);
    }
}

#[test]
fn a_header_that_was_damaged_is_told_from_one_that_is_wrong() {
    for good in [capsule(&DIGESTS, &[1; 16]), h2c_data(&DIGESTS, 16, &[1; 16])] {
        let digest_at = usize::from(good[2]);
        for at in 8..digest_at + DIGEST {
            let bytes = changed(good.clone(), at, good[at] ^ 0x10);
            fault(&bytes, &DIGESTS, FatalError::HeaderDigest, 0);
        }
    }
}

#[test]
fn data_beyond_what_was_agreed_is_refused() {
    let most = vec![1; 4096];
    assert!(open(&capsule(&PLAIN, &most), &PLAIN).is_ok());
    fault(&capsule(&PLAIN, &[1; 4100]), &PLAIN, FatalError::InvalidHeaderField, at::LEN);
    assert!(open(&h2c_data(&PLAIN, 8192, &[1; 8192]), &PLAIN).is_ok());
    fault(&h2c_data(&PLAIN, 8196, &[1; 8196]), &PLAIN, FatalError::DataLimitExceeded, at::LENGTH);
    for length in [0, 15, 17, u32::MAX] {
        fault(&h2c_data(&PLAIN, length, &[1; 16]), &PLAIN, FatalError::InvalidHeaderField, at::LENGTH);
    }
}

#[test]
fn a_beginning_that_asks_for_what_is_not_there_is_refused() {
    let fresh = Expect::fresh(4096);
    let good = ic_req().as_bytes().to_vec();
    fault(&changed(good.clone(), 8, 1), &fresh, FatalError::UnsupportedParameter, 8);
    fault(&changed(good.clone(), 10, 32), &fresh, FatalError::UnsupportedParameter, 10);
    fault(&changed(good.clone(), 2, 72), &fresh, FatalError::InvalidHeaderField, at::HEADER_LEN);
    fault(&changed(good.clone(), 4, 129), &fresh, FatalError::InvalidHeaderField, at::LEN);
    fault(&changed(good.clone(), 1, flag::DATA_DIGEST), &fresh, FatalError::InvalidHeaderField, at::FLAGS);
    assert!(open(&changed(good, 10, 31), &fresh).is_ok());
}

#[test]
fn a_host_that_gives_up_is_heard_at_any_point() {
    let mut request = TermReq::new_zeroed();
    request.common.kind = kind::H2C_TERM_REQ;
    (request.common.header_len, request.common.len) = (24, U32::new(24 + 128));
    request.error = U16::new(4);
    for expect in [PLAIN, DIGESTS, Expect::fresh(4096)] {
        let Ok(Opened::Terminated(heard)) = open(request.as_bytes(), &expect) else { panic!("not heard") };
        assert_eq!(heard.error.get(), 4);
        for len in [0u32, 23, 153, u32::MAX] {
            let mut wrong = request;
            wrong.common.len = U32::new(len);
            fault(wrong.as_bytes(), &expect, FatalError::InvalidHeaderField, at::LEN);
        }
    }
}

#[test]
fn what_is_sent_has_its_digests_and_its_alignment() {
    let completion = Completion::new(9, tgt_status::IoStatus::SUCCESS, false);
    for header_digest in [false, true] {
        for align in [0, 4, 64, 128] {
            let agreed = Agreed { header_digest, data_digest: true, align };
            let head = encode::data(&agreed, 9, 512, true);
            let (sent, _) = Data::read_from_prefix(head.bytes()).expect("a header");
            let start = head.bytes().len();
            assert_eq!(usize::from(sent.common.data_offset), start);
            assert!(start.is_multiple_of(usize::from(align.max(4))));
            assert_eq!(sent.common.len.get() as usize, start + 512 + DIGEST);
            assert_eq!(sent.common.flags & (flag::LAST | flag::SUCCESS), flag::LAST | flag::SUCCESS);
            assert_eq!(sent.common.flags & flag::HEADER_DIGEST != 0, header_digest);
            let response = encode::response(&agreed, completion);
            assert_eq!(response.bytes().len(), size_of::<CapsuleResp>() + digest(header_digest));
            let request = encode::ready_to_transfer(&agreed, 9, 2, 0, 4096);
            assert_eq!(request.bytes().len(), size_of::<R2t>() + digest(header_digest));
            if header_digest {
                for head in [&head, &response, &request] {
                    let (header, rest) = head.bytes().split_at(24);
                    assert_eq!(rest[..DIGEST], crc32c(header).to_le_bytes());
                }
            }
        }
    }
}

#[test]
fn a_termination_carries_the_header_that_was_wrong_and_no_more() {
    let (bytes, len) = encode::terminate(Fault::field(at::DATA_OFFSET, ""), &[3; 300]);
    assert_eq!((len, bytes[0], bytes[4]), (152, kind::C2H_TERM_REQ, 152));
    assert_eq!((bytes[8], bytes[10], bytes[24], bytes[151]), (1, 3, 3, 3));
    assert_eq!(encode::terminate(Fault::sequence(""), &[]).1, 24);
}
