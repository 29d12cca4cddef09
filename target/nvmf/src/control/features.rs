//! Get Features and Set Features (base 5.15, 5.27).

use super::{Answer, Around, Events};
use crate::model::ControllerKind;
use tgt_nvme::feature::{self, select};
use tgt_nvme::{Command, status};
use tgt_status::IoStatus;

/// Bytes of the host's behaviour.
const BEHAVIOR: usize = 512;
/// Features whose value is only kept: the numbers and what they are at first.
const KEPT: [(u8, u32); 5] = [
    (feature::ARBITRATION, 0),
    (feature::POWER_MANAGEMENT, 0),
    (feature::TEMPERATURE_THRESHOLD, 0xffff),
    (feature::ERROR_RECOVERY, 0),
    (feature::WRITE_ATOMICITY, 0),
];
/// The bdev's caches cannot be switched off from here.
const CACHE_ON: u32 = 1;

/// Values of features.
#[derive(Clone, Debug)]
pub(super) struct Features {
    kept: [u32; KEPT.len()],
    kato_ms: u32,
    kato_first: u32,
    /// Number of queues, as it was answered; 0 before.
    queues: u32,
}

impl Features {
    pub(super) fn new(kato_ms: u32) -> Features {
        Features { kept: KEPT.map(|(_, first)| first), kato_ms, kato_first: kato_ms, queues: 0 }
    }

    pub(super) fn kato_ms(&self) -> u32 {
        self.kato_ms
    }

    pub(super) fn get(&self, around: Around<'_>, events: &Events, command: &Command) -> Answer {
        let (id, what) = (command.cdw10.get() as u8, (command.cdw10.get() >> 8 & 7) as u8);
        if !is_there(around, id) || what > select::CAPABILITIES {
            return Answer::Failed(IoStatus::INVALID_FIELD);
        }
        if what == select::CAPABILITIES {
            const CHANGEABLE: u64 = 1 << 2;
            let fixed = matches!(id, feature::VOLATILE_WRITE_CACHE | feature::HOST_IDENTIFIER);
            return Answer::Done(if fixed { 0 } else { CHANGEABLE });
        }
        let first = what != select::CURRENT;
        let kept = KEPT.iter().position(|(kept, _)| *kept == id);
        let value = match id {
            feature::HOST_IDENTIFIER => return host_identifier(around, command),
            feature::HOST_BEHAVIOR => return Answer::Data(vec![0; BEHAVIOR]),
            feature::VOLATILE_WRITE_CACHE => CACHE_ON,
            feature::NUMBER_OF_QUEUES if first || self.queues == 0 => queues(around, u32::MAX),
            feature::NUMBER_OF_QUEUES => self.queues,
            feature::ASYNC_EVENT_CONFIG => events.config(),
            feature::KEEP_ALIVE_TIMER if first => self.kato_first,
            feature::KEEP_ALIVE_TIMER => self.kato_ms,
            _ => kept.map_or(0, |index| if first { KEPT[index].1 } else { self.kept[index] }),
        };
        Answer::Done(value.into())
    }

    pub(super) fn set(
        &mut self,
        around: Around<'_>,
        command: &Command,
        data: &[u8],
    ) -> Result<u64, IoStatus> {
        const SAVE: u32 = 1 << 31;
        let (id, value) = (command.cdw10.get() as u8, command.cdw11.get());
        if !is_there(around, id) {
            return Err(IoStatus::INVALID_FIELD);
        }
        if command.cdw10.get() & SAVE != 0 {
            return Err(status::FEATURE_NOT_SAVEABLE);
        }
        match id {
            feature::VOLATILE_WRITE_CACHE if value & 1 == CACHE_ON => Ok(0),
            feature::VOLATILE_WRITE_CACHE => Err(status::FEATURE_NOT_CHANGEABLE),
            feature::POWER_MANAGEMENT if value & 0x1f != 0 => Err(IoStatus::INVALID_FIELD),
            // Fixed by the connect (base 5.27.1.25).
            feature::HOST_IDENTIFIER => Err(status::COMMAND_SEQUENCE_ERROR),
            feature::HOST_BEHAVIOR if data.len() != BEHAVIOR => Err(status::DATA_SGL_LENGTH_INVALID),
            feature::HOST_BEHAVIOR => Ok(0),
            feature::KEEP_ALIVE_TIMER => {
                self.kato_ms = around.options.kato(value);
                Ok(self.kato_ms.into())
            }
            feature::NUMBER_OF_QUEUES => {
                if value as u16 == u16::MAX || (value >> 16) as u16 == u16::MAX {
                    return Err(IoStatus::INVALID_FIELD);
                }
                self.queues = queues(around, value);
                Ok(self.queues.into())
            }
            _ => {
                if let Some(index) = KEPT.iter().position(|(kept, _)| *kept == id) {
                    self.kept[index] = value;
                }
                Ok(0)
            }
        }
    }
}

/// Whether the controller has this feature.
fn is_there(around: Around<'_>, id: u8) -> bool {
    let both = matches!(
        id,
        feature::ASYNC_EVENT_CONFIG
            | feature::KEEP_ALIVE_TIMER
            | feature::HOST_IDENTIFIER
            | feature::HOST_BEHAVIOR
    );
    let io = matches!(id, feature::VOLATILE_WRITE_CACHE | feature::NUMBER_OF_QUEUES)
        || KEPT.iter().any(|(kept, _)| *kept == id);
    both || (io && around.controller.kind == ControllerKind::Io)
}

/// Submission and completion queues less one each: what was asked for, and no more than there are.
fn queues(around: Around<'_>, asked: u32) -> u32 {
    let most = u32::from(around.options.max_io_qpairs_per_ctrlr) - 1;
    let granted = (asked & 0xffff).min(asked >> 16).min(most);
    granted << 16 | granted
}

fn host_identifier(around: Around<'_>, command: &Command) -> Answer {
    const LONG: u32 = 1;
    if command.cdw11.get() & LONG == 0 {
        // Only ids of 128 bits over fabrics.
        return Answer::Failed(IoStatus::INVALID_FIELD);
    }
    Answer::Data(around.controller.host_id.to_vec())
}
