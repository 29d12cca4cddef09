//! The first root of the guest: busybox, `init.sh` and the modules without which no other root can be mounted.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::tools::output;
use crate::{Bed, Error};

const INIT: &str = include_str!("init.sh");
/// What the initramfs must be able to load; what they depend on goes with them.
const MODULES: &[&str] = &["9pnet_virtio", "9p", "overlay"];

/// Writes the initramfs of `bed` to the file `to`, working in `scratch`, which must not exist.
pub(crate) fn write(bed: &Bed, scratch: &Path, to: &Path) -> Result<(), Error> {
    for dir in ["bin", "modules"] {
        let dir = scratch.join(dir);
        fs::create_dir_all(&dir).map_err(Error::file(&dir))?;
    }
    let mut names = vec!["bin".to_owned(), "modules".to_owned()];
    let mut add = |name: &str, from: &Path| -> Result<(), Error> {
        names.push(name.to_owned());
        fs::copy(from, scratch.join(name)).map(drop).map_err(Error::file(from))
    };
    add("bin/busybox", &bed.busybox())?;
    let release = bed.modules().join(bed.release());
    let index = release.join("modules.dep");
    let text = fs::read_to_string(&index).map_err(Error::file(&index))?;
    let mut order = String::new();
    for module in in_order(&text, MODULES)? {
        let file = module.rsplit('/').next().unwrap_or(module);
        add(&format!("modules/{file}"), &release.join(module))?;
        order.push_str(&format!("{file}\n"));
    }
    for (name, text) in [("modules/order", order.as_str()), ("init", INIT)] {
        let path = scratch.join(name);
        fs::write(&path, text).map_err(Error::file(&path))?;
        names.push(name.to_owned());
    }
    make_executable(&scratch.join("init"))?;
    pack(bed, scratch, &names, to)
}

/// Files of the modules `wanted` and of all they depend on, each after those it depends on, as `modules.dep` has them.
fn in_order<'t>(index: &'t str, wanted: &[&str]) -> Result<Vec<&'t str>, Error> {
    let mut order: Vec<&str> = Vec::new();
    for name in wanted {
        let file = format!("/{name}.ko");
        let found =
            index.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| path.ends_with(&file));
        // Built into the kernel: nothing to load, and if it is not there either, the mount that needs it fails.
        let Some((path, needs)) = found else { continue };
        // The farthest dependency stands last.
        for module in needs.split_whitespace().rev().chain([path]) {
            if !order.contains(&module) {
                order.push(module);
            }
        }
    }
    if order.is_empty() {
        return Err(Error::missing(
            format!("modules.dep names none of {wanted:?}"),
            "remove the bed and fetch it anew",
        ));
    }
    Ok(order)
}

fn make_executable(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(Error::file(path))
}

fn pack(bed: &Bed, scratch: &Path, names: &[String], to: &Path) -> Result<(), Error> {
    let list: PathBuf = scratch.with_extension("list");
    let mut file = fs::File::create(&list).map_err(Error::file(&list))?;
    file.write_all(format!("{}\n", names.join("\n")).as_bytes()).map_err(Error::file(&list))?;
    let list = fs::File::open(&list).map_err(Error::file(&list))?;
    let mut cpio = Command::new(bed.busybox());
    cpio.args(["cpio", "-o", "-H", "newc", "-F"]).arg(to).current_dir(scratch).stdin(Stdio::from(list));
    output(&mut cpio).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_depend_on_and_once() {
        let index = "k/a/top.ko: k/a/mid.ko k/b/low.ko\nk/b/low.ko:\nk/a/mid.ko: k/b/low.ko\nk/c/other.ko: k/b/low.ko\n";
        let order = in_order(index, &["top", "other", "builtin"]).expect("an order");
        assert_eq!(order, ["k/b/low.ko", "k/a/mid.ko", "k/a/top.ko", "k/c/other.ko"]);
        assert!(in_order(index, &["builtin"]).expect_err("nothing").is_missing());
    }
}
