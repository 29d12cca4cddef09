//! # The NVMe over Fabrics initiator
pub mod codec;
pub mod engine;
#[doc(hidden)]
pub mod fuzz;
