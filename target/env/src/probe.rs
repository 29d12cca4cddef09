//! Static probes at the boundaries of layers: places in the binary where bpftrace, perf, SystemTap or gdb can attach while
//! it runs (USDT). Those that are passed seldom are one `nop` and the moves that bring their arguments into registers.
//! For an IO these moves would be the larger part of the cost (27 instructions of 359 were counted), so its probes have
//! a counter that tools raise while they are attached: a compare and a branch that is not taken. Their arguments come from a closure, which nobody calls until then.
//!
//! Any thread. Names and arguments are an interface: `docs/201-observability.md` lists them, and tests compare that list
//! with [`ALL`] and with the notes in the built binary. Texts are given as the address of a string that ends with a zero,
//! or as address and length in bytes; times in nanoseconds; operations by their numbers; a status as `SCT << 8 | SC`.

use std::ffi::CString;

/// The provider of all probes.
pub const PROVIDER: &str = "rmr_tgt";

macro_rules! probes {
    ($($(#[$doc:meta])* $how:ident $name:ident($($arg:ident: $kind:ty),*);)*) => {
        $(probes!(@$how $(#[$doc])* $name($($arg: $kind),*));)*

        /// Every probe: its name and its arguments, in order.
        pub const ALL: &[(&str, &[&str])] = &[$((stringify!($name), &[$(stringify!($arg)),*])),*];
    };
    (@seldom $(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*)) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name($($arg: $kind),*) {
            // SAFETY: the `asm!` in this macro is one `nop` that keeps every register, flag and stack slot; the rest of it
            // goes to sections of the file that no code reads.
            probe::probe!(rmr_tgt, $name, $($arg),*);
        }
    };
    (@often $(#[$doc:meta])* $name:ident($first:ident: $kind1:ty, $($arg:ident: $kind:ty),*)) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name(arguments: impl FnOnce() -> ($kind1, $($kind),*)) {
            let ($first, $($arg),*);
            // SAFETY: as above; the counter is read whole, and written by the kernel alone.
            probe::probe_lazy!(
                rmr_tgt,
                $name,
                {
                    ($first, $($arg),*) = attached(arguments);
                    $first
                },
                $($arg),*
            );
        }
    };
}

/// Tells the compiler that this is seldom done: somebody watches a probe that is passed often.
#[cold]
#[inline(never)]
fn attached<A>(arguments: impl FnOnce() -> A) -> A {
    arguments()
}

probes! {
    /// An RPC call is made: method by address and length.
    seldom rpc_call(method: usize, length: usize);
    /// It has ended: 0, or its error code, and how long it took.
    seldom rpc_done(method: usize, length: usize, code: i64, nanoseconds: u64);
    /// An io channel takes an IO of its opener.
    often bdev_submit(bdev: usize, op: u8, lba: u64, blocks: u32, tag: u64);
    /// An IO surfaces to its opener, as long in ticks after the outermost io channel took it.
    often bdev_done(bdev: usize, op: u8, status: u16, blocks: u32, tag: u64, ticks: u64);
    /// A module is given an IO, which may be a piece of the opener's: then the tag is the io channel's own. It may hand
    /// it back for want of a slot; then this fires again.
    often module_submit(bdev: usize, op: u8, lba: u64, blocks: u32, tag: u64);
    /// A module's completion has reached its io channel.
    often module_done(bdev: usize, op: u8, status: u16, blocks: u32, tag: u64);
    /// A reactor goes to sleep, for so long at most; the largest number: until it is woken.
    seldom reactor_sleep(reactor: u32, nanoseconds: u64);
    /// It goes on.
    seldom reactor_wake(reactor: u32);
}

/// A text for probes, at one address as long as this lives.
#[derive(Debug)]
pub struct Text(CString);

impl Text {
    /// This text, up to its first zero byte.
    #[must_use]
    pub fn new(text: &str) -> Text {
        let whole = text.split('\0').next().unwrap_or_default();
        Text(CString::new(whole).expect("what has no zero byte"))
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_lists_every_probe_with_its_arguments_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/201-observability.md");
        let docs = std::fs::read_to_string(path).expect("docs/201-observability.md");
        let table = docs.split("## Probes").nth(1).and_then(|rest| rest.split("\n## ").next());
        let rows = table.expect("the section").lines().filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let name = cells.get(2)?.strip_prefix('`')?.strip_suffix('`')?;
            Some((name.to_owned(), cells[3].split(", ").map(str::to_owned).collect::<Vec<_>>()))
        });
        let own = |(name, args): &(&str, &[&str])| {
            (name.to_string(), args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(rows.collect::<Vec<_>>(), ALL.iter().map(own).collect::<Vec<_>>());
    }

    #[test]
    fn a_text_ends_at_its_first_zero_byte() {
        assert_eq!(Text::new("Null0").0.to_bytes(), b"Null0");
        assert_eq!(Text::new("a\0b").0.to_bytes(), b"a");
        assert_eq!(Text::new("").0.to_bytes(), b"");
    }

    /// They may be anywhere: all of them are passed once, with nobody attached.
    #[test]
    fn a_probe_that_nobody_watches_does_nothing() {
        rpc_call(0, 0);
        rpc_done(0, 0, -1, u64::MAX);
        bdev_submit(|| (0, 1, 2, 3, 4));
        bdev_done(|| (0, 1, 2, 3, 4, 5));
        module_submit(|| (0, 1, 2, 3, 4));
        module_done(|| (0, 1, 2, 3, 4));
        reactor_sleep(0, 1);
        reactor_wake(0);
    }
}
