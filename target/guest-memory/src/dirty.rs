//! Which pages were written, for a migration.

use std::sync::Arc;

use crate::{Fault, Mapping, Window};

/// Bytes that one bit of the log stands for.
pub const LOG_PAGE: u64 = 4096;

/// One bit for each page of guest physical memory, shared with the virtual machine monitor, which takes bits away as it
/// sends pages.
#[derive(Clone, Debug)]
pub struct DirtyLog {
    bits: Window,
}

impl DirtyLog {
    /// A log that fills `mapping`.
    ///
    /// # Errors
    /// None that can happen: all of a mapping lies in it.
    pub fn new(mapping: Mapping) -> Result<DirtyLog, Fault> {
        let len = mapping.len() as u64;
        Ok(DirtyLog { bits: Window::new(&Arc::new(mapping), 0, len, 1)? })
    }

    /// Notes that `len` bytes at `at` were written. Call it after they were: a page that is sent between the two is then
    /// sent again.
    ///
    /// # Errors
    /// [`Fault::BeyondLog`]; what the log covers is noted all the same.
    #[inline]
    pub fn mark(&self, at: u64, len: u64) -> Result<(), Fault> {
        if len == 0 {
            return Ok(());
        }
        let pages = self.bits.len() as u64 * 8;
        let last = at.saturating_add(len - 1);
        for page in at / LOG_PAGE..=(last / LOG_PAGE).min(pages.saturating_sub(1)) {
            self.bits.set_bits((page / 8) as usize, 1 << (page % 8));
        }
        if last / LOG_PAGE >= pages {
            return Err(Fault::BeyondLog { at: last, end: pages.saturating_mul(LOG_PAGE) });
        }
        Ok(())
    }
}
