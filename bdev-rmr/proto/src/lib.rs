//! RMR wire and on-disk formats.
