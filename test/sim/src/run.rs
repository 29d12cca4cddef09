//! One seed from start to verdict: faults under load, then calm, then everything must be well again.

use crate::Breach;
use crate::options::Options;
use crate::world::{Ev, MS, Stats, World};

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the seed switched on.
    pub options: Options,
    /// Stable hash of the trace.
    pub hash: u64,
    /// Counts.
    pub stats: Stats,
    /// Virtual time, ns.
    pub simulated: u64,
    /// The promise broken, if one was.
    pub breach: Option<Breach>,
}

/// Options that `seed` stands for.
pub fn options_of(seed: u64) -> Options {
    Options::swarm(&mut fastrand::Rng::with_seed(seed ^ 0x5eed))
}

/// Options that `seed` stood for in an older swarm, `first` or `second`. `None`: there was no such swarm.
pub fn older_options_of(swarm: &str, seed: u64) -> Option<Options> {
    let rng = &mut fastrand::Rng::with_seed(seed ^ 0x5eed);
    match swarm {
        "first" => Some(Options::first_swarm(rng)),
        "second" => Some(Options::second_swarm(rng)),
        _ => None,
    }
}

/// Runs `seed`. A failed assertion of an engine is a breach like any other.
pub fn run_seed(seed: u64, trace: bool) -> Outcome {
    run_caught(options_of(seed), seed, trace)
}

/// Runs `seed` with these options; a panic is a breach.
pub fn run_caught(options: Options, seed: u64, trace: bool) -> Outcome {
    let kept = options.clone();
    let result = std::panic::catch_unwind(|| run(kept, seed, trace));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        let what = format!("assertion failed: {}", text.unwrap_or_default());
        let breach = Some(Breach { at: 0, what });
        Outcome { options, hash: 0, stats: Stats::default(), simulated: 0, breach }
    })
}

/// Runs `seed` with these options.
pub fn run(options: Options, seed: u64, trace: bool) -> Outcome {
    let mut world = World::new(options.clone(), seed);
    world.trace = trace;
    for node in 0..world.nodes.len() {
        world.start_node(node);
    }
    world.hosts[0].loaded = true;
    world.start_host(0, false);
    world.at(MS, Ev::Check);
    world.schedule_fault();
    world.run_until(options.safety_ns);
    heal(&mut world);
    Outcome {
        hash: world.trace_hash(),
        simulated: world.now,
        breach: world.breach.clone(),
        stats: world.stats.clone(),
        options,
    }
}

/// Ends all faults and waits until everything is well.
fn heal(world: &mut World) {
    if world.breach.is_some() {
        return;
    }
    world.calm = true;
    let o = &mut world.options;
    (o.loss_ppm, o.duplicate_ppm, o.slow_ppm, o.disk_slow_ppm) = (0, 0, 0, 0);
    world.net.heal();
    (world.meta_fails, world.flush_fails) = (None, None);
    world.nodes.iter_mut().for_each(|node| node.disk.bad.clear());
    for node in 0..world.nodes.len() {
        if world.nodes[node].store.is_none() {
            world.restart_in(node, MS);
        } else if matches!(
            world.nodes[node].store.as_ref().map(rmr_engine::store::Store::service),
            Some(rmr_engine::store::Service::Out(rmr_engine::store::OutCause::DiskError))
        ) {
            world.kill(node);
            world.restart_in(node, MS);
        }
    }
    // One client keeps the pool; if none is left, or it is fenced, it takes over.
    for host in 1..world.hosts.len() {
        world.hosts[host].loaded = false;
        world.crash_host(host);
    }
    world.hosts[0].loaded = true;
    world.at(world.now + MS, Ev::StartHost { host: 0, takeover: true });
    let end = world.now + world.options.liveness_ns;
    let mut ios = world.stats.ios;
    loop {
        let next = world.now + 50 * MS;
        world.run_until(next);
        if world.breach.is_some() {
            return;
        }
        if world.is_whole() && !world.is_resting() {
            break;
        }
        world.end_maintenance();
        world.confirm_disks();
        world.settle_sides();
        if world.is_fenced(0) {
            // By one that is gone: whoever operates this takes over.
            world.start_host(0, true);
        }
        if world.now >= end {
            let text = world.describe();
            world.fail(format!(
                "not whole {} s after the last fault:{text}",
                world.options.liveness_ns / MS / 1000
            ));
            return;
        }
    }
    ios = world.stats.ios - ios.min(world.stats.ios);
    world.hosts[0].loaded = false;
    let longest = world.options.deadline_ns.max(world.client_config().command_ns);
    let end = world.now + longest + 200 * MS;
    let left = |world: &World| world.hosts.iter().map(|host| host.flights.len()).sum::<usize>();
    while left(world) + world.commands.len() > 0 && world.now < end && world.breach.is_none() {
        world.run_until(world.now + 20 * MS);
    }
    if !world.commands.is_empty() && world.breach.is_none() {
        let text = format!("commands have not ended: {:?}{}", world.commands, world.describe());
        world.fail(text);
    }
    let left = left(world);
    if left > 0 && world.breach.is_none() {
        let text = world.describe();
        world.fail(format!("{left} requests have not ended ({ios} did since the calm):{text}"));
    }
    // The last of the load may have started a new generation, with something to copy.
    let end = world.now + world.options.liveness_ns;
    while !world.is_whole() && world.now < end && world.breach.is_none() {
        world.run_until(world.now + 20 * MS);
    }
    if !world.is_whole() && world.breach.is_none() {
        let text = world.describe();
        world.fail(format!("not whole again after the last request:{text}"));
    }
    world.media_phase();
    world.compare_legs();
    world.check_buffers();
}

/// Switches off, one after the other, what the failure does not need. `None`: the seed does not fail.
pub fn minimise(options: Options, seed: u64) -> Option<Outcome> {
    let mut best = run_caught(options, seed, false);
    best.breach.as_ref()?;
    let steps: &[fn(&mut Options)] = &[
        |o| o.kill = 0,
        |o| o.power = 0,
        |o| o.blackout = 0,
        |o| o.client_crash = 0,
        |o| o.takeover = 0,
        |o| o.cut = 0,
        |o| o.clog = 0,
        |o| o.old_image = 0,
        |o| o.wipe = 0,
        |o| o.sick_disk = 0,
        |o| o.image_pct = 0,
        |o| o.aimed_pct = 0,
        |o| o.late_ppm = 0,
        |o| o.operate = 0,
        |o| o.spares = 0,
        |o| o.resize = 0,
        |o| o.force = 0,
        |o| o.loss_ppm = 0,
        |o| o.duplicate_ppm = 0,
        |o| o.slow_ppm = 0,
        |o| o.disk_error_ppm = 0,
        |o| o.disk_slow_ppm = 0,
        |o| o.read_error_ppm = 0,
        |o| o.latent = 0,
        |o| o.scrub = 0,
        |o| o.depth = 1,
        |o| o.safety_ns /= 2,
        |o| o.members = 2,
        |o| o.hot_blocks = o.hot_blocks.min(4),
    ];
    for step in steps {
        // Other options shift the random numbers: a few seeds, so that the failure may show again.
        for again in 0..40 {
            let mut options = best.options.clone();
            step(&mut options);
            if options == best.options {
                break;
            }
            let outcome = run_caught(options, seed.wrapping_add(again), false);
            if outcome.breach.is_some() {
                best = outcome;
                break;
            }
        }
    }
    Some(best)
}
