//! The storage target: the binary that knows all other crates.
