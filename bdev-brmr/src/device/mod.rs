//! The compute side: pools, legs, devices.
