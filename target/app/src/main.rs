//! The storage target.
fn main() {}
