//! The scenario language: a world driven by hand.
