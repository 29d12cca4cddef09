//! JSON startup configurations in SPDK's format: loader and saver.
