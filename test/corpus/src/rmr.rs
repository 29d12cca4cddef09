//! The decoders of `rmr-proto` under fuzz: messages, superblock, home pages, journal records.
//!
//! Checksums would turn nearly every input away at the door. So each target takes its bytes twice: as they are, and
//! with magic, version, length and checksum put right, which is what a peer or a disk that means harm would send.

use std::mem::offset_of;

use rmr_proto::disk::{self, Page, PageKind, Superblock};
use rmr_proto::raw::{RawHeader, RawPage, RawSuperblock};
use rmr_proto::{BufId, FormatError, Geometry, RegionNo, crc32c, wire};

/// A message with any bytes: what is accepted reads back the same from its own encoding.
pub(crate) fn message(data: &[u8]) {
    let _ = take_message(data);
    if data.len() < RawHeader::SIZE {
        return;
    }
    let mut bytes = data.to_vec();
    put(&mut bytes, offset_of!(RawHeader, magic), b"RMR1");
    put(&mut bytes, offset_of!(RawHeader, version), &wire::VERSION.to_le_bytes());
    let length = (data.len() - RawHeader::SIZE) as u32;
    put(&mut bytes, offset_of!(RawHeader, length), &length.to_le_bytes());
    seal(&mut bytes, offset_of!(RawHeader, crc));
    assert!(!matches!(take_message(&bytes), Err(FormatError::Checksum { .. })), "the checksum was put right");
}

fn take_message(bytes: &[u8]) -> Result<(), FormatError> {
    let (pool, msg) = explained(wire::decode(bytes, Some(BufId(7))))?;
    let again = wire::encode(pool, &msg);
    assert!(again.len() <= bytes.len(), "{msg:?} takes more bytes than it was read from");
    assert_eq!(wire::decode(&again, Some(BufId(7))), Ok((pool, msg)), "read from its own encoding");
    Ok(())
}

/// A superblock with any bytes: what is accepted reads back the same, and its geometry can be reckoned with.
pub(crate) fn superblock(data: &[u8]) {
    let _ = take_superblock(data);
    if data.len() < RawSuperblock::SIZE {
        return;
    }
    let mut bytes = data[..RawSuperblock::SIZE].to_vec();
    put(&mut bytes, 0, b"RMRSTORE");
    put(&mut bytes, offset_of!(RawSuperblock, version), &1u32.to_le_bytes());
    seal(&mut bytes, offset_of!(RawSuperblock, crc));
    assert!(
        !matches!(take_superblock(&bytes), Err(FormatError::Checksum { .. })),
        "the checksum was put right"
    );
}

fn take_superblock(bytes: &[u8]) -> Result<(), FormatError> {
    let superblock = explained(Superblock::decode(bytes))?;
    assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock), "read from its own encoding");
    reckon(&superblock.geometry);
    reckon(&superblock.room());
    Ok(())
}

/// The ends of a device lie where they must, and no number of the layout overflows.
fn reckon(geometry: &Geometry) {
    let last = geometry.chunk_of(geometry.blocks() - 1);
    assert_eq!(last.0 + 1, geometry.chunks());
    assert_eq!(geometry.chunk_range(last).end(), geometry.blocks());
    assert!(geometry.holds(geometry.chunk_range(last)));
    let region = geometry.region_of(last);
    assert_eq!(region.0 + 1, geometry.regions());
    assert!(geometry.all_of(region).has(geometry.index_in_region(last)), "{geometry:?}");
    assert!(geometry.all_of(RegionNo(region.0 + 1)).is_empty(), "{geometry:?}");
    let layout = disk::Layout::new(geometry, 1 << 20);
    let end = layout.page(PageKind::Map, layout.pages(PageKind::Map) - 1, 1) + disk::PAGE as u64;
    assert_eq!(end, layout.bytes(), "{geometry:?}");
}

/// A home page with any bytes: its kind and number are taken from its header, so that they fit.
pub(crate) fn page(data: &[u8]) {
    if data.len() < RawPage::SIZE {
        for kind in [PageKind::Epoch, PageKind::Intent, PageKind::Map, PageKind::Journal] {
            assert!(disk::open_page(data, kind, 0).is_err(), "a page shorter than its header");
        }
        return;
    }
    let (kind, number) = place_of(data);
    if let Ok(opened) = explained(disk::open_page(data, kind, number)) {
        take_page(kind, number, opened);
    }
    let bytes = sealed_page(data, kind);
    let opened = disk::open_page(&bytes, kind, number).expect("its header was put right");
    assert_eq!(opened.body.len(), data.len().min(disk::PAGE) - RawPage::SIZE);
    take_page(kind, number, opened);
}

