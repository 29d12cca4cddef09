//! The other side: a guest with a driver, for tests and for the fuzzer.
//!
//! `guest` memory in a file, as a monitor shares it · `driver` a virtio driver's side of a ring · `front` a monitor.

pub(crate) mod driver;
pub(crate) mod guest;
