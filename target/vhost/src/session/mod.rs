//! One connection of a front end: what it has told us, without IO and without reactors.
//!
//! The handler of rust-vmm's `vhost` calls it, one message at a time, while no queue runs that the message concerns
//! (docs/140-vhost.md). `mod` state and messages · `vring` one queue's · `wire` looking at what comes next.

pub(crate) mod vring;
pub(crate) mod wire;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tgt_guest_memory::{DirtyLog, GuestMemory, MapError, Mapping, REGIONS_MAX, RegionSpec, is_sealed};
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};

use crate::QUEUES_MAX;
use crate::disk::{Disk, EVENT_IDX, INDIRECT, LOG_ALL, PACKED, PROTOCOL_FEATURES, protocol_features};
use crate::inflight::{Inflight, InflightError, InflightRegion};
use crate::ring::RingSpec;
use vring::{Kick, Vring};

/// What a front end asked for that cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("queue {0}: there are {QUEUES_MAX}, from 0 on")]
    Queue(u32),
    #[error("features {0:#x} were not offered: offered are {1:#x}")]
    Features(u64, u64),
    #[error("a ring of {0} descriptors: accepted are 1 to {most}", most = crate::ring::SIZE_MAX)]
    Size(u32),
    #[error("bytes {0} to {1} of the configuration space cannot be written")]
    Config(u32, u32),
    #[error("{0} is not offered")]
    NotOffered(&'static str),
    #[error("{0}")]
    Map(#[from] MapError),
    #[error("{0}")]
    Inflight(#[from] InflightError),
    #[error("an eventfd cannot be set non-blocking: {0}")]
    Eventfd(io::Error),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::ReqHandlerError(io::Error::other(refusal))
    }
}

/// What a front end has told.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) disk: Disk,
    /// Controller, for logs.
    name: String,
    features: u64,
    protocol_features: u64,
    memory: GuestMemory,
    log: Option<Arc<DirtyLog>>,
    inflight: Option<InflightRegion>,
    vrings: Vec<Vring>,
}

impl Session {
    pub(crate) fn new(name: &str, disk: Disk) -> Session {
        Session {
            disk,
            name: name.to_owned(),
            features: 0,
            protocol_features: 0,
            memory: GuestMemory::default(),
            log: None,
            inflight: None,
            vrings: Vec::new(),
        }
    }

    /// The queues that were spoken of.
    pub(crate) fn vrings(&mut self) -> &mut Vec<Vring> {
        &mut self.vrings
    }

    /// Whether answers to messages that have none of their own were agreed on.
    pub(crate) fn acknowledges(&self) -> bool {
        self.protocol_features & VhostUserProtocolFeatures::REPLY_ACK.bits() != 0
    }

    /// Memory and log that queues work with.
    pub(crate) fn memory(&self) -> GuestMemory {
        let log = self.log.clone().filter(|_| self.features & LOG_ALL != 0);
        self.memory.with_log(log)
    }

    /// Whether queue `index` has all it needs, and shall run.
    pub(crate) fn can_run(&self, index: usize) -> bool {
        let vring = &self.vrings[index];
        // Without the protocol's own features there is no message that enables a ring.
        let enabled = vring.enabled || self.features & PROTOCOL_FEATURES == 0;
        vring.kick != Kick::Stopped && enabled && vring.spec.size > 0 && vring.spec.desc != 0 && !vring.broken
    }

    /// How its ring lies and is used.
    pub(crate) fn ring_spec(&self, index: usize) -> RingSpec {
        let has = |feature: u64| self.features & feature != 0;
        let (packed, event_idx, indirect) = (has(PACKED), has(EVENT_IDX), has(INDIRECT));
        RingSpec { packed, event_idx, indirect, ..self.vrings[index].spec }
    }

    /// Its part of the inflight region, if there is one.
    pub(crate) fn inflight_part(&self, index: usize) -> Option<Inflight> {
        let region = self.inflight.as_ref()?;
        region.part(index as u16, self.features & PACKED != 0).ok().flatten()
    }

    /// Queues are numbered from 0; those up to `index` exist once it is spoken of.
    fn vring(&mut self, index: u32) -> Result<&mut Vring> {
        if index >= u32::from(QUEUES_MAX) {
            return Err(Refusal::Queue(index).into());
        }
        let index = index as usize;
        if self.vrings.len() <= index {
            self.vrings.resize_with(index + 1, Vring::default);
        }
        Ok(&mut self.vrings[index])
    }

    fn map(&self, memory: &GuestMemory, region: &VhostUserMemoryRegion, file: &File) -> Result<GuestMemory> {
        let spec = region_spec(region);
        let memory = memory.with(spec, file).map_err(Refusal::from)?;
        if !is_sealed(file) {
            tracing::info!(
                controller = self.name,
                "guest memory at {:#x} is not sealed: whoever shrinks its file ends this target",
                spec.guest
            );
        }
        Ok(memory)
    }

    /// Memory was added under queues that run.
    fn tell_memory(&self) {
        let memory = self.memory();
        for shared in self.vrings.iter().filter_map(|vring| vring.running.as_ref()) {
            shared.tune(|tuning| tuning.memory = memory.clone());
        }
    }

