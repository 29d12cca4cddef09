//! Bytes: the tables of the docs, round trips, golden files, mutilated bytes.

use rmr_proto::disk::{self, Item, PageKind, Superblock};
use rmr_proto::raw::*;
use rmr_proto::{
    BlockRange, BufId, ChunkBits, ChunkNo, Continuity, Epoch, EpochRecord, FormatError, Geometry,
    Incarnation, IoOp, IoReply, IoRequest, IoStatus, MapSlice, MemberId, MemberSet, Msg, NoCopy, Origin,
    PoolId, Promise, Proposal, RegionMisses, RegionNo, Report, Seq, Stamp, SuspectRegion, Tag, wire,
};
use std::fmt::Write;

const POOL: PoolId = PoolId(*b"0123456789abcdef");

fn promise() -> Promise {
    Promise { generation: 7, nonce: 0x1122_3344_5566_7788 }
}

fn epoch() -> Epoch {
    Epoch { promise: promise(), version: 3 }
}

fn record() -> EpochRecord {
    let mut peers = [Stamp::default(); 8];
    peers[1] = Stamp { incarnation: Incarnation(99), counter: 12 };
    EpochRecord {
        promise: promise(),
        adopted: epoch(),
        base: Epoch { version: 2, ..epoch() },
        origin: Origin::Join { member: MemberId::at(2) },
        set: MemberSet(0b111),
        members: MemberSet(0b1111),
        blocks: 1 << 30,
        boot: 5,
        counter: 77,
        peers,
        resting: MemberSet(0b1000),
        wrote: Epoch { version: 1, ..epoch() },
        last_in: [Epoch { version: 2, ..epoch() }; 8],
        decided: Epoch { version: 3, ..epoch() },
        learning: true,
    }
}

fn misses(region: u64) -> RegionMisses {
    let mut misses = RegionMisses { region: RegionNo(region), ..RegionMisses::default() };
    misses.missed[2] = ChunkBits(u128::MAX);
    misses.suspect = ChunkBits(0x5);
    misses.lost = ChunkBits(0x4);
    misses
}

