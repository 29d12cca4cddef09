//! Runs of granules: mapped on demand, unmapped when given back. One lock; nothing here runs per IO.

use std::collections::BTreeMap;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::backing::{Backing, MapRequest};
use super::config::{GRANULE_BYTES, MemoryConfig, PageKind};
use super::machine::{self, Hugepages, PageMap};
use super::observer::{MappedRange, MemoryObserver, ObserverId};
use super::runs::{Run, RunSet};
use super::stats::{Gauge, PageGauges, PageStats};
use super::table::{AddressTable, Granule, GranuleView, Use};
use super::{MemoryError, advice::Shortfall};

/// Granules handed out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) run: Run,
    /// Straight from the kernel, so all zero.
    pub(super) fresh: bool,
}

/// Who asks for granules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Buffers,
    Region,
}

pub(super) struct Space {
    table: AddressTable,
    unit: fn(PageKind) -> u32,
    config: MemoryConfig,
    /// NUMA node numbers; granule records hold indices into this.
    nodes: Vec<u32>,
    gauges: Vec<[PageGauges; PageKind::ALL.len()]>,
    lost: Gauge,
    state: Mutex<State>,
}

struct State {
    backing: Backing,
    /// Addresses with nothing mapped.
    unmapped: RunSet,
    /// Mapped granules of partly used 1 GiB pages, per node.
    spare: Vec<RunSet>,
    /// Live mappings by first granule.
    mappings: BTreeMap<u32, Mapping>,
    observers: Vec<(ObserverId, Arc<dyn MemoryObserver>)>,
    observers_ever: u64,
    mapped_bytes: u64,
    /// Granules that were carved into buffers.
    numbered: u16,
    shortfall: Option<Shortfall>,
    page_map: PageMap,
}

#[derive(Debug, Clone, Copy)]
struct Mapping {
    run: Run,
    kind: PageKind,
    node: u8,
    pinned: bool,
}

impl Space {
    pub(super) fn new(config: MemoryConfig) -> Result<Self, MemoryError> {
        Self::with_units(config, PageKind::unit)
    }

    /// `unit`: granules the kernel gives and takes back at once, per page kind.
    pub(super) fn with_units(config: MemoryConfig, unit: fn(PageKind) -> u32) -> Result<Self, MemoryError> {
        let table = AddressTable::reserve()?;
        let nodes = machine::nodes(config.numa);
        let mut unmapped = RunSet::default();
        unmapped.insert(Run { first: 0, count: table.granules() });
        let state = State {
            backing: Backing::new(table.base(), table.bytes()),
            unmapped,
            spare: nodes.iter().map(|_| RunSet::default()).collect(),
            mappings: BTreeMap::new(),
            observers: Vec::new(),
            observers_ever: 0,
            mapped_bytes: 0,
            numbered: 0,
            shortfall: None,
            page_map: PageMap::open(),
        };
        Ok(Self {
            gauges: nodes.iter().map(|_| Default::default()).collect(),
            table,
            unit,
            config,
            nodes,
            lost: Gauge::default(),
            state: Mutex::new(state),
        })
    }

    pub(super) fn table(&self) -> &AddressTable {
        &self.table
    }

    pub(super) fn nodes(&self) -> &[u32] {
        &self.nodes
    }

    pub(super) fn address(&self, run: Run) -> NonNull<u8> {
        self.table.address(run.first)
    }

    /// Finds `count` granules on the node with index `node`.
    pub(super) fn grant(&self, count: u32, node: u8, purpose: Purpose) -> Result<Grant, MemoryError> {
        let mut state = self.lock();
        let mut refusal = None;
        for &kind in self.config.page_size.candidates() {
            match self.grant_of(&mut state, kind, count, node, purpose) {
                Ok(grant) => {
                    self.note_use(grant.run, kind, node, purpose);
                    if purpose == Purpose::Buffers {
                        self.number(&mut state, grant.run);
                    }
                    return Ok(grant);
                }
                Err(Refusal::Pages(source)) => refusal = Some((kind, source)),
                Err(Refusal::Final(error)) => return Err(error),
            }
            if kind.is_huge() {
                state.shortfall = Some(Shortfall::of(kind, bytes(count)));
            }
        }
        Err(self.refused(bytes(count), refusal))
    }

