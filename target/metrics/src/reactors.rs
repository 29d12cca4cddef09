//! Reactors.

use crate::families::{
    REACTOR_ANSWERS, REACTOR_ASLEEP, REACTOR_BUSY, REACTOR_IDLE, REACTOR_SLEEPS, REACTOR_TURNS,
};
use crate::page::seconds;
use crate::text::{Labels, Samples, Text};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use tgt_reactor::{Handle, StatsSnapshot};

/// How long all reactors together may take to answer a scrape.
const PATIENCE: Duration = Duration::from_secs(1);

struct Row {
    reactor: String,
    core: String,
    asleep: bool,
    answers: bool,
    stats: StatsSnapshot,
}

pub(crate) fn write(text: &mut Text, reactors: &[Handle]) {
    let asleep: Vec<bool> = reactors.iter().map(|reactor| reactor.stats().snapshot().asleep).collect();
    let answers = ask(reactors, PATIENCE);
    let row = |((reactor, asleep), answers): ((&Handle, bool), bool)| Row {
        reactor: reactor.id().to_string(),
        core: reactor.core().to_string(),
        asleep,
        answers,
        stats: reactor.stats().snapshot(),
    };
    let rows: Vec<Row> = reactors.iter().zip(asleep).zip(answers).map(row).collect();
    text.family(REACTOR_BUSY, |s| each(s, &rows, |row| seconds(row.stats.busy)));
    text.family(REACTOR_IDLE, |s| each(s, &rows, |row| seconds(row.stats.idle)));
    text.family(REACTOR_TURNS, |s| each(s, &rows, |row| row.stats.turns));
    text.family(REACTOR_SLEEPS, |s| each(s, &rows, |row| row.stats.sleeps));
    text.family(REACTOR_ASLEEP, |s| each(s, &rows, |row| u8::from(row.asleep)));
    text.family(REACTOR_ANSWERS, |s| each(s, &rows, |row| u8::from(row.answers)));
}

fn each<V: std::fmt::Display>(samples: &mut Samples<'_>, rows: &[Row], value: impl Fn(&Row) -> V) {
    for row in rows {
        let labels: Labels<'_> = &[("reactor", &row.reactor), ("core", &row.core)];
        samples.add(labels, value(row));
    }
}

/// Which reactors answer within `patience`. One that sleeps books its sleep when it wakes: so all of them are woken.
fn ask(reactors: &[Handle], patience: Duration) -> Vec<bool> {
    let mut answered = vec![false; reactors.len()];
    let (reply, answers) = channel();
    for (index, reactor) in reactors.iter().enumerate() {
        let reply = reply.clone();
        let asked = reactor.send(move |_| {
            // After `patience` nobody listens any more.
            let _late = reply.send(index);
        });
        if let Err(why) = asked {
            tracing::debug!("a scrape of metrics: {why}");
        }
    }
    drop(reply);
    let end = Instant::now() + patience;
    while let Ok(index) = answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
        answered[index] = true;
    }
    answered
}
