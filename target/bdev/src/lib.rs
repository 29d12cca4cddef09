//! The block layer: bdevs, descriptors, channels, splitting, statistics, events.
