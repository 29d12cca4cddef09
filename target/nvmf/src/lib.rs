//! # The NVMe over Fabrics target
//!
//! **What it is, and is not.** Subsystems whose namespaces are bdevs, for hosts that come over TCP: NVMe base 2.0 as far as
//! controllers over fabrics need it, the NVM command set without reservations, copy and metadata. It knows no module. Not here:
//! RDMA, TLS, authentication, Disconnect. `docs/130-nvmf.md` says why it is as it is.
//!
//! **Words.** As in the specifications: *subsystem*, *namespace*, *controller* (one host's view of a subsystem), *queue* (one
//! connection), *capsule*. Ours: *portal*, a reactor's half of the target; *lane*, the io channel of a namespace there; *door*, an address
//! that is listened at; *fence*, what keeps a host's commands back while a dead queue of its has commands in a bdev.
//!
//! **Who may call it, on which thread.** [`Nvmf`] and the methods of [`rpc`]: control threads, which may block. [`portal::Portal`]: the
//! thread of its reactor. [`codec`] and [`control`]: pure; anybody.
//!
//! **Invariants.** A write is answered after the bdev has completed it. A command starts only while its queue lives and its host
//! is not fenced. A buffer is the bdev's until the bdev gives it back. Admin commands need no data buffers. A read or write
//! allocates nothing and locks nothing in steady state. What is not known is refused with the status or the termination that the
//! specification names.
//!
//! **Map of files.** Per IO: `portal/` (intake, plan, io, answers, lanes), `codec/`. Per admin command: `control/`. Per RPC: `service/` what
//! changes, `model/` the tables, `rpc/` the methods. `options.rs`, `error.rs`.
//!
//! **Where the tests are.** Pure parts beside the code; `tests/wire/` a small host over real sockets; `tests/cost.rs` what an IO must not
//! cost; `tests/guest.rs` in `target/app` the Linux kernel as host; `fuzz.rs` and the
//! corpora `test/fuzz/corpus/nvmf_*`, which `test/corpus` replays.

pub mod codec;
pub mod control;
mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod model;
mod options;
pub mod portal;
pub mod rpc;
mod service;

pub use error::NvmfError;
pub use options::TransportOptions;
pub use service::{NamespaceSpec, Nvmf};
