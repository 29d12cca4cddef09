//! Metadata of a store: what is wanted (in RAM), what is durable, and the commits between them.
//!
//! A commit is one journal record, written to copy 0, then to copy 1; with the second it counts. Then the home pages it
//! touches are written, copy 0 then copy 1. Only then the journal may be written again. Whatever is cut short, one of the
//! two journal copies holds the newest whole record, and replaying it over the home pages gives the state it describes.

use crate::mutant::Mutant;
use crate::{StoreAction, StoreConfig};
use rmr_proto::disk::{self, INTENTS_PER_PAGE, Item, Layout, MISSES_PER_PAGE, PageKind};
use rmr_proto::{ChunkBits, EpochRecord, Geometry, MemberId, RegionMisses, RegionNo};
use std::collections::{BTreeMap, BTreeSet};

/// One view of the metadata: the wanted one or the durable one.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct View {
    /// The epoch record.
    pub record: EpochRecord,
    /// Regions with a live intent entry.
    pub intents: BTreeSet<RegionNo>,
    /// Misses, only of regions that have or had some.
    pub misses: BTreeMap<RegionNo, RegionMisses>,
}

impl View {
    /// Chunks of `region` that `member` has missed.
    pub fn missed(&self, region: RegionNo, member: MemberId) -> ChunkBits {
        self.misses.get(&region).map_or(ChunkBits::NONE, |m| m.missed[member.index()])
    }

    /// Chunks of `region` that are not clean on the store `me` itself: missed or suspect.
    pub fn unclean(&self, region: RegionNo, me: MemberId) -> ChunkBits {
        self.misses.get(&region).map_or(ChunkBits::NONE, |m| m.missed[me.index()].or(m.suspect))
    }

    pub(super) fn apply(&mut self, item: &Item) {
        match item {
            Item::Epoch(record) => self.record = *record,
            Item::Intent { region, live: true } => {
                self.intents.insert(*region);
            }
            Item::Intent { region, live: false } => {
                self.intents.remove(region);
            }
            Item::Misses(misses) => {
                self.misses.insert(misses.region, *misses);
            }
        }
    }
}

/// Number of a commit; a change is durable when the commit named by [`Meta::want`] is [`Meta::done`].
pub(super) type CommitNo = u64;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Step {
    Idle,
    /// Journal copy `copy` is being written.
    Journal {
        copy: usize,
        bytes: Vec<u8>,
        items: Vec<Item>,
    },
    /// Home pages of copy `copy` are being written: the disk has `writing`, `left` still to go. They do not overlap, so
    /// their order does not matter, as long as no page of copy 1 is written before all of copy 0 are.
    Home {
        copy: usize,
        pages: BTreeSet<(PageKind, u64)>,
        left: Vec<(PageKind, u64)>,
        writing: usize,
    },
}

/// Most home pages that the disk is given at a time.
const HOME_DEPTH: usize = 32;

/// Metadata and its commit machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Meta {
    layout: Layout,
    /// What is wanted.
    pub(super) ram: View,
    /// What is durable.
    pub(super) durable: View,
    /// Counts commits while in the set: see `EpochRecord::counter`.
    pub(super) counts: bool,
    dirty_record: bool,
    /// Only what is known of peers' disks changed: see [`Meta::note_peers`].
    dirty_peers: bool,
    /// Entries that became live, and those that went: the first say more and may go before the record.
    dirty_added: BTreeSet<RegionNo>,
    dirty_removed: BTreeSet<RegionNo>,
    dirty_misses: BTreeSet<RegionNo>,
    /// The durable entries as the bodies of their home pages, one after the other: a page costs the same whatever is
    /// live.
    intent_bits: Vec<u8>,
    /// A record that was replayed at the opening, until it is said again.
    replayed: Vec<Item>,
    /// The commit under way says a replayed record again: nothing that is wanted becomes durable with it.
    repeating: bool,
    step: Step,
    started: CommitNo,
    done: CommitNo,
    failed: bool,
    me: MemberId,
    /// Chunks not clean on this store, as of the last [`Meta::pump`]; the same but for regions changed since; those
    /// regions.
    dirty_chunks: u64,
    steady_chunks: u64,
    recount: BTreeSet<RegionNo>,
}

