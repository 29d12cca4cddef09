//! What is told of devices and pools.

use bdev_rmr::hail::Peer;
use bdev_rmr::pool::{Compared, LegState, LegView, PoolView};
use rmr_engine::client::{Phase, ScrubState, Status};
use rmr_proto::{ChunkNo, MemberId, MemberSet};
use serde_json::{Value, json};
use uuid::Uuid;

/// As `bdev_brmr_create` takes it.
pub(super) fn member(peer: &Peer) -> Value {
    let mut member = json!({"member_id": peer.member, "paths": peer.paths});
    if let Some(key) = &peer.key {
        member["key"] = json!(key);
    }
    member
}

/// A pool's state in one word.
pub(super) fn state(status: Option<&Status>) -> &'static str {
    match status.map(|status| status.phase) {
        None => "waiting",
        Some(Phase::Idle) => "idle",
        Some(Phase::Assembling) => "assembling",
        Some(Phase::Active | Phase::Changing) => "active",
        Some(Phase::Fenced) => "fenced",
    }
}

fn leg_state(state: &LegState) -> (&'static str, Option<&str>) {
    match state {
        LegState::NoSession(why) => ("no_session", Some(why)),
        LegState::Hailing => ("asking", None),
        LegState::Refused(why) => ("refused", Some(why)),
        LegState::Up => ("connected", None),
    }
}

/// Why a leg is not up to date: what its session or store says first, then what the engine knows of it.
pub(super) fn why(leg: &LegView, status: Option<&Status>) -> Option<String> {
    if let (_, Some(why)) = leg_state(&leg.state) {
        return Some(why.to_owned());
    }
    let known = status?.legs.iter().find(|(member, _)| *member == leg.member);
    known.map(|(_, why)| why.to_string()).or_else(|| match to_copy(leg.member, status?)? {
        Some(0) => None,
        Some(chunks) => Some(format!("copies {chunks} chunks that it has missed")),
        None => Some("has not told yet what it has missed".to_owned()),
    })
}

/// Chunks that a member of the set has to copy, if it has told; outer `None`: it is not in the set.
fn to_copy(member: MemberId, status: &Status) -> Option<Option<u64>> {
    status.to_copy.iter().find(|(of, _)| *of == member).map(|(_, chunks)| *chunks)
}

fn ids(members: MemberSet) -> Vec<usize> {
    members.iter().map(MemberId::index).collect()
}

/// All that is known of a pool.
pub(super) fn pool(pool: Uuid, view: &PoolView) -> Value {
    let status = view.status.as_ref();
    let leg = |leg: &LegView| {
        let (state, _) = leg_state(&leg.state);
        json!({
            "member_id": leg.member.index(),
            "session": leg.session.to_string(),
            "state": state,
            "in_set": status.is_some_and(|status| status.set.has(leg.member)),
            "up_to_date": status.is_some_and(|status| status.up_to_date().has(leg.member)),
            "chunks_to_copy": status.and_then(|status| to_copy(leg.member, status)?),
            "why": why(leg, status),
        })
    };
    let mut told = json!({
        "pool": pool.to_string(),
        "state": state(status),
        "legs": view.legs.iter().map(leg).collect::<Vec<_>>(),
        "requests_under_way": view.under_way,
    });
    if let Some((block_size, chunk_size, num_blocks)) = view.sizes {
        told["block_size"] = json!(block_size);
        told["chunk_size"] = json!(chunk_size);
        told["num_blocks"] = json!(num_blocks);
    }
    if let Some(status) = status {
        told["epoch"] =
            json!({"generation": status.epoch.promise.generation, "version": status.epoch.version});
        told["members"] = json!(ids(status.members));
        told["in_set"] = json!(ids(status.set));
        told["up_to_date"] = json!(ids(status.up_to_date()));
        told["in_maintenance"] = json!(ids(status.resting));
        told["degraded"] = json!(status.up_to_date() != status.members);
        told["waits_for"] = json!(ids(status.waits_for));
        told["given_up"] = json!({
            "members": ids(status.given_up.members),
            "chunks": status.given_up.chunks,
        });
    }
    told
}

/// How a comparison stands.
pub(super) fn compared((scrub, pins): &Compared) -> Value {
    let state = match scrub.state {
        ScrubState::Idle => "never_started",
        ScrubState::Running => "running",
        ScrubState::Done => "done",
        ScrubState::Stopped => "stopped",
        ScrubState::TooManyPins => "too_many_differ",
    };
    let pin = |(chunk, member): &(ChunkNo, MemberId)| json!({"chunk": chunk.0, "read_from": member.index()});
    json!({
        "state": state,
        "next_chunk": scrub.next.0,
        "end_chunk": scrub.end.0,
        "chunks": scrub.chunks,
        "not_compared": scrub.single,
        "unreadable": scrub.unread,
        "differed": scrub.mismatches,
        "repaired": scrub.repaired,
        "unresolved": scrub.unresolved,
        "pinned": pins.iter().map(pin).collect::<Vec<_>>(),
    })
}

/// Why a pool does not serve yet, in a line.
pub(super) fn waits(view: &PoolView) -> String {
    let status = view.status.as_ref();
    let legs = view.legs.iter().map(|leg| {
        let why = why(leg, status).unwrap_or_else(|| "ready".into());
        format!("member {}: {why}", leg.member.index())
    });
    let legs: Vec<String> = legs.collect();
    format!("it is {}; {}", state(status), legs.join("; "))
}
