//! The layer table (`layers.toml`) and the checks against it.

pub(crate) mod check;
pub(crate) mod lints;
pub(crate) mod table;
