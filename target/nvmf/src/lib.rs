//! NVMe over Fabrics.

pub mod codec;
