//! What `--help` says after the options.

pub(super) const ABOUT: &str =
    "A polled-mode storage target: block devices in user space, driven by SPDK's tools.";

pub(super) const EXAMPLES: &str = "\
Examples:
  rmr_tgt demo                                 a replicated device on this machine, to try things on
  rmr_tgt -m 0x3 -c config/two-bdevs.json      two reactors, bdevs from a file
  rmr_tgt -m [2,3] --poll                      never sleep, as SPDK does
  rmr_tgt --wait-for-rpc -r /run/rmr.sock      set options first, then framework_start_init
  spdk-rpc -s /run/rmr.sock bdev_get_bdevs     ask it, with SPDK's own client

Exit codes: 0 stopped as told, 1 error, 2 usage, 3 io_uring refused, 4 core not to be had,
  5 configuration, 6 RPC socket or metrics address not to be had, 7 memory; 130, 143: a second signal cut the stop short.";
