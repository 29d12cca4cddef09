//! The machine's pool of 2 MiB huge pages, raised where it is small.

use std::path::Path;

use crate::error::Error;
use crate::project::read;
use crate::step::Context;
use crate::tool::is_root;

/// What the tests use, with room for two targets at once: 128 MiB.
const WANTED: u64 = 64;
const POOL: &str = "/proc/sys/vm/nr_hugepages";

/// Raises the pool to [`WANTED`] pages, never lowers it, and says so.
pub(super) fn raise(context: &Context<'_>) -> Result<(), Error> {
    let pool = Path::new(POOL);
    if !pool.is_file() {
        context.leave_out("huge pages: this kernel has none; tests run on ordinary pages".to_owned());
        return Ok(());
    }
    let before = pages(pool)?;
    if before >= WANTED {
        println!("huge pages: {before} in the pool, enough");
        return Ok(());
    }
    let reason = if context.no_install {
        Some("--no-install")
    } else if !is_root()? {
        Some("not root")
    } else {
        None
    };
    if let Some(reason) = reason {
        context.leave_out(format!("huge pages: the pool stays at {before}, not {WANTED} ({reason})"));
        return Ok(());
    }
    println!("huge pages: {before} in the pool, asking for {WANTED} (128 MiB) in {POOL}");
    if let Err(error) = std::fs::write(pool, WANTED.to_string()) {
        context.leave_out(format!("huge pages: the pool stays at {before}: {error}"));
        return Ok(());
    }
    let now = pages(pool)?;
    println!("huge pages: {now} now; `sysctl vm.nr_hugepages={before}` gives them back");
    if now < WANTED {
        context.leave_out(format!("huge pages: the kernel gave {now} of {WANTED}"));
    }
    Ok(())
}

fn pages(pool: &Path) -> Result<u64, Error> {
    let text = read(pool)?;
    text.trim().parse().map_err(|_| Error::form(POOL, format!("`{}` is no number", text.trim())))
}
