//! Bytes: the tables of the docs, round trips, golden files, mutilated bytes.

use proptest::prelude::*;
use std::fmt::Write;
use tgt_rtrs::codec::{self, Expect, HEAD, Opened, Side};
use tgt_rtrs::frame::*;
use tgt_rtrs::raw::*;
use tgt_rtrs::{Direction, Id, Incarnation, Life, SlotNo, SlotUse, UserId, crc32c};

const USER: &[u8] = b"header of a user";
const DATA: &[u8] = b"and its data, of any length";
const AT: SlotUse = SlotUse { slot: SlotNo(7), use_no: 0x0102_0304 };

fn hands() -> Vec<(&'static str, Hand)> {
    let limits = Limits { lease_ns: 3_000_000_000, data_max: 1 << 20, user_max: 512, depth: 256 };
    let hello = Hello {
        version_min: 1,
        version_max: 3,
        lane: 2,
        lanes: 4,
        connection: 9,
        digest: true,
        incarnation: Incarnation(5),
        session: Id([1; 16]),
        path: Id([2; 16]),
        host: Id([3; 16]),
        nonce: [4; 32],
        key: KeyName::new("rack-7").expect("a name"),
    };
    let challenge = Challenge { version: 1, digest: true, host: Id([5; 16]), nonce: [6; 32], stamp: 77 };
    vec![
        ("hello", Hand::Hello(hello)),
        ("challenge", Hand::Challenge(challenge)),
        ("proof_create", Hand::Proof(Proof { life: None, mac: [7; 32] })),
        ("proof_join", Hand::Proof(Proof { life: Some(Life(8)), mac: [7; 32] })),
        ("welcome", Hand::Welcome(Welcome { life: Life(8), stamp: 78, limits, mac: [9; 32] })),
        ("refuse", Hand::Refuse(Refuse { why: RefuseCause::Version { low: 1, high: 2 }, mac: [0; 32] })),
    ]
}

/// A frame after the hand-shake, its user header and its data.
type Sample = (&'static str, Frame, &'static [u8], &'static [u8]);

fn frames() -> Vec<Sample> {
    let write = Request {
        at: AT,
        sending: 2,
        user: UserId(3),
        direction: Direction::Write,
        bytes: DATA.len() as u32,
        user_len: USER.len() as u16,
        seen: 11,
    };
    let read = Request { direction: Direction::Read, bytes: 4096, ..write };
    let reply = Reply { at: AT, result: Ok(5), bytes: DATA.len() as u32, user_len: USER.len() as u16 };
    let bare = Reply { result: Err(Refused::TooLarge), bytes: 0, user_len: 0, ..reply };
    vec![
        ("request_write", Frame::Request(write), USER, DATA),
        ("request_read", Frame::Request(read), USER, b""),
        ("reply_read", Frame::Reply(reply), USER, DATA),
        ("reply_refused", Frame::Reply(bare), b"", b""),
        ("wait", Frame::Wait(AT), b"", b""),
        ("grant", Frame::Grant(AT), b"", b""),
        ("seen", Frame::Seen(AT), b"", b""),
        ("ping", Frame::Ping(Ping { seen: 1, stamp: 2, echo: 3 }), b"", b""),
        ("pong", Frame::Pong { stamp: 4, echo: 5 }, b"", b""),
        ("bye", Frame::Bye(Bye { life: true, why: ByeCause::Shutdown }), b"", b""),
    ]
}

fn sender(name: &str) -> Side {
    let client = ["hello", "proof", "request", "ping", "seen"].iter().any(|start| name.starts_with(start));
    if client { Side::Client } else { Side::Server }
}

/// Everything that can be sent: name, bytes, and what its receiver expects.
fn all() -> Vec<(String, Vec<u8>, Expect)> {
    let mut all = Vec::new();
    for (name, hand) in hands() {
        all.push((name.to_owned(), codec::encode_hand(&hand), Expect::hand(sender(name))));
    }
    for (name, frame, user, data) in frames() {
        for digest in [false, true] {
            let mut bytes = codec::head_of(&frame, user, digest.then(|| crc32c(data))).to_vec();
            bytes.extend_from_slice(user);
            bytes.extend_from_slice(data);
            let expect = Expect { from: sender(name), hand: false, digest, user_max: 512, data_max: 1 << 20 };
            all.push((format!("{name}{}", if digest { "_digest" } else { "" }), bytes, expect));
        }
    }
    all
}

fn said_again(bytes: &[u8], expect: &Expect) -> Option<Vec<u8>> {
    let Ok(Opened::Frame { frame, head, data, digest }) = codec::open(bytes, expect) else { return None };
    let data = bytes.get(head..head + data)?;
    if digest.is_some_and(|digest| crc32c(data) != digest) {
        return None;
    }
    Some(match &frame {
        Frame::Hand(hand) => codec::encode_hand(hand),
        frame => [&codec::head_of(frame, &bytes[HEAD..head], digest), &bytes[HEAD..head], data].concat(),
    })
}

#[test]
fn the_tables_of_the_docs_say_what_the_code_does() {
    let docs = include_str!("../../../docs/111-sessions.md");
    type Fields = &'static [(&'static str, usize, usize)];
    let structs: &[(&str, usize, Fields)] = &[
        ("RawHead", RawHead::SIZE, RawHead::FIELDS),
        ("RawHello", RawHello::SIZE, RawHello::FIELDS),
        ("RawChallenge", RawChallenge::SIZE, RawChallenge::FIELDS),
        ("RawProof", RawProof::SIZE, RawProof::FIELDS),
        ("RawWelcome", RawWelcome::SIZE, RawWelcome::FIELDS),
        ("RawRefuse", RawRefuse::SIZE, RawRefuse::FIELDS),
    ];
    for (name, size, fields) in structs {
        let mut table = String::from("| field | offset | bytes |\n|---|---|---|\n");
        for (field, offset, bytes) in *fields {
            writeln!(table, "| {field} | {offset} | {bytes} |").expect("strings grow");
        }
        let heading = format!("### {name}, {size} bytes\n");
        let section =
            docs.split(&heading).nth(1).unwrap_or_else(|| panic!("docs/111 has no section {heading}"));
        assert!(section.starts_with(&table), "table of {name} in docs/111 should be\n{table}");
    }
}