impl Meta {
    pub(super) fn new(geometry: Geometry, me: MemberId, config: &StoreConfig, read: Read) -> Self {
        let Read { view, commit: last_commit, replayed } = read;
        let layout = Layout::new(&geometry, config.journal_bytes);
        let own = |m: &RegionMisses| u64::from(m.missed[me.index()].or(m.suspect).len());
        let dirty_chunks = view.misses.values().map(own).sum();
        let mut meta = Self {
            layout,
            intent_bits: intent_bits(&layout, &view.intents),
            ram: view.clone(),
            durable: view,
            counts: false,
            dirty_record: false,
            dirty_peers: false,
            dirty_added: BTreeSet::new(),
            dirty_removed: BTreeSet::new(),
            dirty_misses: BTreeSet::new(),
            replayed: Vec::new(),
            repeating: false,
            step: Step::Idle,
            started: last_commit,
            done: last_commit,
            failed: false,
            me,
            dirty_chunks,
            steady_chunks: dirty_chunks,
            recount: BTreeSet::new(),
        };
        if !Mutant::ForgetReplay.on() {
            meta.keep(replayed);
        }
        meta
    }

    /// What was replayed may not be on its home pages yet: the next record, which takes the place of the one that holds
    /// it, says all of it again, and nothing else: with something new it might not fit.
    fn keep(&mut self, replayed: Vec<Item>) {
        for item in &replayed {
            match item {
                Item::Epoch(_) => self.dirty_record = true,
                Item::Intent { region, live: true } => {
                    self.dirty_added.insert(*region);
                }
                Item::Intent { region, live: false } => {
                    self.dirty_removed.insert(*region);
                }
                Item::Misses(misses) => {
                    self.dirty_misses.insert(misses.region);
                }
            }
        }
        self.replayed = replayed;
    }

