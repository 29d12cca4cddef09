//! bdev_brmr_resize, rmr_enable_pool, rmr_verify_pool, rmr_stop_verify, rmr_get_verify. Control threads.

use super::create::{look, no_answer, until_it_serves};
use super::rpc::{PATIENCE, member, replicated, start_options};
use super::{Devices, show};
use bdev_rmr::pool::{self, NotGiven};
use rmr_engine::client::{Phase, ResizeError, ScrubCommand, ScrubRange, StartOptions};
use rmr_proto::ChunkNo;
use rpc_registry::{Method, Registry, RpcError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const EBUSY: i32 = 16;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const ETIMEDOUT: i32 = 110;

/// A growth waits for the data that is under way on all members, and makes marks durable.
const GROWTH: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// Parameters of `bdev_brmr_resize`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Resize {
    /// Name, alias or UUID of a replicated bdev
    name: String,
    /// Bytes that it is to have: more than now, a multiple of its block size, and every member's disk has to have the room
    size: u64,
}

/// Parameters of `rmr_enable_pool`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Enable {
    /// Name, alias or UUID of a replicated bdev
    name: String,
    /// Take it back from the other client although that one is still alive; default false
    takeover: Option<bool>,
    /// Start with these members although others with newer data cannot be reached: what only those hold is lost
    force: Option<Vec<u8>>,
    /// After a split brain: start from this member's history and discard the others'
    accept: Option<u8>,
    /// How long it may take, in ms, before this call ends with an error; default 10000. The pool goes on trying
    wait_ms: Option<u64>,
}

/// Parameters of `rmr_verify_pool`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Verify {
    /// Name, alias or UUID of a replicated bdev
    name: String,
    /// Where copies differ this member's counts, whatever the others say; without it more than half of at least three
    #[schemars(range(max = 7))]
    believe: Option<u8>,
    /// Chunk to begin with: `next_chunk` of one that was stopped; default 0
    first_chunk: Option<u64>,
    /// Pause between two chunks in us, to spare the disks; default 0
    pause_us: Option<u32>,
}

/// Parameters of methods about one device.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfDevice {
    /// Name, alias or UUID of a replicated bdev
    name: String,
}

/// Adds the methods.
pub(super) fn register(registry: &mut Registry, devices: &Arc<Devices>) {
    let of = devices.clone();
    registry.add(
        Method::new(
            "bdev_brmr_resize",
            "Make a replicated bdev larger: all members first, then whoever has it open is told",
        )
        .example(json!({"name": "Brmr0", "size": 2_199_023_255_552_u64}))
        .result_example(json!(true)),
        move |Resize { name, size }: Resize| of.resize(&name, size),
    );
    let of = devices.clone();
    registry.add(
        Method::new(
            "rmr_enable_pool",
            "Let a replicated bdev serve again whose pool another client has taken over",
        )
        .example(json!({"name": "Brmr0", "takeover": true}))
        .result_example(json!(true)),
        move |params: Enable| {
            let start = start_options(params.takeover, params.force.as_deref(), params.accept)?;
            of.enable(&params.name, start, params.wait_ms.map_or(PATIENCE, Duration::from_millis))
        },
    );
    register_verify(registry, devices);
}

fn register_verify(registry: &mut Registry, devices: &Arc<Devices>) {
    let of = devices.clone();
    registry.add(
        Method::new(
            "rmr_verify_pool",
            "Compare the copies of a replicated bdev, chunk by chunk, and repair where it is known which is right",
        )
        .example(json!({"name": "Brmr0", "pause_us": 1000}))
        .result_example(json!(true)),
        move |params: Verify| of.verify(params),
    );
    let of = devices.clone();
    registry.add(
        Method::new(
            "rmr_stop_verify",
            "Stop comparing the copies of a replicated bdev after the chunk in hand",
        )
        .example(json!({"name": "Brmr0"}))
        .result_example(json!(true)),
        move |OfDevice { name }: OfDevice| of.scrub(&name, ScrubCommand::Stop),
    );
    let of = devices.clone();
    registry.add(
        Method::new("rmr_get_verify", "Show how far the comparison of the copies is, and what it found")
            .example(json!({"name": "Brmr0"}))
            .result_example(json!({
                "name": "Brmr0", "state": "running", "next_chunk": 4096, "end_chunk": 8192, "chunks": 4096,
                "not_compared": 0, "unreadable": 0, "differed": 1, "repaired": 1, "unresolved": 0, "pinned": [],
            })),
        move |OfDevice { name }: OfDevice| of.verified(&name),
    );
}

