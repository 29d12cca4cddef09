//! One scenario for each hazard of docs/102-hazards.md and each rule of 101 that has no hazard of its own, named as a
//! sentence. The oracle judges every read, the legs are compared whenever nothing is in flight, `end` demands that
//! everything converges. `mutants` brings every old mistake back and demands that its scenario notices.

mod commands;
mod copies;
mod disk;
mod epochs;
mod intent;
mod io;
mod joins;
mod media;
mod members;
#[cfg(feature = "mutants")]
mod mutants;
mod resync;
mod scale;
mod scrub;
mod service;
mod sides;
mod waiting;
