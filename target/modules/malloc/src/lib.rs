//! The malloc bdev: a disk in hugepage memory.
