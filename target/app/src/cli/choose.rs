//! From arguments to [`Options`]: what clap cannot check by itself.

use super::args::{Args, Command, HugepageSize};
use crate::demo::DemoArgs;
use crate::log::{Format, Level, LogControl, UnknownFlag};
use crate::options::{Options, RPC_SOCKET};
use rpc_server::ServerConfig;
use std::sync::Arc;
use std::time::Duration;
use tgt_env::cores::{CoresError, CpuMask, parse_lcores, usable_cores};
use tgt_env::memory::{MemoryConfig, PageSize, Registration};
use tgt_reactor::SleepPolicy;

const MIB: u64 = 1 << 20;

/// What is wrong with the command line.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// A core mask or map that is none.
    #[error(transparent)]
    Cores(#[from] CoresError),
    /// A size that is none.
    #[error("-s {0:?}, accepted: a number of MiB, or a number with K, M, G or T: 1M to 8388607T")]
    Size(String),
    /// A log flag that there is not.
    #[error("-L: {0}")]
    Flag(#[from] UnknownFlag),
}

impl Args {
    /// How logs shall look, and which are written.
    pub fn log(&self) -> Result<(Arc<LogControl>, Format), UsageError> {
        let control = LogControl::default();
        if self.silence_noticelog {
            control.set_print_level(Level::Warning);
        }
        for flag in &self.logflag {
            control.set_flag(flag, true)?;
            // As in SPDK: a flag alone would show nothing.
            control.set_print_level(Level::Debug);
        }
        Ok((Arc::new(control), self.log_format))
    }

    /// What to start.
    pub fn options(&self, log: Arc<LogControl>) -> Result<Options, UsageError> {
        let mut rpc = ServerConfig::new(self.rpc_socket.as_deref().unwrap_or(RPC_SOCKET.as_ref()));
        rpc.allowed.clone_from(&self.rpcs_allowed);
        Ok(Options {
            cores: self.cores()?,
            sleep: self.sleep(),
            memory: Some(self.memory()?),
            core_locks: !self.disable_cpumask_locks,
            rpc: (!self.no_rpc_server).then_some(rpc),
            metrics: self.metrics,
            host: self.host_id,
            insecure_sessions: self.insecure_sessions,
            allow_load: self.allow_load,
            config: self.config.clone(),
            ignore_config_errors: self.json_ignore_init_errors,
            wait_for_rpc: self.wait_for_rpc,
            vhost_directory: self.vhost_dir.clone().unwrap_or_else(|| ".".into()),
            log,
            ..Options::default()
        })
    }

    /// The demo, if this is to be one.
    #[must_use]
    pub fn demo(&self) -> Option<&DemoArgs> {
        self.command.as_ref().map(|Command::Demo(args)| &**args)
    }

    /// The process with which this one is to end.
    #[must_use]
    pub fn ends_with(&self) -> Option<i32> {
        self.ends_with
    }

    /// Whether the limit on core dumps shall be raised.
    #[must_use]
    pub fn raises_core_limit(&self) -> bool {
        !self.limit_coredump
    }

    /// Options that were given and mean nothing here.
    #[must_use]
    pub fn ignored(&self) -> Vec<&'static str> {
        self.ignored.given()
    }

    fn cores(&self) -> Result<Vec<u32>, UsageError> {
        if let Some(map) = &self.lcores {
            return Ok(parse_lcores(map)?.iter().map(|binding| binding.cpu).collect());
        }
        if let Some(mask) = &self.cpumask {
            let mask: CpuMask = mask.parse()?;
            return Ok(mask.iter().collect());
        }
        // SPDK's default is core 0; a container may have been given others.
        let usable = usable_cores()?;
        Ok(vec![if usable.contains(0) { 0 } else { usable.iter().next().unwrap_or(0) }])
    }

    fn sleep(&self) -> SleepPolicy {
        match (self.poll, self.interrupt_mode, self.spin_us) {
            (true, ..) => SleepPolicy::Never,
            (_, true, _) => SleepPolicy::After(Duration::ZERO),
            (.., Some(us)) => SleepPolicy::After(Duration::from_micros(u64::from(us))),
            _ => SleepPolicy::ADAPTIVE,
        }
    }

    fn memory(&self) -> Result<MemoryConfig, UsageError> {
        let page_size = match self.hugepage_size {
            _ if self.no_huge => PageSize::Ordinary,
            None => PageSize::Auto,
            Some(HugepageSize::TwoMiB) => PageSize::Huge2M,
            Some(HugepageSize::OneGiB) => PageSize::Huge1G,
        };
        let limit_bytes = self.mem_size.as_deref().map(size).transpose()?;
        // SPDK's 0 means no limit.
        Ok(MemoryConfig {
            page_size,
            limit_bytes: limit_bytes.filter(|bytes| *bytes > 0),
            registration: if self.no_registered_buffers { Registration::Off } else { Registration::Auto },
            ..MemoryConfig::default()
        })
    }
}