fn messages() -> Vec<Msg> {
    let io = IoRequest {
        epoch: epoch(),
        tag: Tag { slot: 4, sending: 9 },
        number: 10,
        op: IoOp::Zero { unmap: true },
        range: BlockRange { first: 1 << 40, count: 8 },
        seq: Seq(11),
        answered: Seq(9),
        flushed: Seq(8),
        proved: true,
    };
    let reply = IoReply {
        epoch: epoch(),
        tag: Tag { slot: 4, sending: 9 },
        status: IoStatus::NotClean,
        missed: 3,
        dirty_chunks: 4,
        pressure: true,
        counter: 5,
    };
    let report = Report {
        promise: promise(),
        record: record(),
        incarnation: Incarnation(6),
        zeroed: false,
        capacity: 0,
        dirty_chunks: 0,
        continuity: Continuity::SameBoot,
        suspects: vec![SuspectRegion { region: RegionNo(3), written: ChunkBits(7), proved: ChunkBits(1) }],
        next: None,
    };
    let proposal = Proposal {
        epoch: epoch(),
        origin: Origin::Create { reference: MemberId::at(1) },
        zeroed: false,
        set: MemberSet(3),
        members: MemberSet(7),
        blocks: 1 << 30,
        reference: None,
        base: Epoch { version: 1, ..epoch() },
        peers: record().peers,
        resting: MemberSet(4),
        last_in: record().last_in,
        keeper: Some(MemberId::at(1)),
        forced: true,
        verdicts: vec![misses(4), misses(5)],
        parts: 0,
    };
    let slice = MapSlice {
        epoch: epoch(),
        attempt: 2,
        at: 9,
        cursor: RegionNo(1),
        next: None,
        all_missed: true,
        regions: vec![misses(1)],
    };
    let (zeroed, all_zero) = (report.clone(), proposal.clone());
    let (epoch, stamp, suspects) = (epoch(), record().peers[1], report.suspects.clone());
    vec![
        Msg::Promise { promise: promise(), takeover: true },
        Msg::Promised(Box::new(report)),
        Msg::Refused { asked: promise(), stands: Promise { generation: 9, nonce: 1 }, lease_ns: 5 },
        Msg::Query { promise: promise(), regions: vec![RegionNo(1), RegionNo(u64::MAX)] },
        Msg::QueryReply { promise: promise(), misses: vec![misses(1)] },
        Msg::Adopt(Box::new(proposal)),
        Msg::Adopted { epoch, counter: 8 },
        Msg::AdoptRefused { epoch },
        Msg::Join { epoch, set: MemberSet(5), attempt: 3, last: true, anew: true, blocks: 1 << 30 },
        Msg::JoinReady { epoch, attempt: 3, last: false, stamp },
        Msg::Io(io, Some(BufId(1))),
        Msg::IoReply(reply, None),
        Msg::Beat { epoch, answered: Seq(1), flushed: Seq(2), counters: [1, 2, 3, 4, 5, 6, 7, 8] },
        Msg::BeatReply { epoch, serving: true, dirty_chunks: 1, pressure: false, stuck: true, counter: 2 },
        Msg::MapPull { epoch, attempt: 1, stamp, since: 2, cursor: RegionNo(3) },
        Msg::MapSlice(Box::new(slice)),
        Msg::CopyRead { epoch, copy: 1, chunk: ChunkNo(2) },
        Msg::CopyReply { epoch, copy: 1, last: Seq(0), why: NoCopy::NotNow, buf: Some(BufId(1)) },
        Msg::Cleared { epoch, region: RegionNo(1), chunks: ChunkBits(2) },
        Msg::ClearedAck { epoch, region: RegionNo(1), chunks: ChunkBits(2) },
        Msg::SuspectPull { promise: promise(), cursor: RegionNo(5) },
        Msg::Suspects { promise: promise(), cursor: RegionNo(5), next: Some(RegionNo(9)), suspects },
        Msg::Verdicts { epoch, part: 2, verdicts: vec![misses(4), misses(5)] },
        Msg::VerdictsAck { epoch, part: 2 },
        Msg::Promised(Box::new(Report {
            zeroed: true,
            capacity: 5,
            dirty_chunks: 6,
            next: Some(RegionNo(4)),
            ..zeroed
        })),
        Msg::Adopt(Box::new(Proposal { zeroed: true, reference: Some(MemberId::at(7)), ..all_zero })),
    ]
}