    fn forget(&mut self) {
        self.vrings
            .iter_mut()
            .for_each(|vring| *vring = Vring { call: vring.call.take(), ..Vring::default() });
        self.features = 0;
    }
}

fn region_spec(region: &VhostUserMemoryRegion) -> RegionSpec {
    RegionSpec {
        guest: region.guest_phys_addr,
        len: region.memory_size,
        user: region.user_addr,
        offset: region.mmap_offset,
    }
}

/// An eventfd that will not block.
fn bell(file: Option<File>) -> Result<Option<Arc<OwnedFd>>> {
    let Some(file) = file else { return Ok(None) };
    let fd = OwnedFd::from(file);
    let nonblocking = rustix::fs::fcntl_getfl(&fd)
        .and_then(|flags| rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK));
    nonblocking.map_err(|errno| Refusal::Eventfd(errno.into()))?;
    Ok(Some(Arc::new(fd)))
}

impl VhostUserBackendReqHandlerMut for Session {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.forget();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.forget();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.disk.features())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        let offered = self.disk.features();
        if features & !offered != 0 {
            return Err(Refusal::Features(features & !offered, offered).into());
        }
        self.features = features;
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(protocol_features())
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        let offered = protocol_features().bits();
        if features & !offered != 0 {
            return Err(Refusal::Features(features & !offered, offered).into());
        }
        self.protocol_features = features;
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        let mut memory = GuestMemory::default();
        for (region, file) in regions.iter().zip(&files) {
            memory = self.map(&memory, region, file)?;
        }
        self.memory = memory;
        Ok(None)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(REGIONS_MAX as u64)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<u64>> {
        self.memory = self.map(&self.memory, region, &file)?;
        self.tell_memory();
        Ok(None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        self.memory = self.memory.without(&region_spec(region)).map_err(Refusal::from)?;
        Ok(())
    }

    fn set_log_base(&mut self, log: &VhostUserLog, file: File) -> Result<()> {
        let mapping = Mapping::shared(file, log.mmap_offset, log.mmap_size).map_err(Refusal::from)?;
        let log = DirtyLog::new(mapping).map_err(|fault| Error::ReqHandlerError(io::Error::other(fault)))?;
        self.log = Some(Arc::new(log));
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(u64::from(QUEUES_MAX))
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        if num == 0 || num > u32::from(crate::ring::SIZE_MAX) {
            return Err(Refusal::Size(num).into());
        }
        self.vring(index)?.spec.size = num as u16;
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        log: u64,
    ) -> Result<()> {
        let logged = flags.contains(VhostUserVringAddrFlags::VHOST_VRING_F_LOG);
        let spec = &mut self.vring(index)?.spec;
        (spec.desc, spec.driver, spec.device) = (descriptor, available, used);
        spec.log = logged.then_some(log);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.vring(index)?.base = base;
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let vring = self.vring(index)?;
        vring.kick = Kick::Stopped;
        vring.broken = false;
        Ok(VhostUserVringState::new(index, vring.base))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let kick = bell(fd)?;
        let vring = self.vring(u32::from(index))?;
        vring.kick = kick.map_or(Kick::Polled, Kick::Eventfd);
        vring.broken = false;
        Ok(())
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let call = bell(fd)?;
        let vring = self.vring(u32::from(index))?;
        vring.call.clone_from(&call);
        if let Some(shared) = &vring.running {
            shared.tune(|tuning| tuning.call = call);
        }
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let error = bell(fd)?;
        self.vring(u32::from(index))?.error = error;
        Ok(())
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.vring(index)?.enabled = enable;
        Ok(())
    }

    fn get_config(&mut self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        self.disk.config(offset, size).ok_or(Error::InvalidParam)
    }

    /// The write cache could be switched; it is not offered.
    fn set_config(&mut self, offset: u32, bytes: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        Err(Refusal::Config(offset, offset.saturating_add(bytes.len() as u32)).into())
    }

    fn get_inflight_fd(&mut self, asked: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        let packed = self.features & PACKED != 0;
        let (region, file) =
            InflightRegion::create(asked.num_queues, asked.queue_size, packed).map_err(Refusal::from)?;
        let made = VhostUserInflight::new(region.len(), 0, asked.num_queues, asked.queue_size);
        self.inflight = Some(region);
        Ok((made, file.into()))
    }

    fn set_inflight_fd(&mut self, given: &VhostUserInflight, file: File) -> Result<()> {
        let VhostUserInflight { mmap_size, mmap_offset, num_queues, queue_size } = *given;
        let packed = self.features & PACKED != 0;
        let region = InflightRegion::open(file, mmap_offset, mmap_size, num_queues, queue_size, packed);
        self.inflight = Some(region.map_err(Refusal::from)?);
        Ok(())
    }

    fn set_gpu_socket(&mut self, _gpu: GpuBackend) -> Result<()> {
        Err(Refusal::NotOffered("a GPU").into())
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        Err(Refusal::NotOffered("SHARED_OBJECT").into())
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        Err(Refusal::NotOffered("DEVICE_STATE").into())
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(Refusal::NotOffered("DEVICE_STATE").into())
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(Refusal::NotOffered("SHMEM").into())
    }
}
