//! The steps of `ci`, one file each.

pub(crate) mod build;
pub(crate) mod cargo;
pub(crate) mod deps;
pub(crate) mod guest;
mod hugepages;
pub(crate) mod layers;
pub(crate) mod loom;
pub(crate) mod miri;
pub(crate) mod mutants;
pub(crate) mod prepare;
mod programs;
pub(crate) mod sim;
pub(crate) mod test;
pub(crate) mod tree;
mod venv;
mod words;