/// Messages of the scrub, each with the name of its golden file.
fn scrub_messages() -> [(&'static str, Msg); 4] {
    let (epoch, tag, chunk) = (epoch(), Tag { slot: 4, sending: 9 }, ChunkNo(77));
    [
        ("msg_check", Msg::Check { epoch, tag, chunk }),
        ("msg_checked", Msg::Checked { epoch, tag, status: IoStatus::Done, crc: 0x1234_5678 }),
        ("msg_repair", Msg::Repair { epoch, tag, number: 5, answered: Seq(6), chunk }),
        ("msg_repaired", Msg::Repaired { epoch, tag, status: IoStatus::NotClean }),
    ]
}

fn all_messages() -> impl Iterator<Item = Msg> {
    messages().into_iter().chain(scrub_messages().map(|(_, msg)| msg))
}

fn superblock() -> Superblock {
    let geometry = Geometry::for_pool(10 << 40, 4096, 128 << 10).expect("a product geometry");
    Superblock {
        pool: POOL,
        member: MemberId::at(3),
        incarnation: Incarnation(0xabcd),
        geometry,
        zeroed: false,
        capacity: 11 << 28,
    }
}

#[test]
fn the_tables_of_the_docs_say_what_the_code_does() {
    let docs = concat!(
        include_str!("../../../docs/101-replication-protocol.md"),
        "\n",
        include_str!("../../../docs/120-replication-over-sessions.md")
    );
    type Fields = &'static [(&'static str, usize, usize)];
    let structs: &[(&str, usize, Fields)] = &[
        ("RawHeader", RawHeader::SIZE, RawHeader::FIELDS),
        ("RawPromise", RawPromise::SIZE, RawPromise::FIELDS),
        ("RawEpoch", RawEpoch::SIZE, RawEpoch::FIELDS),
        ("RawStamp", RawStamp::SIZE, RawStamp::FIELDS),
        ("RawEpochRecord", RawEpochRecord::SIZE, RawEpochRecord::FIELDS),
        ("RawRegionMisses", RawRegionMisses::SIZE, RawRegionMisses::FIELDS),
        ("RawRegionChunks", RawRegionChunks::SIZE, RawRegionChunks::FIELDS),
        ("RawSuspect", RawSuspect::SIZE, RawSuspect::FIELDS),
        ("RawEnvelope", RawEnvelope::SIZE, RawEnvelope::FIELDS),
        ("RawIo", RawIo::SIZE, RawIo::FIELDS),
        ("RawIoReply", RawIoReply::SIZE, RawIoReply::FIELDS),
        ("RawControl", RawControl::SIZE, RawControl::FIELDS),
        ("RawSuperblock", RawSuperblock::SIZE, RawSuperblock::FIELDS),
        ("RawPage", RawPage::SIZE, RawPage::FIELDS),
        ("RawItem", RawItem::SIZE, RawItem::FIELDS),
    ];
    for (name, size, fields) in structs {
        let mut table = String::from("| field | offset | bytes |\n|---|---|---|\n");
        for (field, offset, bytes) in *fields {
            writeln!(table, "| {field} | {offset} | {bytes} |").expect("strings grow");
        }
        let heading = format!("### {name}, {size} bytes\n");
        let section = docs
            .split(&heading)
            .nth(1)
            .unwrap_or_else(|| panic!("docs/101 and 120 have no section {heading}"));
        let section = section.split("\n### ").next().expect("split gives one");
        let written = section.find("| field").map_or("", |at| &section[at..]);
        let rows: Vec<&str> = written.lines().take_while(|line| line.starts_with('|')).collect();
        let written = rows.join("\n");
        assert_eq!(written.trim_end(), table.trim_end(), "table of {name} in docs/101 or 120");
    }
}

#[test]
fn messages_come_out_of_their_bytes_as_they_went_in() {
    for msg in all_messages() {
        let payload =
            matches!(msg, Msg::Io(_, Some(_)) | Msg::CopyReply { buf: Some(_), .. }).then_some(BufId(1));
        assert_eq!(wire::decode(&wire::encode(POOL, &msg), payload), Ok((POOL, msg)));
    }
}

