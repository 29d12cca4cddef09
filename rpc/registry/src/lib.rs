//! The registry of JSON-RPC methods: typed parameters, schema, errors.
//!
//! # What it is and is not
//! Each module declares its methods here, beside its own code: name, parameters as a Rust struct, handler. The
//! registry decodes strictly, answers SPDK's codes, and publishes one schema from which clients and documents are
//! made. It knows no socket (that is `rpc-server`), no config file (`tgt-config`) and no module.
//!
//! # Words
//! * *method*: a name that can be called, with a [`Phase`] in which it may be; *state*: how far the target has come.
//! * *shape*: what a method's parameters look like, compiled from the JSON Schema that `schemars` derives.
//! * *scope*: the methods that one way in may see (`--rpcs-allowed`); *asker*: whoever waits for a call's answer, or has
//!   gone.
//! * *subsystem*: a part of the target that saves its configuration as a list of calls.
//!
//! # Who may call it, on which thread
//! Modules call [`Registry::add`] while the target starts, on one thread. After that the registry is shared as an
//! `Arc` and [`Registry::call`] may run on any number of ordinary threads at once. Handlers may block; they must
//! never run on a reactor.
//!
//! # Invariants
//! * Nothing reaches a handler but parameters that its shape accepts: no unknown, duplicate or missing member, exact
//!   64-bit numbers, no `null` in place of a member left out.
//! * A schema keyword that is not checked is refused at registration, as is a name that is taken or an example that
//!   does not fit.
//! * Every call gives one answer, also when the handler panics. Results are ASCII and at most 32 MiB.
//!
//! # Map of files
//! `registry` the table and the call · `method`, `scope`, `subsystem` what is declared · `builtin` the registry's own
//! methods · `asker` who waits for an answer · `shape/` compile, check, faults and their words · `node`, `number` strict reading of JSON text · `ascii`
//! results as text · `error` what a failed call answers · `near` "did you mean" · `fuzz` entry point for the fuzzer.
//!
//! # Where the tests are
//! Beside the code, `shape/tests.rs`, `tests/` (calls through the public API), and the corpus
//! `test/fuzz/corpus/rpc_params`, which `test/corpus` replays.

mod ascii;
mod asker;
mod builtin;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod method;
mod near;
mod node;
mod number;
mod registry;
mod scope;
mod shape;
mod subsystem;

pub use ascii::{MAX_RESULT_BYTES, TextError, to_ascii, to_ascii_pretty};
pub use asker::{Asker, WhenGone};
pub use error::{RpcError, codes};
pub use method::{Method, Phase, State};
pub use registry::Registry;
pub use scope::Scope;
pub use subsystem::{ConfigEntry, ConfigWriter, Subsystem};