    /// Takes granules of a region back: the kernel gets every page that is now wholly unused. Granules of buffers stay:
    /// an io_uring may have pinned their pages, and would go on with them if others came in their place.
    pub(super) fn give_back(&self, run: Run) {
        let is_region = |granule: &Granule| granule.number().is_none();
        assert!(
            self.table.records(run).all(is_region),
            "granules {run:?} hold buffers, they are never given back"
        );
        let mut state = self.lock();
        let Some(view) = self.table.record(run.first).view() else {
            unreachable!("granules {run:?} are given back while mapped");
        };
        let gauge = &self.gauges[usize::from(view.node)][view.kind as usize];
        gauge.regions.sub(bytes(run.count));
        if (self.unit)(view.kind) == 1 {
            self.unmap(&mut state, run.first);
        } else {
            self.give_back_spare(&mut state, run, view);
        }
    }

    /// Registers an observer and tells it of everything mapped.
    pub(super) fn observe(&self, observer: Arc<dyn MemoryObserver>) -> ObserverId {
        let mut state = self.lock();
        for mapping in state.mappings.values() {
            observer.added(&self.range(*mapping));
        }
        state.observers_ever += 1;
        let id = ObserverId(state.observers_ever);
        state.observers.push((id, observer));
        id
    }

    /// Forgets an observer, without telling it anything.
    pub(super) fn forget(&self, id: ObserverId) {
        self.lock().observers.retain(|(known, _)| *known != id);
    }

    pub(super) fn shortfall(&self) -> Option<Shortfall> {
        self.lock().shortfall.clone()
    }

    pub(super) fn page_stats(&self) -> Vec<PageStats> {
        let all = self.nodes.iter().zip(&self.gauges).flat_map(|(&node, kinds)| {
            PageKind::ALL.into_iter().map(move |kind| kinds[kind as usize].snapshot(node, kind))
        });
        all.filter(|stats| stats.mapped > 0).collect()
    }

    pub(super) fn lost_bytes(&self) -> u64 {
        self.lost.get()
    }

    pub(super) fn config(&self) -> &MemoryConfig {
        &self.config
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // An observer that panicked leaves the books as they were: they are written before observers are told.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grant_of(
        &self,
        state: &mut State,
        kind: PageKind,
        count: u32,
        node: u8,
        purpose: Purpose,
    ) -> Result<Grant, Refusal> {
        let unit = (self.unit)(kind);
        if unit == 1 {
            let run = self.find_unmapped(state, kind, count)?;
            self.map_or_return(state, run, kind, node, purpose)?;
            return Ok(Grant { run, fresh: true });
        }
        if let Some(run) = state.spare[usize::from(node)].take_lowest(count, 1) {
            return Ok(Grant { run, fresh: false });
        }
        let whole = self.find_unmapped(state, kind, count.next_multiple_of(unit))?;
        self.map_pages(state, whole, kind, node, purpose)?;
        let run = Run { first: whole.first, count };
        if whole.count > count {
            state.spare[usize::from(node)].insert(Run { first: run.end(), count: whole.count - count });
        }
        Ok(Grant { run, fresh: true })
    }

    /// Maps a run of 1 GiB pages, each its own mapping since each is given back on its own; all or none.
    fn map_pages(
        &self,
        state: &mut State,
        whole: Run,
        kind: PageKind,
        node: u8,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        let unit = (self.unit)(kind);
        for first in (whole.first..whole.end()).step_by(unit as usize) {
            if let Err(error) = self.map(state, Run { first, count: unit }, kind, node, purpose) {
                (whole.first..first).step_by(unit as usize).for_each(|done| self.unmap(state, done));
                state.unmapped.insert(Run { first, count: whole.end() - first });
                return Err(error);
            }
        }
        Ok(())
    }

    fn map_or_return(
        &self,
        state: &mut State,
        run: Run,
        kind: PageKind,
        node: u8,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        self.map(state, run, kind, node, purpose).inspect_err(|_| state.unmapped.insert(run))
    }

    fn find_unmapped(&self, state: &mut State, kind: PageKind, count: u32) -> Result<Run, Refusal> {
        let asked = bytes(count);
        if let Some(limit) = self.config.limit_bytes
            && state.mapped_bytes + asked > limit
        {
            return Err(Refusal::Final(MemoryError::Limit { asked, mapped: state.mapped_bytes, limit }));
        }
        // Trying in vain would take every free page for a moment, and other processes would go without.
        if Hugepages::available_bytes(kind).is_some_and(|available| available < asked) {
            return Err(Refusal::Pages(io::Error::from_raw_os_error(libc::ENOMEM)));
        }
        let found = state.unmapped.take_lowest(count, (self.unit)(kind));
        found.ok_or(Refusal::Final(MemoryError::AddressSpace { asked, reserved: self.table.bytes() }))
    }