    /// A metadata write failed: the store is of no use until it is opened again.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    pub(super) fn touch_record(&mut self) {
        self.dirty_record = true;
    }

    /// What is known of peers' disks changed. A commit that says only that is not counted: it would be news for the
    /// peers in its turn, and two stores with nothing to do would write for ever.
    pub(super) fn note_peers(&mut self) {
        self.dirty_peers |= !Mutant::PeersWithTheRest.on();
    }

    pub(super) fn set_intent(&mut self, region: RegionNo, live: bool) {
        let changed = if live { self.ram.intents.insert(region) } else { self.ram.intents.remove(&region) };
        if !changed {
            return;
        }
        let (to, from) = match live {
            true => (&mut self.dirty_added, &mut self.dirty_removed),
            false => (&mut self.dirty_removed, &mut self.dirty_added),
        };
        from.remove(&region);
        to.insert(region);
    }

    /// The misses of `region`, to be changed.
    pub(super) fn misses_mut(&mut self, region: RegionNo) -> &mut RegionMisses {
        self.dirty_misses.insert(region);
        self.recount_later(region);
        self.ram.misses.entry(region).or_insert(RegionMisses { region, ..RegionMisses::default() })
    }

    /// Adds chunks missed by `member`; true if that changed anything.
    pub(super) fn add_missed(&mut self, region: RegionNo, member: MemberId, chunks: ChunkBits) -> bool {
        if chunks.minus(self.ram.missed(region, member)).is_empty() {
            return false;
        }
        let missed = &mut self.misses_mut(region).missed[member.index()];
        *missed = missed.or(chunks);
        true
    }

    /// Chunks of `region` that are not clean on this store, or not durably so yet.
    fn count_unclean(&self, region: RegionNo) -> u64 {
        let both = self.ram.unclean(region, self.me).or(self.durable.unclean(region, self.me));
        u64::from(both.len())
    }

    /// What is not clean in `region` is about to change: it is counted again at the end of the event.
    fn recount_later(&mut self, region: RegionNo) {
        if self.recount.insert(region) {
            self.steady_chunks -= self.count_unclean(region);
        }
    }

    fn has_changes(&self) -> bool {
        self.dirty_peers || self.has_own_changes()
    }

    /// Does it say anything but what is known of peers?
    fn has_own_changes(&self) -> bool {
        self.dirty_record
            || !self.dirty_added.is_empty()
            || !self.dirty_removed.is_empty()
            || !self.dirty_misses.is_empty()
    }

    /// The commit that makes everything wanted so far durable.
    pub(super) fn want(&self) -> CommitNo {
        if self.has_changes() { self.started + 1 } else { self.started }
    }

    /// Is the change that [`Self::want`] named durable?
    pub(super) fn done(&self, commit: CommitNo) -> bool {
        self.done >= commit
    }

    /// Starts the next commit if there is something to commit and none is under way.
    pub(super) fn pump(&mut self, out: &mut Vec<StoreAction>) {
        while let Some(region) = self.recount.pop_first() {
            self.steady_chunks += self.count_unclean(region);
        }
        self.dirty_chunks = self.steady_chunks;
        if self.step != Step::Idle || self.failed || !self.has_changes() {
            return;
        }
        let items = self.take_items();
        self.started += 1;
        let bytes = disk::encode_journal(self.started, &items);
        out.push(StoreAction::MetaWrite { offset: self.layout.journal(0), bytes: bytes.clone() });
        self.step = Step::Journal { copy: 0, bytes, items };
    }

    /// Everything wanted, or as much as the journal has room for. Marks and live entries may go first, as they only say
    /// more; what a record leaves over goes with the next.
    fn take_items(&mut self) -> Vec<Item> {
        self.repeating = !self.replayed.is_empty();
        if self.repeating {
            return std::mem::take(&mut self.replayed);
        }
        let room = self.layout.journal_bytes() as usize - 1024;
        if self.counts && self.has_own_changes() {
            self.ram.record.counter += 1;
        }
        let mut items = Vec::new();
        let mut size = 0;
        while let Some(region) = self.dirty_misses.first().copied() {
            let misses = self
                .ram
                .misses
                .get(&region)
                .copied()
                .unwrap_or(RegionMisses { region, ..Default::default() });
            size += Item::Misses(misses).size();
            if size > room {
                return items;
            }
            self.dirty_misses.remove(&region);
            items.push(Item::Misses(misses));
        }
        let fit = (room - size) / Item::INTENT_BYTES;
        let entries = self.dirty_added.len() + self.dirty_removed.len();
        if entries > fit && !items.is_empty() {
            return items;
        }
        if !self.take_intents(fit, &mut items) {
            return items;
        }
        (self.dirty_record, self.dirty_peers) = (false, false);
        items.push(Item::Epoch(self.ram.record));
        items
    }

    /// Takes at most `most` entries, those that became live first: they say more and may go before the record, while
    /// those that are removed say less and go with it or later. True if the record may go with them.
    fn take_intents(&mut self, most: usize, items: &mut Vec<Item>) -> bool {
        let complete = self.dirty_added.len() <= most;
        for _ in 0..most {
            let added = self.dirty_added.pop_first().map(|region| Item::Intent { region, live: true });
            let removed =
                || self.dirty_removed.pop_first().map(|region| Item::Intent { region, live: false });
            let Some(item) = added.or_else(removed) else { break };
            items.push(item);
        }
        complete
    }

    /// A metadata write ended. Returns true when a commit became durable.
    pub(super) fn on_written(&mut self, ok: bool, out: &mut Vec<StoreAction>) -> bool {
        if !ok && !Mutant::IgnoreMetaError.on() {
            self.failed = true;
            self.step = Step::Idle;
            return false;
        }
        match std::mem::replace(&mut self.step, Step::Idle) {
            Step::Idle => false,
            Step::Journal { copy: 0, bytes, items } => {
                out.push(StoreAction::MetaWrite { offset: self.layout.journal(1), bytes: bytes.clone() });
                self.step = Step::Journal { copy: 1, bytes, items };
                false
            }
            Step::Journal { items, .. } => {
                self.commit(&items);
                self.start_home(0, items.iter().map(page_of).collect(), out);
                true
            }
            Step::Home { copy, pages, left, writing } => {
                self.go_on_home(copy, pages, left, writing - 1, out);
                false
            }
        }
    }

    fn commit(&mut self, items: &[Item]) {
        for item in items {
            if let Item::Misses(misses) = item {
                self.recount_later(misses.region);
            }
            self.durable.apply(item);
            if let Item::Intent { region, live } = item {
                set_bit(&mut self.intent_bits, *region, *live);
            }
        }
        if !self.repeating && items.iter().any(|item| matches!(item, Item::Epoch(_))) {
            self.done = self.started;
        } else {
            // Only a first part: what was wanted becomes durable with a later commit, and waits for it.
            self.dirty_record = true;
        }
    }

    fn start_home(&mut self, copy: usize, pages: BTreeSet<(PageKind, u64)>, out: &mut Vec<StoreAction>) {
        let left = pages.iter().copied().collect();
        self.go_on_home(copy, pages, left, 0, out);
    }

    fn go_on_home(
        &mut self,
        copy: usize,
        pages: BTreeSet<(PageKind, u64)>,
        mut left: Vec<(PageKind, u64)>,
        mut writing: usize,
        out: &mut Vec<StoreAction>,
    ) {
        while writing < HOME_DEPTH {
            let Some((kind, number)) = left.pop() else { break };
            let offset = self.layout.page(kind, number, copy);
            out.push(StoreAction::MetaWrite { offset, bytes: self.page(kind, number) });
            writing += 1;
        }
        if writing > 0 {
            self.step = Step::Home { copy, pages, left, writing };
        } else if copy == 0 {
            self.start_home(1, pages, out);
        } else {
            self.step = Step::Idle;
            self.pump(out);
        }
    }

    fn page(&self, kind: PageKind, number: u64) -> Vec<u8> {
        match kind {
            PageKind::Intent => {
                let body = INTENTS_PER_PAGE as usize / 8;
                let bits = &self.intent_bits[number as usize * body..][..body];
                disk::encode_intent_bits(self.started, number, bits)
            }
            PageKind::Epoch | PageKind::Map | PageKind::Journal => {
                encode_page(&self.durable, kind, number, self.started)
            }
        }
    }

    /// Chunks not clean on this store, as of the end of the last event.
    pub(super) fn dirty_chunks(&self) -> u64 {
        self.dirty_chunks
    }
}

