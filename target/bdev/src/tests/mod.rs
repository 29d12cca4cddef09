//! The block layer against a scripted device.

mod channel;
mod claims;
mod emulate;
mod limits;
mod lock_model;
mod locks;
mod registry;
mod script;
mod split;
mod trace;
