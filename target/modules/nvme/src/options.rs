//! What may be chosen of a controller, with SPDK's names, defaults and rules.

use crate::engine::DEPTH_MAX;
use crate::error::NvmeError;
use std::net::SocketAddr;

/// A controller to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachOptions {
    /// Its name; bdevs are called after it.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
    /// Its subsystem.
    pub subnqn: String,
    /// Who we are to it.
    pub hostnqn: String,
    /// Digests of headers.
    pub hdgst: bool,
    /// Digests of data.
    pub ddgst: bool,
    /// Most IO queues.
    pub num_io_queues: u16,
    /// Entries of an IO queue.
    pub io_queue_size: u16,
    /// Seconds after a loss until it is detached; 0: one attempt to come back, -1: never.
    pub ctrlr_loss_timeout_sec: i32,
    /// Seconds between two attempts.
    pub reconnect_delay_sec: u32,
    /// Seconds after a loss until IO fails; 0: as long as there is hope it waits.
    pub fast_io_fail_timeout_sec: u32,
    /// Keep-alive timeout, ms.
    pub keep_alive_timeout_ms: u32,
}

impl AttachOptions {
    /// With SPDK's defaults.
    #[must_use]
    pub fn new(name: &str, address: SocketAddr, subnqn: &str) -> AttachOptions {
        AttachOptions {
            name: name.to_owned(),
            address,
            subnqn: subnqn.to_owned(),
            hostnqn: "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-000000000000".to_owned(),
            hdgst: false,
            ddgst: false,
            num_io_queues: 127,
            io_queue_size: 128,
            ctrlr_loss_timeout_sec: 0,
            reconnect_delay_sec: 0,
            fast_io_fail_timeout_sec: 0,
            keep_alive_timeout_ms: 10_000,
        }
    }

    /// Checks all of them.
    ///
    /// # Errors
    /// The one that is wrong, and what would do.
    pub fn check(&self) -> Result<(), NvmeError> {
        let wrong = |name: &'static str, value: &dyn ToString, accepted: &str| {
            Err(NvmeError::Value { name, value: value.to_string(), accepted: accepted.to_owned() })
        };
        if self.name.is_empty() {
            return wrong("name", &self.name, "a name");
        }
        for (name, nqn) in [("subnqn", &self.subnqn), ("hostnqn", &self.hostnqn)] {
            if !nqn.starts_with("nqn.") || nqn.len() > tgt_nvme::fabrics::NQN_MAX || nqn.contains('\0') {
                return wrong(name, nqn, "nqn.…, at most 223 bytes");
            }
        }
        if self.num_io_queues == 0 {
            return wrong("num_io_queues", &0, "1 to 65535");
        }
        if !(2..=DEPTH_MAX).contains(&self.io_queue_size) {
            return wrong("io_queue_size", &self.io_queue_size, "2 to 1024");
        }
        if self.keep_alive_timeout_ms < 1000 {
            return wrong("keep_alive_timeout_ms", &self.keep_alive_timeout_ms, "1000 and more");
        }
        self.check_timeouts()
    }

    fn check_timeouts(&self) -> Result<(), NvmeError> {
        let wrong = |name: &'static str, value: &dyn ToString, accepted: &str| {
            Err(NvmeError::Value { name, value: value.to_string(), accepted: accepted.to_owned() })
        };
        let (loss, delay, fast) =
            (self.ctrlr_loss_timeout_sec, self.reconnect_delay_sec, self.fast_io_fail_timeout_sec);
        let most = match loss {
            ..=-2 => return wrong("ctrlr_loss_timeout_sec", &loss, "-1 (for ever), 0, or seconds"),
            0 if delay != 0 => {
                return wrong("reconnect_delay_sec", &delay, "0 while ctrlr_loss_timeout_sec is 0");
            }
            0 if fast != 0 => {
                return wrong("fast_io_fail_timeout_sec", &fast, "0 while ctrlr_loss_timeout_sec is 0");
            }
            0 => return Ok(()),
            -1 => u32::MAX,
            seconds => seconds.unsigned_abs(),
        };
        if delay == 0 || delay > most {
            let accepted = "1 to ctrlr_loss_timeout_sec, if that is not 0";
            return wrong("reconnect_delay_sec", &delay, accepted);
        }
        if fast != 0 && !(delay..=most).contains(&fast) {
            let accepted = "0, or from reconnect_delay_sec to ctrlr_loss_timeout_sec";
            return wrong("fast_io_fail_timeout_sec", &fast, accepted);
        }
        Ok(())
    }
}