/// The bodies of all intent pages, one after the other.
fn intent_bits(layout: &Layout, live: &BTreeSet<RegionNo>) -> Vec<u8> {
    let mut bits = vec![0; (layout.pages(PageKind::Intent) * INTENTS_PER_PAGE / 8) as usize];
    live.iter().for_each(|region| set_bit(&mut bits, *region, true));
    bits
}

fn set_bit(bits: &mut [u8], region: RegionNo, live: bool) {
    let (byte, bit) = ((region.0 / 8) as usize, 1u8 << (region.0 % 8));
    bits[byte] = if live { bits[byte] | bit } else { bits[byte] & !bit };
}

fn page_of(item: &Item) -> (PageKind, u64) {
    match item {
        Item::Epoch(_) => (PageKind::Epoch, 0),
        Item::Intent { region, .. } => (PageKind::Intent, region.0 / INTENTS_PER_PAGE),
        Item::Misses(misses) => (PageKind::Map, misses.region.0 / MISSES_PER_PAGE),
    }
}

fn encode_page(view: &View, kind: PageKind, number: u64, commit: CommitNo) -> Vec<u8> {
    match kind {
        PageKind::Intent => {
            let base = number * INTENTS_PER_PAGE;
            let live = view.intents.range(RegionNo(base)..RegionNo(base + INTENTS_PER_PAGE));
            disk::encode_intent_page(commit, number, live.copied())
        }
        PageKind::Map => {
            let base = number * MISSES_PER_PAGE;
            let misses = view.misses.range(RegionNo(base)..RegionNo(base + MISSES_PER_PAGE));
            disk::encode_map_page(commit, number, misses.map(|(_, m)| *m))
        }
        PageKind::Epoch | PageKind::Journal => disk::encode_epoch_page(commit, &view.record),
    }
}

/// A metadata area, read.
pub(super) struct Read {
    pub(super) view: View,
    pub(super) commit: CommitNo,
    /// The last journal record.
    pub(super) replayed: Vec<Item>,
}

/// What a metadata area says; `geometry` is that of the store's [`disk::Superblock::room`].
pub fn read_view(geometry: &Geometry, config: &StoreConfig, area: &[u8]) -> Result<View, crate::OpenError> {
    read(geometry, config, area).map(|read| read.view)
}

/// Reads a metadata area back: home pages, then the journal over them.
pub(super) fn read(geometry: &Geometry, config: &StoreConfig, area: &[u8]) -> Result<Read, crate::OpenError> {
    let layout = Layout::new(geometry, config.journal_bytes);
    if (area.len() as u64) < layout.bytes() {
        return Err(crate::OpenError::Area { got: area.len() as u64, need: layout.bytes() });
    }
    let at = |offset: u64, len: u64| &area[offset as usize..(offset + len) as usize];
    let copies = |kind, number| [0, 1].map(|copy| at(layout.page(kind, number, copy), disk::PAGE as u64));
    let journal =
        disk::open_either([0, 1].map(|c| at(layout.journal(c), config.journal_bytes)), PageKind::Journal, 0)?;
    let items = disk::decode_journal(journal.body)?;
    let covered: BTreeSet<_> = items.iter().map(page_of).collect();
    let mut view = View::default();
    let mut home = |kind, number, covered: bool| match disk::open_either(copies(kind, number), kind, number) {
        // Both copies torn while the journal holds the same: only regions the journal names can be replayed, so the
        // older whole copy is what must survive. Copies are written one after the other; both bad is a double fault.
        Err(error) => Err(error),
        Ok(page) if page.commit > journal.commit && !covered => Err(rmr_proto::FormatError::Field {
            what: "home page",
            field: "commit",
            value: page.commit,
            accepted: "not newer than the journal",
        }),
        Ok(page) => {
            match kind {
                PageKind::Intent => view.intents.extend(disk::decode_intents(number, page.body)),
                PageKind::Map => {
                    let found = disk::decode_misses(number, page.body)?;
                    view.misses.extend(found.into_iter().map(|m| (m.region, m)));
                }
                PageKind::Epoch | PageKind::Journal => view.record = disk::decode_epoch(page.body)?,
            }
            Ok(())
        }
    };
    for kind in [PageKind::Epoch, PageKind::Intent, PageKind::Map] {
        for number in 0..layout.pages(kind) {
            home(kind, number, covered.contains(&(kind, number)))?;
        }
    }
    for item in &items {
        view.apply(item);
    }
    Ok(Read { view, commit: journal.commit, replayed: items })
}

