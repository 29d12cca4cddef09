//! Tests of what is local.
