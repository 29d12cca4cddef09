//! Settling suspect chunks at a start: one source each.

use super::Client;
use crate::mutant::Mutant;
use rmr_proto::{
    ChunkBits, Continuity, MEMBERS_MAX, MemberId, MemberSet, RegionMisses, RegionNo, SuspectRegion,
};

impl Client {
    /// Settles the suspect chunks of one region: one source each, everybody else in the set missed it; outsiders missed
    /// what the entries of the set say.
    pub(super) fn verdict(&self, region: RegionNo, entries: &[SuspectRegion; MEMBERS_MAX]) -> RegionMisses {
        let mut verdict = RegionMisses { region, ..RegionMisses::default() };
        let start = self.assembly.start;
        let all = entries.iter().fold(ChunkBits::NONE, |bits, entry| bits.or(entry.written));
        for index in all.iter() {
            let Some(source) = self.source(region, index) else { continue };
            verdict.suspect = verdict.suspect.or(ChunkBits::bit(index));
            if Mutant::NoVerdict.on() {
                continue;
            }
            for member in start.without(source).iter() {
                let missed = &mut verdict.missed[member.index()];
                *missed = missed.or(ChunkBits::bit(index));
            }
        }
        let proved = start.iter().fold(ChunkBits::NONE, |bits, m| {
            let own = self.own_misses(m, region);
            let entry = &entries[m.index()];
            bits.or(entry.proved).or(entry.written.minus(own.missed[m.index()].or(own.suspect)))
        });
        for outsider in self.members.minus(start).iter() {
            let said = |bits: ChunkBits, m| bits.or(self.own_misses(m, region).missed[outsider.index()]);
            let missed = start.iter().fold(proved, said);
            verdict.missed[outsider.index()] = if Mutant::NoVerdict.on() { ChunkBits::NONE } else { missed };
        }
        verdict
    }

    /// By force: of chunks that nobody who starts holds clean, what the first of them has counts; all others, wherever
    /// they are, missed it. Returns how many chunks that are.
    pub(super) fn decide_lost(&self, verdict: &mut RegionMisses) -> u64 {
        let (region, start) = (verdict.region, self.assembly.start);
        let all = self.geometry.all_of(region);
        let missed = start.iter().fold(all, |bits, m| bits.and(self.own_misses(m, region).missed[m.index()]));
        let unsure = start.iter().fold(all, |bits, m| {
            let own = self.own_misses(m, region);
            bits.and(own.missed[m.index()].or(own.suspect))
        });
        let first = start.iter().next();
        for member in MemberSet(u8::MAX).iter().filter(|m| Some(*m) != first) {
            let lost = match (start.has(member), Mutant::GivenUpElsewhere.on()) {
                (true, _) => missed,
                (false, false) => unsure,
                (false, true) => ChunkBits::NONE,
            };
            let bits = &mut verdict.missed[member.index()];
            *bits = bits.or(lost);
        }
        verdict.suspect = verdict.suspect.or(missed);
        u64::from(unsure.len())
    }

    /// Who holds the contents of a suspect chunk: not missed before suspect, what lost nothing before what may have, the
    /// lowest id. What was suspect before this life of the store is durable since, or its mark says that it was lost.
    fn source(&self, region: RegionNo, index: u32) -> Option<MemberId> {
        let rank = |member: &MemberId| {
            let own = self.own_misses(*member, region);
            let continuity = self.report(*member).map(|r| r.continuity).unwrap_or_default();
            let suspect = own.suspect.has(index);
            let continuity = match (suspect, own.lost.has(index)) {
                _ if Mutant::IgnoreContinuity.on() => Continuity::default(),
                (true, true) if !Mutant::LossForgotten.on() => Continuity::Broken,
                (true, false) if !Mutant::LossForgotten.on() => Continuity::Unbroken,
                _ => continuity,
            };
            (suspect, continuity, member.index())
        };
        let holds = |m: &MemberId| !self.own_misses(*m, region).missed[m.index()].has(index);
        let source = self.assembly.start.iter().filter(holds).min_by_key(rank)?;
        // Suspect marks outlive a join, so whoever settled the chunk may be outside: a suspect copy is as good as any only
        // when nobody is, but who is known to have missed the chunk.
        let suspect = self.own_misses(source, region).suspect.has(index);
        let start = self.assembly.start;
        let missed =
            |m: MemberId| start.iter().any(|who| self.own_misses(who, region).missed[m.index()].has(index));
        let nobody_else = self.assembly.forced || self.members.minus(start).iter().all(missed);
        (!suspect || nobody_else).then_some(source)
    }
}