impl Devices {
    fn resize(&self, name: &str, size: u64) -> Result<bool, RpcError> {
        let bdev = self.find(name)?;
        let device = replicated(&bdev);
        let block = u64::from(bdev.block_size());
        if !size.is_multiple_of(block) {
            let text = format!("size {size}, accepted: a multiple of {block}, the size of its blocks");
            return Err(RpcError::errno(EINVAL, text).parameter(
                "size",
                size,
                format!("a multiple of {block}"),
            ));
        }
        let Ok(_growing) = device.growing.try_lock() else {
            return Err(RpcError::errno(
                EBUSY,
                format!("bdev {name} is being made larger: wait until that has ended"),
            ));
        };
        let blocks = size / block;
        // An earlier growth that nobody waited for to the end: what is missing is that the bdev hears of it.
        let has = look(&device.home, device.pool)?.sizes.map(|(_, _, blocks)| blocks);
        if has == Some(blocks) && bdev.num_blocks() < blocks {
            bdev.resize(blocks);
            return Ok(true);
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let grown = pool::resize(&device.home, device.pool, blocks).map_err(not_given)?;
            match grown.recv_timeout(GROWTH) {
                Ok(Ok(blocks)) => {
                    bdev.resize(blocks);
                    return Ok(true);
                }
                // A member is just leaving or coming in.
                Ok(Err(ResizeError::Busy)) if Instant::now() < until => std::thread::sleep(LOOK),
                Ok(Err(error)) => return Err(not_grown(&error)),
                Err(_) => return Err(late()),
            }
        }
    }

    fn enable(&self, name: &str, start: StartOptions, patience: Duration) -> Result<bool, RpcError> {
        let bdev = self.find(name)?;
        let device = replicated(&bdev);
        let view = look(&device.home, device.pool)?;
        match pool::start(&device.home, device.pool, start).map_err(not_given)? {
            Ok(()) => until_it_serves(&device.home, device.pool, patience).map(|_| true),
            Err(Some(Phase::Active | Phase::Changing)) => {
                Err(RpcError::errno(EBUSY, format!("bdev {name} serves: there is nothing to start")))
            }
            Err(_) => {
                let text = format!(
                    "bdev {name} waits for its members already: {}; to start it with other options, delete it and create it \
                     again with them",
                    show::waits(&view)
                );
                Err(RpcError::errno(EBUSY, text))
            }
        }
    }

    fn verify(&self, params: Verify) -> Result<bool, RpcError> {
        let believe = params.believe.map(|id| member(id, "believe")).transpose()?;
        let range = ScrubRange {
            first: ChunkNo(params.first_chunk.unwrap_or(0)),
            end: ChunkNo(u64::MAX),
            believe,
            pace_ns: u64::from(params.pause_us.unwrap_or(0)) * 1000,
        };
        self.scrub(&params.name, ScrubCommand::Start(range))
    }

    fn scrub(&self, name: &str, command: ScrubCommand) -> Result<bool, RpcError> {
        let bdev = self.find(name)?;
        let device = replicated(&bdev);
        if !pool::scrub(&device.home, device.pool, command).map_err(not_given)? {
            return Err(not_assembled(name));
        }
        Ok(true)
    }

    fn verified(&self, name: &str) -> Result<Value, RpcError> {
        let bdev = self.find(name)?;
        let device = replicated(&bdev);
        let compared = pool::scrubbed(&device.home, device.pool).map_err(not_given)?;
        let compared = compared.ok_or_else(|| not_assembled(name))?;
        let mut told = show::compared(&compared);
        told["name"] = json!(bdev.name());
        Ok(told)
    }
}

fn late() -> RpcError {
    let text = format!(
        "the pool has not grown after {} s, and may still: look at bdev_brmr_get_devices, and ask for the same size again",
        GROWTH.as_secs()
    );
    RpcError::errno(ETIMEDOUT, text)
}

fn not_assembled(name: &str) -> RpcError {
    RpcError::errno(EBUSY, format!("bdev {name} waits for its members: see bdev_brmr_get_devices"))
}

fn not_given(error: NotGiven) -> RpcError {
    match error {
        NotGiven::Reactor(error) => no_answer(error),
        other => RpcError::errno(EBUSY, other.to_string()),
    }
}

fn not_grown(error: &ResizeError) -> RpcError {
    let errno = match error {
        ResizeError::NotLarger { .. } | ResizeError::TooLarge { .. } => EINVAL,
        ResizeError::NoRoom { .. } => ENOSPC,
        ResizeError::NotClean | ResizeError::Busy | ResizeError::Interrupted => EBUSY,
    };
    RpcError::errno(errno, error.to_string())
}
