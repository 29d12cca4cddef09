//! What there is to export, and to whom: the tables of the target.
//!
//! Control threads change them; reactors look at them when a host connects or asks an admin command, and lock shortly. Nothing
//! here is touched by an IO but [`Life`] and [`Fence`], which are flags.
//!
//! `nqn` names · `host` fences and lives of queues · `namespace` · `listener` · `controller` · `subsystem` · `tables` all of them.

mod controller;
mod host;
mod listener;
mod namespace;
pub mod nqn;
mod subsystem;
mod tables;

pub(crate) use controller::ERRORS_MAX;
pub use controller::{Controller, ControllerKind, QueueAt, QueueInfo, QueueStats, Totals};
pub use host::{Fence, Life};
pub use listener::{AnaState, Listener};
pub use namespace::{Identity, Namespace};
pub use subsystem::{Subsystem, SubsystemKind, SubsystemSpec};
pub use tables::{Referral, Tables};