#[test]
fn frames_come_out_of_their_bytes_as_they_went_in() {
    for (name, bytes, expect) in all() {
        assert_eq!(said_again(&bytes, &expect), Some(bytes), "{name}");
    }
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    bytes.chunks(32).map(line).collect::<Vec<_>>().join("\n") + "\n"
}

/// Golden files are read for ever. `RTRS_GOLDEN=write` writes those that are missing.
#[test]
fn golden_files_still_decode() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    for (name, bytes, expect) in all() {
        let path = format!("{folder}/{name}.hex");
        if std::env::var("RTRS_GOLDEN").as_deref() == Ok("write") && !std::path::Path::new(&path).exists() {
            std::fs::write(&path, hex(&bytes)).expect("golden folder is writable");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(golden, hex(&bytes), "{name} is encoded differently than it was");
        let digits: Vec<u8> = golden.bytes().filter(u8::is_ascii_hexdigit).collect();
        let read: Vec<u8> = digits
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).expect("ascii"), 16).expect("hex"))
            .collect();
        assert_eq!(said_again(&read, &expect), Some(read.clone()), "{name}");
    }
}

#[test]
fn every_truncation_asks_for_more_and_every_flipped_bit_is_refused() {
    for (name, bytes, expect) in all() {
        for end in 0..bytes.len() {
            match codec::open(&bytes[..end], &expect) {
                Ok(Opened::Short(need)) => assert!(need > end && need <= bytes.len(), "{name} cut at {end}"),
                Ok(Opened::Frame { head, data, .. }) => {
                    assert!(head <= end && head + data > end, "{name} cut at {end}")
                }
                Err(error) => panic!("{name} cut at {end}: {error}"),
            }
        }
        let digest = expect.digest || expect.hand;
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let covered = digest || bit / 8 < HEAD + USER.len().min(bytes.len() - HEAD);
            assert!(!covered || said_again(&bad, &expect).is_none(), "{name} with bit {bit} flipped");
        }
    }
}

#[test]
fn frames_of_the_wrong_side_state_or_size_are_refused() {
    for (name, bytes, expect) in all() {
        let refused = |expect: Expect, what: &str| {
            assert!(codec::open(&bytes, &expect).is_err(), "{name} {what}");
        };
        let other = if expect.from == Side::Client { Side::Server } else { Side::Client };
        if !name.starts_with("bye") {
            refused(Expect { from: other, ..expect }, "from the other side");
        }
        refused(Expect { hand: !expect.hand, ..expect }, "in the other state");
        if name.contains("_write") || name.contains("reply_read") {
            refused(Expect { digest: !expect.digest, ..expect }, "with or without digest");
            refused(Expect { data_max: DATA.len() as u32 - 1, ..expect }, "larger than agreed");
            refused(Expect { user_max: USER.len() as u16 - 1, ..expect }, "with a longer header than agreed");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Valid checksums over nonsense: refused, or the same bytes again.
    #[test]
    fn nonsense_under_a_valid_checksum_is_refused_or_said_again(
        sample in 0usize..24, at in 4usize..256, value: u8, second in 4usize..64, another: u8,
    ) {
        let all = all();
        let (name, bytes, expect) = &all[sample % all.len()];
        let mut bad = bytes.clone();
        let place = at % bad.len();
        bad[place] = value;
        bad[second] = another;
        let user = usize::from(u16::from_le_bytes([bad[6], bad[7]])).min(bad.len() - HEAD);
        let crc = crc32c(&bad[HEAD..HEAD + user]);
        bad[16..20].copy_from_slice(&crc.to_le_bytes());
        bad[12..16].fill(0);
        let crc = crc32c(&bad[..HEAD]);
        bad[12..16].copy_from_slice(&crc.to_le_bytes());
        if let Some(again) = said_again(&bad, expect) {
            prop_assert_eq!(&again[..], &bad[..again.len()], "{}", name);
        }
    }

    #[test]
    fn any_request_comes_back(slot: u16, use_no: u32, sending: u32, user: u32, bytes in 0u32..=1 << 20, seen: u32, read: bool) {
        let direction = if read { Direction::Read } else { Direction::Write };
        let at = SlotUse { slot: SlotNo(slot), use_no };
        let request = Request { at, sending, user: UserId(user), direction, bytes, user_len: 16, seen };
        let frame = Frame::Request(request);
        let mut sent = codec::head_of(&frame, USER, None).to_vec();
        sent.extend_from_slice(USER);
        let expect = Expect { from: Side::Client, hand: false, digest: false, user_max: 16, data_max: 1 << 20 };
        let data = request.data_len() as usize;
        let opened = codec::open(&sent, &expect);
        prop_assert_eq!(opened, Ok(Opened::Frame { frame, head: HEAD + 16, data, digest: None }));
    }
}