    fn map(
        &self,
        state: &mut State,
        run: Run,
        kind: PageKind,
        node: u8,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        let request = MapRequest {
            kind,
            offset: bytes(run.first),
            len: bytes(run.count) as usize,
            node: (self.nodes.len() > 1).then(|| self.nodes[usize::from(node)]),
            touch: purpose == Purpose::Buffers,
        };
        let pinned = state.backing.map(request).map_err(Refusal::Pages)?;
        let mapping = Mapping { run, kind, node, pinned };
        self.record(state, mapping);
        let range = self.range(mapping);
        state.observers.iter().for_each(|(_, observer)| observer.added(&range));
        Ok(())
    }

    fn record(&self, state: &mut State, mapping: Mapping) {
        let Mapping { run, kind, node, pinned } = mapping;
        for granule in run.first..run.end() {
            // Only hugepages keep their physical address for good; a locked ordinary page may still migrate.
            let address = self.table.address(granule).as_ptr();
            let phys = if kind.is_huge() { state.page_map.phys(address) } else { None };
            self.table.record(granule).set_mapped(GranuleView { phys, mapping: run, kind, node });
        }
        let gauge = &self.gauges[usize::from(node)][kind as usize];
        gauge.mapped.add(bytes(run.count));
        if pinned {
            gauge.locked.add(bytes(run.count));
        }
        state.mapped_bytes += bytes(run.count);
        state.mappings.insert(run.first, mapping);
    }

    fn unmap(&self, state: &mut State, first: u32) {
        let Some(mapping) = state.mappings.remove(&first) else {
            unreachable!("a mapping starts at granule {first}");
        };
        let Mapping { run, kind, node, pinned } = mapping;
        let range = self.range(mapping);
        state.observers.iter().for_each(|(_, observer)| observer.removed(&range));
        self.table.records(run).for_each(|granule| granule.set_use(Use::Unmapped));
        let gauge = &self.gauges[usize::from(node)][kind as usize];
        gauge.mapped.sub(bytes(run.count));
        if pinned {
            gauge.locked.sub(bytes(run.count));
        }
        state.mapped_bytes -= bytes(run.count);
        match state.backing.unmap(kind, bytes(run.first), bytes(run.count) as usize) {
            Ok(()) => state.unmapped.insert(run),
            // The old contents may still be in the file, so these granules must never be handed out as fresh.
            Err(_) => self.lost.add(bytes(run.count)),
        }
    }

    fn give_back_spare(&self, state: &mut State, run: Run, view: GranuleView) {
        let node = usize::from(view.node);
        let unit = (self.unit)(view.kind);
        self.table.records(run).for_each(|granule| granule.set_use(Use::Spare));
        state.spare[node].insert(run);
        let first_page = run.first / unit * unit;
        for first in (first_page..run.end()).step_by(unit as usize) {
            if state.spare[node].take(Run { first, count: unit }) {
                self.unmap(state, first);
            }
        }
    }

    fn note_use(&self, run: Run, kind: PageKind, node: u8, purpose: Purpose) {
        let used_as = match purpose {
            Purpose::Buffers => Use::Buffers,
            Purpose::Region => Use::Region,
        };
        self.table.records(run).for_each(|granule| granule.set_use(used_as));
        used(&self.gauges[usize::from(node)][kind as usize], purpose).add(bytes(run.count));
    }

    fn number(&self, state: &mut State, run: Run) {
        for granule in self.table.records(run) {
            granule.set_number(state.numbered);
            state.numbered = state.numbered.saturating_add(1);
        }
    }

    fn range(&self, mapping: Mapping) -> MappedRange {
        MappedRange {
            mapping: mapping.run.first,
            base: self.table.address(mapping.run.first).as_ptr(),
            len: bytes(mapping.run.count) as usize,
            page: mapping.kind,
            node: self.nodes[usize::from(mapping.node)],
            registrable: mapping.pinned,
        }
    }

    fn refused(&self, asked: u64, refusal: Option<(PageKind, io::Error)>) -> MemoryError {
        let Some((kind, source)) = refusal else {
            unreachable!("every page size has a kind to try");
        };
        if !kind.is_huge() {
            return MemoryError::Refused { asked, source };
        }
        let short = Shortfall::of(kind, asked);
        let Hugepages { total, free } = short.pages();
        MemoryError::Hugepages { asked, kind, free, total, source, remedy: short.remedy() }
    }
}

/// Why a kind of page could not be had.
enum Refusal {
    /// No pages of this kind: try the next.
    Pages(io::Error),
    /// No other kind would help.
    Final(MemoryError),
}

fn used(gauges: &PageGauges, purpose: Purpose) -> &Gauge {
    match purpose {
        Purpose::Buffers => &gauges.buffers,
        Purpose::Region => &gauges.regions,
    }
}

fn bytes(granules: u32) -> u64 {
    u64::from(granules) * GRANULE_BYTES as u64
}
