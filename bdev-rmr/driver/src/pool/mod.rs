//! The compute side.
