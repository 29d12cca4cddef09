//! What is printed.

use super::folder::Folder;
use super::view::{Copy, Look, Sync};
use super::{DEVICE, Name};
use rmr_rpc::plain;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

/// Prints. When nobody reads it any more, the demo goes on.
pub(super) fn say(text: &str) {
    if !text.is_empty() {
        let _unread = writeln!(std::io::stdout(), "{}", text.trim_end());
    }
}

/// Bytes as people write them.
fn bytes(bytes: u64) -> String {
    match bytes {
        0 => "0 bytes".to_owned(),
        1..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// How this program was called.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "rmr_tgt".to_owned())
}

/// What an asker of this demo is called by: `rmr_tgt demo`, with `-r PATH` where it is not the usual one.
pub(super) fn asker(socket: &Path) -> String {
    let same = match socket == Path::new(crate::options::RPC_SOCKET) {
        true => String::new(),
        false => format!(" -r {}", socket.display()),
    };
    format!("{} demo{same}", program())
}

pub(super) fn beginning(folder: &Folder) -> String {
    let what = if folder.is_made() { "assembling the device of" } else { "making a new device in" };
    let disks = if folder.has_disks() { "sparse files" } else { "memory" };
    format!(
        "{what} {}, on disks that are {disks}; three storage nodes and a compute node start ...",
        folder.path().display()
    )
}

/// How long it took until all copies were equal, and what was copied.
pub(super) fn first_copy(look: &Look, took: Duration) -> String {
    let copied: u64 = look.copies.iter().filter_map(|copy| copy.store).map(|store| store.copied).sum();
    let size = look.size.map_or_else(|| "?".to_owned(), bytes);
    if copied == 0 {
        return format!("{DEVICE}, {size}, is whole: its three copies are equal");
    }
    format!(
        "{DEVICE}, {size}, is whole: {} were copied in {}, as nobody knew that the disks were equal",
        bytes(copied),
        seconds(took)
    )
}

/// A table of the four, as the keeper tells of them.
pub(super) fn processes(processes: &Value) -> String {
    let row = |process: &Value| {
        let word = process["name"].as_str().unwrap_or("?");
        let (name, job) = match word.parse::<Name>() {
            Ok(name @ Name::Node(_)) => (name.to_string(), "stores a copy".to_owned()),
            _ => (word.to_owned(), format!("has the device {DEVICE}")),
        };
        let state = match process["ended"].as_str() {
            None => "runs".to_owned(),
            Some(how) => format!("dead ({how})"),
        };
        json!({"process": name, "pid": process["pid"], "state": state, "job": job, "rpc_socket": process["socket"]})
    };
    let rows: Vec<Value> = processes.as_array().into_iter().flatten().map(row).collect();
    format!("\n{}", plain(&Value::Array(rows), None))
}

/// A table of the copies.
pub(super) fn device(look: &Look) -> String {
    let state = look.state.as_deref().unwrap_or("gone: the compute node is dead");
    let size = look.size.map(|size| format!(", {}", bytes(size))).unwrap_or_default();
    let row = |(member, copy): (usize, &Copy)| {
        let sync = |of: fn(&Sync) -> u64| {
            copy.store.as_ref().map_or_else(|| "-".to_owned(), |store| bytes(of(store)))
        };
        json!({
            "copy": format!("node {member}"),
            "up_to_date": if copy.up_to_date { "yes" } else { "no" },
            "to_copy": sync(|store| store.dirty),
            "copied": sync(|store| store.copied),
            "why": copy.why.clone().unwrap_or_else(|| "-".to_owned()),
        })
    };
    let rows: Vec<Value> = look.copies.iter().enumerate().map(row).collect();
    format!("\n{DEVICE}{size}, is {state}\n{}", plain(&Value::Array(rows), None))
}

/// The next step for those that are dead.
pub(super) fn dead(processes: &Value, socket: &Path) -> String {
    let dead = processes.as_array().into_iter().flatten().filter(|process| !process["ended"].is_null());
    let lines = dead.map(|process| {
        let word = process["name"].as_str().unwrap_or("?");
        format!("start it again:  {} --restart {word}", asker(socket))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What a load saw.
pub(super) fn load(answer: &Value) -> String {
    let latency =
        |of: &str| answer["latency_us"][of].as_f64().map_or_else(|| "?".to_owned(), |us| format!("{us:.0}"));
    format!(
        "\nchecked load: {} reads and writes of {} bytes, {} at a time, in {:.2} s: every block read was one that was written \
         last\n  half of them took {} us at most, the slowest {} us (four processes share this machine: no benchmark)",
        answer["ios"],
        answer["io_size"],
        answer["queue_depth"],
        answer["seconds"].as_f64().unwrap_or_default(),
        latency("p50"),
        latency("max"),
    )
}

/// The next commands; `pid`: of `node`, which is to be killed.
pub(super) fn what_to_try(socket: &Path, node: Name, pid: u32, folder: &Folder) -> String {
    let demo = asker(socket);
    let mut lines = vec![
        (format!("{demo} --status"), "who runs, who is up to date".to_owned()),
        (format!("{demo} --load"), "more checked load".to_owned()),
        (format!("kill -9 {pid}"), format!("{node} dies, and {DEVICE} goes on")),
        (
            format!("{demo} --restart {}", node.word()),
            "start it again: it copies what it may have missed".to_owned(),
        ),
    ];
    if let Some(client) = client() {
        let call = format!("{client} -s {} bdev_brmr_get_devices", socket.display());
        lines.push((call, "ask the compute node itself".to_owned()));
    }
    let widest = lines.iter().map(|(line, _)| line.len()).max().unwrap_or_default();
    let mut text = "\nTry, from another terminal:\n".to_owned();
    for (line, what) in lines {
        let _infallible = writeln!(text, "  {line:widest$}  # {what}");
    }
    let dir = folder.path().display();
    let end = match folder.is_kept() {
        true => format!("Ctrl-C here ends all; the disks stay in {dir}"),
        false => format!("Ctrl-C here ends all, and removes {dir}"),
    };
    text + &end
}

/// The native client, if it was built beside this program.
fn client() -> Option<String> {
    let program = program();
    let beside = Path::new(&program).with_file_name("rmr-rpc");
    beside.is_file().then(|| beside.display().to_string())
}

pub(super) fn death(name: Name, pid: u32, status: ExitStatus, socket: &Path) -> String {
    let (demo, word) = (asker(socket), name.word());
    format!(
        "\n{name} (process {pid}) is dead: {status}\n  how {DEVICE} stands:  {demo} --status\n  start it again:      {demo} \
         --restart {word}"
    )
}

pub(super) fn came_back(name: Name, pid: u32) -> String {
    format!("{name} runs again, with process id {pid}")
}

/// What a node that came back had to copy.
pub(super) fn whole_again(name: Name, sync: &Sync, size: Option<u64>, took: Duration) -> String {
    let took = seconds(took);
    let Name::Node(_) = name else {
        return format!("{DEVICE} is there again, after {took}");
    };
    let of = size.map_or_else(String::new, |size| format!(" of the {} of {DEVICE}", bytes(size)));
    let anew = match sync.overwritten {
        0 => String::new(),
        more => format!(", and {} were written anew by clients meanwhile", bytes(more)),
    };
    format!(
        "{name} is up to date after {took}: it copied {} bytes ({}){of}{anew}",
        sync.copied,
        bytes(sync.copied)
    )
}

/// Why a member is not whole yet.
pub(super) fn left(look: &Look, name: Name) -> String {
    match look.copies.get(name.index()) {
        None => format!("it is {}", look.state.as_deref().unwrap_or("gone")),
        Some(Copy { store: None, .. }) => "it died again".to_owned(),
        Some(Copy { why: Some(why), .. }) => format!("it {why}"),
        Some(Copy { store: Some(store), .. }) => format!("{} are still to be copied", bytes(store.dirty)),
    }
}

pub(super) fn end(kept: Option<&Path>) -> String {
    match kept {
        None => "all is ended and removed".to_owned(),
        Some(dir) => {
            format!(
                "all is ended; the disks stay: go on with them by `{} demo --dir {}`",
                program(),
                dir.display()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_people_write_them() {
        for (count, text) in [
            (0, "0 bytes"),
            (512, "0.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (192 << 20, "192.0 MiB"),
            (3 << 29, "1.50 GiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn a_dead_node_is_shown_as_dead_with_the_next_step() {
        let list = json!([
            {"name": "0", "pid": 7, "socket": "/a", "ended": null},
            {"name": "compute", "pid": 8, "socket": "/b", "ended": "signal: 9 (SIGKILL)"},
        ]);
        let table = processes(&list);
        assert!(table.contains("dead (signal: 9 (SIGKILL))") && table.contains("node 0"), "{table}");
        let next = dead(&list, Path::new("/r"));
        assert!(next.ends_with("demo -r /r --restart compute") && next.lines().count() == 1, "{next}");
    }

    #[test]
    fn what_a_node_copied_is_said_in_bytes() {
        let sync = Sync { dirty: 0, copied: 1 << 20, overwritten: 65536 };
        let text = whole_again(Name::Node(1), &sync, Some(1 << 27), Duration::from_millis(1500));
        for word in ["node 1", "1.50 s", "1048576 bytes", "128.0 MiB", "64.0 KiB were written anew"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