/// The metadata area of a new store: both copies of everything, commit 1.
pub fn format(superblock: &disk::Superblock, config: &StoreConfig, members: rmr_proto::MemberSet) -> Vec<u8> {
    let record = EpochRecord { members, blocks: superblock.geometry.blocks(), ..EpochRecord::default() };
    image(superblock, config, &View { record, ..View::default() })
}

/// A metadata area that says what `view` says, as commit 1: for tests that keep views and no bytes.
pub fn image(superblock: &disk::Superblock, config: &StoreConfig, view: &View) -> Vec<u8> {
    let layout = Layout::new(&superblock.room(), config.journal_bytes);
    let mut area = vec![0; layout.bytes() as usize];
    let mut put = |offset: u64, bytes: &[u8]| area[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    let journal = disk::encode_journal(1, &[Item::Epoch(view.record)]);
    for copy in 0..2 {
        put(layout.superblock(copy), &superblock.encode());
        put(layout.journal(copy), &journal);
        for kind in [PageKind::Epoch, PageKind::Intent, PageKind::Map] {
            for number in 0..layout.pages(kind) {
                put(layout.page(kind, number, copy), &encode_page(view, kind, number, 1));
            }
        }
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store that was opened after a crash, with a replayed entry, and much more to say than one record holds.
    fn opened_with_much_to_say(replayed: Vec<Item>, regions: u64) -> Meta {
        let geometry = Geometry::for_pool(128 << 30, 4096, 128 << 10).expect("a product geometry");
        let config = StoreConfig { journal_bytes: 64 << 10, ..StoreConfig::default() };
        let mut view = View::default();
        replayed.iter().for_each(|item| view.apply(item));
        let me = MemberId::new(1).expect("a member id");
        let mut meta = Meta::new(geometry, me, &config, Read { view, commit: 7, replayed });
        (0..regions).for_each(|region| meta.set_intent(RegionNo(region), true));
        meta.touch_record();
        meta
    }

    /// Every record up to the one that makes all of it durable, each with what it says.
    fn records(meta: &mut Meta) -> Vec<Vec<Item>> {
        let (want, mut records, mut out) = (meta.want(), Vec::new(), Vec::new());
        meta.pump(&mut out);
        while !meta.done(want) {
            if let Step::Journal { copy: 0, items, .. } = &meta.step {
                records.push(items.clone());
            }
            meta.on_written(true, &mut out);
        }
        records
    }

    #[test]
    fn a_replayed_record_is_said_again_alone_before_anything_new() {
        let replayed =
            vec![Item::Intent { region: RegionNo(9_999), live: true }, Item::Epoch(EpochRecord::default())];
        let mut meta = opened_with_much_to_say(replayed.clone(), 6_000);
        let records = records(&mut meta);
        assert_eq!(records[0], replayed);
        assert!(records.len() > 2, "6,000 entries do not fit in one record");
    }

    #[test]
    fn new_entries_go_before_the_record_and_removed_ones_not_before_it() {
        let mut meta = opened_with_much_to_say(Vec::new(), 6_000);
        assert!(records(&mut meta).len() > 1);
        (0..6_000).for_each(|region| meta.set_intent(RegionNo(region), region % 2 == 0));
        (6_000..12_000).for_each(|region| meta.set_intent(RegionNo(region), true));
        meta.touch_record();
        let records = records(&mut meta);
        let (last, before) = records.split_last().expect("at least one record");
        let removed = |item: &Item| matches!(item, Item::Intent { live: false, .. });
        let epoch = |item: &Item| matches!(item, Item::Epoch(_));
        assert!(before.iter().flatten().all(|item| !removed(item) && !epoch(item)));
        assert!(last.iter().any(epoch));
    }
}
