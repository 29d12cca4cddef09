//! One scenario for each hazard of docs/102-hazards.md, named as a sentence. The oracle judges every read, the legs are
//! compared whenever nothing is in flight, `end` demands that everything converges. `mutants` brings every old mistake
//! back and demands that its scenario notices.

mod copies;
mod disk;
mod epochs;
mod intent;
mod io;
mod joins;
#[cfg(feature = "mutants")]
mod mutants;