fn hex(bytes: &[u8]) -> String {
    let lines = bytes
        .chunks(32)
        .map(|line| line.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// Golden files are read for ever. `RMR_GOLDEN=write` writes those that are missing.
#[test]
fn golden_files_still_decode() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut all: Vec<(String, Vec<u8>)> = vec![
        ("superblock".into(), superblock().encode().to_vec()),
        ("epoch_page".into(), disk::encode_epoch_page(9, &record())),
        ("intent_page".into(), disk::encode_intent_page(9, 0, [RegionNo(0), RegionNo(77)].into_iter())),
        ("map_page".into(), disk::encode_map_page(9, 1, [misses(27)].into_iter())),
        ("journal".into(), disk::encode_journal(9, &items())),
    ];
    let named = messages()
        .into_iter()
        .enumerate()
        .map(|(n, msg)| (format!("msg_{:02}", n + 1), wire::encode(POOL, &msg)));
    all.extend(named);
    all.extend(scrub_messages().map(|(name, msg)| (name.into(), wire::encode(POOL, &msg))));
    for (name, bytes) in all {
        let path = format!("{folder}/{name}.hex");
        if std::env::var("RMR_GOLDEN").as_deref() == Ok("write") && !std::path::Path::new(&path).exists() {
            std::fs::write(&path, hex(&bytes)).expect("golden folder is writable");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(golden, hex(&bytes), "{name} is encoded differently than it was");
    }
}

fn items() -> Vec<Item> {
    vec![
        Item::Misses(misses(27)),
        Item::Intent { region: RegionNo(5), live: true },
        Item::Intent { region: RegionNo(6), live: false },
        Item::Epoch(record()),
    ]
}

#[test]
fn metadata_comes_out_of_its_bytes_as_it_went_in() {
    for zeroed in [false, true] {
        let superblock = Superblock { zeroed, ..superblock() };
        assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
    }
    let page = disk::encode_epoch_page(9, &record());
    let open = disk::open_page(&page, PageKind::Epoch, 0).expect("sealed");
    assert_eq!((open.commit, disk::decode_epoch(open.body)), (9, Ok(record())));
    let page = disk::encode_intent_page(2, 1, [RegionNo(disk::INTENTS_PER_PAGE + 3)].into_iter());
    let open = disk::open_page(&page, PageKind::Intent, 1).expect("sealed");
    assert_eq!(
        disk::decode_intents(1, open.body).collect::<Vec<_>>(),
        [RegionNo(disk::INTENTS_PER_PAGE + 3)]
    );
    let page = disk::encode_map_page(2, 1, [misses(27)].into_iter());
    let open = disk::open_page(&page, PageKind::Map, 1).expect("sealed");
    assert_eq!(disk::decode_misses(1, open.body), Ok(vec![misses(27)]));
    let journal = disk::encode_journal(3, &items());
    let open = disk::open_page(&journal, PageKind::Journal, 0).expect("sealed");
    assert_eq!(disk::decode_journal(open.body), Ok(items()));
}

#[test]
fn a_store_has_room_for_its_device_and_its_metadata_stay_in_their_places() {
    let small = Superblock { capacity: superblock().geometry.blocks() - 1, ..superblock() };
    let error = Superblock::decode(&small.encode()).expect_err("less room than blocks");
    assert!(error.to_string().contains("capacity"), "{error}");
    let grown = Superblock { geometry: superblock().room(), ..superblock() };
    assert_eq!(disk::Layout::new(&grown.room(), 1 << 20), disk::Layout::new(&superblock().room(), 1 << 20));
}

#[test]
fn a_page_in_the_wrong_place_is_refused() {
    let page = disk::encode_intent_page(2, 1, std::iter::empty());
    let error = disk::open_page(&page, PageKind::Intent, 0).expect_err("another page's place");
    assert!(matches!(error, FormatError::Field { field: "number", value: 1, .. }), "{error}");
    assert!(disk::open_page(&page, PageKind::Map, 1).is_err());
}

#[test]
fn of_two_copies_the_newer_readable_one_counts() {
    let (old, new) = (disk::encode_epoch_page(4, &record()), disk::encode_epoch_page(5, &record()));
    let mut torn = new.clone();
    torn[100] ^= 1;
    let commit = |a: &[u8], b: &[u8]| disk::open_either([a, b], PageKind::Epoch, 0).map(|page| page.commit);
    assert_eq!(commit(&old, &new), Ok(5));
    assert_eq!(commit(&new, &old), Ok(5));
    assert_eq!(commit(&torn, &old), Ok(4));
    assert!(commit(&torn, &torn).is_err());
}

/// Any bytes: no panic, and a flipped bit never passes for the original.
#[test]
fn mutilated_bytes_are_refused_and_never_panic() {
    let mut rng = fastrand::Rng::with_seed(7);
    for msg in all_messages() {
        let bytes = wire::encode(POOL, &msg);
        for _ in 0..300 {
            let mut bad = bytes.clone();
            let at = rng.usize(0..bad.len());
            bad[at] ^= 1 << rng.u8(0..8);
            bad.truncate(if rng.bool() { bad.len() } else { rng.usize(0..=bad.len()) });
            assert!(wire::decode(&bad, None).is_err(), "{msg:?} with byte {at} changed");
        }
    }
    for _ in 0..20_000 {
        let noise: Vec<u8> = (0..rng.usize(0..400)).map(|_| rng.u8(..)).collect();
        let _ = (wire::decode(&noise, None), Superblock::decode(&noise), disk::decode_journal(&noise));
        let _ = (
            disk::open_page(&noise, PageKind::Map, 0),
            disk::decode_misses(0, &noise),
            disk::decode_epoch(&noise),
        );
    }
}

/// Valid checksums over nonsense: only the meaning is wrong.
#[test]
fn nonsense_under_a_valid_checksum_is_refused_or_harmless() {
    let mut rng = fastrand::Rng::with_seed(8);
    for msg in all_messages() {
        let bytes = wire::encode(POOL, &msg);
        for _ in 0..500 {
            let mut bad = bytes.clone();
            let at = rng.usize(4..bad.len());
            bad[at] = rng.u8(..);
            bad[12..16].fill(0);
            let crc = rmr_proto::crc32c(&bad);
            bad[12..16].copy_from_slice(&crc.to_le_bytes());
            if let Ok((pool, read)) = wire::decode(&bad, None) {
                let again = wire::encode(pool, &read);
                assert_eq!(wire::decode(&again, None), Ok((pool, read)), "what was read can be said again");
            }
        }
    }
}

#[test]
fn product_sizes_are_checked_and_named() {
    let error = Geometry::for_pool(1 << 30, 4096, 8 << 20).expect_err("chunk too large");
    assert_eq!(
        error.to_string(),
        "geometry: chunk_bytes is 8388608, accepted is a power of two, 64 KiB to 4 MiB"
    );
    assert!(Geometry::for_pool(2 << 50, 4096, 1 << 20).is_err(), "over 1 PiB");
    for chunk in [64 << 10, 128 << 10, 1 << 20, 4 << 20] {
        let geometry = Geometry::for_pool((1 << 40) + 4096, 4096, chunk).expect("fine");
        let last = ChunkNo(geometry.chunks() - 1);
        assert_eq!(geometry.chunk_range(last).count, 1, "the last chunk is clamped");
        assert_eq!(geometry.all_of(geometry.region_of(last)).len(), 1);
    }
}

#[test]
fn chunks_and_regions_that_need_large_maps_are_refused() {
    let of =
        |chunk_shift, region_shift| Geometry::new(1 << 28, 12, chunk_shift, region_shift).expect("allowed");
    // 64 KiB chunks: 128 to a region of 8 MiB.
    for (chunk, mib) in [(64 << 10, 42), (128 << 10, 21), (4 << 20, 21)] {
        let geometry = Geometry::for_pool(1 << 40, 4096, chunk).expect("fine");
        assert_eq!(geometry.map_bytes_per_tib() >> 20, mib, "{chunk} bytes a chunk");
        let pages = disk::Layout::new(&geometry, 1 << 20).pages(PageKind::Map);
        assert_eq!(geometry.map_bytes_per_tib(), 2 * pages * disk::PAGE as u64, "as the layout has it");
    }
    let error = of(4, 6).check_product().expect_err("64 chunks of 64 KiB a region: 79 MiB");
    assert!(error.to_string().contains("map bytes per TiB"), "{error}");
    of(4, 7).check_product().expect("128 of them");
}

#[test]
fn envelopes_come_back_as_they_went_and_nothing_else_is_one() {
    use rmr_proto::envelope::{Envelope, Kind, Status};
    for (kind, from) in [(Kind::Io, None), (Kind::Letter, MemberId::new(7)), (Kind::Hail, MemberId::new(0))] {
        let envelope = Envelope {
            kind,
            from,
            to: MemberId::new(5),
            status: Status::Larger,
            length: 77,
            sender: u64::MAX,
        };
        let mut bytes = Vec::new();
        envelope.encode_to(&mut bytes);
        bytes.extend_from_slice(&POOL.0);
        let (back, rest) = Envelope::decode(&bytes).expect("what was written");
        assert_eq!((back, Envelope::pool_of(rest)), (envelope, Ok(POOL)));
        for cut in 0..Envelope::SIZE {
            assert!(Envelope::decode(&bytes[..cut]).is_err());
        }
        for (at, bad) in [(0, 0), (4, 0), (4, 5), (5, 8), (6, 6), (7, 1), (12, 8), (13, 1), (31, 1)] {
            let mut bytes = bytes.clone();
            bytes[at] = bad;
            assert!(Envelope::decode(&bytes).is_err(), "byte {at} = {bad}");
        }
    }
}

#[test]
fn messages_are_appended_to_what_is_there() {
    for msg in messages() {
        let mut bytes = vec![7; 32];
        wire::encode_to(POOL, &msg, &mut bytes);
        assert_eq!((&bytes[..32], &bytes[32..]), (&[7; 32][..], &wire::encode(POOL, &msg)[..]));
    }
}