/// A number of MiB, or a number with a suffix, in bytes.
fn size(text: &str) -> Result<u64, UsageError> {
    let wrong = || UsageError::Size(text.to_owned());
    let trimmed = text.trim();
    let (digits, unit) = match trimmed.chars().last().map(|last| last.to_ascii_uppercase()) {
        Some('K') => (&trimmed[..trimmed.len() - 1], 1 << 10),
        Some('M') => (&trimmed[..trimmed.len() - 1], MIB),
        Some('G') => (&trimmed[..trimmed.len() - 1], MIB << 10),
        Some('T') => (&trimmed[..trimmed.len() - 1], MIB << 20),
        _ => (trimmed, MIB),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let bytes = number.checked_mul(unit).filter(|bytes| *bytes < 1 << 63).ok_or_else(wrong)?;
    if bytes == 0 || bytes >= MIB { Ok(bytes) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};
    use std::path::PathBuf;

    fn args(line: &str) -> Args {
        Args::try_parse_from(line.split(' ')).unwrap_or_else(|why| panic!("{line}: {why}"))
    }

    fn options(line: &str) -> Options {
        args(line).options(Arc::default()).unwrap_or_else(|why| panic!("{line}: {why}"))
    }

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_option_of_spdk_is_accepted_and_what_has_no_effect_is_named() {
        let line = "rmr_tgt -m 0x1 -p 0 -r /tmp/r --rpcs-allowed a,b --json-ignore-init-errors -s 512 --no-huge \
            --huge-dir /mnt -R -n 4 -i 1 -g -A 0:0 -B 0:1 -u --iova-mode pa --base-virtaddr 0x2000 \
            --msg-mempool-size 5 --enforce-numa --interrupt-mode --disable-cpumask-locks -e 0x1 \
            --num-trace-entries 5 -L bdev --silence-noticelog -d --env-context=--x -c f";
        let given = args(&line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(given.ignored().len(), 16);
        assert_eq!(args("rmr_tgt --lcores 0@0 --no-rpc-server --json f --poll").ignored(), [""; 0]);
        assert!(!given.raises_core_limit());
        assert_eq!(given.rpcs_allowed, Some(vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn cores_sleep_memory_and_socket_are_chosen() {
        let plain = options("rmr_tgt");
        assert_eq!((plain.cores.len(), plain.sleep), (1, SleepPolicy::ADAPTIVE));
        assert_eq!(plain.rpc.as_ref().expect("a server").path, PathBuf::from("/var/tmp/spdk.sock"));
        assert_eq!(options("rmr_tgt -m [0,2-3]").cores, [0, 2, 3]);
        assert_eq!(options("rmr_tgt --lcores 1@0,0@5").cores, [5, 0]);
        assert_eq!(options("rmr_tgt --poll").sleep, SleepPolicy::Never);
        assert_eq!(options("rmr_tgt --interrupt-mode").sleep, SleepPolicy::After(Duration::ZERO));
        assert_eq!(options("rmr_tgt --spin-us 7").sleep, SleepPolicy::After(Duration::from_micros(7)));
        let memory = options("rmr_tgt -s 2G --no-huge").memory.expect("chosen");
        assert_eq!((memory.limit_bytes, memory.page_size), (Some(2 << 30), PageSize::Ordinary));
        assert_eq!(memory.registration, Registration::Auto);
        let memory = options("rmr_tgt --no-registered-buffers").memory.expect("chosen");
        assert_eq!(memory.registration, Registration::Off);
        for (text, page_size) in [("2M", PageSize::Huge2M), ("1G", PageSize::Huge1G)] {
            let memory = options(&format!("rmr_tgt --hugepage-size {text}")).memory.expect("chosen");
            assert_eq!(memory.page_size, page_size);
        }
        assert!(options("rmr_tgt --no-rpc-server").rpc.is_none());
        assert_eq!(plain.metrics, None, "nothing is served unless asked for");
        let metrics = options("rmr_tgt --metrics 9110").metrics.expect("an address");
        assert_eq!(metrics.to_string(), "127.0.0.1:9110");
    }

    #[test]
    fn sizes_are_mib_or_have_a_suffix() {
        for (text, bytes) in
            [("0", 0), ("64", 64 * MIB), ("2048k", 2 * MIB), ("1T", 1 << 40), (" 3g ", 3 << 30)]
        {
            assert_eq!(size(text).expect(text), bytes, "{text}");
        }
        for text in ["", "M", "1.5G", "-1", "1K", "99999999999999999999", "9000000T", "5é"] {
            let error = size(text).expect_err(text).to_string();
            assert!(error.contains("MiB"), "{error}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            "rmr_tgt --poll --interrupt-mode",
            "rmr_tgt --poll --spin-us 5",
            "rmr_tgt -m 0x1 --lcores 0",
            "rmr_tgt --wait-for-rpc -c f",
            "rmr_tgt --no-rpc-server --wait-for-rpc",
            "rmr_tgt --metrics :9110",
            "rmr_tgt --host-id 7",
            "rmr_tgt --host-id 00000000-0000-0000-0000-000000000000",
            "rmr_tgt what",
            "rmr_tgt -r /tmp/r demo",
            "rmr_tgt demo --ram --dir d",
            "rmr_tgt demo --size 15",
            "rmr_tgt demo --status --load",
            "rmr_tgt demo --restart 3",
            "rmr_tgt demo --load 0",
        ] {
            assert!(Args::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
        assert!(args("rmr_tgt -m 0xg").options(Arc::default()).is_err());
        assert!(args("rmr_tgt -L loud").log().is_err());
    }
}
