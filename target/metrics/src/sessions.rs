//! Sessions with other hosts: those that lead from here, with their paths, and those that lead here.

use crate::families::{
    PATH_ANSWERS, PATH_BYTES, PATH_CONNECTS, PATH_FAULTS, PATH_REQUESTS, PATH_RESENDS, PATH_ROUND_TRIP,
    PATH_UP, SERVED_ANSWERS, SERVED_BYTES, SERVED_CONNECTIONS, SERVED_REQUESTS, SESSION_INFO, SESSION_LANES,
    SESSION_LIVES, SESSION_UNDER_WAY, SESSION_WAITING,
};
use crate::text::{Samples, Text};
use std::fmt::Display;
use std::time::Duration;
use tgt_rtrs::client::PathStats;
use tgt_rtrs::hub::ServerLane;
use tgt_rtrs::sessions::{LaneInfo, PathInfo, ServedInfo, SessionInfo, Sessions};

/// How long all reactors together may take to say how their sessions fare.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) fn write(text: &mut Text, sessions: &Sessions) {
    let (ours, theirs) = match sessions.figures(PATIENCE) {
        Ok(figures) => figures,
        // Of some lanes only, counters would seem to have begun anew.
        Err(why) => return tracing::debug!("a scrape of metrics has no sessions: {why}"),
    };
    text.family(SESSION_INFO, |s| info(s, &ours, &theirs));
    text.family(SESSION_LANES, |s| ours.iter().for_each(|session| lanes(s, session)));
    text.family(SESSION_LIVES, |s| over_lanes(s, &ours, |lane| lane.lives));
    text.family(SESSION_UNDER_WAY, |s| over_lanes(s, &ours, |lane| lane.under_way.into()));
    text.family(SESSION_WAITING, |s| over_lanes(s, &ours, |lane| lane.waiting.into()));
    text.family(PATH_UP, |s| paths(s, &ours, |path| Some(path.up())));
    text.family(PATH_ROUND_TRIP, |s| {
        paths(s, &ours, |path| Some(path.latency_ns()).filter(|ns| *ns > 0).map(|ns| ns as f64 / 1e9));
    });
    text.family(PATH_REQUESTS, |s| counter(s, &ours, |stats| stats.requests));
    text.family(PATH_ANSWERS, |s| counter(s, &ours, |stats| stats.answers));
    text.family(PATH_BYTES, |s| path_bytes(s, &ours));
    text.family(PATH_RESENDS, |s| counter(s, &ours, |stats| stats.resends));
    text.family(PATH_CONNECTS, |s| counter(s, &ours, |stats| stats.ups));
    text.family(PATH_FAULTS, |s| counter(s, &ours, |stats| stats.faults));
    text.family(SERVED_CONNECTIONS, |s| served(s, &theirs, None, |lane| lane.connections.len() as u64));
    text.family(SERVED_REQUESTS, |s| served(s, &theirs, None, |lane| lane.stats.requests));
    text.family(SERVED_ANSWERS, |s| served(s, &theirs, None, |lane| lane.stats.answers));
    text.family(SERVED_BYTES, |s| {
        served(s, &theirs, Some("read"), |lane| lane.stats.bytes_out);
        served(s, &theirs, Some("write"), |lane| lane.stats.bytes_in);
    });
}

fn info(samples: &mut Samples<'_>, ours: &[SessionInfo], theirs: &[ServedInfo]) {
    let client = ours.iter().map(|s| (s.id, "client", s.peer));
    let server = theirs.iter().map(|s| (s.id, "server", Some(s.peer)));
    for (id, role, peer) in client.chain(server) {
        let (id, peer) = (id.to_string(), peer.map(|peer| peer.to_string()).unwrap_or_default());
        samples.add(&[("session", &id), ("role", role), ("peer", &peer)], 1);
    }
}

/// One sample for each state that a lane may be in.
fn lanes(samples: &mut Samples<'_>, session: &SessionInfo) {
    let id = session.id.to_string();
    for state in LaneInfo::STATES {
        let count = session.lanes.iter().filter(|lane| lane.state() == state).count();
        samples.add(&[("session", &id), ("state", state)], count);
    }
}

/// One sample for each session: the sum over its lanes.
fn over_lanes(samples: &mut Samples<'_>, ours: &[SessionInfo], value: impl Fn(&LaneInfo) -> u64) {
    for session in ours {
        let id = session.id.to_string();
        samples.add(&[("session", &id)], session.lanes.iter().map(&value).sum::<u64>());
    }
}

/// One sample for each path that has this figure.
fn paths<V: Display>(
    samples: &mut Samples<'_>,
    ours: &[SessionInfo],
    value: impl Fn(&PathInfo) -> Option<V>,
) {
    for session in ours {
        let id = session.id.to_string();
        for path in &session.paths {
            let name = path.spec.to_string();
            if let Some(value) = value(path) {
                samples.add(&[("session", &id), ("path", &name)], value);
            }
        }
    }
}

fn counter(samples: &mut Samples<'_>, ours: &[SessionInfo], of: impl Fn(&PathStats) -> u64) {
    paths(samples, ours, |path| Some(path.sum(&of)));
}

fn path_bytes(samples: &mut Samples<'_>, ours: &[SessionInfo]) {
    for session in ours {
        let id = session.id.to_string();
        for path in &session.paths {
            let name = path.spec.to_string();
            let (read, written) = (path.sum(|stats| stats.bytes_in), path.sum(|stats| stats.bytes_out));
            for (op, bytes) in [("read", read), ("write", written)] {
                samples.add(&[("session", &id), ("path", &name), ("op", op)], bytes);
            }
        }
    }
}

/// One sample for each lane of others' sessions. By lane, so that a sum over lanes does not fall when one of them ends.
fn served(
    samples: &mut Samples<'_>,
    theirs: &[ServedInfo],
    op: Option<&str>,
    value: impl Fn(&ServerLane) -> u64,
) {
    for session in theirs {
        let (id, peer) = (session.id.to_string(), session.peer.to_string());
        for lane in &session.lanes {
            let number = lane.number.to_string();
            let mut labels = vec![("session", id.as_str()), ("peer", &peer), ("lane", &number)];
            labels.extend(op.map(|op| ("op", op)));
            samples.add(&labels, value(lane));
        }
    }
}
