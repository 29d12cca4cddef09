//! Making a device: sessions, pool, bdev; undone whole if any step fails.

use super::{Devices, PRODUCT_NAME, Replicated, show};
use bdev_rmr::hail::Peer;
use bdev_rmr::pool::{self, LegSpec, PoolSpec, PoolView};
use rmr_engine::client::{ClientConfig, Phase, StartOptions};
use rpc_registry::RpcError;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tgt_bdev::{Bdev, BdevSpec, Limits, Op, OpSet};
use tgt_reactor::{CallError, Handle};
use tgt_rtrs::sessions::{PathSpec, PeerSpec};
use uuid::Uuid;

const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ETIMEDOUT: i32 = 110;

/// How often it is looked whether the pool serves.
const LOOK: Duration = Duration::from_millis(5);

/// A device that is to be made.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) pool: Uuid,
    pub(super) members: Vec<Peer>,
    pub(super) start: StartOptions,
    pub(super) io_timeout: Option<Duration>,
    pub(super) readonly: bool,
    /// Block size, blocks and longest request, if the pool was assembled before: then nothing is waited for.
    pub(super) known: Option<(u32, u64, u32)>,
    /// How long the pool may take to assemble.
    pub(super) patience: Duration,
}

pub(super) fn no_answer(error: CallError) -> RpcError {
    RpcError::internal(error.to_string())
}

impl Devices {
    /// Opens sessions to these members.
    pub(super) fn leg(&self, peer: &Peer) -> Result<LegSpec, RpcError> {
        if peer.paths.is_empty() {
            let text = format!("member {} has no paths, accepted: at least one", peer.member);
            return Err(RpcError::errno(EINVAL, text).parameter("paths", "[]", "at least one path"));
        }
        let paths = peer.paths.iter().map(|path| {
            path.parse::<PathSpec>().map_err(|error| {
                RpcError::errno(EINVAL, error.to_string()).parameter(
                    "paths",
                    path.as_str(),
                    tgt_rtrs::sessions::PATH_ACCEPTED,
                )
            })
        });
        let spec = PeerSpec { key: peer.key.clone(), ..PeerSpec::new(paths.collect::<Result<_, _>>()?) };
        let session = self.sessions.open(&spec)?;
        Ok(LegSpec { peer: peer.clone(), session })
    }

    /// Makes the device.
    pub(super) fn create(&self, wanted: Wanted) -> Result<Arc<Bdev>, RpcError> {
        let home = self.reactors[0].clone();
        if self.bdevs.get(&wanted.name).is_some() {
            let text = format!("bdev {} exists already: choose another name", wanted.name);
            return Err(RpcError::errno(EEXIST, text).parameter("name", wanted.name.as_str(), "a free name"));
        }
        let legs = wanted.members.iter().map(|peer| self.leg(peer)).collect::<Result<Vec<_>, _>>()?;
        let spec = PoolSpec {
            name: wanted.name.clone(),
            pool: wanted.pool,
            legs,
            start: wanted.start,
            io_timeout: wanted.io_timeout,
            client: ClientConfig::default(),
        };
        pool::open(&home, spec)
            .map_err(no_answer)?
            .map_err(|error| RpcError::errno(EINVAL, error.to_string()))?;
        let made = self.register(&home, &wanted);
        if made.is_err() {
            pool::close(&home, wanted.pool).map_err(no_answer)?;
        }
        made
    }

    fn register(&self, home: &Handle, wanted: &Wanted) -> Result<Arc<Bdev>, RpcError> {
        let (block_size, num_blocks, request_blocks) = match wanted.known {
            Some(known) => known,
            None => until_it_serves(home, wanted.pool, wanted.patience)?,
        };
        let device = Replicated {
            pool: wanted.pool,
            home: home.clone(),
            members: Mutex::new(wanted.members.clone()),
            io_timeout: wanted.io_timeout,
            readonly: wanted.readonly,
            growing: Mutex::new(()),
        };
        let ops: &[Op] = match wanted.readonly {
            true => &[Op::Read, Op::Flush],
            false => &[Op::Read, Op::Write, Op::WriteZeroes, Op::Unmap, Op::Flush],
        };
        let bdev = self.bdevs.register(BdevSpec {
            name: wanted.name.clone(),
            aliases: Vec::new(),
            product_name: PRODUCT_NAME,
            uuid: wanted.pool,
            block_size,
            num_blocks,
            ops: OpSet::of(ops),
            limits: Limits {
                max_rw_blocks: request_blocks,
                max_unmap_blocks: request_blocks,
                max_write_zeroes_blocks: request_blocks,
                ..Limits::default()
            },
            numa_node: None,
            device: Arc::new(device),
        })?;
        Ok(bdev)
    }
}

/// Waits until the pool serves. What it is then: block size, blocks, longest request.
pub(super) fn until_it_serves(
    home: &Handle,
    pool: Uuid,
    patience: Duration,
) -> Result<(u32, u64, u32), RpcError> {
    let until = Instant::now() + patience;
    loop {
        let view = look(home, pool)?;
        let active = view.status.as_ref().is_some_and(|status| status.phase == Phase::Active);
        if let (true, Some((block_size, _, num_blocks))) = (active, view.sizes) {
            return Ok((block_size, num_blocks, view.request_blocks));
        }
        if Instant::now() >= until {
            let text = format!(
                "pool {pool} was not assembled within {} ms: {}",
                patience.as_millis(),
                show::waits(&view)
            );
            return Err(RpcError::errno(ETIMEDOUT, text));
        }
        std::thread::sleep(LOOK);
    }
}

/// How a pool stands that is known to be there.
pub(super) fn look(home: &Handle, pool: Uuid) -> Result<PoolView, RpcError> {
    let gone = || RpcError::internal(format!("pool {pool} was closed meanwhile"));
    pool::view(home, pool).map_err(no_answer)?.ok_or_else(gone)
}