fn place_of(data: &[u8]) -> (PageKind, u64) {
    let kind = match data[offset_of!(RawPage, kind)] % 3 {
        0 => PageKind::Map,
        1 => PageKind::Epoch,
        _ => PageKind::Intent,
    };
    let mut number = [0; 8];
    number.copy_from_slice(&data[offset_of!(RawPage, number)..][..8]);
    // No page lies further back than those of the largest device.
    (kind, u64::from_le_bytes(number) % (1 << 38))
}

fn sealed_page(data: &[u8], kind: PageKind) -> Vec<u8> {
    let mut bytes = data[..data.len().min(disk::PAGE)].to_vec();
    let (_, number) = place_of(data);
    let length = (bytes.len() - RawPage::SIZE) as u32;
    put(&mut bytes, 0, b"RMRP");
    put(&mut bytes, offset_of!(RawPage, kind), &(kind as u16).to_le_bytes());
    put(&mut bytes, offset_of!(RawPage, version), &1u16.to_le_bytes());
    put(&mut bytes, offset_of!(RawPage, length), &length.to_le_bytes());
    put(&mut bytes, offset_of!(RawPage, number), &number.to_le_bytes());
    seal(&mut bytes, offset_of!(RawPage, crc));
    bytes
}

fn take_page(kind: PageKind, number: u64, page: Page<'_>) {
    match kind {
        PageKind::Epoch => {
            let Ok(record) = explained(disk::decode_epoch(page.body)) else { return };
            let again = disk::encode_epoch_page(page.commit, &record);
            let opened = disk::open_page(&again, kind, 0).expect("its own encoding");
            assert_eq!((opened.commit, disk::decode_epoch(opened.body)), (page.commit, Ok(record)));
        }
        PageKind::Intent => {
            let live: Vec<RegionNo> = disk::decode_intents(number, page.body).collect();
            let again = disk::encode_intent_page(page.commit, number, live.iter().copied());
            let opened = disk::open_page(&again, kind, number).expect("its own encoding");
            assert!(disk::decode_intents(number, opened.body).eq(live));
        }
        PageKind::Map => {
            let Ok(misses) = explained(disk::decode_misses(number, page.body)) else { return };
            let again = disk::encode_map_page(page.commit, number, misses.iter().copied());
            let opened = disk::open_page(&again, kind, number).expect("its own encoding");
            assert_eq!(disk::decode_misses(number, opened.body), Ok(misses));
        }
        PageKind::Journal => unreachable!("place_of names home pages only"),
    }
}

/// The items of a journal record with any bytes: what is accepted reads back the same.
pub(crate) fn journal(data: &[u8]) {
    if let Ok(page) = explained(disk::open_page(data, PageKind::Journal, 0)) {
        take_journal(page.commit, page.body);
    }
    take_journal(1, data);
}

fn take_journal(commit: u64, body: &[u8]) {
    let Ok(items) = explained(disk::decode_journal(body)) else { return };
    assert_eq!(items.iter().map(disk::Item::size).sum::<usize>(), body.len(), "items and bytes");
    let again = disk::encode_journal(commit, &items);
    assert_eq!(again.len() % 512, 0, "whole sectors");
    let page = disk::open_page(&again, PageKind::Journal, 0).expect("its own encoding");
    assert_eq!((page.commit, disk::decode_journal(page.body)), (commit, Ok(items)));
}

/// An error has words to say.
fn explained<T>(result: Result<T, FormatError>) -> Result<T, FormatError> {
    result.inspect_err(|error| assert!(error.to_string().contains(": "), "{error:?} explains nothing"))
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

/// Writes the checksum of `bytes`, taken with the field itself zero, at `at`.
fn seal(bytes: &mut [u8], at: usize) {
    put(bytes, at, &[0; 4]);
    let sum = crc32c(bytes);
    put(bytes, at, &sum.to_le_bytes());
}
