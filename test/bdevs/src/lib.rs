//! Bdevs that exist to prove the shape of the block layer: mirror2 and hop.
