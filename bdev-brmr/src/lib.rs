//! The replicated block device: docs/120.

pub mod device;
pub mod store;
